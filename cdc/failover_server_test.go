package cdc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	broken "github.com/dataflowsync/dfs/internal/faults"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A twin is a server that gets the transactions of another, as its replica would.
type twin struct {
	of, is *testenv.Server
}

func (w twin) one(t *testing.T, srv *testenv.Server, query string) (text string) {
	t.Helper()
	require.NoError(t, srv.DB(t).QueryRow(query).Scan(&text))
	return text
}

// executed returns the GTIDs that a server has.
func (w twin) executed(t *testing.T, srv *testenv.Server) string {
	if srv.Kind() == testenv.MariaDB {
		return w.one(t, srv, "SELECT @@global.gtid_binlog_pos")
	}
	return w.one(t, srv, "SELECT @@global.gtid_executed")
}

// write runs a statement on the server and, if it is to have it, on its twin with
// the same GTID. It returns the GTID.
func (w twin) write(t *testing.T, stmt string, both bool) (gtid string) {
	t.Helper()
	if w.of.Kind() == testenv.MariaDB {
		w.of.Exec(t, stmt)
		gtid = w.executed(t, w.of)
		if both {
			f := strings.Split(gtid, "-")
			session(t, w.is, "SET gtid_domain_id="+f[0], "SET server_id="+f[1], "SET gtid_seq_no="+f[2], stmt)
		}
		return gtid
	}
	before := w.executed(t, w.of)
	w.of.Exec(t, stmt)
	require.NoError(t, w.of.DB(t).QueryRow("SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", before).Scan(&gtid))
	if both {
		session(t, w.is, "SET gtid_next='"+gtid+"'", stmt)
	}
	return gtid
}

func TestAnotherServerTakesOver(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			var args []string
			if kind == testenv.MariaDB {
				args = []string{"--log-slave-updates"}
			}
			old := testenv.Start(t, kind, args...)
			for _, c := range []struct {
				name string
				way  func(t *testing.T, w twin) (more string) // what happens on both before the failover, and what then comes
				not  error
				says []string
				only []testenv.Kind
				o    cdc.Options
			}{
				{name: "has_all", way: func(t *testing.T, w twin) string {
					w.write(t, "INSERT INTO shop.a VALUES (2)", true)
					w.is.Exec(t, "INSERT INTO shop.a VALUES (3)")
					return "insert a 2; insert a 3"
				}},
				{name: "lacks_the_last", way: func(t *testing.T, w twin) string {
					return w.write(t, "INSERT INTO shop.a VALUES (2)", false)
				}, not: cdc.ErrDiverged},
				{name: "lacks_the_last_and_went_on", way: func(t *testing.T, w twin) string {
					gtid := w.write(t, "INSERT INTO shop.a VALUES (2)", false)
					w.is.Exec(t, "INSERT INTO shop.a VALUES (3)", "INSERT INTO shop.a VALUES (4)")
					return gtid
				}, not: cdc.ErrDiverged},
				{name: "errant", way: func(t *testing.T, w twin) string {
					w.is.Exec(t, "INSERT INTO shop.a VALUES (7)")
					w.write(t, "INSERT INTO shop.a VALUES (2)", true)
					w.is.Exec(t, "INSERT INTO shop.a VALUES (3)")
					return w.one(t, w.is, "SELECT @@server_uuid") + ":1"
				}, not: cdc.ErrErrant, only: []testenv.Kind{testenv.MySQL97, testenv.MySQL56}},
				{name: "errant_accepted", way: func(t *testing.T, w twin) string {
					w.is.Exec(t, "INSERT INTO shop.a VALUES (7)")
					w.write(t, "INSERT INTO shop.a VALUES (2)", true)
					return "insert a 7"
				}, only: []testenv.Kind{testenv.MySQL97, testenv.MySQL56}, o: cdc.Options{AcceptErrant: true}},
			} {
				if c.only != nil && kind == testenv.MariaDB {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					w := twin{of: old, is: testenv.Start(t, kind, args...)}
					if kind == testenv.MariaDB {
						w.of.Exec(t, "DROP DATABASE IF EXISTS shop", "RESET MASTER")
					} else {
						w.of.Exec(t, "DROP DATABASE IF EXISTS shop", resetLog(kind))
						w.is.Exec(t, resetLog(kind))
					}
					w.write(t, "CREATE DATABASE shop", true)
					w.write(t, "CREATE TABLE shop.a (id int PRIMARY KEY)", true)
					p := proxy(t, w.of.Addr(), nil)
					c.o.Tables = []string{"shop.*"}
					src := open(t, "root@tcp("+p.Addr()+")/", &c.o)
					st, _ := begin(t, src)
					w.write(t, "INSERT INTO shop.a VALUES (1)", true)
					pos := readN(t, src, st, 1)[0].Pos
					more := c.way(t, w)
					if c.name != "has_all" {
						pos = readN(t, src, st, 1)[0].Pos // what only the old one has, or both
					}
					p.Lead(w.is.Addr())
					p.Reset()
					require.ErrorIs(t, ended(t, st), dfs.ErrTransient)
					st.Close()
					if c.not != nil {
						err := openError(t, src, pos)
						require.ErrorIs(t, err, c.not)
						require.NotErrorIs(t, err, dfs.ErrTransient)
						require.ErrorContains(t, err, more)
						return
					}
					want := strings.Split(more, "; ")
					next := stream(t, src, pos)
					var have []string
					for _, tx := range readN(t, src, next, len(want)) {
						have = append(have, said(tx))
					}
					require.Equal(t, want, have)
				})
			}
		})
	}
}

// proxy returns one that is closed after all that connects through it.
func proxy(t *testing.T, server string, o *broken.Options) *broken.Proxy {
	p, err := broken.Listen(server, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// resetLog is the statement that deletes a log.
func resetLog(kind testenv.Kind) string {
	if kind == testenv.MySQL97 {
		return "RESET BINARY LOGS AND GTIDS"
	}
	return "RESET MASTER"
}

// Without GTIDs a place is one of the server's own files.
func TestAnotherServerTakesOverByFile(t *testing.T) {
	args := []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}
	a, b := testenv.Start(t, testenv.MySQL97, args...), testenv.Start(t, testenv.MySQL97, args...)
	for _, srv := range []*testenv.Server{a, b} {
		srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "INSERT INTO shop.a VALUES (1)", "INSERT INTO shop.a VALUES (2)")
	}
	p := proxy(t, a.Addr(), nil)
	src := open(t, "root@tcp("+p.Addr()+")/", &cdc.Options{Tables: []string{"shop.*"}})
	st, pos := begin(t, src)
	p.Lead(b.Addr())
	p.Reset()
	require.ErrorIs(t, ended(t, st), dfs.ErrTransient)
	st.Close()
	err := openError(t, src, pos)
	require.ErrorIs(t, err, cdc.ErrDiverged)
	require.NotErrorIs(t, err, dfs.ErrTransient)
	for _, srv := range []*testenv.Server{a, b} {
		var uuid string
		require.NoError(t, srv.DB(t).QueryRow("SELECT @@server_uuid").Scan(&uuid))
		require.ErrorContains(t, err, uuid)
	}
}

// A server that loses the end of its log gives the GTIDs of what it has lost to other
// transactions. Once it has as many as before, its set of GTIDs tells nothing.
func TestASourceThatLostItsEndIsNoticed(t *testing.T) {
	for _, s := range setups {
		if s.word == "file" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			srv := testenv.Start(t, s.kind, s.args...)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)", "FLUSH LOGS", "INSERT INTO shop.a VALUES (1)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
			st, _ := begin(t, src)
			_, file := logNames(t, srv)
			size := func() int64 {
				info, err := os.Stat(filepath.Join(srv.Dir(), file))
				require.NoError(t, err)
				return info.Size()
			}
			keep := size()
			srv.Exec(t, "INSERT INTO shop.a VALUES (2)", "INSERT INTO shop.a VALUES (3)")
			pos := readN(t, src, st, 2)[1].Pos
			st.Close()
			if s.kind == testenv.MySQL97 {
				// It keeps GTIDs in a table too, which a crash leaves as it is.
				srv.Exec(t, "RESET BINARY LOGS AND GTIDS", "INSERT INTO shop.a VALUES (4)")
			} else {
				require.NoError(t, srv.Kill())
				require.NoError(t, os.Truncate(filepath.Join(srv.Dir(), file), keep))
				require.NoError(t, srv.Restart(t.Context()))
			}
			for i := range 8 {
				srv.Exec(t, fmt.Sprintf("INSERT INTO shop.a VALUES (%d)", 10+i))
			}
			err := openError(t, src, pos)
			require.ErrorIs(t, err, cdc.ErrDiverged)
			require.NotErrorIs(t, err, dfs.ErrTransient)
		})
	}
}

// An account that is being changed is waited for; see also TestOpenUnreachable.
func TestAPasswordThatIsChangedIsTriedAgain(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY)",
		"CREATE USER reader IDENTIFIED BY 'one'", "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader")
	src := open(t, "reader:one@tcp("+srv.Addr()+")/", &cdc.Options{Tables: []string{"shop.*"}})
	st, pos := begin(t, src)
	srv.Exec(t, "ALTER USER reader IDENTIFIED BY 'two'", "INSERT INTO shop.a VALUES (1)")
	killDump(t, srv)
	require.Error(t, ended(t, st))
	st.Close()
	err := openError(t, src, pos)
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "Access denied")
	srv.Exec(t, "ALTER USER reader IDENTIFIED BY 'one'")
	require.Equal(t, "insert a 1", said(readN(t, src, stream(t, src, pos), 1)[0]))
}

// What is damaged on the way is read again; what is damaged in the log is not.
func TestWhatIsDamagedOnTheWayIsReadAgain(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, b text)")
	p := proxy(t, srv.Addr(), &broken.Options{Seed: 5})
	src := open(t, "root@tcp("+p.Addr()+")/", &cdc.Options{Tables: []string{"shop.*"}})
	st, pos := begin(t, src)
	p.Flip(30_000)
	const n = 300
	for i := range n {
		srv.Exec(t, fmt.Sprintf("INSERT INTO shop.a VALUES (%d, REPEAT('x', 1000))", i))
	}
	var have []string
	damaged := 0
	batch := make([]*dfs.Transaction, 100)
	for len(have) < n {
		k, err := st.Next(limit(t), batch)
		require.NoError(t, src.Decode(t.Context(), batch[:k]))
		for _, tx := range batch[:k] {
			pos = tx.Pos
			if len(tx.Changes) > 0 {
				have = append(have, tx.Changes[0].After[0].String())
				require.Equal(t, strings.Repeat("x", 1000), tx.Changes[0].After[1].Text())
			}
		}
		if err != nil {
			require.ErrorIs(t, err, dfs.ErrTransient)
			damaged++
			st.Close()
			st = stream(t, src, pos)
		}
	}
	for i, id := range have {
		require.Equal(t, fmt.Sprint(i), id)
	}
	require.Positive(t, damaged)

	// A row that is damaged more often than not is no damaged log.
	st.Close()
	p.Flip(5_000)
	srv.Exec(t, "INSERT INTO shop.a VALUES (999, REPEAT('y', 60000))")
	for range 6 {
		require.ErrorIs(t, openError(t, src, pos), dfs.ErrTransient)
	}
	p.Heal()
	got := readN(t, src, stream(t, src, pos), 1)
	require.Equal(t, "999", got[0].Changes[0].After[0].String())
	pos = got[0].Pos

	// In the log itself.
	srv.Exec(t, "INSERT INTO shop.a VALUES (1000, 'here')", "FLUSH LOGS")
	file := filepath.Join(srv.Dir(), "binlog.000001")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	i := strings.LastIndex(string(b), "here")
	require.Positive(t, i)
	b[i] ^= 1
	require.NoError(t, os.WriteFile(file, b, 0o644))
	for range 2 {
		require.ErrorIs(t, openError(t, src, pos), dfs.ErrTransient)
	}
	err = openError(t, src, pos)
	require.NotErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "does not match its checksum")
	require.ErrorContains(t, err, "binlog.000001:")
}

// A position that is handed on before the new server has sent anything is not in the
// files of the old one: it would later look as if the new one had lost its end.
func TestAPlaceOfTheServerBeforeIsNotOneOfTheNewOne(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			var args []string
			if kind == testenv.MariaDB {
				args = []string{"--log-slave-updates"}
			}
			w := twin{of: testenv.Start(t, kind, args...), is: testenv.Start(t, kind, args...)}
			w.is.Exec(t, "FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS") // so its files have other names
			if kind != testenv.MariaDB {
				w.of.Exec(t, resetLog(kind))
				w.is.Exec(t, resetLog(kind), "FLUSH LOGS", "FLUSH LOGS", "FLUSH LOGS")
			}
			w.write(t, "CREATE DATABASE shop", true)
			w.write(t, "CREATE TABLE shop.a (id int PRIMARY KEY)", true)
			w.write(t, "CREATE TABLE shop.b (id int PRIMARY KEY)", true)
			p := proxy(t, w.is.Addr(), nil)
			dsn := "root@tcp(" + p.Addr() + ")/"
			src := open(t, dsn, &cdc.Options{Tables: []string{"shop.a"}})
			st := stream(t, src, "")
			at := read(t, st, func(*dfs.Transaction) bool { return true })[0].Checkpoint
			w.write(t, "INSERT INTO shop.a VALUES (1)", true)
			at.Pos = readN(t, src, st, 1)[0].Pos
			require.NoError(t, st.Close())
			require.NoError(t, src.Close())
			p.Lead(w.of.Addr())

			src = open(t, dsn, &cdc.Options{Tables: []string{"shop.a", "shop.b"}})
			st, err := src.Open(limit(t), at)
			require.NoError(t, err)
			defer st.Close()
			first := read(t, st, func(*dfs.Transaction) bool { return true })[0]
			require.NoError(t, st.Close())
			w.of.Exec(t, "INSERT INTO shop.b VALUES (7)")
			next := stream(t, src, first.Pos)
			require.Equal(t, "insert b 7", said(readN(t, src, next, 1)[0]))
		})
	}
}
