package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// TargetMender is a TargetRows whose rows can be repaired. Package sink's RowMender is
// one, of PostgreSQL and SQLite.
type TargetMender interface {
	TargetRows

	// Mend calls do within a transaction of the target, which is committed if do returns
	// nil, and else undone. It holds the pipeline's checkpoint, so that none of the
	// pipeline's transactions is open and none commits until Mend returns; at is where it
	// stands. All other methods see what the transaction sees. An error that is
	// dfs.ErrTransient may pass, or leaves open what became of the commit.
	Mend(ctx context.Context, do func(at dfs.Checkpoint) error) error

	// Write makes the row of a key what made says, and returns how many rows that has
	// changed. Without a key the row is inserted, and without made it is deleted. Of each
	// of made Table and After count, and where two have a column of the target it is that
	// of the first. Columns that none has, or has as Absent, stay as they are.
	Write(ctx context.Context, to *dfs.Table, key dfs.Row, made []dfs.Change) (rows int64, err error)

	// Remove deletes the rows that which chooses, of all of the table, and returns how
	// many it has deleted.
	Remove(ctx context.Context, to *dfs.Table, which func(dfs.Row) bool) (rows int64, err error)
}

// A notMended says why a transaction that was to mend something is undone for good.
type notMended string

func (e notMended) Error() string { return string(e) }

// otherTypes says that a repair came to nothing.
const otherTypes = notMended("the target stores something else than what it is given: compare the types of the columns, and look for triggers")

// mendStored is mend for a row of TargetRows. made are the rows of the source, as stages
// make them, of which the target's is made.
//
// Invariant (exact beside a running pipeline): the argument is that of mend. Mend holds
// the checkpoint in place of the lock of its row.
func (j *job) mendStored(ctx context.Context, src *sql.Tx, s suspect, was [][]cell, made []dfs.Change, f *Finding) (again bool, err error) {
	how := ""
	at := f.At
	err = j.mending(ctx, func(m TargetMender) error {
		has, err := j.had(ctx, s)
		if err != nil {
			return err
		}
		if !alive(ctx, src) || j.same(was, has) {
			return errAgain // or somebody else has mended it
		}
		*f = j.finding(was, has, at)
		var key dfs.Row
		switch {
		case len(has) > 1:
			return notMended(tooMany(len(has)))
		case len(has) == 1:
			key = j.keyOf(has[0]).forms()
		}
		if how = f.how(); f.Kind == ExtraRow {
			made = nil
		}
		n, err := m.Write(ctx, j.stored.to, key, j.unignored(made))
		if err != nil {
			return err
		}
		if n != 1 {
			return notMended(fmt.Sprintf("the statement changed %d rows, and one was to be changed", n))
		}
		now, err := j.had(ctx, s)
		if err == nil && !j.same(was, now) {
			err = otherTypes
		}
		return err
	})
	if again, err = j.undone(ctx, err, f); again || err != nil || f.Why != "" {
		return again, err
	}
	f.Mended = true
	j.log.Info("mended a row of the target", "table", j.to.String(), "row", j.showKey(s.key), "how", how)
	return false, nil
}

// how names what mends the finding.
func (f *Finding) how() string {
	return map[string]string{MissingRow: "insert", ExtraRow: "delete", DifferentRow: "update"}[f.Kind]
}

func tooMany(n int) string {
	return fmt.Sprintf("the target has %d rows of this key: delete those that are too many by hand, and add a unique key", n)
}

// mending calls do within a transaction that holds the checkpoint, unless a copy of rows
// has begun: see lockCheckpoint.
func (j *job) mending(ctx context.Context, do func(m TargetMender) error) error {
	m := j.TargetRows.(TargetMender) // as check has made sure
	return m.Mend(ctx, func(at dfs.Checkpoint) error {
		p, err := parsePlace(string(at.Pos))
		if err != nil {
			return err
		}
		if p.copying {
			return errAgain
		}
		return do(m)
	})
}

// undone finds out what the error of a transaction means that was to mend something: that
// it is to be tried again, or why it cannot be done, which f then says.
func (j *job) undone(ctx context.Context, err error, f *Finding) (again bool, _ error) {
	j.hindered = nil
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err == nil:
		return false, nil
	case errors.Is(err, errAgain):
		return true, nil
	case errors.Is(err, dfs.ErrTransient):
		j.hindered = err
		return true, nil
	}
	f.Why = err.Error()
	if hidden := new(notMended); !errors.As(err, hidden) && slices.ContainsFunc(j.to.columns, func(c column) bool { return covers(j.hide, j.to, c.name) }) {
		f.Why = "the target has refused it, and its words may show a value that is hidden: verify once without hiding any"
	}
	return false, nil
}

// unignored leaves what is ignored out of rows that are to be written, but for the key.
func (j *job) unignored(made []dfs.Change) []dfs.Change {
	if len(j.ignore) == 0 {
		return made
	}
	out := slices.Clone(made)
	for n := range out {
		c := &out[n]
		c.After = slices.Clone(c.After)
		for i := range c.After {
			at := j.to.column(c.Table.Columns[i].Name)
			if at >= 0 && !slices.Contains(j.key, at) && covers(j.ignore, j.to, j.to.columns[at].name) {
				c.After[i] = dfs.AbsentValue()
			}
		}
	}
	return out
}

// would says what a repair would do about a finding, for people: values are as they are
// shown in reports.
func (j *job) would(f *Finding, was, has [][]cell) string {
	var names, values, sets, finds []string
	for i := range j.pairs {
		q := &j.pairs[i]
		name := q.to.name
		switch {
		case len(was) == 0:
		case q.to.generated || was[0][i].absent:
			continue
		default:
			text := j.cell(i, was[0], nil).Source
			names, values = append(names, name), append(values, text)
			if f.Kind == DifferentRow && !was[0][i].is(has[0][i]) {
				sets = append(sets, name+"="+text)
			}
		}
		if len(has) > 0 && (slices.Contains(j.key, i) || j.key == nil) && !has[0][i].absent {
			if text := j.cell(i, nil, has[0]).Target; has[0][i].null {
				finds = append(finds, name+" IS NULL")
			} else {
				finds = append(finds, name+"="+text)
			}
		}
	}
	switch f.Kind {
	case MissingRow:
		return "INSERT INTO " + j.to.String() + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(values, ", ") + ")"
	case ExtraRow:
		return "DELETE FROM " + j.to.String() + " WHERE " + strings.Join(finds, " AND ")
	}
	return "UPDATE " + j.to.String() + " SET " + strings.Join(sets, ", ") + " WHERE " + strings.Join(finds, " AND ")
}

// mendStoredBags is mendLocked for a table of TargetRows. Rows that are too many go
// first, since they may have a key of those that are missing.
func (j *job) mendStoredBags(ctx context.Context, src *sql.Tx, list []bag) (why string, err error) {
	var f Finding
	err = j.mending(ctx, func(m TargetMender) error {
		had, left := make(map[string]int, len(list)), make(map[string]int, len(list))
		for _, x := range list {
			had[x.hash], left[x.hash] = 0, max(0, x.target-x.source)
		}
		surplus := 0
		for _, n := range left {
			surplus += n
		}
		written, err := j.writtenForms(ctx)
		if err != nil {
			return err
		}
		n, err := m.Remove(ctx, j.stored.to, func(row dfs.Row) bool {
			d := j.storedDigest(written, j.cells(row))
			if _, ok := had[string(d[:])]; ok {
				had[string(d[:])]++
			}
			if left[string(d[:])] == 0 {
				return false
			}
			left[string(d[:])]--
			return true
		})
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n != int64(surplus) || !alive(ctx, src) || slices.ContainsFunc(list, func(x bag) bool { return had[x.hash] != x.target }) {
			return errAgain
		}
		for _, x := range list {
			for range max(0, x.source-x.target) {
				n, err := m.Write(ctx, j.stored.to, nil, j.unignored([]dfs.Change{{Op: dfs.Insert, Table: j.mapper.sources[0].table, After: x.made}}))
				if err != nil {
					return fmt.Errorf("insert: %w", err)
				}
				if n != 1 {
					return otherTypes
				}
			}
		}
		for _, x := range list {
			had[x.hash] = 0
		}
		err = j.storedDigests(ctx, nil, false, "", func(d digest, _ []cell, _ dfs.Row) {
			if _, ok := had[string(d[:])]; ok {
				had[string(d[:])]++
			}
		})
		if err == nil && slices.ContainsFunc(list, func(x bag) bool { return had[x.hash] != x.source }) {
			err = otherTypes
		}
		return err
	})
	again, err := j.undone(ctx, err, &f)
	if again {
		err = errAgain
	}
	return f.Why, err
}
