package sink_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/stretchr/testify/require"
)

// openFile returns connections to a file of SQLite.
func openFile(tb testing.TB, path string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(tb, err)
	tb.Cleanup(func() { db.Close() })
	return db
}

func openSQLite(tb testing.TB, path string, opts *sink.SQLiteOptions) *sink.SQLite {
	s, err := sink.OpenSQLite(tb.Context(), path, opts)
	require.NoError(tb, err)
	return s
}

func TestSQLiteKeepsTheContractOfASink(t *testing.T) {
	sinktest.Run(t, "source", func(t *testing.T) sinktest.Target {
		path := filepath.Join(t.TempDir(), "target.db")
		db := openFile(t, path)
		_, err := db.Exec("CREATE TABLE " + sinktest.SQL)
		require.NoError(t, err)
		return sinktest.Target{
			Open: func(tb testing.TB) dfs.Sink { return openSQLite(tb, path, nil) },
			Rows: func(tb testing.TB) (out []sinktest.Row) {
				rows, err := db.Query("SELECT id, name, n FROM items ORDER BY id")
				require.NoError(tb, err)
				defer rows.Close()
				for rows.Next() {
					var r sinktest.Row
					require.NoError(tb, rows.Scan(&r.ID, &r.Name, &r.N))
					out = append(out, r)
				}
				require.NoError(tb, rows.Err())
				return out
			},
		}
	})
}
