package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dataflowsync/dfs"
)

// A task is what a reader does next.
type task struct {
	t     *copyTable
	job   *job // what to read; nil to ask for the table's shape
	scout *job // to look for a place where this one can be divided
	epoch int
	lo    *bound // where scout begins
}

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
		c.src.opts.Logger.Warn("rows are read again", "table", k.t.String(), "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, 5*time.Second)
	}
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
	case errors.Is(err, errVersioned):
		cure = "bring it to the target by mariadb-dump --dump-history, or leave it out"
	case !ok:
		cure = cureCopyAgain
	}
	c.fail(t, err, cure)
	c.reword = true
	return nil
}

// askShape asks for the shape of a table.
func (c *copier) askShape(ctx context.Context, k *task) error {
	t := k.t
	if err := c.settled(ctx, t); err != nil {
		return err
	}
	sh, err := c.src.readShape(ctx, t.tableName)
	if err == nil && sh != nil && sh.key != nil && sh.key.integer {
		err = c.src.readEnds(ctx, sh)
	}
	if err == nil && sh == nil {
		err = errGone
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
	t.shape, t.key, t.total = sh, sh.key, sh.total
	c.keyed++
	if sh.average > 0 && t.limit == min(1000, c.opts.ChunkRows) {
		t.limit = min(max(pieceSize/sh.average, 100), 20_000, c.opts.ChunkRows)
	}
	if sh.key == nil {
		c.src.opts.Logger.Warn("a table without a key that rows can be found by is read in one go, and the log waits while it is handed on", "table", t.String())
	}
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

// lag is how much earlier than its view a statement's window begins, where the
// server does not tell which transactions all can see: MySQL without GTIDs writes
// them to the log first.
func (c *copier) lag() time.Duration {
	if c.src.maria || c.src.gtid {
		return 0
	}
	return commitWait + c.src.ackWait
}

// since returns where in the window the changes of the last while begin.
func (t *copyTable) since(wait time.Duration) int {
	from := time.Now().Add(-wait)
	i, _ := slices.BinarySearchFunc(t.log, from, func(ch change, at time.Time) int { return ch.at.Compare(at) })
	return t.base + i
}

// early returns how long it takes until a statement can begin, where lag is not 0:
// until what the log had before the window is old enough. mu is held.
func (c *copier) early(t *copyTable) time.Duration {
	wait := c.lag()
	if wait == 0 {
		return 0
	}
	from := later(c.began, t.altered)
	switch {
	case t.shape == nil:
	case t.key == nil:
		from = later(from, t.changed) // it has no window
	default:
		from = later(from, t.unnoted)
	}
	return time.Until(from.Add(wait))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// settled waits until what a statement reads from now on has all that the log has
// had up to where it was handed on.
func (c *copier) settled(ctx context.Context, t *copyTable) error {
	for {
		c.mu.Lock()
		left := c.early(t)
		c.mu.Unlock()
		if left <= 0 {
			break
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.lag() > 0 {
		return nil
	}
	if c.src.maria {
		return nil // its view tells its place
	}
	c.mu.Lock()
	pos := c.pos
	c.mu.Unlock()
	p, err := parsePosition(pos)
	if err != nil {
		return err
	}
	set := p.set.String()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var seen bool
		var name string
		if err := c.src.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@global.gtid_executed), @@server_uuid", set).Scan(&seen, &name); err != nil {
			return mark(fmt.Errorf("cdc: ask what was committed: %w", err))
		}
		if err := c.sameServer(name); err != nil {
			return err
		}
		if seen {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
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
		for (c.inside || c.place.file == "" || c.size > pendingSize || c.frozen != nil) && c.stopped == nil && t.epoch == j.epoch {
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
	c.mu.Lock()
	limit := t.limit
	c.mu.Unlock()
	q := fmt.Appendf(nil, "SELECT %s FROM %s.%s", sh.list, quoted(sh.table.Schema), quoted(sh.table.Name))
	if sh.key != nil {
		q = append(append(append(q, " FORCE INDEX ("...), quoted(sh.key.index)...), ")"...)
	}
	q = append(q, " WHERE 1"...)
	if t.where != "" {
		q = append(append(append(q, " AND ("...), t.where...), ')')
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
	start := time.Now()
	err := conn.read(ctx, string(q), columns,
		func() error {
			if f.known {
				return nil
			}
			var end position
			if err := c.logEnd(ctx, &end); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			f.end, f.known = place{end.file, end.pos}, true
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
			p.rows = append(p.rows, dfs.Change{Op: dfs.Insert, Table: sh.table, After: row, NoForeignKeys: true, Overwrite: t.again})
			if p.size += size; p.size < pieceSize {
				return true, nil
			}
			began := time.Now()
			full := p
			p = &piece{f: f, rows: make([]dfs.Change, 0, len(full.rows))}
			full.more = true
			done, err = c.deliver(ctx, j, full, sh, false)
			waited += time.Since(began)
			return err == nil, err
		})
	if err != nil {
		return err
	}
	took := time.Since(start) - waited
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
