package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// A task is tables of the source whose rows come together in the same tables of
// the target: mostly one of each.
type task struct {
	from   [][2]string // names on the source
	to     [2]string   // the name on the target, unless mapped
	mapped bool        // rows are changed on their way, or come from several tables
}

// jobs returns what is to be compared, in the order of the source's names.
func (r *run) jobs(ctx context.Context) ([]task, error) {
	names, err := r.source.list(ctx)
	if err != nil {
		return nil, err
	}
	var tables []*dfs.Table
	for _, n := range names {
		if !r.tables.Follows(n[0], n[1]) {
			continue
		}
		t := &dfs.Table{Schema: n[0], Name: n[1]}
		if len(r.Stages) > 0 && r.Shapes != nil {
			d, err := r.source.describe(ctx, n[0], n[1])
			if err != nil {
				return nil, fmt.Errorf("read the columns of %s: %w", t, err)
			}
			if d == nil {
				continue
			}
			t = d.dfs()
		}
		tables = append(tables, t)
	}
	if len(tables) == 0 {
		return nil, errors.New("the source has no table that is to be compared, or the account may see none: look at Tables, and GRANT SELECT on them")
	}
	return r.group(tables)
}

// do compares the tables of a task.
func (r *run) do(ctx context.Context, k task) []*TableReport {
	if k.mapped {
		return r.compareMapped(ctx, k)
	}
	began := time.Now()
	t := &TableReport{Source: k.String(), Target: k.to[0] + "." + k.to[1], Began: began}
	if err := r.compareTables(ctx, k, t); err != nil && ctx.Err() == nil && !errors.Is(err, errStands) {
		t.untold("%v", err)
	}
	slices.SortStableFunc(t.Findings, func(a, b Finding) int { return slices.CompareFunc(a.Key, b.Key, compareCells) })
	t.Took = time.Since(began)
	if ctx.Err() != nil {
		t.untold("the comparison was ended")
	}
	t.verdict()
	r.done(t)
	return []*TableReport{t}
}

func (r *run) compareTables(ctx context.Context, k task, t *TableReport) error {
	from, err := r.source.describe(ctx, k.from[0][0], k.from[0][1])
	if err != nil {
		return fmt.Errorf("read the columns on the source: %w", err)
	}
	if from == nil {
		return errors.New("the source no longer has the table")
	}
	to, err := r.target.describe(ctx, k.to[0], k.to[1])
	if err != nil {
		return fmt.Errorf("read the columns on the target: %w", err)
	}
	if to == nil {
		return fmt.Errorf("the target has no table %s.%s, or the account may not see it: create it, or GRANT SELECT on it", k.to[0], k.to[1])
	}
	p, err := r.newPlan(from, to)
	if err != nil {
		return err
	}
	t.Notes = p.notes
	j := &job{run: r, plan: p, t: t}
	if from.engine != "innodb" {
		return noTransactions(from)
	}
	return j.compare(ctx)
}

// noTransactions says why a table of the source cannot be compared.
func noTransactions(t *table) error {
	return fmt.Errorf("the source's table has the engine %s, which has no transactions, so that nothing can be proved of rows that change: ALTER TABLE %s ENGINE=InnoDB", t.engine, t.ident())
}

// compareCells orders findings: numbers by size, all else as text.
func compareCells(a, b Cell) int {
	x, y := a.Source+a.Target, b.Source+b.Target
	if a.Source != "" && a.Target != "" {
		x = a.Source
	}
	if b.Source != "" && b.Target != "" {
		y = b.Source
	}
	if len(x) != len(y) && x != "" && y != "" && x[0] <= '9' && y[0] <= '9' {
		return len(x) - len(y)
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
