package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// Checkpoint reports the last transaction stored. It first drops the parts of
// one that Apply was given without its end.
func (q *Queue) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if q.opts.ReadOnly {
		return q.snapshot(ctx)
	}
	if err := q.take(ctx); err != nil {
		return dfs.Checkpoint{}, err
	}
	st := q.state()
	at := st.whole.checkpoint()
	var err error
	if at.State, err = readLatest(ctx, q.path, q.readDB, at.Seq); err != nil || st.whole == st.last {
		q.turn <- struct{}{}
		return at, q.ended(ctx, err)
	}
	if err := q.finish(ctx, (*group).dropParts); err != nil {
		return dfs.Checkpoint{}, err
	}
	return at, nil
}

func (q *Queue) state() state {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.st
}

// Apply stores the batch, and returns once it is on the disk: all of it, or
// none if there is an error. It waits while the queue holds MaxBytes. If ctx
// ends while the disk is at work, the batch may be stored all the same, and
// Checkpoint tells.
//
// Committed is kept to the microsecond, and read back in UTC.
func (q *Queue) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if len(batch) == 0 {
		return nil
	}
	if err := q.take(ctx); err != nil {
		return err
	}
	failpoint.Hit("queue.apply")
	done, err := q.apply(ctx, batch)
	if err != nil {
		q.turn <- struct{}{}
		return err
	}
	return q.await(ctx, done)
}

// finish has the writer do the last thing in this turn.
func (q *Queue) finish(ctx context.Context, do func(*group) error) error {
	done, err := q.w.send(ctx, do, nil)
	if err != nil {
		q.turn <- struct{}{}
		return err
	}
	return q.await(ctx, done)
}

// await waits for the writer and gives the turn back. If ctx ends first, the
// turn comes back only when the writer is done, and Close waits for the turn.
func (q *Queue) await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		q.turn <- struct{}{}
		return err
	case <-ctx.Done():
		go func() {
			<-done
			q.turn <- struct{}{}
		}()
		return ctx.Err()
	}
}

// apply encodes the batch while the writer inserts, and returns where the writer
// will say how that went.
func (q *Queue) apply(ctx context.Context, batch []*dfs.Transaction) (<-chan error, error) {
	st, err := q.room(ctx)
	if err == nil {
		err = q.space(ctx)
	}
	if err != nil {
		return nil, err
	}
	if batch[0].Seq != st.last.seq+1 {
		return nil, fmt.Errorf("%w: queue %s ends with transaction %d, transaction %d was to follow",
			dfs.ErrConflict, q.path, st.last.seq, batch[0].Seq)
	}
	// Invariant I3: Seq is dense. Invariant I2: no checkpoint stands within a
	// transaction, so parts without their end get blocks of their own, which
	// stay hidden and can be dropped.
	whole := 0
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return nil, gap("transaction %d was given to the queue after %d", tx.Seq, batch[0].Seq+uint64(i)-1)
		}
		if !tx.More {
			whole = i + 1
		}
	}

	blocks := make(chan *encoder, cap(q.enc))
	abort := make(chan error, 1)
	done, err := q.w.send(ctx, func(g *group) error {
		for e := range blocks {
			err := g.insert(&e.block)
			g.keepFresh(e)
			if err == nil && e.state.State != "" {
				err = g.keepState(e.state)
				failpoint.Hit("queue.state")
			}
			e.state = dfs.Checkpoint{}
			e.shrink()
			q.enc <- e
			if err != nil {
				return err
			}
		}
		select {
		case err := <-abort:
			return err
		default:
			return nil
		}
	}, blocks)
	if err != nil {
		return nil, err
	}
	if err := q.encode(ctx, batch, whole, st, blocks); err != nil {
		abort <- err
	}
	close(blocks)
	return done, nil
}

// encode sends the batch as blocks, to be added to what st says. After the first
// whole transactions of the batch, which are followed by parts only, a new block
// begins. Of blocks, which has room for all encoders, it never waits; an encoder
// may be long in coming, if another program has locked the file.
func (q *Queue) encode(ctx context.Context, batch []*dfs.Transaction, whole int, st state,
	blocks chan<- *encoder) error {
	at := time.Now().UnixMicro()
	prev := block{id: st.last.block, end: st.last.end, whole: st.whole.seq}
	for i := 0; i < len(batch); {
		if err := ctx.Err(); err != nil {
			return err
		}
		var e *encoder
		select {
		case e = <-q.enc:
		case <-ctx.Done():
			return ctx.Err()
		}
		e.reset(batch[i].Seq)
		e.id, e.end, e.whole, e.at = prev.id+1, prev.end, prev.whole, at
		for ; i < len(batch) && len(e.run.Raw) < blockBytes; i++ {
			if i == whole && e.first < batch[i].Seq {
				break
			}
			if err := e.add(batch[i]); err != nil {
				q.enc <- e
				return fmt.Errorf("queue %s: %w", q.path, err)
			}
			if !batch[i].More {
				e.whole = batch[i].Seq
			}
		}
		if err := e.seal(); err != nil {
			q.enc <- e
			return fmt.Errorf("queue %s: %w", q.path, err)
		}
		prev = e.block
		blocks <- e
	}
	return nil
}

// reserve is what Apply leaves of the disk, so that a queue that has filled it
// can still note what was read, and delete it: that too is written to the log
// first, and the log must fit into the file before it can begin anew.
const reserve = 32 << 20

// space refuses to fill the disk to the last. Pages that are free within the file
// count as space.
func (q *Queue) space(ctx context.Context) error {
	free, known := diskFree(q.path)
	if !known || free >= reserve {
		return nil
	}
	var pages int64
	err := q.ask(ctx, func(g *group) error {
		err := g.conn.QueryRowContext(context.Background(), "PRAGMA freelist_count").Scan(&pages)
		return wrap(q.path, "look for space", err)
	})
	if err != nil || free+pages*pageSize >= reserve {
		return err
	}
	err = dfs.Transient(fmt.Errorf("queue %s: the disk is full: it has %d MB left, and the queue leaves %d for its own work",
		q.path, free>>20, reserve>>20))
	q.mu.Lock()
	q.fault = err
	q.mu.Unlock()
	return err
}

// room waits until the queue may grow.
func (q *Queue) room(ctx context.Context) (state, error) {
	for {
		q.mu.Lock()
		st, changed := q.st, q.changed
		// If nothing but parts is left, waiting for a reader would be for ever.
		q.waiting = q.opts.MaxBytes > 0 && st.bytes() >= q.opts.MaxBytes && st.whole != st.base
		waiting, slowest := q.waiting, ""
		if waiting && time.Since(q.told) > fullEvery {
			slowest, q.told = q.slowest(), time.Now()
		}
		q.mu.Unlock()
		if !waiting {
			return st, nil
		}
		if slowest != "" {
			q.opts.logger().Warn("the queue is full, and waits for its slowest reader", "queue", q.path,
				"reader", slowest, "bytes", st.bytes(), "limit", q.opts.MaxBytes)
		}
		q.w.nudge()
		q.opts.signal()
		if err := q.wait(ctx, changed); err != nil {
			q.mu.Lock()
			q.waiting = false
			q.mu.Unlock()
			return st, err
		}
	}
}

// Reset makes the queue forget all it holds and stand at the given checkpoint.
// All readers stand there too. Open Streams that stand elsewhere get dfs.ErrGap.
func (q *Queue) Reset(ctx context.Context, at dfs.Checkpoint) error {
	if err := q.take(ctx); err != nil {
		return err
	}
	return q.finish(ctx, func(g *group) error { return g.reset(at) })
}
