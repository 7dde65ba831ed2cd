package relmgr_test

import (
	"iter"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

// pairsOf gives pairs of numbers, in a row that is used again.
func pairsOf(list ...[2]int64) iter.Seq2[dfs.Row, dfs.Value] {
	return func(yield func(dfs.Row, dfs.Value) bool) {
		row := make(dfs.Row, 1)
		for _, p := range list {
			row[0] = dfs.IntValue(p[0])
			if !yield(row, dfs.IntValue(p[1])) {
				return
			}
		}
	}
}

func consecutive(n, old, new int64) (list [][2]int64) {
	for i := range n {
		list = append(list, [2]int64{old + i, new + i})
	}
	return list
}

func TestImportedIDsAreThoseThatRowsGet(t *testing.T) {
	users := dfstest.Table(t, "s.users (id bigint, key id)")
	orders := dfstest.Table(t, "s.orders (id bigint, user bigint null, key id)")
	path := filepath.Join(t.TempDir(), "map")
	opts := &relmgr.Options{Tables: []*dfs.Table{users, orders}, ForeignKeys: []relmgr.ForeignKey{key("s.orders.user s.users.id")}}
	m, err := relmgr.Open(path, opts)
	require.NoError(t, err)
	list := append(consecutive(3000, -5, 10_000), [2]int64{9000, 7}, [2]int64{5000, 20_000}, [2]int64{5001, 20_001})
	n, err := m.Import(t.Context(), "s.users", "", pairsOf(list...))
	require.NoError(t, err)
	require.Equal(t, int64(3003), n)
	n, err = m.Import(t.Context(), "S.Users", "ID", pairsOf(list...)) // again
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = m.Import(t.Context(), "s.users", "", pairsOf(append(consecutive(4, 4998, 19_998), [2]int64{9001, 8})...)) // some of them again
	require.NoError(t, err)
	require.Equal(t, int64(3), n)
	require.Equal(t, []relmgr.SpaceStats{{Table: "s.users", Column: "id", Keys: 3006}}, m.Stats()[:1])

	for want, pairs := range map[string][][2]int64{
		"import of ids of s.users.id: the key 0 has the new id 10005 already, and was given with 1":                                   {{0, 1}},
		"import of ids of s.users.id: the id 10005 was given for another key, and is that of the key 0, or set aside for it":          {{20_000, 10_005}},
		"import of ids of s.users.id: the id 20001 was given for another key, and is that of the key 5001, or set aside for it":       {{30_000, 20_001}, {30_001, 20_002}},
		"import of ids of s.users.id: the key 1 has the id 0, and ids of this column are whole numbers from 1 to 9223372036854775806": {{1, 0}},
		"import of ids of s.users.id: the id 77 was given for another key, and is that of the key 40000, or set aside for it":         {{40_000, 77}, {41_000, 77}},
	} {
		n, err := m.Import(t.Context(), "s.users", "", pairsOf(pairs...))
		require.EqualError(t, err, want)
		require.Zero(t, n)
	}
	_, err = m.Import(t.Context(), "s.users", "nr", pairsOf())
	require.EqualError(t, err, "import of ids of s.users: its column nr gets no new ids of its own")
	_, err = m.Import(t.Context(), "s.no", "", pairsOf())
	require.EqualError(t, err, "import of ids of s.no: the table is not known; give it in Options.Tables")

	// Rows go on with these ids, and what is new gets others.
	tx := dfs.Transaction{Changes: []dfs.Change{
		dfstest.Insert(t, orders, 1, -5), dfstest.Insert(t, orders, 2, 2994), dfstest.Insert(t, orders, 3, 9000), dfstest.Insert(t, orders, 4, 5001),
		dfstest.Insert(t, users, 2995), dfstest.Insert(t, users, 77_777),
	}}
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, tx)
	require.NoError(t, err)
	var got []int64
	for i, c := range out[0].Changes {
		got = append(got, c.After[min(1, len(c.After)-1)].Int())
		if i < 4 {
			require.Equal(t, int64(i+1), c.After[0].Int())
		}
	}
	require.Equal(t, []int64{10_000, 12_999, 7, 20_001}, got[:4])
	require.Greater(t, got[4], int64(20_001))
	require.Greater(t, got[5], int64(20_001))
	require.NotEqual(t, got[4], got[5])
	promised, err := m.Promises(t.Context(), 10)
	require.NoError(t, err)
	require.Empty(t, promised, "rows that were imported have come")
	require.NoError(t, m.Close())
}

func TestIDsOfTextAndSeveralColumnsAreImported(t *testing.T) {
	users := dfstest.Table(t, "s.users (code varchar(9), key code)")
	lines := dfstest.Table(t, "s.lines (year int, id int, key (year, id))")
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{users, lines}, Policies: []relmgr.Policy{
		{Table: "s.users", IDs: relmgr.UUID, Type: "char(36)"}, {Table: "s.lines", Column: "id"}}})
	require.NoError(t, err)
	defer m.Close()
	give := func(pairs ...any) iter.Seq2[dfs.Row, dfs.Value] {
		return func(yield func(dfs.Row, dfs.Value) bool) {
			for i := 0; i < len(pairs); i += 2 {
				if !yield(pairs[i].(dfs.Row), pairs[i+1].(dfs.Value)) {
					return
				}
			}
		}
	}
	text, num := dfs.StringValue, dfs.IntValue
	n, err := m.Import(t.Context(), "s.users", "", give(dfs.Row{text("a")}, text("u1"), dfs.Row{text("b")}, text("u2"), dfs.Row{text("a")}, text("u1")))
	require.NoError(t, err)
	require.Equal(t, int64(2), n)
	_, err = m.Import(t.Context(), "s.users", "", give(dfs.Row{text("c")}, text("u2")))
	require.EqualError(t, err, "import of ids of s.users.code: the key c was given the id u2, which is that of another key")
	_, err = m.Import(t.Context(), "s.users", "", give(dfs.Row{text("a")}, text("u3")))
	require.EqualError(t, err, "import of ids of s.users.code: the key a has the new id u1 already, and was given with u3")
	_, err = m.Import(t.Context(), "s.users", "", give(dfs.Row{text("d")}, num(1)))
	require.EqualError(t, err, "import of ids of s.users.code: the key d has the id 1, and the column is a char(36)")
	n, err = m.Import(t.Context(), "s.lines", "id", give(dfs.Row{num(2026), num(1)}, num(500)))
	require.NoError(t, err)
	require.Equal(t, int64(1), n)
	_, err = m.Import(t.Context(), "s.lines", "id", give(dfs.Row{num(1)}, num(500)))
	require.EqualError(t, err, "import of ids of s.lines.id: a key with 1 values was given, and keys have the columns year,id")
	new, ok, err := m.New(t.Context(), "s.lines", 2026, 1)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, dfs.Row{num(2026), num(500)}, new)
	out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{
		dfstest.Insert(t, users, "b"), dfstest.Insert(t, lines, 2026, 1), dfstest.Insert(t, lines, 2026, 2)}})
	require.NoError(t, err)
	require.Equal(t, "u2", out[0].Changes[0].After[0].Text())
	require.Equal(t, int64(500), out[0].Changes[1].After[1].Int())
	require.Greater(t, out[0].Changes[2].After[1].Int(), int64(500))
}
