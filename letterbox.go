package dfs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// How dead letters work. The sink's checkpoint alone says what has happened; the
// store is written ahead of it, and put right by it when a session begins:
//
//   - A letter is stored before the sink steps over its transaction. If the
//     checkpoint is not past that, the letter is taken out again: its transaction
//     comes again, and is tried again.
//   - A letter that is to be applied rides on a transaction that the leg carries:
//     its changes come before that one's own, in front of the Stages, and so in the
//     same atomic write as the checkpoint. Before that the store notes the number
//     of that transaction. If the checkpoint has reached it, the letter is applied,
//     else it is not, whatever else happened.
//   - What comes later and touches the same as a letter that is not settled becomes
//     a letter itself. Letters that touch the same are applied in their order.
//
// Invariant I1: that a letter is applied is known by the checkpoint that moved in
// the same write.

// A letterBox is what a session knows of letters. Only the goroutine that
// processes uses it, but for wanted.
type letterBox struct {
	p      *Pipeline
	store  LetterStore
	keys   *keyer
	index  *letterIndex // nil while there is no letter
	list   []*parked    // those that are not settled, by Number
	next   uint64       // the number of the next letter
	known  []byte       // the keys in the store
	wanted atomic.Int64 // letters that wait to ride
	open   *parked      // of a refused transaction whose last part has not come
}

// A parked letter is one that is not settled.
type parked struct {
	*Letter
	list  []touch
	query string // its statements, in lower case
	gone  bool   // it rides on a transaction that has been handed on
}

// maxTouched is how many rows of a letter are told apart. One that touches more
// counts as touching all rows of its tables.
const maxTouched = 2000

// maxRide is how large a letter may be that is applied again. It is in memory as a
// whole, while its transaction may have come in parts.
const maxRide = 64 << 20

// note adds what changes touch to what a letter touches.
func (b *letterBox) note(e *parked, changes []Change) {
	for i := range changes {
		if c := &changes[i]; c.Op == DDL {
			e.query += strings.ToLower(c.Query) + "\n"
		}
	}
	if len(e.list) > maxTouched {
		return
	}
	if e.list = append(e.list, b.keys.touched(changes)...); len(e.list) > maxTouched {
		e.list = append(e.list, b.keys.wide(e.Tables)...)
	}
}

// wide returns the touch of all rows of tables.
func (k *keyer) wide(tables []string) (list []touch) {
	for _, name := range tables {
		list = append(list, touch{of: k.hash(name), how: makes, table: true, all: true})
		if known := k.tables[name]; known != nil {
			for _, r := range known.References {
				parent := r.ParentSchema + "." + r.Parent
				of, _ := k.set(parent, r.ParentColumns)
				list = append(list, touch{of: k.hash(parent), how: refers, table: true, all: true}, touch{of: of, how: refers, all: true})
			}
		}
	}
	return list
}

func (b *letterBox) enter(e *parked) {
	b.index.add(e, e.list)
	b.list = append(b.list, e)
	if e.State == LetterWanted {
		b.wanted.Add(1)
	}
}

// wants reports whether letters wait for a transaction to ride on.
func (b *letterBox) wants() bool { return b != nil && b.wanted.Load() > 0 }

// take makes letters of those transactions of the chunk that depend on one, and
// lets one ride on the chunk. It tells of those that it makes letters of before it
// takes out their changes. It returns errDepends if it finds that a transaction
// depends on one of which parts have been handed on; first, name and copied are then
// those of its first part.
func (b *letterBox) take(ctx context.Context, c *chunk, tell func(*Transaction, error) error) (first uint64, name string, copied bool, err error) {
	if c.refused != nil {
		return 0, "", false, b.refuse(ctx, c)
	}
	if b.index == nil {
		return 0, "", false, nil
	}
	var ride *parked
	if c.alone && !c.suspect && b.wants() && c.first == c.txs[0].Seq && !c.txs[0].More {
		if ride = b.ride(c.txs[0]); ride != nil && ride.Statements == 0 {
			ride.gone = true // now, so that what depends on it alone need not wait
		}
	}
	first, name = c.first, c.name
	for i, tx := range c.txs {
		if i > 0 && !c.txs[i-1].More {
			first, name = tx.Seq, ownName(tx)
		}
		list := b.keys.touched(tx.Changes)
		after := b.after(list, tx.Changes)
		if len(after) == 0 {
			continue
		}
		if tx.More || first != tx.Seq {
			return first, strings.Clone(name), tx.Snapshot, errDepends // it is to be parked from its first part on
		}
		letter := b.letter(tx)
		letter.After = after
		stored := *letter // with its changes, which need not stay in memory
		b.add(&parked{Letter: letter, list: slices.Clone(list)})
		letter.Changes = nil
		c.count(tx, received)
		c.count(tx, rejected)
		c.ledger = append(c.ledger, entry{seq: tx.Seq, what: rejectedTransaction, n: 1})
		c.letters = append(c.letters, &stored)
		if err := tell(tx, &ParkedError{stored.Number, stored.After}); err != nil {
			return 0, "", false, err
		}
		tx.Changes = nil
	}
	// A statement shares its transaction with nothing.
	if ride != nil && (ride.Statements == 0 || len(c.txs[0].Changes) == 0) {
		if err := b.mount(ctx, ride, c); err != nil {
			return 0, "", false, err
		}
	}
	return 0, "", false, nil
}

// after returns the numbers of the letters that a transaction has to wait for.
func (b *letterBox) after(list []touch, changes []Change) (numbers []uint64) {
	b.index.clashes(list, changes, func(l *parked) bool {
		if !slices.Contains(numbers, l.Number) {
			numbers = append(numbers, l.Number)
		}
		return true
	})
	slices.Sort(numbers)
	return numbers
}

// letter makes a letter of a transaction, or of the first part of one.
func (b *letterBox) letter(tx *Transaction) *Letter {
	letter := &Letter{Number: b.next, State: LetterParked, Snapshot: tx.Snapshot, Came: time.Now().UTC()}
	b.next++
	letter.grow(tx)
	return letter
}

// grow adds a part.
func (l *Letter) grow(tx *Transaction) {
	l.Parts++
	l.Seq, l.Pos, l.ID, l.Committed, l.Whole = tx.Seq, tx.Pos, tx.ID, tx.Committed, !tx.More
	l.Bytes += tx.Size()
	l.Changes = tx.Changes
	if l.Changes == nil {
		l.Changes = []Change{} // it has the part, without any
	}
	var last *Table
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op == DDL {
			l.Statements++
		} else {
			l.Rows++
		}
		if c.Table != nil && c.Table != last {
			last = c.Table
			if name := c.Table.String(); !slices.Contains(l.Tables, name) {
				l.Tables = append(l.Tables, name)
			}
		}
	}
}

// add enters a letter that is new.
func (b *letterBox) add(e *parked) {
	if len(e.list) > maxTouched {
		e.list = append(e.list, b.keys.wide(e.Tables)...)
	}
	for i := range e.Changes {
		if c := &e.Changes[i]; c.Op == DDL {
			e.query += strings.ToLower(c.Query) + "\n"
		}
	}
	if e.State == LetterParked {
		b.enter(e)
	}
}

// refuse makes a letter of a transaction that was refused, or to be skipped, or of
// a part of one.
func (b *letterBox) refuse(ctx context.Context, c *chunk) error {
	if b.index == nil {
		if err := b.begin(ctx); err != nil {
			return err
		}
	}
	tx := c.txs[0]
	if b.open == nil {
		e := &parked{Letter: b.letter(tx)}
		switch {
		case c.refused == ErrSkipped:
			e.State, e.Err = LetterSkipped, ErrSkipped.Error()
		case errors.Is(c.refused, errDepends):
		default:
			e.Attempts, e.Tried = 1, e.Came
			e.blame(c.refused)
		}
		b.open = e
	} else {
		b.open.grow(tx)
	}
	e := b.open
	list := b.keys.touched(tx.Changes)
	for _, n := range b.after(list, tx.Changes) {
		if n != e.Number && !slices.Contains(e.After, n) {
			e.After = append(e.After, n)
		}
	}
	if e.list = append(e.list, list...); len(e.list) > maxTouched && tx.More {
		e.list = append(e.list[:maxTouched:maxTouched], b.keys.wide(e.Tables)...)
	}
	if e.Whole && e.Err == "" && len(e.After) == 0 {
		e.Err = "it touched rows of letters that were settled while it came, and was not tried itself: retry it"
	}
	part := *e.Letter
	part.Revision, part.Tables, part.After = uint64(e.Parts-1), slices.Clone(e.Tables), slices.Clone(e.After)
	c.letters = append(c.letters, &part)
	if e.Whole {
		b.open = nil
		b.add(e)
	}
	e.Changes = nil
	return nil
}

// ride returns a letter that can ride on the transaction. None rides on rows of a
// copy: a sink may take its changes for rows that were there already.
func (b *letterBox) ride(tx *Transaction) *parked {
	if tx.Snapshot {
		return nil
	}
	statement := slices.ContainsFunc(tx.Changes, func(c Change) bool { return c.Op == DDL })
	for _, e := range b.list {
		if e.State != LetterWanted || e.gone || statement || e.Bytes > maxRide || e.Statements > 0 && !b.empties(tx) {
			continue
		}
		blocked := false
		b.earlier(e, func(*parked) bool {
			blocked = true
			return false
		})
		if !blocked {
			return e
		}
	}
	return nil
}

// empties reports whether the transaction has no changes, or will have none since
// it depends on letters.
func (b *letterBox) empties(tx *Transaction) bool {
	return len(tx.Changes) == 0 || len(b.after(b.keys.touched(tx.Changes), tx.Changes)) > 0
}

// earlier calls f for the letters that have to be settled before e, until it
// returns false.
func (b *letterBox) earlier(e *parked, f func(*parked) bool) {
	more := true
	check := func(o *parked) bool {
		if o.Number < e.Number {
			more = f(o)
		}
		return more
	}
	var statements []Change
	if e.query != "" {
		statements = []Change{{Op: DDL, Query: e.query}}
	}
	b.index.clashes(e.list, statements, check)
	for _, o := range b.index.ddl {
		if more && !o.gone && slices.ContainsFunc(e.Tables, func(name string) bool { return mentions(o.query, name) }) {
			check(o)
		}
	}
}

// mount puts the changes of a letter before those of the chunk's transaction.
func (b *letterBox) mount(ctx context.Context, e *parked, c *chunk) error {
	full, err := b.store.Letter(ctx, e.Number, 0)
	if err != nil {
		return raced(err)
	}
	if full.Revision != e.Revision || full.State != LetterWanted {
		return Transient(ErrLetterChanged) // a person was faster
	}
	changes := full.Changes
	if full.Edits > 0 {
		changes = full.Edited
	}
	full.Changes, full.Edited = nil, nil
	tx := c.txs[0]
	tx.Changes = append(slices.Clip(changes), tx.Changes...)
	full.At = tx.Seq
	c.ride, e.gone = full, true
	b.wanted.Add(-1)
	return nil
}

// post stores the letters among chunks, before these are given to the sink.
func (a *applier) post(ctx context.Context, chunks []*chunk) error {
	var w LetterWrite
	for _, c := range chunks {
		w.Put = append(w.Put, c.letters...)
		if c.ride != nil {
			w.Put = append(w.Put, c.ride)
		}
	}
	if len(w.Put) == 0 {
		return nil
	}
	for _, l := range w.Put {
		switch {
		case l.At != 0:
			a.p.logger().Info("applying a dead letter", "number", l.Number, "id", l.ID, "with", l.At)
		case l.State == LetterParked && l.Whole && len(l.After) > 0 && l.Attempts == 0:
			a.p.logger().Warn("a transaction is parked, since it touches rows of dead letters", "number", l.Number, "seq", l.Seq, "id", l.ID, "after", l.After)
		case l.State == LetterParked && l.Whole:
			a.p.logger().Error("a transaction is parked as a dead letter", "number", l.Number, "seq", l.Seq, "id", l.ID, "part", l.Part, "err", l.Err)
		}
	}
	if err := a.store(ctx, &w); err != nil {
		return err
	}
	a.p.moreLetters(w.Put)
	return nil
}

// store writes, and says where an error is from.
func (a *applier) store(ctx context.Context, w *LetterWrite) error {
	if err := raced(a.p.Letters.Write(ctx, w)); err != nil {
		return &Error{Part: "letters", At: a.at, Err: err}
	}
	return nil
}

// arrived notes that the letter on the chunk is applied.
func (a *applier) arrived(ctx context.Context, c *chunk) error {
	if c.ride == nil {
		return nil
	}
	c.ride.State, c.ride.Tried = LetterApplied, time.Now().UTC()
	c.ride.Attempts++
	if err := a.store(ctx, &LetterWrite{Put: []*Letter{c.ride}}); err != nil {
		return err
	}
	a.p.logger().Info("a dead letter is applied", "number", c.ride.Number, "id", c.ride.ID, "with", c.ride.At)
	a.p.moreLetters([]*Letter{c.ride})
	return nil
}
