package dfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
)

// A chunk is a run of transactions on its way through the leg.
type chunk struct {
	txs     []*Transaction
	first   uint64 // Seq of the first part of the transaction that txs[0] belongs to
	size    int    // bytes as read
	weight  int    // what of the room that takes
	alone   bool   // it is one transaction, or part of one, and goes by itself
	refused error  // not nil: it is to be offered to Reject, or to become a letter
	suspect bool   // it may be to blame
	name    string // of the transaction that txs[0] belongs to
	copied  bool   // that is rows of a copy
	ddl     bool   // it is alone, and a statement
	rows    int    // after the stages
	memory  int    // about what these take
	ledger  []entry
	letters []*Letter // that were made of transactions in it
	ride    *Letter   // whose changes were put before its own; nil for most
}

func (c *chunk) last() *Transaction { return c.txs[len(c.txs)-1] }

// A reader fills chunks from a stream, as far as there is room.
type reader struct {
	*leg
	stream  Stream
	at      Checkpoint // of the last transaction read
	first   uint64     // Seq of the first part, while the last has not been read
	room    *room
	suspect suspect
	name    string // of the transaction whose first part has the number first
	blamed  uint64 // Seq of the first part of the one to blame, once it has come
	eof     bool
	box     *letterBox // nil without letters
	add     int        // empty transactions to put before what is read

	stop    *stopper
	halted  bool              // the place to stop at is behind what was read
	skip    map[string]uint64 // names of transactions to step over
	skipped uint64            // Seq of the first part of the last of them, or 0
}

func (r *reader) run(ctx context.Context, to chan<- *chunk) error {
	buf := make([]*Transaction, r.p.maxBatch())
	for r.room.wait(ctx) {
		n, err := r.next(ctx, buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == io.EOF && n == 0 && r.first == 0:
			r.eof = true
			return nil
		case err == io.EOF && n == 0:
			err = fmt.Errorf("%w: the log ends within transaction %d", ErrGap, r.first)
			fallthrough
		case err != nil && err != io.EOF:
			return &Error{Part: r.from, At: r.at, Err: err}
		}
		txs := append(make([]*Transaction, 0, n), buf[:n]...)
		clear(buf[:n])
		for i, tx := range txs {
			// Invariant I2: it stops between two transactions only.
			if whole := i == 0 && r.first == 0 || i > 0 && !txs[i-1].More; whole && r.stop.before(tx) {
				txs, r.halted = txs[:i], true
				break
			}
			// Invariant I3: Seq is dense at every hand-over.
			if want := r.at.Seq + 1; tx.Seq == 0 {
				tx.Seq = want
			} else if tx.Seq != want {
				return &Error{Part: r.from, At: r.at, Err: fmt.Errorf("%w: got transaction %d", ErrGap, tx.Seq)}
			}
			if tx.More && tx.State != "" {
				return &Error{Part: r.from, At: r.at, Err: errors.New("a part that is not the last of its transaction has State")}
			}
			r.at = tx.Checkpoint
			if tx.More {
				continue
			}
			if r.halted, err = r.stop.after(r.at, tx.ID); err != nil {
				return &Error{Part: "stop", At: r.at, Err: err}
			}
			if r.halted {
				txs = txs[:i+1]
				break
			}
		}
		if len(txs) == 0 {
			return nil
		}
		if len(txs[0].Encoded) > largeApply {
			runtime.GC() // what it was read from is as large: see applier.apply
		}
		r.given.read(txs)
		r.st.read(r.at.Seq, txs[0].Committed)
		for len(txs) > 0 {
			c := r.cut(&txs)
			r.room.take(c.weight)
			select {
			case to <- c:
			case <-ctx.Done():
				return nil
			}
		}
		if r.halted {
			return nil
		}
	}
	return nil
}

// cut makes a chunk of the first few of txs, or of one if it is suspect.
func (r *reader) cut(txs *[]*Transaction) *chunk {
	n := r.untilBlamed((*txs)[:r.untilSkipped((*txs)[:min(len(*txs), firstBatch)])])
	refused := r.first != 0 && (r.first == r.blamed || r.first == r.skipped)
	suspect := (*txs)[0].Seq <= r.suspect.until
	alone := refused || r.suspect.until != 0 && (*txs)[0].Seq <= r.suspect.until+untilMore || r.first == 0 && (*txs)[0].Seq == r.blamed || r.first == 0 && (*txs)[0].Seq == r.skipped || r.box.wants()
	if alone {
		n = 1
	}
	c := &chunk{txs: (*txs)[:n:n], first: r.first, alone: alone, suspect: suspect, ledger: r.newLedger(n)}
	*txs = (*txs)[n:]
	for _, tx := range c.txs {
		n := tx.Size()
		c.size += n
		if tx.Snapshot && tx.Encoded == nil {
			// Its rows are decoded, and others take three times as much when they are.
			// Larger batches of a copy are fewer commits that its connections wait for.
			c.weight += n / 2
		} else {
			c.weight += n
		}
		e := entry{seq: tx.Seq, what: size, n: n, committed: tx.Committed}
		if !tx.More {
			// The name is part of the block that tx was read in, and the entries
			// of parts stay until the last of them is applied. With names, all
			// blocks of a large transaction would stay.
			e.id = tx.ID
		}
		c.ledger = append(c.ledger, e)
		if r.first == 0 {
			r.first, r.name = tx.Seq, ownName(tx)
			if tx.Snapshot && alone {
				r.name = copiedName(tx)
			}
		}
		if c.first == 0 {
			c.first = r.first
		}
		if tx == c.txs[0] {
			c.name, c.copied = r.name, tx.Snapshot
		}
		if !tx.More {
			r.first = 0
		}
	}
	if r.first != 0 {
		// It goes on in the next chunk: see e.id.
		r.name = strings.Clone(r.name)
	}
	switch {
	case c.alone && c.first == r.skipped:
		c.refused = ErrSkipped
	case c.alone && r.blamed != 0 && c.first == r.blamed:
		c.refused = r.suspect.err
	}
	return c
}

// newLedger returns an empty ledger for n transactions, which mostly have as many entries as
// it takes without growing: one, and where rows are decoded one or two for those of a table.
func (l *leg) newLedger(n int) []entry {
	switch {
	case l.decoder != nil && len(l.stages) > 0:
		n *= 3
	case l.decoder != nil:
		n *= 2
	}
	select {
	case b := <-l.ledgers:
		if cap(b) >= n {
			return b
		}
	default:
	}
	return make([]entry, 0, n)
}

// spareLedger keeps the memory of a ledger that nobody reads any more for another.
func (l *leg) spareLedger(b []entry) {
	if cap(b) > 4*firstBatch {
		return // of transactions with rows of many tables
	}
	clear(b)
	select {
	case l.ledgers <- b[:0]:
	default:
	}
}

// untilBlamed returns how many of txs come before the one to blame. If the first is
// that, it notes its number, and returns 1.
func (r *reader) untilBlamed(txs []*Transaction) int {
	for i, tx := range txs {
		if r.suspect.refused == 0 || r.blamed != 0 {
			break
		}
		if begins := i == 0 && r.first == 0 || i > 0 && !txs[i-1].More; !begins || !r.suspect.blames(tx) {
			continue
		}
		if i > 0 {
			return i
		}
		r.blamed = tx.Seq
		return 1
	}
	return len(txs)
}

// untilSkipped returns how many of txs come before one that is to be skipped. If
// the first is one, it notes that, and returns 1.
func (r *reader) untilSkipped(txs []*Transaction) int {
	if len(r.skip) == 0 {
		return len(txs)
	}
	for i, tx := range txs {
		if begins := i == 0 && r.first == 0 || i > 0 && !txs[i-1].More; !begins {
			continue
		}
		if _, ok := r.skip[tx.ID]; !ok {
			continue
		}
		if tx.Snapshot {
			delete(r.skip, tx.ID) // the map is this session's own
			r.p.logger().Warn("rows of a copy are not skipped by the name that all of their table have; "+
				"Letters or Reject take those that are refused", "name", tx.ID)
			continue
		}
		if i > 0 {
			return i
		}
		r.skipped = tx.Seq
		r.p.met(tx.ID, tx.Seq)
		return 1
	}
	return len(txs)
}
