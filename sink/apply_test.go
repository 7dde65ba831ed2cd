package sink

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Of a long run the first changes are with the server while the next are merged. It ends as it
// would otherwise: a table that is met late is looked at, an error names its
// transaction and leaves those before it applied, and what merging makes less of goes as less.
func TestALongRunIsMergedInPieces(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	for _, name := range []string{"a", "b"} {
		srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (id BIGINT PRIMARY KEY, v INT NOT NULL)", schema, name))
	}
	table := func(name string) *dfs.Table {
		return &dfs.Table{Schema: schema, Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "bigint"}, {Name: "v", Type: "int"}}}
	}
	a, b, none := table("a"), table("b"), table("none")
	row := func(id, v int) dfs.Row { return dfs.Row{dfs.IntValue(int64(id)), dfs.IntValue(int64(v))} }
	m := openSink(t, srv, &MySQLOptions{Name: schema, Writers: -1})
	merged := func() (n int) {
		for i := range m.merger.groups {
			n += len(m.merger.groups[i].rows)
		}
		return n
	}
	const n = 2*mostMerged + 500
	inserts := func(seq uint64, to *dfs.Table, from int) []*dfs.Transaction {
		txs := make([]*dfs.Transaction, n)
		for i := range txs {
			txs[i] = txn(seq+uint64(i), ins(to, row(from+i, 0)))
		}
		return txs
	}
	count := func(name string) string {
		return rows(t, srv, "SELECT COUNT(*), COUNT(DISTINCT id), COALESCE(SUM(v), 0) FROM "+schema+"."+name)[0]
	}

	batch := inserts(1, a, 0)
	batch[n-100].Changes[0].Table = b
	require.NoError(t, m.Apply(t.Context(), batch))
	require.Less(t, merged(), mostMerged) // the last piece of three
	require.Equal(t, fmt.Sprintf("%d|%d|0", n-1, n-1), count("a"))
	require.Equal(t, "1|1|0", count("b"))

	// The same few rows over and over: all is merged before any goes.
	batch = batch[:0]
	state := make([]int, 10)
	for i := range n {
		k := i % 10
		batch = append(batch, txn(n+1+uint64(i), upd(a, row(k, state[k]), row(k, state[k]+1))))
		state[k]++
	}
	require.NoError(t, m.Apply(t.Context(), batch))
	require.Equal(t, 10, merged())
	require.Equal(t, fmt.Sprintf("%d|%d|%d", n-1, n-1, n), count("a"))

	// What is wrong in the last piece: a table that is missing, then a row that is there.
	for i, wrong := range []dfs.Change{ins(none, row(1, 1)), ins(a, row(5, 1))} {
		at, err := m.Checkpoint(t.Context())
		require.NoError(t, err)
		from := 100_000 * (i + 1)
		batch := inserts(at.Seq+1, a, from)
		batch[n-50].Changes[0] = wrong
		require.ErrorContains(t, m.Apply(t.Context(), batch), batch[n-50].ID)
		after, err := m.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, at.Seq+n-50, after.Seq)
		require.Equal(t, []string{fmt.Sprint(n - 50)}, rows(t, srv, fmt.Sprintf("SELECT COUNT(*) FROM %s.a WHERE id >= %d", schema, from)))
	}
}
