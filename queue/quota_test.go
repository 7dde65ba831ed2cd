package queue

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// applying applies in the background, and waits until that waits.
func applying(t *testing.T, ctx context.Context, q *Queue, batch ...*dfs.Transaction) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- q.Apply(ctx, batch) }()
	eventually(t, q, "Apply waits", func(s Stats) bool { return s.Waiting })
	return done
}

func TestApplyWaitsAtMaxBytes(t *testing.T) {
	q := newQueue(t, &Options{MaxBytes: 10_000})
	fill(t, q, 10, 920) // the last one passes the limit
	s := q.Stats()
	require.GreaterOrEqual(t, s.Bytes, int64(10_000))
	require.False(t, s.Waiting)

	done := applying(t, t.Context(), q, tx(11, 900))
	read(t, q, 1, 10)
	require.Empty(t, done)
	require.NoError(t, q.Trim(t.Context(), at(3)))
	require.NoError(t, <-done)
	require.False(t, q.Stats().Waiting)
	require.EqualValues(t, 4, q.Stats().First)
	read(t, q, 4, 11)

	fill(t, q, 2, 920)
	done = applying(t, t.Context(), q, tx(14, 900))
	require.NoError(t, q.Forget(t.Context(), "default"), "who does not come back")
	require.Empty(t, done, "nobody has read them")
	read(t, q, 4, 13)
	require.NoError(t, q.Trim(t.Context(), at(13)))
	require.NoError(t, <-done)
}

func TestWaitAtMaxBytesEnds(t *testing.T) {
	q := newQueue(t, &Options{MaxBytes: 1000})
	fill(t, q, 1, 2000)
	ctx, cancel := context.WithCancel(t.Context())
	done := applying(t, ctx, q, tx(2, 100))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.False(t, q.Stats().Waiting)
	c, err := q.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, at(1), c)

	done = applying(t, t.Context(), q, tx(2, 100))
	require.NoError(t, q.Close())
	require.ErrorIs(t, <-done, ErrClosed)
}

func TestKeepGivesWayToMaxBytes(t *testing.T) {
	q := newQueue(t, &Options{MaxBytes: 10_000, Keep: 9_000, KeepFor: time.Hour})
	fill(t, q, 8, 920)
	require.NoError(t, q.Trim(t.Context(), at(8)))
	eventually(t, q, "stored", func(Stats) bool { return !q.behind() })
	require.EqualValues(t, 1, q.Stats().First)
	// The limit is reached again and again, by what has been read and kept.
	for seq := uint64(9); seq < 100; seq++ {
		apply(t, q, tx(seq, 920))
		require.NoError(t, q.Trim(t.Context(), at(seq)))
		require.LessOrEqual(t, q.Stats().Bytes, int64(11_100))
	}
	require.Greater(t, q.Stats().Bytes, int64(8_000))
}

func TestTransactionLargerThanMaxBytesPasses(t *testing.T) {
	q := newQueue(t, &Options{MaxBytes: 5_000})
	parts := txs(1, 20, 1000)
	for _, p := range parts[:19] {
		p.More = true
		apply(t, q, p)
	}
	apply(t, q, parts[19])
	done := applying(t, t.Context(), q, tx(21, 100))
	read(t, q, 1, 20)
	require.NoError(t, q.Trim(t.Context(), at(20)))
	require.NoError(t, <-done)
}
