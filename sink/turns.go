package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dataflowsync/dfs"
)

// One connection uses one core of the server. So a large batch is cut into runs of
// whole transactions, and several connections take turns: while one writes the rows of
// a run, the next writes those of the run after it. Each run is one transaction of the
// target, with its own move of the checkpoint, and they are committed in order.
//
//  1. Rows of a run are written at once only if the runs before it that are not
//     committed touch nothing of them: no key, primary or unique, and no table that a
//     foreign key ties theirs to. The others wait until the run before is committed, and so
//     does whatever comes after these for the same keys. So the rows end as they would in
//     order, by the same argument as in merge.go; where keys differ in bytes and not for
//     the server, the wrong order ends in a constraint's error.
//  2. Invariant I1: a run ends with the compare-and-set of the checkpoint from where the
//     run before has left it, together with its COMMIT, when that has been committed. So
//     none can be committed without those before it, or by a sink that the checkpoint was
//     taken from.
//     Invariant I4: a reader of the target sees whole runs, in order.
//  3. If a run fails before its end, it is undone with all that come after it, and these go
//     the ordinary way, by the sink's own connection, which tells what is wrong. So is
//     one that waits a second for a lock, since a later run may hold it: one that waits for this run.
//
// Batches overlap too: the next is asked for as soon as a run is committed and its memory is
// free (dfs.Overlapper, feed.go).
//
// Transactions with rows of tables without a key, with triggers, or with foreign keys that act
// go the ordinary way with all of their batch, as do parts, statements, copied rows, and
// batches most of whose later rows would have to wait, such as those that update the same rows over and over.

const (
	defaultWriters = 2
	maxWriters     = 16
	idleWriters    = time.Minute // after which their connections are given up
	stayAwake      = 20 * time.Second

	// minTurn is how much work is worth a transaction of its own: see workOf.
	minTurn = 1500

	// mostPause is the most batches that go by one connection after turns were of no use.
	mostPause = 256
)

// crew is the connections that take turns. Each is a sink of which only what writes
// groups is used.
type crew struct {
	workers []*MySQL
	pause   int  // batches that are to go by one connection
	backoff int  // what pause is the next time
	skip    bool // the batch at hand was tried
	keys    []map[uint64]struct{}
	orders  map[*table]string // keyOrd of the mappings to a table, in the batch at hand
	used    time.Time         // when they were last of use; zero if none is connected
	awake   time.Time         // when the sink's own connection was last asked something while they worked

	// For tests: how much work is worth a turn, if not 0, that it is always tried, and how
	// many seconds it waits for a lock, if not one.
	least   int
	eager   bool
	patient int
}

// errNotInTurns says that a batch must go the ordinary way.
var errNotInTurns = errors.New("the rows do not go by several connections")

// A turn is a run on its way.
type turn struct {
	run         []*dfs.Transaction
	list        []item
	early, late []item // of list: what need not wait for the turn before, and what must
	fence       []byte // moves the checkpoint
	keys        map[uint64]struct{}
	tables      map[string]bool // that it changes, by key

	before    <-chan struct{} // closed once the turn before is committed
	committed chan struct{}   // closed once this one is
	err       error
	open      bool // it is not known how it ended
}

// worth returns how much work is worth a turn.
func (c *crew) worth() int { return cmp.Or(c.least, minTurn) }

func (t *turn) isCommitted() bool {
	select {
	case <-t.committed:
		return true
	default:
		return false
	}
}

// room returns an empty set for the keys of turn k, of which the last n may be in use.
func (c *crew) room(k, n int) map[uint64]struct{} {
	if len(c.keys) <= n {
		c.keys = append(c.keys, make(map[uint64]struct{}))
	}
	set := c.keys[k%len(c.keys)]
	clear(set)
	return set
}

// plan finds out what of a turn must wait, if the turns of recent may not be committed
// when it begins. It follows the checkpoint's number base.
func (m *MySQL) plan(ctx context.Context, t *turn, base uint64, recent []*turn) error {
	move, err := m.move(t.run)
	if err != nil {
		return err
	}
	t.fence = m.appendMoveFrom(nil, move, base)
	t.list = once(items(t.run))
	t.tables = make(map[string]bool)
	late, lateTables := make(map[uint64]bool), make(map[string]bool)
	t.early = make([]item, 0, len(t.list))
	var hashes []uint64
	for _, it := range t.list {
		mp, err := m.mapping(ctx, it.c.Table)
		if err != nil {
			return err
		}
		own, err := mp.locate(it.c)
		if err != nil || own != mp || !mp.takesTurns(it.c) {
			return cmp.Or(err, errNotInTurns)
		}
		to := mp.to
		// Whether rows are the same is told by one key only.
		if m.crew.orders[to] == "" {
			m.crew.orders[to] = mp.keyOrd
		} else if m.crew.orders[to] != mp.keyOrd {
			return errNotInTurns
		}
		hashes = m.appendKeys(hashes[:0], it.c, mp)
		waits := to.tied(lateTables)
		for _, r := range recent {
			waits = waits || to.tied(r.tables)
		}
		for _, h := range hashes {
			if waits {
				break
			}
			waits = late[h]
			for _, r := range recent {
				_, met := r.keys[h]
				waits = waits || met
			}
		}
		waits = waits && m.merger.broken != "turns"
		t.tables[to.key] = true
		for _, h := range hashes {
			t.keys[h] = struct{}{}
		}
		if !waits {
			t.early = append(t.early, it)
			continue
		}
		t.late = append(t.late, it)
		lateTables[to.key] = true
		for _, h := range hashes {
			late[h] = true
		}
	}
	return nil
}

// takesTurns reports whether what a change does to rows follows from its keys.
func (m *mapping) takesTurns(c *dfs.Change) bool {
	t := m.to
	return m.key != nil && !m.ordered && !t.inPlace && !t.selfRef && !t.madeRefs && !t.cascades() && !c.Part && !c.Overwrite
}

// tied reports whether a foreign key ties the table to one of others.
func (t *table) tied(others map[string]bool) bool {
	for _, keys := range [2][]foreignKey{t.parents, t.children} {
		for i := range keys {
			if others[keys[i].other] {
				return true
			}
		}
	}
	return false
}

// appendKeys appends hashes of the primary and unique keys that a change touches.
func (m *MySQL) appendKeys(b []uint64, c *dfs.Change, mp *mapping) []uint64 {
	id := mp.to.id(m)
	add := func(key uint64, row dfs.Row, cols, parts []int) {
		if h, ok := m.merger.hash(id<<8+key, row, cols, parts); ok {
			b = append(b, h)
		}
	}
	if c.Op != dfs.Insert {
		add(0, c.Before, mp.key, nil)
	}
	if c.Op == dfs.Insert {
		add(0, c.After, mp.key, nil)
	} else if c.Op == dfs.Update && mp.keyChanges(c) {
		add(0, mp.newKey(c), mp.key, nil)
	}
	for k, u := range mp.uniques {
		if c.Op == dfs.Update && !changes(c, u.cols) {
			continue
		}
		add(uint64(k)+1, c.Before, u.cols, u.parts)
		add(uint64(k)+1, c.After, u.cols, u.parts)
	}
	return b
}

// id returns a number that the table has for the life of the sink.
func (t *table) id(m *MySQL) uint64 {
	if t.number == 0 {
		m.tableIDs++
		t.number = m.tableIDs
	}
	return t.number
}

// errHalted says that a turn was undone because of another.
var errHalted = errors.New("a run before this one was not applied")

// take applies a turn. If it returns an error, the turn is undone, unless t.open is set.
func (w *MySQL) take(ctx context.Context, t *turn, stop <-chan struct{}) error {
	err := w.merged(ctx, t.early, func() { w.writer.statement("BEGIN", uncounted) })
	if err == nil {
		select {
		case <-t.before:
		default:
			select {
			case <-t.before:
			case <-stop:
				err = errHalted
			}
		}
	}
	if err == nil && len(t.late) > 0 {
		err = w.merged(ctx, t.late, nil)
	}
	if err == nil {
		err = w.write(ctx, nil, func() {
			w.writer.guarded = true
			w.writer.b = append(w.writer.b, t.fence...)
			w.writer.wants(fence, dfs.Update)
		})
		if err == nil {
			close(t.committed)
			return nil
		}
		switch serverError(err) {
		case erOutOfRange, erLockWait, erDeadlock: // it was not the COMMIT
		default:
			t.open = true
		}
	}
	if err != errHalted {
		w.forget() // the target may have been altered
	}
	if w.sess != nil {
		if _, e := w.exec(ctx, []byte(restoreSQL+"; ROLLBACK")); e != nil {
			w.drop()
		}
	}
	return err
}

// openWorkers makes sure of the connections.
func (m *MySQL) openWorkers(ctx context.Context) error {
	c := &m.crew
	for i, w := range c.workers {
		if w.known != m.forgets {
			w.known = m.forgets
			w.forget()
		}
		if w.sess == nil {
			s, err := openSession(ctx, m.connector, m.sqlOnly)
			if n := serverError(err); n == erTooMany || n == erTooManyOfUser || n == erUserLimit || accountNumbers[n] {
				m.log.Warn("rows are applied by fewer connections", "connections", max(i, 1), "cause", err)
				for _, w := range c.workers[i:] {
					w.drop()
				}
				c.workers = c.workers[:i]
				return nil
			}
			if err != nil {
				return err
			}
			w.use(s)
			// One that waits for a lock may keep the one that holds it from its turn.
			wait := max(c.patient, 1)
			if _, err := w.exec(ctx, fmt.Appendf(nil, "SET innodb_lock_wait_timeout=%d, lock_wait_timeout=%d", wait, wait)); err != nil {
				w.drop()
				return err
			}
		}
		// By this a later start ends a session whose network has died.
		if owner := workerOwner(m.owner, i); w.sess.held != owner {
			w.sess.hold(ctx, owner)
		}
	}
	return nil
}

// workerOwner names the lock of a connection that takes turns.
func workerOwner(owner string, i int) string { return fmt.Sprintf("%s.w%d", owner, i) }

// disband gives the connections up. The server then undoes what is not committed.
func (m *MySQL) disband() {
	m.crew.used = time.Time{}
	for _, w := range m.crew.workers {
		w.drop()
	}
}

// dismiss ends the connections that took turns for an owner who was fenced off, so that what
// they hold of a transaction stands in nobody's way.
func (m *MySQL) dismiss(ctx context.Context, s *session, owner string) {
	if owner == "" {
		return
	}
	var b []byte
	for i := range maxWriters {
		b = append(b, ",IS_USED_LOCK("...)
		b = append(appendQuoted(b, "dfs."+workerOwner(owner, i)), ')')
	}
	rows, err := s.query(ctx, "SELECT "+string(b[1:]))
	if err != nil {
		return
	}
	own := make(map[uint64]bool)
	for _, w := range m.crew.workers {
		if w.sess != nil {
			own[w.sess.id] = true
		}
	}
	for _, cell := range rows[0] {
		if !cell.null && !own[cell.uint()] {
			_, _ = s.exec(ctx, fmt.Appendf(nil, "KILL %d", cell.uint()))
		}
	}
}
