//go:build unix

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A transaction is made up before it is sent, with what its writer will have
// once it is committed.
type transaction struct {
	w        *writer
	stmts    []string
	rows     int // that it changes
	rollback bool

	before, after progress
	tokens        []token
	orders        []order
}

// How many tokens and orders a writer has, about. Tables stay small, so that
// comparing them is quick and every row is changed over and over.
const (
	mostTokens = 120
	mostOrders = 150
)

// compose makes up the writer's next transaction: some things to do, in an
// order that keeps deadlocks between writers rare, and one or two counts of the
// audit.
func (w *writer) compose() *transaction {
	t := &transaction{w: w, before: w.done, after: w.done, tokens: slices.Clone(w.tokens), orders: slices.Clone(w.orders), rows: 1}
	t.after.n++
	if w.id == 1 && w.pause > 0 && time.Now().After(w.big) {
		w.big = time.Now().Add(w.pause)
		t.large()
	}
	if w.chance(2) {
		t.transfer()
	} else if w.chance(4) {
		t.spread()
	}
	for range 1 + w.rnd.IntN(2) {
		switch w.rnd.IntN(3) {
		case 0:
			t.token()
		default:
			t.order()
		}
	}
	if w.chance(6) {
		t.noise()
	}
	if w.chance(5) {
		t.seat()
	}
	t.count()
	if w.chance(25) {
		t.rollback = true
	} else if w.chance(25) {
		t.undone()
	}
	return t
}

// chance is true once in n times.
func (w *writer) chance(n int) bool { return w.rnd.IntN(n) == 0 }

// id returns a number that no other token or order has had.
func (w *writer) fresh() int64 {
	w.next++
	return int64(w.id)*1e12 + w.next
}

func (t *transaction) add(rows int, format string, args ...any) {
	t.stmts = append(t.stmts, fmt.Sprintf(named(t.w.schema, format), args...))
	t.rows += rows
}

// transfer moves money between two accounts.
func (t *transaction) transfer() {
	r := t.w.rnd
	a, b := r.IntN(accounts), r.IntN(accounts)
	if a == b {
		b = (a + 1) % accounts
	}
	sum := fmt.Sprintf("%d.%02d", r.IntN(50), r.IntN(100))
	signs := "-+"
	if a > b { // locks are taken in one order
		a, b, signs = b, a, "+-"
	}
	const update = "UPDATE S.accounts SET balance = balance %c %s, version = version + 1, changed = '%s', note = '%s', ts = %s WHERE id = %d"
	t.add(1, update, signs[0], sum, t.clock(), t.word(), t.stamp(), a)
	t.add(1, update, signs[1], sum, t.clock(), t.word(), t.stamp(), b)
}

// spread moves money among 20 accounts, half of which have an odd number.
func (t *transaction) spread() {
	r := t.w.rnd
	a := r.IntN(accounts - 20)
	t.add(20, "UPDATE S.accounts SET balance = balance + IF(id %% 2, 1, -1) * %d.25, version = version + 1, rate = %g, day = '%s' WHERE id BETWEEN %d AND %d",
		r.IntN(5), r.NormFloat64()*1e3, t.clock()[:10], a, a+19)
}

// token makes new tokens, several of them equal, or removes or relabels one of
// those that are equal.
func (t *transaction) token() {
	r := t.w.rnd
	if len(t.tokens) < mostTokens/4 || len(t.tokens) < mostTokens && t.w.chance(2) {
		n := 1 + r.IntN(3)
		var rows []string
		for range n {
			k := token{id: t.w.fresh(), alive: 1}
			if t.w.chance(3) {
				k.alive += int64(1 + r.IntN(2))
			}
			k.copies = k.alive
			row := fmt.Sprintf("(%d,%d,%d,'%s','%s')", t.w.id, k.id, k.copies, t.word(), t.clock())
			for range k.copies {
				rows = append(rows, row)
			}
			t.tokens = append(t.tokens, k)
		}
		t.add(len(rows), "INSERT INTO S.tokens VALUES %s", strings.Join(rows, ","))
		t.after.tokens += int64(len(rows))
		return
	}
	i := r.IntN(len(t.tokens))
	k := &t.tokens[i]
	if t.w.chance(3) {
		t.add(1, "UPDATE S.tokens SET label = '%s' WHERE token = %d LIMIT 1", t.word(), k.id)
		return
	}
	t.add(1, "DELETE FROM S.tokens WHERE token = %d LIMIT 1", k.id)
	t.after.tokens--
	if k.alive--; k.alive == 0 {
		t.tokens = slices.Delete(t.tokens, i, i+1)
	}
}

// order does something with an order and its items.
func (t *transaction) order() {
	r := t.w.rnd
	if len(t.orders) < mostOrders/4 || len(t.orders) < mostOrders && t.w.chance(3) {
		o := order{id: t.w.fresh(), items: int64(1 + r.IntN(5))}
		t.insertOrder(o)
		t.orders = append(t.orders, o)
		return
	}
	i := r.IntN(len(t.orders))
	o := &t.orders[i]
	switch r.IntN(6) {
	case 0: // the items go with it
		t.add(1+int(o.items), "DELETE FROM S.orders WHERE id = %d", o.id)
		t.after.orders--
		t.after.items -= o.items
		t.orders = slices.Delete(t.orders, i, i+1)
	case 1: // the items follow
		id := t.w.fresh()
		t.add(1+int(o.items), "UPDATE S.orders SET id = %d, note = 'was %d' WHERE id = %d", id, o.id, o.id)
		o.id = id
	case 2:
		t.add(1+int(o.items), "DELETE FROM S.orders WHERE id = %d", o.id)
		t.after.orders--
		t.after.items -= o.items
		o.items = int64(r.IntN(4))
		t.insertOrder(*o)
	case 3:
		if o.items > 0 {
			t.add(1, "UPDATE S.items SET qty = qty + 1, sku = '%s' WHERE order_id = %d AND line = %d", t.word(), o.id, 1+r.Int64N(o.items))
			break
		}
		fallthrough
	default:
		t.add(1, "UPDATE S.orders SET state = '%s', total = total + %d.5, data = %s, note = %s WHERE id = %d",
			[]string{"new", "paid", "sent", "back"}[r.IntN(4)], r.IntN(9), t.bytes(), t.prose(), o.id)
	}
}

func (t *transaction) insertOrder(o order) {
	r := t.w.rnd
	t.add(1, "INSERT INTO S.orders VALUES (%d,%d,'new',%d.%02d,%s,%s,'%s')", o.id, t.w.id, r.IntN(1e4), r.IntN(100), t.prose(), t.bytes(), t.clock())
	t.after.orders++
	if o.items == 0 {
		return
	}
	var rows []string
	for line := range o.items {
		rows = append(rows, fmt.Sprintf("(%d,%d,%d,'%s',%d,%d.%03d)", o.id, line+1, t.w.id, t.word(), r.IntN(100)-50, r.IntN(1e3), r.IntN(1e3)))
	}
	t.add(int(o.items), "INSERT INTO S.items VALUES %s", strings.Join(rows, ","))
	t.after.items += o.items
}

// seat moves names between seats, whose names are unique but for their case.
func (t *transaction) seat() {
	r := t.w.rnd
	a, b := r.IntN(seats-1), 0
	b = a + 1 + r.IntN(seats-1-a)
	switch r.IntN(4) {
	case 0: // swap the names
		t.add(0, "SELECT seat INTO @a FROM S.seats WHERE id = %d FOR UPDATE", a)
		t.add(0, "SELECT seat INTO @b FROM S.seats WHERE id = %d FOR UPDATE", b)
		t.add(1, "UPDATE S.seats SET seat = NULL, turns = turns + 1 WHERE id = %d", a)
		t.add(1, "UPDATE S.seats SET seat = @a, turns = turns + 1 WHERE id = %d", b)
		t.add(1, "UPDATE S.seats SET seat = @b WHERE id = %d", a)
	case 1: // the same name to the collation, not to the bytes
		t.add(1, "UPDATE S.seats SET seat = IF(turns %% 2, UPPER(seat), LOWER(seat)), turns = turns + 1 WHERE id = %d", a)
	case 2: // swap the keys
		t.add(1, "UPDATE S.seats SET id = -1 - id WHERE id = %d", a)
		t.add(1, "UPDATE S.seats SET id = %d WHERE id = %d", a, b)
		t.add(1, "UPDATE S.seats SET id = %d, turns = turns + 1 WHERE id = %d", b, -1-a)
	case 3: // leave, and come back
		t.add(0, "SELECT seat, turns INTO @a, @b FROM S.seats WHERE id = %d FOR UPDATE", a)
		t.add(1, "DELETE FROM S.seats WHERE id = %d", a)
		t.add(1, "INSERT INTO S.seats VALUES (%d, @a, @b + 1)", a)
	}
}

// count counts in the audit. One counter is hot.
func (t *transaction) count() {
	r := t.w.rnd
	for range 1 + r.IntN(2) {
		id := r.IntN(counters)
		if t.w.chance(5) {
			id = 0
		}
		t.add(1, "UPDATE S.audit SET n = n + 1, pad = %s WHERE id = %d", t.bytes(), id)
		t.after.audits++
	}
}

// noise is not followed.
func (t *transaction) noise() {
	t.add(0, "INSERT INTO S_other.noise (what) VALUES ('%s')", t.word())
	if t.w.chance(10) {
		t.add(0, "DELETE FROM S_other.noise ORDER BY id LIMIT 20")
	}
}

// undone does things that a savepoint takes back.
func (t *transaction) undone() {
	rows := t.rows
	t.add(0, "SAVEPOINT here")
	t.add(1, "INSERT INTO S.tokens VALUES (%d, 1, 1, 'never', NULL), (%d, 2, 1, 'never', NULL)", t.w.id, t.w.id)
	t.add(20, "UPDATE S.audit SET n = n + 1000 WHERE id > %d", counters-10)
	t.add(0, "ROLLBACK TO SAVEPOINT here")
	t.rows = rows
}

// large writes all of bulk.
func (t *transaction) large() {
	t.after.gen++
	gen := t.after.gen
	if gen%3 == 0 {
		t.add(bulkRows, "DELETE FROM S.bulk")
		t.add(bulkRows, "INSERT INTO S.bulk SELECT id, %d, REPEAT('%s', 3) FROM S_other.numbers", gen, t.word())
		return
	}
	t.add(bulkRows, "UPDATE S.bulk SET gen = %d, pad = CONCAT('%s ', id)", gen, t.word())
}

// clock returns a moment to the microsecond.
func (t *transaction) clock() string {
	return time.UnixMicro(t.w.rnd.Int64N(2e15)).UTC().Format("2006-01-02 15:04:05.000000")
}

// stamp returns a TIMESTAMP in the session's zone, which is UTC, or NULL.
func (t *transaction) stamp() string {
	if t.w.chance(4) {
		return "NULL"
	}
	return "'" + t.clock()[:23] + "'"
}

// words are of one to four bytes a character, and hard to quote.
var words = []string{"plum", "crème", "日本語", "🚲🚲", "it''s", `back\\slash`, `say "hi"`, "a%b_c", "naïve", "Ωmega", "", "tab\there", "new\nline", "semi;colon", "-- no", "straße"}

func (t *transaction) word() string { return words[t.w.rnd.IntN(len(words))] }

// bytes returns a literal of up to 12 bytes, or NULL.
func (t *transaction) bytes() string {
	if t.w.chance(8) {
		return "NULL"
	}
	b := make([]byte, t.w.rnd.IntN(13))
	for i := range b {
		b[i] = byte(t.w.rnd.Uint32())
	}
	return fmt.Sprintf("X'%X'", b)
}

// prose returns a literal of text, sometimes long, or NULL.
func (t *transaction) prose() string {
	switch t.w.rnd.IntN(12) {
	case 0:
		return "NULL"
	case 1:
		return fmt.Sprintf("REPEAT('%s ', %d)", t.word(), t.w.rnd.IntN(400))
	}
	return "'" + t.word() + "'"
}
