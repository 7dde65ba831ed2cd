package sink

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/dataflowsync/dfs"
)

// writer turns groups into statements, and statements into packets: texts of
// several statements that go to the server at once. It has two buffers, so that
// it can fill one while the server works on the other.
type writer struct {
	srv      server
	maxRows  int // rows for one statement
	maxBytes int // bytes for one packet, unless a single row needs more

	b      []byte
	spare  []byte
	events []byte // being encoded, for a BINLOG statement

	// minEvents is the smallest group worth a packet of its own: BINLOG may not
	// share one with other statements.
	minEvents int
	run       uint64         // counts the runs begun
	eventRows *atomic.Uint64 // counts the rows that went as events
	want      []int64
	fkOff     bool // the session has foreign_key_checks=0
	fkUnknown bool // row events may have changed that
	loose     bool // the session has no strict mode
	guarded   bool // every count so far is checked by the server too; see guard.go
	checks    int  // how many those are
	sent      bool // a packet of the run is under way

	// showCreate executes what was sent, and describes a table.
	showCreate func(t *table) (string, error)

	// ask executes what was sent, and reports whether a query finds a row.
	ask func(sql string) (bool, error)

	// send executes a packet. It may return before that is done, but not
	// before the packet sent last is. Each statement must match as many rows
	// as want says; any number if negative.
	send func(sql []byte, want []int64) error
}

const (
	uncounted = -1 // a statement may match any number of rows
	fence     = -2 // it is the compare-and-set of the checkpoint
)

// reset forgets what was not sent, and lets go of memory that one large row has taken.
func (w *writer) reset() {
	if cap(w.b) > 4*w.maxBytes {
		w.b = nil
	}
	if cap(w.spare) > 4*w.maxBytes {
		w.spare = nil
	}
	w.b, w.want, w.fkOff, w.fkUnknown = w.b[:0], nil, false, false
	w.loose, w.guarded, w.sent, w.checks = false, false, false, 0
	w.run++
}

// statement adds a whole statement.
func (w *writer) statement(sql string, want int64) {
	w.separate()
	w.b = append(w.b, sql...)
	w.wants(want, dfs.Update)
}

func (w *writer) separate() {
	if len(w.b) > 0 {
		w.b = append(w.b, ';')
	}
}

// flush sends what there is.
func (w *writer) flush() error {
	if len(w.b) == 0 {
		return nil
	}
	if len(w.b) > w.srv.maxPacket {
		return &tooLargeError{"a row", len(w.b), w.srv.maxPacket}
	}
	sql, want := w.b, w.want
	w.b, w.spare, w.want, w.sent = w.spare[:0], sql, nil, true
	if cap(sql) > 4*w.maxBytes {
		w.spare = nil
	}
	return w.send(sql, want)
}

// flushHead is flush, of what comes before a row that is too large to go with it. The
// memory that was taken for the row is kept for it.
func (w *writer) flushHead() error {
	large := w.b
	if cap(large) <= 4*w.maxBytes {
		return w.flush()
	}
	w.b = bytes.Clone(large)
	err := w.flush()
	w.b = large[:0]
	return err
}

// tooLargeError says that one row or State alone is more than the server takes.
type tooLargeError struct {
	what        string
	size, limit int
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("%s needs a statement of %d bytes, and the target's max_allowed_packet is %d: "+
		"SET GLOBAL max_allowed_packet=%d on the target, and in its configuration", e.what, e.size, e.limit, roundUp(e.size))
}

// roundUp returns the next power of two, since max_allowed_packet counts in
// steps of 1024 and ends at 1 GiB.
func roundUp(n int) int {
	size := 1 << 20
	for size < n {
		size <<= 1
	}
	return min(size, 1<<30)
}

// group adds the statements for a group.
func (w *writer) group(g *group) error {
	if w.takesEvents(g) {
		n, err := w.eventGroup(g)
		if err != nil || n == len(g.rows) {
			return err
		}
		rest := *g
		rest.rows = g.rows[n:]
		return w.sqlGroup(&rest)
	}
	return w.sqlGroup(g)
}

// sqlGroup adds the statements for a group as SQL.
func (w *writer) sqlGroup(g *group) error {
	if g.noFK != w.fkOff || w.fkUnknown {
		w.fkOff, w.fkUnknown = g.noFK, false
		sql := "SET foreign_key_checks=1"
		if g.noFK {
			sql = "SET foreign_key_checks=0"
		}
		w.statement(sql, uncounted)
	}
	w.setLoose(g.m.groupZeros(g.op, g.rows, g.cols) > 0)
	if g.part {
		return w.partGroup(g)
	}
	if g.serial || g.op == dfs.Update && (len(g.rows) == 1 || g.cols.meets(g.m.rowwise) || !g.m.joins() || g.m.hasNotes(g.rows) || w.loose && g.m.warnedKey()) {
		for i := range g.rows {
			if err := w.single(g, &g.rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	switch g.op {
	case dfs.Insert:
		head := g.m.insertHead
		if g.cols != nil {
			head = g.m.insertInto(g.cols)
		}
		return w.list(g, head, ",", "", func(b []byte, r *rowOp, _ bool) []byte {
			return append(g.m.appendRow(append(b, '('), r.after, g.cols), ')')
		})
	case dfs.Delete:
		return w.deletes(g)
	}
	return w.updates(g)
}

// list adds statements of the form head, rows separated by sep, tail. A
// statement ends before the row with which it would be too large.
func (w *writer) list(g *group, head, sep, tail string, row func(b []byte, r *rowOp, first bool) []byte) error {
	n, zeros := 0, 0 // rows in the statement at hand, and ordinals 0 in them
	end := func() {
		w.b = append(w.b, tail...)
		w.wants(g.wants(n), g.op)
		w.check(zeros)
		n, zeros = 0, 0
	}
	for i := 0; i < len(g.rows); i++ {
		at := len(w.b)
		if n == 0 {
			w.separate()
			w.b = append(w.b, head...)
		} else {
			w.b = append(w.b, sep...)
		}
		w.b = row(w.b, &g.rows[i], n == 0)
		if len(w.b)+len(tail) > w.maxBytes && at > 0 {
			// Send what was there before, and begin anew with this row.
			w.b = w.b[:at]
			if n > 0 {
				end()
			}
			if err := w.flushHead(); err != nil {
				return err
			}
			i--
			continue
		}
		if w.loose {
			zeros += g.m.zeros(g.rows[i].after, g.cols)
		}
		if n++; n == w.maxRows {
			end()
		}
	}
	if n > 0 {
		end()
	}
	return nil
}

// appendRow appends the row's values, of the columns in s, or all if s is nil. A
// column that is not in s gets what a replica would write: its default, or the
// implicit one where it has none and must not be NULL.
func (m *mapping) appendRow(b []byte, row dfs.Row, s colset) []byte {
	first := true
	for i := range m.columns {
		c := &m.columns[i]
		if !c.inserted(s, i) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		if s != nil && !s.has(i) {
			b = append(b, c.implicit...)
		} else {
			b = c.appendValue(b, row[i])
		}
	}
	return b
}

// inserted reports whether an INSERT with values for the columns in s, nil for
// all, writes c, which is column i.
func (c *column) inserted(s colset, i int) bool {
	return c.to >= 0 && (s == nil || s.has(i) || c.implicit != "")
}

// insertInto returns the head of an INSERT of the columns in s.
func (m *mapping) insertInto(s colset) string {
	b := append([]byte("INSERT INTO "), m.to.ident()...)
	return string(append(m.appendColumns(append(b, " ("...), s), ") VALUES "...))
}

// appendColumns appends the names of the columns that appendRow has values of.
func (m *mapping) appendColumns(b []byte, s colset) []byte {
	first := true
	for i := range m.columns {
		if !m.columns[i].inserted(s, i) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendIdent(b, m.columns[i].name)
	}
	return b
}

// deletes adds DELETE ... IN for a key of one column, and of several where the
// server uses an index for that; elsewhere a list of ORs, for which every
// server does. That goes for ENUM and SET as well, which IN does not compare
// with numbers.
func (w *writer) deletes(g *group) error {
	m := g.m
	head := append([]byte("DELETE FROM "), m.to.ident()...)
	head = append(head, " WHERE "...)
	one := len(m.key) == 1
	if !m.members(m.key) && (one || w.srv.rowInRanges) {
		if !one {
			head = append(head, '(')
		}
		for k, i := range m.key {
			if k > 0 {
				head = append(head, ',')
			}
			head = appendIdent(head, m.columns[i].name)
		}
		if !one {
			head = append(head, ')')
		}
		head = append(head, " IN ("...)
		return w.list(g, string(head), ",", ")", func(b []byte, r *rowOp, _ bool) []byte {
			if !one {
				b = append(b, '(')
			}
			for k, i := range m.key {
				if k > 0 {
					b = append(b, ',')
				}
				b = m.columns[i].appendKey(b, r.before[i])
			}
			if one {
				return b
			}
			return append(b, ')')
		})
	}
	// The servers take a time for a list of ORs that grows with its square: of
	// 1000 rows 11-26k a second, of 200 46-98k, of 50 79-100k.
	defer func(n int) { w.maxRows = n }(w.maxRows)
	w.maxRows = min(w.maxRows, 100)
	return w.list(g, string(head), " OR ", "", func(b []byte, r *rowOp, _ bool) []byte {
		return append(m.appendWhere(append(b, '('), r.before, false), ')')
	})
}

// updates adds an UPDATE of the table joined with a table of keys and new
// values. The join goes from the values to the table, one lookup by key each.
//
// Rows a second on MySQL 9.7 at full durability, 1000 rows of nine columns for
// one statement: 48-58k this way, 39-45k as a UNION ALL, 46-52k as INSERT ...
// ON DUPLICATE KEY UPDATE, which would insert what ought to be there. Of two
// columns: 65-70k this way, 40-49k by IN and CASE with 100 rows, 10-15k row by
// row in one packet, and 83-85k by JSON_TABLE, which cannot carry bytes.
// MariaDB 10.11 takes 49-55k as a UNION ALL and as much with VALUES.
func (w *writer) updates(g *group) error {
	m := g.m
	var cols []int
	for i := range m.columns {
		if g.cols.has(i) {
			cols = append(cols, i)
		}
	}
	head, open, sep, shut := "UPDATE (VALUES ", "ROW(", ",", ")"
	if !w.srv.valuesRow {
		head, open, sep, shut = "UPDATE (", "SELECT ", " UNION ALL ", ""
	}
	tail := []byte(") v")
	if w.srv.valuesRow {
		tail = append(tail, '(')
		for k := range len(m.key) + len(cols) {
			if k > 0 {
				tail = append(tail, ',')
			}
			tail = fmt.Appendf(tail, "c%d", k)
		}
		tail = append(tail, ')')
	}
	tail = append(append(tail, " STRAIGHT_JOIN "...), m.to.ident()...)
	tail = append(appendIdent(append(tail, " t FORCE INDEX ("...), m.keyName), ") ON "...)
	for k, i := range m.key {
		if k > 0 {
			tail = append(tail, " AND "...)
		}
		c := &m.columns[i]
		tail = append(appendIdent(append(tail, "t."...), c.name), '=')
		tail = fmt.Appendf(tail, "%sv.c%d%s", c.onBefore, k, c.onAfter)
	}
	tail = append(tail, " SET "...)
	for k, i := range cols {
		if k > 0 {
			tail = append(tail, ',')
		}
		tail = append(appendIdent(append(tail, "t."...), m.columns[i].name), '=')
		tail = fmt.Appendf(tail, "v.c%d", len(m.key)+k)
	}
	for i := range m.columns {
		if m.alwaysOn.has(i) && !g.cols.has(i) {
			tail = append(appendIdent(append(tail, ",t."...), m.columns[i].name), '=')
			tail = appendIdent(append(tail, "t."...), m.columns[i].name)
		}
	}
	// The first SELECT of a union names the columns.
	name := func(b []byte, k int, first bool) []byte {
		if w.srv.valuesRow || !first {
			return b
		}
		return strconv.AppendInt(append(b, " c"...), int64(k), 10)
	}
	return w.list(g, head, sep, string(tail), func(b []byte, r *rowOp, first bool) []byte {
		b = append(b, open...)
		for k, i := range m.key {
			if k > 0 {
				b = append(b, ',')
			}
			b = name(m.columns[i].appendKey(b, r.before[i]), k, first)
		}
		for k, i := range cols {
			b = name(m.columns[i].appendValue(append(b, ','), r.after[i]), len(m.key)+k, first)
		}
		return append(b, shut...)
	})
}

// members reports whether one of the columns is an ENUM or SET.
func (m *mapping) members(cols []int) bool {
	for _, i := range cols {
		if len(m.src.Columns[i].Members) > 0 {
			return true
		}
	}
	return false
}

// joins reports whether the key can be compared with a derived table's column.
func (m *mapping) joins() bool {
	for _, i := range m.key {
		if m.rowwise.has(i) {
			return false
		}
	}
	return m.key != nil
}

// single adds the statement for one row alone.
func (w *writer) single(g *group, r *rowOp) error {
	zeros := g.m.groupZeros(g.op, []rowOp{*r}, g.cols)
	return w.alone(g.wants(1), g.op, zeros, func(b []byte) []byte { return g.m.appendSingle(b, g, r) })
}

// alone adds a statement that must match as many rows as want says, and that
// writes so many ordinals 0.
func (w *writer) alone(want int64, op dfs.Op, zeros int, statement func(b []byte) []byte) error {
	at := len(w.b)
	for {
		w.separate()
		w.b = statement(w.b)
		if len(w.b) <= w.maxBytes || at == 0 {
			w.wants(want, op)
			w.check(zeros)
			return nil
		}
		w.b = w.b[:at]
		if err := w.flushHead(); err != nil {
			return err
		}
		at = 0
	}
}

// appendSingle appends a statement that applies one row.
func (m *mapping) appendSingle(b []byte, g *group, r *rowOp) []byte {
	raw := g.raw
	switch g.op {
	case dfs.Insert:
		s := m.present(r.after)
		b = append(b, m.insertInto(s)...)
		return append(m.appendRow(append(b, '('), r.after, s), ')')
	case dfs.Delete:
		b = append(append(b, "DELETE FROM "...), m.to.ident()...)
	default:
		s := g.cols
		if s == nil {
			s = m.changed(nil, &dfs.Change{Op: dfs.Update, Before: r.before, After: r.after})
		}
		raw = raw || m.zeros(r.after, s) > 0 && m.warnedKey()
		b = append(append(b, "UPDATE "...), m.to.ident()...)
		b = append(b, " SET "...)
		first := true
		for i := range m.columns {
			if !s.has(i) {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(appendIdent(b, m.columns[i].name), '=')
			b = m.columns[i].appendValue(b, r.after[i])
		}
		for i := range m.columns {
			if m.alwaysOn.has(i) && !s.has(i) {
				// The source has left it as it was.
				b = append(appendIdent(append(b, ','), m.columns[i].name), '=')
				b = appendIdent(b, m.columns[i].name)
			}
		}
	}
	b = append(b, " WHERE "...)
	if m.key == nil {
		return m.appendWholeRow(b, r.before, raw)
	}
	return m.appendWhere(b, r.before, raw)
}

// appendWhere appends a comparison with the key of row: as the server compares,
// or of the bytes of text if raw.
func (m *mapping) appendWhere(b []byte, row dfs.Row, raw bool) []byte {
	for k, i := range m.key {
		if k > 0 {
			b = append(b, " AND "...)
		}
		if raw {
			var done bool
			if b, done = m.columns[i].appendRaw(b, row[i]); done {
				continue
			}
		}
		b = append(appendIdent(b, m.columns[i].name), '=')
		b = m.columns[i].appendKey(b, row[i])
	}
	return b
}
