package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dataflowsync/dfs"
)

// errVoid says that what is read is of no use any more, and was given back.
var errVoid = errors.New("cdc: to be read again")

// errVersioned says that a table of MariaDB keeps its history.
var errVersioned = errors.New("it is WITH SYSTEM VERSIONING, and rows of its history cannot be copied")

var errGone = errors.New("it is not there")

// reader reads rows until ctx ends. It has a connection of its own.
func (c *copier) reader(ctx context.Context) {
	var conn *copyConn
	defer func() {
		if conn != nil {
			conn.close()
		}
	}()
	wait := 100 * time.Millisecond
	for {
		k := c.take()
		if k == nil {
			return
		}
		err := func() (err error) {
			defer func() {
				if r := recover(); r != nil {
					err = recovered(r)
				}
			}()
			switch {
			case k.scout != nil:
				return c.scout(ctx, k)
			case k.job == nil:
				return c.askShape(ctx, k)
			}
			if conn == nil {
				if conn, err = c.open(ctx); err != nil {
					return err
				}
			}
			return c.readJob(ctx, conn, k.job)
		}()
		if err == nil {
			wait = 100 * time.Millisecond
			continue
		}
		if conn != nil && k.job != nil {
			conn.close()
			conn = nil
		}
		void := errors.Is(err, errVoid)
		if ctx.Err() != nil || !c.giveBack(k, err) {
			return
		}
		switch {
		case void:
			continue
		case !errors.Is(err, dfs.ErrTransient):
			if err = c.settleError(ctx, k, err); err == nil {
				continue
			}
		}
		c.src.opts.Logger.Warn("rows are read again", "table", k.name.String(), "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// askShape asks for the shape of a table.
func (c *copier) askShape(ctx context.Context, k *task) error {
	t := k.t
	if err := c.settled(ctx, t); err != nil {
		return err
	}
	sh, err := c.src.readShape(ctx, k.name)
	if err == nil && sh != nil && sh.key != nil && sh.key.integer {
		err = c.src.readEnds(ctx, sh)
	}
	if err == nil && sh == nil {
		err = errGone
	}
	var end position
	if err == nil {
		err = c.logEnd(ctx, &end)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t.asking = false
	c.cond.Broadcast()
	if t.epoch != k.epoch || t.state == dfs.Copied || t.state == dfs.CopyFailed {
		return nil
	}
	if t.hash != "" && (sh.key == nil || sh.key.hash() != t.hash) {
		c.fail(t, errors.New("its key was altered while it was copied"), cureCopyAgain)
		c.reword = true
		return nil
	}
	if t.state == dfs.CopyWaiting {
		t.state, t.left, t.free = dfs.Copying, []keyRange{{}}, []keyRange{{}}
	}
	if t.started.IsZero() {
		t.started = time.Now()
	}
	if t.key == nil {
		t.unnoted = t.changed
	}
	t.shape, t.key, t.total, t.described = sh, sh.key, sh.total, place{end.file, end.pos}
	c.keyed++
	if sh.average > 0 && t.limit == min(1000, c.opts.ChunkRows) {
		t.limit = min(max(pieceSize/sh.average, 100), 20_000, c.opts.ChunkRows)
	}
	if sh.key == nil {
		c.src.opts.Logger.Warn("a table without a key that rows can be found by is read in one go, and the log waits while it is handed on", "table", t.String())
	}
	return nil
}

// readJob reads a range, statement by statement.
func (c *copier) readJob(ctx context.Context, conn *copyConn, j *job) error {
	for {
		if err := c.pace.wait(ctx, c.src); err != nil {
			return err
		}
		f, r, sh, err := c.takeOff(ctx, j)
		if err != nil || f == nil {
			return err
		}
		if err := c.fly(ctx, conn, j, f, r, sh); err != nil {
			return err
		}
	}
}

// takeOff begins a statement of a job. It returns nil if nothing is left.
func (c *copier) takeOff(ctx context.Context, j *job) (*flight, keyRange, *copyShape, error) {
	t := j.t
	for {
		if c.lag() > 0 {
			if err := c.settled(ctx, t); err != nil {
				return nil, keyRange{}, nil, err
			}
		}
		c.mu.Lock()
		for (c.inside || c.passing || c.place.file == "" || c.size > pendingSize || c.frozen != nil) && c.stopped == nil && t.epoch == j.epoch {
			c.cond.Wait()
		}
		if t.epoch != j.epoch || c.early(t) <= 0 {
			break
		}
		c.mu.Unlock()
	}
	defer c.mu.Unlock()
	switch {
	case c.stopped != nil:
		return nil, keyRange{}, nil, c.stopped
	case t.epoch != j.epoch:
		return nil, keyRange{}, nil, errVoid
	case j.over || j.r.empty():
		t.jobs = slices.DeleteFunc(t.jobs, func(o *job) bool { return o == j })
		return nil, keyRange{}, nil, nil
	}
	f := &flight{t: t, job: j, epoch: t.epoch, from: t.base + len(t.log)}
	if wait := c.lag(); wait > 0 {
		f.from = t.since(wait)
	}
	t.flights = append(t.flights, f)
	return f, j.r, t.shape, nil
}

// fly reads what one statement of a job gives.
func (c *copier) fly(ctx context.Context, conn *copyConn, j *job, f *flight, r keyRange, sh *copyShape) error {
	t := j.t
	if c.src.maria {
		if err := c.openView(ctx, conn, f); err != nil {
			return err
		}
	} else if c.lag() == 0 {
		if err := c.settled(ctx, t); err != nil {
			return err
		}
	}
	start := f.end
	if !f.known {
		var end position
		if err := c.logEnd(ctx, &end); err != nil {
			return err
		}
		start = place{end.file, end.pos}
	}
	c.mu.Lock()
	f.start = start
	limit := t.limit
	c.mu.Unlock()
	q := fmt.Appendf(nil, "SELECT %s FROM %s.%s", sh.list, quoted(sh.table.Schema), quoted(sh.table.Name))
	if sh.key != nil {
		q = append(append(append(q, " FORCE INDEX ("...), quoted(sh.key.index)...), ")"...)
	}
	q = append(q, " WHERE 1"...)
	if t.where != "" {
		q = append(append(q, " AND "...), between(t.where)...)
	}
	if sh.key != nil {
		q = sh.key.condition(q, r)
		q = append(append(q, " ORDER BY "...), sh.key.list(nil)...)
		q = fmt.Appendf(q, " LIMIT %d", limit)
	}
	columns := slices.Clone(sh.columns)
	rd := rowReader{texts: slices.ContainsFunc(columns, func(w wireColumn) bool {
		return w.kind == dfs.String || w.kind == dfs.Bytes || w.kind == dfs.JSON || w.kind == dfs.Decimal
	})}
	p := &piece{f: f}
	n := 0
	done := false
	var waited time.Duration
	began := time.Now()
	err := conn.read(ctx, string(q), columns,
		func() error {
			if f.known && !sh.instant {
				return nil
			}
			var end position
			if err := c.logEnd(ctx, &end); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if to := (place{end.file, end.pos}); !f.known || f.end.before(to) {
				f.end = to
			}
			f.known = true
			c.cond.Broadcast()
			if c.wake != nil && !c.place.before(f.end) {
				c.wake()
			}
			return nil
		},
		func(b []byte) (bool, error) {
			n++
			if done {
				return true, nil // another reader has the rest
			}
			row, size, err := rd.row(b, columns)
			if err == nil && len(sh.documents) > 0 {
				row, err = sh.note(row)
			}
			if err != nil {
				return false, err
			}
			p.rows = append(p.rows, dfs.Change{Op: dfs.Insert, Table: sh.table, After: row, NoForeignKeys: true, Overwrite: t.again || t.anew})
			if p.size += size; p.size < pieceSize {
				return true, nil
			}
			waits := time.Now()
			full := p
			p = &piece{f: f, rows: make([]dfs.Change, 0, len(full.rows))}
			full.more = true
			done, err = c.deliver(ctx, j, full, sh, false)
			waited += time.Since(waits)
			return err == nil, err
		})
	if err != nil {
		return err
	}
	took := time.Since(began) - waited
	if c.src.maria {
		if err := conn.exec("COMMIT"); err != nil {
			return err
		}
	}
	all := sh.key == nil || n < limit
	if !done && (all || len(p.rows) > 0) {
		if _, err := c.deliver(ctx, j, p, sh, all); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.over = true
	c.land(f)
	if !all {
		// The next one may read twice as many rows, or half as many.
		t.limit = min(max(int(float64(limit)*min(max(float64(c.opts.ChunkTime)/float64(took), 0.5), 2)), 100), c.opts.ChunkRows)
	}
	if t.epoch != f.epoch {
		return errVoid
	}
	return nil
}

// openView opens the view of MariaDB's that tells its place in the log, which is at
// or after the place that was handed on.
func (c *copier) openView(ctx context.Context, conn *copyConn, f *flight) error {
	c.mu.Lock()
	from := c.place
	c.mu.Unlock()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err := conn.exec("START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
			return err
		}
		rows, err := conn.ask("SHOW STATUS LIKE 'binlog_snapshot_%'")
		if err != nil {
			return err
		}
		var at place
		for _, row := range rows {
			switch row[0] {
			case "Binlog_snapshot_file":
				at.file = row[1]
			case "Binlog_snapshot_position":
				if at.pos, err = strconv.ParseUint(row[1], 10, 64); err != nil {
					return err
				}
			}
		}
		if at.file == "" {
			return errors.New("the server does not tell where in its log a view is")
		}
		if !at.before(from) {
			c.mu.Lock()
			defer c.mu.Unlock()
			f.end, f.known = at, true
			return nil
		}
		if err := conn.exec("COMMIT"); err != nil {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// crowded reports whether a statement's reader is to wait until more is handed on.
// Where the log waits for that statement, nothing of others is handed on.
func (c *copier) crowded(f *flight) bool {
	return c.size > pendingSize && (c.frozen != f || slices.ContainsFunc(c.pending, func(p *piece) bool { return p.f == f }))
}

// deliver gives a piece to be handed on, and waits for room. all says that it is
// the last one of its job, up to the end of the range. It reports whether the job
// ends before the statement, as another reader has the rest.
func (c *copier) deliver(ctx context.Context, j *job, p *piece, sh *copyShape, all bool) (done bool, err error) {
	var end *bound
	if sh.key != nil {
		p.more = false
		if !all {
			row := sh.key.of(p.rows[len(p.rows)-1].After)
			orders, err := c.src.orders(ctx, sh.key, []dfs.Row{row})
			if err != nil {
				return false, err
			}
			end = &bound{row, orders[0]}
		}
	} else {
		p.more = !all
	}
	if err := c.pace.took(ctx, len(p.rows), p.size); err != nil {
		return false, err
	}
	c.mu.Lock()
	if p.f.epoch != j.t.epoch {
		c.mu.Unlock()
		return false, errVoid
	}
	if sh.key != nil && j.r.hi != nil && len(p.rows) > 0 && (end == nil || end.order >= j.r.hi.order) {
		// It may have been divided since the statement began.
		hi := j.r.hi
		c.mu.Unlock()
		keys := make([]dfs.Row, len(p.rows))
		for i := range p.rows {
			keys[i] = sh.key.of(p.rows[i].After)
		}
		orders, err := c.src.orders(ctx, sh.key, keys)
		if err != nil {
			return false, err
		}
		n, _ := slices.BinarySearchFunc(orders, hi.order, func(a, b string) int {
			if a <= b {
				return -1
			}
			return 1
		})
		p.rows = p.rows[:n]
		end, done = hi, true
		c.mu.Lock()
		if p.f.epoch != j.t.epoch {
			c.mu.Unlock()
			return false, errVoid
		}
		if j.r.hi != hi { // and divided again
			c.mu.Unlock()
			return false, errVoid
		}
	}
	if end == nil {
		end = j.r.hi
	}
	p.r = keyRange{j.r.lo, end}
	j.r.lo = end
	if all || done {
		j.t.jobs = slices.DeleteFunc(j.t.jobs, func(o *job) bool { return o == j })
		j.over = true
	}
	p.f.open++
	c.pending = append(c.pending, p)
	c.size += p.size
	c.cond.Broadcast()
	if c.wake != nil && c.right(p) {
		c.wake()
	}
	for c.crowded(p.f) && c.stopped == nil && p.f.epoch == j.t.epoch {
		c.cond.Wait()
	}
	err = c.stopped
	if err == nil && p.f.epoch != j.t.epoch && !(len(j.t.left) == 0) {
		err = errVoid
	}
	c.mu.Unlock()
	return done, err
}
