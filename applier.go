package dfs

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"
)

// An applier gives chunks to the sink.
type applier struct {
	*leg
	in       <-chan *chunk
	held     *chunk     // received, but not to go with those before it
	at       Checkpoint // of the last transaction applied, or part handed over
	room     *room
	unpacked *room // for rows that are decoded
	progress bool
	open     bool // the sink holds parts of a transaction without its end
	limit    int  // transactions for the next Apply; at most MaxBatch
	skips    bool // some transactions are to be skipped
}

// An Apply that fails is lost work. So a session begins with small batches, and
// keeps them to about a second: even a sink that is cut off every few seconds
// then gets ahead.
const (
	firstBatch = 256
	longApply  = time.Second
)

// largeApply is by how much only a batch with a very large row passes ReadAhead.
const largeApply = 32 << 20

// run applies chunks, taking together those that are ready. So a slow sink gets
// larger batches, and a fast one does not wait.
func (a *applier) run(ctx, work context.Context) error {
	overlapper, overlaps := a.dst.(Overlapper)
	for {
		c := a.held
		if a.held = nil; c == nil {
			open := true
			select {
			case c, open = <-a.in:
			case <-ctx.Done():
				return nil
			}
			if !open {
				return nil
			}
		}
		// A pause within a transaction would keep its locks on the target.
		if c.first == c.txs[0].Seq && !a.gate(ctx) {
			return nil
		}
		plain := overlaps && c.isPlain()
		chunks := a.gather(c, a.p.readAhead()/2, plain)
		var err error
		if plain {
			err = a.applyEach(ctx, work, overlapper, chunks)
		} else {
			err = a.apply(work, chunks)
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// ready returns the next chunk if there is one now, else nil.
func (a *applier) ready() *chunk {
	c := a.held
	if a.held = nil; c == nil {
		select {
		case c = <-a.in: // nil once it is closed
		default:
		}
	}
	return c
}

// gather returns the chunk with those that are ready and can go with it, and are plain if
// they must be, until they take so much of the room.
func (a *applier) gather(c *chunk, room int, plain bool) []*chunk {
	chunks, n, weight := []*chunk{c}, len(c.txs), c.weight
	for !c.alone && n < a.limit && weight < room {
		next := a.ready()
		if next == nil {
			break
		}
		if next.alone || n+len(next.txs) > a.limit || plain && !next.isPlain() {
			a.held = next
			break
		}
		chunks = append(chunks, next)
		n, weight = n+len(next.txs), weight+next.weight
	}
	return chunks
}

// gate waits while the pipeline is paused. It is false if ctx ends.
func (a *applier) gate(ctx context.Context) bool {
	for a.pausable {
		paused := a.p.paused()
		if paused == nil {
			break
		}
		select {
		case <-paused:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// apply applies chunks as one batch.
func (a *applier) apply(ctx context.Context, chunks []*chunk) error {
	var batch []*Transaction
	rows, size, weight, memory := 0, 0, 0, 0
	var letters []*chunk
	for _, c := range chunks {
		if c.refused != nil {
			if err := a.reject(ctx, c); err != nil {
				return err
			}
		}
		if len(c.letters) > 0 || c.ride != nil {
			letters = append(letters, c)
		}
		batch = append(batch, c.txs...)
		rows, size, weight, memory = rows+c.rows, size+c.size, weight+c.weight, memory+c.memory
		a.enter(c)
	}
	n := len(batch)
	// After Apply the batch is no longer ours to read.
	last, from, name := *batch[n-1], a.at, chunks[0].id()
	whole := from // the last transaction without More
	copied := 0   // bytes, if there are rows that were there already
	if slices.ContainsFunc(batch, func(tx *Transaction) bool { return tx.Snapshot }) {
		copied = size
	}
	for i := n - 1; i >= 0; i-- {
		if !batch[i].More {
			whole = batch[i].Checkpoint
			break
		}
	}
	if len(letters) > 0 {
		// Invariant I1: what the sink steps over is stored before that.
		switch err := a.post(ctx, letters); {
		case errors.Is(err, ErrLettersFull) && !chunks[0].alone:
			return &blame{err, suspect{until: last.Seq}} // those before it are applied
		case err != nil:
			return err
		}
	}
	start := time.Now()
	err := a.dst.Apply(ctx, batch)
	took := time.Since(start)
	a.pace(n, took)
	if a.p.Observe != nil {
		a.p.Observe(Batch{Leg: a.name, From: from, To: last.Checkpoint, Transactions: n, Rows: rows, Bytes: size,
			Committed: last.Committed, Took: took, Err: err})
	}
	if err != nil {
		return a.blame(ctx, chunks[0], last.Seq, &Error{a.to, from, name, err})
	}
	a.at, a.progress, a.open = last.Checkpoint, true, last.More
	if size > largeApply+a.p.readAhead() && len(letters) == 0 {
		// Invariant I6: what comes next may be as large as what is garbage now.
		clear(batch)
		for _, c := range chunks {
			c.txs = nil
		}
		runtime.GC()
	}
	a.room.give(weight)
	a.unpacked.give(memory)
	if whole == from {
		a.ledger = fold(a.ledger, chunks[0].first-1)
		return nil
	}
	a.settle(whole)
	if last.More {
		a.ledger = fold(a.ledger, whole.Seq)
	}
	for _, c := range letters {
		if err := a.arrived(ctx, c); err != nil {
			return err
		}
	}
	return a.stands(ctx, whole, copied, took)
}

// enter moves a chunk's entries to the ledger of what the sink was given.
func (a *applier) enter(c *chunk) {
	a.ledger = append(a.ledger, c.ledger...)
	a.spareLedger(c.ledger)
	c.ledger = nil
}

// pace sets how large batches are, after n transactions took so long.
func (a *applier) pace(n int, took time.Duration) {
	switch {
	case took > longApply:
		a.limit = max(min(a.limit, n)/2, 1)
	case took < longApply/4 && n > a.limit/2:
		a.limit = min(2*a.limit, a.p.maxBatch())
	}
}

// stands tells who must know that the sink stands at a checkpoint. It took so long for what
// came before, with so many bytes of rows of a copy.
func (a *applier) stands(ctx context.Context, at Checkpoint, copied int, took time.Duration) error {
	a.taken.applied(at.Seq, copied, took)
	if a.skips {
		if err := a.p.passed(ctx, at.Seq); err != nil {
			return &Error{Part: "letters", At: at, Err: err}
		}
	}
	if a.applied != nil {
		a.applied(at.Seq)
	}
	if t, ok := a.src.(Trimmer); ok {
		if err := t.Trim(ctx, at); err != nil {
			return &Error{Part: a.from, At: at, Err: err}
		}
	}
	return nil
}

// reject offers a refused transaction, or a part of one, to Reject, and empties
// it, so that applying it steps over it.
func (a *applier) reject(ctx context.Context, c *chunk) error {
	tx := c.txs[0]
	c.countAll(received)
	c.countAll(rejected)
	if c.refused == ErrSkipped {
		a.p.logger().Warn("stepping over a transaction, as asked", "id", tx.ID, "seq", tx.Seq)
	} else if a.p.Letters != nil {
		// It is among the chunk's letters.
	} else if err := a.p.Reject(ctx, tx, c.refused); err != nil {
		return &Error{Part: "reject", At: a.at, ID: tx.ID, Err: err}
	}
	tx.Changes, tx.Encoded = nil, nil
	if !tx.More {
		c.ledger = append(c.ledger, entry{seq: tx.Seq, what: rejectedTransaction, n: 1})
	}
	return nil
}
