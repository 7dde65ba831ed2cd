package cdc_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A setup is a kind of server in a mode that positions differ in.
type setup struct {
	name string
	kind testenv.Kind
	args []string
	word string // the first of its positions
}

var setups = []setup{
	{name: "MySQL 9.7 by GTID", kind: testenv.MySQL97, args: []string{"--gtid-mode=ON", "--enforce-gtid-consistency=ON"}, word: "gtid"},
	{name: "MySQL 9.7 by file", kind: testenv.MySQL97, args: []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, word: "file"},
	{name: "MySQL 5.6 by file", kind: testenv.MySQL56, args: []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, word: "file"},
	{name: "MySQL 5.6 by GTID", kind: testenv.MySQL56, args: []string{"--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-slave-updates"}, word: "gtid"},
	{name: "MariaDB 10.11", kind: testenv.MariaDB, word: "mariadb"},
}

// eachSetup runs a test on a server of its own for each setup.
func eachSetup(t *testing.T, test func(t *testing.T, s setup, srv *testenv.Server)) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) { test(t, s, testenv.Start(t, s.kind, s.args...)) })
	}
}

// said is what a transaction did, in words.
func said(tx *dfs.Transaction) string {
	var parts []string
	for _, c := range tx.Changes {
		row := c.After
		if row == nil {
			row = c.Before
		}
		text := c.Op.String() + " " + c.Table.Name
		for _, v := range row {
			text += " " + v.String()
		}
		if c.Op == dfs.DDL {
			text = c.Query
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// workload is what tests read, with what each transaction says.
var workload = []struct{ sql, says string }{
	{"CREATE TABLE shop.a (id int PRIMARY KEY, n int)", "CREATE TABLE shop.a (id int PRIMARY KEY, n int)"},
	{"INSERT INTO shop.a VALUES (1, 10)", "insert a 1 10"},
	{"INSERT INTO shop.a VALUES (2, 20), (3, 30)", "insert a 2 20; insert a 3 30"},
	{"UPDATE shop.a SET n = n + 1", "update a 1 11; update a 2 21; update a 3 31"},
	{"CREATE TABLE other.x (id int PRIMARY KEY)", ""},
	{"INSERT INTO other.x VALUES (1)", ""},
	{"BEGIN; INSERT INTO shop.a VALUES (4, 40); INSERT INTO other.x VALUES (2); DELETE FROM shop.a WHERE id = 1; COMMIT", "insert a 4 40; delete a 1 11"},
	{"FLUSH LOGS", ""},
	{"CREATE TABLE shop.m (id int) ENGINE=MyISAM", "CREATE TABLE shop.m (id int) ENGINE=MyISAM"},
	{"INSERT INTO shop.m VALUES (7)", "insert m 7"},
	{"ALTER TABLE shop.a ADD COLUMN s varchar(10)", "ALTER TABLE shop.a ADD COLUMN s varchar(10)"},
	{"UPDATE shop.a SET s = 'x' WHERE id = 2", "update a 2 21 x"},
	{"CREATE USER u@localhost", ""},
	{"RENAME TABLE shop.a TO shop.b", "RENAME TABLE shop.a TO shop.b"},
	{"TRUNCATE TABLE shop.b", "TRUNCATE TABLE shop.b"},
	{"INSERT INTO shop.b VALUES (9, 90, NULL)", "insert b 9 90 NULL"},
}

func TestEveryPositionLeadsToExactlyTheRest(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		o := &cdc.Options{Tables: []string{"shop.*"}}
		srv.Exec(t, "CREATE DATABASE IF NOT EXISTS shop")
		src := open(t, srv.DSN(""), o)
		st := stream(t, src, "")
		start := read(t, st, func(*dfs.Transaction) bool { return true })[0].Checkpoint
		require.Equal(t, s.word, strings.Fields(string(start.Pos))[0])
		srv.Exec(t, "DROP DATABASE shop")
		want := append([]string{"DROP DATABASE shop"}, live(t, srv, src, st)...)

		at := func(c dfs.Checkpoint) dfs.Stream {
			st, err := src.Open(limit(t), c)
			require.NoError(t, err)
			t.Cleanup(func() { st.Close() })
			return st
		}
		txs := readN(t, src, at(start), len(want))
		require.Equal(t, want, says(txs))
		state := start.State
		for i, tx := range txs {
			state = cmp.Or(tx.State, state)
			require.NotEmpty(t, tx.ID)
			require.WithinDuration(t, time.Now(), tx.Committed, time.Minute)
			rest := want[i+1:]
			if len(rest) == 0 {
				break
			}
			from := at(dfs.Checkpoint{Pos: tx.Pos, State: state})
			require.Equal(t, rest, says(readN(t, src, from, len(rest))), "after %s", tx.Pos)
			from.Close()
		}
	})
}

// live runs the workload while st reads it, statement by statement.
func live(t *testing.T, srv *testenv.Server, src *cdc.Source, st dfs.Stream) (want []string) {
	t.Helper()
	readN(t, src, st, 1)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE DATABASE other")
	want = says(readN(t, src, st, 1))
	require.Equal(t, []string{"CREATE DATABASE shop"}, want)
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, w := range workload {
		for _, stmt := range strings.Split(w.sql, "; ") {
			_, err := conn.ExecContext(t.Context(), stmt)
			require.NoError(t, err, stmt)
		}
		if w.says != "" {
			want = append(want, w.says)
			require.Equal(t, w.says, says(readN(t, src, st, 1))[0])
		}
	}
	return want
}

func says(txs []*dfs.Transaction) []string {
	var list []string
	for _, tx := range txs {
		list = append(list, said(tx))
	}
	return list
}

func TestStartModes(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "INSERT INTO shop.a VALUES (1)", "FLUSH LOGS")
		tables := []string{"shop.*"}
		first := func(start string) string {
			t.Helper()
			src := open(t, srv.DSN(""), &cdc.Options{Tables: tables, Start: start})
			return said(readN(t, src, stream(t, src, ""), 1)[0])
		}
		require.Equal(t, "CREATE DATABASE shop", first("earliest"))

		var file, rest string
		var pos uint64
		query := "SHOW MASTER STATUS"
		if s.kind == testenv.MySQL97 {
			query = "SHOW BINARY LOG STATUS"
		}
		scan := []any{&file, &pos, &rest, &rest, &rest}
		if s.kind == testenv.MariaDB {
			scan = scan[:4]
		}
		require.NoError(t, srv.DB(t).QueryRow(query).Scan(scan...))
		set := rest
		if s.kind == testenv.MariaDB {
			require.NoError(t, srv.DB(t).QueryRow("SELECT @@gtid_binlog_pos").Scan(&set))
		}
		now := open(t, srv.DSN(""), &cdc.Options{Tables: tables})
		st, _ := begin(t, now)
		srv.Exec(t, "INSERT INTO shop.a VALUES (2)", "INSERT INTO shop.a VALUES (3)")
		require.Equal(t, "insert a 2", said(readN(t, now, st, 1)[0]))
		require.Equal(t, "insert a 2", first(fmt.Sprintf("file:%s:%d", file, pos)))
		if s.word != "file" {
			require.Equal(t, "insert a 2", first("gtid:"+set))
		} else {
			src := open(t, srv.DSN(""), &cdc.Options{Tables: tables, Start: "gtid:3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"})
			_, err := src.Open(limit(t), dfs.Checkpoint{})
			require.ErrorContains(t, err, "gtid_mode")
		}

		// A place inside a transaction is not one to begin at.
		if s.word == "gtid" {
			src := open(t, srv.DSN(""), &cdc.Options{Tables: tables, Start: fmt.Sprintf("file:%s:%d", file, pos+70)})
			require.ErrorContains(t, ended(t, stream(t, src, "")), "no transaction ends at")
		}
		src := open(t, srv.DSN(""), &cdc.Options{Tables: tables, Start: fmt.Sprintf("file:%s:%d", file, 1<<30)})
		_, err := src.Open(limit(t), dfs.Checkpoint{})
		require.Error(t, err)
	})
}

func TestLargeTransactionComesInParts(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t,
				"CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, s varchar(200))",
				"CREATE TABLE "+schema+".b (id int PRIMARY KEY)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, MaxPart: 16 << 10})
			st, start := begin(t, src)
			tx, err := srv.DB(t).Begin()
			require.NoError(t, err)
			for i := range 10 {
				_, err := tx.Exec("INSERT INTO "+schema+".b VALUES (?)", i)
				require.NoError(t, err)
				_, err = tx.Exec("INSERT INTO " + schema + ".a (s) VALUES (REPEAT('x', 200))" + strings.Repeat(", (REPEAT('y', 200))", 199))
				require.NoError(t, err)
			}
			require.NoError(t, tx.Commit())
			parts := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil && !tx.More })
			require.Greater(t, len(parts), 10)
			rows := 0
			for i, p := range parts {
				require.Equal(t, i < len(parts)-1, p.More)
				require.LessOrEqual(t, len(p.Encoded), 32<<10)
				if p.More {
					require.Equal(t, start, p.Pos, "a part has the position before its transaction")
				}
				// Each part is decoded alone, by a Source that has seen no other.
				other := open(t, srv.DSN(""), nil)
				require.NoError(t, other.Decode(t.Context(), parts[i:i+1]))
				rows += len(p.Changes)
			}
			require.Equal(t, 2010, rows)
			require.NotEqual(t, start, parts[len(parts)-1].Pos)
		})
	}
}

func TestPositionMovesWithoutFollowedTables(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".x (id int PRIMARY KEY)", "CREATE TABLE "+srv.Schema(t)+".followed (id int)")
			src := open(t, srv.DSN(""), &cdc.Options{
				Tables:    []string{"*.*", "!" + schema + ".*"},
				Heartbeat: 50 * time.Millisecond,
			})
			st, start := begin(t, src)
			srv.Exec(t, "INSERT INTO "+schema+".x VALUES (1)")
			moved := read(t, st, func(tx *dfs.Transaction) bool { return true })
			require.Len(t, moved, 1)
			require.Nil(t, moved[0].Encoded)
			require.NotEqual(t, start, moved[0].Pos)

			// A server where nothing happens gives nothing.
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			n, err := st.Next(ctx, make([]*dfs.Transaction, 10))
			require.Zero(t, n)
			require.ErrorIs(t, err, context.DeadlineExceeded)

			// The end of a context does not end the stream.
			srv.Exec(t, "INSERT INTO "+schema+".x VALUES (2)")
			read(t, st, func(tx *dfs.Transaction) bool { return true })
			stats := src.Stats()
			require.GreaterOrEqual(t, stats.Filtered, uint64(2))
			require.GreaterOrEqual(t, stats.RowEventsFiltered, uint64(2))
			require.True(t, stats.Connected)
		})
	}
}

func TestEndOfContextEndsNextAtOnce(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		for {
			if _, err := st.Next(ctx, make([]*dfs.Transaction, 10)); err != nil {
				done <- err
				return
			}
		}
	}()
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(time.Minute):
		t.Fatal("Next went on")
	}
}

func TestLostConnectionIsTransientAndLosesNothing(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
		st, _ := begin(t, src)
		var next int
		for round := range 3 {
			for range 20 {
				next++
				srv.Exec(t, fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", next))
			}
			txs := readN(t, src, st, 7)
			for i, tx := range txs {
				require.Equal(t, fmt.Sprintf("insert a %d", round*7+i+1), said(tx))
			}
			pos := txs[6].Pos
			killDump(t, srv)
			require.ErrorIs(t, ended(t, st), dfs.ErrTransient)
			st.Close()
			st = stream(t, src, pos)
		}
		require.Equal(t, "insert a 22", said(readN(t, src, st, 1)[0]))
	})
}

// killDump ends the connections that send the log.
func killDump(t *testing.T, srv *testenv.Server) {
	t.Helper()
	rows, err := srv.DB(t).Query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
	require.NoError(t, err)
	defer rows.Close()
	var ids []int
	for rows.Next() {
		var id int
		require.NoError(t, rows.Scan(&id))
		ids = append(ids, id)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, ids)
	for _, id := range ids {
		// The thread of an earlier stream may have been on its way out.
		_, err := srv.DB(t).Exec(fmt.Sprintf("KILL %d", id))
		if unknown := new(mysql.MySQLError); !errors.As(err, &unknown) || unknown.Number != 1094 {
			require.NoError(t, err)
		}
	}
	require.Eventually(t, func() bool {
		var n int
		err := srv.DB(t).QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'").Scan(&n)
		return err == nil && n == 0
	}, time.Minute, 10*time.Millisecond)
}

func TestServerThatHangsIsNoticed(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	src := open(t, srv.DSN(""), &cdc.Options{Heartbeat: 50 * time.Millisecond, ReadTimeout: 1500 * time.Millisecond})
	st, _ := begin(t, src)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := st.Next(ctx, make([]*dfs.Transaction, 1))
	require.ErrorIs(t, err, context.DeadlineExceeded, "heartbeats keep an idle stream alive")
	require.NoError(t, srv.Pause())
	defer srv.Resume()
	require.ErrorIs(t, ended(t, st), dfs.ErrTransient)
}

func TestPurgedLog(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
		st, pos := begin(t, src)
		killDump(t, srv) // or the server would keep the file that it reads
		require.Error(t, ended(t, st))
		st.Close()
		srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "FLUSH LOGS", "INSERT INTO shop.a VALUES (2)", "FLUSH LOGS")
		// MariaDB keeps a file until InnoDB has written what is in it.
		require.Eventually(t, func() bool {
			first, last := logNames(t, srv)
			srv.Exec(t, "PURGE BINARY LOGS TO '"+last+"'")
			return first == last
		}, time.Minute, 50*time.Millisecond)
		err := openError(t, src, pos)
		require.ErrorIs(t, err, cdc.ErrPurged)
		require.NotErrorIs(t, err, dfs.ErrTransient)
	})
}

// logNames returns the first and the last file of the log.
func logNames(t *testing.T, srv *testenv.Server) (first, last string) {
	t.Helper()
	logs, err := srv.DB(t).Query("SHOW BINARY LOGS")
	require.NoError(t, err)
	defer logs.Close()
	columns, err := logs.Columns()
	require.NoError(t, err)
	row := make([]any, len(columns))
	for i := range row {
		row[i] = new(any)
	}
	row[0] = &last
	for logs.Next() {
		require.NoError(t, logs.Scan(row...))
		if first == "" {
			first = last
		}
	}
	require.NoError(t, logs.Err())
	return first, last
}

// openError returns why no stream from pos gives anything.
func openError(t *testing.T, src *cdc.Source, pos dfs.Position) error {
	t.Helper()
	st, err := src.Open(limit(t), dfs.Checkpoint{Pos: pos})
	if err != nil {
		return err
	}
	defer st.Close()
	return ended(t, st)
}

func TestFileThatWasReadToItsEndMayBePurged(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}, Heartbeat: 50 * time.Millisecond})
		st, _ := begin(t, src)
		srv.Exec(t, "INSERT INTO shop.a VALUES (1)", "FLUSH LOGS")
		var pos dfs.Position
		if s.word == "file" {
			all := read(t, st, func(tx *dfs.Transaction) bool { return strings.HasSuffix(string(tx.Pos), ".000002:4") })
			pos = all[len(all)-1].Pos
		} else {
			pos = readN(t, src, st, 1)[0].Pos
		}
		killDump(t, srv)
		require.Eventually(t, func() bool {
			first, last := logNames(t, srv)
			srv.Exec(t, "PURGE BINARY LOGS TO '"+last+"'")
			return first == last
		}, time.Minute, 50*time.Millisecond)
		st = stream(t, src, pos)
		srv.Exec(t, "INSERT INTO shop.a VALUES (2)")
		require.Equal(t, "insert a 2", said(readN(t, src, st, 1)[0]))
	})
}

func TestServerThatWasReset(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "FLUSH LOGS", "FLUSH LOGS",
			"INSERT INTO shop.a VALUES (1)")
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
		st, pos := begin(t, src)
		st.Close()
		reset := "RESET MASTER"
		if s.kind == testenv.MySQL97 {
			reset = "RESET BINARY LOGS AND GTIDS"
		}
		srv.Exec(t, reset)
		err := openError(t, src, pos)
		require.ErrorIs(t, err, cdc.ErrDiverged)
		require.NotErrorIs(t, err, dfs.ErrTransient)
	})
}

func TestFilePositionOfAnotherServer(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")
	src := open(t, srv.DSN(""), nil)
	_, err := src.Open(limit(t), dfs.Checkpoint{Pos: "file 3e11fa47-71ca-11e1-9e33-c80aa9429562 - binlog.000001:4"})
	require.ErrorIs(t, err, cdc.ErrDiverged)
	_, err = src.Open(limit(t), dfs.Checkpoint{Pos: "7"})
	require.ErrorContains(t, err, "not one of this source")
}

func TestNewerStreamTakesThePlaceOfTheOlder(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			src := open(t, srv.DSN(""), &cdc.Options{ServerID: 4711})
			older, start := begin(t, src)
			// To check a setup disturbs nobody.
			open(t, srv.DSN(""), &cdc.Options{ServerID: 4711})
			srv.Exec(t, "CREATE TABLE "+schema+".first (id int)")
			require.Contains(t, said(readN(t, src, older, 1)[0]), ".first (id int)")
			newer := stream(t, src, start)
			require.Contains(t, said(readN(t, src, newer, 1)[0]), ".first (id int)")
			err := ended(t, older)
			require.ErrorContains(t, err, "a newer stream of this Source")
			require.NotErrorIs(t, err, dfs.ErrTransient)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int)")
			require.Contains(t, said(readN(t, src, newer, 1)[0]), ".a (id int)")

			if kind == testenv.MariaDB {
				// Of two Sources with one id, the server ends the older.
				stream(t, open(t, srv.DSN(""), &cdc.Options{ServerID: 4711}), start)
				err = ended(t, newer)
				require.ErrorContains(t, err, "a newer reader with server id 4711")
				require.NotErrorIs(t, err, dfs.ErrTransient)
			}
		})
	}
}
