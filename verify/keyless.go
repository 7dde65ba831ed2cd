package verify

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// compareBags compares tables whose rows nothing tells apart: how many there are
// of each. There is no row to look at again, so it is the whole table that is.
//
// Invariant (no false alarm): the argument is that of settle.go for a row, with a
// lock on all rows and gaps of the source's table, which a scan that locks takes.
// It is only taken of tables whose scan is quick. Larger ones are settled if the
// whole source rests meanwhile.
//
// Memory is bounded whatever the table has: see bagsByPart.
func (j *job) compareBags(ctx context.Context) error {
	began := time.Now()
	count := func() (a, b sum, err error) { return j.sums(ctx, "TRUE", "TRUE") }
	if j.stored != nil {
		count = func() (a, b sum, err error) { return j.countStored(ctx) }
	}
	a, b, err := count()
	if err != nil {
		return err
	}
	j.scan = time.Since(began)
	j.count(a.rows, b.rows)
	if a == b && !j.inGo {
		return nil
	}
	j.large = max(a.rows, b.rows) > j.inMemory()
	if a != b {
		j.t.Looked += a.rows
	}
	end := time.Now().Add(j.patience())
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		done, err := j.lookAtBags(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case done:
			return nil
		case err != nil && !errors.Is(err, errStands):
			return err
		case time.Now().After(end):
			j.t.untold("the table has no key and differs as a whole, and the source did not rest within %v: add a primary key, or verify it in a quiet hour", j.patience())
			return err
		}
		if !wait(ctx, pause) {
			return ctx.Err()
		}
	}
}

// bagInMemory is how many rows of a table without a key are told apart at once.
const bagInMemory = 200000

// inMemory is bagInMemory, but in tests.
func (c *checked) inMemory() uint64 { return cmp.Or(c.few, bagInMemory) }

// lookAtBags compares all rows once more, so that the result holds. It reports
// false if it does not.
func (j *job) lookAtBags(ctx context.Context) (bool, error) {
	before, err := place{}, error(nil)
	if j.Passed == nil && j.Settle == 0 {
		if before, err = j.place(ctx); err != nil {
			return false, err
		}
	}
	// Without a lock first: under a light load that is enough.
	a, at, b, err := j.bags(ctx, j.source.db, "")
	if err != nil {
		return false, err
	}
	if len(a) == 0 && len(b) == 0 {
		return !j.moved, nil
	}
	locked := 2 * j.scan // with what else is done meanwhile
	if j.large {
		locked *= 2 // as it is read twice
	}
	holds := false
	why := fmt.Sprintf("rows of a table without a key are mended only while they are locked: let LockTime (-lock-time) be more than %v, or add a primary key", locked.Round(time.Millisecond))
	var list []bag
	switch {
	case j.Settle > 0:
		x, _, y, err := j.bags(ctx, j.source.db, "")
		if err != nil {
			return false, err
		}
		holds = maps.Equal(a, x) && maps.Equal(b, y)
	case j.LockTime >= 0 && locked < j.lockTime():
		tx, err := j.source.db.BeginTx(ctx, nil)
		if err != nil {
			return false, err
		}
		defer tx.Rollback()
		a, at, b, err = j.bags(ctx, tx, j.source.share)
		if again(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if holds = alive(ctx, tx) && !j.moved; holds && j.Repair {
			if list, err = j.differing(ctx, tx, a, b); err != nil {
				return false, err
			}
			if holds, why, err = j.mendBags(ctx, tx, list); err != nil {
				return false, err
			}
		}
		tx.Rollback() // nobody need wait for what is told
	case j.source.gtid && j.Passed == nil:
		after, err := j.place(ctx)
		if err != nil {
			return false, err
		}
		holds = before == after && !before.owned && !j.moved
	}
	if !holds {
		return false, nil
	}
	if list == nil {
		if list, err = j.differing(ctx, j.source.db, a, b); err != nil {
			return false, err
		}
	}
	j.reportBags(list, at, why)
	return true, nil
}

// bags returns how many rows the sides have of each hash of a whole row, of those
// hashes of which they have not the same number. lock is that of the source, q a
// transaction for it.
func (j *job) bags(ctx context.Context, q querier, lock string) (a map[string]int, at string, b map[string]int, err error) {
	ask := func(q querier, s *sqlSide, lock string) (map[string]int, error) {
		out := make(map[string]int)
		if j.stored != nil {
			err := j.storedDigests(ctx, q, s == &j.fromSQL, lock, func(d digest, _ []cell, _ dfs.Row) { out[string(d[:])]++ })
			return out, err
		}
		if j.inGo {
			err := each(ctx, q, "SELECT "+strings.Join(s.forms, ",")+" FROM "+s.table+lock, func(r []cell) error {
				d := j.digest(r)
				out[string(d[:])]++
				return nil
			})
			return out, err
		}
		// A locking read locks what it reads also where it groups.
		err := each(ctx, q, fmt.Sprintf("SELECT %s, COUNT(*) FROM %s GROUP BY 1 ORDER BY NULL%s", s.row, s.table, lock), func(r []cell) error {
			n, err := strconv.Atoi(r[1].text)
			out[r[0].text] = n
			return err
		})
		return out, err
	}
	if j.large {
		return j.bagsByPart(ctx, q, lock)
	}
	if a, err = ask(q, &j.fromSQL, lock); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the source: %w", err)
	}
	if at, err = j.pass(ctx, j.passTime(lock)); err != nil {
		return nil, "", nil, err
	}
	if b, err = ask(j.targetDB(), &j.toSQL, ""); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the target: %w", err)
	}
	withoutEqual(a, b)
	return a, at, b, nil
}

// passTime is how long the pipeline may take to pass, while a lock is held or none.
func (c *checked) passTime(lock string) time.Duration {
	if lock != "" {
		return c.lockTime()
	}
	return c.patience()
}

// targetDB is nil for TargetRows.
func (r *run) targetDB() querier {
	if r.target == nil {
		return nil
	}
	return r.target.db
}

// withoutEqual leaves out what both have in the same number.
func withoutEqual(a, b map[string]int) {
	for h, n := range a {
		if b[h] == n {
			delete(a, h)
			delete(b, h)
		}
	}
}

// A bag is rows that are equal in all columns, of which the sides have not the same
// number.
type bag struct {
	hash           string
	source, target int
	row            []cell // its forms; nil if there is no such row any more
	values         []string
	made           dfs.Row // of the source, for TargetRows
}

// differing returns the bags that differ, as many as are reported, with what their
// rows are. q reads the source.
func (j *job) differing(ctx context.Context, q querier, a, b map[string]int) ([]bag, error) {
	list := make([]bag, 0, len(a))
	for h, n := range a {
		list = append(list, bag{hash: h, source: n, target: b[h]})
	}
	for h, n := range b {
		if _, ok := a[h]; !ok && !j.keepsExtra(j.to) {
			list = append(list, bag{hash: h, target: n})
		}
	}
	slices.SortFunc(list, func(x, y bag) int { return strings.Compare(x.hash, y.hash) })
	list = list[:min(len(list), j.most())]
	at := make(map[string]*bag, len(list))
	var from, to []string
	for i := range list {
		at[list[i].hash] = &list[i]
		if list[i].source > 0 {
			from = append(from, list[i].hash)
		} else {
			to = append(to, list[i].hash)
		}
	}
	if j.stored != nil {
		return list, j.storedExamples(ctx, q, at)
	}
	var written []string
	for i := range j.pairs {
		written = append(written, j.pairs[i].written())
	}
	err := j.examples(ctx, q, &j.fromSQL, from, written, func(hash string, r []cell) {
		if x := at[hash]; x != nil && x.row == nil {
			x.row = append([]cell(nil), r[:len(j.pairs)]...)
			for i := range j.pairs {
				x.values = append(x.values, j.pairs[i].stored(r[len(j.pairs)+i]))
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of the source: %w", err)
	}
	err = j.examples(ctx, j.target.db, &j.toSQL, to, nil, func(hash string, r []cell) {
		if x := at[hash]; x != nil && x.row == nil {
			x.row = append([]cell(nil), r...)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of the target: %w", err)
	}
	return list, nil
}

// examples calls f with rows of the hashes, as forms with what more selects behind
// them, in one scan.
func (j *job) examples(ctx context.Context, q querier, s *sqlSide, hashes, more []string, f func(hash string, r []cell)) error {
	if len(hashes) == 0 {
		return nil
	}
	list := append(slices.Clone(s.forms), more...)
	if j.inGo {
		return each(ctx, q, "SELECT "+strings.Join(list, ",")+" FROM "+s.table, func(r []cell) error {
			d := j.digest(r[:len(s.forms)])
			f(string(d[:]), r)
			return nil
		})
	}
	return each(ctx, q, "SELECT "+s.row+","+strings.Join(list, ",")+" FROM "+s.table+" WHERE "+s.row+" IN ("+strings.Join(hashes, ",")+")", func(r []cell) error {
		f(r[0].text, r[1:])
		return nil
	})
}

// reportBags reports the bags that differ. why says why they were not mended; it is
// empty if they were.
func (j *job) reportBags(list []bag, at, why string) {
	for _, x := range list {
		f := Finding{Kind: MissingRow, Table: j.to.String(), Count: x.source - x.target, At: at}
		if x.target > x.source {
			f.Kind, f.Count = ExtraRow, x.target-x.source
		}
		for i := range j.pairs {
			switch {
			case x.row == nil:
			case f.Kind == MissingRow:
				f.Columns = append(f.Columns, j.cell(i, x.row, nil))
			default:
				f.Columns = append(f.Columns, j.cell(i, nil, x.row))
			}
		}
		switch {
		case !j.Repair:
		case why != "":
			f.Why = why
		case !j.DryRun:
			f.Mended = true
		case f.Kind == MissingRow:
			f.Would = j.would(&f, [][]cell{x.row}, nil)
		case x.row != nil:
			f.Would = j.would(&f, nil, [][]cell{x.row})
		}
		if f.Would != "" && f.Count > 1 {
			f.Would += fmt.Sprintf(" (%d rows)", f.Count)
		}
		if j.add(f); j.t.More {
			return
		}
	}
	j.t.More = j.t.More || j.more
}

// mendMost is how many rows of a table without a key are inserted or deleted at most,
// as the source's table is locked meanwhile.
const mendMost = 10000

// mendBags makes the target have as many rows of each bag as the source, in one
// transaction of its own. src holds the lock on the source's table. It reports false
// if the bags must be looked at again, and why nothing was mended.
//
// Invariant (exact beside a running pipeline): the argument is that of mend, for all
// rows of the table at once.
func (j *job) mendBags(ctx context.Context, src *sql.Tx, list []bag) (holds bool, why string, err error) {
	limited, cancel := context.WithTimeout(ctx, 2*j.lockTime())
	defer cancel()
	n := 0
	for _, x := range list {
		if n += max(x.source-x.target, x.target-x.source); x.source > x.target && x.row == nil {
			return false, "", nil
		}
	}
	switch {
	case len(list) == 0:
		return true, "", nil
	case j.inGo && j.stored == nil:
		return true, "it has no key, and values that the two servers do not write alike, by which its rows are not found: add a primary key, or mend it by hand", nil
	case n > mendMost:
		return true, fmt.Sprintf("it has no key, and %d rows are too many to be mended while the source's table is locked: empty it and copy it again", n), nil
	}
	if j.DryRun {
		return true, "", nil
	}
	if j.stored != nil {
		why, err = j.mendStoredBags(limited, src, list)
	} else {
		why, err = j.mendLocked(limited, src, list)
	}
	switch {
	case ctx.Err() != nil:
		return false, "", ctx.Err()
	case limited.Err() != nil:
		return true, "mending took longer than twice LockTime, for which the source's table was locked: let LockTime (-lock-time) be more, or add a primary key", nil
	case errors.Is(err, errAgain) || again(err):
		return false, "", nil
	case serverError(err) != 0:
		return true, err.Error(), nil
	}
	return err == nil, why, err
}

// errAgain asks for another look.
var errAgain = errors.New("the target is not what it was")

func (j *job) mendLocked(ctx context.Context, src *sql.Tx, list []bag) (why string, err error) {
	tx, err := j.target.db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer tx.Rollback()
	if copying, err := j.lockCheckpoint(ctx, tx); err != nil || copying {
		if copying {
			err = errAgain
		}
		return "", err
	}
	hashes := make([]string, len(list))
	for i := range list {
		hashes[i] = list[i].hash
	}
	count := func(want func(bag) int) (bool, error) {
		got := make(map[string]int)
		err := each(ctx, tx, "SELECT "+j.toSQL.row+", COUNT(*) FROM "+j.toSQL.table+" WHERE "+j.toSQL.row+" IN ("+strings.Join(hashes, ",")+") GROUP BY 1", func(r []cell) error {
			n, err := strconv.Atoi(r[1].text)
			got[r[0].text] = n
			return err
		})
		return !slices.ContainsFunc(list, func(x bag) bool { return got[x.hash] != want(x) }), err
	}
	ok, err := count(func(x bag) int { return x.target })
	if err != nil {
		return "", err
	}
	if !ok || !alive(ctx, src) {
		return "", errAgain
	}
	// Rows that are too many go first, since they may have a value that must be unique.
	for _, x := range list {
		if x.target > x.source {
			stmt := fmt.Sprintf("DELETE FROM %s WHERE %s=%s LIMIT %d", j.toSQL.table, j.toSQL.row, x.hash, x.target-x.source)
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return "", fmt.Errorf("delete: %w", err)
			}
		}
	}
	for _, x := range list {
		if x.target >= x.source {
			continue
		}
		stmt := j.statement(nil, x.values, 1, 0)
		for range x.source - x.target {
			if _, err := tx.ExecContext(ctx, stmt); err != nil {
				return "", fmt.Errorf("insert: %w", err)
			}
		}
	}
	if ok, err = count(func(x bag) int { return x.source }); err != nil {
		return "", err
	}
	if !ok {
		return otherTypes.Error(), nil
	}
	if err := tx.Commit(); err != nil {
		return "", errAgain // the next look tells what became of it
	}
	j.log.Info("mended a table without a key", "table", j.to.String(), "kinds of rows", len(list))
	return "", nil
}
