package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// A suspect is the key of a row that was not the same on both sides when ranges
// were compared, which means nothing on a target that follows its source.
//
// Invariant (no false alarm): a suspect becomes a finding only by this argument.
//
//  1. A transaction of the source holds a shared lock on the row, or on the gap
//     where it would be: what it read is a. Until it ends, at R, nobody changes
//     the row. Whoever changed it before has ended, and so is in the log; whoever
//     will do so is not in the log before R, since a transaction is logged while
//     it holds its locks.
//  2. After that the place P of the log is read. All changes of the row that led
//     to a are before P, and none between P and the log's end at R.
//  3. The target's checkpoint C, at P or behind it, is read. It moves with the
//     rows in one atomic write (I1), so the target has all changes of the row
//     that led to a.
//  4. After that the row of the target is read: b. The transaction of 1 is then
//     seen to be there still. So b was read before R, and the target had no
//     change of the row from behind P.
//
// Hence b is what the pipeline made of a. If it is not the same, the target is
// wrong, whatever the load, the lag and the isolation of others are.
//
// Two looks at the source without a lock would not do: a row that changes and
// changes back between them, as flags do, is the same at both, and the target may
// rightly show what was between.
type suspect struct {
	key bound

	// With stages the key is one of the target, and from are the rows of the source
	// that it may be made of: all of them, if whole is set.
	from  []origin
	whole bool

	// doubt says of a row that only the target has that a row of the source may have
	// become it by another key, since values of the key change on their way.
	doubt bool
}

const (
	suspectsAtOnce = 256 // that are collected before they are settled
	lockedAtOnce   = 16  // that are locked at the same time
	freeLooks      = 2   // without a lock; under load nearly all settle here
)

// settle finds out about all suspects and forgets them.
func (j *job) settle(ctx context.Context) error {
	list := j.suspects
	j.suspects, j.seen = nil, nil
	// Locks are taken in one order, which for numbers is that of most writers.
	slices.SortFunc(list, func(a, b suspect) int { return strings.Compare(a.key.id(), b.key.id()) })
	end := time.Now().Add(j.patience())
	var err error
	for range freeLooks {
		if list, err = j.look(ctx, list, end); err != nil {
			return j.untold(ctx, list, err)
		}
	}
	for pause := 10 * time.Millisecond; len(list) > 0 && !j.t.More; {
		n := min(len(list), lockedAtOnce)
		var left []suspect
		switch {
		case j.Settle > 0:
			left, err = j.settleByTime(ctx, list[:n])
		case j.LockTime < 0:
			left, err = j.settleAtRest(ctx, list[:n])
		default:
			left, err = j.settleLocked(ctx, list[:n])
		}
		list = append(list[n:], left...)
		if err != nil {
			return j.untold(ctx, list, err)
		}
		if len(left) < n {
			// Patience is for the rest, which may be many.
			pause, end = 10*time.Millisecond, time.Now().Add(j.patience())
			continue
		}
		if time.Now().After(end) {
			err = errBusy
			if j.hindered != nil {
				err = fmt.Errorf("%w; the last time a repair met: %w", errBusy, j.hindered)
			}
			return j.untold(ctx, list, err)
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
		pause = min(2*pause, 2*time.Second)
	}
	return nil
}

// errBusy means that a row never stood still for long enough.
var errBusy = errors.New("the rows changed, or were locked, at each look, or the pipeline needed longer than LockTime (-lock-time) to pass")

// untold reports suspects of which nothing could be found out. What is wrong
// with the pipeline or a row is no reason to leave the rest of the table; all
// else is.
func (j *job) untold(ctx context.Context, list []suspect, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(list) == 0 && err != nil {
		return err
	}
	if errors.Is(err, errStands) || errors.Is(err, errBusy) {
		j.t.untold("%d rows differ, such as %s, within %v: %v", len(list), j.showKey(list[0].key), j.patience(), err)
		if errors.Is(err, errStands) {
			return errStands
		}
		return nil
	}
	return err
}

// showKey returns a key for people.
func (j *job) showKey(key bound) string {
	var parts []string
	for k, i := range j.key {
		text := "(hidden)"
		if q := &j.pairs[i]; !covers(j.hide, j.to, q.to.name) {
			text = show(key[k], q.plain())
		}
		parts = append(parts, j.pairs[i].name+"="+text)
	}
	return strings.Join(parts, ",")
}

// rows reads the rows that have the key, as the side's server compares.
func (j *job) rows(ctx context.Context, q querier, t *table, key bound, lock string) ([][]cell, error) {
	s := &j.fromSQL
	if t == j.to {
		s = &j.toSQL
	}
	rows, err := query(ctx, q, "SELECT "+strings.Join(s.forms, ",")+" FROM "+s.table+" WHERE "+j.equals(t, key)+lock)
	for _, r := range rows {
		j.normal(r)
	}
	return rows, err
}

// same reports whether both sides have the same rows for a key.
func (j *job) same(a, b [][]cell) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !slices.EqualFunc(a[i], b[i], cell.is) {
			return false
		}
	}
	return true
}

// A wanted tells what the target must have for a suspect, of rows that were read, and of
// which rows of stages that is made. It is called when the pipeline has passed them: see
// carried.go.
type wanted func() (rows [][]cell, made []dfs.Change, err error)

// wanted reads what the target must have for a suspect.
func (j *job) wanted(ctx context.Context, q querier, s suspect, lock string) (wanted, error) {
	if j.mapper != nil {
		return j.mapper.wanted(ctx, q, j, s, lock)
	}
	rows, err := j.rows(ctx, q, j.from, s.key, lock)
	return func() ([][]cell, []dfs.Change, error) { return rows, nil, nil }, err
}

// expected is what wanted says for each suspect, or why nothing can be told since the
// pipeline has not carried the row that it may come from.
func expected(want []wanted) (was [][][]cell, made [][]dfs.Change, gone []error, err error) {
	was, made, gone = make([][][]cell, len(want)), make([][]dfs.Change, len(want)), make([]error, len(want))
	for i, f := range want {
		if was[i], made[i], err = f(); notCarried(err) {
			gone[i] = err
		} else if err != nil {
			return nil, nil, nil, err
		}
	}
	return was, made, gone, nil
}

// lost reports a suspect whose row of the source the pipeline has left out.
func (j *job) lost(s suspect, at string, why error) {
	j.mapper.leftOut(s.from[0].of, s.from[0].key, at, why)
}

// had reads what the target has for a suspect.
func (j *job) had(ctx context.Context, s suspect) ([][]cell, error) {
	if j.stored != nil {
		var rows [][]cell
		err := j.storedWith(ctx, []bound{s.key}, func(row []cell) { rows = append(rows, row) })
		return rows, err
	}
	return j.rows(ctx, j.target.db, j.to, s.key, "")
}

// tell reports a finding about a suspect.
func (j *job) tell(s suspect, f Finding, was, has [][]cell) {
	if s.doubt && f.Kind == ExtraRow {
		j.doubt(s.key, f)
		return
	}
	j.report(f, was, has)
}

// acquitted reports whether a suspect is none, as one whose row of the source no
// longer makes a row of that key: others may.
func (j *job) acquitted(s suspect, was, has [][]cell) bool {
	return j.same(was, has) || j.mapper != nil && len(was) == 0 && !s.whole
}

// look looks at suspects on the source and, when the pipeline has passed that, on
// the target. It returns those that still differ.
func (j *job) look(ctx context.Context, list []suspect, end time.Time) ([]suspect, error) {
	if len(list) == 0 {
		return nil, nil
	}
	var differ []suspect
	for len(list) > 0 {
		n := min(len(list), suspectsAtOnce)
		want := make([]wanted, n)
		var err error
		for i := range n {
			if want[i], err = j.wanted(ctx, j.source.db, list[i], ""); err != nil {
				return append(differ, list...), err
			}
		}
		j.seam("looked")
		if _, err := j.pass(ctx, time.Until(end)); err != nil {
			return append(differ, list...), err
		}
		was, _, gone, err := expected(want)
		if err != nil {
			return append(differ, list...), err
		}
		for i := range n {
			if gone[i] != nil {
				differ = append(differ, list[i])
				continue
			}
			has, err := j.had(ctx, list[i])
			if err != nil {
				return append(differ, list...), err
			}
			if !j.acquitted(list[i], was[i], has) {
				differ = append(differ, list[i])
			}
		}
		list = list[n:]
	}
	return differ, nil
}

// again reports whether an error of the servers goes by itself: a lock that could
// not be had in time.
func again(err error) bool {
	n := serverError(err)
	return n == erLockWait || n == erDeadlock
}

// settleLocked settles suspects under a lock on the source. It returns those that
// must be tried again.
func (j *job) settleLocked(ctx context.Context, list []suspect) (left []suspect, err error) {
	tx, err := j.source.db.BeginTx(ctx, nil)
	if err != nil {
		return list, err
	}
	defer tx.Rollback()
	lock := j.source.share
	if j.broken == "lock" {
		lock = ""
	}
	want := make([]wanted, len(list))
	for i := range list {
		want[i], err = j.wanted(ctx, tx, list[i], lock)
		switch {
		case again(err):
			return list, nil
		case serverError(err) == erTableAccess:
			return list, fmt.Errorf("lock a row of the source: %w: GRANT LOCK TABLES ON %s.* TO the account, or set LockTime to a negative value", err, ident(j.from.schema))
		case err != nil:
			return list, fmt.Errorf("lock a row of the source: %w", err)
		}
	}
	j.seam("locked")
	at, err := j.pass(ctx, j.lockTime())
	if errors.Is(err, errStands) {
		// Not while others wait for the rows.
		tx.Rollback()
		_, err = j.pass(ctx, j.patience())
		return list, err
	}
	if err != nil {
		return list, err
	}
	was, made, gone, err := expected(want)
	if err != nil {
		return list, err
	}
	has := make([][][]cell, len(list))
	for i := range list {
		if has[i], err = j.had(ctx, list[i]); err != nil {
			return list, err
		}
	}
	if !alive(ctx, tx) {
		return list, ctx.Err()
	}
	for i := range list {
		if gone[i] != nil && !j.t.More {
			j.lost(list[i], at, gone[i])
		}
		if gone[i] != nil || j.acquitted(list[i], was[i], has[i]) || j.t.More {
			continue
		}
		f := j.finding(was[i], has[i], at)
		switch {
		case !j.Repair || list[i].doubt && f.Kind == ExtraRow:
		case j.DryRun && len(has[i]) > 1:
			f.Why = tooMany(len(has[i]))
		case j.DryRun:
			f.Would = j.would(&f, was[i], has[i])
		default:
			var again bool
			if j.stored != nil {
				again, err = j.mendStored(ctx, tx, list[i], was[i], made[i], &f)
			} else {
				again, err = j.mend(ctx, tx, list[i], was[i], &f)
			}
			if err != nil {
				return append(left, list[i:]...), err
			}
			if again {
				left = append(left, list[i])
				continue
			}
		}
		j.tell(list[i], f, was[i], has[i])
	}
	return left, nil
}

// alive reports whether a transaction of the source is there still, with its
// locks: a connection that was lost, or that the server has ended, answers
// nothing.
func alive(ctx context.Context, tx *sql.Tx) bool {
	_, err := query(ctx, tx, "SELECT 1")
	return err == nil
}

// settleAtRest settles suspects without a lock, in a moment in which the source
// commits nothing at all.
//
// Invariant (no false alarm): its log stood at one place from before the first
// look at the source until after the last at the target, and no transaction was
// between its writing to the log and its commit, which gtid_owned would show. So
// the source was what its log says, and the target had all of it.
func (j *job) settleAtRest(ctx context.Context, list []suspect) (left []suspect, err error) {
	if !j.source.gtid {
		return list, errors.New("without a lock nothing can be settled unless the source has GTIDs of MySQL: let LockTime be positive")
	}
	before, err := j.place(ctx)
	if err != nil {
		return list, err
	}
	want := make([]wanted, len(list))
	for i := range list {
		if want[i], err = j.wanted(ctx, j.source.db, list[i], ""); err != nil {
			return list, err
		}
	}
	at, err := j.pass(ctx, j.patience())
	if err != nil {
		return list, err
	}
	var findings []func()
	was, _, gone, err := expected(want)
	if err != nil {
		return list, err
	}
	for i := range list {
		if gone[i] != nil {
			findings = append(findings, func() { j.lost(list[i], at, gone[i]) })
			continue
		}
		has, err := j.had(ctx, list[i])
		if err != nil {
			return list, err
		}
		if !j.acquitted(list[i], was[i], has) {
			findings = append(findings, func() { j.tell(list[i], j.finding(was[i], has, at), was[i], has) })
		}
	}
	after, err := j.place(ctx)
	if err != nil || before != after || before.owned {
		return list, err
	}
	for _, f := range findings {
		f()
	}
	return nil, nil
}

// settleByTime settles suspects of a target without a checkpoint: those whose row
// of the source is the same before and after Settle.
func (j *job) settleByTime(ctx context.Context, list []suspect) (left []suspect, err error) {
	want := make([]wanted, len(list))
	for i := range list {
		if want[i], err = j.wanted(ctx, j.source.db, list[i], ""); err != nil {
			return list, err
		}
	}
	if _, err := j.pass(ctx, j.patience()); err != nil {
		return list, err
	}
	was, _, gone, err := expected(want)
	if err != nil {
		return list, err
	}
	for i := range list {
		if gone[i] != nil {
			j.lost(list[i], "", gone[i])
			continue
		}
		has, err := j.had(ctx, list[i])
		if err != nil {
			return list, err
		}
		now, err := j.wanted(ctx, j.source.db, list[i], "")
		if err != nil {
			return list, err
		}
		is, _, err := now()
		switch {
		case err != nil && notCarried(err):
			left = append(left, list[i])
		case err != nil:
			return list, err
		case !j.same(was[i], is):
			left = append(left, list[i])
		case !j.acquitted(list[i], is, has):
			j.tell(list[i], j.finding(is, has, ""), is, has)
		}
	}
	return left, nil
}

// finding says how rows of one key differ.
func (j *job) finding(was, has [][]cell, at string) Finding {
	f := Finding{Table: j.to.String(), At: at}
	var a, b []cell
	if len(was) > 0 {
		a = was[0]
	}
	if len(has) > 0 {
		b = has[0]
	}
	switch {
	case b == nil:
		f.Kind = MissingRow
	case a == nil:
		f.Kind = ExtraRow
	case len(has) > len(was):
		f.Kind, f.Count = ExtraRow, len(has)-len(was)
	default:
		f.Kind = DifferentRow
	}
	for i := range j.pairs {
		c := j.cell(i, a, b)
		if slices.Contains(j.key, i) {
			f.Key = append(f.Key, c)
		}
		if f.Kind == DifferentRow && !a[i].is(b[i]) {
			f.Columns = append(f.Columns, c)
		}
	}
	return f
}

// cell shows what both sides have in a column, of rows that may be missing.
func (j *job) cell(i int, a, b []cell) Cell {
	q := &j.pairs[i]
	c := Cell{Column: q.name}
	hide := covers(j.hide, j.to, q.to.name)
	text := func(row []cell) string {
		switch {
		case row == nil:
			return ""
		case hide:
			return "(hidden)"
		}
		return show(row[i], q.plain())
	}
	c.Source, c.Target = text(a), text(b)
	return c
}

// report adds a finding, unless the row is one already: a key that the sides
// order in different ways may be a suspect of two ranges.
func (j *job) report(f Finding, was, has [][]cell) {
	var id strings.Builder
	for _, rows := range [2][][]cell{was, has} {
		for _, r := range rows {
			id.WriteString(j.keyOf(r).id())
		}
		id.WriteByte('/')
	}
	if j.found[id.String()] {
		return
	}
	if j.found == nil {
		j.found = make(map[string]bool)
	}
	j.found[id.String()] = true
	j.add(f)
}

// add adds a finding to the report.
func (j *job) add(f Finding) {
	if f.Kind == ExtraRow && j.keepsExtra(j.to) {
		return
	}
	switch f.Kind {
	case MissingRow:
		j.t.Missing++
	case ExtraRow:
		j.t.Extra++
	default:
		j.t.Different++
	}
	if f.Mended {
		j.t.Repaired++
	}
	if f.Would != "" {
		j.t.Repairable++
	}
	j.t.Findings = append(j.t.Findings, f)
	j.t.More = len(j.t.Findings) >= j.most()
	j.log.Warn("source and target differ", "table", f.Table, "what", f.String())
}

// keepsExtra reports whether surplus rows of the table are none.
func (c *checked) keepsExtra(t *table) bool {
	for _, p := range c.keeps {
		if p.Match(t.schema, t.name) {
			return true
		}
	}
	return false
}
