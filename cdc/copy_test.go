package cdc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A copyCase is a table with a kind of key.
type copyCase struct {
	name    string
	columns string
	key     func(n int) string // of a small number, as a list of literals
	keys    []string           // the key's columns; none: there is no key
}

var copyCases = []copyCase{
	{"ints", "id int, PRIMARY KEY (id)", func(n int) string { return fmt.Sprint(n*7 - 300) }, []string{"id"}},
	{"sparse", "id bigint unsigned, PRIMARY KEY (id)", func(n int) string {
		if n%3 == 0 {
			return fmt.Sprint(^uint64(0) - uint64(n))
		}
		return fmt.Sprint(n)
	}, []string{"id"}},
	{"texts", "k varchar(20) CHARACTER SET utf8 COLLATE utf8_general_ci, PRIMARY KEY (k)", func(n int) string {
		return "'" + []string{"a", "A", "é", "zz", "ß", "e", "E "}[n%7] + fmt.Sprint(n/14) + strings.Repeat(" ", n%2) + "'"
	}, []string{"k"}},
	{"bytes", "k varbinary(9), PRIMARY KEY (k)", func(n int) string {
		return fmt.Sprintf("x'%s%04x'", strings.Repeat("00", n%4), n)
	}, []string{"k"}},
	{"pairs", "a smallint, b char(5) CHARACTER SET latin1, PRIMARY KEY (b, a)", func(n int) string {
		return fmt.Sprintf("%d, '%c'", n%9-4, 'a'+rune(n%11))
	}, []string{"a", "b"}},
	{"decimals", "k decimal(12,3), PRIMARY KEY (k)", func(n int) string { return fmt.Sprintf("%d.%03d", n*n*(n%3-1), n) }, []string{"k"}},
	{"times", "k datetime(2), d date, PRIMARY KEY (k, d)", func(n int) string {
		return fmt.Sprintf("'2026-01-%02d 00:00:%02d.%02d', '20%02d-02-03'", 1+n%20, n%60, n, n%90)
	}, []string{"k", "d"}},
	{"uniques", "x int, k int NOT NULL, UNIQUE KEY u (k)", func(n int) string { return fmt.Sprintf("%d, %d", n, 1000-n) }, []string{"k"}},
	{"keyless", "k int", func(n int) string { return fmt.Sprint(n) }, nil},
}

// A mirror is a target that takes nothing that does not fit.
type mirror struct {
	t      *testing.T
	tables map[string]map[string]int // rows as text, and how often they are there
	copied map[string]int            // rows by Snapshot
	keys   map[string]map[string]string
}

func newMirror(t *testing.T) *mirror {
	return &mirror{t, make(map[string]map[string]int), make(map[string]int), make(map[string]map[string]string)}
}

func rowText(r dfs.Row) string {
	var b strings.Builder
	for _, v := range r {
		fmt.Fprintf(&b, "%s|", v)
	}
	return b.String()
}

func (m *mirror) apply(tx *dfs.Transaction) {
	for _, c := range tx.Changes {
		if c.Op == dfs.DDL || c.Table.Name == "done" {
			continue
		}
		rows := m.tables[c.Table.Name]
		if rows == nil {
			rows = make(map[string]int)
			m.tables[c.Table.Name] = rows
			m.keys[c.Table.Name] = make(map[string]string)
		}
		unique := c.Table.Name != "keyless"
		key := func(r dfs.Row) string {
			if unique {
				return rowText(r[:len(r)-2]) // v and s are the last
			}
			return ""
		}
		if c.Before != nil {
			text := rowText(c.Before)
			require.Positive(m.t, rows[text], "%s of a row of %s that is not there: %s (%s)", c.Op, c.Table, text, tx.ID)
			if rows[text]--; rows[text] == 0 {
				delete(rows, text)
			}
			delete(m.keys[c.Table.Name], key(c.Before))
		}
		if c.After != nil {
			text := rowText(c.After)
			if unique && !c.Overwrite {
				require.NotContains(m.t, m.keys[c.Table.Name], key(c.After), "%s of a row of %s that is there (%s)", c.Op, c.Table, tx.ID)
			}
			if old, ok := m.keys[c.Table.Name][key(c.After)]; ok && unique {
				delete(rows, old)
			}
			rows[text]++
			m.keys[c.Table.Name][key(c.After)] = text
		}
		if tx.Snapshot {
			m.copied[c.Table.Name]++
		}
	}
}

// equals compares the mirror with the server.
func (m *mirror) equals(db *sql.DB, schema string, cases []copyCase) {
	for _, cc := range cases {
		want := make(map[string]int)
		rows, err := db.Query("SELECT * FROM " + schema + "." + cc.name)
		require.NoError(m.t, err)
		columns, err := rows.Columns()
		require.NoError(m.t, err)
		for rows.Next() {
			values := make([]sql.NullString, len(columns))
			to := make([]any, len(columns))
			for i := range to {
				to[i] = &values[i]
			}
			require.NoError(m.t, rows.Scan(to...))
			var b strings.Builder
			for _, v := range values {
				fmt.Fprintf(&b, "%s|", v.String)
			}
			want[b.String()]++
		}
		require.NoError(m.t, rows.Err())
		rows.Close()
		got := m.tables[cc.name]
		if got == nil {
			got = make(map[string]int)
		}
		for _, text := range slices.Sorted(maps.Keys(want)) {
			require.Equal(m.t, want[text], got[text], "%s: %s", cc.name, text)
		}
		require.Equal(m.t, len(want), len(got), cc.name)
	}
}

// change changes rows of a table at random, in one transaction.
func change(db *sql.DB, schema string, rnd *rand.Rand, cases []copyCase, keys int) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for range 1 + rnd.IntN(6) {
		cc := cases[rnd.IntN(len(cases))]
		table := schema + "." + cc.name
		one := func() (string, int) {
			n := rnd.IntN(keys)
			if cc.keys == nil {
				return fmt.Sprintf("k = %d", n), n
			}
			list := strings.Split(cc.key(n), ", ")
			if cc.name == "uniques" {
				list = list[1:]
			}
			var parts []string
			for i, k := range cc.keys {
				parts = append(parts, k+" = "+list[i])
			}
			return strings.Join(parts, " AND "), n
		}
		where, n := one()
		var q []string
		switch rnd.IntN(7) {
		case 0, 1:
			q = []string{fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%s, %d, REPEAT('x', %d))", table, cc.key(n), rnd.IntN(1000), rnd.IntN(30))}
		case 2:
			q = []string{fmt.Sprintf("UPDATE %s SET v = v + 1 WHERE %s", table, where)}
		case 3:
			q = []string{fmt.Sprintf("DELETE FROM %s WHERE %s", table, where)}
		case 4: // another key
			other, _ := one()
			q = []string{fmt.Sprintf("UPDATE IGNORE %s SET %s WHERE %s", table, strings.ReplaceAll(other, " AND ", ", "), where)}
		case 5: // deleted, and there again
			q = []string{fmt.Sprintf("DELETE FROM %s WHERE %s", table, where),
				fmt.Sprintf("INSERT IGNORE INTO %s VALUES (%s, %d, 'again')", table, cc.key(n), rnd.IntN(1000))}
		case 6: // many
			q = []string{fmt.Sprintf("UPDATE %s SET s = CONCAT('m', v) WHERE v %% 5 = %d", table, rnd.IntN(5))}
		}
		for _, q := range q {
			if _, err := tx.Exec(q); err != nil {
				var e *mysql.MySQLError
				if errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205) {
					return nil
				}
				return fmt.Errorf("%s: %w", q, err)
			}
		}
	}
	return tx.Commit()
}

// fill creates the tables of cases, with rows.
func fill(t *testing.T, srv *testenv.Server, schema string, cases []copyCase, keys int) {
	for _, cc := range cases {
		srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (%s)", schema, cc.name, columnsWithPayload(cc.columns)))
		var rows []string
		for n := range keys {
			rows = append(rows, fmt.Sprintf("(%s, %d, 'first')", cc.key(n), n))
		}
		for part := range slices.Chunk(rows, 500) {
			srv.Exec(t, fmt.Sprintf("INSERT IGNORE INTO %s.%s VALUES %s", schema, cc.name, strings.Join(part, ", ")))
		}
	}
}

// columnsWithPayload puts two columns behind those of the key.
func columnsWithPayload(columns string) string {
	for _, word := range []string{", PRIMARY KEY", ", UNIQUE KEY"} {
		if head, tail, ok := strings.Cut(columns, word); ok {
			return head + ", v int, s varchar(30)" + word + tail
		}
	}
	return columns + ", v int, s varchar(30)"
}

// Rows are copied while they are changed in all ways, through streams that end at
// random, and each change of the log fits what was there.
func TestCopyIsAnExactHistory(t *testing.T) {
	eachSetup(t, func(t *testing.T, s setup, srv *testenv.Server) {
		cases, reopen := copyCases, 60
		if s.word == "file" {
			// There a stream reads no rows in its first second, and a table without a key
			// only once it has not been changed for as long.
			cases, reopen = copyCases[:len(copyCases)-1], 3000
		}
		copyHistory(t, srv, cases, reopen)
	})
}

// A lull lets a few transactions through, and then none for a while, which is twice as
// long each time. A copy of a table without a key reads it whole, and gives up where it
// was changed ten times in a row meanwhile, as it can be on a busy machine.
type lull struct {
	mu    sync.Mutex
	n     int
	until time.Time
	pause time.Duration
}

func (l *lull) takes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until) {
		return false
	}
	if l.n++; l.n%16 == 0 {
		l.until = time.Now().Add(l.pause)
		l.pause *= 2
	}
	return true
}

// copyHistory copies the tables of cases while all of these are changed, through
// streams that end after one in so many reads.
func copyHistory(t *testing.T, srv *testenv.Server, cases []copyCase, reopen int) {
	const keys = 400
	schema := srv.Schema(t)
	fill(t, srv, schema, copyCases, keys)
	seed := testseed.New(t)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, MaxPart: 4 << 10,
		Snapshot: &cdc.Snapshot{Readers: 3, ChunkRows: 20}})
	db := srv.DB(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	keyless := &lull{pause: 20 * time.Millisecond}
	for w := range 2 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				cases := cases
				if !keyless.takes() {
					cases = slices.DeleteFunc(slices.Clone(cases), func(c copyCase) bool { return c.keys == nil })
				}
				if err := change(db, schema, rnd, cases, keys); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		// A pipeline wishes that rows wait, now and then.
		defer src.Hold(false)
		rnd := rand.New(rand.NewPCG(seed, 7))
		for on := true; ; on = !on {
			src.Hold(on)
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rnd.IntN(4)) * time.Millisecond):
			}
		}
	})
	var at dfs.Checkpoint
	m := newMirror(t)
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	rnd := rand.New(rand.NewPCG(seed, 99))
	opened := 0
	read := func(enough func(tx *dfs.Transaction) bool) {
		for done := false; !done; {
			st, err := src.Open(ctx, at)
			require.NoError(t, err)
			opened++
			batch := make([]*dfs.Transaction, 64)
			var open []*dfs.Transaction
			for !done && rnd.IntN(reopen) > 0 {
				n, err := st.Next(ctx, batch[:1+rnd.IntN(64)])
				require.NoError(t, err)
				require.NoError(t, src.Decode(ctx, batch[:n]))
				for _, tx := range batch[:n] {
					if open = append(open, tx); tx.More {
						continue
					}
					for _, tx := range open {
						m.apply(tx)
						if tx.State != "" {
							at.State = tx.State
						}
						at.Pos = tx.Pos
						done = done || enough(tx)
					}
					open = nil
				}
			}
			require.NoError(t, st.Close())
		}
	}
	read(func(tx *dfs.Transaction) bool { return tx.Copied })
	close(stop)
	wg.Wait()
	srv.Exec(t, "CREATE TABLE "+schema+".done (id int)", "INSERT INTO "+schema+".done VALUES (1)")
	read(func(tx *dfs.Transaction) bool {
		return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Table != nil && c.Table.Name == "done" && c.Op == dfs.Insert })
	})
	for _, p := range src.Progress() {
		require.NoError(t, p.Err)
		require.Equal(t, dfs.Copied, p.State)
	}
	m.equals(db, schema, copyCases)
	t.Logf("opened %d times", opened)
	p, err := cdc.ParsePosition(at.Pos)
	require.NoError(t, err)
	require.Empty(t, p.Copy)
}

// A copy alone ends, and is what the source was at one place.
func TestCopyAloneEnds(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	fill(t, srv, schema, copyCases, 300)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{Only: true}})
	st := stream(t, src, "")
	m := newMirror(t)
	batch := make([]*dfs.Transaction, 64)
	for {
		n, err := st.Next(limit(t), batch)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		for _, tx := range batch[:n] {
			m.apply(tx)
		}
	}
	m.equals(srv.DB(t), schema, copyCases)
}

// A table that a target has already is copied again while the stream goes on, and
// what is wrong there is right afterwards.
func TestATableIsCopiedAgain(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	cases := copyCases[:3]
	fill(t, srv, schema, cases, 300)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second,
		Snapshot: &cdc.Snapshot{ChunkRows: 30}})
	st := stream(t, src, "")
	m := newMirror(t)
	batch := make([]*dfs.Transaction, 16)
	var at dfs.Checkpoint
	next := func() (copied bool) {
		n, err := st.Next(limit(t), batch)
		require.NoError(t, err)
		require.NoError(t, src.Decode(t.Context(), batch[:n]))
		for _, tx := range batch[:n] {
			m.apply(tx)
			at.Pos = tx.Pos
			if tx.State != "" {
				at.State = tx.State
			}
			copied = copied || tx.Copied
		}
		return copied
	}
	for !next() {
	}
	require.ErrorContains(t, src.Resnapshot(t.Context(), "nowhere.x", ""), "no table that is followed")

	// The target loses a row, and another is wrong.
	for key, text := range m.keys["ints"] {
		delete(m.tables["ints"], text)
		delete(m.keys["ints"], key)
		break
	}
	for key, text := range m.keys["ints"] {
		delete(m.tables["ints"], text)
		m.tables["ints"][key+"7|wrong|"]++
		m.keys["ints"][key] = key + "7|wrong|"
		break
	}
	srv.Exec(t, "UPDATE "+schema+".texts SET v = v + 1") // passes meanwhile
	taken := make(chan error, 1)
	go func() { taken <- src.Resnapshot(t.Context(), schema+".ints", "") }()
	before := m.copied["ints"]
	reopened := false
	for !next() {
		if !reopened && m.copied["ints"] > before {
			// After a restart it goes on.
			require.NoError(t, st.Close())
			var err error
			st, err = src.Open(t.Context(), at)
			require.NoError(t, err)
			defer st.Close()
			reopened = true
		}
	}
	require.NoError(t, <-taken)
	require.True(t, reopened)
	require.Equal(t, before+300, m.copied["ints"], "each row comes once more")
	m.equals(srv.DB(t), schema, cases)
}

// BenchmarkSnapshot reads a table of 300,000 rows, and does nothing with them.
func BenchmarkSnapshot(b *testing.B) {
	srv := testenv.Shared(b, testenv.MySQL97)
	const rows = 300_000
	srv.Exec(b, "CREATE DATABASE IF NOT EXISTS benchcopy", "DROP TABLE IF EXISTS benchcopy.a",
		"CREATE TABLE benchcopy.a (id int AUTO_INCREMENT PRIMARY KEY, n int, price decimal(10,2), at datetime, name varchar(40), note varchar(100))",
		"SET cte_max_recursion_depth = 1000000",
		fmt.Sprintf("INSERT INTO benchcopy.a (n, price, at, name, note) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) "+
			"SELECT i %% 1000, i / 100, '2026-11-27 10:00:00', CONCAT('name ', i), REPEAT('x', 60) FROM s", rows))
	src, err := cdc.Open(b.Context(), srv.DSN(""), &cdc.Options{Tables: []string{"benchcopy.*"}, Snapshot: &cdc.Snapshot{Only: true}})
	require.NoError(b, err)
	defer src.Close()
	batch := make([]*dfs.Transaction, 64)
	start, n := cpuTime(), 0
	for b.Loop() {
		st, err := src.Open(b.Context(), dfs.Checkpoint{})
		require.NoError(b, err)
		for err != io.EOF {
			var k int
			if k, err = st.Next(b.Context(), batch); err != nil && err != io.EOF {
				b.Fatal(err)
			}
			for _, tx := range batch[:k] {
				n += len(tx.Changes)
			}
		}
		require.NoError(b, st.Close())
	}
	require.Equal(b, rows*b.N, n)
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((cpuTime()-start).Nanoseconds())/float64(n), "cpu-ns/row")
}
