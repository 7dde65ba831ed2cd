//go:build linux

// Bench measures DFS against MySQL's own replica, mysqlbinlog and go-mysql, on
// one machine and in one run.
//
//	go run ./internal/bench [flags]
//
// It starts a MySQL 9.7 source, writes several backlogs into its binary log and
// replays each into an empty target, one contender after the other, so that
// noise of the machine hits all alike. Whatever a contender applied is compared
// with the source; a difference fails the run. One part writes 500 transactions a
// second and measures how long each takes to be visible on the target. The last
// lets DFS, mydumper with myloader, and mysqldump copy rows that are there already,
// and DFS once more under those 500. Another carries tables that refer to each other
// with relmgr and without, and looks keys up in its map.
//
// The environment variable SCALE, or the flag, sets the size: 1 is the full
// one, which takes about an hour, and the default ends within ten minutes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if job := os.Getenv(childEnv); job != "" {
		exit(runChild(job))
	}
	o, err := parseFlags(os.Args[1:])
	if err != nil {
		exit(err)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	exit(run(ctx, o))
}

func exit(err error) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// options are what the command line says.
type options struct {
	scale   float64
	rounds  int
	only    []string // names of backlogs and contenders; empty means all
	latency time.Duration
	keep    bool
	json    bool
	md      string  // file for the report in Markdown
	profile string  // folder for profiles of DFS
	dir     string  // parent of the temporary folder
	maps    float64 // size of relmgr's maps
	step    int64   // how far their keys are apart, where lookups are measured
}

const defaultScale = 0.05

func parseFlags(args []string) (*options, error) {
	o := &options{scale: defaultScale}
	if s := os.Getenv("SCALE"); s != "" {
		var err error
		if o.scale, err = strconv.ParseFloat(s, 64); err != nil {
			return nil, fmt.Errorf("SCALE is %q; want a number such as 0.1", s)
		}
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Float64Var(&o.scale, "scale", o.scale, "`size` of the backlogs; 1 is full size")
	f.IntVar(&o.rounds, "rounds", 3, "how often each contender replays each backlog")
	only := f.String("only", "", "comma-separated `names` of parts and contenders to run: "+
		strings.Join(partNames(), ", ")+"; "+strings.Join(contenderNames(), ", "))
	f.DurationVar(&o.latency, "latency", 21*time.Second, "how long to measure latency, over all rounds together")
	f.BoolVar(&o.keep, "keep", false, "leave the servers' folders, and say where they are")
	f.BoolVar(&o.json, "json", false, "print the results as JSON")
	f.StringVar(&o.md, "md", "", "also write the report as Markdown to this `file`")
	f.StringVar(&o.profile, "profile", "", "write profiles of DFS's processor time and heap into this `folder`")
	f.Float64Var(&o.maps, "maps", 1, "`size` of relmgr's maps; 1 is 10 million keys for chains, and 1 and 100 million for lookups")
	f.Int64Var(&o.step, "step", 1, "how far `apart` keys are where relmgr's lookups are measured; from 1024 on each takes a row of the map")
	f.StringVar(&o.dir, "dir", "", "`folder` for the servers' data (default: the system's for temporary files)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var errs []error
	if f.NArg() > 0 {
		errs = append(errs, fmt.Errorf("no argument is expected, not %q; see -h", f.Arg(0)))
	}
	if !(o.scale > 0 && o.scale <= 100) {
		errs = append(errs, fmt.Errorf("scale is %v; want more than 0 and at most 100", o.scale))
	}
	if !(o.maps > 0 && o.maps <= 100) {
		errs = append(errs, fmt.Errorf("maps is %v; want more than 0 and at most 100", o.maps))
	}
	if o.step < 1 || o.step > 1_000_000 {
		errs = append(errs, fmt.Errorf("step is %d; want 1 to 1000000", o.step))
	}
	if o.rounds < 1 {
		errs = append(errs, fmt.Errorf("rounds is %d; want at least 1", o.rounds))
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
		known := append(partNames(), contenderNames()...)
		for _, name := range o.only {
			if !slices.Contains(known, name) {
				errs = append(errs, fmt.Errorf("-only names %q; there is %s", name, strings.Join(known, ", ")))
			}
		}
	}
	return o, errors.Join(errs...)
}

// wants reports whether -only asks for the name, which is one of all: it does
// if it names it, or none of all.
func (o *options) wants(name string, all []string) bool {
	return slices.Contains(o.only, name) ||
		!slices.ContainsFunc(o.only, func(s string) bool { return slices.Contains(all, s) })
}

// archives reports whether a backlog is to be kept in an archive.
func (o *options) archives(backlog string) bool {
	return o.wants(archivePart, partNames()) && slices.Contains(archived, backlog)
}

// partNames returns the names of what is measured.
func partNames() []string {
	var names []string
	for _, w := range workloads() {
		names = append(names, w.name)
	}
	return append(names, latencyPart, snapshotPart, verifyPart, relmgrPart, archivePart)
}

// run measures, and prints the report.
func run(ctx context.Context, o *options) error {
	r := newReport(o)
	if err := runInto(ctx, o, r); err != nil {
		return err
	}
	return r.print(os.Stdout)
}

// runInto measures what o asks for, into r.
func runInto(ctx context.Context, o *options, r *report) (err error) {
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(o.dir, "dfs-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if o.keep {
			fmt.Fprintln(os.Stderr, "kept", dir)
		} else {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	l, err := openLab(ctx, dir, o)
	if err != nil {
		return stopped(ctx, err)
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r.Server = l.version

	for _, w := range workloads() {
		if !o.wants(w.name, partNames()) && !o.archives(w.name) {
			continue
		}
		if err := l.measure(ctx, w, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", w.name, err))
		}
	}
	if o.wants(latencyPart, partNames()) {
		if err := l.measureLatency(ctx, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", latencyPart, err))
		}
	}
	if o.wants(verifyPart, partNames()) {
		if err := l.measureVerify(ctx, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", verifyPart, err))
		}
	}
	if o.wants(snapshotPart, partNames()) {
		if err := l.measureSnapshot(ctx, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", snapshotPart, err))
		}
	}
	if o.wants(relmgrPart, partNames()) {
		if err := l.measureRelmgr(ctx, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", relmgrPart, err))
		}
	}
	return nil
}

// stopped returns why the run ended early: an interrupt, or else err.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// measure makes the backlog of w and lets each contender replay it, in turn,
// as many times as there are rounds.
func (l *lab) measure(ctx context.Context, w *workload, r *report) error {
	b, err := l.generate(ctx, w)
	if err != nil {
		return err
	}
	if l.opts.archives(w.name) {
		if err := l.measureArchive(ctx, b, r); err != nil {
			return fmt.Errorf("%s: %w", archivePart, err)
		}
	}
	if !l.opts.wants(w.name, partNames()) {
		return nil
	}
	res := r.backlog(b)
	rounds := l.opts.rounds
	if w.once {
		rounds = 1
	}
	for round := range rounds {
		for _, c := range contenders() {
			if !l.opts.wants(c.name, contenderNames()) || w.only != nil && !slices.Contains(w.only, c.name) {
				continue
			}
			if c.slow && round > 0 {
				continue
			}
			s, err := l.replay(ctx, c, b, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			res.add(c, s)
			say("%s: %s: %s rows/s in %.2f s", w.name, c.name, count(s.rate(b.rows)), s.Wall.Seconds())
		}
	}
	return nil
}

// replay lets c replay b into an empty target, and compares the outcome with
// the source.
func (l *lab) replay(ctx context.Context, c *contender, b *backlog, round int) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	dir, err := os.MkdirTemp(l.dir, c.name+"-")
	if err != nil {
		return s, err
	}
	if !l.opts.keep {
		defer os.RemoveAll(dir)
	}
	x := &trial{lab: l, backlog: b, dir: dir}
	if l.opts.profile != "" {
		x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("%s-%s-%d.cpu", b.name, c.name, round+1))
	}
	if c.applies {
		if x.target, err = l.launchTarget(ctx, filepath.Join(dir, "target")); err != nil {
			return s, err
		}
		defer x.target.close()
	}
	if s, err = c.replay(ctx, x); err != nil {
		return s, err
	}
	if c.applies {
		err = x.target.compare(ctx, b.schema, b.tables, b.sums)
	}
	return s, err
}

// say tells on standard error what is going on.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
