package sink

import (
	"errors"
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
)

// What the images of a row say: which columns a change writes, and which row it
// is about. An image may leave columns out, as binlog_row_image=MINIMAL does.

// locate returns the mapping by which the row of c is found: m itself or, if an
// image leaves out columns of m's key, one with another key that is all there. It
// refuses a change that the sink cannot make sense of.
func (m *mapping) locate(c *dfs.Change) (*mapping, error) {
	n := len(m.columns)
	before, after := c.Op != dfs.Insert, c.Op != dfs.Delete
	if c.Op < dfs.Insert || c.Op > dfs.Delete || before && len(c.Before) != n || after && len(c.After) != n {
		return nil, fmt.Errorf("a change (%s) of %s does not have the %d columns of its table", c.Op, m.src, n)
	}
	if err := m.deepDelete(c); err != nil {
		return nil, err
	}
	if m.json {
		if err := errors.Join(m.checkNotes(c.After), m.checkNotes(c.Before)); err != nil {
			return nil, err
		}
	}
	row := c.Before
	if !before {
		row = c.After
	}
	missing := absent(row, m.key)
	switch {
	case c.Part && (m.key == nil || missing >= 0):
		return nil, fmt.Errorf("a row of %s is part of a row of the target's %s.%s, and no primary key finds that: "+
			"give it one, of columns that all its parts have", m.src, m.to.schema, m.to.name)
	case missing >= 0:
	case m.key == nil && before && !slices.ContainsFunc(m.whole(), func(i int) bool { return row[i].Kind() != dfs.Absent }):
		return nil, fmt.Errorf("a row image of %s has no column that the target's %s.%s could find the row by: "+
			"set binlog_row_image=FULL on the source", m.src, m.to.schema, m.to.name)
	default:
		return m, nil
	}
	for _, o := range m.others {
		if (o.key != nil || c.Op == dfs.Insert) && absent(row, o.key) < 0 {
			return o, nil
		}
	}
	o := *m
	o.others, o.events = nil, nil
	if c.Op == dfs.Insert {
		// The default is the key. Nothing of the table moves across it.
		o.key, o.keyName, o.keyOrd, o.ordered = nil, "", "", true
	} else if o.findKeys(m.present(row)); o.key == nil {
		return nil, fmt.Errorf("a row image of %s lacks the column %s, which the target's %s.%s needs to find the row: "+
			"give the target a unique key of the source's key columns, or set binlog_row_image=FULL on the source",
			m.src, m.columns[missing].name, m.to.schema, m.to.name)
	}
	m.others = append(m.others, &o)
	return &o, nil
}

// whole returns the columns that the target stores.
func (m *mapping) whole() (cols []int) {
	for i := range m.columns {
		if m.columns[i].to >= 0 {
			cols = append(cols, i)
		}
	}
	return cols
}

// absent returns the first of the columns that the row leaves out, or -1.
func absent(row dfs.Row, cols []int) int {
	for _, i := range cols {
		if row[i].Kind() == dfs.Absent {
			return i
		}
	}
	return -1
}

// keyChanges reports whether an update gives its row another key.
func (m *mapping) keyChanges(c *dfs.Change) bool { return changes(c, m.key) }

func changes(c *dfs.Change, cols []int) bool {
	for _, i := range cols {
		if c.After[i] != c.Before[i] && c.After[i].Kind() != dfs.Absent {
			return true
		}
	}
	return false
}

// newKey returns a row with the key that an update leaves.
func (m *mapping) newKey(c *dfs.Change) dfs.Row {
	for _, i := range m.key {
		if c.After[i].Kind() == dfs.Absent {
			return overlay(c.Before, c.After)
		}
	}
	return c.After
}

// sameKey reports whether a row of m and one of om, which is of the same table
// of the target, have keys of the same bytes.
func (m *mapping) sameKey(a dfs.Row, om *mapping, b dfs.Row) bool {
	if b == nil || m != om && (len(m.key) != len(om.key) || m.keyOrd != om.keyOrd) {
		return false
	}
	for k, i := range m.key {
		if a[i] != b[om.key[k]] {
			return false
		}
	}
	return true
}

// changed returns the columns that an update must write, in the memory of s.
func (m *mapping) changed(s colset, c *dfs.Change) colset {
	n := (len(m.columns) + 63) / 64
	if cap(s) < n {
		s = make(colset, n)
	}
	s = s[:n]
	clear(s)
	for i := range m.columns {
		if m.columns[i].to >= 0 && c.After[i] != c.Before[i] && c.After[i].Kind() != dfs.Absent {
			s.add(i)
		}
	}
	if !s.empty() && !m.alwaysOn.empty() {
		for i := range m.columns {
			// Left out, the target would set it to the present time.
			if m.alwaysOn.has(i) && c.After[i].Kind() != dfs.Absent {
				s.add(i)
			}
		}
	}
	return s
}

// present returns the columns that an inserted row has, nil if it has all.
func (m *mapping) present(row dfs.Row) colset {
	for i := range row {
		if row[i].Kind() != dfs.Absent {
			continue
		}
		s := newColset(len(row))
		for j := range row {
			if row[j].Kind() != dfs.Absent {
				s.add(j)
			}
		}
		return s
	}
	return nil
}

// has reports whether the row holds a value for each column of s.
func (m *mapping) has(row dfs.Row, s colset) bool {
	for i := range row {
		if row[i].Kind() == dfs.Absent && s.has(i) {
			return false
		}
	}
	return true
}

// overlay returns row with the values that over has.
func overlay(row, over dfs.Row) dfs.Row {
	whole := true
	for i := range over {
		whole = whole && over[i].Kind() != dfs.Absent
	}
	if whole {
		return over
	}
	out := append(dfs.Row(nil), row...)
	for i := range over {
		if over[i].Kind() != dfs.Absent {
			out[i] = over[i]
		}
	}
	return out
}
