package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A page is rows of the source that were read.
type page struct {
	values []dfs.Row
	keys   []bound
	err    error
}

// forward compares what the rows of a table of the source become. It goes no further
// than to the row that was the last when it began, so that it ends however quickly rows
// come behind that.
func (m *mapper) forward(ctx context.Context, s *origins, along *feed, t *TableReport) error {
	end, err := s.last(ctx, m.source.db, s.from, &s.fromSQL)
	if err != nil || end == nil {
		return err
	}
	// One page is read while the one before is compared.
	reading, cancel := context.WithCancel(ctx)
	read := func(lo bound) chan page {
		out := make(chan page, 1)
		limit := m.pace.limit(m.pageRows())
		go func() {
			var p page
			p.values, p.keys, p.err = m.read(reading, m.source.db, s, fmt.Sprintf("%s ORDER BY %s LIMIT %d",
				s.within(s.from, lo, end), strings.Join(s.fromSQL.keys, ","), limit), s.fromSQL.index)
			out <- p
		}()
		return out
	}
	next := read(nil)
	defer func() {
		if cancel(); next != nil {
			<-next
		}
	}()
	var early []earlyRow
	var behind bound // the key on the target of the last row, if all rows up to it were compared with a range
	for {
		p := <-next
		if next = nil; p.err != nil {
			return fmt.Errorf("read rows of the source: %w", p.err)
		}
		if m.measure(p); len(p.keys) > 0 {
			next = read(p.keys[len(p.keys)-1])
		}
		made, young, err := m.makeCarried(ctx, s, p.values, p.keys)
		if err != nil {
			return err
		}
		if len(young) > 0 && along != nil {
			along, behind = nil, nil // all of the target is looked through after that
			m.order[0].t.TargetRows = 0
		}
		switch {
		case along == nil:
			err = m.find(ctx, made)
		case len(made) > 0:
			err = m.compareAlongside(ctx, along, made, behind)
			behind = made[len(made)-1].key
		}
		if err != nil {
			return err
		}
		early = append(early, young...)
		if len(early) >= suspectsAtOnce || len(p.keys) == 0 {
			if err := m.overtaken(ctx, s, early); err != nil {
				return err
			}
			early = nil
		}
		t.Rows += uint64(len(p.keys))
		m.count(t, uint64(len(p.keys)))
		if err := m.settleAll(ctx, len(p.keys) == 0); err != nil {
			return err
		}
		if len(p.keys) == 0 {
			if along != nil {
				along.job.behind = behind
			}
			return nil
		}
		if slices.ContainsFunc(m.order, func(j *job) bool { return j.t.More }) {
			return nil
		}
		m.pace.spend(ctx, uint64(len(p.keys)))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pageRows is how many rows of a table are read at once: of TargetRows as many as fit
// into pageBytes, as it was with the last page, and few at first.
func (m *mapper) pageRows() int {
	switch {
	case m.TargetRows == nil:
		return mappedRows
	case m.rowBytes == 0:
		return storedFirst
	}
	return min(storedRows, max(1, pageBytes/m.rowBytes))
}

// measure notes how large the rows of a page were.
func (m *mapper) measure(p page) {
	n := 0
	for _, row := range p.values {
		n += 40 * len(row)
		for i := range row {
			n += len(row[i].Text())
		}
	}
	if len(p.values) > 0 {
		m.rowBytes = max(1, n/len(p.values))
	}
}

// last returns the greatest key of a table, or nil if it has no rows.
func (p *plan) last(ctx context.Context, q querier, t *table, side *sqlSide) (bound, error) {
	var forms, order []string
	for k, i := range p.key {
		forms, order = append(forms, side.forms[i]), append(order, side.keys[k]+" DESC")
	}
	rows, err := query(ctx, q, "SELECT "+strings.Join(forms, ",")+" FROM "+side.table+side.index+" ORDER BY "+strings.Join(order, ",")+" LIMIT 1")
	if err != nil {
		return nil, fmt.Errorf("read the last key of %s: %w", t, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return rows[0], nil
}

// settleAll settles the suspects of all tables, if there are many or if all is
// set.
func (m *mapper) settleAll(ctx context.Context, all bool) error {
	for _, j := range m.order {
		if all && len(j.suspects) > 0 || len(j.suspects) >= suspectsAtOnce {
			if err := j.settle(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads rows of the source as stages get them, and their keys.
func (m *mapper) read(ctx context.Context, q querier, s *origins, where, index string) (values []dfs.Row, keys []bound, err error) {
	err = m.readEach(ctx, q, s, s.exprs, where, index, func(row dfs.Row, key bound) error {
		values, keys = append(values, row), append(keys, key)
		return nil
	})
	return values, keys, err
}

// readKeys is read, of the columns of the key only.
func (m *mapper) readKeys(ctx context.Context, q querier, s *origins, where, index string) (values []dfs.Row, keys []bound, err error) {
	exprs := make([]string, len(s.exprs))
	for i := range exprs {
		if exprs[i] = "NULL"; slices.Contains(s.key, i) {
			exprs[i] = s.exprs[i]
		}
	}
	err = m.readEach(ctx, q, s, exprs, where, index, func(row dfs.Row, key bound) error {
		for i := range row {
			if !slices.Contains(s.key, i) {
				row[i] = dfs.AbsentValue()
			}
		}
		values, keys = append(values, row), append(keys, key)
		return nil
	})
	return values, keys, err
}

// readEach calls f with each row of the source, and its key.
func (m *mapper) readEach(ctx context.Context, q querier, s *origins, list []string, where, index string, f func(row dfs.Row, key bound) error) error {
	for _, i := range s.key {
		list = append(list[:len(list):len(list)], s.fromSQL.forms[i])
	}
	return each(ctx, q, "SELECT "+strings.Join(list, ",")+" FROM "+s.fromSQL.table+index+" WHERE "+where, func(r []cell) error {
		row := make(dfs.Row, len(s.exprs))
		for i := range row {
			var err error
			if c := &s.from.columns[i]; m.TargetRows != nil && octets(c) > 0 && !r[i].null {
				row[i] = dfs.BytesValue([]byte(r[i].text))
			} else if row[i], err = c.value(r[i]); err != nil {
				return fmt.Errorf("column %s: %w", s.from.columns[i].name, err)
			}
		}
		return f(row, append(bound(nil), r[len(s.exprs):]...))
	})
}
