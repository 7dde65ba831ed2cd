//go:build linux

// Large carries what is larger than most databases ever have through DFS: a
// transaction of 1 GiB, one of 10 million rows, a row of 200 MiB, a table of 4,000
// columns, 10,000 tables, a set of GTIDs of more than 64 KB, a file of the log of
// more than 4 GiB, and a backlog of 20 million transactions. Each goes from a server
// of its own to another, with a queue and without one, and the program is killed
// on the way; what it had applied of a transaction must then be gone. At the end all
// tables must be equal, and the program must never have had more memory than it may.
//
//	go run ./internal/large -only transaction,row -scale 0.1
//
// The exit code is 1 if something was not as it must be, and 2 if the run itself
// could not be carried out.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// limit is how much memory the program may have, whatever it carries.
const limit = 256 << 20

func main() {
	var names []string
	for _, c := range cases {
		names = append(names, c.name)
	}
	only := flag.String("only", "", "cases to run, with commas between (default: all)")
	scale := flag.Float64("scale", 1, "how large, as a part of full size")
	ways := flag.String("ways", "queue,direct", "with a queue, without one, or both")
	binary := flag.String("binary", "", "the program under test (default: examples/basic, built anew)")
	asJSON := flag.Bool("json", false, "report in JSON")
	keep := flag.Bool("keep", false, "keep the folder of the servers, queues and logs")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: large [flags]\n\n")
		flag.PrintDefaults()
		fmt.Fprintf(os.Stderr, "\ncases:\n")
		for _, c := range cases {
			fmt.Fprintf(os.Stderr, "  %-12s %s\n", c.name, c.what)
		}
	}
	flag.Parse()
	j := job{scale: *scale, binary: *binary, keep: *keep, log: os.Stderr}
	var errs []error
	if flag.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", flag.Arg(0)))
	}
	if *scale <= 0 {
		errs = append(errs, fmt.Errorf("-scale is %v; use a number above 0", *scale))
	}
	for name := range strings.SplitSeq(*ways, ",") {
		if name != "queue" && name != "direct" {
			errs = append(errs, fmt.Errorf("-ways names %q; use queue, direct or both", name))
		}
		j.ways = append(j.ways, name)
	}
	j.cases = cases
	if *only != "" {
		j.cases = nil
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.Index(names, name)
			if i < 0 {
				errs = append(errs, fmt.Errorf("-only names %q; use some of %s", name, strings.Join(names, ",")))
				continue
			}
			j.cases = append(j.cases, cases[i])
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintf(os.Stderr, "large: %v; -h tells more\n", err)
		os.Exit(2)
	}
	mysql.SetLogger(&mysql.NopLogger{}) // what it would log is also returned
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := j.run(ctx)
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(results))
	} else {
		write(os.Stdout, results)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "large:", err)
		os.Exit(2)
	case slices.ContainsFunc(results, func(r result) bool { return len(r.Faults) > 0 }):
		os.Exit(1)
	}
}

// A result is what became of a case in one way.
type result struct {
	Case   string        `json:"case"`
	Way    string        `json:"way"` // "queue" or "direct"
	Size   string        `json:"size"`
	Rows   int64         `json:"rows"` // of the target, compared
	Kills  int           `json:"kills"`
	Took   time.Duration `json:"took_ns"`  // the last process, from its start until all was applied
	CPU    time.Duration `json:"cpu_ns"`   // of that process
	RSS    int64         `json:"rss"`      // the most that any of the processes had resident
	Queue  int64         `json:"queue"`    // the most bytes that the queue's files had
	State  int64         `json:"state"`    // bytes of the State on the target
	Pos    int64         `json:"position"` // and of the position
	Faults []string      `json:"faults,omitempty"`
}

func write(w io.Writer, results []result) {
	for _, r := range results {
		verdict := "ok"
		if len(r.Faults) > 0 {
			verdict = "FAILED"
		}
		fmt.Fprintf(w, "%-12s %-7s %s: %s, %d rows equal, %d kills, %.1f s (%.1f s of processor time), %d MiB resident at most",
			r.Case, r.Way, verdict, r.Size, r.Rows, r.Kills, r.Took.Seconds(), r.CPU.Seconds(), r.RSS>>20)
		if r.Queue > 0 {
			fmt.Fprintf(w, ", queue %d MiB", r.Queue>>20)
		}
		fmt.Fprintf(w, ", position %d bytes, State %d bytes\n", r.Pos, r.State)
		for _, f := range r.Faults {
			fmt.Fprintf(w, "             %s\n", f)
		}
	}
}
