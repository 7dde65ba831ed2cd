//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A fault breaks something while the workload runs, mends it, and waits until
// DFS applies again.
type fault struct {
	name   string
	weight int // how often it comes, against the others
	what   string
	do     func(s *soak, ctx context.Context) error
}

var allFaults = slices.Concat(endings, processFaults, netFaults, troubles)

// endings end the process of DFS that is at work. With all others it lives on.
var endings = []fault{
	{"kill", 12, "kill -9 of DFS, and a new start", func(s *soak, ctx context.Context) error { return s.kill(ctx, false) }},
	{"stop", 3, "SIGTERM to DFS, and a new start", (*soak).restart},
	{"queue", 2, "kill -9 of DFS, its queue file deleted", func(s *soak, ctx context.Context) error { return s.kill(ctx, true) }},
	{"takeover", 2, "a second DFS takes over from one that runs", func(s *soak, ctx context.Context) error { return s.takeover(ctx, false) }},
	{"zombie", 2, "a second DFS takes over from one that is halted and goes on later", func(s *soak, ctx context.Context) error { return s.takeover(ctx, true) }},
}

// processFaults are of processes.
var processFaults = []fault{
	{"freeze", 2, "DFS halted for a moment", (*soak).freeze},
	{"second", 2, "a second DFS on the same queue file", (*soak).second},
	{"source-kill", 1, "kill -9 of the source", func(s *soak, ctx context.Context) error { return s.server(ctx, s.source, true) }},
	{"source-stop", 1, "the source stopped and started", func(s *soak, ctx context.Context) error { return s.server(ctx, s.source, false) }},
	{"target-kill", 1, "kill -9 of the target", func(s *soak, ctx context.Context) error { return s.server(ctx, s.target, true) }},
	{"target-stop", 1, "the target stopped and started", func(s *soak, ctx context.Context) error { return s.server(ctx, s.target, false) }},
}

// strike waits for a random moment after DFS has applied something, and does
// the fault.
func (s *soak) strike(ctx context.Context, f fault) error {
	if err := s.working(ctx); err != nil {
		return err
	}
	wait := 50*time.Millisecond + time.Duration(s.rnd.Int64N(int64(750*time.Millisecond)))
	if !sleep(ctx, wait) {
		return ctx.Err()
	}
	if s.dfs.ended() {
		s.found.add(byProcess, "DFS ended by itself (%v); it said last:\n%s", s.dfs.state, s.dfs.tail())
		return errStopped
	}
	s.tally.fault(f.name)
	if err := f.do(s, ctx); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return nil
}

// working waits until DFS applies something more.
func (s *soak) working(ctx context.Context) error {
	at, err := s.seq(ctx)
	if err != nil {
		return err
	}
	_, err = s.applies(ctx, s.dfs, at)
	return err
}

// again starts DFS and notes how long it takes to apply something.
func (s *soak) again(ctx context.Context, after string) error {
	before, err := readCheckpoint(ctx, s.schema, s.dst)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	// What the old one had sent may be committed after its end. So the count
	// begins when the new one has taken the checkpoint.
	var taken uint64
	if _, err := s.await(ctx, s.dfs, func(c checkpoint) bool { taken = c.seq; return c.owner != before.owner }); err != nil {
		return err
	}
	took, err := s.applies(ctx, s.dfs, taken)
	if err != nil {
		return err
	}
	s.tally.recovered(after, took)
	s.say("%s: transaction %d; applying again after %v", after, taken, took.Round(time.Millisecond))
	return nil
}

func (s *soak) kill(ctx context.Context, withQueue bool) error {
	if err := s.dfs.kill(); err != nil {
		return err
	}
	if !withQueue {
		return s.again(ctx, "kill")
	}
	if err := removeQueue(s.settings.queue); err != nil {
		return err
	}
	return s.again(ctx, "queue deleted")
}

// removeQueue removes a queue with all the files that belong to it.
func removeQueue(path string) error {
	files, err := filepath.Glob(path + "*")
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	if len(files) == 0 {
		err = errors.Join(err, fmt.Errorf("there is no queue file %s to delete", path))
	}
	return err
}

// stopped is how long DFS may take to stop when asked to, which is its
// StopTimeout and some.
const stopped = 30 * time.Second

// halt stops DFS in good order.
func (s *soak) halt(ctx context.Context) error {
	if err := s.dfs.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !s.dfs.wait(ctx, stopped) {
		s.found.add(byProcess, "DFS did not stop within %v of SIGTERM; it said last:\n%s", stopped, s.dfs.tail())
		return errors.Join(s.dfs.kill(), errStopped)
	}
	if code := s.dfs.state.ExitCode(); code != 0 {
		s.found.add(byProcess, "DFS ended with code %d after SIGTERM; it said last:\n%s", code, s.dfs.tail())
	}
	return nil
}

func (s *soak) restart(ctx context.Context) error {
	if err := s.halt(ctx); err != nil {
		return err
	}
	return s.again(ctx, "stop")
}

func (s *soak) freeze(ctx context.Context) error {
	if err := s.dfs.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	sleep(ctx, time.Duration(s.rnd.Int64N(int64(2*time.Second))))
	if err := s.dfs.signal(syscall.SIGCONT); err != nil {
		return err
	}
	s.say("freeze")
	return s.working(ctx)
}

// second starts DFS once more with the queue of the one that runs. It must be
// refused, and the first not even notice.
func (s *soak) second(ctx context.Context) error {
	other, err := s.launch(s.settings.queue)
	if err != nil {
		return err
	}
	if !other.wait(ctx, stopped) {
		s.found.add(byProcess, "a second DFS on the same queue was not refused; it said last:\n%s", other.tail())
		return other.kill()
	}
	if other.state.ExitCode() <= 0 {
		s.found.add(byProcess, "a second DFS on the same queue ended with %v; it said last:\n%s", other.state, other.tail())
	}
	s.say("second: refused with code %d", other.state.ExitCode())
	return s.working(ctx)
}

// takeover starts DFS once more, with a queue of its own, but for the same
// target and by the same name. It gets the target, and the first must end with
// an error that says why. If frozen, the first is halted meanwhile, and goes on
// when the other is at work: what it has in hand must not reach the target.
func (s *soak) takeover(ctx context.Context, frozen bool) error {
	first, old := s.dfs, s.settings.queue
	if frozen {
		if err := first.signal(syscall.SIGSTOP); err != nil {
			return err
		}
	}
	s.settings.queue = s.nextQueue()
	name := "takeover"
	if frozen {
		name = "zombie"
	}
	if err := s.again(ctx, name); err != nil {
		return errors.Join(err, first.kill())
	}
	if frozen {
		// More than one transaction may be in the hands of the first.
		sleep(ctx, time.Duration(s.rnd.Int64N(int64(500*time.Millisecond))))
		if err := first.signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	if !first.wait(ctx, s.patience) {
		s.found.add(byProcess, "DFS goes on although another has taken over its target; it said last:\n%s", first.tail())
		return first.kill()
	}
	if code := first.state.ExitCode(); code <= 0 || !strings.Contains(first.tail(), "another") {
		s.found.add(byProcess, "DFS ended with %v after another took over its target; it said last:\n%s", first.state, first.tail())
	}
	if err := removeQueue(old); err != nil {
		return err
	}
	return s.working(ctx)
}

// server ends a server and starts it again. DFS is to notice, and to go on.
func (s *soak) server(ctx context.Context, server *testenv.Server, kill bool) error {
	which, how := "source", "stop"
	if server == s.target {
		which = "target"
	}
	at, err := s.seq(ctx)
	if err != nil {
		return err
	}
	if kill {
		how = "kill"
		if err := server.Kill(); err != nil {
			return err
		}
	}
	if err := server.Restart(ctx); err != nil {
		return err
	}
	back := time.Now()
	// What was captured before the source went may still be on its way.
	if which == "source" {
		if at, err = s.seq(ctx); err != nil {
			return err
		}
	}
	if _, err := s.applies(ctx, s.dfs, at); err != nil {
		return err
	}
	took := time.Since(back)
	s.tally.recovered(which+" "+how, took)
	s.say("%s %s: transaction %d; applying again %v after it was back", which, how, at, took.Round(time.Millisecond))
	return nil
}
