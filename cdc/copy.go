package cdc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// A copier brings the rows that were there before the log into a Stream. It stands
// between the log and whoever calls Next: what the log has about keys whose chunk
// is yet to come it leaves out, and where a chunk is read it puts it in.
//
// A chunk is right at a place P of the log if it has the rows of its keys as they
// are after all that is before P. What a statement reads is not of one place of the
// log: it has all that was committed when it began, which is all up to some place
// P0 for certain, and nothing that is not in the log up to the end H that the
// server tells afterwards. What is between is known from the log itself: the
// window. Once the log has been read to H or further, all changes from P0 on are
// applied to the rows that were read, by key; those that they show already are
// applied a second time, which the later ones make right. So the chunk is right at
// the place that was read up to, and is handed on there.
//
// Readers are goroutines of the copier. What they share with it mu guards.
type copier struct {
	src  *Source
	st   *Stream
	opts *Snapshot

	// These are for the goroutine that calls next.
	stateDue bool  // the next transaction is to have the list of tables
	handed   bool  // the last call gave chunks
	seen     place // the place up to which events were taken
	done     bool  // the log has nothing to leave out any more

	mu       sync.Mutex
	cond     *sync.Cond
	err      error // why there is nothing more
	ended    bool  // all is over but the changes of tables that failed
	tables   []*copyTable
	byName   map[tableName]*copyTable
	first    int          // the tables before are over
	pos      dfs.Position // up to which the log was handed on
	keyed    int          // counts the keys of tables that were found out
	place    place        // the same in the server's files; zero until it is known
	inside   bool         // a transaction has begun and not ended
	passing  bool         // transactions of the log are looked at that are yet to be published
	began    time.Time
	window   int // bytes of changes that are kept
	pending  []*piece
	size     int                    // bytes of pending
	frozen   *flight                // the log waits until this one, of a table without a key, is handed on
	watched  []place                // that someone waits for
	wake     func()                 // ends the wait for the log; nil while there is none
	stopped  error                  // why readers have ended
	reword   bool                   // a reader has ended the copy of a table: positions are to say so
	children map[tableName][]effect // by the parent, what its deletes and new keys do in silence
	circles  map[tableName]bool     // tables that are in a circle of foreign keys
	xa       atomic.Bool            // the log has had an XA COMMIT of rows
	related  bool                   // children and circles are as up to pos

	cancel  context.CancelFunc
	readers sync.WaitGroup
	pace    *pace
}

// A place is one in a server's files.
type place struct {
	file string
	pos  uint64
}

// before reports whether p is before q. Numbers of files grow, and their texts
// with them.
func (p place) before(q place) bool {
	if p.file != q.file {
		return len(p.file) < len(q.file) || len(p.file) == len(q.file) && p.file < q.file
	}
	return p.pos < q.pos
}

// A copyTable is the copy of one table.
type copyTable struct {
	copyItem
	index int
	state dfs.CopyState
	err   error
	after []*copyTable // that must be copied before, as they are its parents

	// left is what is yet to be handed on, while the state is Copying, and free
	// what of it nobody reads.
	left, free []keyRange
	jobs       []*job
	hash       string // of the key that left is of; empty while nothing is handed on
	key        *copyKey
	shape      *copyShape // nil if it is to be asked for
	described  place      // the log's end after shape was asked for; zero if not known
	asking     bool       // somebody does
	epoch      int        // counts what makes chunks on their way worthless
	limit      int        // rows that one statement reads
	tries      int
	void       int // how often what was read was of no use, since something was handed on

	log     []change // the window
	base    int      // how many changes were dropped from its front
	flights []*flight
	changed time.Time // when the log had the last change of the table
	unnoted time.Time // the same of one that is in no window
	altered time.Time // when it had the last statement about the table, or what acts on its rows in silence

	rows, bytes, total uint64
	started            time.Time
	ended              time.Time
}

// A change is what the log says of a row whose chunk is yet to come.
type change struct {
	at                      time.Time
	before, after           string // the keys, byte by byte; empty if there is none
	beforeOrder, afterOrder string
	row                     dfs.Row // after it
	size                    int
}

// A job is a range that a reader reads from its beginning on.
type job struct {
	t       *copyTable
	r       keyRange // what is not yet read
	epoch   int
	scouted bool // it is not to be divided
	over    bool // all of it was read
}

// A flight is a statement that reads rows of a table, until its last piece is
// handed on.
type flight struct {
	t     *copyTable
	job   *job
	epoch int
	from  int   // where in the table's window its changes begin
	start place // the log's end before the statement; zero until it is known
	end   place
	known bool // end is
	open  int  // pieces that are not handed on
	over  bool // all is read
}

// A piece is a part of a chunk: the rows of a range.
type piece struct {
	f    *flight
	r    keyRange
	rows []dfs.Change
	size int
	more bool // of a table without a key: it is not the last
}

// newCopier returns a copier of tables for a stream, from a place where the copy
// was as far as word says.
// old is the one whose place it takes, or nil.
func (s *Source) newCopier(ctx context.Context, st *Stream, items []copyItem, word string, old *copier) (*copier, error) {
	opts := s.snapshot
	if opts == nil {
		opts, _, _ = new(Snapshot).withDefaults()
	}
	c := &copier{src: s, st: st, opts: opts, byName: make(map[tableName]*copyTable), began: time.Now(),
		pos: dfs.Position(st.asm.at.String()), pace: newPace(opts, s)}
	c.cond = sync.NewCond(&c.mu)
	for i, item := range items {
		t := &copyTable{copyItem: item, index: i, limit: min(1000, opts.ChunkRows)}
		c.tables = append(c.tables, t)
	}
	if err := c.parse(ctx, word); err != nil {
		return nil, err
	}
	for _, t := range c.tables {
		// Of several the latest, if one is copied again. But one that is copied may have
		// got another name since, and given its own to one that is not.
		if n := c.fold(t.tableName); !t.gone && (t.state != dfs.Copied || c.byName[n] == nil || c.byName[n].state == dfs.Copied) {
			c.byName[n] = t
		}
	}
	for _, t := range c.tables {
		if c.byName[c.fold(t.tableName)] != t {
			t.state, t.left, t.hash, t.err = dfs.Copied, nil, "", nil // it is copied anew, or not at all
		}
		if old != nil && t.index < len(old.tables) {
			t.goOn(old.tables[t.index])
		}
	}
	if at, ok := st.asm.reached(); ok {
		c.seen, c.place = at, at
	}
	if err := c.relate(ctx); err != nil {
		return nil, err
	}
	c.related = true
	if word == "-" && old == nil && st.begun {
		c.order()
	}
	var failed []string
	for _, t := range c.tables {
		if t.state == dfs.CopyFailed {
			failed = append(failed, t.String())
		}
	}
	if len(failed) > 0 {
		s.opts.Logger.Error("the copy of tables has failed, and their changes are left out until they are copied anew", "tables", someOf(failed))
	}
	st.asm.at.copy = c.word()
	st.until = c.until
	return c, nil
}

// fold returns the name by which a table is looked up.
func (c *copier) fold(n tableName) tableName {
	if c.src.known().fold {
		return tableName{strings.ToLower(n.schema), strings.ToLower(n.name)}
	}
	return n
}

// start begins to read.
func (c *copier) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.stopped = ctx.Err()
		c.cond.Broadcast()
	})
	for range c.opts.Readers {
		c.readers.Go(func() { c.reader(ctx) })
	}
}

// close ends the readers and waits for them.
func (c *copier) close() {
	if c.cancel != nil {
		c.cancel()
	}
	c.readers.Wait()
}

// fail ends the copy of a table. mu is held, or nobody else knows c yet.
func (c *copier) fail(t *copyTable, err error, cure string) {
	t.state, t.err = dfs.CopyFailed, &CopyError{Table: t.String(), Err: err, Cure: cure}
	t.left, t.hash = nil, ""
	c.discard(t)
	c.src.opts.Logger.Error("the copy of a table has ended; that of the others goes on", "table", t.String(), "err", err, "cure", cure)
}

// discard makes what is on its way of a table worthless, so that it is read again.
func (c *copier) discard(t *copyTable) {
	t.epoch++
	t.shape = nil
	t.jobs = nil
	t.free = slices.Clone(t.left)
	c.pending = slices.DeleteFunc(c.pending, func(p *piece) bool {
		if p.f.t != t {
			return false
		}
		c.size -= p.size
		return true
	})
	t.flights = nil
	c.trim(t)
	c.cond.Broadcast()
}

// trim drops from a table's window what no statement needs any more.
func (c *copier) trim(t *copyTable) {
	from := t.base + len(t.log)
	for _, f := range t.flights {
		from = min(from, f.from)
	}
	if wait := c.lag(); wait > 0 && t.state == dfs.Copying {
		from = min(from, t.since(wait))
	}
	n := from - t.base
	for _, ch := range t.log[:n] {
		c.window -= ch.size
	}
	if n > 0 {
		clear(t.log[:n])
		if t.log = t.log[n:]; len(t.log) == 0 {
			t.log = nil
		}
		t.base = from
	}
}

// until notes how far events were taken, and ends the wait for more where a chunk
// can be handed on, or somebody waits for that place.
func (c *copier) until() bool {
	at, ok := c.st.asm.reached()
	if !ok {
		return false
	}
	first := c.seen.file == ""
	c.seen = at
	c.mu.Lock()
	defer c.mu.Unlock()
	return first || !c.holds() && slices.ContainsFunc(c.pending, func(p *piece) bool { return p.f.known && !at.before(p.f.end) }) ||
		slices.ContainsFunc(c.watched, func(p place) bool { return !at.before(p) })
}

// next is Stream.Next while rows are copied.
func (c *copier) next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if c.done && c.why() == nil {
			c.close()
			return c.st.read(ctx, batch)
		}
		// The log and chunks take turns, so that neither waits for long.
		if !c.stateDue && !c.handed {
			n, err := c.handOut(batch)
			if c.handed = n > 0; c.handed || err != nil {
				failpoint.Hit("cdc.chunk")
				return n, err
			}
		}
		if err := c.why(); err != nil {
			return 0, err
		}
		if c.st.changeDue() && c.between() {
			return 0, nil // for Stream.change
		}
		look := c.handed
		c.handed = false
		wait, err := c.waitPiece(ctx)
		if err != nil {
			return 0, err
		}
		if wait {
			continue
		}
		n, err := c.readLog(ctx, batch, look)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// readLog hands on what the log has, if there is something before a chunk can be
// handed on. If look is set it does not wait.
func (c *copier) readLog(ctx context.Context, batch []*dfs.Transaction, look bool) (int, error) {
	var reading context.Context
	var cancel context.CancelFunc
	if look {
		reading, cancel = context.WithTimeout(ctx, time.Millisecond)
	} else {
		reading, cancel = context.WithCancel(ctx)
	}
	defer cancel()
	c.mu.Lock()
	if !look && !c.stateDue && c.ready() {
		c.mu.Unlock()
		return 0, nil
	}
	c.takeWord()
	c.wake = cancel
	c.mu.Unlock()
	n, err := c.st.read(reading, batch)
	c.mu.Lock()
	c.wake = nil
	c.mu.Unlock()
	if n > 0 {
		// What was read of the log is not to be had again, and so not even the end of
		// ctx may keep it from being handed on.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		n, err := c.pass(asking, batch[:n])
		if err != nil {
			c.mu.Lock()
			c.err = err
			c.mu.Unlock()
		}
		if n > 0 {
			err = nil
		}
		return n, err
	}
	if err != nil && ctx.Err() == nil && reading.Err() != nil && errors.Is(err, reading.Err()) {
		err = nil
	}
	if err == nil {
		c.mu.Lock()
		c.reached()
		c.mu.Unlock()
	}
	return 0, err
}

// between reports whether what was handed on ends with a whole transaction.
func (c *copier) between() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.inside && c.frozen == nil && !c.stateDue
}

// takeWord gives positions the word that a reader has changed. Only the goroutine
// that calls next touches the stream. mu is held.
func (c *copier) takeWord() {
	if c.reword {
		c.reword = false
		c.st.asm.at.copy = c.word()
	}
}

// why returns why there is nothing more.
func (c *copier) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// reached publishes up to where events were taken, once all of them are passed.
func (c *copier) reached() {
	if c.place != c.seen {
		c.place = c.seen
		c.cond.Broadcast()
	}
}

// waitPiece waits where the log must not be read on: while the window is full, and
// while a table without a key is handed on. It reports whether it did.
func (c *copier) waitPiece(ctx context.Context) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.full() {
		return false, nil
	}
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer stop()
	for c.full() && !c.ready() && c.stopped == nil && c.err == nil && ctx.Err() == nil {
		c.cond.Wait()
	}
	return true, ctx.Err()
}
