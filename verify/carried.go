package verify

import (
	"context"
	"errors"

	"github.com/dataflowsync/dfs"
)

// Stages may look up what the pipeline has made, such as the new ids of rows. Then they
// cannot tell what becomes of a row that the pipeline has not carried yet, and say so by
// an error of the method NotCarried. What they could tell once, they can tell for ever.

// notCarried reports whether a stage has said that the pipeline has not carried a row.
func notCarried(err error) bool {
	var e interface{ NotCarried() bool }
	return errors.As(err, &e) && e.NotCarried()
}

// An earlyRow is a row of the source that the pipeline had not carried when the stages
// were asked.
type earlyRow struct {
	values dfs.Row
	key    bound
	why    error
}

// makeCarried is make, and tells which of the rows were not carried yet.
func (m *mapper) makeCarried(ctx context.Context, s *origins, values []dfs.Row, keys []bound) (made []madeRow, early []earlyRow, err error) {
	if len(values) == 0 {
		return nil, nil, nil
	}
	made, err = m.make(ctx, s, values, keys)
	if err == nil || !notCarried(err) {
		return made, nil, err
	}
	if len(values) == 1 {
		return nil, []earlyRow{{values[0], keys[0], err}}, nil
	}
	// By halves, since few are early.
	half := len(values) / 2
	for _, part := range [2][2]int{{0, half}, {half, len(values)}} {
		some, young, err := m.makeCarried(ctx, s, values[part[0]:part[1]], keys[part[0]:part[1]])
		if err != nil {
			return nil, nil, err
		}
		made, early = append(made, some...), append(early, young...)
	}
	return made, early, nil
}

// overtaken looks at rows again that had not been carried, once the pipeline has passed
// the place at which they were read.
//
// Invariant (no false alarm): a row was in the source before the place that pass then
// reads, and so was each row that made it what it was. The pipeline has carried all
// that when it is there, so a stage that still cannot tell what becomes of the row as
// it was never will: the pipeline has left it out. All others are compared as usual.
func (m *mapper) overtaken(ctx context.Context, s *origins, rows []earlyRow) error {
	if len(rows) == 0 {
		return nil
	}
	at, err := m.pass(ctx, m.patience())
	if err != nil {
		return err
	}
	for _, r := range rows {
		made, young, err := m.makeCarried(ctx, s, []dfs.Row{r.values}, []bound{r.key})
		if err != nil {
			return err
		}
		if len(young) > 0 {
			m.leftOut(s, r.key, at, young[0].why)
			continue
		}
		if err := m.find(ctx, made); err != nil {
			return err
		}
	}
	return nil
}

// leftOut reports a row of the source that the pipeline has not carried.
func (m *mapper) leftOut(s *origins, key bound, at string, why error) {
	if len(m.order) == 0 {
		return
	}
	j := m.order[0]
	f := Finding{Table: s.table.String(), Kind: MissingRow, At: at, Why: why.Error()}
	for k, i := range s.key {
		f.Key = append(f.Key, Cell{Column: s.from.columns[i].name, Source: show(key[k], s.pairs[i].plain())})
	}
	if !j.t.More {
		j.add(f)
	}
}
