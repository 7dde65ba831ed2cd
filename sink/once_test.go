package sink

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

func TestARowIsDeletedOnceInATransaction(t *testing.T) {
	keyed := &dfs.Table{Schema: "s", Name: "t", Key: []int{0}, Columns: []dfs.Column{{Name: "id"}, {Name: "v"}}}
	plain := &dfs.Table{Schema: "s", Name: "p", Columns: keyed.Columns}
	row := func(id, v int64) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.IntValue(v)} }
	change := func(op dfs.Op, tab *dfs.Table, before, after dfs.Row) dfs.Change {
		return dfs.Change{Op: op, Table: tab, Before: before, After: after, NoForeignKeys: true}
	}
	d := func(tab *dfs.Table, r dfs.Row) dfs.Change { return change(dfs.Delete, tab, r, nil) }
	count := func(txs ...*dfs.Transaction) int { return len(once(items(txs))) }
	tx := func(seq uint64, c ...dfs.Change) *dfs.Transaction {
		return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq}, Changes: c}
	}
	require.Equal(t, 2, count(tx(1, d(keyed, row(1, 1)), d(keyed, row(2, 1)), d(keyed, row(1, 1)))), "a cycle")
	require.Equal(t, 2, count(tx(1, d(plain, row(1, 1)), d(plain, row(1, 1)))), "rows without a key may be equal")
	require.Equal(t, 2, count(tx(1, d(keyed, row(1, 1))), tx(2, d(keyed, row(1, 1)))), "a conflict is not hidden")
	require.Equal(t, 3, count(tx(1, d(keyed, row(1, 1)), change(dfs.Insert, keyed, nil, row(1, 2)), d(keyed, row(1, 2)))), "inserted again")
	require.Equal(t, 3, count(tx(1, d(keyed, row(1, 1)), change(dfs.Update, keyed, row(5, 1), row(1, 1)), d(keyed, row(1, 1)))), "moved there")
	checked := change(dfs.Insert, keyed, nil, row(1, 2))
	checked.NoForeignKeys = false
	require.Equal(t, 3, count(tx(1, d(keyed, row(1, 1)), checked, d(keyed, row(1, 2)))), "inserted with checks")
	two := d(keyed, row(1, 1))
	two.NoForeignKeys = false
	require.Equal(t, 2, count(tx(1, two, two)), "a log that does not act upon foreign keys has no such deletes")

	wide := &dfs.Table{Schema: "s", Name: "w", Key: []int{0, 1}, Columns: keyed.Columns}
	sparse := func(a, b dfs.Value) dfs.Change { return change(dfs.Update, wide, row(1, 3), dfs.Row{a, b}) }
	absent := dfs.AbsentValue()
	require.Equal(t, 3, count(tx(1, d(wide, row(1, 2)), sparse(absent, dfs.IntValue(2)), d(wide, row(1, 2)))), "moved there, logged without what is as it was")
	require.Equal(t, 2, count(tx(1, d(wide, row(1, 2)), sparse(absent, dfs.IntValue(4)), d(wide, row(1, 2)))), "moved elsewhere")
	unsure := change(dfs.Update, wide, dfs.Row{dfs.IntValue(1), absent}, dfs.Row{dfs.IntValue(1), absent})
	require.Equal(t, 3, count(tx(1, d(wide, row(1, 2)), unsure, d(wide, row(1, 2)))), "what was updated is not known")

	first, mid, cycle := tx(1, d(keyed, row(1, 1))), tx(3, d(keyed, row(1, 1)), d(keyed, row(2, 1))), func(seq uint64) *dfs.Transaction {
		return tx(seq, d(keyed, row(1, 1)), d(keyed, row(2, 1)), d(keyed, row(1, 1)), change(dfs.Insert, keyed, nil, row(9, 9)))
	}
	run := []*dfs.Transaction{first, cycle(2), mid, cycle(4), tx(5)}
	var left []item
	for i, it := range items(run) {
		if i != 3 && i != 9 {
			left = append(left, it)
		}
	}
	require.Equal(t, left, once(items(run)), "all else stays, in its order")
	require.Empty(t, once(nil))

	part := d(keyed, row(1, 1))
	part.Part = true
	require.Equal(t, 2, count(tx(1, part, part)), "two parts of a row")
}
