package cdc

import "github.com/dataflowsync/dfs"

// Row images that leave columns out. With binlog_row_image=MINIMAL the image
// before holds what tells rows apart (the primary key or, without one, a unique
// key without NULL; without that, everything), and the image after what the
// statement has set. NOBLOB leaves BLOB, TEXT, JSON and GEOMETRY out where they
// are neither needed nor set. What an image leaves out is dfs.Absent.
//
// What an INSERT leaves out has the constant default of its column, as the source
// knew it. Defaults that are computed are always logged, on MySQL. See
// TestSparseImages.

// sparseChange reads the images of one row, in which columns may be left out.
func (d *decoder) sparseChange(r *reader, im *images, c *dfs.Change) error {
	row, err := d.sparseRow(r, im.plan, im.before, nil)
	switch im.kind {
	case evWriteRows1:
		c.Op, c.After = dfs.Insert, row
	case evDeleteRows1:
		c.Op, c.Before = dfs.Delete, row
	default:
		c.Op, c.Before = dfs.Update, row
		if err == nil {
			c.After, err = d.sparseRow(r, im.plan, im.after, nil)
		}
	}
	return err
}

// sparseRow reads one row image of the columns in has. It has a bit for each of
// these that says whether it is NULL, and the values of the others. If special is
// not nil it is asked to read each value that is there, and reports whether it has.
func (d *decoder) sparseRow(r *reader, p *plan, has []byte, special func(i int, v *dfs.Value) (bool, error)) (dfs.Row, error) {
	n := 0
	for i := range p.columns {
		n += int(has[i/8] >> (i % 8) & 1)
	}
	nulls := r.bytes((n + 7) / 8)
	if r.bad {
		return nil, errShortEvent
	}
	row := d.newRow(len(p.columns))
	n = 0 // the columns of the image so far
	for i := range row {
		if has[i/8]&(1<<(i%8)) == 0 {
			row[i] = dfs.AbsentValue()
			continue
		}
		null := nulls[n/8]&(1<<(n%8)) != 0
		n++
		if null {
			continue
		}
		done := false
		var err error
		if special != nil {
			done, err = special(i, &row[i])
		}
		if err == nil && !done {
			err = d.value(r, &p.columns[i], &row[i])
		}
		if err != nil {
			return nil, p.columnError(i, err)
		}
	}
	return row, nil
}
