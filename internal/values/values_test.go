package values_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// The servers inherit a zone with daylight saving time, which is that of the
// sources. The targets have another by an option, and the host a third.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Setenv("TZ", "America/New_York")
	time.Local = time.FixedZone("host", 5*3600+1800)
	testenv.Main(m)
}

// Short names of the servers.
const (
	my97  = testenv.MySQL97
	my56  = testenv.MySQL56
	maria = testenv.MariaDB
)

// A pair is a source and a target.
type pair struct{ from, to testenv.Kind }

func (p pair) String() string { return fmt.Sprintf("%s to %s", p.from, p.to) }

var pairs = []pair{{my97, my97}, {maria, maria}, {my56, my97}, {my97, maria}, {maria, my97}}

// hostile are settings of a target for all its sessions, none of which may reach
// a value.
func hostile(kind testenv.Kind) []string {
	mode := "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,NO_ZERO_DATE,NO_ZERO_IN_DATE,STRICT_TRANS_TABLES,IGNORE_SPACE"
	set := []string{"--default-time-zone=-07:00", "--max-allowed-packet=64M"}
	if kind == my97 {
		mode += ",TIME_TRUNCATE_FRACTIONAL"
		set = append(set, "--explicit-defaults-for-timestamp=OFF")
	} else {
		mode += ",TIME_ROUND_FRACTIONAL"
	}
	return append(set, "--sql-mode="+mode)
}

func target(t *testing.T, kind testenv.Kind) *testenv.Server {
	if kind == my56 {
		t.Fatal("MySQL 5.6 is no target of this test")
	}
	return testenv.Start(t, kind, hostile(kind)...)
}

// A bench is a source and a target with schemas of the same name, and a pipeline
// between them.
type bench struct {
	t      *testing.T
	pair   pair
	src    *testenv.Server
	dst    *testenv.Server
	from   *sql.Conn
	to     *sql.Conn
	schema string

	events uint64 // rows that went as row events

	mu      sync.Mutex
	refused []string
}

func newBench(t *testing.T, p pair, src, dst *testenv.Server) *bench {
	b := &bench{t: t, pair: p, src: src, dst: dst, schema: src.Schema(t)}
	b.from, b.to = conn(t, src), conn(t, dst)
	dst.Exec(t, "CREATE DATABASE "+b.schema)
	t.Cleanup(func() { dst.Exec(t, "DROP DATABASE "+b.schema) })
	for _, c := range []*sql.Conn{b.from, b.to} {
		b.exec(c, "USE "+b.schema)
		b.exec(c, "SET NAMES utf8mb4")
	}
	b.exec(b.to, "SET time_zone='+00:00'")
	b.both("CREATE TABLE zz_end (id int PRIMARY KEY)")
	return b
}

// conn opens a connection that takes several statements at once.
func conn(t *testing.T, s *testenv.Server) *sql.Conn {
	db, err := sql.Open("mysql", s.DSN("")+"?multiStatements=true")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// A script is statements that go to a server at once: each is a transaction, and none
// waits for a round trip of its own.
type script []string

func (s *script) add(format string, args ...any) { *s = append(*s, fmt.Sprintf(format, args...)) }

// runScript executes the statements.
func (b *bench) runScript(c *sql.Conn, s script) {
	b.t.Helper()
	_, err := c.ExecContext(b.t.Context(), strings.Join(s, ";\n"))
	if err == nil {
		return
	}
	for _, q := range s { // which of them it is
		if _, err := c.ExecContext(b.t.Context(), q); err != nil {
			b.t.Logf("%.300s: %v", q, err)
		}
	}
	b.t.Fatal(err)
}

func (b *bench) exec(c *sql.Conn, q string) {
	b.t.Helper()
	_, err := c.ExecContext(b.t.Context(), q)
	if err != nil {
		b.t.Fatalf("%.300s: %v", q, err)
	}
}

// create executes statements that do not depend on each other, by several connections:
// a server that makes a table waits for its disk most of the time. Those of a schema
// begin with what sets a session. If one fails, so does the test, and goes on.
func create(t *testing.T, s *testenv.Server, session, stmts []string) {
	t.Helper()
	db := s.DB(t)
	var wg sync.WaitGroup
	const width = 8
	for i := range width {
		wg.Go(func() {
			c, err := db.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			run := func(q string) bool {
				if _, err := c.ExecContext(t.Context(), q); err != nil {
					t.Errorf("%.300s: %v", q, err)
					return false
				}
				return true
			}
			for _, q := range session {
				if !run(q) {
					return
				}
			}
			for k := i; k < len(stmts); k += width {
				if !run(stmts[k]) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// createBoth is create for source and target at the same time.
func (b *bench) createBoth(session, from, to []string) {
	b.t.Helper()
	session = append([]string{"USE " + b.schema, "SET NAMES utf8mb4"}, session...)
	var wg sync.WaitGroup
	wg.Go(func() { create(b.t, b.src, session, from) })
	create(b.t, b.dst, session, to)
	wg.Wait()
	if b.t.Failed() {
		b.t.FailNow()
	}
}

// both executes a statement on source and target.
func (b *bench) both(q string) {
	b.t.Helper()
	b.exec(b.from, q)
	b.exec(b.to, q)
}

// run starts a pipeline, executes work on the source, and returns once the target
// has all of it. What is refused is collected in b.refused, and stepped over.
func (b *bench) run(sqlOnly bool, work func()) {
	b.t.Helper()
	src, err := cdc.Open(b.t.Context(), b.src.DSN(""), &cdc.Options{Tables: []string{b.schema + ".*"}})
	require.NoError(b.t, err)
	defer src.Close()
	name := b.schema
	if sqlOnly {
		name += "_sql"
	}
	dst, err := sink.OpenMySQL(b.t.Context(), b.dst.DSN(""), &sink.MySQLOptions{Name: name, DDL: sink.PolicyIgnore, SQLOnly: sqlOnly})
	require.NoError(b.t, err)
	defer dst.Close()
	started := make(chan struct{})
	var once sync.Once
	p := &dfs.Pipeline{Source: src, Sink: dst, Logger: slog.New(slog.DiscardHandler),
		Observe: func(dfs.Batch) { once.Do(func() { close(started) }) },
		Reject: func(_ context.Context, tx *dfs.Transaction, err error) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused = append(b.refused, err.Error())
			return nil
		}}
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-started:
	case err := <-ended:
		cancel()
		b.t.Fatal(err)
	}
	work()
	var n int
	require.NoError(b.t, b.from.QueryRowContext(ctx, "SELECT COUNT(*) FROM zz_end").Scan(&n))
	b.exec(b.from, fmt.Sprintf("INSERT INTO zz_end VALUES (%d)", n+1))
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for got := 0; got <= n; {
		select {
		case err := <-ended:
			cancel()
			b.t.Fatal(err)
		case <-tick.C:
			require.NoError(b.t, b.to.QueryRowContext(ctx, "SELECT COUNT(*) FROM zz_end").Scan(&got))
		}
	}
	cancel()
	require.NoError(b.t, <-ended)
	b.events = dst.Stats().EventRows
}

// verified expects package verify to find both sides equal, which it does by
// checksums of its own.
func (b *bench) verified() {
	b.t.Helper()
	v := &verify.Verifier{Source: b.src.DSN(""), Target: b.dst.DSN(""), Tables: []string{b.schema + ".*"}, Settle: time.Millisecond, Patience: time.Second}
	r, err := v.Run(b.t.Context())
	require.NoError(b.t, err)
	for i := range r.Tables {
		if x := &r.Tables[i]; x.Verdict != verify.Equal {
			b.t.Errorf("verify: %.1000s", x)
		}
	}
}

// rows returns what a query gives, a line for each row.
func (b *bench) rows(c *sql.Conn, q string) []string {
	b.t.Helper()
	rs, err := c.QueryContext(b.t.Context(), q)
	require.NoError(b.t, err, q)
	defer rs.Close()
	cols, err := rs.Columns()
	require.NoError(b.t, err)
	var out []string
	vals := make([]sql.NullString, len(cols))
	dest := make([]any, len(cols))
	for i := range vals {
		dest[i] = &vals[i]
	}
	for rs.Next() {
		require.NoError(b.t, rs.Scan(dest...))
		var line []string
		for _, v := range vals {
			if v.Valid {
				line = append(line, v.String)
			} else {
				line = append(line, "NULL")
			}
		}
		out = append(out, strings.Join(line, "|"))
	}
	require.NoError(b.t, rs.Err())
	return out
}

// same compares the answers of both sides, to queries that may differ.
func (b *bench) same(what, qFrom, qTo string) {
	b.t.Helper()
	b.equal(what, b.rows(b.from, qFrom), b.rows(b.to, qTo))
}

// equal compares lines of source and target, in any order.
func (b *bench) equal(what string, want, got []string) {
	b.t.Helper()
	slices.Sort(want)
	slices.Sort(got)
	if slices.Equal(want, got) {
		return
	}
	show := func(have, other []string) string {
		var only []string
		for _, l := range have {
			if !slices.Contains(other, l) {
				only = append(only, fmt.Sprintf("%.100s", l))
			}
		}
		return fmt.Sprintf("%d rows, %d of them only there: %s", len(have), len(only), strings.Join(only[:min(len(only), 3)], "  "))
	}
	b.t.Errorf("%s: differs\n\tsource: %s\n\ttarget: %s", what, show(want, got), show(got, want))
}

// refusals fails the test if something was refused. What comes after the first
// refusal for a table is mostly its consequence.
func (b *bench) refusals() {
	b.t.Helper()
	seen := make(map[string]int)
	for _, r := range b.refused {
		_, table, _ := strings.Cut(r, b.schema+".")
		table = strings.FieldsFunc(table+" ", func(r rune) bool { return r == ' ' || r == ':' })[0]
		if seen[table]++; seen[table] == 1 {
			b.t.Errorf("refused: %s: %.500s", table, strings.ReplaceAll(r, b.schema+".", ""))
		}
	}
}
