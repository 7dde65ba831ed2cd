package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/match"
)

// core is what the sinks of databases that are not MySQL share: it keeps the
// checkpoint, merges runs where that pays, falls back to single changes, and settles
// conflicts. What the database is asked, and how, is the backend's.
type core struct {
	rules
	db      backend
	replace bool
	tells   bool // it is a Teller's, and writes nothing
	mixes   bool // rows may be copied into tables that have some

	foreign []ForeignKey // see NeedForeignKeys

	instance string // begins each owner token of this sink
	owner    string // the token in the checkpoint's row
	claimed  bool   // Checkpoint has succeeded once

	stands stand
	at     uint64 // number of the last transaction or part taken
	open   bool   // a transaction of the target holds parts

	spool *spool // parts whose end is yet to come; nil where open keeps them

	tables map[string]*table
	runs   map[string]*tableRun
	maps   map[*dfs.Table]*mapping

	failed map[*dfs.Change]bool // statements that PolicyTry has passed over, until they are counted

	merger *merger // nil: changes are applied one by one, since a statement is no round trip
	stats  stats
}

// A backend speaks to one kind of database, by one connection. But for query, its
// errors are classified: marked as transient where they may pass.
type backend interface {
	connected() bool
	connect(ctx context.Context) error
	drop() // gives the connection up; what is not committed is undone

	// exec executes a statement and returns how many rows it matched.
	exec(ctx context.Context, s stmt) (int64, error)
	query(ctx context.Context, sql string, args ...any) ([][]cell, error)

	// write executes statements, and then groups, and checks what they matched.
	write(ctx context.Context, before []stmt, groups []group) error

	begin() []stmt // opens a transaction
	checkpointTable() string
	createCheckpointSQL() string // and what it is in
	bytesLiteral(s string) string
	noTable(err error) bool                       // a table is not there
	killHolder(ctx context.Context, owner string) // ends the session of the owner, if it can be told
	hold(ctx context.Context, owner string)
	patience(ctx context.Context, claiming bool) error // how long statements wait for the checkpoint's row
	isLockWait(err error) bool

	loadTable(ctx context.Context, schema, name string) (*table, error)
	tableKey(schema, name string) string
	mapColumn(m *mapping, i int, tc *targetColumn) (note string, err error)
	arg(m *mapping, i int, v dfs.Value) (any, error)

	// foreignKeys turns the target's foreign keys off for rows of a table, or on.
	foreignKeys(ctx context.Context, t *table, off bool) error

	ident(t *table) string
	place(n int) string                            // what stands for argument n, from 1
	equal(m *mapping, i int, place string) string  // column i has that value, which is not NULL
	oneOf(t *table, where string) string           // one row of those that where finds
	serverError(err error) bool                    // the database has refused a statement, and lives
	constraint(err error) (broken, duplicate bool) // because of the rows that it holds
	there(ctx context.Context, schema, name string) (bool, error)
	tryRights(ctx context.Context, m *mapping) error
	acts(ctx context.Context, schema, name, parent string, k ForeignKey) (bool, error) // the table has the foreign key

	typeOf(c *dfs.Column, t convert.Type) (string, error)
	literal(c *dfs.Column, v dfs.Value) (string, error)
	index(t *table, k plainKey) string // CREATE INDEX
	inlineKeys(keys []ForeignKey) []string
	create(ctx context.Context, t *table, list []string) error
	addForeignKey(ctx context.Context, k ForeignKey, made []string) error

	explain(err error, t *table) error // adds a cure
	stands(err error) bool             // it is about the table or the target as a whole, as dfs.ErrStanding

	alterer
}

// stmt is a statement with its arguments. It must match want rows: see writer.want.
type stmt struct {
	sql  string
	args []any
	want int64
}

// binaryArg is an argument of bytes that are no text.
type binaryArg []byte

func (c *core) init(db backend) {
	c.db = db
	c.instance = token(12) + "-"
	c.runs = make(map[string]*tableRun)
	c.failed = make(map[*dfs.Change]bool)
	c.forget()
}

// forget makes the sink read anew what the target says of its tables.
func (c *core) forget() {
	c.tables = make(map[string]*table)
	c.maps = make(map[*dfs.Table]*mapping)
}

// checkpoint is Checkpoint of both sinks.
func (c *core) checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if c.db.connected() && c.open {
		if _, err := c.db.exec(ctx, stmt{sql: "ROLLBACK", want: uncounted}); err != nil {
			c.db.drop()
		}
	}
	c.open = false
	c.spool.reset()
	if !c.db.connected() {
		if err := c.db.connect(ctx); err != nil {
			return dfs.Checkpoint{}, err
		}
	}
	at, err := c.claim(ctx)
	if err != nil {
		err = c.lost(ctx, err)
		c.db.drop()
		return dfs.Checkpoint{}, fmt.Errorf("taking over the checkpoint %q: %w", c.name, err)
	}
	c.stands.read(at)
	c.at = at.Seq
	return at, c.follow(at.State)
}

// setUp makes sure of the pipeline's row in the table of checkpoints.
func (c *core) setUp(ctx context.Context) error {
	rows, err := c.db.query(ctx, "SELECT 1 FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	if err != nil || len(rows) > 0 {
		return err // an INSERT would wait for who holds the row
	}
	_, err = c.db.exec(ctx, stmt{"INSERT INTO " + c.db.checkpointTable() + " (name,seq,pos,id,owner,updated) VALUES (" + c.db.place(1) +
		",0,'','',''," + c.db.place(2) + ") ON CONFLICT (name) DO NOTHING", []any{c.name, now()}, uncounted})
	return err
}

func now() string { return time.Now().UTC().Format("2006-01-02 15:04:05.000000") }

// claim makes this sink the owner of the checkpoint and returns it: see
// MySQL.claim, of which it keeps the rules.
func (c *core) claim(ctx context.Context) (dfs.Checkpoint, error) {
	if err := c.db.patience(ctx, true); err != nil {
		return dfs.Checkpoint{}, err
	}
	for try := 0; ; try++ {
		rows, err := c.db.query(ctx, "SELECT owner FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
		if err != nil {
			return dfs.Checkpoint{}, err
		}
		if len(rows) == 0 {
			return dfs.Checkpoint{}, c.conflict("the row is gone") // which lost tells better
		}
		old := rows[0][0].text
		mine := strings.HasPrefix(old, c.instance)
		if c.claimed && !mine {
			return dfs.Checkpoint{}, c.conflict("another pipeline of this name has taken the checkpoint over")
		}
		// What a lost connection of our own has left need not be waited for.
		if old != "" && (mine && old != c.owner || mine && !c.claimed || try > 0) {
			c.db.killHolder(ctx, old)
		}
		owner := c.instance + token(4)
		n, err := c.db.exec(ctx, stmt{"UPDATE " + c.db.checkpointTable() + " SET owner=" + c.db.place(1) + " WHERE name=" + c.db.place(2) +
			" AND owner=" + c.db.place(3), []any{owner, c.name, old}, uncounted})
		if err != nil && c.db.isLockWait(err) && try < 30 {
			c.db.killHolder(ctx, old)
			continue
		}
		if err != nil {
			return dfs.Checkpoint{}, err
		}
		if n != 1 {
			continue // someone else came in between
		}
		c.owner, c.claimed = owner, true
		failpoint.Hit("core.claim")
		break
	}
	if err := c.db.patience(ctx, false); err != nil {
		return dfs.Checkpoint{}, err
	}
	c.db.hold(ctx, c.owner)
	// Invariant I1: the place is read after the row was taken, so that nobody else
	// can move it any more.
	rows, err := c.db.query(ctx, "SELECT seq,pos,owner,state FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	if err != nil {
		return dfs.Checkpoint{}, err
	}
	if len(rows) == 0 || rows[0][2].text != c.owner {
		return dfs.Checkpoint{}, c.conflict("another pipeline of this name has taken the checkpoint over")
	}
	return dfs.Checkpoint{Seq: rows[0][0].uint(), Pos: dfs.Position(rows[0][1].text), State: rows[0][3].text}, nil
}

func (c *core) conflict(why string) error {
	return fmt.Errorf("%w: %s (row %q of %s): give each pipeline a Name of its own", dfs.ErrConflict, why, c.name, c.db.checkpointTable())
}

// move returns the compare-and-set from the checkpoint of the last commit to the end
// of a run. Without a run it changes nothing, and only locks the row.
func (c *core) move(run []*dfs.Transaction) stmt {
	table := c.db.checkpointTable()
	if run == nil {
		return stmt{"UPDATE " + table + " SET seq=seq WHERE name=" + c.db.place(1) + " AND seq=" + c.db.place(2) + " AND owner=" + c.db.place(3),
			[]any{c.name, int64(c.stands.at.Seq), c.owner}, fence}
	}
	last := run[len(run)-1]
	i := len(run) - 1
	for i > 0 && run[i].State == "" {
		i--
	}
	var committed any
	if !last.Committed.IsZero() {
		committed = last.Committed.UTC().Format("2006-01-02 15:04:05.000000")
	}
	set := ""
	args := []any{int64(last.Seq), string(last.Pos), limit(last.ID, 255), committed, now(), c.name, int64(c.stands.at.Seq), c.owner}
	if run[i].State != "" {
		set = ",state=" + c.db.place(9)
		args = append(args, binaryArg(run[i].State))
	}
	p := c.db.place
	return stmt{"UPDATE " + table + " SET seq=" + p(1) + ",pos=" + p(2) + ",id=" + p(3) + ",committed=" + p(4) + ",updated=" + p(5) + set +
		" WHERE name=" + p(6) + " AND seq=" + p(7) + " AND owner=" + p(8), args, fence}
}

// take is Apply of both sinks.
func (c *core) take(ctx context.Context, batch []*dfs.Transaction) error {
	if len(batch) == 0 {
		return nil
	}
	if !c.db.connected() || c.owner == "" {
		if _, err := c.checkpoint(ctx); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if batch[0].Seq != c.at+1 {
		return c.conflict(fmt.Sprintf("transaction %d came, and the target stands at %d", batch[0].Seq, c.at))
	}
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("transaction %d came after %d: %w", tx.Seq, batch[i-1].Seq, dfs.ErrGap)
		}
	}
	if c.replace {
		replace(batch)
	}
	return c.lost(ctx, c.stands.tried(c.byState(batch, func(batch []*dfs.Transaction) error { return c.takeAll(ctx, batch) })))
}

// takeAll takes a batch in which no statement depends on State. A transaction with a
// statement that is to be applied is one of the target by itself. At one that is not
// understood, or not to be applied, it stops, with all transactions before it applied.
func (c *core) takeAll(ctx context.Context, batch []*dfs.Transaction) error {
	for {
		n := c.nextDDL(batch)
		if n == len(batch) {
			return c.applyRows(ctx, batch)
		}
		if err := c.applyRows(ctx, wholeOnes(batch[:n])); err != nil {
			return err
		}
		tx := batch[n]
		switch v := c.judged(tx, statementChange(tx)); {
		case n > 0 && batch[n-1].More:
			return &DDLError{tx.Seq, tx.ID, statementOf(tx), errWithin}
		case v.err != nil || !v.runs():
			return &DDLError{tx.Seq, tx.ID, statementOf(tx), v.err}
		}
		end := n + 1
		for end < len(batch) && batch[end-1].More {
			end++
		}
		if err := c.applyRows(ctx, batch[n:end]); err != nil {
			return err
		}
		if batch = batch[end:]; len(batch) == 0 {
			return nil
		}
	}
}

// applyRows applies the rows of a batch, and moves the checkpoint past its whole
// transactions.
func (c *core) applyRows(ctx context.Context, batch []*dfs.Transaction) error {
	whole := len(wholeOnes(batch))
	err := c.apply(ctx, batch[:whole], true)
	if err != nil || whole == len(batch) {
		return err
	}
	if c.spool == nil {
		return c.apply(ctx, batch[whole:], false)
	}
	if err := c.spool.add(batch[whole:]); err != nil {
		return err
	}
	c.at = batch[len(batch)-1].Seq
	failpoint.Hit("core.part")
	return nil
}

// apply applies a run of transactions, and commits it unless it is a run of parts
// without an end.
func (c *core) apply(ctx context.Context, run []*dfs.Transaction, commit bool) error {
	if len(run) == 0 {
		return nil
	}
	last := run[len(run)-1]
	parts := c.open || c.spool.holds()
	before := c.opening(run, commit)
	failpoint.Hit("core.write")
	list := once(items(run))
	within := before[0].sql != c.db.begin()[0].sql // of the open transaction
	c.open = true
	var err error
	switch {
	case c.merger == nil || hasDDL(run):
		if err = c.db.write(ctx, before, nil); err == nil {
			err = c.inOrder(ctx, run)
		}
	default:
		err = c.merged(ctx, list, before)
		if err != nil && c.mayRetry(err) {
			c.stats.fallbacks.Add(1)
			c.log.Debug("applying a run in pieces", "from", run[0].Seq, "to", last.Seq, "cause", err)
			cause, undo := err, "ROLLBACK"
			if within {
				undo = "ROLLBACK TO SAVEPOINT dfs_part"
				before = before[1:] // which is still there
			}
			if _, err = c.db.exec(ctx, stmt{sql: undo, want: uncounted}); err == nil {
				if broken, _ := c.db.constraint(cause); !broken && c.db.serverError(cause) {
					c.forget() // the target may have been altered
				}
				if err = c.db.write(ctx, before, nil); err == nil {
					err = c.pieces(ctx, list)
				}
			} else {
				err = fmt.Errorf("%w; going back to before it: %w", cause, err)
			}
		}
	}
	if err == nil && within && !commit {
		// A later part must never return to where this one began.
		err = c.run(ctx, "RELEASE SAVEPOINT dfs_part")
	}
	if err == nil {
		c.at = last.Seq
		if commit {
			err = c.commit(ctx, run)
		} else {
			failpoint.Hit("core.part")
		}
	}
	if err != nil {
		return c.fail(ctx, run, parts, c.fenced(err))
	}
	c.count(run, list)
	return nil
}

// opening returns what opens the transaction of a run and moves the checkpoint, or
// what marks its place within the open one.
func (c *core) opening(run []*dfs.Transaction, commit bool) (list []stmt) {
	if c.open {
		list = append(list, stmt{sql: "SAVEPOINT dfs_part", want: uncounted})
		if commit {
			list = append(list, c.move(run))
		}
		return list
	}
	list = c.db.begin()
	if !commit {
		run = nil
	}
	return append(list, c.move(run))
}

// errFence says that the checkpoint's row is not as this sink left it.
var errFence = errors.New("the checkpoint was moved or taken over")

func (c *core) fenced(err error) error {
	if errors.Is(err, errFence) {
		return c.conflict("another pipeline of this name has moved the checkpoint, or taken it over")
	}
	return err
}

// commit ends the open transaction, which ends with a run. If its reply is lost, the
// error is transient, and the checkpoint tells how it ended.
func (c *core) commit(ctx context.Context, run []*dfs.Transaction) error {
	failpoint.Hit("core.commit")
	if _, err := c.db.exec(ctx, stmt{sql: "COMMIT", want: uncounted}); err != nil {
		return fmt.Errorf("committing up to transaction %d: %w", c.at, err)
	}
	failpoint.Hit("core.committed")
	c.stands.note(run)
	c.open = false
	if c.spool != nil {
		c.stats.inserts.Add(c.spool.ops[dfs.Insert])
		c.stats.updates.Add(c.spool.ops[dfs.Update])
		c.stats.deletes.Add(c.spool.ops[dfs.Delete])
	}
	c.spool.reset()
	c.stats.commits.Add(1)
	return nil
}

// fail undoes the open transaction and returns err as Apply's error. If err names a
// transaction at which to stop, the ones before it are applied first.
func (c *core) fail(ctx context.Context, run []*dfs.Transaction, parts bool, err error) error {
	if c.db.connected() {
		if _, e := c.db.exec(context.WithoutCancel(ctx), stmt{sql: "ROLLBACK", want: uncounted}); e != nil {
			c.db.drop()
		}
	}
	c.open = false
	c.at = c.stands.at.Seq
	c.spool.reset()
	var stop *stopError
	if !errors.As(err, &stop) || errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
		return err
	}
	k := int(stop.seq - run[0].Seq)
	if stop.seq < run[0].Seq {
		k = 0 // it is in a part that was taken before
	}
	for k > 0 && run[k-1].More {
		k--
	}
	if !parts && k > 0 {
		if e := c.apply(ctx, run[:k], true); e != nil {
			return e
		}
	}
	return stop.err
}

func (c *core) count(run []*dfs.Transaction, list []item) {
	for i := range list {
		c.countRow(list[i].c.Op)
	}
	for _, tx := range run {
		if !tx.More {
			c.stats.transactions.Add(1)
		}
		for i := range tx.Changes {
			if ch := &tx.Changes[i]; ch.Op == dfs.DDL {
				c.countDDL(tx, ch)
			}
		}
	}
}

func (c *core) countRow(op dfs.Op) {
	switch op {
	case dfs.Insert:
		c.stats.inserts.Add(1)
	case dfs.Update:
		c.stats.updates.Add(1)
	case dfs.Delete:
		c.stats.deletes.Add(1)
	}
}

// merged merges the changes and executes them, after the statements before.
func (c *core) merged(ctx context.Context, list []item, before []stmt) error {
	c.merger.reset()
	for i := range list {
		mp, err := c.mapping(ctx, list[i].c.Table)
		if err == nil {
			err = c.merger.add(list[i].c, mp)
		}
		if err != nil {
			if errors.Is(err, dfs.ErrTransient) {
				return err
			}
			return &stopError{list[i].tx.Seq, fmt.Errorf("transaction %s: %w", txName(list[i].tx.Seq, list[i].tx.ID), err)}
		}
	}
	return c.db.write(ctx, before, c.merger.finish())
}

// inOrder applies changes one by one: first those of parts that were set aside.
func (c *core) inOrder(ctx context.Context, run []*dfs.Transaction) error {
	err := c.spool.each(func(tx *dfs.Transaction) error { return c.inTurn(ctx, tx) })
	for _, tx := range run {
		if err == nil {
			err = c.inTurn(ctx, tx)
		}
	}
	return err
}

// inTurn applies the changes of one transaction or part.
func (c *core) inTurn(ctx context.Context, tx *dfs.Transaction) error {
	list := items([]*dfs.Transaction{tx})
	keep := make(map[*dfs.Change]bool)
	if all := len(list); all > 1 {
		if list = once(list); len(list) < all {
			for _, it := range list {
				keep[it.c] = true
			}
		}
	}
	for i := range tx.Changes {
		ch := &tx.Changes[i]
		var err error
		switch {
		case ch.Op == dfs.DDL:
			err = c.statement(ctx, tx, ch)
		case len(keep) > 0 && !keep[ch]:
		default:
			err = c.one(ctx, item{ch, tx})
		}
		if err != nil {
			return &stopError{tx.Seq, err}
		}
	}
	return nil
}

func hasDDL(run []*dfs.Transaction) bool {
	return slices.ContainsFunc(run, func(tx *dfs.Transaction) bool {
		return slices.ContainsFunc(tx.Changes, func(c dfs.Change) bool { return c.Op == dfs.DDL })
	})
}

// mapping returns how rows of a source's table are written, and reads on first use
// what the target says of its table.
func (c *core) mapping(ctx context.Context, src *dfs.Table) (*mapping, error) {
	if mp := c.maps[src]; mp != nil {
		return mp, nil
	}
	mp, err := c.newMap(ctx, src)
	return mp, dfs.Standing(err) // it is the same for each row of the table
}

// owns reports whether a table of the target is the one of the checkpoint.
func (c *core) owns(schema, name string) bool {
	return c.db.tableKey(schema, name) == c.db.tableKey(c.schema, checkpointTable)
}

func (c *core) newMap(ctx context.Context, src *dfs.Table) (*mapping, error) {
	if src == nil {
		return nil, errors.New("a change names no table")
	}
	schema, name := match.Target(c.routes, src.Schema, src.Name)
	key := c.db.tableKey(schema, name)
	if c.owns(schema, name) {
		return nil, nameError(fmt.Sprintf("%s would be written to %s, which is the pipeline's own: leave it out, or route it elsewhere", src, key))
	}
	t := c.tables[key]
	if t != nil && (t.schema != schema || t.name != name) {
		return nil, oneTable(t.schema+"."+t.name, schema+"."+name)
	}
	if t == nil || t.stale {
		var err error
		if t, err = c.db.loadTable(ctx, schema, name); err != nil {
			return nil, fmt.Errorf("reading the target's table %s: %w", key, err)
		}
		t.key = key
		t.run = c.tableRun(key)
		for _, keys := range [2][]foreignKey{t.parents, t.children} {
			for i := range keys {
				keys[i].run = c.tableRun(keys[i].other)
			}
		}
		c.tables[key] = t
	}
	mp, err := c.newMapping(src, t)
	if err != nil {
		t.stale = true
		return nil, err
	}
	fresh := true
	for _, old := range c.maps {
		if old.to == t && sameTable(old.src, src) {
			mp, fresh = old, false // so that their rows share statements
			break
		}
	}
	if fresh && len(mp.notes) > 0 && !c.tells {
		c.log.Warn("values may change on the target", "table", t.key, "how", mp.notes)
	}
	if len(c.maps) >= maxMaps {
		clear(c.maps)
	}
	c.maps[src] = mp
	return mp, nil
}

func (c *core) tableRun(key string) *tableRun {
	r := c.runs[key]
	if r == nil {
		r = new(tableRun)
		c.runs[key] = r
	}
	return r
}

// newMapping checks that rows of src fit the target's table, and returns all faults
// joined.
func (c *core) newMapping(src *dfs.Table, to *table) (*mapping, error) {
	n := len(src.Columns)
	m := &mapping{src: src, to: to, columns: make([]column, n), fkCols: newColset(n), refCols: newColset(n), alwaysOn: newColset(n),
		rowwise: newColset(n), exact: make([]bool, n)}
	m.text = make([]func([]byte, dfs.Value) ([]byte, error), n)
	m.bind = make([]func(dfs.Value) (any, error), n)
	m.of = make([]int, len(to.columns))
	for i := range m.of {
		m.of[i] = -1
	}
	var errs []error
	for i := range src.Columns {
		sc, col := &src.Columns[i], &m.columns[i]
		if col.to = to.column(sc.Name); col.to < 0 {
			errs = append(errs, fmt.Errorf("the target's table %s has no column %s, which %s has: add it, or drop the column on the way", to.key, sc.Name, src))
			continue
		}
		tc := &to.columns[col.to]
		col.name = tc.name
		if tc.generated {
			col.to = -1
			m.notes = append(m.notes, fmt.Sprintf("column %s is generated on the target: the source's values are left out", tc.name))
			continue
		}
		if m.of[col.to] >= 0 {
			errs = append(errs, fmt.Errorf("two columns of %s go into the column %s of %s", src, tc.name, to.key))
			continue
		}
		m.of[col.to] = i
		note, err := c.db.mapColumn(m, i, tc)
		if err != nil && c.tells {
			// A value that was masked is a text, whatever the target's column is.
			m.text[i] = func(b []byte, v dfs.Value) ([]byte, error) { return append(b, v.String()...), nil }
			m.bind[i] = func(v dfs.Value) (any, error) { return v.String(), nil }
		} else if err != nil {
			errs = append(errs, fmt.Errorf("column %s of %s (%s) and of the target's table %s (%s): %w", sc.Name, src, sc.Type, to.key, tc.typ, err))
		} else if note != "" {
			m.notes = append(m.notes, fmt.Sprintf("column %s is %s on the source and %s on the target: %s", tc.name, sc.Type, tc.typ, note))
		}
	}
	for j := range to.columns {
		if tc := &to.columns[j]; m.of[j] < 0 && !tc.optional && !tc.generated {
			errs = append(errs, fmt.Errorf("the column %s of the target's table %s is NOT NULL without a default, and %s has no such column: give it one",
				tc.name, to.key, src))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	m.findKeys(nil)
	for _, fk := range to.parents {
		m.mark(m.fkCols, m.of, fk.columns)
	}
	for _, fk := range to.children {
		m.mark(m.refCols, m.of, fk.columns)
	}
	return m, nil
}
