package sink

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

var pair = []dfs.Column{{Name: "id", Type: "int"}, {Name: "x", Type: "int", Nullable: true}, {Name: "y", Type: "int", Nullable: true}}

func pairTable(schema, name string) *dfs.Table {
	return &dfs.Table{Schema: schema, Name: name, Key: []int{0}, Columns: pair}
}

// pairs returns n changes of rows from on, with x and y for each.
func pairs(op dfs.Op, t *dfs.Table, from, n int) (changes []dfs.Change) {
	for i := from; i < from+n; i++ {
		row := func(x int64) dfs.Row { return dfs.Row{dfs.IntValue(int64(i)), dfs.IntValue(x), dfs.IntValue(20)} }
		c := dfs.Change{Op: op, Table: t, After: row(10)}
		switch op {
		case dfs.Update:
			c.Before, c.After = row(10), row(11)
		case dfs.Delete:
			c.Before, c.After = row(11), nil
		}
		changes = append(changes, c)
	}
	return changes
}

func TestEventsFollowATargetThatIsAltered(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".b (id int PRIMARY KEY AUTO_INCREMENT, x int, y int)")
	b := pairTable(s, "b")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	seq := uint64(0)
	apply := func(changes []dfs.Change) {
		t.Helper()
		seq++
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}))
	}
	apply(pairs(dfs.Insert, b, 0, 50))
	require.EqualValues(t, 50, m.Stats().EventRows)
	for i, alter := range []string{"MODIFY y int AFTER id", "MODIFY y int AFTER x", "ADD COLUMN hidden int INVISIBLE AFTER id",
		"ADD COLUMN extra int AFTER id", "MODIFY extra int AFTER y", "DROP COLUMN extra, DROP COLUMN hidden"} {
		srv.Exec(t, "ALTER TABLE "+s+".b "+alter)
		apply(pairs(dfs.Insert, b, 100*i+100, 50))
		apply(pairs(dfs.Update, b, 100*i+100, 50))
		require.Equal(t, []string{"50|50|50"}, rows(t, srv, fmt.Sprintf("SELECT COUNT(*), SUM(x=11), SUM(y=20) FROM %s.b WHERE id>=%d", s, 100*i+100)), alter)
	}
	require.EqualValues(t, 50+2*100, m.Stats().EventRows, "events go on while all columns come from the source")
	require.Empty(t, m.Stats().Conflicts)

	// A counter that rows move is no alteration.
	n := m.Stats().Fallbacks
	apply(pairs(dfs.Insert, b, 2000, 50))
	apply(pairs(dfs.Insert, b, 3000, 50))
	require.Equal(t, n, m.Stats().Fallbacks)
	srv.Exec(t, "INSERT INTO "+s+".b (x) VALUES (1)")
	require.Equal(t, []string{"3050"}, rows(t, srv, "SELECT MAX(id) FROM "+s+".b"))
}

func TestForeignKeysThatTheAccountCannotSeeActAllTheSame(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s, hidden := srv.Schema(t), srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)",
		"CREATE TABLE "+hidden+".k (id int PRIMARY KEY, pid int, FOREIGN KEY (pid) REFERENCES "+s+".p (id) ON DELETE CASCADE ON UPDATE CASCADE)",
		"CREATE USER sink_blind IDENTIFIED BY 'pw'", "GRANT SELECT, INSERT, UPDATE, DELETE ON "+s+".* TO sink_blind",
		"GRANT CREATE, SELECT, INSERT, UPDATE ON dfs.* TO sink_blind", "GRANT REPLICATION_APPLIER ON *.* TO sink_blind")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_blind") })
	m, err := OpenMySQL(t.Context(), "sink_blind:pw@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s})
	require.NoError(t, err)
	defer m.Close()
	require.Regexp(t, "^row events, but deletes and .* by SQL: .* GRANT PROCESS", m.Stats().Lane)
	p := pairTable(s, "p")
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, pairs(dfs.Insert, p, 0, 50)...)}))
	srv.Exec(t, "INSERT INTO "+hidden+".k SELECT id, id FROM "+s+".p")
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, pairs(dfs.Update, p, 0, 50)...), txn(3, pairs(dfs.Delete, p, 0, 20)...)}))
	require.Equal(t, []string{"30"}, rows(t, srv, "SELECT COUNT(*) FROM "+hidden+".k"))
	require.EqualValues(t, 80, m.Stats().EventRows, "rows that are deleted were not updated")
}

func TestValuesOfAStageMeetTheSameChecksOnBothLanes(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for _, sqlOnly := range []bool{true, false} {
		s := srv.Schema(t)
		srv.Exec(t, "CREATE TABLE "+s+".v (id int PRIMARY KEY, c varchar(3)) CHARACTER SET utf8mb4")
		v := &dfs.Table{Schema: s, Name: "v", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "c", Type: "varchar(3)", Charset: "utf8mb4"}}}
		for i, text := range []string{"hidden", "\xff\xfe"} {
			m := openSink(t, srv, &MySQLOptions{Name: fmt.Sprint(s, i), SQLOnly: sqlOnly})
			var changes []dfs.Change
			for id := range 50 {
				c := "abc"
				if id == 30 {
					c = text
				}
				changes = append(changes, ins(v, dfs.Row{dfs.IntValue(int64(id)), dfs.StringValue(c)}))
			}
			err := m.Apply(t.Context(), []*dfs.Transaction{txn(1, changes...)})
			if text == "\xff\xfe" && !sqlOnly {
				// What is no text arrives nevertheless, by events alone.
				require.NoError(t, err)
				require.Equal(t, []string{"FFFE"}, rows(t, srv, "SELECT HEX(c) FROM "+s+".v WHERE id=30"))
				continue
			}
			require.Error(t, err)
			require.Equal(t, []string{"0"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".v"))
		}
	}
}

func TestAnAccountThatMayUseEventsOnlyInPartGoesBySQL(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE USER part IDENTIFIED BY 'pw'", "GRANT ALL ON dfs.* TO part", "GRANT BINLOG_ADMIN ON *.* TO part")
	m, err := OpenMySQL(t.Context(), "part:pw@tcp("+srv.Addr()+")/", nil)
	require.NoError(t, err)
	defer m.Close()
	require.Contains(t, m.Stats().Lane, "REPLICATION_APPLIER")
}

func TestMembersInAnotherOrderGoByName(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".e (id int PRIMARY KEY, c enum('A','a')) COLLATE utf8mb4_bin")
	e := &dfs.Table{Schema: s, Name: "e", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "c", Type: "enum", Members: []string{"a", "A"}}}}
	m := openSink(t, srv, &MySQLOptions{Name: s})
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(e, dfs.Row{dfs.IntValue(1), dfs.UintValue(1)}))}))
	require.Equal(t, []string{"1|a"}, rows(t, srv, "SELECT * FROM "+s+".e"))
}

func TestDeletesGoAsEventsWhereNoForeignKeyActs(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int, KEY (x))")
	p := pairTable(s, "p")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	require.Equal(t, "row events", m.Stats().Lane)
	seq, events := uint64(0), uint64(0)
	apply := func(rows uint64, changes []dfs.Change) {
		t.Helper()
		seq++
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}))
		events += rows
		require.Equal(t, events, m.Stats().EventRows)
	}
	apply(300, pairs(dfs.Insert, p, 0, 300))
	apply(200, pairs(dfs.Update, p, 0, 200))
	require.Equal(t, []string{"200"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".p FORCE INDEX (x) WHERE x=11"))
	apply(100, pairs(dfs.Delete, p, 0, 100))
	apply(0, pairs(dfs.Delete, p, 100, 10)) // too few to ask

	// Foreign keys that only refuse do so on both lanes.
	srv.Exec(t, "CREATE TABLE "+s+".r (id int PRIMARY KEY, pid int, FOREIGN KEY (pid) REFERENCES "+s+".p (id))", "INSERT INTO "+s+".r VALUES (1, 250)")
	apply(70, pairs(dfs.Delete, p, 110, 70))
	err := m.Apply(t.Context(), []*dfs.Transaction{txn(seq+1, pairs(dfs.Delete, p, 200, 70)...)})
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, "id=250", conflict.Key)
	require.Equal(t, []string{"120"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".p"))
	events = m.Stats().EventRows
	srv.Exec(t, "DROP TABLE "+s+".r")

	// One that acts is noticed by the next run, wherever its table is.
	other := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+other+".k (id int PRIMARY KEY, pid int, FOREIGN KEY (pid) REFERENCES "+s+".p (id) ON DELETE CASCADE)",
		"INSERT INTO "+other+".k SELECT id, id FROM "+s+".p")
	apply(0, pairs(dfs.Delete, p, 200, 70))
	require.Equal(t, []string{"50"}, rows(t, srv, "SELECT COUNT(*) FROM "+other+".k"))
	srv.Exec(t, "DROP TABLE "+other+".k")
}

func TestIndexesOnExpressionsFollowEvents(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".e (id int PRIMARY KEY, x int, y int, KEY k ((x*1000+y)), UNIQUE KEY u ((id*1000+y)))")
	e := pairTable(s, "e")
	m := openSink(t, srv, &MySQLOptions{Name: s})
	var moves []dfs.Change
	for _, c := range pairs(dfs.Update, e, 0, 100) {
		c.After[2] = dfs.IntValue(21)
		moves = append(moves, c)
	}
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, pairs(dfs.Insert, e, 0, 100)...)}))
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(2, moves...)}))
	require.EqualValues(t, 200, m.Stats().EventRows)
	require.Equal(t, []string{"100"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".e FORCE INDEX (k) WHERE x*1000+y=11021"))
	require.Equal(t, []string{"1"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".e FORCE INDEX (u) WHERE id*1000+y=7021"))
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(3, pairs(dfs.Delete, e, 0, 100)...)}))
	require.Equal(t, []string{"0"}, rows(t, srv, "SELECT COUNT(*) FROM "+s+".e FORCE INDEX (k)"))
	require.Regexp(t, `\|OK$`, rows(t, srv, "CHECK TABLE "+s+".e EXTENDED")[0])
}

// slave-skip-errors is not for replication alone: with it, an event ends at the row that is
// refused, and there is no error.
func TestAServerThatPassesOverErrorsGetsNoEvents(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind, "--slave-skip-errors=1062,1032")
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)", "INSERT INTO "+s+".p VALUES (30, 1, 1)")
			p := pairTable(s, "p")
			m := openSink(t, srv, &MySQLOptions{Name: s})
			require.Regexp(t, "SQL: the server has .*_skip_errors=1032,1062, which", m.Stats().Lane)
			apply := func(seq uint64, op dfs.Op) error {
				return m.Apply(t.Context(), []*dfs.Transaction{txn(seq, pairs(op, p, 0, 50)...)})
			}
			var conflict *ConflictError
			require.ErrorAs(t, apply(1, dfs.Insert), &conflict)
			require.Equal(t, "id=30", conflict.Key)
			srv.Exec(t, "DELETE FROM "+s+".p")
			require.NoError(t, apply(1, dfs.Insert))
			srv.Exec(t, "DELETE FROM "+s+".p WHERE id=30")
			require.ErrorAs(t, apply(2, dfs.Update), &conflict)
			require.Equal(t, []string{"49|490"}, rows(t, srv, "SELECT COUNT(*), SUM(x) FROM "+s+".p"))
		})
	}
}

// Nor is replicate-rewrite-db, by which rows would go to another schema.
func TestAServerThatWritesEventsElsewhereGetsNone(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--replicate-rewrite-db=here->there")
	for _, s := range []string{"here", "there"} {
		srv.Exec(t, "CREATE DATABASE "+s, "CREATE TABLE "+s+".p (id int PRIMARY KEY, x int, y int)")
	}
	m := openSink(t, srv, nil)
	require.Contains(t, m.Stats().Lane, "replicate_rewrite_db=here->there")
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, pairs(dfs.Insert, pairTable("here", "p"), 0, 50)...)}))
	require.Equal(t, []string{"50|0"}, rows(t, srv, "SELECT COUNT(*), (SELECT COUNT(*) FROM there.p) FROM here.p"))
}
