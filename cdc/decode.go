package cdc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// A plan is how to read the rows of one version of one table.
type plan struct {
	table   *dfs.Table
	columns []column
	// err is why rows of the table cannot be read: a *TypeError.
	err error
}

// A plans remembers plans by the bytes that they were made of. It is safe for
// concurrent use.
type plans struct {
	mu    sync.RWMutex
	known map[string]*plan
}

// maxPlans bounds the memory of a plans against a server that alters tables all
// day.
const maxPlans = 10000

// lookup returns the plan for a table map and the content of its recSchema,
// which may be nil. key is memory for the key, which it returns.
func (p *plans) lookup(e event, schema []byte, maria bool, key []byte) (*plan, []byte, error) {
	body := e.body()
	if len(body) < 8 {
		return nil, key, errShortEvent
	}
	// Not the table id, which is another one whenever the server opens the table
	// anew.
	key = append(key[:0], body[6:]...)
	key = append(key, schema...)
	if maria {
		key = append(key, 1)
	}
	p.mu.RLock()
	pl := p.known[string(key)]
	p.mu.RUnlock()
	if pl != nil {
		return pl, key, nil
	}
	pl, err := newPlan(e, schema, maria)
	if err != nil {
		return nil, key, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxPlans {
		p.known = make(map[string]*plan)
	}
	if have := p.known[string(key)]; have != nil {
		return have, key, nil
	}
	p.known[string(key)] = pl
	return pl, key, nil
}

// newPlan makes a plan of a table map. The plan keeps a copy of the event, as
// the caller's bytes are those of a whole block.
func newPlan(e event, schema []byte, maria bool) (*plan, error) {
	m, err := parseTableMap(bytes.Clone(e), maria)
	if err != nil {
		return nil, err
	}
	pl := &plan{columns: m.columns}
	switch {
	case schema != nil:
		t, err := parseTable(bytes.Clone(schema))
		if err != nil {
			return nil, err
		}
		pl.table = t
		if err := m.fits(t); err != nil {
			pl.err = err
		}
	case !m.named:
		return nil, fmt.Errorf("cdc: table map of %s.%s names no columns", m.schema, m.table)
	default:
		pl.table, pl.err = m.dfsTable(), m.err
	}
	for i := range pl.columns {
		c := &pl.columns[i]
		if pl.err == nil && maria && schema == nil && c.oldTemporal() {
			pl.err = &TypeError{
				Table: pl.table.String(), Column: c.name, Type: c.describe(charset{}) + " in the form of mysql56_temporal_format=OFF",
				Cure: "the log does not tell how many digits it has after the second: SET GLOBAL mysql56_temporal_format=ON and ALTER TABLE ... FORCE; " + cureLogged,
			}
		}
		if pl.err == nil && !c.readable() {
			pl.err = &TypeError{
				Table: pl.table.String(), Column: c.name, Type: c.describe(charsetOf(c.collation, maria)),
				Cure: "alter the column to a type that can be read, or leave the table out",
			}
		}
	}
	return pl, nil
}

// A decoder decodes the transactions of one batch. Its slabs are shared by the
// values of the batch, and never written twice.
type decoder struct {
	src     *Source
	tables  []openTable
	key     []byte
	changes []dfs.Change
	values  []dfs.Value
	text    []byte
}

// An openTable is a table map that rows may refer to.
type openTable struct {
	id   uint64
	plan *plan
	raw  event  // what plan was made of
	with []byte // and its recSchema
}

// Decode implements dfs.Decoder. Strings in the values alias Encoded, or memory
// that no one writes to again. A column of a type that cannot be read gives a
// *TypeError, and changes inside of a JSON document that is not in the row image
// before an *EventError.
//
// It needs nothing of the Source: new(cdc.Source).Decode reads what any Source has
// encoded, such as what an archive holds.
func (s *Source) Decode(ctx context.Context, batch []*dfs.Transaction) error {
	d := decoder{src: s}
	n := 0
	for _, tx := range batch {
		n += countRows(tx.Encoded)
	}
	d.changes = make([]dfs.Change, 0, n)
	for _, tx := range batch {
		if tx.Encoded == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		from := len(d.changes)
		if err := d.tryTransaction(tx.Encoded); err != nil {
			return located(err, tx)
		}
		tx.Changes = d.changes[from:len(d.changes):len(d.changes)]
		tx.Encoded = nil
		failpoint.Hit("cdc.decode")
	}
	return nil
}

// tryTransaction is transaction, and makes an error of a panic.
func (d *decoder) tryTransaction(b []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = recovered(r)
		}
	}()
	return d.transaction(b)
}

// located says of an error that decoding tx has met where it was met.
func located(err error, tx *dfs.Transaction) error {
	var typed *TypeError
	if errors.As(err, &typed) {
		return fmt.Errorf("decode transaction %s: %w", tx.ID, err)
	}
	at, bad := ParsePosition(tx.Pos)
	place := ""
	if bad == nil {
		place = at.place()
	}
	err = unreadable(err, place, tx.ID)
	var event *EventError
	if errors.As(err, &event) {
		event.At, event.ID = place, tx.ID
		if bad == nil && !tx.More {
			event.After = at.start()
		}
	}
	return err
}

// countRows returns how many records of a container give a Change at least.
func countRows(b []byte) (n int) {
	r, _, err := openContainer(b)
	for err == nil && len(r.b) > 0 && !r.bad {
		kind, data := r.record()
		if kind == recChanges || kind == recEvent && len(data) > 4 && data[4] != evTableMap {
			n++
		}
	}
	return n
}

// transaction decodes one container and appends its changes. After an error those
// of earlier transactions of the batch are whole, and nothing of this one is used.
func (d *decoder) transaction(b []byte) error {
	r, maria, err := openContainer(b)
	if err != nil {
		return err
	}
	// Ids are those of one transaction; plans stay while their bytes are the
	// same.
	for i := range d.tables {
		d.tables[i].id = ^uint64(0)
	}
	var schema []byte
	for len(r.b) > 0 {
		kind, data := r.record()
		if r.bad {
			return errContainer
		}
		switch kind {
		case recSchema:
			schema = data
		case recChanges:
			c, err := dfs.ParseChanges(data)
			if err != nil {
				return err
			}
			d.changes = append(d.changes, c...)
		case recEvent:
			e := event(data)
			if len(e) < headerLen {
				return errContainer
			}
			if e.kind() != evTableMap {
				if err := d.rows(e); err != nil {
					return err
				}
				continue
			}
			if err := d.tableMap(e, schema, maria); err != nil {
				return err
			}
			schema = nil
		default:
			return fmt.Errorf("cdc: transaction has a record of kind %d, which this program does not know", kind)
		}
	}
	return nil
}

// tableMap makes the table known under its id.
func (d *decoder) tableMap(e event, schema []byte, maria bool) error {
	id, ok := tableID(e)
	if !ok {
		return errContainer
	}
	free := -1
	for i := range d.tables {
		t := &d.tables[i]
		if t.id == id {
			free = i
		}
		if t.id != id && t.id != ^uint64(0) {
			continue
		}
		if bytes.Equal(t.raw.body()[6:], e.body()[6:]) && bytes.Equal(t.with, schema) {
			t.id = id
			return nil
		}
		if free < 0 && t.id == ^uint64(0) && len(d.tables) >= 16 {
			free = i
		}
	}
	var t openTable
	var err error
	if t.plan, d.key, err = d.src.plans.lookup(e, schema, maria, d.key); err != nil {
		return err
	}
	t.id, t.raw, t.with = id, e, schema
	if free >= 0 {
		d.tables[free] = t
	} else {
		d.tables = append(d.tables, t)
	}
	return nil
}

// rows decodes a rows event.
func (d *decoder) rows(e event) error {
	id, ok := tableID(e)
	if !ok {
		return errContainer
	}
	var p *plan
	for i := range d.tables {
		if d.tables[i].id == id {
			p = d.tables[i].plan
			break
		}
	}
	if p == nil {
		return fmt.Errorf("cdc: rows of table id %d come without a table map", id)
	}
	if p.err != nil {
		return p.err
	}
	if err := d.event(e, p); err != nil {
		var typed *TypeError
		var partial *EventError
		if errors.As(err, &typed) || errors.As(err, &partial) {
			return err
		}
		return fmt.Errorf("rows of %s: %w", p.table, err)
	}
	return nil
}

// event reads the row images of a rows event.
func (d *decoder) event(e event, p *plan) error {
	r := reader{b: e.body()}
	r.bytes(6)
	flags := r.uint16()
	kind := e.kind()
	packed := kind >= evWriteRows1Z
	if packed {
		// 166 to 168 are the first three kinds compressed, 169 to 171 the others.
		kind -= evWriteRows1Z
		if kind < 3 {
			kind += evWriteRows1
		} else {
			kind += evWriteRows2 - 3
		}
	}
	partial := kind == evPartialUpdate
	if partial {
		kind = evUpdateRows2
	}
	if kind >= evWriteRows2 {
		// Extra data, such as the partition, with its own length in it.
		if n := int(r.uint16()); n > 2 {
			r.bytes(n - 2)
		}
		kind -= evWriteRows2 - evWriteRows1
	}
	// Not count: a row of NULLs alone takes fewer bytes than it has columns.
	n := int(r.packed())
	if n != len(p.columns) {
		return fmt.Errorf("cdc: row has %d columns and its table map %d", n, len(p.columns))
	}
	size := (n + 7) / 8
	first := r.bytes(size)
	second := first
	if kind == evUpdateRows1 {
		second = r.bytes(size)
	}
	if r.bad {
		return errShortEvent
	}
	if partial {
		kind = evPartialUpdate
	}
	if packed {
		b, err := inflate(r.b)
		if err != nil {
			return fmt.Errorf("cdc: unpack rows: %w", err)
		}
		r.b = b
	}
	im := images{plan: p, kind: kind, before: first, after: second}
	im.whole = all(first, n) && all(second, n)
	noKeys := flags&(rowsFlagNoFK|rowsFlagSQLFK) != 0
	for len(r.b) > 0 {
		at := len(r.b)
		c := dfs.Change{Table: p.table, NoForeignKeys: noKeys}
		if err := d.change(&r, &im, &c); err != nil {
			return err
		}
		if r.bad || len(r.b) == at {
			return errShortEvent
		}
		d.changes = append(d.changes, c)
	}
	return nil
}

// images says how the rows of one event are laid out.
type images struct {
	plan          *plan
	kind          byte   // evWriteRows1 to evDeleteRows1, or evPartialUpdate
	before, after []byte // bits of the columns that each image has; an insert's are in before
	whole         bool   // they are all set
}

// change reads the images of one row into c, whose Table is set.
func (d *decoder) change(r *reader, im *images, c *dfs.Change) (err error) {
	if im.kind == evPartialUpdate {
		return d.partialUpdate(r, im, c)
	}
	if !im.whole {
		return d.sparseChange(r, im, c)
	}
	row, err := d.row(r, im.plan)
	switch im.kind {
	case evWriteRows1:
		c.Op, c.After = dfs.Insert, row
	case evDeleteRows1:
		c.Op, c.Before = dfs.Delete, row
	default:
		c.Op, c.Before = dfs.Update, row
		if err == nil {
			c.After, err = d.row(r, im.plan)
		}
	}
	return err
}

// all reports whether the first n bits are set.
func all(bits []byte, n int) bool {
	for i := range n {
		if bits[i/8]&(1<<(i%8)) == 0 {
			return false
		}
	}
	return true
}

// row reads a row image with all columns: a bit for each that says whether it is
// NULL, and the values of the others.
func (d *decoder) row(r *reader, p *plan) (dfs.Row, error) {
	nulls := r.bytes((len(p.columns) + 7) / 8)
	if r.bad {
		return nil, errShortEvent
	}
	row := d.newRow(len(p.columns))
	for i := range row {
		if nulls[i/8]&(1<<(i%8)) != 0 {
			continue
		}
		if err := d.value(r, &p.columns[i], &row[i]); err != nil {
			return nil, p.columnError(i, err)
		}
	}
	return row, nil
}

// columnError says which column err is about.
func (p *plan) columnError(i int, err error) error {
	var typed *TypeError
	if errors.As(err, &typed) {
		typed.Table, typed.Column = p.table.String(), p.columns[i].name
		return typed
	}
	return fmt.Errorf("column %s: %w", p.columns[i].name, err)
}

// newRow cuts a row of Nulls from the slab.
func (d *decoder) newRow(n int) dfs.Row {
	if len(d.values)+n > cap(d.values) {
		d.values = make([]dfs.Value, 0, max(n, min(2048, n*max(1, cap(d.changes)-len(d.changes)))))
	}
	at := len(d.values)
	d.values = d.values[:at+n]
	return dfs.Row(d.values[at : at+n : at+n])
}

// room makes place for n bytes of text in the slab, and returns where it begins.
func (d *decoder) room(n int) int {
	if len(d.text)+n > cap(d.text) {
		d.text = make([]byte, 0, max(n, min(16<<10, n*max(1, cap(d.changes)-len(d.changes)))))
	}
	return len(d.text)
}

// uintBE reads up to 8 bytes, the highest first.
func uintBE(b []byte) uint64 {
	if len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}
