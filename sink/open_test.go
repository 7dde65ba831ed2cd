package sink

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

func TestOpenReturnsAllFaultsAtOnce(t *testing.T) {
	_, err := OpenMySQL(t.Context(), "root:s3cret@tcp(127.0.0.1", &MySQLOptions{
		Name: strings.Repeat("x", 65), Routes: []Route{{"shop", "crm.*"}, {"shop.*", "crm.a*"}},
		Conflicts: []ConflictRule{{"*.*", "merge"}, {"x", PolicyIgnore}}, DDL: "overwrite", DDLRules: []DDLRule{{Tables: "y", Kinds: []string{"alter"}}}, Tables: []string{"!z"}, MaxRows: -1, MaxBytes: 5,
	})
	for _, part := range []string{"DSN", "at most 64", `"shop" names no table`, `"crm.a*"`, `policy "merge"`, `"x" names no table`, `DDL policy "overwrite"`, `"y" names no table`, `no kind of statement "alter"`, `DDL rule: policy ""`, `"z" names no table`, "MaxRows -1", "MaxBytes 5"} {
		require.ErrorContains(t, err, part)
	}
	// Invariant I9: whichever part of the DSN is wrong, nothing of it is shown.
	for _, dsn := range []string{"root:s3cret@tcp(127.0.0.1", "root:s3cret/db", "root:s3cret"} {
		_, err := OpenMySQL(t.Context(), dsn, nil)
		require.ErrorContains(t, err, "DSN cannot be read")
		require.NotContains(t, err.Error(), "s3cret")
	}
	_, err = OpenMySQL(t.Context(), "root:s3cret@xyz(h)/", nil)
	require.ErrorContains(t, err, "unknown network xyz")
	require.NotContains(t, err.Error(), "s3cret")
}

func TestOpenTellsWhatKeepsItFromTheServer(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE USER sink_poor IDENTIFIED BY 's3cret'", "GRANT SELECT ON *.* TO sink_poor")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_poor") })
	dsn := func(password string) string { return "sink_poor:" + password + "@tcp(" + srv.Addr() + ")/" }

	_, err := OpenMySQL(t.Context(), dsn("wr0ng"), nil)
	require.ErrorContains(t, err, "Access denied")
	require.ErrorContains(t, err, "connecting to the target "+srv.Addr()+" as sink_poor")
	require.ErrorContains(t, err, "check the user and the password")
	require.NotErrorIs(t, err, dfs.ErrTransient)
	require.NotContains(t, err.Error(), "wr0ng")

	_, err = OpenMySQL(t.Context(), dsn("s3cret"), &MySQLOptions{Schema: s})
	require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS `"+s+"`.`dfs_checkpoint`")
	require.ErrorContains(t, err, "GRANT SELECT, INSERT, UPDATE ON `"+s+"`.`dfs_checkpoint`")
	require.NotErrorIs(t, err, dfs.ErrTransient)

	// The cure works as it stands.
	openSink(t, srv, &MySQLOptions{Schema: s})
	srv.Exec(t, "GRANT SELECT, INSERT, UPDATE ON `"+s+"`.`dfs_checkpoint` TO sink_poor")
	m, err := OpenMySQL(t.Context(), dsn("s3cret"), &MySQLOptions{Schema: s})
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1)}))

	// Without rights on a table it is told which, by the check and by Apply.
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "GRANT INSERT ON "+s+".users TO sink_poor")
	grant := "GRANT SELECT, INSERT, UPDATE, DELETE ON `" + s + "`.`users` TO"
	require.ErrorContains(t, m.CheckTables(t.Context(), []*dfs.Table{users(s)}), grant)
	require.ErrorContains(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, del(users(s), user(1, "", 1)))}), grant)

	// An account that may write rows needs nothing else.
	srv.Exec(t, "REVOKE SELECT ON *.* FROM sink_poor", "GRANT SELECT, INSERT, UPDATE, DELETE ON "+s+".users TO sink_poor")
	require.NoError(t, m.CheckTables(t.Context(), []*dfs.Table{users(s)}))
	u := users(s)
	free := ins(u, user(999, "free", 1))
	free.NoForeignKeys = true
	first, second, third := []dfs.Change{free}, []dfs.Change(nil), []dfs.Change(nil)
	for i := range 50 {
		first = append(first, ins(u, user(i, "", 1)))
		second = append(second, upd(u, user(i, "", 1), user(i, "", 2)))
		third = append(third, del(u, user(i, "", 2)))
	}
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, first...), txn(3, second...), txn(4, third...)}))
	require.Equal(t, []string{"999|free|1"}, rows(t, srv, "SELECT * FROM "+s+".users"))
	require.EqualValues(t, 1, m.Stats().Fallbacks, "for the delete that was denied")
	require.Contains(t, m.Stats().Lane, "REPLICATION_APPLIER")

	_, err = OpenMySQL(t.Context(), "root@tcp(127.0.0.1:1)/", nil)
	require.ErrorIs(t, err, dfs.ErrTransient, "a server that is down may come back")
	require.ErrorContains(t, err, "127.0.0.1:1 as root")
	require.ErrorContains(t, err, "check that the server runs")
}

func TestCheckTablesReportsAllFaultsWithTheirCure(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s),
		"CREATE TABLE "+s+".isam (id int PRIMARY KEY) ENGINE=MyISAM",
		"CREATE TABLE "+s+".short (id int PRIMARY KEY)",
		"CREATE TABLE "+s+".strict (id int PRIMARY KEY, must int NOT NULL, may int, has int NOT NULL DEFAULT 1, g int AS (id+1))",
		"CREATE VIEW "+s+".view AS SELECT 1 AS id")
	m := openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"SHO?.*", s + ".*"}}})
	id := []dfs.Column{{Name: "ID", Type: "int"}}
	tab := func(name string, more ...dfs.Column) *dfs.Table {
		return &dfs.Table{Schema: "shop", Name: name, Columns: append(append([]dfs.Column(nil), id...), more...), Key: []int{0}}
	}
	require.NoError(t, m.CheckTables(t.Context(), []*dfs.Table{users("shop")}))
	err := m.CheckTables(t.Context(), []*dfs.Table{users("shop"), tab("gone"), tab("isam"), tab("short", dfs.Column{Name: "extra", Type: "int"}), tab("strict"), tab("view")})
	for _, part := range []string{
		"no table " + s + ".gone", "engine MyISAM", "ENGINE=InnoDB", "has no column extra", "ADD COLUMN `extra` int",
		"column must of", "is no table but a view",
	} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "column may")
	require.NotContains(t, err.Error(), "column has")
	require.NotContains(t, err.Error(), "column g ")

	// Mended, it is seen without opening anew.
	srv.Exec(t, "ALTER TABLE "+s+".short ADD COLUMN extra int")
	short := tab("short", dfs.Column{Name: "extra", Type: "int"})
	require.NoError(t, m.CheckTables(t.Context(), []*dfs.Table{short}))
	row := dfs.Row{dfs.IntValue(1), dfs.IntValue(2)}
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(short, row))}))

	// And a column that went is a clear error, with what came before applied.
	srv.Exec(t, "ALTER TABLE "+s+".short DROP COLUMN extra")
	err = m.Apply(t.Context(), []*dfs.Transaction{txn(2), txn(3, del(short, row), ins(short, row))})
	require.ErrorContains(t, err, "has no column extra")
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, at.Seq)
}

func TestStatementsThatAlterTablesStopOrAreCounted(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	u := users(s)
	batch := func() []*dfs.Transaction {
		return []*dfs.Transaction{
			txn(1, ins(u, user(1, "a", 1))), txn(2, dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: s, Name: "users"}, Query: "ALTER TABLE users ADD x int"}),
			txn(3, ins(u, user(2, "b", 1))),
		}
	}
	m := openSink(t, srv, &MySQLOptions{Name: s})
	err := m.Apply(t.Context(), batch())
	require.ErrorContains(t, err, "transaction 2 (gtid:2) alters a table: \"ALTER TABLE users ADD x int\"")
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq)

	// A statement that was run by hand may pass by its name, and no other.
	done := openSink(t, srv, &MySQLOptions{Name: s, DDLDone: []string{"gtid:2"}})
	at, err = done.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, at.Seq)
	alter := dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: s, Name: "users"}, Query: "ALTER TABLE users ADD x int"}
	err = done.Apply(t.Context(), []*dfs.Transaction{txn(2, alter), txn(3, alter)})
	require.ErrorContains(t, err, `name it as done, "gtid:3" in DDLDone or ddl_done`)
	at, err = done.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, at.Seq)
	require.EqualValues(t, 1, done.Stats().IgnoredDDL)
	require.NoError(t, done.Close())
	srv.Exec(t, "UPDATE dfs.dfs_checkpoint SET seq=1 WHERE name='"+s+"'")

	m = openSink(t, srv, &MySQLOptions{Name: s, DDL: PolicyIgnore})
	require.NoError(t, m.Apply(t.Context(), batch()[1:]))
	require.EqualValues(t, 1, m.Stats().IgnoredDDL)
	require.Equal(t, []string{"1", "2"}, rows(t, srv, "SELECT id FROM "+s+".users ORDER BY id"))
}

func TestSkippedStatementIsCountedOnce(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	u := users(s)
	m := openSink(t, srv, &MySQLOptions{Name: s, DDL: PolicyIgnore})
	batch := []*dfs.Transaction{
		txn(1, dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: s, Name: "users"}, Query: "ALTER TABLE users ADD x int"}),
		txn(2, ins(u, user(1, "a", 1))),
	}
	_, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	for range 2 {
		_, err = m.sess.exec(t.Context(), fmt.Appendf(nil, "KILL %d", m.sess.id))
		require.Error(t, err)
		require.ErrorIs(t, m.Apply(t.Context(), batch), dfs.ErrTransient)
		_, err = m.Checkpoint(t.Context())
		require.NoError(t, err)
	}
	require.Zero(t, m.Stats().IgnoredDDL)
	require.NoError(t, m.Apply(t.Context(), batch))
	require.EqualValues(t, 1, m.Stats().IgnoredDDL)

	// What a run that stops has applied before counts too.
	err = m.Apply(t.Context(), []*dfs.Transaction{
		txn(3, dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: s, Name: "users"}, Query: "ALTER TABLE users ADD y int"}),
		txn(4, ins(u, user(1, "a", 1))),
	})
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.EqualValues(t, 2, m.Stats().IgnoredDDL)
}

// A connection whose network died keeps its transaction, and the lock of the
// checkpoint, until the server is told to end it.
func TestCheckpointEndsWhatALostConnectionLeft(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, fmt.Sprintf(legacy(kind, usersSQL), s))
			m := openSink(t, srv, &MySQLOptions{Name: s})
			u := users(s)
			part := txn(2, ins(u, user(2, "b", 2)))
			part.More = true
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(u, user(1, "a", 1))), part}))
			lost := m.sess
			m.sess, m.open = nil, false // as drop does, but the server does not hear of it
			start := time.Now()
			at, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 1, at.Seq)
			require.Less(t, time.Since(start), 15*time.Second, "it waited for the lock")
			_, err = lost.exec(t.Context(), []byte("COMMIT"))
			require.Error(t, err)
			require.Equal(t, []string{"1|a|1"}, rows(t, srv, "SELECT * FROM "+s+".users"))
			part.More = false
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{part}))
		})
	}
}

// The first writer has a transaction open when the second one starts. It is
// not ended at once, and when it commits, then before the second one begins.
func TestSecondWriterWaitsForTheFirst(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	u := users(s)
	first := openSink(t, srv, &MySQLOptions{Name: s})
	part := txn(1, ins(u, user(1, "a", 1)))
	part.More = true
	require.NoError(t, first.Apply(t.Context(), []*dfs.Transaction{part}))
	second := openSink(t, srv, &MySQLOptions{Name: s})
	second.patience = 30
	type result struct {
		at  dfs.Checkpoint
		err error
	}
	done := make(chan result)
	go func() {
		at, err := second.Checkpoint(context.Background())
		done <- result{at, err}
	}()
	require.Eventually(t, func() bool {
		return len(rows(t, srv, "SELECT 1 FROM information_schema.INNODB_TRX WHERE trx_state='LOCK WAIT' AND trx_query LIKE 'UPDATE%dfs_checkpoint%"+s+"%'")) > 0
	}, time.Minute, 200*time.Millisecond) // asked within 100 ms, INNODB_TRX gives its last answer again
	require.NoError(t, first.Apply(t.Context(), []*dfs.Transaction{txn(2)}))
	r := <-done
	require.NoError(t, r.err)
	require.EqualValues(t, 2, r.at.Seq)
	require.ErrorIs(t, first.Apply(t.Context(), []*dfs.Transaction{txn(3)}), dfs.ErrConflict)
	_, err := first.Checkpoint(t.Context())
	require.ErrorIs(t, err, dfs.ErrConflict, "the first must not take over in its turn")
	require.NoError(t, second.Apply(t.Context(), []*dfs.Transaction{txn(3)}))
}

// Lock waits, deadlocks and a server that is read-only pass.
func TestErrorsThatMayPassAreMarked(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (1,'a',1)")
	u := users(s)
	m := openSink(t, srv, &MySQLOptions{Name: s})
	_, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	_, err = m.sess.exec(t.Context(), []byte("SET innodb_lock_wait_timeout=1"))
	require.NoError(t, err)
	other, err := srv.DB(t).Begin()
	require.NoError(t, err)
	_, err = other.Exec("UPDATE " + s + ".users SET n=5 WHERE id=1")
	require.NoError(t, err)
	err = m.Apply(t.Context(), []*dfs.Transaction{txn(1, upd(u, user(1, "a", 1), user(1, "a", 2)))})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.NoError(t, other.Rollback())
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Zero(t, at.Seq)
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, upd(u, user(1, "a", 1), user(1, "a", 2)))}))
	require.Equal(t, []string{"1|a|2"}, rows(t, srv, "SELECT * FROM "+s+".users"))

	require.ErrorIs(t, classify(&mysql.MySQLError{Number: 1030, Message: "Got error 28 - 'No space left on device'"}), dfs.ErrTransient)
	require.NotErrorIs(t, classify(&mysql.MySQLError{Number: 1030, Message: "Got error 122"}), dfs.ErrTransient)
	require.ErrorIs(t, classify(mysql.ErrInvalidConn), dfs.ErrTransient)
	require.NotErrorIs(t, classify(context.Canceled), dfs.ErrTransient)
	require.NotErrorIs(t, classify(sql.ErrNoRows), dfs.ErrTransient)
}

// kill -9 of the target at random moments, with rows that would show a
// transaction applied twice or not at all.
func TestKilledTargetLosesAndRepeatsNothing(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (0,'count',0)")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	u := users(s)
	seed := testseed.New(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	for kills := 0; kills < 3; {
		killed := make(chan error, 1)
		timer := time.AfterFunc(time.Duration(20+rng.IntN(150))*time.Millisecond, func() { killed <- srv.Kill() })
		for err == nil {
			var batch []*dfs.Transaction
			for range 1 + rng.IntN(300) {
				at.Seq++
				n := int(at.Seq)
				batch = append(batch, txn(at.Seq, upd(u, user(0, "count", n-1), user(0, "count", n)), ins(u, user(n, "", n))))
			}
			err = m.Apply(t.Context(), batch)
		}
		require.ErrorIs(t, err, dfs.ErrTransient, "%v", err)
		_, err = m.Checkpoint(t.Context())
		require.ErrorIs(t, err, dfs.ErrTransient)
		if !timer.Stop() {
			require.NoError(t, <-killed)
			kills++
		}
		require.NoError(t, srv.Restart(t.Context()))
		at, err = m.Checkpoint(t.Context())
		require.NoError(t, err)
		want := fmt.Sprintf("%d|%d|%d", at.Seq, at.Seq, at.Seq*(at.Seq+1)/2)
		require.Equal(t, []string{want}, rows(t, srv, "SELECT (SELECT n FROM "+s+".users WHERE id=0), COUNT(*), COALESCE(SUM(n), 0) FROM "+s+".users WHERE id>0"))
	}
	require.Positive(t, at.Seq)
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(at.Seq + 1)}))
}

// Each row of an UPDATE or DELETE must be found by one lookup of its key.
func TestStatementsUseTheKey(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			text := "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
			srv.Exec(t, "CREATE TABLE "+s+".a (id int PRIMARY KEY, v int)",
				"CREATE TABLE "+s+".b (x int, y "+text+", v int, PRIMARY KEY (x, y))",
				"CREATE TABLE "+s+".c (k "+text+" NOT NULL, v int, UNIQUE (k))")
			m := openSink(t, srv, &MySQLOptions{Name: s, SQLOnly: true})
			for _, name := range []string{"a", "b", "c"} {
				latin := dfs.Column{Name: "y", Type: "varchar(20)", Charset: "latin1", Collation: "latin1_swedish_ci"}
				tab := &dfs.Table{Schema: s, Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "v", Type: "int"}}}
				row := func(i, v int) dfs.Row { return dfs.Row{dfs.IntValue(int64(i)), dfs.IntValue(int64(v))} }
				switch name {
				case "b":
					tab.Columns = []dfs.Column{{Name: "x", Type: "int"}, latin, {Name: "v", Type: "int"}}
					tab.Key = []int{0, 1}
					row = func(i, v int) dfs.Row {
						return dfs.Row{dfs.IntValue(int64(i)), dfs.StringValue(fmt.Sprint("k", i)), dfs.IntValue(int64(v))}
					}
				case "c":
					latin.Name = "k"
					tab.Columns, tab.Key = []dfs.Column{latin, {Name: "v", Type: "int"}}, nil
					row = func(i, v int) dfs.Row { return dfs.Row{dfs.StringValue(fmt.Sprint("k", i)), dfs.IntValue(int64(v))} }
				}
				var vals []string
				for i := range 2000 {
					vals = append(vals, map[string]string{"a": fmt.Sprintf("(%d,1)", i), "b": fmt.Sprintf("(%d,'k%d',1)", i, i), "c": fmt.Sprintf("('k%d',1)", i)}[name])
				}
				srv.Exec(t, "INSERT INTO "+s+"."+name+" VALUES "+strings.Join(vals, ","), "ANALYZE TABLE "+s+"."+name)
				mp, err := m.mapping(t.Context(), tab)
				require.NoError(t, err)
				for _, op := range []dfs.Op{dfs.Update, dfs.Delete} {
					g := &group{m: mp, op: op, cols: newColset(3)}
					g.cols.add(len(tab.Columns) - 1)
					for i := range 50 {
						g.rows = append(g.rows, rowOp{row(i*7, 1), row(i*7, 2)})
					}
					w := &m.writer
					w.reset()
					require.NoError(t, w.sqlGroup(g))
					explain, typ := "EXPLAIN ", 3 // id, select_type, table, type
					if kind == testenv.MySQL97 {
						explain, typ = "EXPLAIN FORMAT=TRADITIONAL ", 4 // with partitions
					}
					plan := rows(t, srv, explain+string(w.b))
					w.reset()
					found := false
					for _, line := range plan {
						if f := strings.Split(line, "|"); f[2] == "t" || f[2] == name {
							want := map[dfs.Op]string{dfs.Update: "eq_ref", dfs.Delete: "range"}[op]
							require.Equal(t, want, f[typ], "%s %s: %v", name, op, plan)
							found = true
						}
					}
					require.True(t, found, "%s %s: %v", name, op, plan)
				}
			}
		})
	}
}
