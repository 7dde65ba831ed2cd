//go:build unix

package scenario

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// patience is how long a target may take to have all of a scenario.
const patience = 3 * time.Minute

// A side is one server of a pair, which has two, so that schemas have the same name on
// both sides.
type side struct {
	*testenv.Server
	name  string // in scripts
	db    *sql.DB
	marks int
}

// newSide starts a server.
func newSide(t *testing.T, kind testenv.Kind) *side {
	s := &side{Server: testenv.Start(t, kind), name: kindNames[kind]}
	db, err := sql.Open("mysql", s.DSN("")+"?multiStatements=false")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	s.db = db
	s.Exec(t, "DROP DATABASE IF EXISTS scenario_marks", "CREATE DATABASE scenario_marks",
		"CREATE TABLE scenario_marks.marks (id varchar(100) PRIMARY KEY)")
	return s
}

// A run is one scenario on one pair.
type run struct {
	t              *testing.T
	f              *folder
	p              pair
	source, target *side
	queue, sqlOnly bool

	start    string // where the source's log was at the beginning
	name     string // of the sink
	file     string // of the queue
	sessions map[string]*sql.Conn

	// The pipeline, nil unless it runs.
	stop    context.CancelFunc
	done    chan error
	applied chan struct{} // gets something after each batch
	logs    buffer
}

func (r *run) to(schema string) string { return cmp.Or(r.f.To[schema], schema) }

// prepare makes the schemas anew on both sides, and notes where the log is.
func (r *run) prepare() {
	t := r.t
	r.sessions = make(map[string]*sql.Conn)
	r.source.marks++
	r.name = fmt.Sprintf("%s %s %d", r.p.name, r.f.name, r.source.marks)
	r.file = filepath.Join(t.TempDir(), "queue")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the pipeline's log:\n" + r.logs.String())
		}
	})
	for _, s := range []*side{r.source, r.target} {
		set := r.f.Global
		if s == r.target {
			set = r.f.TargetSet
		}
		for name, value := range set {
			var old string
			require.NoError(t, s.db.QueryRow("SELECT @@global."+name).Scan(&old))
			if _, err := strconv.ParseFloat(old, 64); err != nil {
				old = "'" + old + "'"
			}
			s.Exec(t, "SET GLOBAL "+name+"="+value)
			t.Cleanup(func() { s.Exec(t, "SET GLOBAL "+name+"="+old) })
		}
		for _, schema := range r.f.Schemas {
			if s == r.target {
				schema = r.to(schema)
			}
			q := "`" + strings.ReplaceAll(schema, "`", "``") + "`"
			s.Exec(t, "SET lock_wait_timeout=20", "DROP DATABASE IF EXISTS "+q, "CREATE DATABASE "+q)
			t.Cleanup(func() { s.Exec(t, "SET lock_wait_timeout=20", "DROP DATABASE IF EXISTS "+q) })
		}
		s.Exec(t, "DELETE FROM scenario_marks.marks")
	}
	// Sessions hold locks that DROP DATABASE would wait for.
	t.Cleanup(func() {
		for _, c := range r.sessions {
			c.Close()
		}
		r.source.rollbackXA(t)
	})
	r.statements(r.source, r.f.schema, r.f.Schemas[0])
	r.statements(r.target, r.f.target, r.to(r.f.Schemas[0]))

	query := "SELECT REPLACE(@@global.gtid_executed, '\n', '')"
	if r.p.source == testenv.MariaDB {
		query = "SELECT @@global.gtid_binlog_pos"
	}
	require.NoError(t, r.source.db.QueryRow(query).Scan(&r.start))
}

// rollbackXA ends what a scenario that failed has left prepared, and whose locks
// would be in the way of the next one.
func (s *side) rollbackXA(t *testing.T) {
	deadline := time.Now().Add(patience)
	for {
		rows, err := s.db.Query("XA RECOVER")
		require.NoError(t, err)
		var stmts []string
		for rows.Next() {
			var format, g, b int
			var data string
			require.NoError(t, rows.Scan(&format, &g, &b, &data))
			stmts = append(stmts, fmt.Sprintf("XA ROLLBACK x'%x', x'%x', %d", data[:g], data[g:g+b], format))
		}
		require.NoError(t, rows.Err())
		if len(stmts) == 0 {
			return
		}
		require.True(t, time.Now().Before(deadline), "still prepared: %v", stmts)
		for _, stmt := range stmts {
			// Fails for as long as its session is about to end.
			s.db.Exec(stmt)
		}
	}
}

// statements runs a script without directives, on a connection of its own.
func (r *run) statements(s *side, text, schema string) {
	steps, err := parseScript(text, s.name)
	require.NoError(r.t, err)
	conn := s.connect(r.t, schema)
	defer conn.Close()
	for _, st := range steps {
		require.Empty(r.t, st.verb, "line %d: a directive that belongs into source.sql", st.line)
		_, err := conn.ExecContext(r.t.Context(), st.sql)
		require.NoError(r.t, err, "%s: line %d: %s", s.name, st.line, st.sql)
	}
}

// connect returns a connection that is closed, not reused, after it.
func (s *side) connect(t *testing.T, schema string) *sql.Conn {
	cfg, err := mysql.ParseDSN(s.DSN(schema))
	require.NoError(t, err)
	cfg.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(cfg)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0)
	t.Cleanup(func() { db.Close() })
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	return conn
}

// script runs source.sql.
func (r *run) script(text string) {
	t := r.t
	steps, err := parseScript(text, r.source.name)
	require.NoError(t, err)
	conn := r.session("main")
	expect := 0
	for _, st := range steps {
		switch st.verb {
		case "session":
			conn = r.session(st.args[0])
		case "close":
			require.NoError(t, r.session(st.args[0]).Close())
			delete(r.sessions, st.args[0])
		case "error":
			expect, err = strconv.Atoi(st.args[0])
			require.NoError(t, err)
		case "sync":
			r.sync()
		case "stop":
			r.halt()
		default:
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err := conn.ExecContext(ctx, st.sql)
			cancel()
			if expect == 0 {
				require.NoError(t, err, "source.sql: line %d: %s", st.line, st.sql)
				continue
			}
			var e *mysql.MySQLError
			require.ErrorAs(t, err, &e, "source.sql: line %d: %s", st.line, st.sql)
			require.EqualValues(t, expect, e.Number, "source.sql: line %d: %v", st.line, err)
			expect = 0
		}
	}
}

func (r *run) session(name string) *sql.Conn {
	if r.sessions[name] == nil {
		r.sessions[name] = r.source.connect(r.t, r.f.Schemas[0])
	}
	return r.sessions[name]
}

// launch starts the pipeline, unless it runs.
func (r *run) launch() {
	if r.done != nil {
		return
	}
	t := r.t
	logger := slog.New(slog.NewTextHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	start := "gtid:" + r.start
	if r.start == "" {
		start = "earliest"
	}
	src, err := cdc.Open(t.Context(), r.source.DSN(""), &cdc.Options{
		Tables: append(slices.Clone(r.f.Tables), "scenario_marks.marks"), Start: start,
		TrustColumnNames: r.f.Trust, Logger: logger,
	})
	require.NoError(t, err)
	o := &sink.MySQLOptions{Name: r.name, DDL: sink.Policy(r.f.DDL), Tables: append(slices.Clone(r.f.Tables), "scenario_marks.marks"), SQLOnly: r.sqlOnly, Logger: logger}
	if r.f.SQLOnly != nil {
		o.SQLOnly = *r.f.SQLOnly
	}
	for _, x := range r.f.Routes {
		o.Routes = append(o.Routes, sink.Route(x))
	}
	dst, err := sink.OpenMySQL(t.Context(), r.target.DSN(""), o)
	require.NoError(t, err)
	p := &dfs.Pipeline{Source: src, Sink: dst, Logger: logger}
	closers := []func() error{src.Close, dst.Close}
	if r.f.Queue != nil && *r.f.Queue || r.f.Queue == nil && r.queue {
		q, err := queue.Open(r.file, nil)
		require.NoError(t, err)
		p.Queue = q
		closers = append(closers, q.Close)
	}
	r.applied = make(chan struct{}, 1)
	p.Observe = func(b dfs.Batch) {
		if b.Leg != "apply" {
			return
		}
		select {
		case r.applied <- struct{}{}:
		default: // one is enough
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r.stop, r.done = cancel, done
	go func() {
		err := p.Run(ctx)
		var errs []error
		for _, f := range closers {
			errs = append(errs, f())
		}
		done <- errors.Join(append(errs, err)...)
	}()
	t.Cleanup(func() {
		if r.done != nil {
			r.stop()
			<-done
		}
	})
}

// halt stops the pipeline.
func (r *run) halt() {
	if r.done == nil {
		return
	}
	r.stop()
	require.NoError(r.t, <-r.done)
	r.done = nil
}

// sync waits until the target has all that the source has committed: a row
// written now comes last.
func (r *run) sync() {
	require.NoError(r.t, r.await(), "the pipeline stopped")
}

// await returns the pipeline's error, or nil once the target is as far as the
// source.
func (r *run) await() error {
	r.launch()
	t := r.t
	r.source.marks++
	mark := fmt.Sprint(r.source.marks)
	r.source.Exec(t, "INSERT INTO scenario_marks.marks VALUES ('"+mark+"')")
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		var n int
		require.NoError(t, r.target.db.QueryRow("SELECT COUNT(*) FROM scenario_marks.marks WHERE id='"+mark+"'").Scan(&n))
		if n == 1 {
			return nil
		}
		select {
		case <-r.applied:
		case err := <-r.done:
			r.done = nil
			if err == nil {
				err = errors.New("it ended before its source did")
			}
			return err
		case <-timeout.C:
			require.Fail(t, "the target does not get there")
		}
	}
}

// finish waits for the end of the scenario: all of it on the target, or the
// error that it must come to.
func (r *run) finish() {
	err := r.await()
	if r.f.failure == nil {
		require.NoError(r.t, err, "the pipeline stopped")
		r.halt()
		return
	}
	require.Error(r.t, err, "the pipeline must stop")
	r.t.Log(err)
	require.Regexp(r.t, r.f.failure, err.Error())
}

// answers prints what the queries of a script return.
func (s *side) answers(t *testing.T, f *folder, text, schema string) string {
	steps, err := parseScript(text, s.name)
	require.NoError(t, err)
	conn := s.connect(t, schema)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "SET SESSION time_zone='+00:00', sql_mode=''")
	require.NoError(t, err)
	var b strings.Builder
	for _, st := range steps {
		require.Empty(t, st.verb, "line %d: a directive that belongs into source.sql", st.line)
		rows, err := conn.QueryContext(t.Context(), st.sql)
		require.NoError(t, err, "%s: want.sql: line %d: %s", s.name, st.line, st.sql)
		names, err := rows.Columns()
		require.NoError(t, err)
		vals, dest := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range vals {
			dest[i] = &vals[i]
		}
		for rows.Next() {
			require.NoError(t, rows.Scan(dest...))
			for i, v := range vals {
				if i > 0 {
					b.WriteByte('\t')
				}
				if v.Valid {
					b.WriteString(v.String)
				} else {
					b.WriteString("NULL")
				}
			}
			b.WriteByte('\n')
		}
		require.NoError(t, rows.Err())
		rows.Close()
	}
	return b.String()
}

// A buffer takes the log of a pipeline.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
