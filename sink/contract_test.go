package sink_test

import (
	"database/sql"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/stretchr/testify/require"
)

func TestMySQLKeepsTheContractOfASink(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			sinktest.Run(t, "source", func(t *testing.T) sinktest.Target {
				schema := srv.Schema(t)
				srv.Exec(t, "CREATE TABLE "+schema+"."+sinktest.SQL)
				return sinktest.Target{
					Open: func(tb testing.TB) dfs.Sink {
						m, err := sink.OpenMySQL(tb.Context(), srv.DSN(""), &sink.MySQLOptions{
							Name: schema, Routes: []sink.Route{{From: "source.*", To: schema + ".*"}},
						})
						require.NoError(tb, err)
						return m
					},
					Rows: func(tb testing.TB) []sinktest.Row { return items(tb, srv, schema) },
				}
			})
		})
	}
}

func items(tb testing.TB, srv *testenv.Server, schema string) []sinktest.Row {
	db, err := sql.Open("mysql", srv.DSN(schema))
	require.NoError(tb, err)
	defer db.Close()
	rows, err := db.Query("SELECT id, name, n FROM items ORDER BY id")
	require.NoError(tb, err)
	defer rows.Close()
	var out []sinktest.Row
	for rows.Next() {
		var r sinktest.Row
		require.NoError(tb, rows.Scan(&r.ID, &r.Name, &r.N))
		out = append(out, r)
	}
	require.NoError(tb, rows.Err())
	return out
}
