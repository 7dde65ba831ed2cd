package cdc_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// session runs statements on one connection.
func session(t *testing.T, srv *testenv.Server, stmts ...string) {
	t.Helper()
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, s := range stmts {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
	// The settings of the session must not stay in the pool.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

func TestCompressedTransactions(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, s text)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, MaxPart: 64 << 10})
	st, _ := begin(t, src)
	rows := strings.Repeat(", (REPEAT('y', 1000))", 199)
	session(t, srv, "USE "+schema, "SET SESSION binlog_transaction_compression=ON",
		"INSERT INTO a (s) VALUES ('one')",
		"INSERT INTO a (s) VALUES (REPEAT('x', 1000))"+rows)
	session(t, srv, "USE "+schema, "INSERT INTO a (s) VALUES ('plain')")
	txs := readN(t, src, st, 3)
	require.Equal(t, "insert a 1 one", said(txs[0]))
	n := 0
	for _, tx := range txs[1 : len(txs)-1] {
		n += len(tx.Changes)
	}
	require.Equal(t, 200, n)
	require.Greater(t, len(txs), 4, "a large one comes in parts")
	require.Equal(t, "insert a 202 plain", said(txs[len(txs)-1]))

	again := stream(t, src, txs[0].Pos)
	require.Len(t, readN(t, src, again, 2), len(txs)-1)
}

func TestCompressedEventsOfMariaDB(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--log-bin-compress=ON", "--log-bin-compress-min-len=10")
	srv.Exec(t, "CREATE DATABASE shop")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	long := strings.Repeat("x", 2000)
	srv.Exec(t,
		"CREATE TABLE shop.a (id int PRIMARY KEY, s text) COMMENT '"+strings.Repeat("c", 1000)+"'",
		"INSERT INTO shop.a VALUES (1, '"+long+"')",
		"UPDATE shop.a SET s = CONCAT(s, 'y')",
		"DELETE FROM shop.a")
	txs := readN(t, src, st, 4)
	require.Contains(t, said(txs[0]), "CREATE TABLE shop.a")
	require.Equal(t, "insert a 1 "+long, said(txs[1]))
	require.Equal(t, "update a 1 "+long+"y", said(txs[2]))
	require.Equal(t, "delete a 1 "+long+"y", said(txs[3]))
}

func TestRowLargerThanAPacket(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--max-allowed-packet=128M")
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, b longblob)")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	srv.Exec(t, "INSERT INTO shop.a VALUES (1, REPEAT('0123456789', 4000000))", "INSERT INTO shop.a VALUES (2, 'x')")
	txs := readN(t, src, st, 2)
	require.Equal(t, strings.Repeat("0123456789", 4000000), txs[0].Changes[0].After[1].Text())
	require.Equal(t, "insert a 2 x", said(txs[1]))
}

const longGTID = "ffffffff-ffff-ffff-ffff-ffffffffffff:abcdefghijklmnopqrstuvwxyz_01234:9223372036854775806"

func TestTaggedGTIDs(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	session(t, srv,
		"SET gtid_next='AUTOMATIC:mine'", "INSERT INTO shop.a VALUES (1)", "INSERT INTO shop.a VALUES (2)",
		"SET gtid_next='AUTOMATIC'", "INSERT INTO shop.a VALUES (3)",
		"SET gtid_next='aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:foo:7'", "INSERT INTO shop.a VALUES (4)",
		"SET gtid_next='AUTOMATIC'", "INSERT INTO shop.a VALUES (5)",
		// Each number takes as many bytes as it can.
		"SET gtid_next='"+longGTID+"'", "INSERT INTO shop.a VALUES (6)", "SET gtid_next='AUTOMATIC'")
	txs := readN(t, src, st, 6)
	require.Equal(t, longGTID, txs[5].ID)
	require.True(t, strings.HasSuffix(txs[1].ID, ":mine:2"), txs[1].ID)
	require.Equal(t, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:foo:7", txs[3].ID)
	for i, tx := range txs[:5] {
		rest := readN(t, src, stream(t, src, tx.Pos), 5-i)
		require.Equal(t, says(txs[i+1:]), says(rest), "after %s", tx.Pos)
	}
	// The server reads the set as the same one.
	var same bool
	set := strings.Fields(string(txs[5].Pos))[2]
	require.NoError(t, srv.DB(t).QueryRow("SELECT GTID_SUBSET(@@gtid_executed, ?) AND GTID_SUBSET(?, @@gtid_executed)", set, set).Scan(&same))
	require.True(t, same, set)
}

func TestDomainsOfMariaDB(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	session(t, srv, "INSERT INTO shop.a VALUES (1)",
		"SET gtid_domain_id=5", "INSERT INTO shop.a VALUES (2)",
		"SET gtid_domain_id=2, server_id=9", "INSERT INTO shop.a VALUES (3)",
		"SET gtid_domain_id=0", "INSERT INTO shop.a VALUES (4)",
		"SET gtid_domain_id=5", "INSERT INTO shop.a VALUES (5)")
	txs := readN(t, src, st, 5)
	require.Equal(t, "2-9-1", txs[2].ID)
	for i, tx := range txs[:4] {
		rest := readN(t, src, stream(t, src, tx.Pos), 4-i)
		require.Equal(t, says(txs[i+1:]), says(rest), "after %s", tx.Pos)
	}
}

func TestTransactionsThatCannotBeReadStopTheStream(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "CREATE TABLE "+schema+".other (id int PRIMARY KEY)")
			anew := func() *cdc.Source { return open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".a"}}) }
			cases := []struct {
				name, what string
				stmts      []string
			}{
				{"statement", "by a statement", []string{"USE " + schema, "SET SESSION binlog_format='STATEMENT'", "INSERT INTO a VALUES (1)"}},
			}
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					st, _ := begin(t, anew())
					session(t, srv, c.stmts...)
					err := ended(t, st)
					var bad *cdc.EventError
					require.ErrorAs(t, err, &bad)
					require.NotErrorIs(t, err, dfs.ErrTransient)
					require.Contains(t, bad.What, c.what)
					require.Contains(t, bad.At, "binlog.")
				})
			}
			// What is about other tables does not matter.
			src := anew()
			st, _ := begin(t, src)
			session(t, srv, "USE "+schema, "SET SESSION binlog_format='STATEMENT'", "INSERT INTO other VALUES (1)")
			session(t, srv, "USE "+schema, "XA START 'y'", "INSERT INTO other VALUES (2)", "XA END 'y'", "XA PREPARE 'y'", "XA COMMIT 'y'")
			session(t, srv, "USE "+schema, "XA START 'z'", "INSERT INTO a VALUES (5)", "XA END 'z'", "XA COMMIT 'z' ONE PHASE")
			session(t, srv, "USE "+schema, "XA START 'z'", "INSERT INTO a VALUES (6)", "XA END 'z'", "XA PREPARE 'z'", "XA COMMIT 'z'")
			require.Equal(t, []string{"insert a 5", "insert a 6"}, says(readN(t, src, st, 2)))
		})
	}
}

func TestForeignKeysThatWereNotChecked(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".p (id int PRIMARY KEY)",
		"CREATE TABLE "+schema+".c (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES "+schema+".p(id) ON DELETE CASCADE)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	session(t, srv, "USE "+schema, "INSERT INTO p VALUES (1)",
		"SET foreign_key_checks=0", "INSERT INTO c VALUES (1, 1)", "SET foreign_key_checks=1", "DELETE FROM p")
	txs := readN(t, src, st, 3)
	require.True(t, txs[1].Changes[0].NoForeignKeys)
	require.Equal(t, "delete c 1 1; delete p 1", said(txs[2]))
	require.True(t, txs[2].Changes[0].NoForeignKeys)
}

func TestCreateTableAsSelect(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			args := []string{}
			if kind == testenv.MySQL56 {
				args = append(args, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE DATABASE shop")
			src := open(t, srv.DSN(""), nil)
			st, _ := begin(t, src)
			stmts := []string{
				"CREATE TABLE shop.a AS SELECT 1 AS n",
				"CREATE TABLE shop.b (n int PRIMARY KEY) SELECT 2 AS n UNION SELECT 3",
				"CREATE TABLE IF NOT EXISTS shop.c SELECT 4 AS n",
				"CREATE TABLE IF NOT EXISTS shop.c SELECT 5 AS n", // which is there, and gets nothing
				"CREATE TEMPORARY TABLE shop.t SELECT 6 AS n",
				"CREATE TABLE shop.d LIKE shop.t",
				"INSERT INTO shop.d SELECT 7",
			}
			if kind == testenv.MariaDB {
				stmts = append(stmts, "CREATE OR REPLACE TABLE shop.a AS SELECT 8 AS n")
			}
			srv.Exec(t, append(stmts, "CREATE TABLE shop.bad (n int PRIMARY KEY) SELECT 9 AS n", "INSERT INTO shop.a VALUES (99)")...)
			want := []string{"CREATE a", "insert a 1", "CREATE b", "insert b 2", "insert b 3", "CREATE c", "insert c 4", "CREATE d", "insert d 7"}
			if kind == testenv.MariaDB {
				want = append(want, "CREATE a", "insert a 8")
			}
			want = append(want, "CREATE bad", "insert bad 9", "insert a 99")
			var got []string
			for len(got) == 0 || got[len(got)-1] != "insert a 99" {
				for _, tx := range read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil }) {
					require.NoError(t, src.Decode(t.Context(), []*dfs.Transaction{tx}))
					for _, c := range tx.Changes {
						switch {
						case c.Op != dfs.DDL:
							got = append(got, fmt.Sprintf("%s %s %s", c.Op, c.Table.Name, c.After[0]))
						case strings.HasPrefix(c.Query, "CREATE"):
							require.NotContains(t, c.Query, "START TRANSACTION")
							// Servers log one that does nothing, or not.
							if text := "CREATE " + c.Table.Name; text != "CREATE c" || !slices.Contains(got, text) {
								got = append(got, text)
							}
						}
					}
				}
			}
			require.Equal(t, want, got)
		})
	}
}

// A whole image is one of all columns that the table map has. What an index
// computes is in neither, and what a column computes is in both.
func TestComputedColumnsMakeNoPartialImages(t *testing.T) {
	for kind, columns := range map[testenv.Kind]string{
		testenv.MySQL97: "v int AS (n + 1) VIRTUAL, w int AS (n + 2) STORED, i int INVISIBLE DEFAULT 5, j json, " +
			"KEY f ((n * 2)), KEY m ((CAST(j AS UNSIGNED ARRAY)))",
		testenv.MariaDB: "v int AS (n + 1) VIRTUAL, w int AS (n + 2) STORED, i int INVISIBLE DEFAULT 5, j text, KEY (v)",
	} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, n int, "+columns+")")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
			st, _ := begin(t, src)
			srv.Exec(t, "INSERT INTO "+schema+".a (id, n) VALUES (1, 2)", "UPDATE "+schema+".a SET n = 3",
				"DELETE FROM "+schema+".a")
			require.Equal(t, []string{"insert a 1 2 3 4 5 NULL", "update a 1 3 4 5 5 NULL", "delete a 1 3 4 5 5 NULL"},
				says(readN(t, src, st, 3)))
		})
	}
}

func TestNoGoroutineIsLeft(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	before := runtime.NumGoroutine()
	src, err := cdc.Open(t.Context(), srv.DSN(""), nil)
	require.NoError(t, err)
	st, err := src.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for err == nil {
		_, err = st.Next(ctx, make([]*dfs.Transaction, 1))
	}
	require.NoError(t, st.Close())
	require.NoError(t, src.Close())
	if !eventually(func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<20)
		t.Fatalf("%d goroutines before, and now:\n%s", before, stacks[:runtime.Stack(stacks, true)])
	}
}

// eventually waits for cond, in this goroutine.
func eventually(cond func() bool) bool {
	for start := time.Now(); time.Since(start) < time.Minute; runtime.Gosched() {
		if cond() {
			return true
		}
	}
	return false
}

// Rows of tables without transactions stay when a transaction is undone, and the
// others do not: what is handed on is what the tables hold.
func TestTransactionsThatAreUndone(t *testing.T) {
	for name, kind := range map[string]testenv.Kind{"MySQL": testenv.MySQL97, "MySQL 5.6": testenv.MySQL56, "MariaDB": testenv.MariaDB} {
		t.Run(name, func(t *testing.T) {
			args := []string{}
			if kind != testenv.MariaDB {
				args = append(args, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "CREATE TABLE shop.m (id int) ENGINE=MyISAM",
				"CREATE TABLE shop.b (id int PRIMARY KEY)", "CREATE TRIGGER shop.t AFTER INSERT ON shop.b FOR EACH ROW INSERT INTO shop.m VALUES (NEW.id)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
			st, _ := begin(t, src)
			for _, stmts := range [][]string{
				{"BEGIN", "INSERT INTO a VALUES (1)", "INSERT INTO m VALUES (1)", "INSERT INTO a VALUES (2)", "ROLLBACK"},
				{"BEGIN", "INSERT INTO a VALUES (3)", "SAVEPOINT s", "INSERT INTO a VALUES (4)", "INSERT INTO m VALUES (2)", "ROLLBACK TO s", "INSERT INTO a VALUES (5)", "COMMIT"},
				{"BEGIN", "INSERT INTO m VALUES (3)", "INSERT INTO a VALUES (6)", "COMMIT"},
				{"BEGIN", "INSERT INTO b VALUES (7)", "ROLLBACK"},
				{"BEGIN", "INSERT INTO b VALUES (8)", "SAVEPOINT s", "INSERT INTO b VALUES (9)", "ROLLBACK TO s", "COMMIT"},
				{"BEGIN", "INSERT INTO a VALUES (10)", "CREATE TEMPORARY TABLE x (id int)", "INSERT INTO x VALUES (1)", "INSERT INTO a SELECT 11 FROM x", "INSERT INTO m VALUES (4)", "ROLLBACK"},
				{"BEGIN", "INSERT INTO a VALUES (12)", "CREATE TEMPORARY TABLE x (id int)", "SAVEPOINT s", "INSERT INTO a VALUES (13)", "DROP TEMPORARY TABLE x", "ROLLBACK TO s", "COMMIT"},
				{"INSERT INTO m VALUES (5), (6)"},
				{"INSERT INTO a VALUES (99)"},
			} {
				session(t, srv, append([]string{"USE shop"}, stmts...)...)
			}
			got := map[string]bool{}
			for !got["a 99"] {
				for _, tx := range readN(t, src, st, 1) {
					for _, c := range tx.Changes {
						require.Equal(t, dfs.Insert, c.Op)
						row := c.Table.Name + " " + c.After[0].String()
						require.False(t, got[row], row)
						got[row] = true
					}
				}
			}
			want := map[string]bool{}
			rows, err := srv.DB(t).Query("SELECT CONCAT('a ', id) FROM shop.a UNION ALL SELECT CONCAT('m ', id) FROM shop.m UNION ALL SELECT CONCAT('b ', id) FROM shop.b")
			require.NoError(t, err)
			defer rows.Close()
			for rows.Next() {
				var row string
				require.NoError(t, rows.Scan(&row))
				want[row] = true
			}
			require.Equal(t, want, got)
		})
	}
}
