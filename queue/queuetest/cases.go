package queuetest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
)

func emptyQueue(h *harness) {
	h.stands(nil)
	h.holds(dfs.Checkpoint{}, nil)
	h.reopen()
	h.stands(nil)
}

func roundTrip(h *harness) {
	txs := some(1, 1000)
	h.apply(txs[:1]...)
	h.apply(txs[1:500]...)
	h.stands(txs[499])
	h.apply(txs[500:]...)
	h.stands(txs[999])
	h.holds(dfs.Checkpoint{}, txs)
	h.holds(dfs.Checkpoint{}, txs) // reading takes nothing away
}

func everyKind(h *harness) {
	txs := kinds()
	h.apply(txs...)
	h.holds(dfs.Checkpoint{}, txs)
	h.reopen()
	h.holds(dfs.Checkpoint{}, txs)
}

func mixed(h *harness) {
	txs := some(1, 60)
	for i, tx := range txs {
		switch i % 3 {
		case 1:
			tx.Encoded, tx.Changes = nil, []dfs.Change{{Op: dfs.Insert, After: dfs.Row{dfs.IntValue(int64(i))}}}
		case 2:
			tx.Encoded = nil
		}
	}
	h.apply(txs...)
	h.holds(dfs.Checkpoint{}, txs)
}

func latestState(h *harness) {
	is := func(tx *dfs.Transaction, state string) {
		h.Helper()
		c := *tx
		c.State = state
		h.stands(&c)
	}
	txs := some(1, 20)
	h.apply(txs[:3]...)
	is(txs[2], "")
	one := string(bytes.Repeat([]byte{0, 'x', 0xff}, 10_000))
	txs[4].State, txs[7].State, txs[8].State = one, "2", "3"
	h.apply(txs[3:6]...)
	is(txs[5], one)
	h.apply(txs[6])
	is(txs[6], one)
	h.reopen()
	is(txs[6], one)
	h.apply(txs[7:10]...)
	is(txs[9], "3")
	h.holds(dfs.Checkpoint{}, txs[:10])

	// Only the last part has it, and without that the parts are dropped.
	large := parts(11, 3, 1000)
	large[2].State = "4"
	h.apply(large[:2]...)
	is(txs[9], "3")
	h.apply(large...)
	is(large[2], "4")
	h.holds(at(10), large)
	if q, ok := h.q.(dfs.Trimmer); ok {
		h.ok(q.Trim(h.ctx, large[2].Checkpoint), "Trim")
	}
	h.reopen()
	is(large[2], "4")
	h.apply(txs[13:]...)
	is(txs[19], "4")
	h.reopen()
	is(txs[19], "4")

	reset := at(70)
	reset.State = "5"
	h.ok(h.q.Reset(h.ctx, reset), "Reset with State")
	more := some(71, 2)
	is(some(70, 1)[0], "5")
	h.apply(more...)
	h.reopen()
	is(more[1], "5")
	h.ok(h.q.Reset(h.ctx, at(5)), "Reset without State")
	is(some(5, 1)[0], "")
	h.reopen()
	is(some(5, 1)[0], "")
}

func emptyBatch(h *harness) {
	h.apply()
	h.stands(nil)
	txs := some(1, 1)
	h.apply(txs...)
	h.apply()
	h.stands(txs[0])
}

func conflict(h *harness) {
	txs := some(1, 10)
	h.is(h.q.Apply(h.ctx, clone(txs[1:])), dfs.ErrConflict, "Apply that begins with 2")
	h.stands(nil)
	h.apply(txs[:5]...)
	for _, from := range []int{0, 3, 4, 6, 9} {
		h.is(h.q.Apply(h.ctx, clone(txs[from:])), dfs.ErrConflict, "Apply that does not begin with 6")
	}
	h.stands(txs[4])
	h.apply(txs[5:]...)
	h.holds(dfs.Checkpoint{}, txs)
}

func restart(h *harness) {
	txs := some(1, 100)
	h.apply(txs[:60]...)
	h.reopen()
	h.stands(txs[59])
	h.apply(txs[60:]...)
	h.reopen()
	h.holds(dfs.Checkpoint{}, txs)
}

func manyRestarts(h *harness) {
	txs := some(1, 30)
	for i := range txs {
		h.apply(txs[i])
		h.reopen()
		h.stands(txs[i])
	}
	h.holds(dfs.Checkpoint{}, txs)
}

func partsHidden(h *harness) {
	before, large, after := some(1, 3), parts(4, 5, 1000), some(9, 2)
	h.apply(before...)
	s := h.stream(dfs.Checkpoint{})
	h.follows(s, before)
	h.apply(large[:2]...)
	h.waits(s)
	h.apply(large[2:4]...)
	h.waits(s)
	h.apply(join(large[4:], after)...)
	h.stands(after[1])
	h.follows(s, join(large, after))
	h.waits(s)
	h.ok(s.Close(), "Close of the Stream")
	h.holds(dfs.Checkpoint{}, join(before, large, after))
}

func partsDropped(h *harness) {
	before, large := some(1, 3), parts(4, 4, 1000)
	h.apply(join(before, large[:2])...)
	h.apply(large[2])
	h.stands(before[2])
	h.is(h.q.Apply(h.ctx, clone(large[3:])), dfs.ErrConflict, "Apply of a part whose first ones were dropped")
	h.holds(dfs.Checkpoint{}, before)
	other := some(4, 3)
	h.apply(other...)
	h.holds(dfs.Checkpoint{}, join(before, other))
}

func partsLost(h *harness) {
	h.apply(parts(1, 4, 1000)[:3]...)
	h.reopen()
	h.stands(nil)
	before, large := some(1, 3), parts(4, 4, 1000)
	h.apply(before...)
	h.apply(large[:3]...)
	h.reopen()
	h.stands(before[2])
	h.apply(large...)
	h.stands(large[3])
	h.reopen()
	h.holds(dfs.Checkpoint{}, join(before, large))
}

func partsOneByOne(h *harness) {
	large := parts(1, 12, 50_000)
	for i := range large {
		h.apply(large[i])
	}
	next := parts(13, 3, 10)
	h.apply(next...)
	h.holds(dfs.Checkpoint{}, join(large, next))
}

func startAnywhere(h *harness) {
	txs := some(1, 40)
	for i, n := range []int{1, 9, 30} { // batches of different length
		from := []int{0, 1, 10}[i]
		h.apply(txs[from : from+n]...)
	}
	for i := range len(txs) + 1 {
		h.holds(at(uint64(i)), txs[i:])
	}
	h.reopen()
	h.holds(at(20), txs[20:])
	h.holds(dfs.Checkpoint{Seq: 20}, txs[20:]) // a position that is not known
}

func gaps(h *harness) {
	h.refused(at(1))
	h.apply(some(1, 10)...)
	h.refused(at(11))
	h.refused(at(1000))
	h.ok(h.q.Reset(h.ctx, at(100)), "Reset")
	h.refused(dfs.Checkpoint{})
	h.refused(at(99))
	h.refused(at(101))
	h.holds(at(100), nil)
}

func resetQueue(h *harness) {
	h.ok(h.q.Reset(h.ctx, at(50)), "Reset of an empty queue")
	h.stands(some(50, 1)[0])
	txs := some(51, 10)
	h.is(h.q.Apply(h.ctx, some(1, 10)), dfs.ErrConflict, "Apply from 1 after Reset to 50")
	h.apply(txs...)
	h.holds(at(50), txs)
	h.ok(h.q.Reset(h.ctx, at(70)), "Reset forwards")
	h.reopen()
	h.stands(some(70, 1)[0])
	h.holds(at(70), nil)
	h.ok(h.q.Reset(h.ctx, at(5)), "Reset backwards")
	h.stands(some(5, 1)[0])
	txs = some(6, 3)
	h.apply(txs...)
	h.reopen()
	h.holds(at(5), txs)
	h.ok(h.q.Reset(h.ctx, dfs.Checkpoint{}), "Reset to the start")
	h.stands(nil)
	txs = some(1, 3)
	h.apply(txs...)
	h.holds(dfs.Checkpoint{}, txs)
}

func resetParts(h *harness) {
	h.apply(parts(1, 4, 100)[:2]...)
	h.ok(h.q.Reset(h.ctx, at(7)), "Reset")
	h.stands(some(7, 1)[0])
	txs := some(8, 2)
	h.apply(txs...)
	h.holds(at(7), txs)
}

func trimQueue(h *harness) {
	q, ok := h.q.(dfs.Trimmer)
	if !ok {
		h.Skip("it is no dfs.Trimmer")
	}
	txs := join(some(1, 20), parts(21, 3, 1000), some(24, 27))
	h.apply(txs[:10]...)
	h.apply(txs[10:30]...)
	h.apply(txs[30:]...)
	s := h.stream(dfs.Checkpoint{})
	for _, n := range []int{5, 1, 17, 10} { // 5, 6, 23 and 33
		got := h.next(s, n, n)
		upTo := got[n-1].Checkpoint
		h.ok(q.Trim(h.ctx, upTo), "Trim")
		h.equal(got, txs[upTo.Seq-uint64(n):upTo.Seq])
		h.holds(upTo, txs[upTo.Seq:])
	}
	h.ok(q.Trim(h.ctx, at(33)), "Trim to the same place")
	h.follows(s, txs[33:])
	h.ok(s.Close(), "Close of the Stream")
	h.reopen()
	h.stands(txs[49])
	h.holds(at(33), txs[33:])
	q = h.q.(dfs.Trimmer)
	h.ok(q.Trim(h.ctx, at(50)), "Trim of all")
	h.reopen()
	h.stands(txs[49])
	more := some(51, 5)
	h.apply(more...)
	h.holds(at(50), more)
}

func concurrent(h *harness) {
	const n = 3000
	txs := some(1, n)
	s := h.stream(dfs.Checkpoint{})
	var wg sync.WaitGroup
	wg.Go(func() {
		rest := txs
		for size := 1; len(rest) > 0; size = size%70 + 1 {
			k := min(size, len(rest))
			if err := h.q.Apply(h.ctx, clone(rest[:k])); err != nil {
				h.Errorf("Apply: %v", err)
				return
			}
			rest = rest[k:]
		}
	})
	defer wg.Wait()
	trim, _ := h.q.(dfs.Trimmer)
	for got := 0; got < n; {
		batch := h.batch(s, 64)
		h.equal(batch, txs[got:got+len(batch)])
		got += len(batch)
		if trim != nil {
			h.ok(trim.Trim(h.ctx, txs[got-1].Checkpoint), "Trim")
		}
	}
	h.waits(s)
}

func twoReaders(h *harness) {
	txs := some(1, 200)
	a, b := h.stream(dfs.Checkpoint{}), h.stream(dfs.Checkpoint{})
	h.apply(txs[:100]...)
	h.follows(a, txs[:100])
	h.apply(txs[100:]...)
	h.follows(b, txs)
	h.follows(a, txs[100:])
	h.ok(a.Close(), "Close of a Stream")
	h.waits(b)
}

func limits(h *harness) {
	small := some(1, 100)
	h.apply(small...)
	s := h.stream(dfs.Checkpoint{})
	h.equal(h.next(s, 100, 7), small)
	large := some(101, 12)
	for i, tx := range large {
		tx.Encoded = bytes.Repeat([]byte{byte(i), 'x'}, 200_000)
	}
	h.apply(large...)
	for got := 0; got < len(large); {
		batch := h.batch(s, 100)
		h.equal(batch, large[got:got+len(batch)])
		if len(batch) > 4 {
			h.Fatalf("Next returned %d transactions of 400 kB each in one batch, want about a megabyte", len(batch))
		}
		got += len(batch)
	}
}

func waiting(h *harness) {
	s := h.stream(dfs.Checkpoint{})
	txs := some(1, 3)
	var wg sync.WaitGroup
	wg.Go(func() {
		// Whether this comes before or within Next, Next must see it.
		if err := h.q.Apply(h.ctx, clone(txs)); err != nil {
			h.Errorf("Apply: %v", err)
		}
	})
	h.follows(s, txs)
	wg.Wait()
	ctx, cancel := context.WithCancel(h.ctx)
	time.AfterFunc(10*time.Millisecond, cancel)
	n, err := s.Next(ctx, make([]*dfs.Transaction, 1))
	h.is(err, context.Canceled, "Next whose context ends")
	if n != 0 {
		h.Fatalf("Next returned %d transactions together with an error", n)
	}
	more := some(4, 1)
	h.apply(more...)
	h.follows(s, more) // the Stream is as good as before
}

func canceled(h *harness) {
	h.apply(some(1, 3)...)
	s := h.stream(dfs.Checkpoint{})
	ctx, cancel := context.WithCancel(h.ctx)
	cancel()
	_, err := h.q.Checkpoint(ctx)
	h.is(err, context.Canceled, "Checkpoint")
	h.is(h.q.Apply(ctx, some(4, 1)), context.Canceled, "Apply")
	h.is(h.q.Reset(ctx, at(9)), context.Canceled, "Reset")
	_, err = h.q.Open(ctx, dfs.Checkpoint{})
	h.is(err, context.Canceled, "Open")
	_, err = s.Next(ctx, make([]*dfs.Transaction, 1))
	h.is(err, context.Canceled, "Next")
	h.stands(some(3, 1)[0])
	h.follows(s, some(1, 3))
}

func aliasing(h *harness) {
	txs := join(some(1, 50), kinds())
	for i, tx := range txs {
		tx.Checkpoint = at(uint64(i + 1))
	}
	h.apply(txs...)
	s := h.stream(dfs.Checkpoint{})
	first := h.next(s, len(txs), 10)
	// Whoever holds a transaction may rewrite it in place.
	kept := clone(first)
	for _, tx := range first {
		tx.Encoded = append(tx.Encoded, "appended"...)
		tx.Changes = append(tx.Changes, dfs.Change{Query: "appended"})
		for i := range tx.Changes {
			tx.Changes[i].Before = append(tx.Changes[i].Before, dfs.IntValue(1))
		}
		tx.ID = ""
	}
	h.apply(some(uint64(len(txs))+1, 500)...)
	h.next(s, 500, 100)
	h.equal(kept, txs)
	h.holds(dfs.Checkpoint{}, slices.Concat(txs, some(uint64(len(txs))+1, 500)))
}
