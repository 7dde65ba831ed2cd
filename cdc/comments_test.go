package cdc_test

import (
	"database/sql"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A statement with comments that not all servers run does on each of them what it
// has done on the source, as it comes from the server and from its files.
func TestStatementsMeanTheSameToEveryServer(t *testing.T) {
	statements := []string{
		"ALTER TABLE t /*!50100 DROP a */", "ALTER TABLE t /*!50700 DROP a, */ ADD x int", "ALTER TABLE t /*!80000 DROP a, */ ADD x int",
		"ALTER TABLE t /*!100301 DROP a, */ ADD x int", "ALTER TABLE t /*M! DROP a, */ ADD x int", "ALTER TABLE t /*M!100301 DROP a, */ ADD x int",
		"ALTER TABLE t /*!99999 DROP a, */ ADD x int", "ALTER TABLE t /*!999999 DROP a, */ ADD x int", "ALTER TABLE t /*M!999999 DROP a, */ ADD x int",
		"ALTER TABLE t /*!99999 DROP a, /* c */ DROP b, */ ADD x int", "ALTER TABLE t /*M!999999 DROP a, /* c */ ADD x int",
		"ALTER TABLE t /*!999999 DROP a, /* c */ DROP b, */ ADD x int", "ALTER TABLE t ADD x int COMMENT '/*!99999 DROP a */'",
		"/*!50100 ALTER TABLE t DROP a */", "/*!80000 ALTER TABLE t DROP a */", "/*M! ALTER TABLE t DROP a */",
	}
	setup := []string{"DROP TABLE IF EXISTS t", "CREATE TABLE t (id int, a int, b int)"}
	targets := make(map[testenv.Kind]*caller)
	for _, kind := range testenv.Kinds() {
		targets[kind] = call(t, testenv.Shared(t, kind))
	}
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			from := call(t, srv)
			opts := &cdc.Options{Tables: []string{from.schema + ".*"}}
			src := open(t, srv.DSN(""), opts)
			st, start := begin(t, src)
			var all []string
			next := func() string {
				c := readN(t, src, st, 1)[0].Changes[0]
				require.Equal(t, dfs.DDL, c.Op)
				all = append(all, c.Query)
				return c.Query
			}
			ran := 0
			for _, statement := range statements {
				for _, s := range setup {
					require.NoError(t, from.exec(s))
					next()
				}
				if err := from.exec(statement); err != nil {
					t.Logf("%s: %v", statement, err)
					continue
				}
				want := from.columns()
				query := ""
				if !slices.Equal(want, []string{"a", "b", "id"}) {
					query = next()
				}
				for other, to := range targets {
					for _, s := range setup {
						require.NoError(t, to.exec(s))
					}
					if query != "" {
						require.NoError(t, to.exec(query), "%s: %s", statement, query)
						ran++
					}
					require.Equal(t, want, to.columns(), "%s: %s on %s", statement, query, other)
				}
			}
			require.Greater(t, ran, 3*len(statements)/2)

			files := openFiles(t, opts, copyLogs(t, srv))
			again, _ := readAll(t, files, stream(t, files, start))
			var read []string
			for _, tx := range again {
				read = append(read, tx.Changes[0].Query)
			}
			require.Equal(t, all, read)
		})
	}
}

// A caller is a connection to a server, in a schema of its own.
type caller struct {
	t      *testing.T
	conn   *sql.Conn
	schema string
}

func call(t *testing.T, srv *testenv.Server) *caller {
	c := &caller{t: t, schema: srv.Schema(t)}
	var err error
	c.conn, err = srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { c.conn.Close() })
	require.NoError(t, c.exec("USE "+c.schema))
	return c
}

func (c *caller) exec(statement string) error {
	_, err := c.conn.ExecContext(c.t.Context(), statement)
	return err
}

// columns returns the columns of the table t.
func (c *caller) columns() (list []string) {
	rs, err := c.conn.QueryContext(c.t.Context(), "SELECT column_name FROM information_schema.columns WHERE table_schema = '"+
		c.schema+"' AND table_name = 't' ORDER BY column_name")
	require.NoError(c.t, err)
	defer rs.Close()
	for rs.Next() {
		var name string
		require.NoError(c.t, rs.Scan(&name))
		list = append(list, name)
	}
	require.NoError(c.t, rs.Err())
	return list
}
