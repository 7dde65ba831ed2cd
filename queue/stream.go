package queue

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/txrun"
)

const (
	batchBytes = 1 << 20 // where a batch ends: see dfs.Stream
	slabLen    = 512     // transactions allocated at a time, at most
)

// A stream is the dfs.Stream of one Open. It holds no connection and no snapshot
// of the file between two calls of Next, so an idle one stands in nobody's way.
type stream struct {
	q      *Queue
	name   string
	seq    uint64            // the last transaction handed out
	block  int64             // the last block loaded
	ready  []*txrun.Cursor   // blocks loaded and not yet handed out
	blocks []int64           // the numbers of those
	slab   []dfs.Transaction // room for the next ones
	closed bool
}

// open finds where a reader stands, and registers it there. Only a reader whose
// checkpoint is of this queue is registered, so that a stranger moves nothing.
func (q *Queue) open(ctx context.Context, name string, from dfs.Checkpoint) (dfs.Stream, error) {
	if err := q.usable(ctx, name); err != nil {
		return nil, err
	}
	s, err := q.find(ctx, name, from)
	if err != nil {
		return nil, err
	}
	if !q.opts.ReadOnly {
		if err := q.register(ctx, name, from.Seq); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// find returns a stream that stands after from, having compared positions. It
// reads one snapshot of the file, so that no block is deleted under its hands.
// What is deleted between that and the registration, the registration refuses.
func (q *Queue) find(ctx context.Context, name string, from dfs.Checkpoint) (_ *stream, err error) {
	defer func() { err = q.ended(ctx, err) }()
	tx, err := q.readDB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, wrap(q.path, "find where a reader stands", err)
	}
	defer tx.Rollback()
	st, err := readState(ctx, q.path, tx)
	if err != nil {
		return nil, err
	}
	if from.Seq < st.base.seq || from.Seq > st.whole.seq {
		return nil, q.missing(name, from.Seq, st)
	}
	if from.Seq == st.base.seq && st.base.part {
		return nil, q.within(name, from.Seq)
	}
	s := &stream{q: q, name: name, seq: from.Seq}
	pos := st.base.pos
	if s.block, err = findLast(ctx, q.path, tx, st.base.block, st.last.block, from.Seq); err != nil {
		return nil, err
	}
	if from.Seq > st.base.seq {
		// Either s.block ends with from, or from stands within the next one.
		last := s.block > st.base.block
		if last {
			b, err := oneBlock(ctx, q.path, tx, s.block)
			if err != nil {
				return nil, err
			}
			if last = b.last == from.Seq; last {
				if b.whole != b.last {
					return nil, q.within(name, from.Seq)
				}
				pos = b.pos
			}
		}
		if !last {
			if pos, err = s.enter(ctx, tx, from.Seq); err != nil {
				return nil, err
			}
		}
	}
	if from.Pos != "" && pos != "" && from.Pos != pos {
		return nil, &MismatchError{Path: q.path, Seq: from.Seq, Queue: pos, Reader: from.Pos}
	}
	return s, nil
}

// enter loads the next block, in the middle of which seq stands, and returns the
// position of seq.
func (s *stream) enter(ctx context.Context, c querier, seq uint64) (dfs.Position, error) {
	b, err := oneBlock(ctx, s.q.path, c, s.block+1)
	if err != nil {
		return "", err
	}
	cur, err := b.open()
	if err != nil {
		return "", s.corrupt(b.id, b.first, err)
	}
	var tx dfs.Transaction
	for cur.Seq() <= seq {
		tx = dfs.Transaction{}
		if err := cur.Next(&tx); err != nil {
			return "", s.corrupt(b.id, b.first, err)
		}
	}
	if tx.More {
		return "", s.q.within(s.name, seq)
	}
	s.block = b.id
	s.ready, s.blocks = append(s.ready, cur), append(s.blocks, b.id)
	return tx.Pos, nil
}

// within refuses a checkpoint that no sink can have been given.
func (q *Queue) within(name string, seq uint64) error {
	return gap("reader %q stands after transaction %d, which is a part of a larger one in queue %s: "+
		"its checkpoint is not of this queue", name, seq, q.path)
}

// corrupt says that a block is damaged.
func (s *stream) corrupt(id int64, first uint64, err error) error {
	return &CorruptError{Path: s.q.path, Block: id, Seq: first, Err: err}
}

// readErr wraps an error of the reading connections.
func (q *Queue) readErr(ctx context.Context, doing string, err error) error {
	return q.ended(ctx, wrap(q.path, doing, err))
}

// ended returns err, or why it arose: the end of ctx, and Close, show in many
// guises in the errors of the reading connections, and it makes them one each.
func (q *Queue) ended(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-q.closing:
		return ErrClosed
	default:
		return err
	}
}

// Next implements dfs.Stream. The transactions of a batch are parts of few
// larger allocations: one that is kept keeps up to 512 of its neighbours, and
// the block it came from.
func (s *stream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if s.closed {
		return 0, ErrClosed
	}
	n, size := 0, 0
	for n < len(batch) && size < batchBytes {
		var err error
		if len(s.ready) == 0 {
			var more bool
			if more, err = s.load(ctx, n == 0, len(batch)-n); err == nil && !more {
				break
			}
		} else if batch[n], err = s.one(len(batch) - n); err == nil {
			size += batch[n].Size()
			n++
		}
		if err != nil {
			if n > 0 {
				break // it will come again
			}
			return 0, err
		}
	}
	return n, nil
}

// Close implements dfs.Stream.
func (s *stream) Close() error {
	s.closed, s.ready, s.slab = true, nil, nil
	return nil
}

// one hands out the next transaction of those that are loaded.
func (s *stream) one(room int) (*dfs.Transaction, error) {
	c := s.ready[0]
	if len(s.slab) == 0 {
		s.slab = make([]dfs.Transaction, min(room, c.Left(), slabLen))
	}
	tx := &s.slab[0]
	s.slab = s.slab[1:]
	if err := c.Next(tx); err != nil {
		return nil, s.corrupt(s.blocks[0], c.Seq(), err)
	}
	s.seq = tx.Seq
	if c.Left() == 0 {
		s.ready[0] = nil
		s.ready, s.blocks = s.ready[1:], s.blocks[1:]
	}
	return tx, nil
}

// load reads blocks until they hold as many transactions as there is room for,
// or a batch of bytes. If there are none it waits, or reports false.
func (s *stream) load(ctx context.Context, wait bool, room int) (bool, error) {
	for {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		last, changed, err := s.q.reach(ctx)
		if err != nil {
			return false, err
		}
		switch {
		case last > s.seq:
			if s.takeFresh() {
				return true, nil
			}
			return true, s.read(ctx, last, room)
		case last < s.seq:
			return false, s.hole(ctx, 0)
		case !wait:
			return false, nil
		}
		s.q.waiters.Add(1)
		err = s.q.wait(ctx, changed)
		s.q.waiters.Add(-1)
		if err != nil {
			return false, err
		}
	}
}

// reach returns the last transaction that readers may see, and what is closed
// when it moves.
func (q *Queue) reach(ctx context.Context) (uint64, <-chan struct{}, error) {
	select {
	case <-q.closing:
		return 0, nil, ErrClosed
	default:
	}
	if q.opts.ReadOnly {
		// If there are no blocks, the newest place is where they would begin.
		const query = `SELECT coalesce((SELECT whole FROM block ORDER BY id DESC LIMIT 1),
			(SELECT seq FROM mark WHERE name = ''))`
		var last uint64
		err := q.readDB.QueryRowContext(ctx, query).Scan(&last)
		return last, nil, q.readErr(ctx, "look for more", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.st.whole.seq, q.changed, nil
}

// wait returns when changed is closed, or for a read-only queue after a moment.
func (q *Queue) wait(ctx context.Context, changed <-chan struct{}) error {
	var tick <-chan time.Time
	if changed == nil {
		t := time.NewTimer(poll)
		defer t.Stop()
		tick = t.C
	}
	select {
	case <-changed:
		return nil
	case <-tick:
		return nil
	case <-q.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read loads blocks that end at last or before. What stands in the way is an
// error only once all before it has been handed out.
func (s *stream) read(ctx context.Context, last uint64, room int) error {
	rows, err := s.q.next.QueryContext(ctx, s.block, int64(last))
	if err != nil {
		return s.q.readErr(ctx, "read", err)
	}
	defer rows.Close()
	next := s.seq + 1
	for bytes := int64(0); bytes < batchBytes && room > 0 && rows.Next(); {
		var b block
		var c *txrun.Cursor
		err := b.scan(rows)
		if err != nil {
			err = s.q.readErr(ctx, "read", err)
		} else if c, err = b.open(); err != nil {
			err = s.corrupt(b.id, b.first, err)
		} else if b.first != next {
			err = s.hole(ctx, b.first) // Invariant I3: Seq is dense.
		}
		if err != nil {
			if len(s.ready) > 0 {
				return nil
			}
			return err
		}
		s.block, next = b.id, b.last+1
		s.ready, s.blocks = append(s.ready, c), append(s.blocks, b.id)
		bytes += b.raw
		room -= c.Left()
	}
	if len(s.ready) > 0 {
		failpoint.Hit("queue.read")
		return nil
	}
	if err := rows.Err(); err != nil {
		return s.q.readErr(ctx, "read", err)
	}
	if now, _, err := s.q.reach(ctx); err != nil || now != last {
		return err // the queue was reset meanwhile; look again
	}
	return s.hole(ctx, 0)
}

// hole says why what follows s.seq is not there, but first is, if not 0.
func (s *stream) hole(ctx context.Context, first uint64) error {
	if s.q.opts.ReadOnly {
		if err := s.q.refresh(ctx); err != nil {
			return err
		}
	}
	if st := s.q.state(); s.seq < st.base.seq || s.seq > st.whole.seq {
		return s.q.missing(s.name, s.seq, st)
	}
	if first > 0 && first <= s.seq {
		return gap("queue %s was reset while reader %q stood after transaction %d, and holds %d next; open it again",
			s.q.path, s.name, s.seq, first)
	}
	return s.corrupt(s.block+1, s.seq+1, errors.New("it is missing"))
}
