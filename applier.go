package dfs

import (
	"context"
	"errors"
	"slices"
	"time"
)

// An applier gives chunks to the sink.
type applier struct {
	*leg
	at       Checkpoint // of the last transaction applied, or part handed over
	room     *room
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

// run applies chunks, taking together those that are ready. So a slow sink gets
// larger batches, and a fast one does not wait.
func (a *applier) run(ctx, work context.Context, from <-chan *chunk) error {
	var held *chunk // received, but not to go with those before it
	for open := true; open || held != nil; {
		c := held
		if held = nil; c == nil {
			select {
			case c, open = <-from:
				if !open {
					continue
				}
			case <-ctx.Done():
				return nil
			}
		}
		// A pause within a transaction would keep its locks on the target.
		if c.first == c.txs[0].Seq && !a.gate(ctx) {
			return nil
		}
		chunks := []*chunk{c}
		n, size, weight, alone := len(c.txs), c.size, c.weight, c.alone
	gather:
		for open && !alone && n < a.limit && weight < a.p.readAhead()/2 {
			select {
			case c, open = <-from:
				if !open {
					break gather
				}
				if c.alone || n+len(c.txs) > a.limit {
					held = c
					break gather
				}
				chunks = append(chunks, c)
				n, size, weight = n+len(c.txs), size+c.size, weight+c.weight
			default:
				break gather
			}
		}
		if err := a.apply(work, chunks, n, size); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
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

// apply applies n transactions of size bytes as one batch.
func (a *applier) apply(ctx context.Context, chunks []*chunk, n, size int) error {
	batch := make([]*Transaction, 0, n)
	rows, weight := 0, 0
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
		rows, weight = rows+c.rows, weight+c.weight
		a.ledger = append(a.ledger, c.ledger...)
	}
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
	switch {
	case took > longApply:
		a.limit = max(min(a.limit, n)/2, 1)
	case took < longApply/4 && n > a.limit/2:
		a.limit = min(2*a.limit, a.p.maxBatch())
	}
	if a.p.Observe != nil {
		a.p.Observe(Batch{Leg: a.name, From: from, To: last.Checkpoint, Transactions: n, Rows: rows, Bytes: size,
			Committed: last.Committed, Took: took, Err: err})
	}
	if err != nil {
		return a.blame(chunks[0], last.Seq, &Error{a.to, from, name, err})
	}
	a.at, a.progress, a.open = last.Checkpoint, true, last.More
	a.room.give(weight)
	if whole == from {
		return nil
	}
	a.settle(whole)
	for _, c := range letters {
		if err := a.arrived(ctx, c); err != nil {
			return err
		}
	}
	a.taken.applied(whole.Seq, copied, took)
	if a.skips {
		if err := a.p.passed(ctx, whole.Seq); err != nil {
			return &Error{Part: "letters", At: whole, Err: err}
		}
	}
	if a.applied != nil {
		a.applied(whole.Seq)
	}
	if t, ok := a.src.(Trimmer); ok {
		if err := t.Trim(ctx, whole); err != nil {
			return &Error{Part: a.from, At: whole, Err: err}
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
