package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A Shape is a table that stages make of one of the source's.
type Shape struct {
	// Table is the table as the stages make it, before Routes.
	Table *dfs.Table

	// From has for each of Table's columns the name of the source's column whose
	// values it has as they were, and is empty where values are made or changed. By
	// these columns the row of the source is found that a row of the target comes
	// from.
	From []string

	// Old, if set, is for stages that give rows new ids, which it takes back: From
	// names the source's column also where a column has a new id in its place. It is
	// given what the target has in the columns that From has for the key of the
	// source's table, in the key's order, and returns that key as text. It reports
	// false if no row was given that.
	Old func(ctx context.Context, key []dfs.Value) (old []string, ok bool, err error)
}

// shapesOf returns what becomes of a table of the source.
func (c *checked) shapesOf(t *dfs.Table) ([]Shape, error) {
	if len(c.Stages) > 0 {
		if c.Shapes == nil {
			return nil, nil // what comes out tells
		}
		return c.Shapes(t)
	}
	s := Shape{Table: t}
	for i := range t.Columns {
		s.From = append(s.From, t.Columns[i].Name)
	}
	return []Shape{s}, nil
}

// plain reports whether rows with these shapes are those of the source, so that
// servers can compare them.
func plain(t *dfs.Table, shapes []Shape) bool {
	return len(shapes) == 1 && shapes[0].Old == nil && shapes[0].Table != nil && shapes[0].Table.String() == t.String() && len(shapes[0].From) == len(t.Columns) &&
		!slices.ContainsFunc(t.Columns, func(c dfs.Column) bool { return !slices.Contains(shapes[0].From, c.Name) }) &&
		slices.EqualFunc(t.Columns, shapes[0].Table.Columns, func(a, b dfs.Column) bool { return a.Name == b.Name && a.Type == b.Type })
}

// A feed is how rows of the target are traced back to a table of the source.
type feed struct {
	of  *origins
	to  []int // for each column of the source's key, the column of the target
	old func(ctx context.Context, key []dfs.Value) (old []string, ok bool, err error)
	job *job

	// Of TargetRows: exact says that a key of the target is that of one row of the source,
	// and made are the columns of to as stages make them.
	exact bool
	made  []column
}

// newFeed returns how rows are traced, and whether they can be.
func newFeed(s *origins, shape Shape, j *job) (feed, bool) {
	f := feed{of: s, old: shape.Old, job: j, exact: true}
	for _, i := range s.key {
		c := &s.from.columns[i]
		at := slices.IndexFunc(shape.From, func(name string) bool { return strings.EqualFold(name, c.name) })
		if at < 0 {
			return f, false
		}
		k := j.to.column(shape.Table.Columns[at].Name)
		if k < 0 {
			return f, false
		}
		if j.stored != nil {
			made := newColumn(shape.Table.Columns[at].Name, shape.Table.Columns[at].Type)
			f.made = append(f.made, made)
			fits := j.stored.fits[shape.Table]
			f.exact = f.exact && fits != nil && fits.exact[at]
		}
		if f.old != nil || j.stored != nil {
			f.to = append(f.to, k)
			continue
		}
		d := &j.to.columns[k]
		q := newPair(c, d, false, true)
		if !q.exact || q.norm != nil || c.class() == classText && !sameCharset(c.charset, d.charset) || c.class() == classEnum || c.class() == classSet ||
			c.arg(0, 0) != d.arg(0, 0) && (c.class() == classTime || c.class() == classDateTime) {
			return f, false
		}
		f.to = append(f.to, k)
	}
	return f, true
}

// byKey reports whether the key of the target's table is made of the columns of the
// source's key, so that no others are needed to trace rows.
func (f *feed) byKey() bool {
	return len(f.to) == len(f.job.key) && !slices.ContainsFunc(f.job.key, func(i int) bool { return !slices.Contains(f.to, i) })
}

// key returns the key of the source's row that a row of the target would come
// from, and false if none can have it.
func (f *feed) key(ctx context.Context, row []cell) (bound, bool, error) {
	key := make(bound, len(f.to))
	values := make([]dfs.Value, len(f.to))
	for i, at := range f.to {
		if row[at].null {
			return nil, false, nil
		}
		key[i] = row[at]
		if f.job.stored != nil && f.old == nil {
			var ok bool
			if key[i], ok = fromStored(&f.of.from.columns[f.of.key[i]], row[at]); !ok {
				return nil, false, nil
			}
			continue
		}
		if f.old != nil {
			var err error
			if f.job.stored != nil {
				c, ok := fromStored(&f.made[i], row[at])
				if !ok {
					return nil, false, nil
				}
				if values[i], err = f.made[i].value(c); err != nil {
					return nil, false, fmt.Errorf("column %s: %w", f.made[i].name, err)
				}
				continue
			}
			if values[i], err = f.job.to.columns[at].value(row[at]); err != nil {
				return nil, false, fmt.Errorf("column %s: %w", f.job.to.columns[at].name, err)
			}
		}
	}
	if f.old == nil {
		return key, true, nil
	}
	old, ok, err := f.old(ctx, values)
	if err != nil {
		return nil, false, fmt.Errorf("looking up the old key of a row: %w", err)
	}
	for i := range old {
		key[i] = cell{text: old[i]}
	}
	return key, ok, nil
}

// String names the tables of a task.
func (k task) String() string {
	var names []string
	for _, n := range k.from {
		names = append(names, n[0]+"."+n[1])
	}
	return strings.Join(names, ",")
}

// group puts the tables of the source together whose rows meet in a table of the
// target.
func (c *checked) group(tables []*dfs.Table) ([]task, error) {
	var tasks []task
	at := make(map[string]int) // the task of a table of the target
	for _, t := range tables {
		shapes, err := c.shapesOf(t)
		if err != nil {
			return nil, fmt.Errorf("what stages make of %s: %w", t, err)
		}
		k := task{from: [][2]string{{t.Schema, t.Name}}, mapped: c.TargetRows != nil || len(c.Stages) > 0 && !plain(t, shapes)}
		k.to[0], k.to[1] = match.Target(c.routes, t.Schema, t.Name)
		into := []string{k.to[0] + "." + k.to[1]}
		if k.mapped {
			into = nil
		}
		for _, s := range shapes {
			if s.Table != nil {
				schema, name := match.Target(c.routes, s.Table.Schema, s.Table.Name)
				into = append(into, schema+"."+name)
			}
		}
		if k.mapped && c.Shapes != nil && into == nil {
			continue // its rows go nowhere
		}
		meets := len(tasks)
		for _, name := range into {
			if i, ok := at[name]; ok && i < meets {
				meets = i
			}
		}
		if meets == len(tasks) {
			tasks = append(tasks, k)
		} else {
			first := &tasks[meets]
			first.from = append(first.from, k.from...)
			first.mapped = true
		}
		// Those that were apart, and meet by this table.
		for _, name := range into {
			i, ok := at[name]
			if ok && i != meets {
				tasks[meets].from = append(tasks[meets].from, tasks[i].from...)
				tasks[i].from = nil
				for other, k := range at {
					if k == i {
						at[other] = meets
					}
				}
			}
			at[name] = meets
		}
	}
	return slices.DeleteFunc(tasks, func(k task) bool { return k.from == nil }), nil
}
