package queue

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// Once a backlog has been read, the file becomes small again, also while
// transactions keep coming, and no Apply waits for that.
func TestSpaceIsGivenBack(t *testing.T) {
	q := newQueue(t, nil)
	_, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	size := func() int64 {
		info, err := os.Stat(q.path)
		require.NoError(t, err)
		return info.Size()
	}
	const n = 8000
	for seq := uint64(1); seq <= n; seq += 500 {
		apply(t, q, txs(seq, 500, 10_000)...)
	}
	require.Greater(t, size(), int64(60<<20))
	require.NoError(t, q.Trim(t.Context(), at(n)))
	seq := uint64(n)
	eventually(t, q, "the file shrinks", func(s Stats) bool {
		seq++
		apply(t, q, tx(seq, 1000))
		require.NoError(t, q.Trim(t.Context(), at(seq))) // a reader in step
		return size() < 24<<20
	})
	eventually(t, q, "the log shrinks too", func(s Stats) bool { return s.FileBytes < 60<<20 })
}

// A reader that never leaves its snapshot keeps the log from being moved. Once
// it has gone, the log becomes small again.
func TestLogShrinksWhenALongReaderLeaves(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 1, 100)
	tx, err := q.readDB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRow("SELECT count(*) FROM block").Scan(&n))
	log := func() int64 {
		info, err := os.Stat(q.path + "-wal")
		require.NoError(t, err)
		return info.Size()
	}
	seq := uint64(2)
	for ; log() < 80<<20; seq += 500 {
		apply(t, q, txs(seq, 500, 10_000)...)
	}
	require.NoError(t, tx.Rollback())
	for ; log() > 40<<20; seq += 500 {
		require.Less(t, seq, uint64(40_000), "it never shrinks")
		apply(t, q, txs(seq, 500, 10_000)...)
	}
}

// What a reader is about to leave behind is not moved about in the file first.
func TestFreePagesOfABacklogStayUntilMostOfItIsRead(t *testing.T) {
	for _, c := range []struct {
		free, pages, keep int64
		begun, want       bool
	}{
		{0, 10_000, 1024, false, false},
		{2048, 10_000, 1024, false, false}, // as a reader in step leaves them
		{5000, 10_000, 1024, false, false},
		{7499, 10_000, 1024, false, false},
		{7500, 10_000, 1024, false, true},
		{7000, 9_500, 1024, true, true},
		{1025, 3_525, 1024, true, true},
		{1024, 3_524, 1024, true, false},
		{2049, 2_060, 1024, false, true}, // hardly anything waits
		{2048, 2_060, 1024, false, false},
	} {
		require.Equal(t, c.want, shrinks(c.free, c.pages, c.keep, c.begun), "%+v", c)
	}
}
