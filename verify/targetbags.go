package verify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// compareStoredBags compares a table of TargetRows that has no key on one of the sides,
// or one of floating point, as compareBags does. It reports false if it has keys, or if stages change its rows.
func (m *mapper) compareStoredBags(ctx context.Context, k task, first *TableReport) (done bool, err error) {
	from, err := m.source.describe(ctx, k.from[0][0], k.from[0][1])
	if err != nil {
		return false, fmt.Errorf("read the columns on the source: %w", err)
	}
	if from == nil {
		return false, errors.New("the source no longer has the table")
	}
	s := &origins{plan: &plan{from: from, to: from, fromSQL: sqlSide{table: from.ident()}}, table: from.dfs()}
	if s.shapes, err = m.shapesOf(s.table); err != nil || !plain(s.table, s.shapes) {
		return false, err
	}
	s.plain = true
	j, err := m.storedJob(ctx, k.to[0], k.to[1])
	if err != nil {
		return false, err
	}
	if from.key() != nil && j.key != nil && !slices.ContainsFunc(from.key(), func(i int) bool { return !from.columns[i].pages() }) {
		return false, nil
	}
	if from.engine != "innodb" {
		return false, noTransactions(from)
	}
	for i := range from.columns {
		c := &from.columns[i]
		if s.exprs = append(s.exprs, c.valueExpr()); octets(c) > 0 {
			s.exprs[i] = asOctets(c)
		}
	}
	if _, err := j.fit(ctx, s.table); err != nil {
		return false, err
	}
	m.sources, m.order = append(m.sources, s), append(m.order, j)
	j.key, j.inGo, j.t.Source = nil, true, first.Source
	if from.key() != nil {
		j.t.Notes = append(j.t.Notes, "the key cannot be read in parts here, or the target's table has none, so that all of it is compared at once")
	}
	err = j.compareBags(ctx)
	first.Rows, j.t.Rows = j.t.Rows, 0
	return true, err
}

// writtenForms returns a row of the target in which columns are absent that the sink
// does not write.
func (j *job) writtenForms(ctx context.Context) ([]cell, error) {
	s := j.mapper.sources[0]
	nulls := make(dfs.Row, len(s.table.Columns))
	for i := range nulls {
		nulls[i] = dfs.NullValue()
	}
	return j.storedRow(ctx, s.table, nulls)
}

// storedDigest hashes a row of forms, and leaves out of it what is not written.
func (j *job) storedDigest(written, row []cell) (d digest) {
	for i := range row {
		if written[i].absent {
			row[i] = cell{absent: true}
		}
	}
	h := sha256.New()
	io.WriteString(h, bound(row).id())
	copy(d[:], h.Sum(nil))
	return d
}

// storedDigests calls f with the digest of each row of one side and the row, of the source
// also as stages get it.
func (j *job) storedDigests(ctx context.Context, q querier, source bool, lock string, f func(d digest, row []cell, values dfs.Row)) error {
	written, err := j.writtenForms(ctx)
	if err != nil {
		return err
	}
	if source {
		s := j.mapper.sources[0]
		return j.mapper.readEach(ctx, q, s, s.exprs, "TRUE"+lock, "", func(row dfs.Row, _ bound) error {
			cells, err := j.storedRow(ctx, s.table, row)
			if err == nil {
				f(j.storedDigest(written, cells), cells, row)
			}
			return err
		})
	}
	return j.TargetRows.Range(ctx, j.stored.to, false, nil, nil, 0, func(row dfs.Row) error {
		cells := j.cells(row)
		f(j.storedDigest(written, cells), cells, nil)
		return nil
	})
}

// countStored reads all rows of both sides.
func (j *job) countStored(ctx context.Context) (a, b sum, err error) {
	rows, err := query(ctx, j.source.db, "SELECT COUNT(*) FROM "+j.mapper.sources[0].fromSQL.table)
	if err != nil {
		return a, b, fmt.Errorf("count the rows of the source: %w", err)
	}
	if n, err := strconv.ParseUint(rows[0][0].text, 10, 64); err != nil || n > j.inMemory() {
		return sum{rows: n}, b, err // bagsByPart counts those of the target
	}
	if err = j.storedDigests(ctx, j.source.db, true, "", func(digest, []cell, dfs.Row) { a.rows++ }); err != nil {
		return a, b, fmt.Errorf("read rows of the source: %w", err)
	}
	if err = j.storedDigests(ctx, nil, false, "", func(digest, []cell, dfs.Row) { b.rows++ }); err != nil {
		return a, b, fmt.Errorf("read rows of the target: %w", err)
	}
	return a, b, nil
}

// storedExamples finds a row for each of the bags.
func (j *job) storedExamples(ctx context.Context, q querier, at map[string]*bag) error {
	take := func(d digest, row []cell, values dfs.Row) {
		if x := at[string(d[:])]; x != nil && x.row == nil {
			x.row, x.made = row, values
		}
	}
	if err := j.storedDigests(ctx, q, true, "", take); err != nil {
		return fmt.Errorf("read rows of the source: %w", err)
	}
	if err := j.storedDigests(ctx, nil, false, "", take); err != nil {
		return fmt.Errorf("read rows of the target: %w", err)
	}
	return nil
}
