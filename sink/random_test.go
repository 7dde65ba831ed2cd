package sink

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/stretchr/testify/require"
)

// randomTables are the tables of the random workload. Each stands for one of
// the ways in which the order of changes can matter.
var randomTables = []string{
	// A unique key with NULLs.
	`a (id int PRIMARY KEY, u int UNIQUE, v int)`,
	// Keys that the server compares without case, and by a part.
	`s (k varchar(10) PRIMARY KEY, w varchar(10), v int, UNIQUE (w(2))) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci`,
	`c (x int, y varchar(5), v int, w int, PRIMARY KEY (y, x)) CHARACTER SET latin1 COLLATE latin1_swedish_ci`,
	// Foreign keys that refuse, to a primary and to a unique key.
	`p (id int PRIMARY KEY, code int UNIQUE, v int)`,
	`q (id int PRIMARY KEY, pid int, code int, v int, FOREIGN KEY (pid) REFERENCES p (id), FOREIGN KEY (code) REFERENCES p (code))`,
	// Foreign keys that act, over two steps.
	`f (id int PRIMARY KEY, v int)`,
	`g (id int PRIMARY KEY, fid int, v int, FOREIGN KEY (fid) REFERENCES f (id) ON DELETE CASCADE ON UPDATE CASCADE)`,
	`h (id int PRIMARY KEY, gid int, v int, FOREIGN KEY (gid) REFERENCES g (id) ON DELETE SET NULL ON UPDATE CASCADE)`,
	// A foreign key to itself.
	`t (id int PRIMARY KEY, up int, v int, FOREIGN KEY (up) REFERENCES t (id))`,
	// No key; and none but a unique one.
	`n (a int, b varchar(5), v int) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci`,
	`m (k int NOT NULL UNIQUE, v int)`,
	// A trigger that notices the order.
	`r (id int PRIMARY KEY, v int)`,
	`rlog (id int PRIMARY KEY, sum bigint)`,
}

// workload runs random transactions on a server, one change at a time, and
// keeps those that the server took, with the images of their rows.
type workload struct {
	t       *testing.T
	rng     *rand.Rand
	conn    *sql.Conn
	schema  string
	tables  []*dfs.Table
	minimal bool // row images as with binlog_row_image=MINIMAL
	seq     uint64
}

func newSchema(t *testing.T, srv *testenv.Server) string {
	s := srv.Schema(t)
	var stmts []string
	for _, def := range randomTables {
		stmts = append(stmts, "CREATE TABLE "+s+"."+strings.ReplaceAll(def, "REFERENCES ", "REFERENCES "+s+"."))
	}
	stmts = append(stmts, "INSERT INTO "+s+".rlog VALUES (1, 0)",
		"CREATE TRIGGER "+s+".r1 AFTER INSERT ON "+s+".r FOR EACH ROW UPDATE "+s+".rlog SET sum=(sum*31+NEW.id*7+NEW.v)%1000000007",
		"CREATE TRIGGER "+s+".r2 AFTER UPDATE ON "+s+".r FOR EACH ROW UPDATE "+s+".rlog SET sum=(sum*37+NEW.id*11+NEW.v)%1000000007",
		"CREATE TRIGGER "+s+".r3 AFTER DELETE ON "+s+".r FOR EACH ROW UPDATE "+s+".rlog SET sum=(sum*41+OLD.id*13+OLD.v)%1000000007")
	srv.Exec(t, stmts...)
	return s
}

// newWorkload returns a workload on the tables with the given letters; on some
// of all tables if there are none.
func newWorkload(t *testing.T, srv *testenv.Server, seed uint64, letters string) *workload {
	w := &workload{t: t, rng: rand.New(rand.NewPCG(seed, 1)), schema: newSchema(t, srv), minimal: seed%4 == 3}
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	w.conn = conn
	require.NoError(t, w.exec("SET SESSION sql_mode='STRICT_ALL_TABLES', innodb_lock_wait_timeout=5"))
	if letters == "" {
		// What must be done in its place keeps apart what may be merged.
		letters = []string{"ascpqnm", "ascpqftghnmr", "pqt", "fghr", "asc"}[w.rng.IntN(5)]
	}
	for _, name := range strings.Split(letters, "") {
		w.tables = append(w.tables, w.describe(name))
	}
	return w
}

func (w *workload) exec(q string) error {
	_, err := w.conn.ExecContext(context.Background(), q)
	return err
}

// describe reads a table's structure as a source would give it.
func (w *workload) describe(name string) *dfs.Table {
	t := &dfs.Table{Schema: w.schema, Name: name}
	rs, err := w.conn.QueryContext(context.Background(), "SELECT COLUMN_NAME, COLUMN_TYPE, IFNULL(CHARACTER_SET_NAME,''), "+
		"IFNULL(COLLATION_NAME,'') FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=? AND TABLE_NAME=? ORDER BY ORDINAL_POSITION", w.schema, name)
	require.NoError(w.t, err)
	defer rs.Close()
	for rs.Next() {
		var c dfs.Column
		require.NoError(w.t, rs.Scan(&c.Name, &c.Type, &c.Charset, &c.Collation))
		t.Columns = append(t.Columns, c)
	}
	switch name {
	case "c":
		t.Key = []int{1, 0}
	case "n", "m":
	default:
		t.Key = []int{0}
	}
	return t
}

// key returns the columns that find a row.
func key(t *dfs.Table) []int {
	if t.Name == "m" {
		return []int{0}
	}
	return t.Key
}

func (w *workload) isText(t *dfs.Table, i int) bool { return t.Columns[i].Charset != "" }

// value makes up a value for a column; from a small range, so that they meet.
func (w *workload) value(t *dfs.Table, i int) dfs.Value {
	name := t.Columns[i].Name
	if w.isText(t, i) {
		letters := "abABcC"
		var b []byte
		for range 1 + w.rng.IntN(3) {
			b = append(b, letters[w.rng.IntN(len(letters))])
		}
		return dfs.StringValue(string(b))
	}
	if name == "v" {
		return dfs.IntValue(int64(w.rng.IntN(1000)))
	}
	nullable := name == "u" || name == "pid" || name == "code" || name == "fid" || name == "gid" || name == "up"
	if nullable && w.rng.IntN(4) == 0 {
		return dfs.NullValue()
	}
	return dfs.IntValue(int64(w.rng.IntN(12)))
}

func (w *workload) literal(t *dfs.Table, i int, v dfs.Value) string {
	if v.IsNull() {
		return "NULL"
	}
	if w.isText(t, i) {
		return "'" + v.Text() + "'"
	}
	return v.String()
}

// where finds the row whose image is given, and no other.
func (w *workload) where(t *dfs.Table, row dfs.Row, cols []int) string {
	var parts []string
	for _, i := range cols {
		p := t.Columns[i].Name + "<=>" + w.literal(t, i, row[i])
		if w.isText(t, i) {
			p = "BINARY " + p
		}
		parts = append(parts, p)
	}
	return " WHERE " + strings.Join(parts, " AND ")
}

func all(t *dfs.Table) []int {
	cols := make([]int, len(t.Columns))
	for i := range cols {
		cols[i] = i
	}
	return cols
}

// read returns a row of the table, or nil.
func (w *workload) read(t *dfs.Table, tail string) dfs.Row {
	rs, err := w.conn.QueryContext(context.Background(), "SELECT * FROM "+t.String()+tail+" LIMIT 1")
	require.NoError(w.t, err)
	defer rs.Close()
	if !rs.Next() {
		return nil
	}
	vals := make([]sql.NullString, len(t.Columns))
	dest := make([]any, len(vals))
	for i := range vals {
		dest[i] = &vals[i]
	}
	require.NoError(w.t, rs.Scan(dest...))
	row := make(dfs.Row, len(vals))
	for i, v := range vals {
		switch {
		case !v.Valid:
		case w.isText(t, i):
			row[i] = dfs.StringValue(v.String)
		default:
			n, err := strconv.ParseInt(v.String, 10, 64)
			require.NoError(w.t, err)
			row[i] = dfs.IntValue(n)
		}
	}
	return row
}

// change tries one random change and returns what the log would hold.
func (w *workload) change(t *dfs.Table) (dfs.Change, bool) {
	c := dfs.Change{Table: t, NoForeignKeys: w.rng.IntN(12) == 0 && strings.Contains("pqfght", t.Name)}
	checks := 1
	if c.NoForeignKeys {
		checks = 0
	}
	require.NoError(w.t, w.exec(fmt.Sprintf("SET foreign_key_checks=%d", checks)))
	find := key(t)
	if find == nil {
		find = all(t)
	}
	switch p := w.rng.IntN(10); {
	case p < 4:
		row := make(dfs.Row, len(t.Columns))
		var vals []string
		for i := range row {
			row[i] = w.value(t, i)
			vals = append(vals, w.literal(t, i, row[i]))
		}
		if w.exec("INSERT INTO "+t.String()+" VALUES ("+strings.Join(vals, ",")+")") != nil {
			return c, false
		}
		c.Op, c.After = dfs.Insert, row
	default:
		// One after a random number, in an order that the server chooses.
		row := w.read(t, fmt.Sprintf(" ORDER BY RAND(%d)", w.rng.IntN(1<<30)))
		if row == nil {
			return c, false
		}
		c.Before = row
		if p >= 8 {
			if w.exec("DELETE FROM "+t.String()+w.where(t, row, find)+" LIMIT 1") != nil {
				return c, false
			}
			c.Op = dfs.Delete
			break
		}
		after := append(dfs.Row(nil), row...)
		var set []string
		for i := range after {
			if w.rng.IntN(3) == 0 || i == len(after)-1 && len(set) == 0 {
				after[i] = w.value(t, i)
				set = append(set, t.Columns[i].Name+"="+w.literal(t, i, after[i]))
			}
		}
		if fmt.Sprint(after) == fmt.Sprint(row) {
			return c, false // a trigger would run, but nothing would be logged
		}
		if w.exec("UPDATE "+t.String()+" SET "+strings.Join(set, ",")+w.where(t, row, find)+" LIMIT 1") != nil {
			return c, false
		}
		c.Op, c.After = dfs.Update, after
	}
	if w.minimal && key(t) != nil {
		w.shorten(&c)
	}
	return c, true
}

// shorten leaves out of the images what binlog_row_image=MINIMAL does.
func (w *workload) shorten(c *dfs.Change) {
	if c.Op == dfs.Insert {
		return
	}
	full := c.Before
	c.Before = make(dfs.Row, len(full))
	for i := range full {
		if c.After != nil && c.After[i] == full[i] {
			c.After[i] = dfs.AbsentValue()
		}
		c.Before[i] = dfs.AbsentValue()
	}
	for _, i := range key(c.Table) {
		c.Before[i] = full[i]
	}
}

// swap exchanges a unique value of two rows, in three steps.
func (w *workload) swap() []dfs.Change {
	t := w.tables[0]
	if t.Name != "a" {
		return nil
	}
	require.NoError(w.t, w.exec("SET foreign_key_checks=1"))
	one := w.read(t, " WHERE u IS NOT NULL ORDER BY id")
	two := w.read(t, " WHERE u IS NOT NULL ORDER BY id DESC")
	if one == nil || one[0] == two[0] {
		return nil
	}
	var out []dfs.Change
	set := func(row dfs.Row, u dfs.Value) dfs.Row {
		after := append(dfs.Row(nil), row...)
		after[1] = u
		require.NoError(w.t, w.exec("UPDATE "+t.String()+" SET u="+u.String()+w.where(t, row, t.Key)))
		c := dfs.Change{Op: dfs.Update, Table: t, Before: row, After: append(dfs.Row(nil), after...)}
		if w.minimal {
			w.shorten(&c)
		}
		out = append(out, c)
		return after
	}
	u1, u2 := one[1], two[1]
	free := dfs.IntValue(-1)
	if w.rng.IntN(2) == 0 {
		free = dfs.NullValue()
	}
	one = set(one, free)
	set(two, u1)
	set(one, u2)
	return out
}

func (w *workload) transactions(n int) []*dfs.Transaction {
	var out []*dfs.Transaction
	for len(out) < n {
		require.NoError(w.t, w.exec("BEGIN"))
		w.seq++
		tx := txn(w.seq)
		if w.rng.IntN(15) == 0 {
			tx.Changes = w.swap()
		}
		for range 1 + w.rng.IntN(6) {
			if c, ok := w.change(w.tables[w.rng.IntN(len(w.tables))]); ok {
				tx.Changes = append(tx.Changes, c)
			}
		}
		require.NoError(w.t, w.exec("COMMIT"))
		out = append(out, tx)
	}
	return out
}

// contents returns all rows of all tables of a schema.
func contents(t *testing.T, srv *testenv.Server, schema string) map[string][]string {
	out := make(map[string][]string)
	for _, def := range randomTables {
		name := strings.Fields(def)[0]
		out[name] = rows(t, srv, "SELECT * FROM "+schema+"."+name+" ORDER BY 1,2")
		if name == "n" || name == "s" || name == "c" {
			out[name] = rows(t, srv, "SELECT * FROM "+schema+"."+name+" ORDER BY BINARY CONCAT_WS('|',"+
				map[string]string{"n": "a,b,v", "s": "k,w,v", "c": "x,y,v"}[name]+")")
		}
	}
	return out
}

// randomRun applies a random workload in random batches, and returns the
// contents of source and target and how often the target refused a merged run.
// With a broken rule of turns, or "none", connections take turns, else only sometimes.
func randomRun(t *testing.T, srv *testenv.Server, seed uint64, n int, letters, broken string) (want, got map[string][]string, st Stats) {
	t.Helper()
	w := newWorkload(t, srv, seed, letters)
	log := w.transactions(n)
	dst := newSchema(t, srv)
	writers, inTurns := 1+w.rng.IntN(4), w.rng.IntN(3) > 0 && broken == ""
	if broken == "turns" || broken == "none" {
		writers, inTurns = max(writers, 2), true
	}
	m := openSink(t, srv, &MySQLOptions{
		Name: dst, Routes: []Route{{From: w.schema + ".*", To: dst + ".*"}}, MaxRows: 1 + w.rng.IntN(50),
		MaxBytes: 1024 << w.rng.IntN(6), SQLOnly: w.rng.IntN(3) == 0, Writers: writers,
	})
	m.merger.broken = broken
	m.writer.minEvents = 1 + w.rng.IntN(4) // so that small groups go as events too
	if inTurns {
		m.crew.eager, m.crew.least = true, 1+w.rng.IntN(30)
	}
	var whole uint64 // transactions without those that are parts of another
	take := func() []*dfs.Transaction {
		k := min(len(log), 1+w.rng.IntN(1<<w.rng.IntN(9)))
		batch := log[:k]
		if w.rng.IntN(3) == 0 {
			// As a large transaction would come, in parts.
			for _, tx := range batch[:k-1] {
				tx.More = true
			}
		}
		log = log[k:]
		for _, tx := range batch {
			if !tx.More {
				whole++
			}
		}
		return batch
	}
	var at uint64
	last := log[len(log)-1].Seq
	for seed%2 == 0 && len(log) > 0 {
		// The next batch comes before the one before is done, or not.
		require.NoError(t, m.ApplyEach(t.Context(), func() []*dfs.Transaction {
			if len(log) == 0 || w.rng.IntN(4) == 0 {
				return nil
			}
			return take()
		}, func(seq uint64) error {
			require.Greater(t, seq, at)
			require.Equal(t, m.at, seq)
			at = seq
			return nil
		}), "seed %d", seed)
	}
	for len(log) > 0 {
		batch := take()
		for len(batch) > 0 {
			j := 1 + w.rng.IntN(len(batch))
			require.NoError(t, m.Apply(t.Context(), batch[:j]), "seed %d", seed)
			batch = batch[j:]
		}
	}
	if broken == "" || broken == "none" {
		require.Equal(t, last, m.at, "seed %d", seed)
		require.Equal(t, whole, m.Stats().Transactions, "seed %d", seed)
	}
	return contents(t, srv, w.schema), contents(t, srv, dst), m.Stats()
}

func TestRandomWorkloadInTurns(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for i, seed := range seeds(t, 2) {
		want, got, st := randomRun(t, srv, seed, 300, []string{"asc", "acpq"}[i], "none")
		t.Logf("seed %d: %d transactions in %d commits, %d turns, %d fallbacks", seed, st.Transactions, st.Commits, st.Turns, st.Fallbacks)
		require.Equal(t, want, got, "seed %d", seed)
		require.Empty(t, st.Conflicts, "seed %d", seed)
	}
	// That keys are looked at must matter.
	differ, fallbacks := false, uint64(0)
	for seed := uint64(0); !differ && fallbacks == 0; seed++ {
		want, got, st := randomRun(t, srv, seed, 200, "asc", "turns")
		differ, fallbacks = fmt.Sprint(want) != fmt.Sprint(got), st.Fallbacks
		require.Less(t, seed, uint64(20), "the rule is not needed")
	}
}

// seeds returns the seeds of a random test.
func seeds(t *testing.T, n int) []uint64 {
	base := testseed.New(t)
	out := make([]uint64, n)
	for i := range out {
		out[i] = base + uint64(i)
	}
	return out
}

func TestRandomWorkloadEndsAsInSerialOrder(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			for _, seed := range seeds(t, 4) {
				want, got, st := randomRun(t, srv, seed, 400, "", "")
				t.Logf("seed %d: %d transactions in %d commits, %d statements, %d rows as events, %d turns, %d fallbacks, %d serial; %s",
					seed, st.Transactions, st.Commits, st.Statements, st.EventRows, st.Turns, st.Fallbacks, st.Serial, st.Lane)
				require.Equal(t, want, got, "seed %d", seed)
				require.Empty(t, st.Conflicts, "seed %d", seed)
			}
		})
	}
}

// Each rule of the merge must matter: without it, the target refuses more runs
// or ends up different.
func TestRandomWorkloadNoticesBrokenRules(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	for broken, letters := range map[string]string{"primary key": "asc", "unique keys": "as", "foreign keys": "pq", "in place": "fghr"} {
		_, _, sound := randomRun(t, srv, 5, 200, letters, "")
		want, got, st := randomRun(t, srv, 5, 200, letters, broken)
		differs := fmt.Sprint(want) != fmt.Sprint(got)
		t.Logf("without %s: differs %v, %d fallbacks; with all: %d", broken, differs, st.Fallbacks, sound.Fallbacks)
		require.True(t, differs || st.Fallbacks > sound.Fallbacks, "the rule for %s is not needed", broken)
	}
}
