//go:build unix

package restore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/sink"
)

var (
	points = flag.Int("points", 4, "to how many places is restored")
	kills  = flag.Int("kills", 2, "how often archive and restore are killed")
	seed   = flag.Uint64("seed", 0, "of random choices; 0: the time")
)

func TestMain(m *testing.M) {
	if child() {
		return
	}
	testenv.Main(m)
}

var quiet = slog.New(slog.DiscardHandler)

// A state is what the source was after a transaction.
type state struct {
	id, hash string
}

// A shop is a schema that is written to by one connection, at random.
type shop struct {
	t      *testing.T
	rng    *rand.Rand
	db     *sql.DB
	schema string
	states []state
	next   int
	wide   bool // orders has a column more
}

var tables = []string{"customers", "orders", "notes"}

func newShop(t *testing.T, srv *testenv.Server, rng *rand.Rand) *shop {
	s := &shop{t: t, rng: rng, db: srv.DB(t), schema: srv.Schema(t), next: 1}
	s.db.SetMaxOpenConns(1)
	s.exec("USE " + s.schema)
	s.exec("CREATE TABLE customers (id int PRIMARY KEY, name varchar(40) NOT NULL, UNIQUE KEY (name)) CHARACTER SET utf8mb4")
	s.exec("CREATE TABLE orders (id bigint unsigned PRIMARY KEY AUTO_INCREMENT, customer int NOT NULL, total decimal(12,2), at timestamp(3) NULL, " +
		"KEY (customer), FOREIGN KEY (customer) REFERENCES customers (id))")
	s.exec("CREATE TABLE notes (id int PRIMARY KEY, body json, raw blob, score double)")
	for range 40 {
		s.insert()
	}
	return s
}

func (s *shop) exec(q string) {
	s.t.Helper()
	_, err := s.db.Exec(q)
	require.NoError(s.t, err, q)
}

// insert inserts a row into each table.
func (s *shop) insert() {
	n := s.next
	s.next++
	s.exec(fmt.Sprintf("INSERT INTO customers VALUES (%d, 'customer %d é')", n, n))
	s.exec(fmt.Sprintf("INSERT INTO orders (id, customer, total, at) VALUES (%d, %d, %d.25, '2026-01-02 03:04:05.678')", n, n, s.rng.IntN(1000)))
	s.exec(fmt.Sprintf(`INSERT INTO notes VALUES (%d, '{"n": %d, "d": 1.50}', x'00ff%04x', %d/3)`, n, n, n, n))
}

// step commits one transaction, and notes what the source is then.
func (s *shop) step() {
	before := s.executed()
	some := func() int { return 1 + s.rng.IntN(s.next) }
	switch k := s.rng.IntN(40); {
	case k == 0:
		s.exec("TRUNCATE TABLE notes")
	case k == 1 && !s.wide:
		s.exec("ALTER TABLE orders ADD COLUMN extra varchar(20) DEFAULT 'none' AFTER total")
		s.wide = true
	case k == 2 && s.wide:
		s.exec("ALTER TABLE orders DROP COLUMN extra")
		s.wide = false
	case k == 3:
		s.exec("DROP TABLE notes")
		s.note(before)
		before = s.executed()
		s.exec("CREATE TABLE notes (id int PRIMARY KEY, body json, raw blob, score double)")
	case k < 7:
		s.exec(fmt.Sprintf("UPDATE customers SET id = id + 1000000, name = CONCAT(name, '.') WHERE id = %d AND NOT EXISTS (SELECT 1 FROM orders WHERE customer = %[1]d)", some()))
	case k < 14:
		s.exec(fmt.Sprintf("DELETE FROM orders WHERE customer = %d", some()))
	case k < 25:
		s.exec(fmt.Sprintf("UPDATE orders SET total = %d.75 WHERE customer %% 7 = %d", s.rng.IntN(1000), s.rng.IntN(7)))
	default:
		s.exec("BEGIN")
		for range 1 + s.rng.IntN(3) {
			s.insert()
		}
		s.exec(fmt.Sprintf(`UPDATE notes SET body = JSON_SET(body, '$.x', %d), score = -score WHERE id = %d`, s.next, some()))
		s.exec("COMMIT")
	}
	s.note(before)
}

func (s *shop) executed() (set string) {
	require.NoError(s.t, s.db.QueryRow("SELECT @@global.gtid_executed").Scan(&set))
	return set
}

// note notes the state after the transaction that was committed since, if it is one.
func (s *shop) note(before string) {
	var id string
	require.NoError(s.t, s.db.QueryRow("SELECT GTID_SUBTRACT(@@global.gtid_executed, ?)", before).Scan(&id))
	if id != "" {
		require.NotContains(s.t, id[strings.LastIndex(id, ":"):], "-", "one transaction at a time")
		s.states = append(s.states, state{id, hash(s.t, s.db, s.schema)})
	}
}

// hash returns a checksum of all rows of the schema, and of its columns.
func hash(t *testing.T, db *sql.DB, schema string) string {
	h := sha256.New()
	read := func(q string) {
		rows, err := db.Query(q)
		require.NoError(t, err, q)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		fmt.Fprintln(h, columns)
		values, to := make([]sql.RawBytes, len(columns)), make([]any, len(columns))
		for i := range values {
			to[i] = &values[i]
		}
		for rows.Next() {
			require.NoError(t, rows.Scan(to...))
			for _, v := range values {
				fmt.Fprintf(h, "%v %x,", v == nil, []byte(v))
			}
			fmt.Fprintln(h)
		}
		require.NoError(t, rows.Err())
	}
	var there []string
	rows, err := db.Query("SELECT table_name FROM information_schema.tables WHERE table_schema = ? ORDER BY 1", schema)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		there = append(there, name)
	}
	require.NoError(t, rows.Close())
	fmt.Fprintln(h, there)
	for _, name := range there {
		if slices.Contains(tables, name) {
			read("SELECT * FROM " + schema + "." + name + " ORDER BY 1")
		}
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12])
}

// random returns a source of random choices that a failed test can be repeated with.
func random(t *testing.T) *rand.Rand {
	n := *seed
	if n == 0 {
		n = testseed.New(t)
	}
	return rand.New(rand.NewPCG(n, 0))
}

// archive carries a schema into an archive until ctx ends.
func archive(ctx context.Context, src *cdc.Source, a *sink.Archive) error {
	p := &dfs.Pipeline{Source: src, Sink: a, Logger: quiet}
	return p.Run(ctx)
}

// definitions returns how the tables that a source follows are made.
func definitions(ctx context.Context, src *cdc.Source) (list []sink.Definition, err error) {
	found, err := src.Definitions(ctx)
	for _, d := range found {
		list = append(list, sink.Definition(d))
	}
	return list, err
}

// restoreTo restores to a place, into the schema to, which is made anew.
func restoreTo(ctx context.Context, a *sink.Archive, dsn, name, schema, to string, at dfs.StopPoint, before bool) error {
	r, err := a.Restore(ctx, &sink.RestoreOptions{To: at, Before: before, Decode: new(cdc.Source).Decode})
	if err != nil {
		return err
	}
	m, err := sink.OpenMySQL(ctx, dsn, &sink.MySQLOptions{Name: name, DDL: sink.PolicyApply, Tables: []string{schema + ".*"},
		Routes: []sink.Route{{From: schema + ".*", To: to + ".*"}}, Logger: quiet})
	if err != nil {
		return err
	}
	defer m.Close()
	if fresh, err := m.Fresh(ctx); err != nil {
		return err
	} else if fresh {
		if _, _, err := m.CreateTables(ctx, r.Definitions(), false); err != nil {
			return err
		}
	}
	p := &dfs.Pipeline{Source: r, Sink: m, Logger: quiet}
	return p.Run(ctx)
}

// await waits until the archive holds a transaction.
func await(t *testing.T, src *cdc.Source, a *sink.Archive, id string) {
	t.Helper()
	_, number, _ := strings.Cut(id, ":")
	require.Eventually(t, func() bool {
		return covers(a.End().Pos, number)
	}, 2*time.Minute, 5*time.Millisecond, "the archive does not get %s: %+v", id, a.Stats())
}

func covers(pos dfs.Position, number string) bool {
	p, err := cdc.ParsePosition(pos)
	if err != nil {
		return false
	}
	var from, upTo, n uint64
	fmt.Sscan(number, &n)
	_, span, _ := strings.Cut(p.GTIDs, ":")
	if k, _ := fmt.Sscanf(span, "%d-%d", &from, &upTo); k < 2 {
		upTo = from
	}
	return upTo >= n
}

// An archive restored to a transaction is what the source was after it.
func TestArchiveRestoresEachTransaction(t *testing.T) {
	ctx, rng := t.Context(), random(t)
	srv := testenv.Shared(t, testenv.MySQL97)
	s := newShop(t, srv, rng)
	target := srv.Schema(t)
	look := srv.DB(t)

	src, err := cdc.Open(ctx, srv.DSN(""), &cdc.Options{Tables: []string{s.schema + ".*"}, Snapshot: &cdc.Snapshot{ChunkRows: 10}, Logger: quiet})
	require.NoError(t, err)
	defer src.Close()
	a, err := sink.OpenArchive(t.TempDir(), &sink.ArchiveOptions{SegmentBytes: 20 << 10, Logger: quiet})
	require.NoError(t, err)
	defer a.Close()
	defs, err := definitions(ctx, src)
	require.NoError(t, err)
	require.NoError(t, a.Baseline(ctx, defs))
	run, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- archive(run, src, a) }()

	copied := func() int {
		_, bases := a.List()
		k := 0
		for _, b := range bases {
			if b.Done > 0 {
				k++
			}
		}
		return k
	}
	for copied() == 0 {
		s.step() // while rows are copied
	}
	steps := 60 + 4*(*points)
	for range steps / 2 {
		s.step()
	}
	await(t, src, a, s.states[len(s.states)-1].id)
	// A second copy, beside changes, so that later restores begin there.
	defs, err = definitions(ctx, src)
	require.NoError(t, err)
	require.NoError(t, a.Baseline(ctx, defs))
	var names []string
	for _, d := range defs {
		names = append(names, d.Table.String())
	}
	require.NoError(t, src.ResnapshotAll(ctx, names))
	for copied() < 2 {
		s.rows() // no statement that alters a table, which ends the copy of it
	}
	for range steps / 2 {
		s.step()
	}
	await(t, src, a, s.states[len(s.states)-1].id)
	stop()
	require.NoError(t, <-done)

	_, bases := a.List()
	t.Logf("%d states, baselines %+v, %+v", len(s.states), bases, a.Stats())
	restored, second, early := 0, 0, 0
	for restored < *points || second == 0 {
		i := rng.IntN(len(s.states) - 1)
		before := rng.IntN(3) == 0
		at := s.states[i]
		to := dfs.StopPoint{ID: at.id}
		if before {
			to.ID = s.states[i+1].id
		}
		r, err := a.Restore(ctx, &sink.RestoreOptions{To: to, Before: before})
		if err != nil {
			require.ErrorContains(t, err, "was whole with transaction")
			early++
			require.Less(t, early, 1000)
			continue
		}
		if end, err := r.End(ctx); err == nil && end.Seq >= bases[1].Done {
			second++
		}
		srv.Exec(t, "DROP DATABASE "+target, "CREATE DATABASE "+target)
		require.NoError(t, restoreTo(ctx, a, srv.DSN(""), fmt.Sprint(target, restored), s.schema, target, to, before))
		require.Equal(t, at.hash, hash(t, look, target), "state %d, %s, before %v", i, to, before)
		restored++
	}
	t.Logf("%d restored, %d of them from the second copy of rows; %d refused, as no copy was whole", restored, second, early)
	// A target that was restored is fed by the source itself from there on.
	srv.Exec(t, "DROP DATABASE "+target, "CREATE DATABASE "+target)
	name := target + " live"
	for {
		at := s.states[rng.IntN(len(s.states))]
		err := restoreTo(ctx, a, srv.DSN(""), name, s.schema, target, dfs.StopPoint{ID: at.id}, false)
		if err == nil {
			t.Logf("fed from %s on", at.id)
			break
		}
		require.ErrorContains(t, err, "was whole with transaction")
	}
	follow(t, srv, look, s, name, target)

	report, err := sink.VerifyArchive(ctx, a.Dir(), &sink.VerifyArchiveOptions{Decode: new(cdc.Source).Decode})
	require.NoError(t, err)
	require.Empty(t, report.Faults)
	require.NotZero(t, report.Rows)
}

// rows commits a transaction that changes rows only.
func (s *shop) rows() {
	before := s.executed()
	n := 1 + s.rng.IntN(s.next)
	switch s.rng.IntN(4) {
	case 0:
		s.exec(fmt.Sprintf("DELETE FROM notes WHERE id = %d", n))
	case 1:
		s.next++
		s.exec(fmt.Sprintf("UPDATE orders SET id = %d000000 - id WHERE customer = %d AND id < 1000000", s.next, n))
	case 2:
		s.exec(fmt.Sprintf("UPDATE notes SET score = %d WHERE id %% 5 = %d", n, n%5))
	default:
		s.insert1()
	}
	s.note(before)
}

// insert1 inserts in one transaction.
func (s *shop) insert1() {
	s.exec("BEGIN")
	s.insert()
	s.exec("COMMIT")
}

// follow feeds a target by the source's log, from where it stands, until it is what the
// source is.
func follow(t *testing.T, srv *testenv.Server, look *sql.DB, s *shop, name, target string) {
	src, err := cdc.Open(t.Context(), srv.DSN(""), &cdc.Options{Tables: []string{s.schema + ".*"}, Logger: quiet})
	require.NoError(t, err)
	defer src.Close()
	m, err := sink.OpenMySQL(t.Context(), srv.DSN(""), &sink.MySQLOptions{Name: name, DDL: sink.PolicyApply, Tables: []string{s.schema + ".*"},
		Routes: []sink.Route{{From: s.schema + ".*", To: target + ".*"}}, Logger: quiet})
	require.NoError(t, err)
	defer m.Close()
	last := s.states[len(s.states)-1]
	p := &dfs.Pipeline{Source: src, Sink: m, Logger: quiet}
	require.NoError(t, p.StopAt(dfs.StopPoint{Place: "gtid:" + last.id}))
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, last.hash, hash(t, look, target))
}
