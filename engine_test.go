package dfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// refuse is a stage that refuses the transactions with the given names.
func refuse(ids ...string) Stage {
	return StageFunc(func(_ context.Context, batch []*Transaction) error {
		for _, tx := range batch {
			if slices.Contains(ids, tx.ID) {
				return errors.New("bad row")
			}
		}
		return nil
	})
}

func TestRejectStepsOverExactlyTheRefusedTransaction(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			src, dst := newLog(seed, 0), newLog(seed+1, 0)
			for i := 1; i <= 100; i++ {
				more := i == 40 || i == 41 // 40 to 42 are one transaction
				src.append(Transaction{Checkpoint: Checkpoint{State: stateAt(i, more)}, ID: fmt.Sprint("t", i),
					More: more, Changes: insert(int64(i))})
			}
			src.fail, dst.fail, src.closed, src.owner = 0.1, 0.1, true, true
			rejected := map[string]int64{}
			p := &Pipeline{Source: encoded{src}, Stages: []Stage{refuse("t41", "t77"), double}, Sink: dst, Logger: discard,
				Reject: func(_ context.Context, tx *Transaction, err error) error {
					require.ErrorContains(t, err, "bad row")
					rejected[tx.ID] = tx.Changes[0].After[0].Int()
					return nil
				}}
			require.NoError(t, p.Run(t.Context()))
			require.Equal(t, map[string]int64{"t40": 40, "t41": 41, "t42": 42, "t77": 77}, rejected)
			require.Equal(t, 100, dst.len())
			for i, tx := range dst.txs {
				require.Equal(t, stateAt(i+1, tx.More), tx.State, "the step over a transaction keeps its State")
				if _, gone := rejected[fmt.Sprint("t", i+1)]; gone {
					require.Empty(t, tx.Changes)
				} else {
					require.Equal(t, int64(2*(i+1)), tx.Changes[0].After[0].Int())
				}
			}
		})
	}
}

func TestRejectedRowsAreCounted(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.closed = true
	src.txs[49].More, src.txs[48].More = false, false
	p := &Pipeline{Source: src, Stages: []Stage{refuse("t50")}, Sink: dst, Logger: discard,
		Reject: func(context.Context, *Transaction, error) error { return nil }}
	require.NoError(t, p.Run(t.Context()))
	s := p.Stats()
	// Invariant I5: nothing is skipped in silence.
	require.Equal(t, TableStats{Received: 100, Applied: 99, Rejected: 1}, s.Tables["test.numbers"])
	require.EqualValues(t, 100, s.Apply.Received)
	require.EqualValues(t, 1, s.Apply.RejectedTransactions)
}

func TestAnErrorThatStaysStopsExactlyAtItsTransaction(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.txs[75].More = false
	p := &Pipeline{Source: src, Stages: []Stage{refuse("t77")}, Sink: dst, Logger: discard}
	err := p.Run(t.Context())
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "stage 1", e.Part)
	require.Equal(t, "t77", e.ID)
	require.EqualValues(t, 76, e.At.Seq)
	require.Equal(t, "stage 1, transaction 77 (t77): bad row", err.Error())
	require.Equal(t, 76, dst.len(), "those before it are applied")
	require.Equal(t, err, p.Stats().Apply.Err)
}

func TestASourceErrorLeavesWhatWasReadBeforeItApplied(t *testing.T) {
	src, dst := filled(1, 100, 0), newLog(2, 0)
	src.txs[98].More = false
	err := (&Pipeline{Source: gap{src, 100}, Sink: dst, Logger: discard}).Run(t.Context())
	require.ErrorIs(t, err, ErrGap)
	require.Equal(t, 99, dst.len())
}

// A gap is a source that skips a number.
type gap struct {
	*memLog
	seq uint64
}

func (g gap) Open(ctx context.Context, from Checkpoint) (Stream, error) {
	s, err := g.memLog.Open(ctx, from)
	return gapStream{s, g.seq}, err
}

type gapStream struct {
	Stream
	seq uint64
}

func (s gapStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	n, err := s.Stream.Next(ctx, batch)
	for _, tx := range batch[:n] {
		if tx.Seq >= s.seq {
			tx.Seq++
		}
	}
	return n, err
}

func TestRunEndsWithTheSource(t *testing.T) {
	for _, queue := range []Queue{nil, newLog(3, 0.1)} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(1, 1000, 0.1), newLog(2, 0.1)
			if queue != nil {
				queue = newLog(3, 0.1) // its condition belongs to this bubble
			}
			src.closed = true
			p := &Pipeline{Source: src, Queue: queue, Stages: []Stage{double}, Sink: dst, MaxBatch: 10, Logger: discard}
			require.NoError(t, p.Run(t.Context()))
			require.NoError(t, dst.verify(1000))
			require.Equal(t, Stopped, p.Stats().State)
		})
	}
}

func TestALogThatEndsWithinATransactionIsAGap(t *testing.T) {
	src, dst := newLog(1, 0), newLog(2, 0)
	src.append(Transaction{Changes: insert(1)})
	src.append(Transaction{Changes: insert(2), More: true})
	src.closed = true
	err := (&Pipeline{Source: src, Sink: dst, Logger: discard}).Run(t.Context())
	require.ErrorIs(t, err, ErrGap)
	require.Equal(t, 1, dst.len())
}

// A blockedSink holds each Apply until released.
type blockedSink struct {
	*memLog
	entered chan int
	release chan struct{}
}

func (s *blockedSink) Apply(ctx context.Context, batch []*Transaction) error {
	s.entered <- len(batch)
	select {
	case <-s.release:
	case <-ctx.Done():
		return Transient(ctx.Err())
	}
	return s.memLog.Apply(ctx, batch)
}

func blocked() *blockedSink {
	return &blockedSink{newLog(2, 0), make(chan int, 1000), make(chan struct{})}
}

func TestReadAheadOverlapsApplyAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := filled(1, 100_000, 0), blocked()
		size := src.txs[0].Size()
		p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, MaxBatch: 100, ReadAhead: 1000 * size, Logger: discard}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-dst.entered
		synctest.Wait() // all goroutines are blocked: the sink by us, the reader by its bound
		read := p.Stats().Apply.Read
		require.Greater(t, read, uint64(900), "reads on while the sink applies")
		require.Less(t, read, uint64(1200), "but not without bound")
		dst.release <- struct{}{}
		n := <-dst.entered
		require.Greater(t, n, 25, "a slow sink gets batches of several chunks")
		require.LessOrEqual(t, n, 100)
		cancel()
		close(dst.release)
		require.NoError(t, <-done)
	})
}

func TestPauseHoldsTheSinkAndNotTheCapture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, queue, dst := filled(1, 1000, 0), newLog(3, 0), newLog(2, 0)
		p := &Pipeline{Source: src, Queue: queue, Stages: []Stage{double}, Sink: dst, Logger: discard}
		p.Pause()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		s := p.Stats()
		require.Equal(t, Paused, s.State)
		require.EqualValues(t, 1000, s.Capture.At.Seq)
		require.Zero(t, dst.len())
		p.Resume()
		synctest.Wait()
		require.NoError(t, dst.verify(1000))
		require.Equal(t, Running, p.Stats().State)
		require.Zero(t, p.Stats().Lag)
		p.Pause()
		src.append(Transaction{Changes: insert(1001)})
		synctest.Wait()
		require.Equal(t, 1000, dst.len())
		cancel() // a paused pipeline stops when asked to
		require.NoError(t, <-done)
	})
}

// After an outage a person need not wait for the next try, which may be a minute away.
func TestResumeTriesAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, queue, dst := filled(1, 10, 0), newLog(3, 0), &hesitant{Sink: newLog(2, 0)}
		dst.away.Store(true)
		p := &Pipeline{Source: src, Queue: queue, Sink: dst, Logger: discard, RetryWait: time.Hour}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, Retrying, p.Stats().State)
		began := time.Now()
		for range 3 {
			p.Resume() // still away
			synctest.Wait()
		}
		require.EqualValues(t, 4, p.Stats().Apply.Retries)
		dst.away.Store(false)
		p.Resume()
		synctest.Wait()
		require.EqualValues(t, 10, p.Stats().Apply.At.Seq)
		require.Zero(t, time.Since(began))
		cancel()
		require.NoError(t, <-done)
	})
}

// A hesitant sink cannot be reached while it is away.
type hesitant struct {
	Sink
	away atomic.Bool
}

func (s *hesitant) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if s.away.Load() {
		return Checkpoint{}, Transient(errors.New("away"))
	}
	return s.Sink.Checkpoint(ctx)
}

func TestStopFinishesTheBatchInHand(t *testing.T) {
	for _, timeout := range []time.Duration{0, 3 * time.Second, -1} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(1, 50, 0), blocked()
			p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: struct{ Sink }{dst}, Logger: discard, StopTimeout: timeout}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			n := <-dst.entered
			start := time.Now()
			cancel()
			if timeout == 0 {
				time.Sleep(5 * time.Second)
				close(dst.release)
				require.NoError(t, <-done)
				require.Equal(t, n, dst.len()+len(dst.parts))
				return
			}
			require.NoError(t, <-done, "a stop that was asked for is no error")
			require.Equal(t, max(timeout, 0), time.Since(start))
			require.Zero(t, dst.len())
		})
	}
}

func TestAStopWaitsASecondForAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dst := blocked() // a Queue, since it embeds one
		p := &Pipeline{Source: filled(1, 50, 0), Stages: []Stage{double}, Sink: dst, Logger: discard}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-dst.entered
		start := time.Now()
		cancel()
		require.NoError(t, <-done)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestALostQueueStartsAtTheSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := filled(1, 300, 0), newLog(2, 0)
		src.txs[99].More, src.txs[199].More = false, false
		all := src.txs
		src.txs, src.closed = all[:100:100], true
		run := func(queue *memLog) error {
			return (&Pipeline{Source: src, Queue: queue, Stages: []Stage{double}, Sink: dst, Logger: discard}).Run(t.Context())
		}
		old := newLog(3, 0)
		require.NoError(t, run(old))
		src.txs = all[:200:200]
		lost := newLog(4, 0)
		require.NoError(t, run(lost))
		require.Equal(t, 1, lost.resets)
		require.EqualValues(t, 101, lost.txs[0].Seq)
		src.txs = all
		require.NoError(t, run(old)) // put back from an older copy
		require.Equal(t, 1, old.resets)
		require.NoError(t, dst.verify(300))
	})
}

// A deadSink cannot be reached.
type deadSink struct{ *memLog }

func (deadSink) Checkpoint(context.Context) (Checkpoint, error) {
	return Checkpoint{}, Transient(errors.New("no route"))
}

// A muteSink applies all that it is given, and never says so.
type muteSink struct{ *memLog }

func (m muteSink) Apply(ctx context.Context, batch []*Transaction) error {
	if err := m.memLog.Apply(ctx, batch); err != nil {
		return err
	}
	return Transient(errors.New("the answer is lost"))
}

// That a transaction has passed is known by the checkpoint too.
func TestLostAnswersDoNotMakeTheWaitsLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled(1, 400, 0)
		src.txs[399].More, src.closed = false, true
		dst := newLog(2, 0)
		p := &Pipeline{Source: src, Sink: muteSink{dst}, MaxBatch: 10, Logger: discard}
		began := time.Now()
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, dst.txs, 400)
		require.Greater(t, p.Stats().Apply.Retries, uint64(20))
		require.Less(t, time.Since(began), time.Duration(2*p.Stats().Apply.Retries)*100*time.Millisecond)
	})
}

func TestCaptureDoesNotWaitForTheTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, queue := filled(1, 100, 0), filled(1, 10, 0)
		src.txs[9].More, queue.txs[9].More = false, false
		p := &Pipeline{Source: src, Queue: queue, Sink: deadSink{newLog(2, 0)}, Logger: discard}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		time.Sleep(time.Minute)
		require.EqualValues(t, 100, p.Stats().Capture.At.Seq)
		require.Equal(t, Retrying, p.Stats().State)
		require.ErrorContains(t, p.Stats().Apply.Err, "no route")
		require.NoError(t, <-done)
		n := p.Stats().Apply.Retries
		require.Greater(t, n, uint64(60), "it never gives up")
		require.Less(t, n, uint64(80), "the wait doubles up to a minute")
	})
}

func TestRunReturnsAllFaultsAtOnce(t *testing.T) {
	err := (&Pipeline{MaxBatch: -1, ReadAhead: -2, RetryWait: -3, Stages: []Stage{nil}}).Run(t.Context())
	for _, want := range []string{"Source is nil", "Sink is nil", "MaxBatch is -1", "ReadAhead is -2", "RetryWait is -3ns", "Stages[0] is nil"} {
		require.ErrorContains(t, err, want)
	}
	l := newLog(1, 0)
	require.ErrorContains(t, (&Pipeline{Source: l, Queue: l, Sink: l}).Run(t.Context()), "Queue and Sink are the same")
}

func TestRunTwiceAtOnceIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pipeline{Source: newLog(1, 0), Sink: newLog(2, 0), Logger: discard}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, p.Run(ctx)) })
		synctest.Wait()
		require.ErrorContains(t, p.Run(ctx), "running already")
		cancel()
		wg.Wait()
		require.NoError(t, p.Run(ctx), "but it may run again")
	})
}

func TestObserveSeesEachBatchOnceInOrder(t *testing.T) {
	src, queue, dst := filled(1, 1000, 0), newLog(3, 0), newLog(2, 0)
	src.closed = true
	var mu sync.Mutex
	at, rows := map[string]uint64{}, 0
	p := &Pipeline{Source: encoded{src}, Queue: queue, Sink: dst, MaxBatch: 64, Logger: discard, Stages: []Stage{double},
		Observe: func(b Batch) {
			mu.Lock()
			defer mu.Unlock()
			require.NoError(t, b.Err)
			require.Equal(t, at[b.Leg], b.From.Seq)
			require.EqualValues(t, b.Transactions, b.To.Seq-b.From.Seq)
			at[b.Leg] = b.To.Seq
			rows += b.Rows
		}}
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, map[string]uint64{"capture": 1000, "apply": 1000}, at)
	require.Equal(t, 1000, rows)
}

// A queue may be filled by one pipeline and emptied by another.
func TestTwoPipelinesShareAQueueOfEncodedTransactions(t *testing.T) {
	src, queue, dst := encoded{filled(1, 100, 0)}, newLog(3, 0), newLog(2, 0)
	src.closed = true
	require.NoError(t, (&Pipeline{Source: src, Sink: queue, Logger: discard}).Run(t.Context()))
	require.NotNil(t, queue.txs[0].Encoded)
	queue.closed = true
	stages := []Stage{StageFunc(src.Decode), double}
	require.NoError(t, (&Pipeline{Source: queue, Stages: stages, Sink: dst, Logger: discard}).Run(t.Context()))
	require.NoError(t, dst.verify(100))
}

// slowDecoder counts the goroutines that decode at the same time.
type slowDecoder struct {
	encoded
	now, most atomic.Int32
}

func (d *slowDecoder) Decode(ctx context.Context, batch []*Transaction) error {
	n := d.now.Add(1)
	defer d.now.Add(-1)
	for old := d.most.Load(); n > old && !d.most.CompareAndSwap(old, n); old = d.most.Load() {
	}
	time.Sleep(time.Second)
	return d.encoded.Decode(ctx, batch)
}

func TestLargeBatchesAreDecodedInParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := &slowDecoder{encoded: encoded{filled(1, 5000, 0)}}, newLog(2, 0)
		src.closed, src.long = true, true
		require.NoError(t, (&Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, Logger: discard}).Run(t.Context()))
		require.NoError(t, dst.verify(5000))
		require.Greater(t, src.most.Load(), int32(1))
	})
}

func BenchmarkPipeline(b *testing.B) {
	const n = 100_000
	for _, size := range []int{1, 100, 4096} {
		b.Run(fmt.Sprint("batch=", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				src, dst := filled(1, n, 0), newLog(2, 0)
				src.closed = true
				b.StartTimer()
				p := &Pipeline{Source: src, Sink: dst, MaxBatch: size, Logger: discard}
				if err := p.Run(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/tx")
		})
	}
}

func TestCountersAreExactUnderFaults(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(seed, 300, 0.1), newLog(seed+1, 0.2)
			src.closed = true
			p := &Pipeline{Source: encoded{src}, Stages: []Stage{double}, Sink: dst, MaxBatch: 20, Logger: discard}
			require.NoError(t, p.Run(t.Context()))
			s := p.Stats()
			require.Equal(t, TableStats{Received: 300, Applied: 300}, s.Tables["test.numbers"], "seed %d", seed)
			require.EqualValues(t, 300, s.Apply.Transactions)
			require.Equal(t, "t300", s.Apply.ID)
			require.EqualValues(t, 300, s.Apply.At.Seq)
		})
	}
}

// A slowSink takes its time for each transaction.
type slowSink struct {
	*memLog
	each  time.Duration
	sizes []int
}

func (s *slowSink) Apply(ctx context.Context, batch []*Transaction) error {
	s.sizes = append(s.sizes, len(batch))
	select {
	case <-time.After(time.Duration(len(batch)) * s.each):
		return s.memLog.Apply(ctx, batch)
	case <-ctx.Done():
		return Transient(ctx.Err())
	}
}

func TestBatchesGrowWithAFastSinkAndShrinkWithASlowOne(t *testing.T) {
	for each, want := range map[time.Duration]int{time.Microsecond: 4096, 10 * time.Millisecond: 256} {
		synctest.Test(t, func(t *testing.T) {
			src := filled(1, 30_000, 0)
			src.closed, src.long = true, true
			dst := &slowSink{memLog: newLog(2, 0), each: each}
			p := &Pipeline{Source: src, Stages: []Stage{double}, Sink: dst, Logger: discard}
			require.NoError(t, p.Run(t.Context()))
			require.NoError(t, dst.verify(30_000))
			require.LessOrEqual(t, dst.sizes[0], 256, "a session begins with a small batch")
			require.Equal(t, want, slices.Max(dst.sizes))
		})
	}
}

// A strictSink refuses a change that names no table.
type strictSink struct{ *memLog }

func (s strictSink) Apply(ctx context.Context, batch []*Transaction) error {
	for _, tx := range batch {
		for _, c := range tx.Changes {
			if c.Table == nil {
				return errors.New("no table")
			}
		}
	}
	return s.memLog.Apply(ctx, batch)
}

func TestAChangeWithoutATableCanBeRejected(t *testing.T) {
	src, dst := newLog(1, 0), newLog(2, 0)
	src.append(Transaction{Changes: []Change{{Op: Insert, After: Row{IntValue(1)}}}})
	src.append(Transaction{Changes: insert(2)})
	src.closed = true
	p := &Pipeline{Source: src, Sink: strictSink{dst}, Logger: discard,
		Reject: func(context.Context, *Transaction, error) error { return nil }}
	require.NoError(t, p.Run(t.Context()))
	require.EqualValues(t, 1, p.Stats().Apply.Rejected)
	require.EqualValues(t, 1, p.Stats().Apply.Applied)
}

func TestAFailingSinkEndsTheStageInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), newLog(2, 0)
		for i := range 1000 {
			src.append(Transaction{Changes: insert(int64(i))})
		}
		n := 0
		wait := StageFunc(func(ctx context.Context, _ []*Transaction) error {
			if n++; n == 1 {
				return nil
			}
			<-ctx.Done() // as one that asks a server which never answers
			return ctx.Err()
		})
		p := &Pipeline{Source: src, Stages: []Stage{wait}, Sink: refusing{dst}, Logger: discard}
		require.ErrorContains(t, p.Run(t.Context()), "refused for good")
	})
}

type refusing struct{ *memLog }

func (refusing) Apply(context.Context, []*Transaction) error { return errFenced }

// errFenced is an error that no single transaction is to blame for.
var errFenced = fmt.Errorf("refused for good: %w", ErrConflict)

func TestPauseNeverHoldsWithinATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), blocked()
		src.append(Transaction{Changes: insert(1), More: true})
		p := &Pipeline{Source: src, Sink: dst, Logger: discard}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-dst.entered
		p.Pause()
		dst.release <- struct{}{}
		src.append(Transaction{Changes: insert(2)})
		src.append(Transaction{Changes: insert(3)})
		<-dst.entered
		close(dst.release)
		synctest.Wait()
		require.GreaterOrEqual(t, dst.len(), 2, "the transaction is finished")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestAStopLeavesNoPartsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), newLog(2, 0)
		src.append(Transaction{Changes: insert(1), More: true})
		p := &Pipeline{Source: src, Sink: dst, Logger: discard}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		require.Len(t, dst.parts, 1)
		cancel()
		require.NoError(t, <-done)
		require.Empty(t, dst.parts, "they would hold locks on the target")
	})
}

// clocked is a source whose clock differs from ours.
type clocked struct {
	*memLog
	ahead time.Duration
}

func (c clocked) ClockOffset() (time.Duration, bool) { return c.ahead, true }

func TestLagIsNotThatOfClocks(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := clocked{newLog(1, 0), ahead}, blocked()
			p := &Pipeline{Source: src, Sink: dst, Logger: discard}
			src.append(Transaction{Changes: insert(1), Committed: time.Now().Add(ahead)})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- p.Run(ctx) }()
			<-dst.entered
			time.Sleep(time.Minute)
			require.Equal(t, time.Minute, p.Stats().Lag)
			require.Equal(t, ahead, p.Stats().ClockOffset)
			close(dst.release)
			synctest.Wait()
			require.Equal(t, time.Minute, p.Stats().Apply.Latency)
			cancel()
			require.NoError(t, <-done)
		})
	}
}

func TestStatsTellTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := newLog(1, 0), blocked()
		p := &Pipeline{Source: src, Sink: dst, Logger: discard}
		require.Equal(t, Leg{}, p.Stats().Capture)
		src.append(Transaction{Changes: insert(1), Committed: time.Now()})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		<-dst.entered
		time.Sleep(time.Minute)
		require.Equal(t, Leg{}, p.Stats().Capture, "there is no queue")
		require.Equal(t, time.Minute, p.Stats().Lag, "it grows though nothing was ever applied")
		close(dst.release)
		synctest.Wait()
		require.Zero(t, p.Stats().Lag)
		cancel()
		require.NoError(t, <-done)

		p = &Pipeline{Source: src, Queue: newLog(3, 0), Sink: failing{dst.memLog}, Logger: discard}
		require.Error(t, p.Run(t.Context()))
		require.Equal(t, Stopped, p.Stats().Apply.State)
		require.ErrorContains(t, p.Stats().Apply.Err, "no such user")
		require.Equal(t, Stopped, p.Stats().Capture.State)
		require.Equal(t, "state(9)", State(9).String())
	})
}

// failing is a sink that cannot be asked.
type failing struct{ *memLog }

func (failing) Checkpoint(context.Context) (Checkpoint, error) {
	return Checkpoint{}, errors.New("no such user")
}

// fullQueue is a queue that takes no more until its reader has passed some.
type fullQueue struct{ *memLog }

func (fullQueue) Apply(ctx context.Context, _ []*Transaction) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAStopDoesNotWaitForAFullQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := filled(1, 10, 0)
		p := &Pipeline{Source: src, Queue: fullQueue{newLog(3, 0)}, Sink: newLog(2, 0), Logger: discard, StopTimeout: time.Hour}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		require.NoError(t, <-done)
		require.LessOrEqual(t, time.Since(start), time.Second)
	})
}

// A listSink cannot be compared by ==.
type listSink struct {
	*memLog
	_ []int
}

func TestQueueAndSinkNeedNotBeComparable(t *testing.T) {
	src := filled(1, 10, 0)
	src.closed = true
	q := newLog(3, 0)
	require.NoError(t, (&Pipeline{Source: src, Queue: listSink{memLog: q}, Sink: listSink{memLog: newLog(2, 0)}, Logger: discard}).Run(t.Context()))
}

// Nothing goes on from a part, so its State would be lost or be stored too early.
func TestStateOfAPartIsRefused(t *testing.T) {
	src, dst := newLog(1, 0), newLog(2, 0)
	src.append(Transaction{Checkpoint: Checkpoint{State: "x"}, More: true})
	src.append(Transaction{})
	err := (&Pipeline{Source: src, Sink: dst, Logger: discard}).Run(t.Context())
	require.ErrorContains(t, err, "source: a part that is not the last of its transaction has State")
	require.Zero(t, dst.len())
}

func TestAnErrorNamesItsTransactionOnce(t *testing.T) {
	e := &Error{Part: "sink", At: Checkpoint{Seq: 9}, ID: "x:7", Err: errors.New("transaction 10 (x:7) has a statement")}
	require.EqualError(t, e, "sink, transaction 10 (x:7) has a statement")
	e.Err = errors.New("refused")
	require.EqualError(t, e, "sink, transaction 10 (x:7): refused")
}
