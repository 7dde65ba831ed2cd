package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// An UnfitError says that a value of the source cannot be held by the target's
// column, and by which option or change of the target it can.
type UnfitError struct {
	Column string // of the source
	Value  string // shortened
	Why    string // what is wrong with it, and the cure
}

func (e *UnfitError) Error() string {
	return fmt.Sprintf("column %s: %s: %s", e.Column, e.Value, e.Why)
}

// mayRetry reports whether applying the changes in pieces could help, or at least
// tell which of them is at fault.
func (c *core) mayRetry(err error) bool {
	var unfit *UnfitError
	return errors.Is(err, errCount) || errors.As(err, &unfit) || c.db.serverError(err) && !errors.Is(err, dfs.ErrTransient)
}

// pieces applies a run that could not be merged as a whole: see MySQL.pieces.
func (c *core) pieces(ctx context.Context, list []item) error {
	if len(list) <= serialMost {
		for _, it := range list {
			if err := c.one(ctx, it); err != nil {
				return &stopError{it.tx.Seq, err}
			}
		}
		return nil
	}
	half := len(list) / 2
	for _, part := range [2][]item{list[:half], list[half:]} {
		// Merging reads what the target says of tables, which must not come between.
		err := c.merged(ctx, part, []stmt{{sql: "SAVEPOINT dfs_piece", want: uncounted}})
		if err != nil {
			if !c.mayRetry(err) {
				return err
			}
			c.stats.fallbacks.Add(1)
			if err := c.run(ctx, "ROLLBACK TO SAVEPOINT dfs_piece"); err != nil {
				return err
			}
			if err := c.pieces(ctx, part); err != nil {
				return err
			}
		}
		if err := c.run(ctx, "RELEASE SAVEPOINT dfs_piece"); err != nil {
			return err
		}
	}
	return nil
}

func (c *core) run(ctx context.Context, sql string) error {
	_, err := c.db.exec(ctx, stmt{sql: sql, want: uncounted})
	return err
}

// one applies a single change, and does what the table's policy says if it conflicts
// with what the target holds.
func (c *core) one(ctx context.Context, it item) error {
	err := c.change(ctx, it)
	if errors.Is(err, errIgnored) {
		return nil
	}
	return err
}

// change is one, but for errIgnored.
func (c *core) change(ctx context.Context, it item) error {
	mp, err := c.mapping(ctx, it.c.Table)
	if err == nil {
		mp, err = mp.locate(it.c)
	}
	if err != nil {
		if errors.Is(err, dfs.ErrTransient) {
			return err
		}
		return fmt.Errorf("transaction %s: %w", txName(it.tx.Seq, it.tx.ID), err)
	}
	if it.c.Part && it.c.Op == dfs.Update {
		for _, ch := range mp.splitPart(it.c) {
			if err := c.one(ctx, item{&ch, it.tx}); err != nil {
				return err
			}
		}
		return nil
	}
	if it.c.Overwrite && it.c.Op == dfs.Insert {
		steps, err := mp.splitOver(it.c)
		if err != nil {
			return err
		}
		if err := c.run(ctx, "SAVEPOINT dfs_over"); err != nil {
			return err
		}
		for i := range steps {
			err := c.change(ctx, item{&steps[i], it.tx})
			if errors.Is(err, errIgnored) {
				// The row whose place it was to take stays.
				if e := c.run(ctx, "ROLLBACK TO SAVEPOINT dfs_over"); e != nil {
					return e
				}
			}
			if err != nil {
				return err
			}
		}
		return c.run(ctx, "RELEASE SAVEPOINT dfs_over")
	}
	g := &group{m: mp, op: it.c.Op, noFK: it.c.NoForeignKeys, part: it.c.Part, spare: it.c.Overwrite, serial: true}
	r := &rowOp{it.c.Before, it.c.After}
	if g.op == dfs.Update && mp.changed(nil, it.c).empty() {
		return nil
	}
	if c.merger != nil {
		c.stats.serial.Add(1)
	}
	return refused(c.oneRow(ctx, it, g, r), func() string { return c.statementsFor(g, r) })
}

func (c *core) oneRow(ctx context.Context, it item, g *group, r *rowOp) error {
	policy := c.policy(g.m.to)
	// Only where the sink goes on after an error need it be undone by itself.
	if policy != PolicyError {
		if err := c.run(ctx, "SAVEPOINT dfs_row"); err != nil {
			return err
		}
	}
	undo := func() error {
		if policy == PolicyError {
			return nil
		}
		return c.run(ctx, "ROLLBACK TO SAVEPOINT dfs_row")
	}
	done := func(err error) error {
		if policy == PolicyError || err != nil && !errors.Is(err, errIgnored) {
			return err
		}
		return errors.Join(err, c.run(ctx, "RELEASE SAVEPOINT dfs_row"))
	}
	n, err := c.row(ctx, g, r)
	if err == nil && (n == 1 || g.spare) {
		return done(nil)
	}
	broken, duplicate := c.db.constraint(err)
	if err != nil && !broken {
		return fmt.Errorf("applying the %s of %s (%s) in transaction %s: %w",
			g.op, g.m.to.key, g.m.describe(r), txName(it.tx.Seq, it.tx.ID), c.standing(c.db.explain(err, g.m.to)))
	}
	conflict := &ConflictError{Table: g.m.to.key, Key: g.m.describe(r), Op: g.op, Seq: it.tx.Seq, ID: it.tx.ID, Err: err}
	c.stats.conflict(g.m.to.key, policy)
	switch {
	case policy == PolicyIgnore:
		if e := undo(); e != nil {
			return e
		}
		return done(errIgnored)
	case policy == PolicyOverwrite && !g.part && (err == nil || duplicate):
		if e := undo(); e != nil {
			return e
		}
		return done(c.overwrite(ctx, g, r, conflict))
	}
	return conflict
}

func (c *core) standing(err error) error {
	if c.db.stands(err) {
		return dfs.Standing(err)
	}
	return err
}

// row executes the statements for a single row and returns how many rows they
// matched of those that they must.
func (c *core) row(ctx context.Context, g *group, r *rowOp) (int64, error) {
	if err := c.db.foreignKeys(ctx, g.m.to, g.noFK); err != nil {
		return 0, err
	}
	list, err := c.statements(g, r)
	if err != nil {
		return 0, err
	}
	matched := int64(1)
	for i, s := range list {
		want := s.want
		s.want = uncounted
		n, err := c.db.exec(ctx, s)
		if err != nil {
			return 0, err
		}
		if want >= 0 || i == 0 && len(list) == 1 {
			matched = n
		}
	}
	if g.noFK {
		return matched, c.db.foreignKeys(ctx, nil, false)
	}
	return matched, nil
}

// statements returns what applies a single row.
func (c *core) statements(g *group, r *rowOp) ([]stmt, error) {
	if g.part {
		return c.partStatements(g, r)
	}
	s, err := c.single(g, r)
	return []stmt{s}, err
}

// builder makes a statement with arguments.
type builder struct {
	c    *core
	sql  strings.Builder
	args []any
	err  error
}

func (b *builder) write(s ...string) {
	for _, s := range s {
		b.sql.WriteString(s)
	}
}

// value writes the place of a value of column i.
func (b *builder) value(m *mapping, i int, v dfs.Value) {
	b.write(b.place(m, i, v))
}

func (b *builder) place(m *mapping, i int, v dfs.Value) string {
	a, err := b.c.db.arg(m, i, v)
	if err != nil && b.err == nil {
		b.err = err
	}
	b.args = append(b.args, a)
	return b.c.db.place(len(b.args))
}

// where writes what finds a row by its key or, without one, one of the rows that are
// like it in everything.
func (b *builder) where(m *mapping, row dfs.Row) {
	cols := m.key
	var own builder
	w := b
	if m.key == nil {
		for _, i := range m.whole() {
			if row[i].Kind() != dfs.Absent {
				cols = append(cols, i)
			}
		}
		own = builder{c: b.c, args: b.args}
		w = &own
	}
	w.equal(m, cols, row)
	if m.key == nil {
		b.args, b.err = w.args, errors.Join(b.err, w.err)
		b.write(b.c.db.oneOf(m.to, w.sql.String()))
	}
}

func (b *builder) equal(m *mapping, cols []int, row dfs.Row) {
	for k, i := range cols {
		if k > 0 {
			b.write(" AND ")
		}
		if a, err := b.c.db.arg(m, i, row[i]); err == nil && a == nil {
			b.write(quoteName(m.columns[i].name), " IS NULL")
			continue
		}
		b.write(b.c.db.equal(m, i, b.place(m, i, row[i])))
	}
}

func (b *builder) done(want int64) (stmt, error) {
	return stmt{b.sql.String(), b.args, want}, b.err
}

// quoteName quotes an identifier as standard SQL does.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// single returns the statement that applies one row.
func (c *core) single(g *group, r *rowOp) (stmt, error) {
	m, b := g.m, &builder{c: c}
	table := c.db.ident(m.to)
	switch g.op {
	case dfs.Insert:
		c.insert(b, m, r.after)
		return b.done(g.wants(1))
	case dfs.Delete:
		b.write("DELETE FROM ", table, " WHERE ")
	default:
		s := g.cols
		if s == nil {
			s = m.changed(nil, &dfs.Change{Op: dfs.Update, Before: r.before, After: r.after})
		}
		b.write("UPDATE ", table, " SET ")
		first := true
		for i := range m.columns {
			if !s.has(i) {
				continue
			}
			if !first {
				b.write(",")
			}
			first = false
			b.write(quoteName(m.columns[i].name), "=")
			b.value(m, i, r.after[i])
		}
		b.write(" WHERE ")
	}
	b.where(m, r.before)
	return b.done(g.wants(1))
}

// insert writes an INSERT of the columns that the row has.
func (c *core) insert(b *builder, m *mapping, row dfs.Row) {
	b.write("INSERT INTO ", c.db.ident(m.to))
	cols := m.written(m.present(row))
	if len(cols) == 0 {
		b.write(" DEFAULT VALUES")
		return
	}
	b.write(" (", m.names(cols), ")", m.to.overriding, " VALUES (")
	for k, i := range cols {
		if k > 0 {
			b.write(",")
		}
		b.value(m, i, row[i])
	}
	b.write(")")
}

// written returns the columns of s, all if it is nil, that the target stores.
func (m *mapping) written(s colset) (cols []int) {
	for i := range m.columns {
		if m.columns[i].to >= 0 && (s == nil || s.has(i)) {
			cols = append(cols, i)
		}
	}
	return cols
}

// names returns the quoted names of columns.
func (m *mapping) names(cols []int) string {
	var b strings.Builder
	for k, i := range cols {
		if k > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoteName(m.columns[i].name))
	}
	return b.String()
}

// partStatements returns what applies a part of a row: see part.go.
func (c *core) partStatements(g *group, r *rowOp) ([]stmt, error) {
	m := g.m
	if g.op == dfs.Insert {
		b := &builder{c: c}
		c.insert(b, m, r.after)
		b.write(" ON CONFLICT (", m.names(m.key), ") DO NOTHING")
		put, err1 := b.done(uncounted)
		set, err2 := c.single(&group{m: m, op: dfs.Update, cols: m.partColumns(m.present(r.after))}, &rowOp{r.after, r.after})
		set.want = 1
		return []stmt{put, set}, errors.Join(err1, err2)
	}
	b := &builder{c: c}
	b.write("DELETE FROM ", c.db.ident(m.to), " WHERE ")
	b.where(m, r.before)
	for j := range m.to.columns {
		if tc := &m.to.columns[j]; tc.nullable && !tc.generated && !m.targetKey(j) {
			b.write(" AND ", quoteName(tc.name), " IS NULL")
		}
	}
	remove, err := b.done(uncounted)
	set := m.partColumns(nil)
	if set.has(m.key[0]) || err != nil {
		return []stmt{remove}, err // it has no columns of its own
	}
	clear, err := c.single(&group{m: m, op: dfs.Update, cols: set}, &rowOp{r.before, make(dfs.Row, len(m.columns))})
	clear.want = uncounted
	return []stmt{clear, remove}, err
}

// overwrite makes the row what the source has.
func (c *core) overwrite(ctx context.Context, g *group, r *rowOp, conflict *ConflictError) error {
	if g.op == dfs.Delete {
		return nil // it is gone already
	}
	fail := func(err error) error {
		if errors.Is(err, dfs.ErrTransient) {
			return err
		}
		conflict.Err = err
		return conflict
	}
	mp := g.m
	image := r.after
	if g.op == dfs.Update {
		image = overlay(r.before, r.after)
	}
	if mp.present(image) != nil {
		return fail(errors.Join(conflict.Err, errors.New("the row image leaves columns out, so that what the whole row is to be is not known: "+
			"set binlog_row_image=FULL on the source")))
	}
	row := func(op dfs.Op, cols colset, before, after dfs.Row) (int64, error) {
		return c.row(ctx, &group{m: mp, op: op, cols: cols, noFK: g.noFK}, &rowOp{before, after})
	}
	if mp.key == nil {
		// No row is like the one before, so none can be in the way.
		if _, err := row(dfs.Insert, nil, nil, image); err != nil {
			return fail(err)
		}
		return nil
	}
	// Away with every other row that holds one of its unique values.
	for _, u := range mp.uniques {
		b := &builder{c: c}
		b.write("DELETE FROM ", c.db.ident(mp.to), " WHERE ")
		if slices.ContainsFunc(u.cols, func(i int) bool { a, err := c.db.arg(mp, i, image[i]); return err == nil && a == nil }) {
			continue // NULL is equal to nothing
		}
		b.equal(mp, u.cols, image)
		b.write(" AND NOT (")
		b.equal(mp, mp.key, image)
		b.write(")")
		if g.op == dfs.Update {
			b.write(" AND NOT (")
			b.equal(mp, mp.key, r.before)
			b.write(")")
		}
		s, err := b.done(uncounted)
		if err == nil {
			_, err = c.db.exec(ctx, s)
		}
		if err != nil {
			return fail(err)
		}
	}
	whole := newColset(len(image))
	for _, i := range mp.whole() {
		whole.add(i)
	}
	old := r.before
	if old == nil {
		old = image
	}
	if !mp.sameKey(old, mp, image) {
		// The row moves to a key at which there may be another.
		if _, err := row(dfs.Delete, nil, image, nil); err != nil {
			return fail(err)
		}
	}
	n, err := row(dfs.Update, whole, old, image)
	if err == nil && n == 0 {
		_, err = row(dfs.Insert, nil, nil, image)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
