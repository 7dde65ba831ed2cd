package dpu

import (
	"context"
	"slices"

	"github.com/dataflowsync/dfs"
)

// byRows adds the difference between the rows that a RowFunc made of the row as
// it was and makes of the row as it is.
func (s *Units) byRows(ctx context.Context, o *output, made dfs.Change, was, is bool, before, after image) error {
	var old, now []dfs.Row
	var err error
	if was {
		if old, err = o.rows.run(ctx, s, o, before.view); err != nil {
			return err
		}
	}
	if is {
		if now, err = o.rows.run(ctx, s, o, after.view); err != nil {
			return err
		}
	}
	pair := func(rows []dfs.Row, row dfs.Row) int {
		if o.table.Key == nil && (len(old) != 1 || len(now) != 1) {
			return -1
		}
		return o.find(rows, row)
	}
	for _, b := range slices.Backward(old) {
		if pair(now, b) >= 0 {
			continue
		}
		made.Op, made.Before, made.After = dfs.Delete, b, nil
		if err := s.finish(ctx, o, made); err != nil {
			return err
		}
	}
	for _, a := range now {
		made.Op, made.Before, made.After = dfs.Insert, nil, a
		if i := pair(old, a); i >= 0 {
			made.Op, made.Before = dfs.Update, old[i]
		}
		if err := s.finish(ctx, o, made); err != nil {
			return err
		}
	}
	return nil
}

// find returns the index of the row with the key of row, or -1; any row has the
// key of a table without one.
func (o *output) find(rows []dfs.Row, row dfs.Row) int {
	return slices.IndexFunc(rows, func(r dfs.Row) bool { return sameKey(o.table, r, row) })
}
