package dfs

import (
	"context"
	"fmt"
	"time"
)

// isPlain reports whether a chunk may go by ApplyEach: it holds whole transactions that ask
// for nothing but to be applied.
func (c *chunk) isPlain() bool {
	if c.alone || c.refused != nil || len(c.letters) > 0 || c.ride != nil || c.size > largeApply || c.first != c.txs[0].Seq || c.last().More {
		return false
	}
	for _, tx := range c.txs {
		if tx.Snapshot {
			return false
		}
	}
	return true
}

// A handed chunk was given to the sink, which may still be at it.
type handed struct {
	*chunk
	end       Checkpoint // of its last transaction
	committed time.Time
	n         int // its transactions
}

func (b *Batch) add(c handed) {
	b.To, b.Committed = c.end, c.committed
	b.Transactions, b.Rows, b.Bytes = b.Transactions+c.n, b.Rows+c.rows, b.Bytes+c.size
}

// applyEach has the sink apply chunks, and those that are ready whenever what is on its
// way takes less than half of ReadAhead. So the sink need not come to rest between two
// batches, and no more is in memory than if it did.
func (a *applier) applyEach(ctx, work context.Context, dst Overlapper, chunks []*chunk) error {
	var way []handed // given, and not known to be applied
	weight := 0      // of these
	last := a.at     // of what was given
	slow := false    // what is on its way takes too long: see longApply
	give := func(chunks []*chunk) []*Transaction {
		var batch []*Transaction
		for _, c := range chunks {
			tx := c.last()
			// Once it is given it is no longer ours to read.
			way = append(way, handed{c, tx.Checkpoint, tx.Committed, len(c.txs)})
			batch = append(batch, c.txs...)
			c.txs = nil
			weight += c.weight
			a.enter(c)
			last = tx.Checkpoint
		}
		return batch
	}
	next := func() []*Transaction {
		if chunks != nil {
			batch := give(chunks)
			chunks = nil
			return batch
		}
		room := a.p.readAhead()/2 - weight
		if room <= 0 || slow || ctx.Err() != nil || a.pausable && a.p.paused() != nil {
			return nil
		}
		c := a.ready()
		if c == nil || !c.isPlain() {
			a.held = c
			return nil
		}
		return give(a.gather(c, room, true))
	}
	since := time.Now()
	var ours error
	done := func(seq uint64) error {
		b := Batch{Leg: a.name, From: a.at, Took: time.Since(since)}
		memory, freed := 0, 0
		for len(way) > 0 && way[0].end.Seq <= seq {
			c := way[0]
			b.add(c)
			memory, freed = memory+c.memory, freed+c.weight
			way[0] = handed{}
			way = way[1:]
		}
		if b.Transactions == 0 {
			return nil // a part of a chunk
		}
		since = time.Now()
		weight -= freed
		slow = b.Took > longApply
		a.pace(b.Transactions, b.Took)
		if a.p.Observe != nil {
			a.p.Observe(b)
		}
		a.at, a.progress, a.open = b.To, true, false
		a.room.give(freed)
		a.unpacked.give(memory)
		a.settle(b.To)
		// What had been on its way is told of after an error too: the first one counts.
		if err := a.stands(work, b.To, 0, b.Took); ours == nil {
			ours = err
		}
		return ours
	}
	err := dst.ApplyEach(work, next, done)
	switch {
	case ours != nil:
		return ours
	case err == nil && len(way) > 0:
		err = fmt.Errorf("the sink left transactions %d to %d unapplied without an error", a.at.Seq+1, last.Seq)
	case err == nil:
		return nil
	}
	if a.p.Observe != nil {
		b := Batch{Leg: a.name, From: a.at, To: last, Took: time.Since(since), Err: err}
		for _, c := range way {
			b.add(c)
		}
		a.p.Observe(b)
	}
	fail := &Error{Part: a.to, At: a.at, Err: err}
	if len(way) == 0 {
		return fail
	}
	return a.blame(work, way[0].chunk, last.Seq, fail)
}
