package cdc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// prepare leaves an XA transaction prepared, in a session that ends.
func prepare(t *testing.T, srv *testenv.Server, xid string, stmts ...string) {
	t.Helper()
	all := append([]string{"USE shop", "XA START " + xid}, stmts...)
	session(t, srv, append(all, "XA END "+xid, "XA PREPARE "+xid)...)
}

// finish ends a prepared XA transaction, as soon as its session is gone.
func finish(t *testing.T, srv *testenv.Server, how string) {
	t.Helper()
	db := srv.DB(t)
	var err error
	require.True(t, eventually(func() bool {
		_, err = db.Exec(how)
		return err == nil
	}), "%s: %v", how, err)
}

// xaSetups are servers that log an XA transaction when it is prepared.
func eachXASetup(t *testing.T, f func(t *testing.T, srv *testenv.Server)) {
	for name, args := range map[string][]string{
		"MySQL":               {},
		"MySQL without GTIDs": {"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"},
		"MySQL compressed":    {"--binlog-transaction-compression=ON"},
		"MariaDB":             {"--binlog-row-metadata=FULL"},
	} {
		t.Run(name, func(t *testing.T) {
			kind := testenv.MySQL97
			if name == "MariaDB" {
				kind = testenv.MariaDB
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, s text)", "CREATE TABLE shop.other (id int)")
			f(t, srv)
		})
	}
}

func TestPreparedXATransactions(t *testing.T) {
	eachXASetup(t, func(t *testing.T, srv *testenv.Server) {
		o := &cdc.Options{Tables: []string{"shop.*", "!shop.other"}, MaxPart: 4 << 10}
		src := open(t, srv.DSN(""), o)
		st, start := begin(t, src)
		large := "INSERT INTO a WITH RECURSIVE n AS (SELECT 100 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 299) SELECT i, REPEAT(UUID(), 20) FROM n"
		prepare(t, srv, "'x','y',7", "INSERT INTO a VALUES (1, 'x')", "INSERT INTO a VALUES (2, 'x')")
		srv.Exec(t, "INSERT INTO shop.a VALUES (3, 'between')", "FLUSH LOGS")
		prepare(t, srv, "'gone'", "INSERT INTO a VALUES (4, 'gone')")
		prepare(t, srv, "'other'", "INSERT INTO other VALUES (1)")
		prepare(t, srv, "X'00ff'", large)
		srv.Exec(t, "INSERT INTO shop.a VALUES (5, 'between')")
		finish(t, srv, "XA ROLLBACK 'gone'")
		finish(t, srv, "XA COMMIT X'00ff'")
		srv.Exec(t, "FLUSH LOGS", "INSERT INTO shop.a VALUES (6, 'between')")
		finish(t, srv, "XA COMMIT 'other'")
		finish(t, srv, "XA COMMIT 'x','y',7")
		session(t, srv, "USE shop", "XA START 'one'", "DELETE FROM a WHERE id = 3", strings.ReplaceAll(large, "SELECT 100 AS i", "SELECT 300 AS i UNION ALL SELECT 1300 AS i"), "XA END 'one'", "XA COMMIT 'one' ONE PHASE")
		srv.Exec(t, "INSERT INTO shop.a VALUES (7, 'end')")

		// Whole transactions, whether they come in parts or not.
		texts := func(src *cdc.Source, st dfs.Stream) (out []string, pos []dfs.Position) {
			var open []string
			for !strings.HasSuffix(strings.Join(out, ""), "insert a 7 end") {
				all := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
				require.NoError(t, src.Decode(t.Context(), all))
				for _, tx := range all {
					for _, c := range tx.Changes {
						id := c.After
						if id == nil {
							id = c.Before
						}
						text := fmt.Sprintf("%s a %s %s", c.Op, id[0], id[1])
						if n := id[0].Int(); n >= 100 {
							text = fmt.Sprintf("%s a %s %d", c.Op, id[0], len(id[1].Text()))
						}
						open = append(open, text)
					}
					if len(open) > 0 && !tx.More {
						out, open = append(out, strings.Join(open, "; ")), nil
					}
					if !tx.More {
						pos = append(pos, tx.Pos)
					}
				}
			}
			return out, pos
		}
		var big, one []string
		for i := range 200 {
			big = append(big, fmt.Sprintf("insert a %d 720", 100+i))
		}
		got, pos := texts(src, st)
		want := []string{"insert a 3 between", "insert a 5 between", strings.Join(big, "; "), "insert a 6 between",
			"insert a 1 x; insert a 2 x", "", "insert a 7 end"}
		require.Len(t, got, len(want))
		one = strings.Split(got[5], "; ")
		require.Equal(t, "delete a 3 between", one[0])
		require.Len(t, one, 3)
		want[5] = got[5]
		require.Equal(t, want, got)

		// From each place the rest is the same, though nothing is in memory.
		pos = append([]dfs.Position{start}, pos...)
		rest := len(want)
		for i, p := range pos[:len(pos)-1] {
			src := open(t, srv.DSN(""), o)
			again, _ := texts(src, stream(t, src, p))
			require.LessOrEqual(t, len(again), rest, "from %s", p)
			require.Equal(t, want[len(want)-len(again):], again, "from %s", p)
			rest = len(again)
			at, err := cdc.ParsePosition(p)
			require.NoError(t, err)
			require.Equal(t, string(p), at.String())
			if i == 0 || i == len(pos)-2 {
				require.Empty(t, at.Prepared)
			}
		}
		require.Equal(t, 1, rest)

		// And so it is where the server cannot be asked for the place in its file.
		for _, p := range pos[:len(pos)-1] {
			if !strings.HasPrefix(string(p), "file ") {
				break
			}
			src := open(t, srv.DSN(""), o)
			cdc.AskNoFurther(src, 4)
			again, _ := texts(src, stream(t, src, p))
			require.Equal(t, want[len(want)-len(again):], again, "from %s", p)
		}

		// And so it is from the files of the log.
		files := openFiles(t, o, copyLogs(t, srv))
		for _, p := range pos[:len(pos)-1] {
			if strings.HasPrefix(string(p), "file ") {
				break // a position by file is of the server or of its files
			}
			again, _ := texts(files, stream(t, files, p))
			require.Equal(t, want[len(want)-len(again):], again, "from %s", p)
		}
	})
}

// What is prepared survives a crash of the source, and its log may be purged.
func TestPreparedXATransactionWhoseLogIsPurged(t *testing.T) {
	eachXASetup(t, func(t *testing.T, srv *testenv.Server) {
		src := open(t, srv.DSN(""), nil)
		st, _ := begin(t, src)
		prepare(t, srv, "'x'", "INSERT INTO a VALUES (1, 'x')")
		prepare(t, srv, "'y'", "INSERT INTO a VALUES (2, 'y')")
		srv.Exec(t, "INSERT INTO shop.a VALUES (3, 'z')")
		pos := readN(t, src, st, 1)[0].Pos
		require.Contains(t, string(pos), "xa:x'78',x'',1@")
		require.NoError(t, st.Close())
		require.NoError(t, srv.Kill())
		require.NoError(t, srv.Restart(limit(t)))
		finish(t, srv, "XA COMMIT 'x'")
		src = open(t, srv.DSN(""), nil)
		st = stream(t, src, pos)
		tx := readN(t, src, st, 1)[0]
		require.Equal(t, "insert a 1 x", said(tx))
		require.NoError(t, st.Close())

		var file string
		rows, err := srv.DB(t).Query("SHOW BINARY LOGS")
		require.NoError(t, err)
		for cols, _ := rows.Columns(); rows.Next(); {
			to := make([]any, len(cols))
			to[0] = &file
			for i := range to[1:] {
				to[i+1] = new(any)
			}
			require.NoError(t, rows.Scan(to...))
		}
		srv.Exec(t, "PURGE BINARY LOGS TO '"+file+"'")
		finish(t, srv, "XA COMMIT 'y'")
		err = ended(t, stream(t, src, tx.Pos))
		require.ErrorIs(t, err, cdc.ErrPurged)
		require.NotErrorIs(t, err, dfs.ErrTransient)
		require.ErrorContains(t, err, "x'79',x'',1")
	})
}

func TestXATransactionsPreparedBeforeTheStart(t *testing.T) {
	eachXASetup(t, func(t *testing.T, srv *testenv.Server) {
		prepare(t, srv, "'x'", "INSERT INTO a VALUES (1, 'x')")
		prepare(t, srv, "'y'", "INSERT INTO a VALUES (2, 'x')")
		src := open(t, srv.DSN(""), nil)
		st, _ := begin(t, src)
		finish(t, srv, "XA ROLLBACK 'y'")
		srv.Exec(t, "INSERT INTO shop.a VALUES (3, '')")
		require.Equal(t, "insert a 3 ", said(readN(t, src, st, 1)[0]))
		finish(t, srv, "XA COMMIT 'x'")
		srv.Exec(t, "INSERT INTO shop.a VALUES (4, '')")
		var bad *cdc.EventError
		require.ErrorAs(t, ended(t, st), &bad)
		require.Contains(t, bad.What, "the XA transaction x'78',x'',1 is committed that was prepared before")
		src = open(t, srv.DSN(""), &cdc.Options{Start: bad.After})
		require.Equal(t, "insert a 4 ", said(readN(t, src, stream(t, src, ""), 1)[0]))
	})
}

// What is prepared while reading goes by file is found again when it goes by GTID.
func TestXATransactionPreparedBeforeGTIDs(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--gtid-mode=ON_PERMISSIVE")
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, s text)")
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	prepare(t, srv, "'x'", "INSERT INTO a VALUES (1, 'x')")
	srv.Exec(t, "INSERT INTO shop.a VALUES (3, 'z')")
	pos := readN(t, src, st, 1)[0].Pos
	require.Contains(t, string(pos), "xa:x'78',x'',1@binlog.")
	require.NoError(t, st.Close())
	srv.Exec(t, "SET GLOBAL gtid_mode=ON", "INSERT INTO shop.a VALUES (4, 'z')")
	src = open(t, srv.DSN(""), nil)
	st = stream(t, src, pos)
	require.Equal(t, "insert a 4 z", said(readN(t, src, st, 1)[0]))
	finish(t, srv, "XA COMMIT 'x'")
	require.Equal(t, "insert a 1 x", said(readN(t, src, st, 1)[0]))
}
