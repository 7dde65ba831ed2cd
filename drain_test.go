package dfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A purged source has nothing of what is asked for.
type purged struct{ *memLog }

var errPurged = errors.New("purged")

func (purged) Open(context.Context, Checkpoint) (Stream, error) { return nil, errPurged }

// A damaged source ends with an error.
type damaged struct{ *memLog }

func (d damaged) Open(ctx context.Context, from Checkpoint) (Stream, error) {
	s, err := d.memLog.Open(ctx, from)
	return damagedStream{s}, err
}

type damagedStream struct{ Stream }

func (s damagedStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	n, err := s.Stream.Next(ctx, batch)
	if err == io.EOF {
		err = errPurged
	}
	return n, err
}

// An awaySink cannot be reached before its time.
type awaySink struct {
	*memLog
	until time.Time
}

func (s awaySink) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if time.Now().Before(s.until) {
		return Checkpoint{}, Transient(errors.New("no route"))
	}
	return s.memLog.Checkpoint(ctx)
}

// drained returns a pipeline whose source is purged and whose queue holds 60
// transactions.
func drained(seed uint64, fail float64, dst Sink) *Pipeline {
	queue := filled(seed, 60, fail)
	return &Pipeline{Source: purged{newLog(1, 0)}, Queue: queue, Stages: []Stage{double}, Sink: dst, MaxBatch: 10, Logger: discard}
}

func TestASourceErrorLeavesTheQueueToBeApplied(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			dst := newLog(seed+1, 0.1)
			p := drained(seed, 0.1, dst)
			require.Equal(t, error(&Error{Part: "source", At: p.Queue.(*memLog).last(), Err: errPurged}), onlyOf(t, p.Run(t.Context())))
			require.NoError(t, dst.verify(60))
			require.ErrorIs(t, p.Stats().Capture.Err, errPurged)
			require.NoError(t, p.Stats().Apply.Err)
		})
	}
}

// onlyOf returns the one error that err joins.
func onlyOf(t *testing.T, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok, "%v", err)
	require.Len(t, joined.Unwrap(), 1)
	return joined.Unwrap()[0]
}

func TestASourceErrorInTheMiddleLeavesAllBeforeItApplied(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			src, dst := filled(seed, 700, 0.05), newLog(seed+1, 0.1)
			src.closed = true
			p := &Pipeline{Source: damaged{src}, Queue: newLog(seed+2, 0.1), Stages: []Stage{double}, Sink: dst, MaxBatch: 10, Logger: discard}
			require.ErrorIs(t, p.Run(t.Context()), errPurged)
			require.NoError(t, dst.verify(700))
		})
	}
}

func TestAQueueIsDrainedOnceTheTargetIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dst := awaySink{newLog(2, 0), time.Now().Add(time.Hour)}
		p := drained(1, 0, dst)
		var log bytes.Buffer
		p.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		s := p.Stats()
		require.Equal(t, Stopped, s.Capture.State)
		require.ErrorIs(t, s.Capture.Err, errPurged, "known while the queue waits")
		require.Equal(t, Retrying, s.State)
		require.Equal(t, 1, strings.Count(log.String(), "still applied"), log.String())
		require.ErrorIs(t, <-done, errPurged)
		require.NoError(t, dst.verify(60))
	})
}

func TestADrainEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := drained(1, 0, deadSink{newLog(2, 0)})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		err := p.Run(ctx)
		require.ErrorIs(t, err, errPurged)
		require.NotErrorIs(t, err, ErrTransient)
		require.Equal(t, time.Hour, time.Since(began))
	})
}

func TestADrainHeedsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dst := newLog(2, 0)
		p := drained(1, 0, dst)
		p.Pause()
		done := make(chan error)
		go func() { done <- p.Run(t.Context()) }()
		synctest.Wait()
		require.Equal(t, Paused, p.Stats().State)
		require.ErrorIs(t, p.Stats().Capture.Err, errPurged)
		require.Zero(t, dst.len())
		p.Resume()
		require.ErrorIs(t, <-done, errPurged)
		require.NoError(t, dst.verify(60))
	})
}

func TestASinkThatFailsEndsADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dst := newLog(2, 0)
		err := drained(1, 0, refusing{dst}).Run(t.Context())
		require.ErrorIs(t, err, errPurged)
		require.ErrorIs(t, err, errFenced)
		require.Zero(t, dst.len())
	})
}

// A muteQueue says once where it stands, when Run asks before it begins.
type muteQueue struct {
	*memLog
	asked int
}

func (q *muteQueue) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if q.asked++; q.asked > 2 {
		return Checkpoint{}, errors.New("disk error")
	}
	return q.memLog.Checkpoint(ctx)
}

func TestAQueueThatCannotBeAskedIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := drained(1, 0, deadSink{newLog(2, 0)})
		p.Queue = &muteQueue{memLog: filled(1, 60, 0)}
		began := time.Now()
		err := p.Run(t.Context())
		require.ErrorIs(t, err, errPurged)
		require.ErrorContains(t, err, "disk error")
		require.Zero(t, time.Since(began))
	})
}

func TestAQueueThatAnotherWritesToIsNotDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := drained(1, 0, deadSink{newLog(2, 0)})
		src := filled(1, 100, 0)
		src.owner, src.txs[59].More = false, false
		p.Source, p.Queue = src, refusing{filled(1, 60, 0)}
		began := time.Now()
		require.ErrorIs(t, p.Run(t.Context()), errFenced)
		require.Zero(t, time.Since(began))
	})
}
