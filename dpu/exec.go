package dpu

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/rowkey"
)

// exec is the state of Process. What it makes lives in slabs: memory for many
// rows that is allocated at once and never written again.
type exec struct {
	out       []dfs.Change
	slab      []dfs.Value
	args      []dfs.Value
	view      []dfs.Value // the row at hand, with what was looked up
	last      *dfs.Table
	lastPlan  *plan
	committed time.Time

	// Where it stands, for errors.
	choosing *unit  // its Match is asked
	part     string // such as Lookups[0], for what is of no row
	at       *output
	column   string
	inWhere  bool
	change   *dfs.Change
}

// slabSize is how many values a slab holds: 16 KiB.
const slabSize = 512

// Process gives each change to its units: see dfs.Stage. An error is an *Error,
// unless it is about a statement; the batch is then to be thrown away.
func (s *Units) Process(ctx context.Context, batch []*dfs.Transaction) error {
	if unit := s.guard.late.Load(); unit != nil {
		return &Error{Unit: *unit, Err: errors.New("its function emitted after it had returned; what that was is lost")}
	}
	if s.guard.limit > 0 {
		return s.watched(ctx, batch)
	}
	return s.process(ctx, batch)
}

func (s *Units) process(ctx context.Context, batch []*dfs.Transaction) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case tooMuch:
			err = s.fail(p.error)
		default:
			err = s.fail(&PanicError{p, debug.Stack()})
		}
		s.forget()
	}()
	if err := s.fetch(ctx, batch); err != nil {
		return err
	}
	for _, tx := range batch {
		touched := false
		for i := range tx.Changes {
			c := &tx.Changes[i]
			p, err := s.plan(c.Table)
			if err != nil {
				return dfs.Standing(err) // it is the same for each row of the table
			}
			if touched = c.Op == dfs.DDL || !p.keep; touched {
				break
			}
		}
		if touched {
			if err := s.transaction(ctx, tx); err != nil {
				return err
			}
			failpoint.Hit("dpu.process")
		}
	}
	return nil
}

// forget lets go of the batch.
func (s *Units) forget() {
	clear(s.out[:cap(s.out)])
	if cap(s.out) > 4096 {
		s.out = nil
	}
	clear(s.args[:cap(s.args)])
	clear(s.view[:cap(s.view)])
	s.guard.mu.Lock()
	if !s.guard.lost { // else a later call tells of it
		s.stand()
	}
	s.guard.mu.Unlock()
	for _, u := range s.units {
		for _, j := range u.joins {
			j.forget()
		}
	}
}

// stand forgets where it stands.
func (s *Units) stand() {
	s.choosing, s.part, s.at, s.column, s.inWhere, s.change = nil, "", nil, "", false, nil
}

// fail names where err happened.
func (s *Units) fail(err error) error {
	switch {
	case s.at == nil && s.choosing != nil:
		return &Error{Unit: s.choosing.name, Err: fmt.Errorf("its Match: %w", err)}
	case s.at == nil:
		return fmt.Errorf("choosing units: %w", err)
	case s.part != "":
		return &Error{Unit: s.at.u.name, Err: fmt.Errorf("%s: %w", s.part, err)}
	case s.inWhere:
		err = fmt.Errorf("its condition: %w", err)
	}
	e := &Error{Unit: s.at.u.name, Table: s.at.src.String(), Column: s.column, Err: err}
	if s.change != nil {
		row := s.change.After
		if row == nil || s.change.Before != nil {
			row = s.change.Before
		}
		e.Key = rowkey.Describe(s.at.src, row)
	}
	return e
}

// transaction rewrites one transaction.
func (s *Units) transaction(ctx context.Context, tx *dfs.Transaction) error {
	s.out, s.committed = s.out[:0], tx.Committed
	for i := range tx.Changes {
		c := &tx.Changes[i]
		if c.Op == dfs.DDL {
			keep, err := s.statement(tx, c)
			if err != nil {
				return err
			}
			if keep {
				s.out = append(s.out, *c)
			}
			continue
		}
		p, err := s.plan(c.Table)
		if err != nil {
			return dfs.Standing(err) // it is the same for each row of the table
		}
		if p.keep {
			s.out = append(s.out, *c)
			continue
		}
		s.change = c
		if err := checkRows(c); err != nil {
			return err
		}
		for k := range p.outs {
			o := p.outs[k]
			if c.Op == dfs.Delete {
				o = p.outs[len(p.outs)-1-k]
			}
			s.at, s.column = o, ""
			before := len(s.out)
			if err := s.apply(ctx, o, c); err != nil {
				return s.fail(err)
			}
			o.u.in.Add(1)
			o.u.out.Add(uint64(len(s.out) - before))
		}
	}
	tx.Changes = append(tx.Changes[:0], s.out...)
	return nil
}

func checkRows(c *dfs.Change) error {
	n := len(c.Table.Columns)
	if c.Op < dfs.Insert || c.Op > dfs.Delete || c.Op != dfs.Insert && len(c.Before) != n || c.Op != dfs.Delete && len(c.After) != n {
		return fmt.Errorf("a change (%s) of %s does not have the %d columns of its table", c.Op, c.Table, n)
	}
	return nil
}

// An image is a row as a unit sees it: the values that the log has of it, and
// those that it had before where the log leaves them out.
type image struct {
	row    dfs.Row // as logged
	view   []dfs.Value
	before bool // it is the row as it was
	insert bool // there is no row before it
}

// apply adds what an output makes of a change.
func (s *Units) apply(ctx context.Context, o *output, c *dfs.Change) error {
	made := dfs.Change{Op: c.Op, Table: o.table, NoForeignKeys: c.NoForeignKeys, Part: o.u.Part}
	var was, is bool
	var err error
	if c.Op != dfs.Insert {
		if was, err = s.selects(ctx, o, image{row: c.Before, view: c.Before, before: true}); err != nil {
			return err
		}
	}
	var after image
	if c.Op != dfs.Delete {
		after = image{row: c.After, view: s.overlay(c), insert: c.Op == dfs.Insert}
		if len(o.u.joins) > 0 {
			if after.view, err = s.join(o, after.view, false); err != nil {
				return err
			}
		}
		if is, err = s.selects(ctx, o, after); err != nil {
			return err
		}
	}
	switch {
	case !was && !is:
		return nil
	case was && !is:
		made.Op = dfs.Delete
	case !was && is:
		made.Op = dfs.Insert
		if !after.insert { // it enters: what the log leaves out is needed too
			after.row, after.insert = after.view[:len(c.After)], true
			for i, v := range after.row {
				if v.Kind() == dfs.Absent {
					return errImage(o.src.Columns[i].Name)
				}
			}
		}
	}
	before := image{row: c.Before, view: c.Before, before: true}
	if was && len(o.u.joins) > 0 {
		// The view of the row after is in use.
		view := append(make([]dfs.Value, 0, len(o.in)), c.Before...)
		if before.view, err = s.join(o, view, true); err != nil {
			return err
		}
	}
	if o.rows != nil {
		return s.byRows(ctx, o, made, was, is, before, after)
	}
	if was {
		if made.Before, err = s.row(ctx, o, before); err != nil {
			return err
		}
	}
	if is {
		if made.After, err = s.row(ctx, o, after); err != nil {
			return err
		}
	}
	return s.finish(ctx, o, made)
}

// overlay returns the row after a change as far as it is known.
func (s *Units) overlay(c *dfs.Change) []dfs.Value {
	if c.Before == nil || !slices.ContainsFunc(c.After, func(v dfs.Value) bool { return v.Kind() == dfs.Absent }) {
		return c.After
	}
	s.view = append(s.view[:0], c.After...)
	for i, v := range s.view {
		if v.Kind() == dfs.Absent {
			s.view[i] = c.Before[i]
		}
	}
	return s.view
}

// join appends what was looked up. Of a row as it was that is not known: it may
// have been something else then.
func (s *Units) join(o *output, view []dfs.Value, before bool) (_ []dfs.Value, err error) {
	if !before {
		s.view = append(s.view[:0], view...)
		view = s.view
	}
	for i, j := range o.u.joins {
		if before {
			view = j.absent(view)
		} else if view, err = j.append(view, o.on[i]); err != nil {
			return nil, err
		}
	}
	if !before {
		s.view = view
	}
	return view, nil
}

// selects reports whether the unit wants the row.
func (s *Units) selects(ctx context.Context, o *output, m image) (bool, error) {
	w := o.where
	if w == nil {
		return true, nil
	}
	s.args = s.args[:0]
	for _, i := range w.deps {
		if m.view[i].Kind() == dfs.Absent {
			return false, errImage(o.in[i].Name)
		}
		s.args = append(s.args, m.view[i])
	}
	s.inWhere = true
	var ok bool
	var err error
	if w.users {
		err = s.outside(func() (err error) {
			ok, err = w.test(ctx, s.args)
			return err
		})
	} else {
		ok, err = w.test(ctx, s.args)
	}
	s.inWhere = err != nil
	return ok, err
}

// alloc returns memory for a row.
func (s *Units) alloc(n int) dfs.Row {
	if len(s.slab) < n {
		s.slab = make([]dfs.Value, max(slabSize, n))
	}
	r := s.slab[:n:n]
	s.slab = s.slab[n:]
	return r
}

// row makes a row of the target.
func (s *Units) row(ctx context.Context, o *output, m image) (dfs.Row, error) {
	if o.plain && o.soft < 0 {
		return m.row, nil
	}
	out := s.alloc(len(o.cells))
	for i := range o.cells {
		c := &o.cells[i]
		var v dfs.Value
		switch {
		case c.from >= len(m.row): // looked up
			v = m.view[c.from]
		case c.from >= 0:
			v = m.row[c.from]
		case c.compute != nil:
			s.column = o.table.Columns[i].Name
			var err error
			if v, err = s.compute(ctx, o, c, m); err != nil {
				return nil, err
			}
		default:
			v = c.value
		}
		if c.convert != nil {
			s.column = o.table.Columns[i].Name
			var err error
			if v, err = c.convert(v); err != nil {
				return nil, err
			}
		}
		out[i] = v
	}
	s.column = ""
	return out, nil
}

// compute makes a column of others. Where the log leaves those out, it is Absent
// too, if that says no more than that it did not change.
func (s *Units) compute(ctx context.Context, o *output, c *cell, m image) (v dfs.Value, err error) {
	s.args = s.args[:0]
	logged, missing := len(c.deps) == 0, -1
	for _, i := range c.deps {
		v := m.view[i]
		s.args = append(s.args, v)
		if v.Kind() == dfs.Absent {
			missing = i
		}
		if i < len(m.row) {
			v = m.row[i]
		}
		logged = logged || v.Kind() != dfs.Absent
	}
	switch {
	case missing < 0 && c.users:
		err = s.outside(func() (err error) {
			v, err = c.compute(ctx, s.args)
			return err
		})
		return v, err
	case missing < 0:
		return c.compute(ctx, s.args)
	case m.before || !m.insert && !logged:
		return dfs.AbsentValue(), nil
	}
	return dfs.Value{}, errImage(o.in[missing].Name)
}

// finish adds a change of the target's rows.
func (s *Units) finish(ctx context.Context, o *output, made dfs.Change) error {
	if o.soft >= 0 {
		s.softly(o, made)
	} else {
		s.out = append(s.out, made)
	}
	if o.u.Func == nil {
		return nil
	}
	return s.call(ctx, o)
}
