package cdc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// past returns a place of the log, and a Source that follows the schema's tables
// and knows nothing of them but what the server tells.
func past(t *testing.T, srv *testenv.Server, schema string) (*cdc.Source, dfs.Position) {
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	_, at := begin(t, src)
	return src, at
}

// unnamed requires that the stream ends since the columns of a table are not known.
func unnamed(t *testing.T, st dfs.Stream, table, why string) {
	t.Helper()
	err := ended(t, st)
	var bad *cdc.EventError
	require.ErrorAs(t, err, &bad)
	require.Contains(t, bad.What, "rows of "+table+" were logged without column names before "+why)
	require.Contains(t, bad.Cure, "Options.Schema")
	require.Contains(t, bad.Cure, "TrustColumnNames")
	require.NotErrorIs(t, err, dfs.ErrTransient)
}

// RENAME TABLE leaves the time alone at which a table was created, in MySQL 8.0
// and later.
func TestTablesThatAreRenamedLaterAreNotTaken(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		srv.Exec(t, "CREATE TABLE "+schema+".b (id int PRIMARY KEY, y int, x int)")
		nextSecond(t, srv)
		src, at := past(t, srv, schema)
		srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)")
		nextSecond(t, srv)
		srv.Exec(t, fmt.Sprintf("RENAME TABLE %[1]s.a TO %[1]s.t, %[1]s.b TO %[1]s.a, %[1]s.t TO %[1]s.b", schema))
		unnamed(t, stream(t, src, at), schema+".a", "the table was created or altered at")
	})
}

// A column gets another name in the second in which rows were written, and while
// others that it waits for write rows.
func TestAnAlterOfTheSameSecondIsSeen(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		swap := "ALTER TABLE " + schema + ".%s CHANGE x y int, CHANGE y x int"
		src, at := past(t, srv, schema)
		nextSecond(t, srv)
		srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)", fmt.Sprintf(swap, "a"))
		unnamed(t, stream(t, src, at), schema+".a", "the table was created or altered at")

		srv.Exec(t, "CREATE TABLE "+schema+".w (id int PRIMARY KEY, x int, y int)")
		nextSecond(t, srv)
		src, at = past(t, srv, schema)
		db := srv.DB(t)
		holder, err := db.Begin()
		require.NoError(t, err)
		defer holder.Rollback()
		_, err = holder.Exec("INSERT INTO " + schema + ".w VALUES (1, 10, 20)")
		require.NoError(t, err)
		altered := make(chan error, 1)
		go func() {
			_, err := db.Exec(fmt.Sprintf(swap, "w"))
			altered <- err
		}()
		require.Eventually(t, func() bool {
			var n int
			err := db.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE '%metadata lock%' AND info LIKE 'ALTER%'").Scan(&n)
			return err == nil && n == 1
		}, time.Minute, 10*time.Millisecond)
		nextSecond(t, srv)
		_, err = holder.Exec("INSERT INTO " + schema + ".w VALUES (2, 10, 20)")
		require.NoError(t, err)
		require.NoError(t, holder.Commit())
		require.NoError(t, <-altered)
		unnamed(t, stream(t, src, at), schema+".w", "the table was created or altered at")
	})
}

// What is logged later about other tables, and what does not alter columns, does
// not matter.
func TestTablesThatTheLogLeavesAloneAreTaken(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		nextSecond(t, srv)
		src, at := past(t, srv, schema)
		srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)", "CREATE TABLE "+schema+".b (id int PRIMARY KEY, z int)")
		busy(t, srv, schema, 3000)
		nextSecond(t, srv)
		srv.Exec(t, "INSERT INTO "+schema+".b VALUES (5, 6)", "INSERT INTO "+schema+".a VALUES (2, 30, 40)",
			"OPTIMIZE TABLE "+schema+".a", "CREATE INDEX i ON "+schema+".a (x)", "ALTER TABLE "+schema+".b ADD k int",
			"CREATE TABLE "+schema+".c (id int PRIMARY KEY)", "DROP TABLE "+schema+".c")
		txs := readN(t, src, stream(t, src, at), 3)
		require.Equal(t, "insert a 1 10 20", said(txs[0]))
		require.Equal(t, "x", txs[0].Changes[0].Table.Columns[1].Name)

		// A stream that ctx interrupts while it asks and reads ahead goes on.
		src = open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a"}})
		st := stream(t, src, at)
		batch := make([]*dfs.Transaction, 10)
		wait, interrupted := 100*time.Microsecond, 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			n, err := st.Next(ctx, batch)
			cancel()
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				wait += wait / 2
				interrupted++
				continue
			}
			if n > 0 && batch[0].Encoded != nil {
				require.NoError(t, src.Decode(t.Context(), batch[:1]))
				require.Equal(t, "insert a 1 10 20", said(batch[0]))
				break
			}
		}
		require.Positive(t, interrupted)
	})
}

// busy writes transactions to a table of its own that no Source of the schema is
// to follow.
func busy(t testing.TB, srv *testenv.Server, schema string, n int) {
	other := schema + "_busy"
	srv.Exec(t, "CREATE DATABASE "+other, "CREATE TABLE "+other+".b (id int PRIMARY KEY AUTO_INCREMENT, v int)")
	t.Cleanup(func() { srv.Exec(t, "DROP DATABASE "+other) })
	stmts := make([]string, n)
	for i := range stmts {
		stmts[i] = fmt.Sprintf("INSERT INTO %s.b (v) VALUES (%d)", other, i)
	}
	srv.Exec(t, stmts...)
}

// A table is altered by a statement that the log does not have.
func TestAnAlterOutsideOfTheLogIsSeenByItsTime(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		src, at := past(t, srv, schema)
		srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)")
		nextSecond(t, srv)
		srv.Exec(t, "SET sql_log_bin=0", "ALTER TABLE "+schema+".a CHANGE x y int, CHANGE y x int, ALGORITHM=COPY")
		err := ended(t, stream(t, src, at))
		require.ErrorContains(t, err, "by a statement that is not in the log")
	})
}

// Without GTIDs, the log ahead is asked for by file.
func TestTheLogAheadIsReadByFile(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL56, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, x int, y int)", "CREATE TABLE "+schema+".b (id int PRIMARY KEY, x int, y int)")
	nextSecond(t, srv)
	src, at := past(t, srv, schema)
	require.True(t, strings.HasPrefix(string(at), "file "))
	srv.Exec(t, "INSERT INTO "+schema+".a VALUES (1, 10, 20)", "FLUSH LOGS", "INSERT INTO "+schema+".b VALUES (2, 10, 20)",
		"FLUSH LOGS", "ALTER TABLE "+schema+".b CHANGE x y int, CHANGE y x int")
	st := stream(t, src, at)
	require.Equal(t, "insert a 1 10 20", said(readN(t, src, st, 1)[0]))
	unnamed(t, st, schema+".b", "the table was created or altered at binlog.000003:")
}

// What is not taken now is once the statements about it are behind.
func TestStatementsThatAreBehindDoNotMatter(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		nextSecond(t, srv)
		src, at := past(t, srv, schema)
		srv.Exec(t,
			"CREATE TABLE "+schema+".b LIKE "+schema+".a", "INSERT INTO "+schema+".a VALUES (1, 10, 20)",
			"INSERT INTO "+schema+".b VALUES (1, 2, 3)", "RENAME TABLE "+schema+".b TO "+schema+".c",
			"INSERT INTO "+schema+".c VALUES (3, 2, 3)")
		// The log before the first row has not said what a is like, and so not
		// what the others are.
		f := &follower{T: t, dsn: srv.DSN(""), opts: &cdc.Options{Tables: []string{schema + ".a", schema + ".c"}}, at: dfs.Checkpoint{Pos: at}}
		for f.start(); len(f.rows) < 2; {
			require.NoError(t, f.next())
		}
		require.Equal(t, []string{"a id=1 x=10 y=20", "c id=3 x=2 y=3"}, f.rows)
		f.stop()
		require.ErrorContains(t, ended(t, stream(t, src, at)), "rows of "+schema+".b were logged without column names, and the table is not there any more")
	})
}
