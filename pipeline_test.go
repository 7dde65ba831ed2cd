package dfs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// faults runs one pipeline through random faults and says what went wrong. Now
// and then it stops and starts the pipeline, pauses it, loses the queue, or runs
// a second pipeline to the same sink.
func faults(t *testing.T, seed uint64, mutant string) (err error) {
	synctest.Test(t, func(t *testing.T) {
		const n = 400
		src, dst := filled(seed, n, 0.1), newLog(seed+2, 0.1)
		queue := newLog(seed+1, 0.1)
		queue.trim = seed%2 == 0
		dst.mutant = mutant
		if mutant == "repeats one" {
			dst.mutant, src.mutant = "", mutant
		}
		var to Sink = dst
		if seed%4 > 1 {
			to = overlapping{dst}
		}
		rng := newLog(seed+3, 0).rng
		run := func(ctx context.Context) error {
			p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: to, MaxBatch: 1 + rng.IntN(20),
				ReadAhead: 1 + rng.IntN(10000), Logger: discard}
			if seed%3 == 0 {
				p.Source = encoded{src}
			}
			if seed%5 != 0 {
				p.Queue = queue
			}
			ctx, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(60))*time.Second)
			defer cancel()
			if rng.IntN(3) == 0 {
				p.Pause()
				time.AfterFunc(time.Duration(rng.IntN(30))*time.Second, p.Resume)
			}
			return p.Run(ctx)
		}
		for start := time.Now(); dst.len() < n; {
			if time.Since(start) > 24*time.Hour {
				err = errors.New("it never ends")
				return
			}
			if rng.IntN(10) == 0 { // the queue file is lost
				queue = newLog(seed+uint64(rng.IntN(1000)), 0.1)
			}
			if rng.IntN(4) > 0 {
				if err = run(t.Context()); err != nil {
					return
				}
				continue
			}
			// Two pipelines fight. One may lose, and only by ErrConflict; or the
			// queue that they share has moved under one of them.
			var wg sync.WaitGroup
			errs := make([]error, 2)
			for i := range errs {
				p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: to, MaxBatch: 1 + rng.IntN(20), Logger: discard}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				wg.Go(func() { errs[i] = p.Run(ctx) })
			}
			wg.Wait()
			for _, e := range errs {
				if e != nil && !errors.Is(e, ErrConflict) {
					err = e
					return
				}
			}
		}
		err = dst.verify(n)
	})
	return err
}

func TestExactlyOnceUnderFaults(t *testing.T) {
	for seed := range uint64(300) {
		require.NoError(t, faults(t, seed, ""), "seed %d", seed)
	}
}

// The test above must be able to fail: it must notice sinks and sources that
// break their contract.
func TestFaultsCatchMutants(t *testing.T) {
	for _, mutant := range []string{"no compare-and-set", "skips one", "commits parts", "keeps parts",
		"checkpoint apart", "forgets state", "repeats one", "done too soon"} {
		caught := 0
		for seed := range uint64(40) {
			if err := faults(t, seed, mutant); err != nil {
				caught++
				t.Logf("%s: seed %d: %v", mutant, seed, err)
				break
			}
		}
		require.NotZero(t, caught, "mutant %q was not noticed", mutant)
	}
}

// failsOnce is a source that cannot let go of what was applied, once.
type failsOnce struct {
	*memLog
	err error
}

func (s *failsOnce) Trim(context.Context, Checkpoint) error {
	err := s.err
	s.err = nil
	return err
}

// tellsOn is a sink that goes on to tell what had been on its way, as MySQL does.
type tellsOn struct{ *memLog }

func (s tellsOn) ApplyEach(ctx context.Context, next func() []*Transaction, done func(seq uint64) error) (err error) {
	for batch := next(); len(batch) > 0; batch = next() {
		for _, tx := range batch {
			seq := tx.Seq
			if e := s.Apply(ctx, []*Transaction{tx}); e != nil {
				return e
			}
			if e := done(seq); err == nil {
				err = e
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// What is told after an error of ours does not hide it: no transaction is blamed for it.
func TestTheFirstErrorOfOursCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("the disk is full")
		src, dst := filled(7, 20, 0), newLog(8, 0)
		p := &Pipeline{Source: &failsOnce{src, full}, Sink: tellsOn{dst}, MaxBatch: 20, Logger: discard,
			Observe: func(b Batch) { require.NoError(t, b.Err) }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := p.Run(ctx)
		require.ErrorIs(t, err, full)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.NotEqual(t, "sink", e.Part)
	})
}
