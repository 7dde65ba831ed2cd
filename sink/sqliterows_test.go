package sink_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

func TestSQLiteTakesNoTwoTablesForOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	db := openFile(t, path)
	_, err := db.Exec("CREATE TABLE Users (id INTEGER PRIMARY KEY)")
	require.NoError(t, err)
	one := &dfs.Table{Schema: "shop", Name: "Users", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	two := &dfs.Table{Schema: "shop", Name: "users", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	other := &dfs.Table{Schema: "crm", Name: "Users", Key: []int{0}, Columns: one.Columns}
	for _, list := range [][]*dfs.Table{{one, two}, {two, one}, {one, other}} {
		s := openSQLite(t, path, nil)
		require.ErrorContains(t, s.CheckTables(t.Context(), list), "are one table of the file")
		_, err = s.Checkpoint(t.Context())
		require.NoError(t, err)
		tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 1, Pos: "there"}}
		for i, x := range list {
			tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Insert, Table: x, After: dfs.Row{dfs.IntValue(int64(i))}})
		}
		require.ErrorContains(t, s.Apply(t.Context(), []*dfs.Transaction{tx}), "are one table of the file")
		require.NoError(t, s.Close())
	}
}

// What the source's statements may yet do to the target's tables is no fault before they
// have come, if they are to run there.
func TestSQLiteTablesMayLackWhatStatementsWillBring(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	_, err := openFile(t, path).Exec("CREATE TABLE t (id INTEGER PRIMARY KEY)")
	require.NoError(t, err)
	altered := &dfs.Table{Schema: "shop", Name: "t", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "n", Type: "int"}}}
	made := &dfs.Table{Schema: "shop", Name: "u", Key: []int{0}, Columns: altered.Columns}
	own := &dfs.Table{Schema: "shop", Name: "dfs_checkpoint", Key: []int{0}, Columns: altered.Columns}
	s := openSQLite(t, path, nil)
	err = s.CheckTables(t.Context(), []*dfs.Table{altered, made})
	require.ErrorContains(t, err, "has no column n")
	require.ErrorContains(t, err, "has no table")
	require.NoError(t, s.Close())
	s = openSQLite(t, path, &sink.SQLiteOptions{DDL: sink.PolicyApply})
	require.NoError(t, s.CheckTables(t.Context(), []*dfs.Table{altered, made}))
	require.ErrorContains(t, s.CheckTables(t.Context(), []*dfs.Table{own}), "which is the pipeline's own")
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.CheckEmpty(t.Context(), []*dfs.Table{own})) // its row is no reason to say that it is to be emptied
}

func TestSQLiteSaysWhatToDoAboutAPathThatIsNone(t *testing.T) {
	dir := t.TempDir()
	_, err := sink.OpenSQLite(t.Context(), dir, nil)
	require.ErrorContains(t, err, "is a folder: name a file in it")
	path := filepath.Join(dir, "notes.txt")
	text := strings.Repeat("This is a text. ", 100)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	_, err = sink.OpenSQLite(t.Context(), path, nil)
	require.ErrorContains(t, err, "no file of SQLite: name another path")
	left, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, text, string(left))
}

func TestSQLiteTurnsForeignKeysOffAndOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	db := openFile(t, path)
	_, err := db.Exec("CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE c (id INTEGER PRIMARY KEY, p INT REFERENCES p)")
	require.NoError(t, err)
	s := openSQLite(t, path, nil)
	defer s.Close()
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	child := &dfs.Table{Schema: "shop", Name: "c", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "p", Type: "int"}}}
	seq := uint64(0)
	apply := func(off, more bool, ids ...int64) error {
		seq++
		tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "there"}, More: more}
		for _, id := range ids {
			tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Insert, Table: child, NoForeignKeys: off, After: dfs.Row{dfs.IntValue(id), dfs.IntValue(9)}})
		}
		err := s.Apply(t.Context(), []*dfs.Transaction{tx})
		if err != nil {
			seq--
		}
		return err
	}
	var conflict *sink.ConflictError
	for i := int64(0); i < 3; i++ {
		require.NoError(t, apply(true, false, i*10))
		require.ErrorAs(t, apply(false, false, i*10+1), &conflict)
		_, err = s.Checkpoint(t.Context())
		require.NoError(t, err)
	}
	// In parts, of which the last has no rows.
	require.NoError(t, apply(true, true, 100))
	require.NoError(t, apply(true, false))
	require.NoError(t, apply(true, true))
	require.NoError(t, apply(true, true, 101))
	require.NoError(t, apply(true, false))
	require.Equal(t, uint64(5), s.Stats().Inserts, "rows of parts count too")
}

func TestSQLiteKeepsBytesAndDocuments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	db := openFile(t, path)
	_, err := db.Exec("CREATE TABLE v (id INTEGER PRIMARY KEY, b BLOB, t TEXT, j JSON)")
	require.NoError(t, err)
	s := openSQLite(t, path, nil)
	defer s.Close()
	_, err = s.Checkpoint(t.Context())
	require.NoError(t, err)
	v := &dfs.Table{Schema: "shop", Name: "v", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "b", Type: "blob"}, {Name: "t", Type: "text", Charset: "utf8mb4"}, {Name: "j", Type: "json"}}}
	apply := func(id int64, b, text, doc string) error {
		return s.Apply(t.Context(), []*dfs.Transaction{{Checkpoint: dfs.Checkpoint{Seq: uint64(id), Pos: "there"}, Changes: []dfs.Change{
			{Op: dfs.Insert, Table: v, After: dfs.Row{dfs.IntValue(id), dfs.BytesValue([]byte(b)), dfs.StringValue(text), dfs.JSONValue(doc)}}}}})
	}
	require.NoError(t, apply(1, "", "", `"1.0"`))
	require.NoError(t, apply(2, "\x00", "a\x00b\xff", `[1.0]`))
	rows, err := db.Query("SELECT typeof(b)||hex(b)||typeof(t)||hex(t)||typeof(j)||j FROM v ORDER BY id")
	require.NoError(t, err)
	defer rows.Close()
	for _, want := range []string{`blobtexttext"1.0"`, `blob00text610062FFtext[1.0]`} {
		var have string
		require.True(t, rows.Next())
		require.NoError(t, rows.Scan(&have))
		require.Equal(t, want, have)
	}
	// The type JSON is NUMERIC to SQLite, which would make 12345678901234567000 of it.
	var unfit *sink.UnfitError
	require.ErrorAs(t, apply(3, "", "", "12345678901234567890"), &unfit)
}

func TestSQLiteNamesNoIndexLikeATable(t *testing.T) {
	s := openSQLite(t, filepath.Join(t.TempDir(), "target.db"), nil)
	defer s.Close()
	var list []sink.Definition
	for _, name := range []string{"orders", "orders_1"} {
		list = append(list, sink.Definition{
			Table: &dfs.Table{Schema: "shop", Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "n", Type: "int"}}},
			SQL:   "CREATE TABLE `" + name + "` (\n  `id` int NOT NULL,\n  `n` int NOT NULL,\n  PRIMARY KEY (`id`),\n  KEY `n` (`n`)\n) ENGINE=InnoDB",
		})
	}
	made, notes, err := s.CreateTables(t.Context(), list, false)
	require.NoError(t, err)
	require.Empty(t, notes)
	require.Equal(t, []string{"shop.orders", "shop.orders_1"}, made)
}
