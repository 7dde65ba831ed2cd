package relmgr

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/stretchr/testify/require"
)

func TestBitsAreReadAsTheyWereWritten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, span := range []int32{1, 7, 8, 63, 64, 65, 100, 512, 1023, 1024} {
		for _, share := range []float64{0, 0.1, 0.9, 1} {
			var b bits
			want := make([]bool, span)
			for _, i := range r.Perm(int(span)) {
				if r.Float64() < share {
					require.True(t, b.set(int64(i), span))
					require.False(t, b.set(int64(i), span))
					want[i] = true
				}
			}
			list := b.bytes(span)
			require.Len(t, list, int(span+7)/8)
			var again bits
			again.read(append(list, 0xff), span) // what is behind the end says nothing
			for i, set := range want {
				require.Equal(t, set, b.has(int64(i), span), "%d of %d", i, span)
				require.Equal(t, set, again.has(int64(i), span), "%d of %d", i, span)
			}
			require.Equal(t, list, again.bytes(span))
			require.Equal(t, b.n, again.n)
		}
	}
}

// What leaves memory, in whatever form it was there, is found again as it was.
func TestWhatLeavesMemoryIsFoundAgain(t *testing.T) {
	users, orders := dfstest.Table(t, "s.users (id bigint, key id)"), dfstest.Table(t, "s.orders (id bigint, user bigint null, key id)")
	opts := &Options{Tables: []*dfs.Table{users, orders}, CacheBytes: 1 << 20, ForeignKeys: []ForeignKey{{
		Name: "u", Schema: "s", Table: "orders", Columns: []string{"user"}, ParentSchema: "s", Parent: "users", ParentColumns: []string{"id"}}}}
	m, err := Open(filepath.Join(t.TempDir(), "map"), opts)
	require.NoError(t, err)
	defer m.Close()
	r := rand.New(rand.NewPCG(3, 4))
	known := make(map[int64]int64)
	taken := make(map[int64]bool)
	next := int64(-3000)
	for seq := range uint64(60) {
		tx := dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq + 1}}
		for range 500 {
			id, user := next, max(-3000, next-r.Int64N(5000))
			if r.IntN(10) == 0 {
				id, user = r.Int64N(1<<40), r.Int64N(1<<40)
			} else {
				next++
			}
			tx.Changes = append(tx.Changes, dfstest.Insert(t, users, id), dfstest.Insert(t, orders, id, user))
		}
		var olds []int64
		for _, c := range tx.Changes {
			olds = append(olds, c.After[len(c.After)-1].Int())
		}
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
		require.NoError(t, err)
		for i, c := range out[0].Changes {
			id := c.After[len(c.After)-1].Int()
			if was, ok := known[olds[i]]; ok {
				require.Equal(t, was, id, "key %d", olds[i])
			} else {
				require.False(t, taken[id], "the id %d was given twice", id)
				known[olds[i]], taken[id] = id, true
			}
		}
	}
	require.NotEmpty(t, append(m.spaces[0].whole.list, m.spaces[0].oldWhole.list...))
	for old, id := range known {
		new, ok, err := m.New(t.Context(), "s.users", old)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, id, new[0].Int())
	}
}

// A file of the version before gets what it lacks.
func TestAFileOfVersion1IsRead(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, up bigint null, key id)")
	opts := &Options{Tables: []*dfs.Table{table}, References: []Reference{{Table: "s.t", Columns: []string{"up"}, Parent: "s.t"}}}
	path := filepath.Join(t.TempDir(), "map")
	m, err := Open(path, opts)
	require.NoError(t, err)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, table, 1, 7)}})
	require.NoError(t, err)
	require.NoError(t, m.Close())
	db, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = db.ExecContext(context.Background(), "DROP INDEX run_promised; DROP INDEX entry_promised; PRAGMA user_version = 1; "+
		"ALTER TABLE space DROP COLUMN sum; ALTER TABLE run DROP COLUMN sum; ALTER TABLE entry DROP COLUMN sum; ALTER TABLE seen DROP COLUMN sum; ALTER TABLE learned DROP COLUMN sum")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	for range 2 {
		m, err = Open(path, opts)
		require.NoError(t, err)
		list, err := m.Promises(t.Context(), 10)
		require.NoError(t, err)
		require.Equal(t, []Promise{{"s.t", "id", "7", "2"}}, list)
		require.NoError(t, m.Close())
	}
}
