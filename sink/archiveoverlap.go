package sink

import (
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
)

// overlap rewrites the changes that came while a copy of rows was archived beside
// them, so that they can be applied where some of the rows are missing yet: before a
// row is changed or deleted it is put, whatever the target has. The copy brings all
// others. So the target has at each place a part of what the source had.
//
// Rows are put without a look at foreign keys, as parents may be missing. But what the
// source's foreign keys did to other rows need not be in its log, so deletes, and
// updates of columns that other tables refer to, act on the target as they did there.
func (r *Restore) overlap(tx *dfs.Transaction) error {
	out := make([]dfs.Change, 0, 2*len(tx.Changes))
	for _, c := range tx.Changes {
		if c.Op == dfs.DDL {
			out = append(out, c)
			continue
		}
		if slices.ContainsFunc(c.Before, isAbsent) || slices.ContainsFunc(c.After, isAbsent) && c.Op != dfs.Insert {
			return fmt.Errorf("transaction %s changes a row of %s while a copy of it was archived, and its log has not all columns of the row: "+
				"restore to a place before the copy, or from an earlier one", txName(tx.Seq, tx.ID), c.Table)
		}
		row := c.Before
		if c.Op == dfs.Insert {
			row = c.After
		}
		out = append(out, dfs.Change{Op: dfs.Insert, Table: c.Table, After: row, Overwrite: true, NoForeignKeys: true})
		switch c.Op {
		case dfs.Update:
			c.NoForeignKeys = c.NoForeignKeys || !r.moves(&c)
			out = append(out, c)
		case dfs.Delete:
			out = append(out, c)
		}
	}
	tx.Changes = out
	return nil
}

// moves reports whether an update changes a column that other tables refer to, as far
// as the archive knows how they are made, or the primary key.
func (r *Restore) moves(c *dfs.Change) bool {
	differs := func(i int) bool { return i >= 0 && c.Before[i] != c.After[i] }
	if slices.ContainsFunc(c.Table.Key, differs) {
		return true
	}
	for _, name := range r.referenced[c.Table.String()] {
		if differs(c.Table.Column(name)) {
			return true
		}
	}
	return false
}

// findReferenced finds out which columns of tables others refer to.
func (r *Restore) findReferenced(defined []Definition) {
	r.referenced = make(map[string][]string)
	for _, d := range defined {
		def, err := readDefinition(d.SQL)
		if err != nil {
			continue // it is known by its columns only
		}
		for _, item := range def.items {
			if f, _, ok := readForeign(item, d.Table.Schema); ok {
				name := f.schema + "." + f.table
				r.referenced[name] = append(r.referenced[name], f.parentColumns...)
			}
		}
	}
}

func isAbsent(v dfs.Value) bool { return v.Kind() == dfs.Absent }
