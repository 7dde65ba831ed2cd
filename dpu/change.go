package dpu

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A Func is given one change and emits what is to take its place: none, one or
// several, all in the same transaction. It must emit the same for the same
// change, since recovery may repeat it. Rows must not be written to; With and To
// make new ones. The change is valid until Func returns.
type Func func(ctx context.Context, c Change, emit func(Change)) error

// A Change is a dfs.Change whose columns go by name.
type Change struct {
	dfs.Change
	s   *Units
	o   *output
	err error // what was wrong with making it; emit reports it
}

// Get returns the named column's value: after the change or, for a Delete,
// before it. It is Absent if there is no such column or the log left it out.
func (c Change) Get(column string) dfs.Value {
	row := c.After
	if c.Op == dfs.Delete {
		row = c.Before
	}
	return c.value(row, column)
}

// Was returns the named column's value before the change. It is Absent for an
// Insert.
func (c Change) Was(column string) dfs.Value { return c.value(c.Before, column) }

func (c Change) value(row dfs.Row, column string) dfs.Value {
	if i := c.Table.Column(column); i >= 0 && i < len(row) {
		return row[i]
	}
	return dfs.AbsentValue()
}

// With returns a copy of c in which the named column holds v, after the change
// or, for a Delete, before it.
func (c Change) With(column string, v dfs.Value) Change {
	i := c.Table.Column(column)
	if i < 0 {
		return c.wrong("With: %s has no column %s", c.Table, column)
	}
	row := &c.After
	if c.Op == dfs.Delete {
		row = &c.Before
	}
	*row = slices.Clone(*row)
	(*row)[i] = v
	return c
}

// To returns a copy of c for another table, "schema.table", with only the named
// columns, or all if none is named. The new table's primary key is the old one's
// if all its columns are there.
func (c Change) To(table string, columns ...string) Change {
	t, from, err := c.o.project(c.Table, table, columns)
	if err != nil {
		return c.wrong("To: %v", err)
	}
	for _, row := range [2]*dfs.Row{&c.Before, &c.After} {
		if *row == nil || from == nil {
			continue
		}
		r := c.s.alloc(len(from))
		for k, i := range from {
			r[k] = (*row)[i]
		}
		*row = r
	}
	c.Table = t
	return c
}

func (c Change) wrong(format string, args ...any) Change {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
	return c
}

// project returns the table with some columns of t, and their indexes; nil
// indexes stand for all. The same arguments give the same table.
func (o *output) project(t *dfs.Table, name string, columns []string) (*dfs.Table, []int, error) {
	key := fmt.Sprintf("%p %s", t, name) + " " + strings.Join(columns, ",")
	var from []int
	for _, c := range columns {
		i := t.Column(c)
		if i < 0 {
			return nil, nil, fmt.Errorf("%s has no column %s", t, c)
		}
		from = append(from, i)
	}
	if made := o.tables[key]; made != nil {
		return made, from, nil
	}
	schema, table, ok := strings.Cut(name, ".")
	if !ok || schema == "" || table == "" {
		return nil, nil, fmt.Errorf("%q names no table; write it as \"schema.table\"", name)
	}
	made := &dfs.Table{Schema: schema, Name: table, Columns: t.Columns, Key: t.Key}
	if from != nil {
		made.Columns, made.Key = nil, nil
		for _, i := range from {
			made.Columns = append(made.Columns, t.Columns[i])
		}
		for _, k := range t.Key {
			at := slices.Index(from, k)
			if at < 0 {
				made.Key = nil
				break
			}
			made.Key = append(made.Key, at)
		}
	}
	if len(o.tables) >= 1000 { // names that come from rows have no end
		clear(o.tables)
	}
	o.tables[key] = made
	return made, from, nil
}

// call gives the last change made to the unit's Func.
func (s *Units) call(ctx context.Context, o *output) error {
	n := len(s.out) - 1
	c := Change{Change: s.out[n], s: s, o: o}
	s.out = s.out[:n]
	var wrong error
	count := s.emitter(o)
	err := s.outside(func() error {
		return o.u.Func(ctx, c, func(made Change) {
			if !count.takes(made.Before, made.After) {
				return
			}
			err := made.err
			if err == nil && made.Op != dfs.DDL {
				err = o.emitted(&made.Change)
			}
			if err != nil && wrong == nil {
				wrong = err
			}
			s.out = append(s.out, made.Change)
		})
	})
	if err != nil {
		return err
	}
	return wrong
}

// emitted checks what a Func emits.
func (o *output) emitted(c *dfs.Change) error {
	if c.Table == nil {
		return fmt.Errorf("the function emitted a change without a table")
	}
	if err := checkRows(c); err != nil {
		return fmt.Errorf("the function emitted %w", err)
	}
	if o.emits == nil {
		return nil
	}
	for _, t := range o.emits {
		if t == c.Table || t.Schema == c.Table.Schema && t.Name == c.Table.Name && sameTable(t, c.Table) {
			return nil
		}
	}
	return fmt.Errorf("the function emitted a change of %s that Emits does not describe", c.Table)
}
