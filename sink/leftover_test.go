package sink_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
)

func pairTable() *dfs.Table {
	text := func(name string) dfs.Column {
		return dfs.Column{Name: name, Type: "varchar(20)", Charset: "utf8mb4", Collation: "utf8mb4_bin"}
	}
	return &dfs.Table{Schema: "source", Name: "pairs", Key: []int{0, 1}, Columns: []dfs.Column{text("a"), text("b"), text("v")}}
}

func pairRow(a, b, v string) dfs.Row {
	return dfs.Row{dfs.StringValue(a), dfs.StringValue(b), dfs.StringValue(v)}
}

// Transactions are taken back on PostgreSQL and SQLite: all of it, or nothing where the
// target has moved on. A key is one row's, whatever commas it has.
func TestUndoOnOtherDatabases(t *testing.T) {
	table := pairTable()
	change := func(op dfs.Op, before, after dfs.Row) dfs.Change {
		return dfs.Change{Op: op, Table: table, Before: before, After: after}
	}
	txs := []*dfs.Transaction{
		{Changes: []dfs.Change{change(dfs.Insert, nil, pairRow("x,y", "z", "1")), change(dfs.Insert, nil, pairRow("x", "y,z", "2")), change(dfs.Insert, nil, pairRow("k", "k", "3"))}},
		{Changes: []dfs.Change{change(dfs.Update, pairRow("x,y", "z", "1"), pairRow("x,y", "z", "one")), change(dfs.Update, pairRow("x", "y,z", "2"), pairRow("x", "y,z", "two")),
			change(dfs.Delete, pairRow("k", "k", "3"), nil), change(dfs.Insert, nil, pairRow("n", "n", "4"))}},
		{Changes: []dfs.Change{{Op: dfs.DDL, Query: "DROP DATABASE source", Session: &dfs.Session{Schema: "other"}}}},
		{Changes: []dfs.Change{{Op: dfs.DDL, Query: "DROP DATABASE other", Session: &dfs.Session{Schema: "other"}}}},
		{Changes: []dfs.Change{{Op: dfs.DDL, Query: "CREATE SCHEMA something", Session: &dfs.Session{Schema: "other"}}}},
	}
	for i, tx := range txs {
		tx.Checkpoint = dfs.Checkpoint{Seq: uint64(i + 1), Pos: dfs.Position(fmt.Sprint("at ", i+1))}
		tx.ID = fmt.Sprint("id ", i+1)
	}
	a, err := sink.OpenArchive(t.TempDir(), &sink.ArchiveOptions{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer a.Close()
	require.NoError(t, a.Apply(t.Context(), txs))
	seq := func(n uint64) dfs.StopPoint { return dfs.StopPoint{Seq: n} }
	take := func(from, to uint64, key string) (*sink.Undo, error) {
		return a.Undo(t.Context(), &sink.UndoOptions{From: seq(from), To: seq(to), Tables: []string{"source.pairs"}, Key: key})
	}

	_, err = take(2, 3, "")
	require.ErrorContains(t, err, "DROP DATABASE source")
	u, err := take(4, 5, "") // of another schema, and of none
	require.NoError(t, err)
	require.Zero(t, u.Rows)
	_, err = take(2, 1, "")
	require.ErrorContains(t, err, "before that")
	require.ErrorContains(t, a.Each(t.Context(), seq(3), seq(2), nil, func(*dfs.Transaction) error { return nil }), "before that")
	for key, want := range map[string]int{`x\,y,z`: 1, `x,y\,z`: 1, "x,y,z": 0, "k,k": 1} {
		u, err := take(2, 2, key)
		require.NoError(t, err)
		require.Equal(t, want, u.Rows, key)
	}

	for _, target := range alteredTargets(t) {
		t.Run(target.name, func(t *testing.T) {
			target.exec("CREATE TABLE pairs (a varchar(20), b varchar(20), v varchar(20), PRIMARY KEY (a, b))")
			k := target.open("")
			require.NoError(t, k.Apply(t.Context(), txs[:2]))
			undo := k.(interface {
				Undo(ctx context.Context, u *sink.Undo) error
				Close() error
			})
			rows := func() [][]string { return target.query("SELECT a, b, v FROM pairs ORDER BY v") }
			now := rows()
			require.Len(t, now, 3)
			u, err := take(2, 2, "")
			require.NoError(t, err)
			target.exec("UPDATE pairs SET v='later' WHERE v='two'")
			var moved *sink.UndoError
			require.ErrorAs(t, undo.Undo(t.Context(), u), &moved)
			require.Contains(t, moved.Error(), `b="y,z"`)
			target.exec("UPDATE pairs SET v='two' WHERE v='later'", "INSERT INTO pairs VALUES ('k','k','again')")
			require.ErrorAs(t, undo.Undo(t.Context(), u), &moved)
			target.exec("DELETE FROM pairs WHERE v='again'")
			require.Equal(t, now, rows())
			require.NoError(t, undo.Undo(t.Context(), u))
			require.Equal(t, [][]string{{"x,y", "z", "1"}, {"x", "y,z", "2"}, {"k", "k", "3"}}, rows())
			require.ErrorAs(t, undo.Undo(t.Context(), u), &moved)
			require.NoError(t, undo.Close())
		})
	}
}

// A file's constraint that drops rows in silence is refused before the first row.
func TestSQLiteTablesThatReplaceRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	db := openFile(t, path)
	for _, c := range []struct {
		table, bad string
	}{
		{"CREATE TABLE pairs (a TEXT, b TEXT, v TEXT UNIQUE ON CONFLICT REPLACE, PRIMARY KEY (a, b))", "ON CONFLICT REPLACE"},
		{"CREATE TABLE pairs (a TEXT, b TEXT, v TEXT NOT NULL on  conflict rollback, PRIMARY KEY (a, b))", "on  conflict rollback"},
		{"CREATE TABLE pairs (a TEXT, b TEXT, v TEXT DEFAULT 'ON CONFLICT REPLACE', PRIMARY KEY (a, b) ON CONFLICT ABORT)", ""},
	} {
		_, err := db.Exec("DROP TABLE IF EXISTS pairs; " + c.table)
		require.NoError(t, err)
		s := openSQLite(t, path, nil)
		err = s.CheckTables(t.Context(), []*dfs.Table{pairTable()})
		if c.bad == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.bad)
		}
		require.NoError(t, s.Close())
	}
}
