package cdc_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A table without a key that is written to all the time cannot be read: its copy fails
// in the end, and the others go on.
func TestCopyOfATableThatIsWrittenToAllTheTimeEnds(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1), (2)",
		"CREATE TABLE "+schema+".k (id int)", "INSERT INTO "+schema+".k VALUES (1), (2), (3)")
	// A reader waits for a lock before its first row. While it does, the table is changed.
	lock := "'" + schema[:min(len(schema), 40)] + "'"
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 1,
		Where: map[string]string{schema + ".k": "GET_LOCK(" + lock + ", 60) + RELEASE_LOCK(" + lock + ") = 2"}}})
	db := srv.DB(t)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	query := func(q string) (n int) {
		require.NoError(t, conn.QueryRowContext(t.Context(), q).Scan(&n), q)
		return n
	}
	require.Equal(t, 1, query("SELECT GET_LOCK("+lock+", 60)"))
	done := make(chan map[string]int, 1)
	go func() { done <- copiedRows(t, src) }()
	failed := func() bool { p := src.Progress(); return len(p) == 2 && p[1].State == dfs.CopyFailed }
	for n := 0; !failed(); n++ {
		require.Less(t, n, 30, "it is read without end")
		require.Eventually(t, func() bool {
			return failed() || query("SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock' AND info LIKE '%"+schema+"%'") > 0
		}, time.Minute, time.Millisecond)
		_, err := db.Exec("UPDATE " + schema + ".k SET id = id + 1")
		require.NoError(t, err)
		query("SELECT RELEASE_LOCK(" + lock + ")")
		require.Equal(t, 1, query("SELECT GET_LOCK("+lock+", 60)"))
	}
	require.Equal(t, map[string]int{"a": 2}, <-done)
	p := src.Progress()
	require.Equal(t, dfs.Copied, p[0].State)
	require.ErrorContains(t, p[1].Err, schema+".k")
	require.ErrorContains(t, p[1].Err, "is changed again and again")
	require.ErrorContains(t, p[1].Err, "add a primary key")
}

// A foreign key that is added while tables are copied acts on rows that are being read.
func TestCopySeesAForeignKeyThatIsAddedMeanwhile(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL56) // whose log does not tell what foreign keys do
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".p (id int PRIMARY KEY)", "CREATE TABLE "+schema+".c (id int PRIMARY KEY, p int)", "CREATE TABLE "+schema+".done (id int)",
		"INSERT INTO "+schema+".p VALUES (1), (2), (3), (4)", "INSERT INTO "+schema+".c VALUES (1, 1), (2, 2), (3, 3), (4, 4)")
	var holding atomic.Bool
	var asked atomic.Int32
	holding.Store(true)
	// A reader waits for a lock with its first row, and has its view then.
	lock := "'" + schema[:min(len(schema), 40)] + "'"
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 1, Tables: []string{schema + ".c"},
		Where: map[string]string{schema + ".c": "GET_LOCK(" + lock + ", 120) + RELEASE_LOCK(" + lock + ") = 2"}, Hold: func() bool {
			if !holding.Load() {
				asked.Add(1)
			}
			return holding.Load()
		}}})
	rows := make(map[string]int)
	k := &keeper{t: t, src: src, see: func(tx *dfs.Transaction) {
		for _, c := range tx.Changes {
			if c.Op == dfs.Insert && c.Table.Name == "c" {
				rows[c.After[0].String()]++
			}
		}
	}}
	done := func(tx *dfs.Transaction) bool {
		return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.Insert && c.Table.Name == "done" })
	}
	k.next(nil)
	srv.Exec(t, "ALTER TABLE "+schema+".c ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES "+schema+".p (id) ON DELETE CASCADE", "INSERT INTO "+schema+".done VALUES (1)")
	for !k.next(done) {
	}
	// Rows are deleted behind the reader's view, before it asks where the log ends.
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	query := func(q string, args ...any) (n int) {
		require.NoError(t, conn.QueryRowContext(t.Context(), q, args...).Scan(&n))
		return n
	}
	require.Equal(t, 1, query("SELECT GET_LOCK("+lock+", 60)"))
	reading := func() int {
		return query("SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User lock' AND info LIKE ?", "%"+schema+"%")
	}
	holding.Store(false)
	require.Eventually(t, func() bool { return reading() > 0 }, time.Minute, time.Millisecond)
	srv.Exec(t, "DELETE FROM "+schema+".p WHERE id > 2", "INSERT INTO "+schema+".done VALUES (2)")
	require.Equal(t, 1, query("SELECT RELEASE_LOCK("+lock+")"))
	require.Eventually(t, func() bool { return asked.Load() >= 2 }, time.Minute, time.Millisecond)
	copied, passed := false, false
	for !copied || !passed {
		k.next(func(tx *dfs.Transaction) bool {
			copied, passed = copied || tx.Copied, passed || done(tx)
			return false
		})
	}
	require.Equal(t, map[string]int{"1": 1, "2": 1}, rows)
	k.leave()
}

// A table that waits is copied by the name that it gets, also after a restart. One of
// which the copy has failed is whole once it was dropped and made anew.
func TestCopyOfATableThatGetsAnotherName(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	for i, name := range []string{"a", "b"} {
		srv.Exec(t, "CREATE TABLE "+schema+"."+name+" (id int PRIMARY KEY)", fmt.Sprintf("INSERT INTO %s.%s VALUES (%d)", schema, name, i+1))
	}
	srv.Exec(t, "CREATE TABLE "+schema+".h (id int PRIMARY KEY)", "CREATE TABLE "+schema+".z (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES "+schema+".h (id))", "INSERT INTO "+schema+".h VALUES (7)")
	var holding atomic.Bool
	holding.Store(true)
	// All wait for z's parent, which is held.
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second,
		Snapshot: &cdc.Snapshot{Readers: 1, Tables: []string{schema + ".*"}, Hold: holding.Load}})
	rows := make(map[string]string)
	k := &keeper{t: t, src: src, see: func(tx *dfs.Transaction) {
		for _, c := range tx.Changes {
			if c.Op == dfs.Insert {
				rows[c.Table.Name] += c.After[0].String() + " "
			}
		}
	}}
	k.next(nil)
	require.Eventually(t, func() bool { return src.Progress()[0].State == dfs.Copying }, time.Minute, time.Millisecond)
	require.Equal(t, dfs.CopyWaiting, src.Progress()[3].State, "z waits for h")
	srv.Exec(t, "RENAME TABLE "+schema+".z TO "+schema+".y", "INSERT INTO "+schema+".y VALUES (5, 7)")
	for !k.next(func(tx *dfs.Transaction) bool {
		return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.DDL })
	}) {
	}
	k.leave()
	holding.Store(false)
	for !k.next(func(tx *dfs.Transaction) bool { return tx.Copied }) {
	}
	require.Equal(t, map[string]string{"a": "1 ", "b": "2 ", "h": "7 ", "y": "5 "}, rows)
	for _, p := range src.Progress() {
		require.NoError(t, p.Err)
		require.Equal(t, dfs.Copied, p.State)
	}
	k.leave()
}

// Tables are numbered in the order in which they are copied.
func TestCopyIsInTheOrderOfForeignKeys(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".z (id int PRIMARY KEY)",
		"CREATE TABLE "+schema+".a (id int PRIMARY KEY, z int, FOREIGN KEY (z) REFERENCES "+schema+".z (id))", "CREATE TABLE "+schema+".b (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Hold: func() bool { return true }}})
	st := stream(t, src, "")
	read(t, st, func(*dfs.Transaction) bool { return true })
	var names []string
	for _, p := range src.Progress() {
		names = append(names, p.Name)
	}
	require.Equal(t, []string{"z", "a", "b"}, names)
}

// A primary key that the server has made and hides is in the log all the same, and the
// table is copied by it.
func TestCopyOfATableWithAHiddenKey(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	session(t, srv, "SET sql_generate_invisible_primary_key = ON", "CREATE TABLE "+schema+".g (v int)", "INSERT INTO "+schema+".g VALUES (7), (8)")
	src := open(t, srv.DSN("")+"?show_gipk_in_create_table_and_information_schema=OFF", &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{}})
	require.Equal(t, map[string]int{"g": 2}, copiedRows(t, src))
	list, err := src.Definitions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{0}, list[0].Table.Key)
	require.Contains(t, list[0].SQL, "my_row_id")
}

// A condition that no table has would copy all rows of another.
func TestConditionsOfACopyAreChecked(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1), (2), (3)")
	with := func(table, where string) *cdc.Source {
		return open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Only: true, Where: map[string]string{schema + "." + table: where}}})
	}
	_, err := with("aa", "id > 1").Open(limit(t), dfs.Checkpoint{})
	require.ErrorContains(t, err, "which is none of the tables to copy")
	for _, bad := range []string{"id > 1) OR (1 = 1", "id >", "id > 1 /*", "id = 1 LIMIT 1", "'", "1; DROP TABLE a"} {
		_, err = with("a", bad).Open(limit(t), dfs.Checkpoint{})
		require.ErrorContains(t, err, "is not one that can stand behind WHERE", bad)
	}
	for _, good := range []string{"id > 1 -- not the first", "id > 1 # not the first", "(id > 1)"} {
		src := with("a", good)
		st := stream(t, src, "")
		n := 0
		batch := make([]*dfs.Transaction, 8)
		for {
			k, err := st.Next(limit(t), batch)
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			for _, tx := range batch[:k] {
				n += len(tx.Changes)
			}
		}
		require.Equal(t, 2, n, good)
	}
}

// No rows are read while a replica is far behind, or does not say how far.
func TestCopyWaitsForReplicas(t *testing.T) {
	list := faults(t, testenv.Shared(t, testenv.MySQL97).DSN(""), &cdc.Options{Snapshot: &cdc.Snapshot{Replicas: []string{"user:geheim@nowhere"}}})
	require.Contains(t, list[0].What, "Snapshot.Replicas[0]")
	require.NotContains(t, list[0].What+list[0].Cure, "geheim")

	for kind, start := range map[testenv.Kind][]string{
		testenv.MySQL97: {"CHANGE REPLICATION SOURCE TO SOURCE_HOST = '%s', SOURCE_PORT = %s, SOURCE_USER = 'root', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1", "START REPLICA"},
		testenv.MariaDB: {"CHANGE MASTER TO MASTER_HOST = '%s', MASTER_PORT = %s, MASTER_USER = 'root', MASTER_USE_GTID = slave_pos", "START SLAVE"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			srv, replica := testenv.Start(t, kind), testenv.Start(t, kind, "--server-id=77")
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1)")
			var logged lines
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Logger: slog.New(slog.NewTextHandler(&logged, nil)),
				Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second, Snapshot: &cdc.Snapshot{Replicas: []string{replica.DSN("")}}})
			k := &keeper{t: t, src: src, see: func(*dfs.Transaction) {}}
			k.next(nil)
			require.Eventually(t, func() bool { return strings.Contains(logged.String(), "it is no replica: take it out") }, time.Minute, time.Millisecond)
			require.NotEqual(t, dfs.Copied, src.Progress()[0].State)
			host, port, err := net.SplitHostPort(srv.Addr())
			require.NoError(t, err)
			replica.Exec(t, fmt.Sprintf(start[0], host, port))
			require.Eventually(t, func() bool { return strings.Contains(logged.String(), "it does not replicate now") }, time.Minute, time.Millisecond)
			replica.Exec(t, start[1])
			for !k.next(func(tx *dfs.Transaction) bool { return tx.Copied }) {
			}
			require.Contains(t, logged.String(), "the copy of rows goes on")
			k.leave()
		})
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
