package cdc_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// TestOldTimesOfMariaDB reads times in the form that MariaDB had before it took
// over MySQL's, whose length the log does not tell.
func TestOldTimesOfMariaDB(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--mysql56-temporal-format=OFF", "--binlog-row-metadata=NO_LOG")
	columns, values := "id int PRIMARY KEY", "1"
	for fsp := range 7 {
		columns += fmt.Sprintf(", a%[1]d timestamp(%[1]d) NULL, b%[1]d datetime(%[1]d), c%[1]d time(%[1]d), d%[1]d time(%[1]d)", fsp)
		values += ", '2026-03-04 05:06:07.123456', '2026-11-22 23:59:58.987654', '-838:59:58.999999', '12:34:56.789012'"
	}
	srv.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t ("+columns+")", "SET time_zone='+00:00'")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"d.*"}})
	st, _ := begin(t, src)
	session(t, srv, "SET time_zone='+00:00'", "INSERT INTO d.t VALUES ("+values+")",
		"INSERT INTO d.t (id, b3, c3) VALUES (2, '0000-00-00 00:00:00', '00:00:00'), (3, '9999-12-31 23:59:59.999', '838:59:59')")
	txs := readN(t, src, st, 2)
	db := srv.DB(t)
	_, err := db.Exec("SET time_zone='+00:00'")
	require.NoError(t, err)
	for _, tx := range txs {
		for _, c := range tx.Changes {
			for i, v := range c.After {
				var want string
				q := fmt.Sprintf("SELECT COALESCE(CAST(%s AS CHAR), 'NULL') FROM d.t WHERE id = %s", c.Table.Columns[i].Name, c.After[0])
				conn, err := db.Conn(t.Context())
				require.NoError(t, err)
				_, err = conn.ExecContext(t.Context(), "SET time_zone='+00:00'")
				require.NoError(t, err)
				require.NoError(t, conn.QueryRowContext(t.Context(), q).Scan(&want))
				conn.Close()
				require.Equal(t, want, v.String(), c.Table.Columns[i].Name)
			}
		}
	}

	srv.Exec(t, "SET GLOBAL binlog_row_metadata=FULL")
	session(t, srv, "INSERT INTO d.t (id, b3) VALUES (4, NOW())")
	raw := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
	var typed *cdc.TypeError
	require.ErrorAs(t, src.Decode(t.Context(), raw), &typed)
	require.Contains(t, typed.Cure, "mysql56_temporal_format=ON")
}
