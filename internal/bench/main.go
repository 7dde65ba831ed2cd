//go:build linux

// Bench measures DFS against MySQL's own replica, mysqlbinlog and go-mysql, on
// one machine and in one run.
//
//	go run ./internal/bench [flags]
//
// It starts a MySQL 9.7 source, and one of MariaDB, writes several backlogs into its
// binary log and replays each into an empty target, one contender after the other, so
// that noise of the machine hits all alike. Whatever a contender applied is compared
// with the source; a difference fails the run. One part writes 500 transactions a
// second and measures how long each takes to be visible on the target. Others
// let DFS, mydumper with myloader, and mysqldump copy rows that are there already,
// and DFS once more under those 500; carry tables that refer to each other
// with relmgr and without, and look keys up in its map; and keep the log in an archive.
//
// The environment variable SCALE, or the flag, sets the size: 1 is the full
// one, which takes hours, and the default, with which each run of DFS lasts about two
// seconds or more, ends within half an hour on a machine that does nothing else.
// Goals of the project are printed with what was reached.
//
// What -save writes, -from reads, of several runs too, and -md, -svg and -readme make
// documents of: so no figure there is typed.
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
	workers []int    // of the replica, to find the best count among
	latency time.Duration
	keep    bool
	json    bool
	from    []string // files that save has written, instead of measuring
	save    string   // file for the report as JSON
	md      string   // file for the report in Markdown
	svg     string   // file for the chart
	readme  string   // file whose marked part gets the short report
	command string   // how this was called
	profile string   // folder for profiles of DFS
	dir     string   // parent of the temporary folder
	maps    float64  // size of relmgr's maps
	step    int64    // how far their keys are apart, where lookups are measured
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
	workers := f.String("workers", "1,2,4,8,16", "the `counts` of workers among which the replica's best is looked for")
	f.DurationVar(&o.latency, "latency", 21*time.Second, "how long to measure latency, over all rounds together")
	f.BoolVar(&o.keep, "keep", false, "leave the servers' folders, and say where they are")
	f.BoolVar(&o.json, "json", false, "print the results as JSON")
	from := f.String("from", "", "measure nothing: make one report of these `files`, comma-separated, which -save has written; the last that has a part counts")
	f.StringVar(&o.save, "save", "", "also write the results as JSON to this `file`")
	f.StringVar(&o.md, "md", "", "also write the report as a page in Markdown to this `file`")
	f.StringVar(&o.svg, "svg", "", "also write a chart to this `file`")
	f.StringVar(&o.readme, "readme", "", "also write the short report between the two marks in this `file`")
	f.StringVar(&o.profile, "profile", "", "write profiles of DFS's processor time and heap into this `folder`")
	f.Float64Var(&o.maps, "maps", 0.1, "`size` of relmgr's maps; 1 is 10 million keys for chains, and 1 and 100 million for lookups")
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
	if *from != "" {
		o.from = strings.Split(*from, ",")
		f.Visit(func(fl *flag.Flag) {
			if !slices.Contains([]string{"from", "save", "md", "svg", "readme", "json"}, fl.Name) {
				errs = append(errs, fmt.Errorf("-from measures nothing, so -%s would do nothing; leave one of them out", fl.Name))
			}
		})
	}
	for _, s := range strings.Split(*workers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1024 {
			errs = append(errs, fmt.Errorf("-workers has %q; want counts from 1 to 1024, comma-separated", s))
		}
		o.workers = append(o.workers, n)
	}
	o.command = commandLine(f)
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
	if len(errs) == 0 && len(o.parts()) == 0 {
		errs = append(errs, fmt.Errorf("-only %s leaves nothing: these contenders have no place in these parts", *only))
	}
	return o, errors.Join(errs...)
}

// commandLine returns the command that measures the same, without what only says
// where results go.
func commandLine(f *flag.FlagSet) string {
	var args []string
	f.Visit(func(fl *flag.Flag) {
		if !slices.Contains([]string{"from", "save", "md", "svg", "readme", "json", "dir", "keep", "profile"}, fl.Name) {
			args = append(args, "-"+fl.Name+" "+fl.Value.String())
		}
	})
	s := "make bench"
	if len(args) > 0 {
		s += fmt.Sprintf(" ARGS=%q", strings.Join(args, " "))
	}
	if scale := os.Getenv("SCALE"); scale != "" {
		s = "SCALE=" + scale + " " + s
	}
	return s
}

// run measures, and prints the report.
func run(ctx context.Context, o *options) error {
	if o.from != nil {
		r, err := readReport(o)
		if err != nil {
			return err
		}
		return r.print(os.Stdout)
	}
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
	r.lab = l
	for _, w := range workloads() {
		if len(o.durabilities(w)) == 0 && !o.archives(w.name) {
			continue
		}
		if err := l.measure(ctx, w, r); err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", w.name, err))
		}
	}
	for _, part := range []struct {
		name       string
		contenders []string
		measure    func(ctx context.Context, r *report) error
	}{
		{latencyPart, latencyContenders, l.measureLatency}, {verifyPart, []string{"dfs"}, l.measureVerify},
		{snapshotPart, copierNames(), l.measureSnapshot}, {relmgrPart, []string{"dfs"}, l.measureRelmgr},
	} {
		if !o.wantsPart(part.name, part.contenders...) {
			continue
		}
		err := part.measure(ctx, r)
		if err == nil {
			err = r.done(part.name)
		}
		if err != nil {
			return stopped(ctx, fmt.Errorf("%s: %w", part.name, err))
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
		if err := r.done(archivePart); err != nil {
			return err
		}
	}
	for _, d := range l.opts.durabilities(w) {
		if err := l.compete(ctx, b, d, r); err != nil {
			return err
		}
	}
	return nil
}

// longRound is how long a peer's first round may take before it is the only one: it is
// then so long that the others would tell little, and take most of the time of all.
const longRound = 20 * time.Second

// compete lets all contenders replay b into targets of one durability.
func (l *lab) compete(ctx context.Context, b *backlog, d durability, r *report) error {
	res := newResult(b, d)
	for round := range l.opts.rounds {
		for _, c := range contenders() {
			// What has one round only, mostly as it is slow, has it at full durability.
			slow := slices.Contains(b.oneRound, c.name) || round > 0 && res.line(c.name).lasts(longRound) && c.name != "dfs"
			if !l.opts.runs(res.Name, c.name, b.contenders) || slow && (round > 0 || d == relaxed) {
				continue
			}
			if c.name == "best" && round == 0 {
				if err := l.findWorkers(ctx, b, d, res); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				continue
			}
			if c.name == "best" && res.line("best").Workers == nativeWorkers && res.line("native") != nil {
				res.line("best").Samples = slices.Clone(res.line("native").Samples)
				continue
			}
			s, err := l.replay(ctx, c, b, d, round, c.workers(res))
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			res.add(c, s)
			say("%s: %s: %s rows/s in %.2f s", res.Name, c.name, count(s.rate(b.rows)), s.Wall.Seconds())
		}
	}
	r.add(res)
	return r.done(res.Name)
}

// replay lets c replay b into an empty target, and compares the outcome with
// the source. The replica gets so many workers.
func (l *lab) replay(ctx context.Context, c *contender, b *backlog, d durability, round, workers int) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	dir, err := os.MkdirTemp(l.dir, c.name+"-")
	if err != nil {
		return s, err
	}
	if !l.opts.keep {
		defer os.RemoveAll(dir)
	}
	x := &trial{lab: l, backlog: b, source: b.site.source, dir: dir, workers: workers}
	if l.opts.profile != "" {
		x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("%s-%s-%d.cpu", partName(b.workload, d), c.name, round+1))
	}
	if c.applies {
		if x.target, err = b.site.launchTarget(ctx, filepath.Join(dir, "target"), d); err != nil {
			return s, err
		}
		defer x.target.close()
	}
	if s, err = c.replay(ctx, x); err != nil {
		return s, err
	}
	if c.applies && c.compare != nil {
		err = c.compare(ctx, x)
	}
	return s, err
}

// say tells on standard error what is going on.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
