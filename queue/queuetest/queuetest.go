// Package queuetest proves that an implementation of dfs.Queue keeps the
// contract of package dfs.
package queuetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
)

// patience is how long a transaction that is there may take to be read.
const patience = 15 * time.Second

// Run runs the suite. It calls open with a folder that is empty at first, and
// again with the same folder to open the same queue anew, as after a restart,
// having closed the earlier one if that is an io.Closer. An implementation that
// keeps nothing in folders can take the path of the folder as a name. A queue
// must be able to hold a few megabytes without a reader.
//
// What need not follow from the contract is not asked for: a queue may hold
// transactions for longer than its readers need them.
func Run(t *testing.T, open func(t *testing.T, dir string) dfs.Queue) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			h := &harness{T: t, ctx: ctx, open: open, dir: t.TempDir()}
			h.reopen()
			c.run(h)
			h.close()
		})
	}
}

var cases = []struct {
	name string
	run  func(*harness)
}{
	{"a new queue stands at the start", emptyQueue},
	{"what is applied comes back in order and equal", roundTrip},
	{"every kind of value comes back equal", everyKind},
	{"the latest State stays, whatever becomes of its transaction", latestState},
	{"encoded and plain transactions mix", mixed},
	{"an empty batch does nothing", emptyBatch},
	{"a batch that does not follow is a conflict and changes nothing", conflict},
	{"all is there after a restart", restart},
	{"many restarts", manyRestarts},
	{"parts stay hidden until the last one comes", partsHidden},
	{"parts without an end are dropped by Checkpoint", partsDropped},
	{"parts without an end are dropped by a restart", partsLost},
	{"parts may come one batch each", partsOneByOne},
	{"a reader may start after any transaction", startAnywhere},
	{"a reader before or beyond what is held gets ErrGap", gaps},
	{"Reset forgets all and stands at the checkpoint", resetQueue},
	{"Reset drops parts", resetParts},
	{"Trim keeps what follows", trimQueue},
	{"a reader reads while transactions are applied", concurrent},
	{"two readers at once", twoReaders},
	{"a batch is never longer than asked, and ends after a megabyte", limits},
	{"Next waits for a transaction, and ends with its context", waiting},
	{"an ended context stops every method", canceled},
	{"what was read is never written again", aliasing},
}

// A harness is one queue under test.
type harness struct {
	*testing.T
	ctx  context.Context
	open func(*testing.T, string) dfs.Queue
	dir  string
	q    dfs.Queue
}

func (h *harness) close() {
	h.Helper()
	if c, ok := h.q.(io.Closer); ok {
		h.ok(c.Close(), "Close")
	}
	h.q = nil
}

// reopen closes the queue, if it is open, and opens it again.
func (h *harness) reopen() {
	h.Helper()
	if h.q != nil {
		h.close()
	}
	h.q = h.open(h.T, h.dir)
}

func (h *harness) ok(err error, doing string) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: %v", doing, err)
	}
}

// is fails the test unless err is target.
func (h *harness) is(err, target error, doing string) {
	h.Helper()
	if !errors.Is(err, target) {
		h.Fatalf("%s: got error %v, want %v", doing, err, target)
	}
}

func (h *harness) apply(txs ...*dfs.Transaction) {
	h.Helper()
	h.ok(h.q.Apply(h.ctx, clone(txs)), "Apply")
}

// stands fails the test unless the queue's checkpoint is that of tx, or the
// start for nil.
func (h *harness) stands(tx *dfs.Transaction) {
	h.Helper()
	var want dfs.Checkpoint
	if tx != nil {
		want = tx.Checkpoint
	}
	got, err := h.q.Checkpoint(h.ctx)
	h.ok(err, "Checkpoint")
	if got != want {
		h.Fatalf("Checkpoint: got %+v, want %+v", got, want)
	}
}

func (h *harness) stream(from dfs.Checkpoint) dfs.Stream {
	h.Helper()
	s, err := h.q.Open(h.ctx, from)
	h.ok(err, fmt.Sprintf("Open(%d)", from.Seq))
	return s
}

// refused fails the test unless Open from there gives ErrGap, either at once or
// with the first Next.
func (h *harness) refused(from dfs.Checkpoint) {
	h.Helper()
	s, err := h.q.Open(h.ctx, from)
	if err == nil {
		defer s.Close()
		ctx, cancel := context.WithTimeout(h.ctx, patience)
		defer cancel()
		_, err = s.Next(ctx, make([]*dfs.Transaction, 10))
	}
	h.is(err, dfs.ErrGap, fmt.Sprintf("Open(%d)", from.Seq))
}

// next reads exactly n transactions, in batches of at most size.
func (h *harness) next(s dfs.Stream, n, size int) []*dfs.Transaction {
	h.Helper()
	var got []*dfs.Transaction
	for len(got) < n {
		got = append(got, h.batch(s, min(size, n-len(got)))...)
	}
	return got
}

// batch reads one batch of at most size.
func (h *harness) batch(s dfs.Stream, size int) []*dfs.Transaction {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	batch := make([]*dfs.Transaction, size)
	n, err := s.Next(ctx, batch)
	h.ok(err, "Next, with something to read")
	if n < 1 || n > size {
		h.Fatalf("Next returned %d of %d transactions and no error", n, size)
	}
	return batch[:n]
}

// holds fails the test unless a reader from there sees exactly want, and then
// waits.
func (h *harness) holds(from dfs.Checkpoint, want []*dfs.Transaction) {
	h.Helper()
	s := h.stream(from)
	h.follows(s, want)
	h.waits(s)
	h.ok(s.Close(), "Close of the Stream")
}

func (h *harness) follows(s dfs.Stream, want []*dfs.Transaction) {
	h.Helper()
	h.equal(h.next(s, len(want), 100), want)
}

// waits fails the test if something is ready. It gives it a moment to appear.
func (h *harness) waits(s dfs.Stream) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.ctx, 30*time.Millisecond)
	defer cancel()
	batch := make([]*dfs.Transaction, 10)
	n, err := s.Next(ctx, batch)
	if n > 0 {
		h.Fatalf("Next returned transaction %d, which should not be there", batch[0].Seq)
	}
	h.is(err, context.DeadlineExceeded, "Next with nothing to read")
}

func (h *harness) equal(got, want []*dfs.Transaction) {
	h.Helper()
	if len(got) != len(want) {
		h.Fatalf("got %d transactions, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := *got[i], *want[i]
		if !g.Committed.Equal(w.Committed) || g.Committed.IsZero() != w.Committed.IsZero() {
			h.Fatalf("transaction %d: got Committed %v, want %v", w.Seq, g.Committed, w.Committed)
		}
		g.Committed, w.Committed = time.Time{}, time.Time{}
		if (g.Encoded == nil) != (w.Encoded == nil) {
			h.Fatalf("transaction %d: got Encoded nil: %v, want nil: %v", w.Seq, g.Encoded == nil, w.Encoded == nil)
		}
		if len(g.Changes) == 0 && len(w.Changes) == 0 {
			g.Changes, w.Changes = nil, nil
		}
		if !reflect.DeepEqual(g, w) {
			h.Fatalf("transaction %d: got\n%+v\nwant\n%+v", w.Seq, g, w)
		}
	}
}

// clone copies transactions, since a queue owns what it is given.
func clone(txs []*dfs.Transaction) []*dfs.Transaction {
	out := make([]*dfs.Transaction, len(txs))
	for i, tx := range txs {
		c := *tx
		if tx.Encoded != nil {
			c.Encoded = append([]byte{}, tx.Encoded...)
		}
		c.Changes = append([]dfs.Change(nil), tx.Changes...)
		out[i] = &c
	}
	return out
}
