package queue

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/dataflowsync/dfs/internal/failpoint"
)

// trimBlocks is how many blocks are deleted at a time, so that an Apply does not
// wait long when a backlog of gigabytes has been read.
const trimBlocks = 64

// vacuumPages is how many pages are given back at a time, for the same reason.
const (
	vacuumPages = 128
	vacuumStep  = "PRAGMA incremental_vacuum(128)"
)

// behind reports whether a reader stands elsewhere than the file says.
func (q *Queue) behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.readers {
		if r.seq != r.stored {
			return true
		}
	}
	return false
}

// pressed reports whether Apply waits for something to be trimmed.
func (q *Queue) pressed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// trim stores how far the readers have come, and deletes what all of them have
// passed and nothing keeps.
func (g *group) trim() error {
	q := g.q
	q.mu.Lock()
	g.readers = make(map[string]uint64)
	low := ^uint64(0)
	for name, r := range q.readers {
		if r.seq != r.stored {
			g.readers[name] = r.seq
		}
		if !r.lost {
			low = min(low, r.seq)
		}
	}
	low = min(low, g.st.whole.seq) // where all have been forgotten
	held := len(q.readers) > 0
	q.mu.Unlock()
	// Without a reader that has moved, there may be something to delete because
	// time has passed, because it was too much for one group, or because what
	// was kept has to give way.
	due := !g.more.IsZero() && !time.Now().Before(g.more)
	full := q.opts.MaxBytes > 0 && g.st.bytes() >= q.opts.MaxBytes
	if len(g.readers) == 0 && !due && !full {
		return nil
	}
	for name, seq := range g.readers {
		if err := g.exec(g.setReader, name, int64(seq)); err != nil {
			return err
		}
	}
	g.more = time.Time{}
	if !held || low <= g.st.base.seq {
		return nil
	}
	cut, err := g.cut(low)
	if err != nil || cut == g.st.base {
		return err
	}
	if err := g.exec(g.remove, cut.block); err != nil {
		return err
	}
	failpoint.Hit("queue.trim")
	g.moved = true
	g.log += 3 * pageSize
	return g.rebase(cut)
}

// cut returns up to where blocks may be deleted, given that all readers stand at
// low or beyond, and sets g.more if there will be more.
func (g *group) cut(low uint64) (place, error) {
	ctx, o := context.Background(), &g.q.opts
	base := g.st.base
	readEnd := base.end // of the blocks that have been read
	if o.Keep > 0 {
		id, err := findLast(ctx, g.q.path, g.conn, base.block, g.st.last.block, low)
		if err != nil {
			return base, err
		}
		if id > base.block {
			err = g.conn.QueryRowContext(ctx, `SELECT "end" FROM block WHERE id = ?`, id).Scan(&readEnd)
		}
		if err != nil {
			return base, wrap(g.q.path, "trim", err)
		}
	}
	// The oldest block goes first. The first that is kept keeps all after it.
	// That of the first one that is not read ends it here, and is no condition of the query:
	// SQLite would look through all that wait for another that fulfils it.
	rows, err := g.cutAt.QueryContext(ctx, base.block, trimBlocks)
	if err != nil {
		return base, wrap(g.q.path, "trim", err)
	}
	defer rows.Close()
	cut, at, n := base, base, 0
	for ; rows.Next(); n++ {
		var b block
		if err := rows.Scan(&b.id, &b.last, &b.whole, (*string)(&b.pos), &b.at, &b.end); err != nil {
			return base, wrap(g.q.path, "trim", err)
		}
		if b.last > low {
			break
		}
		if full := o.MaxBytes > 0 && g.st.last.end-at.end >= o.MaxBytes; !full {
			if readEnd-at.end <= o.Keep && o.Keep > 0 {
				break
			}
			if left := o.KeepFor - time.Since(time.UnixMicro(b.at)); left > 0 {
				g.more = time.Now().Add(left)
				break
			}
		}
		if at = b.place(); !at.part {
			cut = at
		}
	}
	if n == trimBlocks {
		g.more = time.Now()
		if cut == base {
			// A transaction of so many blocks is deleted little by little too.
			// Until its end nobody can start here: see find.
			cut = at
		}
	}
	return cut, wrap(g.q.path, "trim", rows.Err())
}

// findLast returns the highest number in (lo, hi] of a block that ends at seq or
// before, or lo if there is none. Numbers have no gaps.
func findLast(ctx context.Context, path string, c querier, lo, hi int64, seq uint64) (int64, error) {
	for lo < hi {
		mid := hi - (hi-lo)/2
		var last uint64
		err := c.QueryRowContext(ctx, "SELECT last FROM block WHERE id = ?", mid).Scan(&last)
		if errors.Is(err, sql.ErrNoRows) {
			return 0, &CorruptError{Path: path, Block: mid, Err: errors.New("it is missing")}
		}
		if err != nil {
			return 0, wrap(path, "look for a transaction", err)
		}
		if last <= seq {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo, nil
}

// upkeep does what nobody waits for, a little at a time. It returns how long
// until there is more to do, or 0.
func (w *writer) upkeep() time.Duration {
	due := !w.more.IsZero() && !time.Now().Before(w.more)
	behind, soon := w.q.behind(), lag-time.Since(w.trimmed)
	if due || w.q.pressed() || behind && soon <= 0 {
		if err := w.group(nil); err != nil {
			return time.Second
		}
		w.busy, behind = true, false
	}
	wait := w.vacuum()
	if behind && (wait == 0 || soon < wait) {
		wait = max(soon, 1) // unless a job comes before, whose commit stores that too
	}
	if !w.more.IsZero() {
		if until := max(time.Until(w.more), 1); wait == 0 || until < wait {
			wait = until
		}
	}
	return wait
}

// vacuum gives free pages back to the file system, if that is worth it: see shrinks. While jobs
// come, or readers move, it makes one step in a while.
func (w *writer) vacuum() time.Duration {
	if !w.freed {
		return 0
	}
	ctx := context.Background()
	var free, pages int64
	err := w.conn.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&free)
	if err == nil {
		err = w.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages)
	}
	if err == nil && shrinks(free, pages, w.q.opts.freePages, w.shrink) {
		w.shrink = true
		if _, err = w.conn.ExecContext(ctx, vacuumStep); err == nil {
			w.log += vacuumPages * pageSize
			w.moveLog(w.q.opts.walBytes)
			if w.busy {
				w.busy = false
				return pace
			}
			return 1
		}
	}
	if err != nil {
		w.q.mu.Lock()
		w.q.note(wrap(w.q.path, "give back space", err))
		w.q.mu.Unlock()
		return time.Second
	}
	if w.shrink {
		w.moveLog(0) // only this makes the file shorter
	}
	w.freed, w.shrink = false, false
	return 0
}

// shrinks reports whether pages are to be given back, of which so many are free. It begins with
// twice keep, and ends with keep, so that a queue whose readers are in step never begins. Nor does
// it while what waits takes more than a quarter of the file: SQLite moves the last pages into the
// place of free ones, and whoever reads a backlog leaves most of what would be moved behind soon.
func shrinks(free, pages, keep int64, begun bool) bool {
	return free > keep && (begun || free > 2*keep && free/3 >= pages-free)
}

// moveLog moves the write-ahead log into the file if it has grown by limit. The
// writer does this itself, after it has answered: while nothing is added, the
// whole log can be moved, and the next group begins it anew. A log moved beside
// a busy writer would never be quite moved, and grow without end.
func (w *writer) moveLog(limit int64) {
	if limit < 0 || w.log <= limit {
		return
	}
	ctx := context.Background()
	var busy bool
	var frames, moved int64
	failpoint.Hit("queue.move")
	err := w.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &moved)
	failpoint.Hit("queue.moved")
	if err == nil && frames*pageSize > walMost {
		// Readers always stood in its way. Each stays for one query only.
		err = w.restartLog(ctx)
	}
	w.q.mu.Lock()
	defer w.q.mu.Unlock()
	if err != nil {
		w.q.note(wrap(w.q.path, "move the write-ahead log", err))
	}
	w.log = (frames - moved) * pageSize / 2
}

// restartLog waits a moment for readers to leave the log, and empties it.
func (w *writer) restartLog(ctx context.Context) error {
	if _, err := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 100"); err != nil {
		return err
	}
	var busy, frames, moved sql.NullInt64
	err := w.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved)
	if _, err := w.conn.ExecContext(ctx, "PRAGMA busy_timeout = 5000"); err != nil {
		return err
	}
	return err
}
