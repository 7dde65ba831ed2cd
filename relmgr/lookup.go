package relmgr

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// keyCells returns, for each column of a table's primary key, what rewrites it; nil
// if it is kept.
func (m *Manager) keyCells(table string) (*dfs.Table, []*cell, error) {
	if m.closed {
		return nil, nil, errors.New("the map of ids is closed")
	}
	t := m.table(table)
	if t == nil {
		return nil, nil, fmt.Errorf("the table %s is not known; give it in Options.Tables", table)
	}
	if t.Key == nil {
		return nil, nil, fmt.Errorf("the table %s has no primary key", table)
	}
	p, err := m.newPlan(t)
	if err != nil {
		return nil, nil, err
	}
	var cells []*cell
	for _, k := range t.Key {
		var found *cell
		for i := range p.cells {
			if cl := &p.cells[i]; cl.col == k && cl.space != nil {
				found = cl
			}
		}
		cells = append(cells, found)
	}
	return t, cells, nil
}

// values makes Values of what a caller gives for the columns of a key.
func values(t *dfs.Table, key []any) (dfs.Row, error) {
	if len(key) != len(t.Key) {
		return nil, fmt.Errorf("the primary key of %s has %d columns (%s), and %d values were given", t, len(t.Key), joinNames(columnNames(t, t.Key)), len(key))
	}
	row := make(dfs.Row, len(t.Columns))
	for i, k := range t.Key {
		v, err := convert.Of(key[i])
		if err == nil && v.Kind() != convert.KindOf(&t.Columns[k]) {
			v, err = convert.To(v, &t.Columns[k])
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", t.Columns[k].Name, err)
		}
		row[k] = v
	}
	return row, nil
}

// New returns the new primary key of the row of a table ("schema.table" of the
// source) that had the key given, column by column. It is false if no such row,
// nor a reference to it, has come yet. Where keys are kept it is the old one.
func (m *Manager) New(ctx context.Context, table string, key ...any) (new dfs.Row, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refresh(ctx); err != nil {
		return nil, false, err
	}
	if m.stale {
		if err := m.reset(ctx); err != nil {
			return nil, false, err
		}
	}
	defer m.turn()
	t, cells, err := m.keyCells(table)
	if err != nil {
		return nil, false, err
	}
	row, err := values(t, key)
	if err != nil {
		return nil, false, err
	}
	for i, k := range t.Key {
		cl := cells[i]
		if cl == nil {
			new = append(new, row[k])
			continue
		}
		v, ok, err := m.lookUp(ctx, cl, t, row)
		if err != nil || !ok {
			return nil, false, err
		}
		new = append(new, v)
	}
	return new, true, nil
}

// lookUp is cell without making anything.
func (m *Manager) lookUp(ctx context.Context, cl *cell, t *dfs.Table, row dfs.Row) (v dfs.Value, ok bool, err error) {
	sp := cl.space
	if sp.linear {
		key, err := sp.keyOf(row[cl.args[0]])
		if err != nil {
			return v, false, err
		}
		p, err := m.load(ctx, sp, key>>pageBits)
		if err != nil {
			return v, false, err
		}
		r, _ := p.find(key)
		if r == nil || !r.known.has(key-r.old, r.span) {
			return v, false, nil
		}
		v, err = toKind(dfs.IntValue(r.new+key-r.old), cl.kind)
		return v, true, err
	}
	var b []byte
	for i, a := range cl.args {
		if b, err = appendKey(b, i, row[a], &t.Columns[a], sp.keyColumn(i)); err != nil {
			return v, false, err
		}
	}
	e, err := m.readEntry(ctx, sp, string(b))
	if err != nil || e == nil {
		return v, false, err
	}
	v, err = toKind(e.new, cl.kind)
	return v, true, err
}

// Old returns the old primary key, as text, of the row that has the given one on
// the target. It is false if the map gave no row that key.
func (m *Manager) Old(ctx context.Context, table string, key ...any) (old []string, ok bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refreshShape(ctx); err != nil {
		return nil, false, err
	}
	t, cells, err := m.keyCells(table)
	if err != nil {
		return nil, false, err
	}
	if len(key) != len(t.Key) {
		return nil, false, fmt.Errorf("the primary key of %s has %d columns, and %d values were given", t, len(t.Key), len(key))
	}
	old = make([]string, len(key))
	for i := range t.Key {
		v, err := convert.Of(key[i])
		if err != nil {
			return nil, false, err
		}
		cl := cells[i]
		if cl == nil {
			old[i] = v.String()
			continue
		}
		parts, ok, err := m.oldOf(ctx, cl.space, v)
		if err != nil || !ok {
			return nil, false, err
		}
		for k, a := range cl.args {
			if at := slices.Index(t.Key, a); at >= 0 && (len(cl.args) == 1 || at == i) {
				old[at] = parts[k]
			}
		}
	}
	return old, true, nil
}

// oldOf returns the old key that a new id of a space stands for.
func (m *Manager) oldOf(ctx context.Context, sp *space, v dfs.Value) ([]string, bool, error) {
	if sp.linear {
		key := &space{table: sp.table, column: sp.column}
		new, err := key.keyOf(v)
		if err != nil {
			return nil, false, nil // no number is no id of this map
		}
		var old, first int64
		var span int64
		var known sql.RawBytes
		rows, err := m.store.runOfNew.QueryContext(ctx, sp.id, new)
		if err != nil {
			return nil, false, m.store.wrap("look up", err)
		}
		defer rows.Close()
		if !rows.Next() {
			return nil, false, m.store.wrap("look up", rows.Err())
		}
		if err := rows.Scan(&old, &first, &span, &known); err != nil {
			return nil, false, m.store.wrap("look up", err)
		}
		n := new - first
		if n >= span || known[n/8]>>(n%8)&1 == 0 {
			return nil, false, nil
		}
		if sp.unsigned {
			return []string{dfs.UintValue(uint64(old + n)).String()}, true, nil
		}
		return []string{dfs.IntValue(old + n).String()}, true, nil
	}
	var old []byte
	err := m.store.entryOfNew.QueryRowContext(ctx, sp.id, toSQL(v)).Scan(&old)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, m.store.wrap("look up", err)
	}
	parts := strings.Split(string(old), "\x00")
	for i := range parts {
		parts[i] = strings.NewReplacer("\x01\x02", "\x01", "\x01\x01", "\x00").Replace(parts[i])
	}
	return parts, true, nil
}

// A Promise is a new id that a row has been given as a reference, of a row that has
// not come itself.
type Promise struct {
	Table, Column string // of the row that has not come
	Old, New      string
}

// Promises returns up to limit ids of rows that others refer to and which have not
// come. Rows that were in the source before the start are among them, as are those
// that a filter leaves out. It reads what is on disk, and keeps nobody waiting.
func (m *Manager) Promises(ctx context.Context, limit int) (list []Promise, err error) {
	// By indexes of their own: there may be few in a large map.
	rows, err := m.store.reads.QueryContext(ctx, `SELECT s."table", s."column", s.type, r.old, r.new, r.span, r.known, r.came `+
		`FROM run r INDEXED BY run_promised JOIN space s ON s.id = r.space WHERE r.known <> r.came ORDER BY r.space, r.old LIMIT ?`, limit)
	if err != nil {
		return nil, m.store.wrap("list promises", err)
	}
	defer rows.Close()
	for rows.Next() && len(list) < limit {
		var p Promise
		var typ string
		var r scanned
		if err := rows.Scan(&p.Table, &p.Column, &typ, &r.old, &r.new, &r.span, &r.known, &r.came); err != nil {
			return nil, m.store.wrap("list promises", err)
		}
		sp := space{unsigned: strings.Contains(typ, "unsigned")}
		for i := int64(0); i < int64(r.span) && len(list) < limit; i++ {
			if (r.known[i/8]&^r.came[i/8])>>(i%8)&1 != 0 {
				p.Old, p.New = sp.text(r.old+i), dfs.IntValue(r.new+i).String()
				list = append(list, p)
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, m.store.wrap("list promises", err)
	}
	singles, err := m.store.reads.QueryContext(ctx, `SELECT s."table", s."column", replace(CAST(e.old AS TEXT), char(0), ','), e.new `+
		`FROM entry e INDEXED BY entry_promised JOIN space s ON s.id = e.space WHERE e.came = 0 ORDER BY e.space, e.old LIMIT ?`, limit-len(list))
	if err != nil {
		return nil, m.store.wrap("list promises", err)
	}
	defer singles.Close()
	for singles.Next() {
		var p Promise
		if err := singles.Scan(&p.Table, &p.Column, &p.Old, &p.New); err != nil {
			return nil, m.store.wrap("list promises", err)
		}
		list = append(list, p)
	}
	return list, m.store.wrap("list promises", singles.Err())
}

// SpaceStats counts the ids of one column.
type SpaceStats struct {
	Table, Column string
	Keys          int64  // old keys that have a new id
	Promised      int64  // those of them whose row has not come
	Left          uint64 // of the block of new ids that was reserved last
}

// Stats tells how many ids there are. A batch that failed may be counted until the
// next one.
func (m *Manager) Stats() []SpaceStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []SpaceStats
	for _, sp := range m.spaces {
		list = append(list, SpaceStats{sp.table, sp.column, sp.known, sp.known - sp.came, sp.end - sp.next})
	}
	return list
}
