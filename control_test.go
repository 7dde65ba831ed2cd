package dfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A located source reads places such as "after 7".
type located struct{ *memLog }

func (located) Locate(place string) (func(Position) (bool, error), error) {
	var want int
	if _, err := fmt.Sscanf(place, "after %d", &want); err != nil {
		return nil, errors.New(`want "after N"`)
	}
	return func(p Position) (bool, error) {
		n, err := strconv.Atoi(string(p))
		return n >= want, err
	}, nil
}

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// dated is filled, with the transactions committed a minute apart, parts together.
func dated(seed uint64, n int, fail float64) *memLog {
	l := filled(seed, n, fail)
	var at time.Time
	for i := range l.txs {
		if i == 0 || !l.txs[i-1].More {
			at = began.Add(time.Duration(i+1) * time.Minute)
		}
		l.txs[i].Committed = at
	}
	return l
}

// end returns the number of the last part of the transaction that n is part of.
func (l *memLog) end(n int) int {
	for l.txs[n-1].More {
		n++
	}
	return n
}

func TestStopAtStopsExactlyThereUnderFaults(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			const n = 300
			src, queue, dst := dated(seed, n, 0.1), newLog(seed+1, 0.1), newLog(seed+2, 0.1)
			rng := newLog(seed+3, 0).rng
			want := src.end(1 + rng.IntN(n-1))
			var at StopPoint
			switch seed % 4 {
			case 0:
				at.Seq = uint64(want)
			case 1:
				at.ID = fmt.Sprint("t", want)
			case 2:
				at.Place = fmt.Sprint("after ", want)
			case 3:
				if want == n {
					want = src.end(1)
				}
				at.Time = src.txs[want].Committed.Add(-time.Nanosecond)
			}
			src.closed = true
			p := &Pipeline{Source: located{src}, Stages: []Stage{double}, Sink: dst, MaxBatch: 1 + rng.IntN(20),
				ReadAhead: 1 + rng.IntN(10000), Logger: discard}
			if rng.IntN(2) == 0 {
				p.Queue = queue
			}
			require.NoError(t, p.StopAt(at))
			require.NotNil(t, p.Stats().StopAt)
			require.NoError(t, p.Run(t.Context()))
			got := dst.len()
			require.Equal(t, want, got, "seed %d, %v", seed, at)
			require.Nil(t, p.Stats().StopAt, "it is forgotten")
			require.NoError(t, p.Run(t.Context()))
			require.NoError(t, dst.verify(n))
		})
	}
}

// What was read ahead before the place was named does not pass it.
func TestStopAtCountsWhatWasReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), blocked()
		for i := 1; i <= 1000; i++ {
			src.append(Transaction{ID: fmt.Sprint("t", i), Changes: insert(int64(i))})
		}
		src.long = true
		p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, Logger: discard}
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		first := <-dst.entered
		synctest.Wait()
		require.EqualValues(t, 1000, p.Stats().Apply.Read)
		require.NoError(t, p.StopAt(StopPoint{Seq: uint64(first) + 3}))
		close(dst.release)
		require.NoError(t, <-done)
		require.Equal(t, first+3, dst.len())

		require.NoError(t, p.StopAt(StopPoint{Seq: 2}))
		require.NoError(t, p.Run(t.Context()))
		require.Equal(t, first+3, dst.len(), "it is past the place already")
	})
}

// A timed source tells what time it is, and whether it has more.
type timed struct {
	*memLog
	ahead time.Duration
}

func (c timed) Probe(_ context.Context, at Position) (Probe, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := Probe{At: time.Now(), ClockOffset: c.ahead, Unread: 1, UnreadBytes: -1}
	if at == c.last().Pos {
		p.Unread = 0
	}
	return p, nil
}

func TestStopAtATimeDoesNotNeedALaterTransaction(t *testing.T) {
	for _, queued := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := newLog(1, 0), newLog(2, 0)
			begin := time.Now()
			add := func(n int64) {
				src.append(Transaction{ID: fmt.Sprint("t", n), Committed: time.Now(), Changes: insert(n)})
			}
			add(1)
			p := &Pipeline{Source: timed{src, 10 * time.Second}, Stages: []Stage{double}, Sink: dst, Logger: discard}
			if queued {
				p.Queue = newLog(3, 0)
			}
			require.NoError(t, p.StopAt(StopPoint{Time: begin.Add(time.Minute)}))
			done := make(chan error)
			go func() { done <- p.Run(t.Context()) }()
			time.Sleep(30 * time.Second)
			add(2)
			require.NoError(t, <-done)
			require.Equal(t, 2, dst.len(), "what came before is applied")
			require.Nil(t, p.Stats().StopAt)
			require.InDelta(t, 52, time.Since(begin).Seconds(), 3, "by the source's clock, which is ten seconds ahead")
		})
	}
}

// A located source knows names that are GTIDs.
type gtids struct{ located }

func (gtids) Locate(place string) (func(Position) (bool, error), error) {
	var want int
	if _, err := fmt.Sscanf(place, "gtid:t%d", &want); err != nil {
		return nil, err
	}
	return func(p Position) (bool, error) {
		n, err := strconv.Atoi(string(p))
		return n >= want, err
	}, nil
}

func TestStopAtWhatWasAppliedIsAnError(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	for i := range src.txs {
		src.txs[i].More = false
	}
	p := &Pipeline{Source: gtids{located{src}}, Stages: []Stage{double}, Sink: dst, Logger: discard}
	require.NoError(t, p.StopAt(StopPoint{ID: "t50"}))
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, 50, dst.len())
	require.ErrorContains(t, p.StopAt(StopPoint{ID: "t20"}), "stop at transaction t20: it has been applied already")
	require.Nil(t, p.Stats().StopAt)

	// One that has not run yet finds out when it asks the sink.
	src.closed = true
	again := &Pipeline{Source: gtids{located{src}}, Stages: []Stage{double}, Sink: dst, Logger: discard}
	require.NoError(t, again.StopAt(StopPoint{ID: "t20"}))
	require.ErrorContains(t, again.Run(t.Context()), "t20: it has been applied already")
	require.NoError(t, again.StopAt(StopPoint{ID: "t60"}))
	require.NoError(t, again.Run(t.Context()))
	require.Equal(t, 60, dst.len())
	require.NoError(t, again.Run(t.Context()))
	require.Equal(t, 100, dst.len())
}

func TestStopAtCanBeTakenBack(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.closed = true
	p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, Logger: discard}
	require.NoError(t, p.StopAt(StopPoint{ID: "t50"}))
	require.NoError(t, p.StopAt(StopPoint{}))
	require.NoError(t, p.Run(t.Context()))
	require.NoError(t, dst.verify(100))

	require.ErrorContains(t, p.StopAt(StopPoint{Place: "after 7"}), "this kind of source has no places by name")
	p.Source = located{src}
	require.ErrorContains(t, p.StopAt(StopPoint{Place: "somewhere"}), `stop at "somewhere": want "after N"`)
}

func TestSkipStepsOverExactlyThatTransactionUnderFaults(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			const n = 200
			src, dst := newLog(seed, 0), newLog(seed+1, 0)
			// Each transaction has a name, and some have three parts.
			for i := 1; i <= n; i++ {
				big := i%10 == 4 || i%10 == 5
				id := fmt.Sprint("t", i)
				if i%10 == 5 || i%10 == 6 {
					id = fmt.Sprint("t", i-i%10+4)
				}
				src.append(Transaction{Checkpoint: Checkpoint{State: stateAt(i, big)}, ID: id, More: big, Changes: insert(int64(i))})
			}
			src.fail, dst.fail, src.closed, src.owner = 0.1, 0.1, true, true
			rng := newLog(seed+3, 0).rng
			one := []string{"t7", "t44", "t4", "t200", "t101"}[seed%5]
			late := rng.IntN(2) == 0
			slow := &slowSink{memLog: dst, each: time.Second}
			p := &Pipeline{Source: encoded{src}, Stages: []Stage{refuse("t77"), double}, Sink: slow, MaxBatch: 1 + rng.IntN(20), Logger: discard}
			if seed%3 == 0 {
				p.Queue = newLog(seed+4, 0.1)
			}
			require.NoError(t, p.Skip("t77"))
			if late && one != "t4" && one != "t7" {
				go func() {
					time.Sleep(3 * time.Second)
					require.NoError(t, p.Skip(one))
				}()
			} else {
				require.NoError(t, p.Skip(one))
			}
			require.NoError(t, p.Run(t.Context()))
			require.Equal(t, n, dst.len())
			gone := 0
			for i, tx := range dst.txs {
				if tx.ID == one || tx.ID == "t77" {
					require.Empty(t, tx.Changes, "seed %d: %s", seed, tx.ID)
					gone++
				} else {
					require.Equal(t, int64(2*(i+1)), tx.Changes[0].After[0].Int(), "seed %d", seed)
				}
				require.Equal(t, stateAt(i+1, tx.More), tx.State, "the step keeps its State")
			}
			// Invariant I5: nothing is skipped in silence.
			require.Equal(t, TableStats{Received: n, Applied: uint64(n - gone), Rejected: uint64(gone)}, p.Stats().Tables["test.numbers"])
			require.EqualValues(t, 2, p.Stats().Apply.RejectedTransactions)
			require.Empty(t, p.Stats().Skip, "it is forgotten")
		})
	}
}

func TestSkipMendsAPipelineThatStopped(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.txs[75].More, src.txs[76].More = false, false
	src.closed = true
	p := &Pipeline{Source: src, Stages: []Stage{refuse("t77"), double}, Sink: dst, Logger: discard}
	var e *Error
	require.ErrorAs(t, p.Run(t.Context()), &e)
	require.NoError(t, p.Skip(e.ID))
	require.Equal(t, []string{"t77"}, p.Stats().Skip)
	require.NoError(t, p.Unskip(e.ID))
	require.ErrorAs(t, p.Run(t.Context()), &e)
	require.NoError(t, p.Skip(e.ID))
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, 100, dst.len())
	require.Empty(t, dst.txs[76].Changes)
	require.ErrorContains(t, p.Skip(""), "no transaction is named")
}

func TestDrainAppliesWhatTheQueueHolds(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			src, queue, dst := filled(seed, 500, 0.05), newLog(seed+1, 0.05), newLog(seed+2, 0.05)
			p := &Pipeline{Source: src, Queue: queue, Stages: []Stage{double}, Sink: &slowSink{memLog: dst, each: time.Second}, Logger: discard}
			done := make(chan error)
			go func() { done <- p.Run(t.Context()) }()
			time.Sleep(20 * time.Second)
			p.Drain()
			require.NoError(t, <-done)
			require.NotZero(t, queue.len())
			require.NoError(t, dst.verify(queue.len()))
			p.Drain() // does nothing while it does not run
			p.Stop()
		})
	}
}

func TestStopAndDrainWithoutAQueueEndRun(t *testing.T) {
	for _, stop := range []func(*Pipeline){(*Pipeline).Stop, (*Pipeline).Drain} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(1, 50, 0), newLog(2, 0)
			p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, Logger: discard}
			done := make(chan error)
			go func() { done <- p.Run(t.Context()) }()
			synctest.Wait()
			stop(p)
			require.NoError(t, <-done)
			require.NoError(t, dst.verify(50))
		})
	}
}

// What is asked while a session fails for good does not hide the error.
func TestAskingDoesNotHideAnError(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(seed, 100, 0.1), newLog(seed+2, 0.1)
			src.txs[75].More = false
			p := &Pipeline{Source: src, Stages: []Stage{refuse("t77"), double}, Sink: &slowSink{memLog: dst, each: time.Second},
				StopTimeout: time.Millisecond, MaxBatch: 10, Logger: discard}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for i := 0; ctx.Err() == nil; i++ {
					_ = p.Skip(fmt.Sprint("x", i))
					select {
					case <-ctx.Done():
					case <-time.After(7 * time.Second):
					}
				}
			}()
			var e *Error
			require.ErrorAs(t, p.Run(ctx), &e)
			require.Equal(t, "t77", e.ID)
			require.Equal(t, 76, dst.len())
			cancel()
		})
	}
}
