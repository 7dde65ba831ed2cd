package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A mapper compares tables whose rows are changed on their way, or come together
// from several tables: it reads rows of the source, lets the stages make of them
// what they make, and looks for that on the target. And the other way: it reads
// keys of the target, and looks whether the rows of the source that they come from
// make such rows.
type mapper struct {
	*run
	sources []*origins
	jobs    map[string]*job // by table of the target
	order   []*job

	rowBytes int // of a row of the source, as of the last page
}

// origins is a table of the source.
type origins struct {
	*plan // of the table with itself: its key and how that is ordered
	table *dfs.Table
	exprs []string
	// shapes say what is made of its rows.
	shapes []Shape
	plain  bool // rows stay as they are, so that no stage need be asked
}

// An origin is a row of the source.
type origin struct {
	of  *origins
	key bound
}

// A made row is one that the target must have.
type madeRow struct {
	of  origin
	job *job
	row []cell
	key bound

	change dfs.Change // as the stages made it; of TargetRows only
}

const (
	mappedRows  = 500  // of a table that are read at once
	storedRows  = 2000 // of TargetRows, at most
	storedFirst = 100
	pageBytes   = 4 << 20
	inList      = 100 // keys in one statement
	storedList  = 500 // of which only keys are read, mostly
)

// compareMapped compares what comes from some tables of the source.
func (r *run) compareMapped(ctx context.Context, k task) []*TableReport {
	m := &mapper{run: r, jobs: make(map[string]*job)}
	began := time.Now()
	first := &TableReport{Source: k.String(), Began: began}
	fail := func(err error) []*TableReport {
		if ctx.Err() != nil {
			err = errors.New("the comparison was ended")
		}
		if !errors.Is(err, errStands) {
			first.untold("%v", err)
		}
		return m.reports(first, began)
	}
	if m.TargetRows != nil && len(k.from) == 1 {
		if done, err := m.compareStoredBags(ctx, k, first); err != nil {
			return fail(err)
		} else if done {
			return m.reports(first, began)
		}
	}
	for _, n := range k.from {
		if err := m.add(ctx, n); err != nil {
			return fail(fmt.Errorf("%s.%s: %w", n[0], n[1], err))
		}
	}
	for _, s := range m.sources {
		for _, shape := range s.shapes {
			j, err := m.job(ctx, shape.Table)
			if err == nil && j.stored != nil {
				_, err = j.fit(ctx, shape.Table)
			}
			if err != nil {
				return fail(err)
			}
		}
	}
	along, err := m.alongside(ctx)
	if err != nil {
		return fail(err)
	}
	for _, s := range m.sources {
		if err := m.forward(ctx, s, along, first); err != nil {
			return fail(fmt.Errorf("%s: %w", s.table, err))
		}
	}
	for _, j := range m.order {
		if j.t.More || j.keepsExtra(j.to) {
			continue
		}
		if err := m.backward(ctx, j); err != nil {
			return fail(fmt.Errorf("%s: %w", j.to, err))
		}
	}
	return m.reports(first, began)
}

// reports puts what was found about the tables of the target into the report of
// their sources.
func (m *mapper) reports(t *TableReport, began time.Time) []*TableReport {
	var names []string
	for _, j := range m.order {
		names = append(names, j.to.String())
		t.TargetRows += j.t.TargetRows
		t.Looked += j.t.Looked
		t.Missing, t.Extra, t.Different, t.Repaired = t.Missing+j.t.Missing, t.Extra+j.t.Extra, t.Different+j.t.Different, t.Repaired+j.t.Repaired
		t.Repairable += j.t.Repairable
		t.Findings, t.More = append(t.Findings, j.t.Findings...), t.More || j.t.More
		t.Untold, t.Notes = append(t.Untold, j.t.Untold...), append(t.Notes, j.t.Notes...)
	}
	t.Target = strings.Join(names, ",")
	t.Took = time.Since(began)
	t.verdict()
	m.done(t)
	return []*TableReport{t}
}

// add reads a table of the source.
func (m *mapper) add(ctx context.Context, name [2]string) error {
	t, err := m.source.describe(ctx, name[0], name[1])
	if err != nil {
		return fmt.Errorf("read the columns on the source: %w", err)
	}
	if t == nil {
		return errors.New("the source no longer has the table")
	}
	if t.engine != "innodb" {
		return noTransactions(t)
	}
	p, err := selfPlan(t, m.TargetRows != nil)
	if err != nil {
		return err
	}
	s := &origins{plan: p, table: t.dfs()}
	for i := range t.columns {
		s.exprs = append(s.exprs, t.columns[i].valueExpr())
	}
	if s.shapes, err = m.shapesOf(s.table); err != nil {
		return err
	}
	s.plain = plain(s.table, s.shapes)
	if m.TargetRows != nil {
		for i := range t.columns {
			if c := &t.columns[i]; octets(c) > 0 {
				s.exprs[i] = asOctets(c) // as the log has it
			}
		}
	}
	m.sources = append(m.sources, s)
	return nil
}

// selfPlan returns a plan of a table with itself, by which rows are found and put
// into order. A source of TargetRows is not compared with a target by it, so that it
// needs no form that servers have in common.
func selfPlan(t *table, alone bool) (*plan, error) {
	p := &plan{from: t, to: t}
	for i := range t.columns {
		c := &t.columns[i]
		q := newPair(c, c, false, true)
		q.fromExpr, q.norm = c.form()
		q.toExpr = q.fromExpr
		p.pairs = append(p.pairs, q)
	}
	for _, i := range t.key() {
		p.key = append(p.key, i)
		if alone && t.columns[i].pages() {
			p.pairs[i].norm = nil
			continue
		}
		if !p.pairs[i].ordered || p.pairs[i].norm != nil {
			return nil, fmt.Errorf("the key of %s has the column %s of type %s, by which rows cannot be read in order here", t, t.columns[i].name, t.columns[i].base)
		}
	}
	if p.key == nil {
		return nil, fmt.Errorf("%s has no key, so that nothing tells what became of a row: add a primary key", t)
	}
	p.fromIndex = t.indexOver(p.key)
	p.toIndex = p.fromIndex
	p.fromSQL = p.side(t, p.fromIndex, func(q *pair) string { return q.fromExpr })
	p.toSQL = p.fromSQL
	return p, nil
}

// job returns the comparison of a table of the target, by the name that stages
// give it.
func (m *mapper) job(ctx context.Context, t *dfs.Table) (*job, error) {
	schema, name := match.Target(m.routes, t.Schema, t.Name)
	full := schema + "." + name
	if j := m.jobs[full]; j != nil {
		return j, nil
	}
	if m.TargetRows != nil {
		j, err := m.storedJob(ctx, schema, name)
		if err == nil && j.key == nil {
			err = fmt.Errorf("the target's table %s has no key, by which its rows could be found: add a primary key", full)
		}
		if err != nil {
			return nil, err
		}
		m.jobs[full] = j
		m.order = append(m.order, j)
		return j, nil
	}
	to, err := m.target.describe(ctx, schema, name)
	if err != nil {
		return nil, fmt.Errorf("read the columns on the target: %w", err)
	}
	if to == nil {
		return nil, fmt.Errorf("the target has no table %s, or the account may not see it: create it, or GRANT SELECT on it", full)
	}
	p, err := selfPlan(to, false)
	if err != nil {
		return nil, err
	}
	j := &job{run: m.run, plan: p, t: &TableReport{Target: full}, mapper: m}
	m.jobs[full] = j
	m.order = append(m.order, j)
	return j, nil
}

// make lets the stages make what they make of rows of the source. Each row is a
// transaction, so that what comes out tells what it came from. The values stay as
// they are.
func (m *mapper) make(ctx context.Context, s *origins, values []dfs.Row, keys []bound) (out []madeRow, err error) {
	if s.plain && m.TargetRows != nil {
		return m.makePlain(ctx, s, values, keys)
	}
	batch := make([]*dfs.Transaction, len(values))
	for i, row := range values {
		batch[i] = &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: uint64(i) + 1}, Changes: []dfs.Change{{Op: dfs.Insert, Table: s.table, After: slices.Clone(row)}}}
	}
	for i, stage := range m.Stages {
		if len(batch) == 0 {
			break
		}
		if err := stage.Process(ctx, batch); err != nil {
			return nil, fmt.Errorf("stage %d: %w", i+1, err)
		}
	}
	for i, tx := range batch {
		for _, c := range tx.Changes {
			if c.After == nil || c.Table == nil || c.Op == dfs.DDL {
				continue
			}
			j, err := m.job(ctx, c.Table)
			if err != nil {
				return nil, err
			}
			if j.stored != nil {
				r, err := j.storedRow(ctx, c.Table, c.After)
				if err == nil {
					out, err = j.made(out, origin{s, keys[i]}, r, c)
				}
				if err != nil {
					return nil, err
				}
				continue
			}
			row := make([]cell, len(j.pairs))
			for k := range row {
				row[k].absent = true
			}
			for k, v := range c.After {
				col := &c.Table.Columns[k]
				at := j.to.column(col.Name)
				if at < 0 {
					return nil, fmt.Errorf("the target's table %s has no column %s, which the stages make: add it", j.to, col.Name)
				}
				if j.to.columns[at].generated || covers(m.ignore, j.to, col.Name) {
					continue
				}
				if row[at], err = m.run.made(ctx, v, col, &j.to.columns[at]); err != nil {
					return nil, fmt.Errorf("%s: %w", j.to, err)
				}
			}
			if out, err = j.made(out, origin{s, keys[i]}, row, dfs.Change{}); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// made appends a row that the target must have.
func (j *job) made(out []madeRow, of origin, row []cell, c dfs.Change) ([]madeRow, error) {
	made := madeRow{of: of, job: j, row: row, key: j.keyOf(row), change: c}
	if slices.ContainsFunc(made.key, func(c cell) bool { return c.absent }) {
		return nil, fmt.Errorf("there is no value for the key of the target's table %s, by which its rows could be found", j.to)
	}
	return append(out, made), nil
}

// makePlain is make for a table of TargetRows whose rows no stage changes.
func (m *mapper) makePlain(ctx context.Context, s *origins, values []dfs.Row, keys []bound) (out []madeRow, err error) {
	j, err := m.job(ctx, s.table)
	if err != nil {
		return nil, err
	}
	out = make([]madeRow, 0, len(values))
	for i, row := range values {
		r, err := j.storedRow(ctx, s.table, row)
		if err == nil {
			out, err = j.made(out, origin{s, keys[i]}, r, dfs.Change{Op: dfs.Insert, Table: s.table, After: row})
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// find looks for rows on the target, and makes suspects of what is not there as it
// should be.
func (m *mapper) find(ctx context.Context, made []madeRow) error {
	for _, j := range m.order {
		var mine []madeRow
		for _, r := range made {
			if r.job == j {
				mine = append(mine, r)
			}
		}
		if j.stored != nil {
			if err := j.findStored(ctx, mine); err != nil {
				return err
			}
			continue
		}
		for part := range slices.Chunk(mine, inList) {
			var conds []string
			for _, r := range part {
				conds = append(conds, "("+j.equals(j.to, r.key)+")")
			}
			has := make(map[string][]cell)
			err := each(ctx, m.target.db, "SELECT "+strings.Join(j.toSQL.forms, ",")+" FROM "+j.toSQL.table+" WHERE "+strings.Join(conds, " OR "), func(r []cell) error {
				row := j.normal(append([]cell(nil), r...))
				has[j.keyOf(row).id()] = row
				return nil
			})
			if err != nil {
				return fmt.Errorf("read rows of the target: %w", err)
			}
			for _, r := range part {
				if row, ok := has[r.key.id()]; !ok || !slices.EqualFunc(r.row, row, cell.is) {
					j.t.Looked++
					j.suspects = append(j.suspects, suspect{key: r.key, from: []origin{r.of}})
				}
			}
		}
	}
	return nil
}

// wanted reads the rows that a suspect may come from. What it returns tells, once the
// pipeline has passed that, what the target must have for its key.
func (m *mapper) wanted(ctx context.Context, q querier, j *job, s suspect, lock string) (wanted, error) {
	values, keys := make([][]dfs.Row, len(s.from)), make([][]bound, len(s.from))
	for i, o := range s.from {
		var err error
		if values[i], keys[i], err = m.read(ctx, q, o.of, o.of.equals(o.of.from, o.key)+lock, ""); err != nil {
			return nil, err
		}
	}
	return func() (want [][]cell, of []dfs.Change, err error) {
		for i, o := range s.from {
			made, young, err := m.makeCarried(ctx, o.of, values[i], keys[i])
			if err != nil {
				return nil, nil, err
			}
			if len(young) > 0 {
				return nil, nil, young[0].why
			}
			for _, r := range made {
				if r.job != j {
					continue
				}
				ok := r.key.id() == s.key.id()
				if !ok {
					if ok, err = m.sameKey(ctx, j, r.key, s.key); err != nil {
						return nil, nil, err
					}
				}
				if !ok {
					continue
				}
				of = append(of, r.change)
				if want == nil {
					want = [][]cell{r.row}
					continue
				}
				// Several make parts of one row.
				for i, c := range r.row {
					if want[0][i].absent {
						want[0][i] = c
					}
				}
			}
		}
		return want, of, nil
	}, nil
}

// sameKey reports whether the target takes two keys for one, as a collation does
// with letters of either case.
func (m *mapper) sameKey(ctx context.Context, j *job, a, b bound) (same bool, err error) {
	if j.stored != nil {
		err := j.storedWith(ctx, []bound{a}, func(row []cell) { same = same || j.keyOf(row).id() == b.id() })
		return same, err
	}
	rows, err := query(ctx, m.target.db, "SELECT COUNT(*) FROM "+j.toSQL.table+" WHERE "+j.equals(j.to, a)+" AND "+j.equals(j.to, b))
	return err == nil && rows[0][0].text != "0", err
}

// backward looks for rows of the target that no row of the source makes.
func (m *mapper) backward(ctx context.Context, j *job) error {
	var feeds []feed
	for _, s := range m.sources {
		for _, shape := range s.shapes {
			schema, name := match.Target(m.routes, shape.Table.Schema, shape.Table.Name)
			if schema+"."+name != j.to.schema+"."+j.to.name {
				continue
			}
			f, ok := newFeed(s, shape, j)
			if !ok {
				j.t.untold("which rows of %s are too many: its columns do not tell from which row of %s one comes", j.to, s.table)
				return nil
			}
			feeds = append(feeds, f)
		}
	}
	if feeds == nil {
		j.t.untold("which rows of %s are too many: set Shapes", j.to)
		return nil
	}
	end, read, err := j.pages(ctx, feeds)
	if err != nil {
		return err
	}
	lo := j.behind
	for {
		var rows [][]cell
		if end != nil {
			if rows, err = read(lo, end, m.pace.limit(m.pageRows())); err != nil {
				return fmt.Errorf("read rows of the target: %w", err)
			}
		}
		j.t.TargetRows += uint64(len(rows))
		if len(rows) > 0 {
			lo = j.keyOf(rows[len(rows)-1])
		}
		if err := m.trace(ctx, j, feeds, rows); err != nil {
			return err
		}
		if err := m.settleAll(ctx, len(rows) == 0); err != nil || len(rows) == 0 || j.t.More {
			if j.others > 0 {
				j.t.Notes = append(j.t.Notes, fmt.Sprintf("%d rows of %s have ids that no row of the source was given: they are others', and left alone", j.others, j.to))
			}
			if err == nil {
				err = m.resolve(ctx, j)
			}
			return err
		}
		m.pace.spend(ctx, uint64(len(rows)))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pages returns how rows of the target are read in the order of their keys, and the last
// key, which is not passed so that rows which come meanwhile keep nobody from coming to
// the end.
func (j *job) pages(ctx context.Context, feeds []feed) (end bound, read func(lo, hi bound, limit int) ([][]cell, error), err error) {
	if j.stored != nil {
		last, err := j.TargetRows.Last(ctx, j.stored.to)
		if err != nil {
			return nil, nil, fmt.Errorf("read the last key of %s: %w", j.to, err)
		}
		for _, v := range last {
			end = append(end, toCell(v))
		}
		keysOnly := !slices.ContainsFunc(feeds, func(f feed) bool { return !f.byKey() })
		return end, func(lo, hi bound, limit int) ([][]cell, error) { return j.storedBetween(ctx, keysOnly, lo, hi, limit) }, nil
	}
	end, err = j.last(ctx, j.target.db, j.to, &j.toSQL)
	return end, func(lo, hi bound, limit int) (rows [][]cell, err error) {
		err = each(ctx, j.target.db, fmt.Sprintf("SELECT %s FROM %s%s WHERE %s ORDER BY %s LIMIT %d", strings.Join(j.toSQL.forms, ","), j.toSQL.table, j.toSQL.index,
			j.within(j.to, lo, hi), strings.Join(j.toSQL.keys, ","), limit), func(r []cell) error {
			rows = append(rows, append([]cell(nil), r...))
			return nil
		})
		return rows, err
	}, err
}

// trace makes suspects of those rows of the target that the rows of the source
// do not make from which they would come.
func (m *mapper) trace(ctx context.Context, j *job, feeds []feed, rows [][]cell) error {
	size := inList
	if j.stored != nil {
		size = storedList
	}
	for part := range slices.Chunk(rows, size) {
		expected := make(map[string]bool)
		froms := make([][]origin, len(part))
		others := make([]int, len(part)) // feeds that gave the row no such id
		for _, f := range feeds {
			var conds []string
			for i, row := range part {
				key, ok, err := f.key(ctx, row)
				if err != nil {
					return err
				}
				if !ok && f.old != nil {
					others[i]++
				}
				if !ok {
					continue // no row of that table makes it
				}
				froms[i] = append(froms[i], origin{f.of, key})
				conds = append(conds, "("+f.of.equals(f.of.from, key)+")")
			}
			if conds == nil {
				continue
			}
			read := m.read
			if j.stored != nil && f.of.plain && f.byKey() {
				read = m.readKeys
			}
			values, keys, err := read(ctx, m.source.db, f.of, strings.Join(conds, " OR "), "")
			if err != nil {
				return fmt.Errorf("read rows of the source: %w", err)
			}
			made, _, err := m.makeCarried(ctx, f.of, values, keys)
			if err != nil {
				return err
			}
			for _, r := range made {
				if r.job == j {
					expected[r.key.id()] = true
				}
			}
		}
		for i, row := range part {
			if others[i] == len(feeds) {
				j.others++
				continue
			}
			if key := j.keyOf(j.normal(row)); !expected[key.id()] {
				j.t.Looked++
				j.suspects = append(j.suspects, suspect{key: key, from: froms[i], whole: true, doubt: slices.ContainsFunc(feeds, func(f feed) bool { return !f.exact })})
			}
		}
	}
	return nil
}
