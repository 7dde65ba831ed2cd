package sink

import (
	"context"

	"github.com/dataflowsync/dfs"
)

// A change that is a Part sets some columns of a row, whether the row is there
// or not. An upsert of MySQL's, INSERT ... ON DUPLICATE KEY UPDATE, would also
// write over another row that has one of its unique values. So the row is
// inserted by one that updates nothing, and then updated by its key: if another
// row was in the way, the second statement finds no row, and that is an error.

// addPart puts an update of a part into the run.
func (g *merger) addPart(c *dfs.Change, m *mapping) error {
	for _, c := range m.splitPart(c) {
		if err := g.add(&c, m); err != nil {
			return err
		}
	}
	return nil
}

// splitPart returns what an update of a part is: an insert, and where the key
// changes a delete before it.
func (m *mapping) splitPart(c *dfs.Change) []dfs.Change {
	put := *c
	put.Op, put.Before, put.After = dfs.Insert, nil, overlay(c.Before, c.After)
	if !m.keyChanges(c) {
		return []dfs.Change{put}
	}
	gone := *c
	gone.Op, gone.After = dfs.Delete, nil
	return []dfs.Change{gone, put}
}

// partInPlace reports whether a change of a part does more than to set columns
// of its row, or may be refused because of another row.
func (m *mapping) partInPlace(c *dfs.Change) bool {
	return c.Op == dfs.Delete || len(m.uniques) > 0 || len(m.to.children) > 0 || m.to.selfRef
}

// partGroup adds the statements for a group of parts.
func (w *writer) partGroup(g *group) error {
	m := g.m
	set := m.partColumns(g.cols)
	if g.op == dfs.Insert && !g.serial && !set.meets(m.rowwise) && m.joins() && !m.hasNotes(g.rows) {
		head := m.insertInto(g.cols)
		err := w.list(g, head, ",", m.changeNothing(), func(b []byte, r *rowOp, _ bool) []byte {
			return append(m.appendRow(append(b, '('), r.after, g.cols), ')')
		})
		if err != nil {
			return err
		}
		update := group{m: m, op: dfs.Update, cols: set, rows: make([]rowOp, len(g.rows))}
		for i, r := range g.rows {
			update.rows[i] = rowOp{r.after, r.after}
		}
		return w.updates(&update)
	}
	for i := range g.rows {
		for _, s := range m.partStatements(g, &g.rows[i]) {
			if err := w.alone(s.want, dfs.Update, s.zeros, s.append); err != nil {
				return err
			}
		}
	}
	return nil
}

// changeNothing returns what makes an INSERT leave alone a row that is there.
// The server counts such a row as one matched, as it counts one inserted.
func (m *mapping) changeNothing() string {
	b := appendIdent([]byte(" ON DUPLICATE KEY UPDATE "), m.columns[m.key[0]].name)
	return string(appendIdent(append(b, '='), m.columns[m.key[0]].name))
}

// partColumns returns the columns of s, all if it is nil, that are not of the
// key; the key's if there are no others.
func (m *mapping) partColumns(s colset) colset {
	set := newColset(len(m.columns))
	for i := range m.columns {
		if m.columns[i].to >= 0 && (s == nil || s.has(i)) && !m.isKey(i) {
			set.add(i)
		}
	}
	if set.empty() {
		for _, i := range m.key {
			set.add(i)
		}
	}
	return set
}

func (m *mapping) isKey(i int) bool {
	for _, k := range m.key {
		if k == i {
			return true
		}
	}
	return false
}

// partStatement is one of the statements that apply a part.
type partStatement struct {
	want   int64
	zeros  int // how many ordinals 0 it writes
	append func(b []byte) []byte
}

func (m *mapping) partStatements(g *group, r *rowOp) []partStatement {
	if g.op == dfs.Insert {
		s := m.present(r.after)
		put := &group{m: m, op: dfs.Update, cols: m.partColumns(s)}
		return []partStatement{
			{uncounted, m.zeros(r.after, s), func(b []byte) []byte {
				b = append(append(b, m.insertInto(s)...), '(')
				return append(append(m.appendRow(b, r.after, s), ')'), m.changeNothing()...)
			}},
			{1, m.zeros(r.after, put.cols), func(b []byte) []byte { return m.appendSingle(b, put, &rowOp{r.after, r.after}) }},
		}
	}
	remove := partStatement{uncounted, 0, func(b []byte) []byte {
		b = append(append(append(b, "DELETE FROM "...), m.to.ident()...), " WHERE "...)
		b = m.appendWhere(b, r.before, false)
		for j := range m.to.columns {
			if tc := &m.to.columns[j]; tc.nullable && !tc.generated && !m.targetKey(j) {
				b = append(appendIdent(append(b, " AND "...), tc.name), " IS NULL"...)
			}
		}
		return b
	}}
	set := m.partColumns(nil)
	if set.has(m.key[0]) {
		return []partStatement{remove} // it has no columns of its own
	}
	nulls := make(dfs.Row, len(m.columns))
	clear := &group{m: m, op: dfs.Update, cols: set}
	return []partStatement{
		{uncounted, 0, func(b []byte) []byte { return m.appendSingle(b, clear, &rowOp{r.before, nulls}) }}, remove,
	}
}

func (m *mapping) targetKey(j int) bool {
	for _, i := range m.key {
		if m.columns[i].to == j {
			return true
		}
	}
	return false
}

// partRow executes the statements for a single part, and returns how many rows
// it matched of those that it must.
func (m *MySQL) partRow(ctx context.Context, g *group, r *rowOp) (int64, error) {
	matched := int64(1)
	for _, s := range g.m.partStatements(g, r) {
		n, err := m.counted(ctx, s.append(nil), s.zeros)
		if err != nil {
			return 0, err
		}
		if s.want >= 0 {
			matched = n
		}
	}
	return matched, nil
}
