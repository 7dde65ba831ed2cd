package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// A task is what a reader does next.
type task struct {
	t     *copyTable
	name  tableName // t's when it was begun, as a statement may give it another
	job   *job      // what to read; nil to ask for the table's shape
	scout *job      // to look for a place where this one can be divided
	epoch int
	lo    *bound // where scout begins
}

// take waits for something to do. It returns nil when readers are to end.
func (c *copier) take() *task {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.stopped != nil {
			return nil
		}
		if k := c.find(); k != nil {
			k.name = k.t.tableName
			return k
		}
		c.cond.Wait()
	}
}

// find returns something to do, if there is: first what nobody does, and else a
// part of what somebody does.
func (c *copier) find() *task {
	for _, t := range c.tables[c.first:] {
		if t.state == dfs.Copied || t.state == dfs.CopyFailed || !t.mayBegin() {
			continue
		}
		if t.shape == nil {
			if !t.asking {
				t.asking = true
				return &task{t: t, epoch: t.epoch}
			}
			continue
		}
		if len(t.free) > 0 {
			j := &job{t: t, r: t.free[0], epoch: t.epoch}
			t.free = slices.Clone(t.free[1:])
			t.jobs = append(t.jobs, j)
			return &task{t: t, job: j, epoch: t.epoch}
		}
	}
	for _, t := range c.tables[c.first:] {
		if t.state != dfs.Copying || t.shape == nil || t.key == nil {
			continue
		}
		for _, j := range t.jobs {
			if j.scouted {
				continue
			}
			if !t.key.integer || t.shape.least == nil {
				j.scouted = true // until it is known whether there is such a place
				return &task{t: t, scout: j, epoch: t.epoch, lo: j.r.lo}
			}
			lo, hi := t.shape.least.row[0], t.shape.most.row[0]
			if j.r.lo != nil && j.r.lo.order > t.shape.least.order {
				lo = j.r.lo.row[0]
			}
			if j.r.hi != nil && j.r.hi.order < t.shape.most.order {
				hi = j.r.hi.row[0]
			}
			if hi.Uint()-lo.Uint() < uint64(2*t.limit) || j.r.lo != nil && j.r.lo.order >= t.shape.most.order {
				continue
			}
			if b, ok := t.key.middle(lo, hi); ok {
				return &task{t: t, job: c.divide(j, b), epoch: t.epoch}
			}
		}
	}
	return nil
}

// mayBegin reports whether the tables are copied that are to be copied before.
func (t *copyTable) mayBegin() bool {
	return !slices.ContainsFunc(t.after, func(p *copyTable) bool { return p.state == dfs.CopyWaiting || p.state == dfs.Copying })
}

// divide takes what is after b from a job, and returns it as another.
func (c *copier) divide(j *job, b *bound) *job {
	other := &job{t: j.t, r: keyRange{b, j.r.hi}, epoch: j.epoch}
	j.r.hi = b
	j.t.jobs = append(j.t.jobs, other)
	return other
}

// giveBack makes what a task did not do free for others. It reports whether
// readers go on.
func (c *copier) giveBack(k *task, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := k.t
	if k.job == nil && k.scout == nil {
		t.asking = false
	}
	if k.job != nil && t.epoch == k.job.epoch {
		if c.frozen != nil && c.frozen.t == t {
			// A part of its one transaction was handed on. It begins anew with the
			// next stream.
			c.err = dfs.Transient(fmt.Errorf("cdc: copy table %s: %w", t, err))
		}
		if t.key == nil {
			c.discard(t)
			k.epoch = t.epoch
		} else {
			t.jobs = slices.DeleteFunc(t.jobs, func(j *job) bool { return j == k.job })
			if !k.job.over && !k.job.r.empty() {
				t.free = append(t.free, k.job.r)
			}
			for _, f := range slices.Clone(t.flights) {
				if f.job == k.job {
					f.over = true // pieces that it gave are good
					c.land(f)
				}
			}
		}
	}
	c.cond.Broadcast()
	return c.stopped == nil
}

// cures of errors that end the copy of a table.
var copyCures = map[uint16]string{
	1142: "GRANT SELECT on it to the account, and have it copied again",
	1143: "GRANT SELECT on all of its columns to the account, and have it copied again",
	1044: "GRANT SELECT on its schema to the account, and have it copied again",
}

// settleError decides about an error that does not pass by itself. It may come of a
// statement that the log has yet to tell of: then the table is read again. Else its
// copy ends, and the result is nil.
func (c *copier) settleError(ctx context.Context, k *task, err error) error {
	code, _ := errorCode(err)
	var end position
	if e := c.logEnd(ctx, &end); e != nil {
		return e
	}
	to := place{end.file, end.pos}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched = append(c.watched, to)
	if c.wake != nil {
		c.wake()
	}
	for c.stopped == nil && k.t.epoch == k.epoch && c.place.before(to) {
		c.cond.Wait()
	}
	c.watched = slices.DeleteFunc(c.watched, func(p place) bool { return p == to })
	t := k.t
	if c.stopped != nil || t.epoch != k.epoch || t.state != dfs.Copying && t.state != dfs.CopyWaiting {
		return nil
	}
	if t.tries++; code == 1412 && t.tries < 10 { // the definition has changed
		return err
	}
	if errors.Is(err, errGone) {
		// The statement that dropped it was before the place where reading began.
		c.copied(t)
		c.reword = true
		return nil
	}
	cure, ok := copyCures[code]
	switch {
	case errors.Is(err, errRestless):
		cure = "add a primary key, hold back what writes to it, or set gtid_mode=ON, and have it copied again"
	case errors.Is(err, errVersioned):
		cure = "bring it to the target by mariadb-dump --dump-history, or leave it out"
	case !ok:
		cure = cureCopyAgain
	}
	c.fail(t, err, cure)
	c.reword = true
	return nil
}

// readEnds asks for the least and the greatest key.
func (s *Source) readEnds(ctx context.Context, sh *copyShape) error {
	name := quoted(sh.table.Columns[sh.key.columns[0]].Name)
	var least, most sql.NullString
	err := s.db.QueryRowContext(ctx, "SELECT MIN("+name+"), MAX("+name+") FROM "+quoted(sh.table.Schema)+"."+quoted(sh.table.Name)).Scan(&least, &most)
	if err != nil {
		return mark(err)
	}
	if !least.Valid {
		return nil
	}
	parse := func(s string) (*bound, error) {
		var v dfs.Value
		if sh.columns[sh.key.columns[0]].kind == dfs.Uint64 {
			n, err := strconv.ParseUint(s, 10, 64)
			if err != nil {
				return nil, err
			}
			v = dfs.UintValue(n)
		} else {
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, err
			}
			v = dfs.IntValue(n)
		}
		order, err := appendOrder(nil, v, "", false)
		return &bound{dfs.Row{v}, string(order)}, err
	}
	if sh.least, err = parse(least.String); err == nil {
		sh.most, err = parse(most.String)
	}
	return err
}

// scoutChunks is how many statements' rows ahead a place is looked for at which a
// job can be divided.
const scoutChunks = 8

// scout looks for a key some rows ahead of where a job reads, for the reader to go
// on from there.
func (c *copier) scout(ctx context.Context, k *task) error {
	t := k.t
	c.mu.Lock()
	sh, limit, r := t.shape, t.limit, k.scout.r
	c.mu.Unlock()
	if sh == nil {
		return nil
	}
	columns := make([]wireColumn, 0, len(sh.key.columns))
	q := []byte("SELECT ")
	for i, at := range sh.key.columns {
		if i > 0 {
			q = append(q, ", "...)
		}
		columns = append(columns, sh.columns[at])
		q = append(q, sh.parts[at]...)
	}
	q = append(append(append(append(q, " FROM "...), quoted(sh.table.Schema)...), '.'), quoted(sh.table.Name)...)
	q = append(append(append(q, " FORCE INDEX ("...), quoted(sh.key.index)...), ") WHERE 1"...)
	q = sh.key.condition(q, r)
	q = append(append(q, " ORDER BY "...), sh.key.list(nil)...)
	q = fmt.Appendf(q, " LIMIT %d, 1", scoutChunks*limit-1)
	conn, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer conn.close()
	rd := rowReader{texts: true}
	var row dfs.Row
	err = conn.read(ctx, string(q), columns, func() error { return nil }, func(b []byte) (bool, error) {
		var err error
		row, _, err = rd.row(b, columns)
		return true, err
	})
	if err != nil {
		return err
	}
	var b *bound
	if row != nil {
		orders, err := c.src.orders(ctx, sh.key, []dfs.Row{row})
		if err != nil {
			return err
		}
		b = &bound{row, orders[0]}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j := k.scout
	if b == nil || t.epoch != j.epoch || !slices.Contains(t.jobs, j) || !j.r.has(b.order) || j.r.hi != nil && b.order >= j.r.hi.order {
		return nil
	}
	other := c.divide(j, b)
	t.jobs = slices.DeleteFunc(t.jobs, func(o *job) bool { return o == other })
	t.free = append(t.free, other.r)
	c.cond.Broadcast()
	return nil
}
