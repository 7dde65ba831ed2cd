package cdc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// eachNameless runs a test on servers whose logs do not name columns.
func eachNameless(t *testing.T, test func(t *testing.T, srv *testenv.Server, schema string)) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			if kind != testenv.MySQL56 {
				srv.Exec(t, "SET GLOBAL binlog_row_metadata=MINIMAL")
				t.Cleanup(func() { srv.Exec(t, "SET GLOBAL binlog_row_metadata=FULL") })
			}
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, x int, y int)")
			test(t, srv, schema)
		})
	}
}

// nextSecond waits until the server's clock, which tells when a table was altered,
// has gone on. MySQL 5.6 has that from a file, whose times are those of the kernel's
// last tick: up to 10 ms old, so right behind the second they may be of the one before.
func nextSecond(t *testing.T, srv *testenv.Server) {
	t.Helper()
	var rest int
	require.NoError(t, srv.DB(t).QueryRow("SELECT 1000000 - MICROSECOND(NOW(6)) + SLEEP(0.1 + (1000000 - MICROSECOND(NOW(6))) / 1e6)").Scan(&rest))
}

// Without State, the names of columns are asked for when they are needed. Rows from
// before an ALTER TABLE would go by the names that it gave.
func TestRowsFromBeforeAnAlterAreNotNamedByIt(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		o := &cdc.Options{Tables: []string{schema + ".*"}}
		src := open(t, srv.DSN(""), o)
		_, start := begin(t, src)
		rename := "ALTER TABLE " + schema + ".a CHANGE x y int, CHANGE y x int"
		srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)")
		nextSecond(t, srv)
		srv.Exec(t, rename, "INSERT INTO "+schema+".a VALUES (2, 10, 20)")
		row := func(tx *dfs.Transaction) string {
			c := tx.Changes[0]
			return fmt.Sprint(c.Table.Columns[1].Name, "=", c.After[1], " ", c.Table.Columns[2].Name, "=", c.After[2])
		}

		// So it is for a reader that comes late, and for one that begins again
		// and has asked before.
		refused := func(src *cdc.Source, st dfs.Stream) {
			t.Helper()
			err := ended(t, st)
			var bad *cdc.EventError
			require.ErrorAs(t, err, &bad)
			require.Contains(t, bad.What, "rows of "+schema+".a were logged without column names before")
			require.NotEmpty(t, bad.ID+bad.At)
			require.NotErrorIs(t, err, dfs.ErrTransient)
		}
		refused(src, stream(t, src, start))
		var after dfs.Position
		o.TrustColumnNames = true
		trusting := open(t, srv.DSN(""), o)
		o.TrustColumnNames = false
		all := readN(t, trusting, stream(t, trusting, start), 3)
		require.Equal(t, "y=10 x=20", row(all[0]))
		after = all[1].Pos
		late := open(t, srv.DSN(""), o)
		require.Equal(t, "y=10 x=20", row(readN(t, late, stream(t, late, after), 1)[0]))
		refused(late, stream(t, late, start))
	})
}

// A statement that waited for an ALTER TABLE began before it, and is logged
// after it.
func TestRowsThatWaitedForAnAlterAreRead(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		db := srv.DB(t)
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
		st, _ := begin(t, src)
		holder, err := db.Begin()
		require.NoError(t, err)
		defer holder.Rollback()
		_, err = holder.Exec("SELECT * FROM " + schema + ".a")
		require.NoError(t, err)
		waiting := func(n int, sql string) chan error {
			done := make(chan error, 1)
			go func() {
				_, err := db.Exec(sql)
				done <- err
			}()
			require.Eventually(t, func() bool {
				var have int
				err := db.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE '%metadata lock%'").Scan(&have)
				return err == nil && have == n
			}, time.Minute, 10*time.Millisecond)
			return done
		}
		altered := waiting(1, "ALTER TABLE "+schema+".a CHANGE x z int, ALGORITHM=COPY")
		inserted := waiting(2, "INSERT INTO "+schema+".a VALUES (1, 10, 20)")
		nextSecond(t, srv)
		require.NoError(t, holder.Commit())
		require.NoError(t, <-altered)
		require.NoError(t, <-inserted)
		txs := readN(t, src, st, 2)
		require.Equal(t, "z", txs[1].Changes[0].Table.Columns[1].Name)
		require.Equal(t, "insert a 1 10 20", said(txs[1]))
	})
}
