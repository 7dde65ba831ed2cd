package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dataflowsync/dfs/internal/match"
)

// A task is tables of the source whose rows come together in the same tables of
// the target: mostly one of each.
type task struct {
	from [][2]string // names on the source
	to   [2]string   // the name on the target, if no stage makes others
}

// jobs returns what is to be compared, in the order of the source's names.
func (r *run) jobs(ctx context.Context) ([]task, error) {
	names, err := r.source.list(ctx)
	if err != nil {
		return nil, err
	}
	var tasks []task
	at := make(map[[2]string]int)
	for _, n := range names {
		if !r.tables.Follows(n[0], n[1]) {
			continue
		}
		var to [2]string
		to[0], to[1] = match.Target(r.routes, n[0], n[1])
		if i, ok := at[to]; ok {
			tasks[i].from = append(tasks[i].from, n)
			continue
		}
		at[to] = len(tasks)
		tasks = append(tasks, task{from: [][2]string{n}, to: to})
	}
	if len(tasks) == 0 {
		return nil, errors.New("the source has no table that is to be compared, or the account may see none: look at Tables, and GRANT SELECT on them")
	}
	return tasks, nil
}

// do compares the tables of a task.
func (r *run) do(ctx context.Context, k task) []*TableReport {
	began := time.Now()
	t := &TableReport{Target: k.to[0] + "." + k.to[1], Began: began}
	for i, n := range k.from {
		if i > 0 {
			t.Source += ","
		}
		t.Source += n[0] + "." + n[1]
	}
	if len(k.from) > 1 {
		t.untold("the rows of %d tables come together in one", len(k.from))
	} else if err := r.compareTables(ctx, k, t); err != nil && ctx.Err() == nil && !errors.Is(err, errStands) {
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
		return fmt.Errorf("the source's table has the engine %s, which has no transactions, so that nothing can be proved of rows that change: ALTER TABLE %s ENGINE=InnoDB", from.engine, from.ident())
	}
	return j.compare(ctx)
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
