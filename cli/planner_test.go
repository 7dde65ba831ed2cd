package cli

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/stretchr/testify/require"
)

// The trace of a pipeline into a file of SQLite has its statements; into what knows no
// statements it says so.
func TestTheTraceTellsStatementsOfASQLiteTarget(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "target.db")
	explain := func(target string) ([]string, error) {
		c, err := config.Parse("dfs.yaml", []byte("name: shop\nsource: {host: 127.0.0.1, user: u, tables: [\"shop.*\"], snapshot: false}\ntarget: "+target+"\n"), func(string) (string, bool) { return "", false })
		require.NoError(t, err)
		e := &explainer{c: c, log: slog.New(slog.DiscardHandler)}
		t.Cleanup(func() { require.NoError(t, e.close()) })
		tab := &dfs.Table{Schema: "shop", Name: "people", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "name", Type: "varchar(20)", Charset: "utf8mb4"}}}
		return e.explain(t.Context(), "shop", &dfs.Transaction{Changes: []dfs.Change{{Op: dfs.Insert, Table: tab, After: dfs.Row{dfs.IntValue(7), dfs.StringValue("O'Neil")}}}})
	}
	_, err := explain("{file: " + file + "}")
	require.ErrorContains(t, err, "the statement cannot be told, as the target cannot be asked")
	db, err := sql.Open("sqlite", file)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
	require.NoError(t, err)
	list, err := explain("{file: " + file + "}")
	require.NoError(t, err)
	require.Equal(t, []string{`INSERT INTO "people" ("id","name") VALUES (7,'O''Neil')`}, list)
	_, err = explain("{archive: {dir: " + filepath.Join(dir, "archive") + "}}")
	require.ErrorContains(t, err, "which knows no statements")
}
