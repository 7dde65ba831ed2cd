package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"modernc.org/sqlite"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/walrenew"
)

// A writer owns the only connection that writes, and the goroutine that uses it.
// Whatever has come (blocks, offsets of readers, deletions) it commits together:
// one fsync for all.
type writer struct {
	q    *Queue
	db   *sql.DB
	conn *sql.Conn

	begin, commit, rollback *sql.Stmt
	insert, remove, cutAt   *sql.Stmt
	setBase, setReader      *sql.Stmt
	stmts                   []*sql.Stmt // all of these

	jobs    chan *job
	wake    chan struct{} // something to trim
	stop    chan struct{}
	stopped chan struct{} // closed when run has returned

	// Only the goroutine uses these.
	trimmed   time.Time // when a group last trimmed
	watchedAt time.Time // when readers that move were last looked up
	more      time.Time // when there is more to trim, though no reader moves; zero: never
	log       int64     // about how much the write-ahead log has grown since it was moved
	freed     bool      // pages may be free
	shrink    bool      // they are being given back
	busy      bool      // a job has come, or readers have moved, since the last step of that
}

// A job is what someone wants done in a group.
type job struct {
	do     func(*group) error
	blocks chan *encoder // what do takes them from; the rest go back to q.enc
	done   chan error    // has room for the answer
}

const (
	// lag is how long what a reader has passed may stay when nothing else is to be
	// written. It only costs space, and each time is a commit: with 50 ms, and one also where
	// jobs come that store it too, a backlog of single rows took 4 % more processor time.
	lag = 200 * time.Millisecond

	// pace is how long a step of giving pages back waits for the next while others use the file.
	pace = 50 * time.Millisecond
)

// newWriter opens the file for writing, reads what it holds into q, and drops
// parts whose end never came. The caller starts run.
func newWriter(q *Queue) (_ *writer, err error) {
	w := &writer{q: q, jobs: make(chan *job, 4), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{})}
	// q holds the lock, so nobody else writes.
	if err := walrenew.Renew(context.Background(), q.path, q.opts.logger()); err != nil {
		return nil, fmt.Errorf("queue %s: %w", q.path, err)
	}
	if w.db, w.conn, err = openWriter(q.path, &q.opts); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			w.disconnect()
		}
	}()
	ctx := context.Background()
	for _, s := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.rollback, "ROLLBACK"},
		{&w.insert, "INSERT INTO block (" + blockColumns + ") VALUES (?,?,?,?,?,?,?,?,?,?,?)"},
		{&w.remove, "DELETE FROM block WHERE id <= ?"},
		{&w.cutAt, `SELECT id, last, whole, pos, at, "end" FROM block WHERE id > ? ORDER BY id LIMIT ?`},
		{&w.setBase, `UPDATE mark SET seq = ?, pos = ?, block = ?, "end" = ?, part = ? WHERE name = ''`},
		{&w.setReader, "INSERT INTO mark (name, seq) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, part = 0"},
	} {
		if *s.stmt, err = w.conn.PrepareContext(ctx, s.query); err != nil {
			return nil, wrap(q.path, "open", err)
		}
		w.stmts = append(w.stmts, *s.stmt)
	}
	if q.st, err = readState(ctx, q.path, w.conn); err != nil {
		return nil, err
	}
	if q.readers, err = readOffsets(ctx, q.path, w.conn); err != nil {
		return nil, err
	}
	// A process that was killed may have left something to do.
	w.freed, w.more = true, time.Now()
	if q.st.whole != q.st.last {
		err = w.group((*group).dropParts)
	}
	return w, err
}

// send hands over a job, unless it returns an error. The answer comes on the
// channel, after blocks, if there are any, was closed and all its encoders are
// back.
func (w *writer) send(ctx context.Context, do func(*group) error, blocks chan *encoder) (<-chan error, error) {
	j := &job{do: do, blocks: blocks, done: make(chan error, 1)}
	select {
	case w.jobs <- j:
		return j.done, nil
	case <-w.stopped:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// nudge makes the writer look for something to trim.
func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run does jobs as they come, each as one group, and upkeep when it is due. A job
// is answered before the log is moved, so that its sender goes on meanwhile.
func (w *writer) run() {
	defer close(w.stopped)
	upkeep := time.NewTimer(0)
	due := time.Now() // when upkeep fires
	arm := func(wait time.Duration) {
		if at := time.Now().Add(wait); due.IsZero() || at.Before(due) {
			due = at
			upkeep.Reset(wait)
		}
	}
	for ; ; w.q.opts.signal() {
		select {
		case j := <-w.jobs:
			w.answer(j, w.group(j.do))
			w.busy = true
			w.moveLog(w.q.opts.walBytes)
			if w.freed {
				arm(pace)
			}
			if !w.more.IsZero() {
				arm(time.Until(w.more))
			}
		case <-w.wake:
			if w.q.pressed() {
				arm(0)
			} else {
				arm(lag)
			}
		case <-upkeep.C:
			due = time.Time{}
			if wait := w.upkeep(); wait > 0 {
				arm(wait)
			}
		case <-w.stop:
			upkeep.Stop()
			w.finish()
			return
		}
	}
}

// answer says how a job went. If it went wrong, perhaps before anything was done
// of it, whoever encodes its blocks must find encoders to go on with.
func (w *writer) answer(j *job, err error) {
	if j.blocks != nil {
		for e := range j.blocks {
			w.q.enc <- e
		}
	}
	j.done <- err
}

// finish answers what is still waiting, and stores what readers have passed.
func (w *writer) finish() {
	for {
		select {
		case j := <-w.jobs:
			w.answer(j, ErrClosed)
		default:
			if w.q.behind() {
				// An error costs space, not data: the readers will tell again.
				w.group(nil)
			}
			return
		}
	}
}

// close ends the goroutine, if it runs, and the connection. SQLite then moves
// the write-ahead log into the file.
func (w *writer) close() error {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.stopped
	return w.disconnect()
}

// disconnect closes the statements first: with one left, SQLite would put off
// closing the connection, and leave the write-ahead log behind.
func (w *writer) disconnect() error {
	var errs []error
	for _, s := range w.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

// A group is one transaction of the file.
type group struct {
	*writer
	st      state
	readers map[string]uint64 // offsets to be stored
	all     bool              // all readers now stand at st.base
	added   string            // a reader that has registered
	addedAt uint64
	removed string    // a reader that was forgotten
	seen    []watched // readers whose place was looked up
	moved   bool      // blocks were deleted
	more    time.Time // will be writer.more
	fresh   fresh     // the blocks inserted, if streams wait for them
	counters
}

// group commits what do does, together with what there is to trim. If it fails
// the file is as before.
func (w *writer) group(do func(*group) error) error {
	q := w.q
	q.mu.Lock()
	g, err := &group{writer: w, st: q.st, more: w.more}, q.dead
	q.mu.Unlock()
	if err != nil {
		return err
	}
	err = w.exec(w.begin)
	if now := time.Now(); err == nil && (do == nil || now.Sub(w.trimmed) > lag/5) {
		w.trimmed = now
		err = g.trim()
	}
	if err == nil && do != nil {
		err = do(g)
	}
	if err == nil {
		err = g.watch()
	}
	if err == nil {
		failpoint.Hit("queue.commit")
		err = w.exec(w.commit)
		failpoint.Hit("queue.committed")
	}
	if err != nil {
		// SQLite may have rolled back by itself; then this fails, and may.
		w.rollback.ExecContext(context.Background())
		if isFull(err) {
			// If the log fits into the file it begins anew, and what it takes of
			// the disk serves for deleting.
			w.log = max(w.log, 1)
			w.moveLog(0)
		}
	}
	q.mu.Lock()
	q.note(err)
	if err == nil {
		w.publish(g)
	}
	q.mu.Unlock()
	if err == nil {
		g.tell()
	}
	return err
}

// note remembers how the last write went. q.mu is held.
func (q *Queue) note(err error) {
	var e *sqlite.Error
	if err == nil || errors.As(err, &e) {
		q.fault = err
	}
	if unsure(err) {
		q.dead = err
	}
}

// publish makes known what has been committed, and wakes those who wait for it.
// q.mu is held.
func (w *writer) publish(g *group) {
	q := w.q
	if q.st.whole != g.st.whole || q.st.base != g.st.base {
		close(q.changed)
		q.changed = make(chan struct{})
		q.fresh.add(g)
	}
	w.freed, w.more = w.freed || g.moved, g.more
	q.st = g.st
	for name, seq := range g.readers {
		if r := q.readers[name]; r != nil {
			r.stored = seq
		}
	}
	if g.added != "" {
		q.readers[g.added] = &offset{seq: g.addedAt, stored: g.addedAt}
	}
	for i := range g.seen {
		g.seen[i].publish(q.readers[g.seen[i].name])
	}
	delete(q.readers, g.removed)
	if g.all {
		// Those that the file does not know yet were not among what it set.
		for _, r := range q.readers {
			if r.seq = g.st.base.seq; r.stored != unstored {
				r.stored = r.seq
			}
			r.end, r.warned = g.st.base.end, 0
		}
	}
	if g.Transactions > 0 {
		g.Commits = 1
	}
	q.count.add(g.counters)
}

// exec runs a statement without a context: one that ends would interrupt SQLite
// in the middle, and cost the connection.
func (w *writer) exec(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(context.Background(), args...)
	return wrap(w.q.path, "write", err)
}

// insert adds a block at the end. If it ends with a part, readers do not see it
// until a later block of this or another group ends with a whole transaction.
func (g *group) insert(b *block) error {
	err := g.exec(g.writer.insert, b.id, int64(b.first), int64(b.last), int64(b.whole), string(b.pos),
		b.at, b.end, b.format, b.raw, int64(b.sum), b.data)
	if err != nil {
		return err
	}
	failpoint.Hit("queue.insert")
	g.st.last = b.place()
	if b.whole == b.last {
		g.st.whole = g.st.last
	}
	g.log += int64(len(b.data)) + 5*pageSize
	g.Transactions += b.last + 1 - b.first
	g.RawBytes += uint64(b.raw)
	g.StoredBytes += uint64(b.size())
	return nil
}

// dropParts deletes the parts whose end has not come. Their blocks' numbers are
// used again, which no Stream can notice, since none has seen them.
func (g *group) dropParts() error {
	_, err := g.conn.ExecContext(context.Background(), "DELETE FROM block WHERE id > ?", g.st.whole.block)
	if err != nil {
		return wrap(g.q.path, "drop the parts of a transaction", err)
	}
	g.moved = true
	g.st.last = g.st.whole
	return nil
}

// reset deletes all blocks. Their numbers are not used again, since a Stream may
// stand among them.
func (g *group) reset(at dfs.Checkpoint) error {
	ctx, last := context.Background(), g.st.last
	if _, err := g.conn.ExecContext(ctx, "DELETE FROM block"); err != nil {
		return wrap(g.q.path, "reset", err)
	}
	if _, err := g.conn.ExecContext(ctx, "UPDATE mark SET seq = ? WHERE name <> ''", int64(at.Seq)); err != nil {
		return wrap(g.q.path, "reset", err)
	}
	failpoint.Hit("queue.reset")
	if err := g.keepState(at); err != nil {
		return err
	}
	p := place{seq: at.Seq, pos: at.Pos, block: last.block, end: last.end}
	if err := g.rebase(p); err != nil {
		return err
	}
	g.st.whole, g.st.last = p, p
	g.moved, g.all = true, true
	return nil
}

// rebase records where the oldest block begins.
func (g *group) rebase(p place) error {
	g.st.base = p
	return g.exec(g.setBase, int64(p.seq), string(p.pos), p.block, p.end, p.part)
}
