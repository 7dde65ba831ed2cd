package dpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
)

// Functions and lookups are the user's code, and may hang, or emit without end.
// Where a unit has such, Process runs in a goroutine of its own, so that it can
// leave a call behind that does not return: it ends the call's context, waits a
// little, and returns an error that names the call. Until that call has returned
// after all, the units take nothing more.

// defaultCallTimeout and the others are the bounds of what a call may do.
const (
	defaultCallTimeout = time.Minute
	defaultMaxRows     = 10000
	maxEmitted         = 64 << 20 // bytes that a function makes of one row
)

// guard watches the calls of user's code.
type guard struct {
	limit time.Duration // 0: calls are not watched
	calls atomic.Uint64 // goes up with each call's begin and end
	late  atomic.Pointer[string]

	mu      sync.Mutex // guards what follows, and what s.fail reads during a call
	inside  bool       // a call is under way
	slow    bool       // it has taken longer than limit
	lost    bool       // Process has not waited for its end
	running bool       // process has not ended
	began   time.Time  // when the call that is lost was found
}

// errLost ends the goroutine of a call that was left behind.
var errLost = errors.New("the call was left behind")

// tooMuch is what emit panics with, so that a function ends that would go on.
type tooMuch struct{ error }

// outside calls user's code.
func (s *Units) outside(f func() error) error {
	g := &s.guard
	if g.limit == 0 {
		defer g.calls.Add(1)
		return f()
	}
	g.mu.Lock()
	g.inside = true
	g.calls.Add(1)
	g.mu.Unlock()
	err := f()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside = false
	g.calls.Add(1)
	switch {
	case g.lost:
		return errLost
	case g.slow && err == nil:
		return g.tooSlow()
	case g.slow && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		// It was we who ended it, and not who has called Process: the row is to blame.
		return fmt.Errorf("%w: %v", g.tooSlow(), err)
	case g.slow:
		return fmt.Errorf("%w: %w", g.tooSlow(), err)
	}
	return err
}

func (g *guard) tooSlow() error { return &slowError{g.limit} }

// slowError says that a call took longer than its limit.
type slowError struct{ limit time.Duration }

func (e *slowError) Error() string { return fmt.Sprintf("the call took longer than %v", e.limit) }

// watched runs process, and leaves it behind if a call does not return.
func (s *Units) watched(ctx context.Context, batch []*dfs.Transaction) error {
	g := &s.guard
	g.mu.Lock()
	if g.running {
		defer g.mu.Unlock()
		// The rows that come now are not to blame for it.
		return dfs.Transient(s.fail(fmt.Errorf("the call has not returned for %v, and nothing can be done before; see that it ends with its context",
			time.Since(g.began).Round(time.Millisecond))))
	}
	g.running, g.slow, g.lost, g.inside = true, false, false, false
	s.stand()
	g.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := errors.New("the function has ended its goroutine")
		defer func() { // also for runtime.Goexit, as tests call it
			g.mu.Lock()
			defer g.mu.Unlock()
			g.running = false
			done <- err
		}()
		err = s.process(ctx, batch)
	}()
	tick := time.NewTicker(max(g.limit/8, time.Millisecond))
	defer tick.Stop()
	var last uint64
	var since time.Time
	for {
		select {
		case err := <-done:
			return err
		case now := <-tick.C:
			n := g.calls.Load()
			if n != last || since.IsZero() {
				last, since = n, now
				continue
			}
			over := now.Sub(since) - g.limit
			if over < 0 {
				continue
			}
			g.mu.Lock()
			if g.inside && g.calls.Load() == n {
				if g.slow && over >= g.limit/4 {
					// What fail reads was set before the call began.
					g.lost, g.began = true, since
					err := s.fail(fmt.Errorf("%w, and has not returned though its context ended", g.tooSlow()))
					g.mu.Unlock()
					return err
				}
				g.slow = true
				cancel()
			}
			g.mu.Unlock()
		}
	}
}

// emitter counts what one call of a function emits.
type emitter struct {
	s     *Units
	unit  string
	call  uint64
	rows  int
	bytes int
}

func (s *Units) emitter(o *output) *emitter {
	return &emitter{s: s, unit: o.u.name, call: s.guard.calls.Load() + 1}
}

// takes panics where a function emits too much, which ends it, and reports
// whether the call is still under way.
func (e *emitter) takes(rows ...dfs.Row) bool {
	if g := &e.s.guard; g.limit > 0 && g.calls.Load() != e.call {
		g.late.Store(&e.unit)
		return false
	}
	e.rows++
	for _, row := range rows {
		for i := range row {
			e.bytes += len(row[i].Text())
		}
	}
	if most := e.s.opts.MaxRows; e.rows > most {
		panic(tooMuch{fmt.Errorf("the function makes more than %d rows of one; raise MaxRows if that is meant", most)})
	}
	if e.bytes > maxEmitted {
		panic(tooMuch{fmt.Errorf("the function makes more than %d MiB of one row", maxEmitted>>20)})
	}
	return true
}
