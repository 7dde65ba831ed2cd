package queue

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func TestQueueThatNobodyReadsKeepsAll(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 50, 100)
	require.Empty(t, places(q.Stats().Readers))
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	fill(t, q, 1, 100)
	s := q.Stats()
	require.EqualValues(t, 1, s.First)
	require.EqualValues(t, 51, s.Last)
	require.EqualValues(t, 51, s.Blocks)
	read(t, q, 1, 51)
}

func TestSlowestReaderHoldsBack(t *testing.T) {
	q := newQueue(t, nil)
	slow, fast := q.Reader("slow"), q.Reader("fast")
	fill(t, q, 30, 100)
	read(t, slow, 1, 30)
	read(t, fast, 1, 30)
	require.NoError(t, fast.Trim(t.Context(), at(25)))
	require.NoError(t, slow.Trim(t.Context(), at(10)))
	eventually(t, q, "trimmed below the slowest", func(s Stats) bool { return s.First == 11 })
	require.Equal(t, []ReaderInfo{{Name: "fast", Seq: 25, Lag: 5}, {Name: "slow", Seq: 10, Lag: 20}}, places(q.Stats().Readers))

	// Both are known after a restart, though nobody runs them.
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	got, err := q.Readers(t.Context())
	require.NoError(t, err)
	require.Equal(t, []ReaderInfo{{Name: "fast", Seq: 25, Lag: 5}, {Name: "slow", Seq: 10, Lag: 20}}, places(got))
	fast = q.Reader("fast")
	require.NoError(t, fast.Trim(t.Context(), at(30)))
	require.NoError(t, fast.Trim(t.Context(), at(20)), "never moves back")
	fill(t, q, 1, 100)
	eventually(t, q, "stored", func(s Stats) bool { return s.Readers[0].Seq == 30 })
	read(t, q.Reader("slow"), 11, 31)

	require.NoError(t, q.Forget(t.Context(), "slow"))
	eventually(t, q, "trimmed after Forget", func(s Stats) bool { return s.First == 31 })
	require.ErrorContains(t, q.Forget(t.Context(), "slow"), `"slow": there is none`)
	read(t, fast, 31, 31)
}

func TestReaderThatOpensFurtherBackHoldsFromThere(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 20, 100)
	r, other := q.Reader("r"), q.Reader("other")
	read(t, other, 1, 1)
	require.NoError(t, r.Trim(t.Context(), at(15)))
	read(t, r, 6, 20) // its target was put back
	require.NoError(t, other.Trim(t.Context(), at(20)))
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First == 6 })
	read(t, r, 6, 20)
}

func TestOpenDoesNotMoveTheReaderForward(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 20, 100)
	read(t, q, 1, 20)
	read(t, q, 20, 20)
	require.Equal(t, []ReaderInfo{{Name: "default", Seq: 0, Lag: 20}}, places(q.Stats().Readers))
}

func TestTrimOfAnUnknownReaderRegistersIt(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 5, 100)
	require.NoError(t, q.Trim(t.Context(), dfs.Checkpoint{}))
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	require.Equal(t, []ReaderInfo{{Name: "default", Seq: 0, Lag: 5}}, places(q.Stats().Readers))
	require.ErrorIs(t, q.Trim(t.Context(), at(6)), dfs.ErrGap)
	require.ErrorContains(t, q.Reader("").Trim(t.Context(), at(1)), "no name")
}

func TestReaderIsToldWhyItCannotGoOn(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 10, 100)
	parts := txs(11, 4, 100)
	parts[0].More, parts[1].More, parts[2].More = true, true, true
	apply(t, q, parts[:2]...)
	apply(t, q, parts[2:]...)
	apply(t, q, txs(15, 5, 100)...)
	read(t, q, 1, 19)

	open := func(from dfs.Checkpoint) error {
		s, err := q.Open(t.Context(), from)
		if err == nil {
			s.Close()
		}
		return err
	}
	for _, seq := range []uint64{11, 12, 13} {
		require.ErrorIs(t, open(at(seq)), dfs.ErrGap)
		require.ErrorContains(t, open(at(seq)), "part of a larger one")
	}
	require.ErrorContains(t, open(at(20)), "the reader is ahead of this queue")
	for seq := range uint64(20) {
		if seq < 11 || seq > 13 {
			require.NoError(t, open(at(seq)))
			require.NoError(t, open(dfs.Checkpoint{Seq: seq}))
		}
		if seq > 0 && (seq < 11 || seq > 13) {
			var mismatch *MismatchError
			err := open(dfs.Checkpoint{Seq: seq, Pos: "elsewhere"})
			require.ErrorAs(t, err, &mismatch)
			require.Equal(t, MismatchError{q.path, seq, at(seq).Pos, "elsewhere"}, *mismatch)
			require.ErrorContains(t, err, "belongs to another pipeline or target")
			require.ErrorContains(t, err, "if the file is an older copy of the right one, remove it")
		}
	}

	// The position before the oldest transaction is still known.
	require.NoError(t, q.Trim(t.Context(), at(14)))
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First == 15 })
	require.NoError(t, open(at(14)))
	var mismatch *MismatchError
	require.ErrorAs(t, open(dfs.Checkpoint{Seq: 14, Pos: "elsewhere"}), &mismatch)
	require.ErrorIs(t, open(at(9)), dfs.ErrGap)
	require.ErrorContains(t, open(at(9)), "the oldest that queue "+q.path+" still holds is 15")

	// To remove the file would be bad advice: reading would begin anew.
	err := open(dfs.Checkpoint{})
	require.ErrorIs(t, err, dfs.ErrGap)
	require.ErrorContains(t, err, fmt.Sprintf("write its checkpoint back (number 14, position %q)", at(14).Pos))
}

// A large transaction is deleted in more than one step. Between them nobody can
// start in its middle.
func TestTrimOfALargeTransaction(t *testing.T) {
	q := newQueue(t, nil)
	parts := txs(1, 200, 1000)
	for i, p := range parts[:199] {
		p.More = true
		apply(t, q, parts[i])
	}
	apply(t, q, append(parts[199:], txs(201, 6, 100)...)...) // the end shares its block
	apply(t, q, txs(207, 3, 100)...)
	read(t, q, 1, 209)
	require.NoError(t, q.Trim(t.Context(), at(203)))
	// Three times 64 parts, and no end among the seven that are left.
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First == 193 })
	for _, seq := range []uint64{0, 100, 192, 193, 199} {
		_, err := q.Open(t.Context(), at(seq))
		require.ErrorIs(t, err, dfs.ErrGap, seq)
	}
	read(t, q, 204, 209)
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	require.EqualValues(t, 193, q.Stats().First)
	_, err := q.Open(t.Context(), at(192))
	require.ErrorIs(t, err, dfs.ErrGap)
	read(t, q, 204, 209)
	require.NoError(t, q.Trim(t.Context(), at(209)))
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First == 210 && s.Blocks == 0 && s.Bytes == 0 })
	read(t, q, 210, 209)
}

func TestKeepHoldsTheNewestBytes(t *testing.T) {
	q := newQueue(t, &Options{Keep: 10_500})
	fill(t, q, 100, 900) // a block takes some 1013
	read(t, q, 1, 100)
	require.NoError(t, q.Trim(t.Context(), at(90)))
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First > 1 })
	eventually(t, q, "all that may go is gone", func(s Stats) bool { return s.First == 81 })
	require.NoError(t, q.Close())
	q = opened(t, q.path, &Options{Keep: 5_500})
	eventually(t, q, "less is kept after a restart", func(s Stats) bool { return s.First == 86 })
	read(t, q, 86, 100)
}

func TestKeepForHoldsWhatIsYoung(t *testing.T) {
	q := newQueue(t, &Options{KeepFor: time.Hour})
	fill(t, q, 10, 100)
	require.NoError(t, q.Trim(t.Context(), at(10)))
	fill(t, q, 1, 100)
	eventually(t, q, "the offset is stored", func(Stats) bool { return !q.behind() })
	require.EqualValues(t, 1, q.Stats().First)
	require.NoError(t, q.Close())

	// Nobody calls anything: time alone lets them go.
	q = opened(t, q.path, &Options{KeepFor: 200 * time.Millisecond})
	eventually(t, q, "it is old", func(s Stats) bool { return s.First == 11 })
	read(t, q, 11, 11)
}

func TestResetMovesAllReaders(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 10, 100)
	a, err := q.Reader("a").Open(t.Context(), at(3))
	require.NoError(t, err)
	b, err := q.Reader("b").Open(t.Context(), at(10))
	require.NoError(t, err)
	require.NoError(t, q.Reset(t.Context(), at(20)))
	_, err = a.Next(t.Context(), make([]*dfs.Transaction, 5))
	require.ErrorIs(t, err, dfs.ErrGap)
	_, err = b.Next(t.Context(), make([]*dfs.Transaction, 5))
	require.ErrorIs(t, err, dfs.ErrGap)
	require.Equal(t, []ReaderInfo{{Name: "a", Seq: 20, Lag: 0}, {Name: "b", Seq: 20, Lag: 0}}, places(q.Stats().Readers))

	// Back to before where a stream stands, and on past it with other numbers
	// of blocks.
	s, err := q.Open(t.Context(), at(20))
	require.NoError(t, err)
	require.NoError(t, q.Reset(t.Context(), at(15)))
	fill(t, q, 20, 100)
	_, err = s.Next(t.Context(), make([]*dfs.Transaction, 5))
	require.ErrorIs(t, err, dfs.ErrGap)
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	require.Equal(t, []ReaderInfo{{Name: "a", Seq: 15, Lag: 20}, {Name: "b", Seq: 15, Lag: 20}, {Name: "default", Seq: 15, Lag: 20}}, places(q.Stats().Readers))
	read(t, q, 16, 35)
}

func TestOpenedStreamEndsWithTheQueue(t *testing.T) {
	q, err := Open(filepath.Join(t.TempDir(), "queue"), nil)
	require.NoError(t, err)
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	done := make(chan error)
	go func() {
		_, err := s.Next(t.Context(), make([]*dfs.Transaction, 5))
		done <- err
	}()
	require.NoError(t, q.Close())
	require.ErrorIs(t, <-done, ErrClosed)
	require.NoError(t, q.Close(), "twice")

	ctx := t.Context()
	_, err = s.Next(ctx, make([]*dfs.Transaction, 5))
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, q.Apply(ctx, txs(1, 1, 9)), ErrClosed)
	_, err = q.Checkpoint(ctx)
	require.ErrorIs(t, err, ErrClosed)
	_, err = q.Open(ctx, dfs.Checkpoint{})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, q.Trim(ctx, at(0)), ErrClosed)
	require.ErrorIs(t, q.Reset(ctx, at(0)), ErrClosed)
	require.ErrorIs(t, q.Forget(ctx, "default"), ErrClosed)
	_, err = q.Readers(ctx)
	require.ErrorIs(t, err, ErrClosed)
	require.EqualValues(t, 0, q.Stats().Last)
}

// The end of a context and of the queue show as what they are, however SQLite
// and database/sql put it.
func TestReadingEndsByName(t *testing.T) {
	w := newQueue(t, nil)
	fill(t, w, 3, 100)
	q, err := Open(w.path, &Options{ReadOnly: true})
	require.NoError(t, err)
	all := map[string]func(context.Context) error{
		"Open":       func(ctx context.Context) error { _, err := q.Open(ctx, at(1)); return err },
		"Checkpoint": func(ctx context.Context) error { _, err := q.Checkpoint(ctx); return err },
		"Readers":    func(ctx context.Context) error { _, err := q.Readers(ctx); return err },
		"refresh":    q.refresh,
		"find":       func(ctx context.Context) error { _, err := q.find(ctx, "a", at(1)); return err },
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, do := range all {
		require.Equal(t, context.Canceled, do(ended), name)
		// It ends after each of some moments, at whatever statement that is.
		for d := time.Microsecond; ; d += d / 4 {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			err := do(ctx)
			cancel()
			if err == nil {
				break
			}
			require.Equal(t, context.DeadlineExceeded, err, name)
		}
	}
	require.NoError(t, q.Close())
	for name, do := range all {
		require.Equal(t, ErrClosed, do(t.Context()), name)
	}
}

// places leaves out how much waits for readers.
func places(list []ReaderInfo) []ReaderInfo {
	for i := range list {
		list[i].Bytes = 0
	}
	return list
}
