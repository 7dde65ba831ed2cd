//go:build unix

// Noalarm verifies a target again and again while its source is written to, for as
// long as told. The workload is what deceives comparisons most: flags that go to
// and fro, rows that come and go under one key, keys that move. Every few rounds
// faults are planted on the target, which must be found, all and no others, and
// are then mended while the pipeline runs.
//
//	go run ./internal/noalarm -duration 30m
//
// The exit code is 1 for a false alarm, a fault that was not found or not mended,
// and for a row of which nothing could be told; and 2 if the campaign itself could
// not be carried out.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

func main() {
	duration := flag.Duration("duration", time.Minute, "how long to go on")
	source := flag.String("source", string(testenv.MySQL97), "the kind of the source")
	target := flag.String("target", string(testenv.MySQL97), "the kind of the target, also postgresql-15 or sqlite")
	writers := flag.Int("writers", 4, "how many connections write")
	rate := flag.Int("rate", 500, "how many transactions they write in a second, at most")
	seed := flag.Uint64("seed", 1, "of the workload")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &campaign{source: testenv.Kind(*source), target: testenv.Kind(*target), writers: *writers, rate: *rate, seed: *seed,
		duration: *duration, plantEvery: 20}
	failures, err := c.run(ctx)
	fmt.Println(c.summary())
	for _, f := range failures {
		fmt.Println("FAILED:", f)
	}
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "noalarm:", err)
		os.Exit(2)
	case len(failures) > 0:
		os.Exit(1)
	}
}
