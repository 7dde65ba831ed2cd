//go:build unix

// Command demo shows what DFS does, on real servers. It starts two MySQL
// servers, puts a shop under load on one of them, and lets examples/basic keep
// the other in step. Halfway it kills that program with kill -9 and starts it
// again. In the end it compares every row of every table.
//
// It exits with 0 if both are equal, with 1 if they are not or something went
// wrong, and with 130 if it was interrupted. Nothing is left running.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

func main() {
	var d demo
	flag.DurationVar(&d.duration, "duration", 40*time.Second, "how long the shop is busy")
	flag.IntVar(&d.pace, "rate", 500, "transactions per second; 0: as many as the machine can")
	flag.DurationVar(&d.down, "down", 3*time.Second, "how long the program stays dead after kill -9")
	flag.BoolVar(&d.keep, "keep", false, "afterwards leave both servers running until Ctrl-C, and the files for good")
	flag.Parse()
	if d.duration < 5*time.Second || d.down < 0 || d.down > d.duration/2 || d.pace < 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "demo: -duration must be 5s or more, -down at most half of it, and -rate not negative")
		os.Exit(2)
	}
	os.Exit(d.main())
}

// main runs the demo and cleans up, and returns the exit code.
func (d *demo) main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	d.screen = newScreen(os.Stdout)
	var err error
	if d.folder, err = os.MkdirTemp("", "dfs-demo-"); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	err = d.run(ctx)
	interrupted := ctx.Err() != nil
	if d.keep && !interrupted && d.target != nil {
		d.screen.line("\n  %-9s source root@%s, target root@%s, files in %s", "kept", d.source.Addr(), d.target.Addr(), d.folder)
		d.screen.line("  %-9s until Ctrl-C", "")
		<-ctx.Done()
	}
	d.close()
	switch {
	case interrupted:
		d.screen.line("\n  interrupted; nothing is left running")
		return 130
	case errors.Is(err, errNotEqual):
		return 1
	case err != nil:
		d.screen.erase()
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// close ends what still runs, and removes the files.
func (d *demo) close() {
	d.screen.erase()
	if d.program != nil {
		d.program.kill()
	}
	for _, s := range []*testenv.Server{d.source, d.target} {
		if s == nil {
			continue
		}
		if err := s.Kill(); err != nil {
			fmt.Fprintln(os.Stderr, "demo: stop a server:", err)
		}
	}
	if !d.keep {
		if err := os.RemoveAll(d.folder); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
		}
	}
}

func (d *demo) path(name string) string { return filepath.Join(d.folder, name) }
