package dfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A memReader reads a memLog under a name.
type memReader struct {
	*memLog
	name string
}

func (r memReader) SameReader(other Source) bool { return other == Source(r) }

// fan is a Fanout into so many sinks, and these.
func fan(src Source, queue *memLog, sinks ...*memLog) *Fanout {
	f := &Fanout{Capture: &Pipeline{Source: src, Sink: queue, Logger: discard}, Pipelines: make(map[string]*Pipeline)}
	for i, k := range sinks {
		name := string(rune('a' + i))
		f.Pipelines[name] = &Pipeline{Source: memReader{queue, name}, Stages: []Stage{double}, Sink: k, Logger: discard}
	}
	return f
}

func TestFanoutDeliversExactlyOnceToEachSinkUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			const n = 300
			src, queue := encoded{filled(seed, n, 0.05)}, newLog(seed+1, 0.05)
			src.closed = true
			sinks := []*memLog{newLog(seed+2, 0.05), newLog(seed+3, 0.3), newLog(seed+4, 0)}
			require.NoError(t, fan(src, queue, sinks...).Run(t.Context()), "seed %d", seed)
			require.NotNil(t, queue.txs[0].Encoded)
			for _, k := range sinks {
				require.NoError(t, k.verify(n), "seed %d", seed)
			}
		})
	}
}

// broken is a sink that refuses everything from a transaction on.
type broken struct {
	*memLog
	from uint64
}

var errBroken = errors.New("the disk is gone")

func (b broken) Apply(ctx context.Context, batch []*Transaction) error {
	for i, tx := range batch {
		if tx.Seq >= b.from {
			if i > 0 {
				return errors.Join(b.memLog.Apply(ctx, batch[:i]), errBroken)
			}
			return errBroken
		}
	}
	return b.memLog.Apply(ctx, batch)
}

func TestFanoutGoesOnWithoutASinkThatHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		src, queue := encoded{filled(7, n, 0)}, newLog(8, 0)
		src.closed = true
		well, ill := newLog(9, 0), newLog(10, 0)
		f := fan(src, queue, well, ill)
		var said bytes.Buffer
		f.Pipelines["b"].Sink = broken{ill, 50}
		f.Pipelines["b"].Logger = slog.New(slog.NewTextHandler(&said, nil))
		err := f.Run(t.Context())
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, "pipeline b: sink, transaction 50")
		require.Contains(t, said.String(), "the others go on")
		require.NoError(t, well.verify(n))
		require.LessOrEqual(t, ill.last().Seq, uint64(49))

		// Mended, it goes on by itself.
		require.NoError(t, fan(src, queue, well, ill).Run(t.Context()))
		require.NoError(t, ill.verify(n))
	})
}

func TestFanoutAppliesWhatTheQueueHoldsWhenCaptureFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, queue, a, b := encoded{filled(1, 100, 0)}, newLog(2, 0), newLog(3, 0), newLog(4, 0)
		src.closed = true
		f := fan(src, queue, a, b)
		f.Capture.Sink = brokenQueue{broken{queue, 61}}
		for name, p := range f.Pipelines {
			p.Source = memReader{queue, name}
		}
		err := f.Run(t.Context())
		require.ErrorIs(t, err, errBroken)
		require.ErrorContains(t, err, "capture: ")
		at := queue.last().Seq
		require.NotZero(t, at)
		require.Equal(t, at, a.last().Seq)
		require.Equal(t, at, b.last().Seq)
	})
}

type brokenQueue struct{ broken }

func TestFanoutEndsWithItsContextAndWhenAllPipelinesHaveFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, queue, a, b := encoded{filled(1, 100, 0)}, newLog(2, 0), newLog(3, 0), newLog(4, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, fan(src, queue, a, b).Run(ctx))
		require.NoError(t, a.verify(100))
		require.NoError(t, b.verify(100))

		f := fan(src, newLog(5, 0), newLog(6, 0), newLog(7, 0))
		f.Pipelines["a"].Sink, f.Pipelines["b"].Sink = broken{newLog(8, 0), 1}, broken{newLog(9, 0), 20}
		err := f.Run(t.Context()) // although the source has not ended
		require.ErrorContains(t, err, "pipeline a: ")
		require.ErrorContains(t, err, "pipeline b: ")
	})
}

func TestFanoutWithALostQueue(t *testing.T) {
	const n = 150
	half := func(t *testing.T, k *memLog, upTo int) {
		src := filled(1, n, 0)
		src.closed = true
		src.txs = src.txs[:upTo]
		require.NoError(t, (&Pipeline{Source: encoded{src}, Stages: []Stage{double}, Sink: k, Logger: discard}).Run(t.Context()))
	}
	end := 80
	for src := filled(1, n, 0); src.txs[end-1].More || src.txs[39].More; end++ {
	}
	t.Run("it begins anew where all sinks stand", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b, queue := newLog(3, 0), newLog(4, 0.2), newLog(2, 0)
			half(t, a, end)
			half(t, b, end)
			src := encoded{filled(1, n, 0)}
			src.closed = true
			require.NoError(t, fan(src, queue, a, b).Run(t.Context()))
			require.Equal(t, 1, queue.resets)
			require.NoError(t, a.verify(n))
			require.NoError(t, b.verify(n))
		})
	})
	t.Run("sinks at different places are refused, with names", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b, queue := newLog(3, 0), newLog(4, 0), newLog(2, 0)
			half(t, a, end)
			src := encoded{filled(1, n, 0)}
			src.closed = true
			err := fan(src, queue, a, b).Run(t.Context())
			require.ErrorIs(t, err, ErrGap)
			require.ErrorContains(t, err, fmt.Sprintf("a: %d, b: 0", end))
			require.Zero(t, queue.resets)
			require.EqualValues(t, end, a.last().Seq)
			require.Zero(t, b.last().Seq)
		})
	})
	t.Run("a sink that cannot be asked keeps nobody waiting if the queue holds something", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a, b, queue := newLog(3, 0), newLog(4, 1), newLog(2, 0)
			src := encoded{filled(1, n, 0)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.NoError(t, fan(src, queue, a, b).Run(ctx)) // it waits for b
			require.Zero(t, a.last().Seq)
			src.closed = true
			require.NoError(t, (&Pipeline{Source: src, Sink: queue, Logger: discard}).Run(t.Context()))
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.NoError(t, fan(src, queue, a, b).Run(ctx))
			require.NoError(t, a.verify(n))
			require.Zero(t, b.last().Seq)
		})
	})
}

func TestFanoutTellsAllThatIsWrongWithIt(t *testing.T) {
	queue := newLog(1, 0)
	err := (&Fanout{}).Run(t.Context())
	require.EqualError(t, err, "dfs: Fanout.Capture is nil; set the pipeline that fills the queue\n"+
		"dfs: Fanout.Pipelines is empty; set one for each sink")
	src := encoded{newLog(2, 0)}
	f := fan(src, queue, newLog(3, 0), newLog(4, 0))
	f.Capture.Sink = printerSink{}
	f.Pipelines["b"].Source = memReader{queue, "a"}
	f.Pipelines["b"].Sink = f.Pipelines["a"].Sink
	f.Pipelines["c"] = nil
	f.Pipelines["d"] = &Pipeline{Source: src, Sink: newLog(5, 0), MaxBatch: -1}
	err = f.Run(t.Context())
	for _, want := range []string{
		"Capture.Sink is not a Queue", `Pipelines["a"] and ["b"] have the same Source`, `Pipelines["a"] and ["b"] have the same Sink`,
		`Pipelines["c"] is nil`, `Pipelines["d"].Source is the source itself`, "pipeline d: dfs: Pipeline.MaxBatch is -1",
	} {
		require.ErrorContains(t, err, want)
	}
}

type printerSink struct{}

func (printerSink) Checkpoint(context.Context) (Checkpoint, error) { return Checkpoint{}, nil }
func (printerSink) Apply(context.Context, []*Transaction) error    { return nil }
