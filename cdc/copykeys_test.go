package cdc_test

import (
	"context"
	"fmt"
	"runtime"
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

// copiedRows copies all tables, and returns how many rows each had.
func copiedRows(t *testing.T, src *cdc.Source) map[string]int {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	st, err := src.Open(ctx, dfs.Checkpoint{})
	require.NoError(t, err)
	defer st.Close()
	got := make(map[string]int)
	batch := make([]*dfs.Transaction, 64)
	for {
		n, err := st.Next(ctx, batch)
		require.NoError(t, err)
		for _, tx := range batch[:n] {
			if tx.Snapshot {
				for _, c := range tx.Changes {
					got[c.Table.Name]++
				}
			}
			if tx.Copied {
				return got
			}
		}
	}
}

// Keys of all types are paged from their least value to their greatest.
func TestCopyByKeysOfAllTypes(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			db := srv.DB(t)
			ex := func(q string) {
				c, err := db.Conn(t.Context())
				require.NoError(t, err)
				defer c.Close()
				_, err = c.ExecContext(t.Context(), "SET sql_mode='ALLOW_INVALID_DATES'")
				require.NoError(t, err)
				_, err = c.ExecContext(t.Context(), q)
				require.NoError(t, err, "%.300s", q)
			}
			want := make(map[string]int)
			mk := func(name, typ string, vals ...string) {
				ex(fmt.Sprintf("CREATE TABLE %s.%s (k %s PRIMARY KEY, v int)", schema, name, typ))
				ex(fmt.Sprintf("INSERT IGNORE INTO %s.%s VALUES (%s,1)", schema, name, strings.Join(vals, ",1),(")))
				var n int
				require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+schema+"."+name).Scan(&n))
				want[name] = n
			}
			seq := func(n int, f func(i int) string) (l []string) {
				for i := range n {
					l = append(l, f(i))
				}
				return
			}
			mk("y", "year", append(seq(60, func(i int) string { return fmt.Sprint(1901 + i) }), "'0000'")...)
			mk("e", "enum('c','b','a','')", "'c'", "'b'", "'a'", "''", "'zz'")
			mk("st", "set('a','b','c','d','e','f','g')", seq(60, func(i int) string { return fmt.Sprint(i) })...)
			var mem []string
			for i := range 64 {
				mem = append(mem, fmt.Sprintf("'m%d'", i))
			}
			mk("st64", "set("+strings.Join(mem, ",")+")", seq(64, func(i int) string { return fmt.Sprintf("%d", uint64(1)<<i) })...)
			mk("bt", "bit(64)", seq(64, func(i int) string { return fmt.Sprintf("%d", uint64(1)<<i) })...)
			mk("tm", "time(3)", seq(60, func(i int) string { return fmt.Sprintf("'%d:00:%02d.%03d'", (i-30)*8, i%60, i) })...)
			mk("dt", "date", append(seq(60, func(i int) string { return fmt.Sprintf("'20%02d-%02d-%02d'", i%100, i%13, i%32) }), "'0000-00-00'", "'1000-01-01'")...)
			mk("ts", "timestamp(2)", append(seq(60, func(i int) string { return fmt.Sprintf("'2016-10-30 %02d:%02d:00.%02d'", i%24, i%60, i%100) }), "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01.5'")...)
			mk("dm", "datetime(6)", append(seq(60, func(i int) string { return fmt.Sprintf("'%04d-10-30 %02d:%02d:00.%06d'", i*100, i%24, i%60, i*3) }), "'0000-00-00 00:00:00'")...)
			mk("fl", "float", seq(60, func(i int) string { return fmt.Sprintf("%g", float64(i-30)*1.1e3/7) })...)
			mk("db", "double", append(seq(60, func(i int) string { return fmt.Sprintf("%g", float64(i-30)*1.1e30/7) }), "-0.0", "1e-300")...)
			mk("dc", "decimal(30,10)", append(seq(60, func(i int) string { return fmt.Sprintf("%d.%010d", (i-30)*1000, i*12345) }), "-0.00000000001", "-0.5")...)
			mk("dz", "decimal(10,2) unsigned zerofill", seq(60, func(i int) string { return fmt.Sprintf("%d.%02d", i*i, i%100) })...)
			mk("bu", "bigint unsigned", append(seq(60, func(i int) string { return fmt.Sprint(uint64(i) * 0x0410_0000_0000_0000 % (1<<64 - 1)) }), "18446744073709551615", "0")...)
			mk("bs", "bigint", append(seq(60, func(i int) string { return fmt.Sprint(int64(i-30) * 0x0410_0000_0000_0000) }), "9223372036854775807", "-9223372036854775808")...)
			mk("bn", "binary(4)", seq(60, func(i int) string { return fmt.Sprintf("x'%02x00%02x'", i, i%3) })...)
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 3, ChunkRows: 3}})
			got := copiedRows(t, src)
			for _, p := range src.Progress() {
				require.NoError(t, p.Err)
			}
			require.Equal(t, want, got)
		})
	}
}

// A table without a key is handed on while others have more to hand on than fits.
func TestCopyWithoutAKeyPassesOthersThatWait(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	db := srv.DB(t)
	gen := func(name, cols string, rows int) {
		srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (%s, s varchar(5000))", schema, name, cols))
		for i := 0; i < rows; i += 200 {
			var b []string
			for j := range 200 {
				b = append(b, fmt.Sprintf("(%d, REPEAT('x', 5000))", i+j))
			}
			_, err := db.Exec("INSERT INTO " + schema + "." + name + " VALUES " + strings.Join(b, ","))
			require.NoError(t, err)
		}
	}
	gen("a", "id int PRIMARY KEY", 10_000)
	gen("k", "id int", 2_000)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 3, ChunkTime: 20 * time.Second,
		Where: map[string]string{schema + ".k": "SLEEP(0.0005) = 0"}}})
	got := copiedRows(t, src)
	require.Equal(t, map[string]int{"a": 10_000, "k": 2_000}, got)
}

// A table that the account may not see any more was not dropped: its copy fails, and
// the other tables go on.
func TestCopyOfATableThatIsHiddenFails(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind)
			schema := srv.Schema(t)
			client := "REPLICATION CLIENT"
			if kind == testenv.MariaDB {
				client = "BINLOG MONITOR"
			}
			srv.Exec(t, "CREATE USER 'poor'@'%' IDENTIFIED BY 'geheim'", "GRANT REPLICATION SLAVE, "+client+" ON *.* TO 'poor'@'%'")
			for _, name := range []string{"a", "b"} {
				srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (id int PRIMARY KEY)", schema, name), fmt.Sprintf("INSERT INTO %s.%s VALUES (1), (2)", schema, name),
					fmt.Sprintf("GRANT SELECT ON %s.%s TO 'poor'@'%%'", schema, name))
			}
			revoke := sync.OnceFunc(func() { srv.Exec(t, "REVOKE SELECT ON "+schema+".b FROM 'poor'@'%'") })
			src := open(t, strings.Replace(srv.DSN(""), "root@", "poor:geheim@", 1), &cdc.Options{Tables: []string{schema + ".*"},
				Snapshot: &cdc.Snapshot{Readers: 1, Hold: func() bool { revoke(); return false }}})
			require.Equal(t, map[string]int{"a": 2}, copiedRows(t, src))
			p := src.Progress()
			require.Equal(t, dfs.Copied, p[0].State)
			require.Equal(t, dfs.CopyFailed, p[1].State)
			require.ErrorContains(t, p[1].Err, schema+".b")
			require.ErrorContains(t, p[1].Err, "GRANT SELECT")
		})
	}
}

// What a delete does to the rows of tables that refer to those that refer to it is
// not in the log: they are read again.
func TestCopyWhileADeleteActsThroughAnotherTable(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL56, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.a (id int PRIMARY KEY, v int)", schema),
				fmt.Sprintf("CREATE TABLE %[1]s.b (id int PRIMARY KEY, a int, FOREIGN KEY (a) REFERENCES %[1]s.a (id) ON DELETE CASCADE)", schema),
				fmt.Sprintf("CREATE TABLE %[1]s.c (id int PRIMARY KEY, b int, FOREIGN KEY (b) REFERENCES %[1]s.b (id) ON DELETE CASCADE)", schema),
				fmt.Sprintf("INSERT INTO %s.a VALUES (1, 0), (2, 0)", schema), fmt.Sprintf("INSERT INTO %s.b VALUES (1, 1), (2, 2)", schema))
			for i := range 40 {
				srv.Exec(t, fmt.Sprintf("INSERT INTO %s.c VALUES (%d, %d)", schema, i, 1+i%2))
			}
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 1,
				Where: map[string]string{schema + ".c": "SLEEP(0.03) = 0"}}})
			db := srv.DB(t)
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					var n int
					err := db.QueryRow("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT%" + schema + "%SLEEP(%' AND info NOT LIKE '%processlist%'").Scan(&n)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := db.Exec("DO SLEEP(0.05)"); err != nil {
						t.Error(err)
						return
					}
					if n > 0 {
						srv.Exec(t, "UPDATE "+schema+".a SET v = 1", "DELETE FROM "+schema+".a WHERE id = 1")
						return
					}
				}
			})
			got := copiedRows(t, src)
			wg.Wait()
			require.Equal(t, 20, got["c"])
		})
	}
}

// The position of a statement that ends the copy of a table has that it is over.
func TestPositionOfADropHasThatTheCopyIsOver(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "CREATE TABLE "+schema+".b (id int PRIMARY KEY)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Hold: func() bool { return true }}})
	st := stream(t, src, "")
	read(t, st, func(*dfs.Transaction) bool { return true })
	srv.Exec(t, "DROP TABLE "+schema+".b")
	list := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
	p, err := cdc.ParsePosition(list[len(list)-1].Pos)
	require.NoError(t, err)
	require.Equal(t, "1", p.Copy)
}

// A key may be in another character set by now than where the log is read.
func TestCopyOfAKeyThatTheLogHasOtherwise(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	var set string
	require.NoError(t, srv.DB(t).QueryRow("SELECT @@global.gtid_executed").Scan(&set))
	srv.Exec(t, "CREATE TABLE "+schema+".a (k varchar(9) CHARACTER SET latin1, UNIQUE KEY (k))", "INSERT INTO "+schema+".a VALUES (x'e9'), (NULL)",
		"DELETE FROM "+schema+".a WHERE k IS NULL", "ALTER TABLE "+schema+".a CONVERT TO CHARACTER SET utf8mb4, MODIFY k varchar(9) CHARACTER SET utf8mb4 NOT NULL")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Start: "gtid:" + strings.ReplaceAll(set, "\n", ""), Snapshot: &cdc.Snapshot{}})
	st := stream(t, src, "")
	read(t, st, func(*dfs.Transaction) bool { return true })
	for src.Progress()[0].State != dfs.Copying {
		runtime.Gosched()
	}
	var rows []string
	for _, tx := range read(t, st, func(tx *dfs.Transaction) bool { return tx.Copied }) {
		require.NoError(t, src.Decode(t.Context(), []*dfs.Transaction{tx}))
		for _, c := range tx.Changes {
			if c.Op != dfs.DDL {
				rows = append(rows, fmt.Sprintf("%s %x", c.Op, c.After[0].Text()))
			}
		}
	}
	require.NoError(t, src.Progress()[0].Err)
	require.Equal(t, []string{"insert c3a9"}, rows)
}

// Where a table that is copied changes places with one of which a part is, neither has
// all of its rows. One of which nothing is copied yet is copied by its new name.
func TestCopyOfTablesThatChangePlaces(t *testing.T) {
	for _, c := range []struct {
		statements int32 // that read rows before the others are held
		part       bool
		chunk      int
		word       string
	}{{4, true, 1, "0!;1!"}, {1, false, 100, "0"}} {
		srv := testenv.Shared(t, testenv.MySQL97)
		schema := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1)",
			"CREATE TABLE "+schema+".b (id int PRIMARY KEY)", "INSERT INTO "+schema+".b VALUES (2), (3)")
		var statements, most atomic.Int32
		most.Store(c.statements)
		src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Readers: 1, ChunkRows: c.chunk,
			Hold: func() bool { return statements.Add(1) > most.Load() }}})
		st := stream(t, src, "")
		var rows []string
		see := func(list []*dfs.Transaction) {
			require.NoError(t, src.Decode(t.Context(), list))
			for _, tx := range list {
				for _, c := range tx.Changes {
					if c.Op == dfs.Insert {
						rows = append(rows, c.Table.Name+" "+c.After[0].String())
					}
				}
			}
		}
		see(read(t, st, func(tx *dfs.Transaction) bool { return tx.Snapshot && strings.HasSuffix(tx.ID, ".b") == c.part }))
		srv.Exec(t, fmt.Sprintf("RENAME TABLE %[1]s.a TO %[1]s.x, %[1]s.b TO %[1]s.a, %[1]s.x TO %[1]s.b", schema))
		list := read(t, st, func(tx *dfs.Transaction) bool { return tx.Encoded != nil })
		p, err := cdc.ParsePosition(list[len(list)-1].Pos)
		require.NoError(t, err)
		if !c.part {
			most.Store(1 << 30)
			see(read(t, st, func(tx *dfs.Transaction) bool { return tx.Copied }))
			require.Equal(t, []string{"a 1", "a 2", "a 3"}, rows)
		}
		require.Equal(t, c.word, p.Copy)
	}
}

// Without the list of tables that a State has, how far a copy is means nothing.
func TestCopyGoesOnOnlyWithItsState(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Hold: func() bool { return true }}})
	first := read(t, stream(t, src, ""), func(*dfs.Transaction) bool { return true })[0]
	require.Contains(t, first.Pos, "copy:-")
	_, err := src.Open(limit(t), dfs.Checkpoint{Pos: first.Pos})
	require.ErrorContains(t, err, "State")
	st, err := src.Open(limit(t), dfs.Checkpoint{Pos: first.Pos, State: first.State})
	require.NoError(t, err)
	require.NoError(t, st.Close())
}

// A query shows the rows of now only of a table that keeps its history.
func TestCopyOfATableWithHistoryIsRefused(t *testing.T) {
	srv := testenv.Shared(t, testenv.MariaDB)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY) WITH SYSTEM VERSIONING", "CREATE TABLE "+schema+".b (id int PRIMARY KEY)",
		"INSERT INTO "+schema+".a VALUES (1), (2)", "DELETE FROM "+schema+".a WHERE id = 1", "INSERT INTO "+schema+".b VALUES (1)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{}})
	require.Equal(t, map[string]int{"b": 1}, copiedRows(t, src))
	for _, p := range src.Progress() {
		if p.Name == "a" {
			require.Equal(t, dfs.CopyFailed, p.State)
			require.ErrorContains(t, p.Err, "SYSTEM VERSIONING")
			require.ErrorContains(t, p.Err, "mariadb-dump --dump-history")
		} else {
			require.Equal(t, dfs.Copied, p.State)
		}
	}
}
