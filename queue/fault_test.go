package queue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"

	"github.com/dataflowsync/dfs"
)

// locked locks the file as another program would. Free ends that, and may be
// called more than once.
func locked(t *testing.T, path string) (free func()) {
	t.Helper()
	db, err := sql.Open("sqlite", dataSource(path, "?_pragma=busy_timeout(5000)"))
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	_, err = db.Exec("BEGIN IMMEDIATE")
	require.NoError(t, err)
	free = sync.OnceFunc(func() {
		_, err := db.Exec("ROLLBACK")
		require.NoError(t, errors.Join(err, db.Close()))
	})
	t.Cleanup(free)
	return free
}

// patience sets how long the writer waits for a lock.
func patience(t *testing.T, q *Queue, d time.Duration) {
	t.Helper()
	_, err := q.w.conn.ExecContext(t.Context(), fmt.Sprintf("PRAGMA busy_timeout = %d", d.Milliseconds()))
	require.NoError(t, err)
}

// Another program keeps the file locked for longer than the queue waits. What
// fails before the first block is stored must not be the end of the queue.
func TestLockedFile(t *testing.T) {
	q := newQueue(t, nil)
	patience(t, q, 20*time.Millisecond)
	for seq := uint64(1); seq <= 50; seq += 5 {
		free := locked(t, q.path)
		for range 3 {
			err := q.Apply(t.Context(), txs(seq, 5, 300_000)) // each a block
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.ErrorContains(t, err, "another program holds a lock")
			require.Len(t, q.enc, cap(q.enc))
		}
		free()
		apply(t, q, txs(seq, 5, 300_000)...)
	}
	read(t, q, 1, 50)
	locked(t, q.path)
	require.ErrorIs(t, q.Apply(t.Context(), txs(51, 1, 100)), dfs.ErrTransient)
	require.NoError(t, q.Close())
}

// Who waits for a writer that waits for a lock can be told to stop, at any of
// the places where he may wait, and what he has asked for does no harm later.
func TestWaitForALockedFileEnds(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 1, 100)
	patience(t, q, time.Minute)
	free := locked(t, q.path)
	stopped := func(what string, begun func() bool, do func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- do(ctx) }()
		require.Eventually(t, begun, time.Minute, time.Millisecond, what)
		cancel()
		select {
		case err := <-done:
			require.ErrorIs(t, err, context.Canceled, what)
		case <-time.After(2 * time.Minute):
			t.Fatal(what, " ignores that its context has ended")
		}
	}
	// All encoders are in use, and more are needed.
	stopped("Apply", func() bool { return len(q.enc) == 0 }, func(ctx context.Context) error {
		return q.Apply(ctx, txs(2, 20, 300_000))
	})
	// Jobs queue up behind that one, until no more can be handed over.
	for i := range cap(q.w.jobs) + 2 {
		sent := min(i+1, cap(q.w.jobs))
		stopped("Open", func() bool { return len(q.w.jobs) >= sent }, func(ctx context.Context) error {
			_, err := q.Reader(fmt.Sprint(i)).Open(ctx, at(1))
			return err
		})
	}
	free()
	apply(t, q, txs(2, 20, 300_000)...)
	require.Len(t, q.enc, cap(q.enc))
	read(t, q, 1, 21)
}

// faults is a database/sql driver: SQLite, whose statements fail when told to.
type faults struct {
	sqlite.Driver
	mu    sync.Mutex
	only  string // what begins like this
	after int    // how many of these succeed before
	times int    // this many fail
	err   error  // with this
	hit   []string
}

// next says whether a statement fails. ROLLBACK does not: it needs no disk.
func (f *faults) next(query string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.times == 0 || query == "ROLLBACK" || !strings.HasPrefix(query, f.only) {
		return nil
	}
	if f.after > 0 {
		f.after--
		return nil
	}
	f.times--
	f.hit = append(f.hit, query)
	return f.err
}

func (f *faults) set(only string, after, times int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.only, f.after, f.times, f.err, f.hit = only, after, times, err, nil
}

// stop returns which statements have failed, and lets none fail any more.
func (f *faults) stop() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times = 0
	return f.hit
}

func (f *faults) Open(name string) (driver.Conn, error) {
	c, err := f.Driver.Open(name)
	if err != nil {
		return nil, err
	}
	return &faultyConn{c.(sqliteConn), f}, nil
}

type sqliteConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

type faultyConn struct {
	sqliteConn
	f *faults
}

func (c *faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	s, err := c.sqliteConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &faultyStmt{s.(sqliteStmt), query, c.f}, nil
}

func (c *faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.f.next(query); err != nil {
		return nil, err
	}
	return c.sqliteConn.ExecContext(ctx, query, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.f.next(query); err != nil {
		return nil, err
	}
	rows, err := c.sqliteConn.QueryContext(ctx, query, args)
	return &faultyRows{Rows: rows, query: query, f: c.f}, err
}

type sqliteStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type faultyStmt struct {
	sqliteStmt
	query string
	f     *faults
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.f.next(s.query); err != nil {
		return nil, err
	}
	return s.sqliteStmt.ExecContext(ctx, args)
}

func (s *faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.f.next(s.query); err != nil {
		return nil, err
	}
	rows, err := s.sqliteStmt.QueryContext(ctx, args)
	return &faultyRows{Rows: rows, query: s.query, f: s.f}, err
}

type faultyRows struct {
	driver.Rows
	query string
	f     *faults
	begun bool
}

// Next fails at the first row only: there are many.
func (r *faultyRows) Next(dest []driver.Value) error {
	if !r.begun {
		r.begun = true
		if err := r.f.next(r.query); err != nil {
			return err
		}
	}
	return r.Rows.Next(dest)
}

var faulty = &faults{}

func init() { sql.Register("faulty", faulty) }

// busyError returns what SQLite says when a lock is held. No other package can
// make a *sqlite.Error.
func busyError(t *testing.T) error {
	path := filepath.Join(t.TempDir(), "db")
	defer locked(t, path)()
	db, err := sql.Open("sqlite", dataSource(path, ""))
	require.NoError(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	_, err = db.Exec("BEGIN IMMEDIATE")
	var e *sqlite.Error
	require.ErrorAs(t, err, &e)
	return e
}

// Whichever statement of the writer fails, once or for a while: nothing of the
// batch is stored, the next one is, and what was to be trimmed is trimmed.
func TestEveryStatementFails(t *testing.T) {
	busy := busyError(t)
	dir := memory(t)
	q := opened(t, filepath.Join(dir, "full"), nil)
	fill(t, q, 80, 2000) // more blocks than are trimmed at a time
	_, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	require.NoError(t, q.Close())
	full, err := os.ReadFile(q.path)
	require.NoError(t, err)

	runs := 0
	fail := func(only string, n, times int) (failed []string) {
		runs++
		path := filepath.Join(dir, fmt.Sprint("queue", runs))
		require.NoError(t, os.WriteFile(path, full, 0o600))
		failed = failNth(t, path, only, n, times, busy)
		require.NoError(t, errors.Join(os.Remove(path), os.Remove(path+".lock")))
		return failed
	}
	for _, only := range []string{"BEGIN", "INSERT INTO block", "COMMIT", "SELECT id, last", `SELECT "end"`, "SELECT last",
		"DELETE FROM block WHERE id <=", "DELETE FROM block WHERE id >", "UPDATE mark", "INSERT INTO mark", "DELETE FROM mark"} {
		require.NotEmpty(t, fail(only, 0, 1), only)
	}
	// Which statements these are depends on when the writer comes to trim.
	for _, times := range []int{1, 4} {
		n := 0
		for len(fail("", n, times)) > 0 {
			n += times * 5 / lessUnderRace(5)
		}
		require.Greater(t, n, 20)
	}
}

// failNth uses the queue at path while statements that begin with only fail from
// the nth on, and returns those that did.
func failNth(t *testing.T, path, only string, n, times int, fault error) []string {
	ctx := t.Context()
	q, err := Open(path, &Options{driver: "faulty", Keep: 10_000, noted: make(chan struct{}, 1)})
	require.NoError(t, err)
	defer q.Close()
	faulty.set(only, n, times, fault)
	defer faulty.stop()
	// again tries as an engine does.
	again := func(do func() error) {
		t.Helper()
		for range times + 1 {
			if err = do(); err == nil {
				return
			}
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.Len(t, q.enc, cap(q.enc))
		}
		require.NoError(t, err)
	}
	again(func() error { return q.Apply(ctx, txs(81, 5, 270_000)) })
	require.NoError(t, q.Trim(ctx, at(80)))
	again(func() error { return q.Apply(ctx, txs(86, 1, 1000)) })
	parts := txs(87, 2, 1000)
	parts[0].More, parts[1].More = true, true
	again(func() error { return q.Apply(ctx, parts) })
	again(func() error {
		c, err := q.Checkpoint(ctx)
		if err == nil {
			require.Equal(t, at(86), c)
		}
		return err
	})
	again(func() error { _, err := q.Reader("other").Open(ctx, at(86)); return err })
	again(func() error { return q.Forget(ctx, "other") })
	eventually(t, q, "trimmed", func(s Stats) bool {
		q.w.nudge() // or it would try again only after a second
		return s.First > 70
	})
	read(t, q, 81, 86)
	again(func() error { return q.Reset(ctx, at(200)) })
	again(func() error { return q.Apply(ctx, txs(201, 2, 1000)) })
	failed := faulty.stop()
	read(t, q, 201, 202)
	require.NoError(t, q.Close())
	verify(t, path)
	return failed
}
