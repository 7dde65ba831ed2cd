//go:build unix

// Soak proves, or refutes, that DFS applies each transaction once and whole. It
// starts two servers and DFS between them, writes to the source, and breaks
// things at random moments: it kills DFS, the source and the target, deletes
// the queue, lets two instances fight, breaks the network in every way that
// internal/faults knows, loses COMMITs, locks, halts and locks out. With -standby
// the source has a replica, which takes over from it now and then. Meanwhile a
// client of the target judges what it sees, and every minute or so all rows of
// both sides are compared. See the file findings.go for the instruments.
//
//	go run ./internal/soak -duration 10m -pair 9.7-9.7
//	go run ./internal/soak -duration 1h -count 500 -faults lost-commit
//	go run ./internal/soak -duration 1h -count 100 -faults promote -standby
//	go run ./internal/soak -duration 45m -epoch 45m -faults alive
//	go run ./internal/soak -into docs/RELIABILITY.md report.json
//
// The exit code is 1 if any promise was broken, and 2 if the soak itself could
// not be carried out. A seed fixes what is written and which faults come in
// which order, though not the very moment at which they hit.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A pair is a source and a target.
type pair struct {
	name           string
	source, target testenv.Kind
}

var pairs = []pair{
	{"9.7-9.7", testenv.MySQL97, testenv.MySQL97},
	{"5.6-9.7", testenv.MySQL56, testenv.MySQL97},
	{"mariadb-mariadb", testenv.MariaDB, testenv.MariaDB},
}

// serverArgs make servers fit to be killed: a page that is half written when
// its server dies can be mended.
func serverArgs(k testenv.Kind) []string {
	args := []string{"--max-binlog-size=64M"}
	if k == testenv.MySQL97 {
		return append(args, "--innodb-doublewrite=ON")
	}
	return append(args, "--innodb-doublewrite=1")
}

func main() {
	var names []string
	for _, p := range pairs {
		names = append(names, p.name)
	}
	duration := flag.Duration("duration", 10*time.Minute, "how long to go on")
	epoch := flag.Duration("epoch", time.Minute, "how long DFS lives, unless a fault ends it; from 15m on it is judged whether memory, files and goroutines stay flat")
	pairName := flag.String("pair", pairs[0].name, "source and target: "+strings.Join(names, ", "))
	seed := flag.Uint64("seed", 0, "of all that happens by chance (default: a new one)")
	rate := flag.Int("rate", 5000, "rows per second that the workload writes; -1: all it can")
	only := flag.String("faults", "", "names of the faults to use, with commas between; alive: all that leave the process of DFS alive (default: all)")
	binary := flag.String("binary", "", "the program under test (default: examples/basic, built anew)")
	asJSON := flag.Bool("json", false, "report in JSON")
	standby := flag.Bool("standby", false, "give the source a replica, which takes over now and then (the fault promote)")
	count := flag.Int("count", 0, "end after so many faults, if the duration has not ended before (default: no end)")
	keep := flag.Bool("keep", false, "keep the folder of the servers, queues and logs")
	into := flag.String("into", "", "do no soak, but put the figures of reports, files of -json named as arguments, into this document")
	quiet := flag.Bool("quiet", false, "report at the end only")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: soak [flags]\n\n")
		flag.PrintDefaults()
		fmt.Fprintf(os.Stderr, "\nfaults:\n")
		for _, f := range everyFault() {
			fmt.Fprintf(os.Stderr, "  %-13s %s\n", f.name, f.what)
		}
	}
	flag.Parse()

	if *into != "" {
		if err := writeInto(*into, flag.Args()); err != nil {
			fmt.Fprintf(os.Stderr, "soak: %v\n", err)
			os.Exit(2)
		}
		return
	}
	i := slices.Index(names, *pairName)
	use, err := chosen(*only, *standby)
	switch {
	case flag.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case i < 0:
		err = fmt.Errorf("-pair is %q; use one of %s", *pairName, strings.Join(names, ", "))
	case *rate == 0 || *rate < -1:
		err = fmt.Errorf("-rate is %d; use a number of rows, or -1", *rate)
	case *epoch <= 0 || *epoch > max(*duration, time.Minute):
		err = fmt.Errorf("-epoch is %v; use a time that is not longer than the -duration of %v", *epoch, *duration)
	case *count < 0:
		err = fmt.Errorf("-count is %d; use a number of faults, or 0", *count)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v; -h tells more\n", err)
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = rand.Uint64N(1e9) + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var log io.Writer
	if !*quiet {
		log = os.Stderr
	}
	j := job{pair: pairs[i], seed: *seed, rate: *rate, duration: *duration, epoch: *epoch, faults: use, binary: *binary, keep: *keep, log: log, standby: *standby, count: *count}
	r, err := j.run(ctx)
	if r != nil {
		r.Command = fmt.Sprintf("go run ./internal/soak -pair %s -seed %d -duration %v -rate %d", r.Pair, r.Seed, *duration, *rate)
		if *epoch != time.Minute {
			r.Command += fmt.Sprintf(" -epoch %v", *epoch)
		}
		if *only != "" {
			r.Command += " -faults " + *only
		}
		if *standby {
			r.Command += " -standby"
		}
		if *count > 0 {
			r.Command += fmt.Sprintf(" -count %d", *count)
		}
		if r.Violated > 0 {
			r.Replay = r.Command
		}
		if *asJSON {
			err = errors.Join(err, r.writeJSON(os.Stdout))
		} else {
			r.writeText(os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
	}
	switch {
	case r != nil && r.Violated > 0:
		os.Exit(1)
	case err != nil:
		os.Exit(2)
	}
}

// chosen returns the faults that a list names, or all for the empty list, or, for alive,
// those that leave the process of DFS alive.
func chosen(list string, standby bool) ([]fault, error) {
	allFaults := allFaults
	if standby {
		allFaults = everyFault()
	}
	if list == "alive" {
		return allFaults[len(endings):], nil
	}
	if list == "" {
		return allFaults, nil
	}
	var use []fault
	for _, name := range strings.Split(list, ",") {
		i := slices.IndexFunc(allFaults, func(f fault) bool { return f.name == name })
		if i < 0 {
			if name == "promote" {
				return nil, errors.New("-faults names promote, which needs -standby")
			}
			return nil, fmt.Errorf("-faults names %q, which there is not", name)
		}
		use = append(use, allFaults[i])
	}
	return use, nil
}

// A job is a soak as the command line asks for it.
type job struct {
	pair     pair
	seed     uint64
	rate     int
	duration time.Duration
	epoch    time.Duration
	faults   []fault
	binary   string
	keep     bool
	log      io.Writer
	standby  bool
	count    int // of faults; 0: no end
}

// compare is how long faults come before all is compared.
const compare = time.Minute

// run carries the job out. It reports what it has seen also when it fails.
func (j *job) run(ctx context.Context) (r *report, err error) {
	dir, err := os.MkdirTemp("", "dfs-soak-")
	if err != nil {
		return nil, err
	}
	if j.keep {
		fmt.Fprintf(os.Stderr, "soak: all files are in %s\n", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if j.binary == "" {
		if j.binary, err = build(ctx, dir); err != nil {
			return nil, err
		}
	}
	args := serverArgs(j.pair.source)
	if j.standby {
		args = append(args, standbyArgs(j.pair.source)...)
	}
	source, err := testenv.Launch(ctx, j.pair.source, filepath.Join(dir, "source"), args...)
	if err != nil {
		return nil, err
	}
	defer source.Kill()
	o := options{seed: j.seed, rate: j.rate}
	if j.standby {
		if o.standby, err = testenv.Launch(ctx, j.pair.source, filepath.Join(dir, "standby"), args...); err != nil {
			return nil, err
		}
		defer o.standby.Kill()
	}
	target, err := testenv.Launch(ctx, j.pair.target, filepath.Join(dir, "target"), serverArgs(j.pair.target)...)
	if err != nil {
		return nil, err
	}
	defer target.Kill()

	s, err := newSoak(ctx, source, target, dir, basic(j.binary), j.log, o)
	if err != nil {
		return nil, err
	}
	err = s.epochs(ctx, j)
	r = s.report(j.pair.name)
	switch {
	case ctx.Err() != nil:
		err = errors.New("interrupted; what was seen until then proves little")
	case errors.Is(err, errStopped):
		err = nil // it is among the violations
	}
	return r, errors.Join(err, s.close())
}

// basic returns how to start examples/basic.
func basic(binary string) func(config string) *exec.Cmd {
	return func(config string) *exec.Cmd { return exec.Command(binary, "run", "-c", config, "-plain") }
}

// life is how long DFS lives. Short runs have two lives, one of them with a ledger.
func (j *job) life() time.Duration {
	if j.epoch <= time.Minute {
		return min(j.epoch, j.duration/2)
	}
	return j.epoch
}

// epochs does one fault after the other, and compares all from time to time. At the end
// of each epoch DFS is ended, and begins again with a ledger or without.
func (s *soak) epochs(ctx context.Context, j *job) error {
	var urn []fault
	for _, f := range j.faults {
		for range f.weight {
			urn = append(urn, f)
		}
	}
	left := j.count
	if left == 0 {
		left = -1
	}
	life := time.Now().Add(j.life())
	for end := time.Now().Add(j.duration); ; {
		s.load(ctx)
		for next := time.Now().Add(min(compare, time.Until(life), time.Until(end))); time.Now().Before(next) && left != 0; left-- {
			if err := s.strike(ctx, urn[s.rnd.IntN(len(urn))]); err != nil {
				return err
			}
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
		if _, n := s.found.all(); n > 0 || !time.Now().Before(end) || left == 0 {
			return nil
		}
		if time.Now().Before(life) {
			continue
		}
		if err := s.keep(ctx, !s.ledger); err != nil {
			return err
		}
		life = time.Now().Add(j.life())
	}
}
