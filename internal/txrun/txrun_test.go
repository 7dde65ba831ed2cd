package txrun

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func sample(n int) []dfs.Transaction {
	start := time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)
	txs := make([]dfs.Transaction, n)
	for i := range txs {
		tx := &txs[i]
		tx.Seq = uint64(100 + i)
		tx.Pos = dfs.Position(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d,ffff:1-5", 77+i))
		tx.ID = fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", 77+i)
		tx.Committed = start.Add(time.Duration(i%5-2) * time.Second)
		switch i % 6 {
		case 0:
			tx.Encoded = []byte(fmt.Sprint("row events ", i))
		case 1:
			tx.Changes = []dfs.Change{{Op: dfs.Insert, After: dfs.Row{dfs.IntValue(int64(i))}}}
		case 2:
			tx.Encoded, tx.ID, tx.Pos = []byte{}, "", ""
		case 3:
			tx.Committed, tx.Snapshot = time.Time{}, true
		case 4:
			tx.More, tx.Encoded = true, []byte{0}
		case 5:
			tx.Committed = time.Unix(-5, 0).UTC()
		}
	}
	return txs
}

func TestEveryFieldIsKept(t *testing.T) {
	for _, n := range []int{1, 2, 6, 1000} {
		want := sample(n)
		var e Encoder
		for i := range want {
			require.NoError(t, e.Add(&want[i]))
		}
		c := Read(e.Raw, want[0].Seq, want[n-1].Seq)
		require.Equal(t, n, c.Left())
		for i := range want {
			var got dfs.Transaction
			require.NoError(t, c.Next(&got))
			require.Equal(t, want[i], got)
		}
		require.Zero(t, c.Left())
	}
}

func TestEncodedAndChangesTogetherAreRefused(t *testing.T) {
	var e Encoder
	err := e.Add(&dfs.Transaction{Encoded: []byte{1}, Changes: make([]dfs.Change, 1)})
	require.ErrorContains(t, err, "both Encoded and Changes")
}

func TestStringsThatShareHeadAndTail(t *testing.T) {
	long := fmt.Sprintf("%0100d", 7)
	for _, pair := range [][2]string{
		{"", ""}, {"", "a"}, {"a", ""}, {"a", "a"}, {"aa", "a"}, {"a", "aa"}, {"aba", "aa"}, {"aa", "aba"},
		{"abc", "axc"}, {long, long + "1"}, {long + "1", long}, {"1" + long, long}, {long, long[:50] + "x" + long[50:]},
	} {
		var text slab
		d := fields{b: appendString(nil, pair[0], pair[1])}
		require.Equal(t, pair[1], d.string(pair[0], &text))
		require.False(t, d.bad)
		require.Empty(t, d.b)
	}
}

// FuzzCursor feeds bytes whose checksum would hold: nothing may panic, and what
// is accepted must be within the input.
func FuzzCursor(f *testing.F) {
	var e Encoder
	for _, tx := range sample(6) {
		require.NoError(f, e.Add(&tx))
	}
	f.Add(e.Raw, uint8(6))
	f.Add([]byte{flagEncoded, 0, 0, 0, 0, 0, 0, 200, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, n uint8) {
		c := Read(raw, 1, uint64(n))
		for c.Left() > 0 {
			var tx dfs.Transaction
			if c.Next(&tx) != nil {
				return
			}
			require.LessOrEqual(t, len(tx.Encoded), len(raw))
		}
	})
}

// What is told of the last transaction does not keep the very large row in memory that it had.
func TestNamesAreNoPiecesOfALargeRun(t *testing.T) {
	var e Encoder
	require.NoError(t, e.Add(&dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 1, Pos: "place"}, ID: "name", Encoded: make([]byte, 2<<20)}))
	run := weak.Make(&e.Raw[0])
	var tx dfs.Transaction
	require.NoError(t, Read(e.Raw, 1, 1).Next(&tx))
	require.Equal(t, dfs.Position("place"), tx.Pos)
	require.Equal(t, "name", tx.ID)
	e, tx.Encoded = Encoder{}, nil
	runtime.GC()
	require.Nil(t, run.Value())
	runtime.KeepAlive(tx)
}
