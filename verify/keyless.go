package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// compareBags compares tables whose rows nothing tells apart: how many there are
// of each. There is no row to look at again, so it is the whole table that is.
//
// Invariant (no false alarm): the argument is that of settle.go for a row, with a
// lock on all rows and gaps of the source's table, which a scan that locks takes.
// It is only taken of tables whose scan is quick. Larger ones are settled if the
// whole source rests meanwhile.
func (j *job) compareBags(ctx context.Context) error {
	began := time.Now()
	a, b, err := j.sums(ctx, "TRUE", "TRUE")
	if err != nil {
		return err
	}
	scan := time.Since(began)
	j.count(a.rows, b.rows)
	switch {
	case j.inGo && max(a.rows, b.rows) > bagInMemory:
		return fmt.Errorf("it has no key, %d rows, and values that the two servers do not write alike, such as JSON: add a primary key", a.rows)
	case a == b && !j.inGo:
		return nil
	}
	if a != b {
		j.t.Looked += a.rows
	}
	end := time.Now().Add(j.patience())
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		done, err := j.lookAtBags(ctx, scan)
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

// bagInMemory is how many rows a table without a key may have that only Go can
// compare.
const bagInMemory = 200000

// lookAtBags compares all rows once more, so that the result holds. It reports
// false if it does not.
func (j *job) lookAtBags(ctx context.Context, scan time.Duration) (bool, error) {
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
		return true, nil
	}
	holds := false
	switch {
	case j.Settle > 0:
		x, _, y, err := j.bags(ctx, j.source.db, "")
		if err != nil {
			return false, err
		}
		holds = maps.Equal(a, x) && maps.Equal(b, y)
	case j.LockTime >= 0 && scan < j.lockTime()/2:
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
		holds = alive(ctx, tx)
	case j.source.gtid && j.Passed == nil:
		after, err := j.place(ctx)
		if err != nil {
			return false, err
		}
		holds = before == after && !before.owned
	}
	if !holds {
		return false, nil
	}
	return true, j.reportBags(ctx, at, a, b)
}

// bags returns how many rows the sides have of each hash of a whole row, of those
// hashes of which they have not the same number. lock is that of the source, q a
// transaction for it.
func (j *job) bags(ctx context.Context, q querier, lock string) (a map[string]int, at string, b map[string]int, err error) {
	ask := func(q querier, s *sqlSide, lock string) (map[string]int, error) {
		out := make(map[string]int)
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
	if a, err = ask(q, &j.fromSQL, lock); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the source: %w", err)
	}
	most := j.patience()
	if lock != "" {
		most = j.lockTime()
	}
	if at, err = j.pass(ctx, most); err != nil {
		return nil, "", nil, err
	}
	if b, err = ask(j.target.db, &j.toSQL, ""); err != nil {
		return nil, "", nil, fmt.Errorf("count equal rows of the target: %w", err)
	}
	for h, n := range a {
		if b[h] == n {
			delete(a, h)
			delete(b, h)
		}
	}
	return a, at, b, nil
}

// reportBags reports the hashes of which the sides have not the same number. The
// rows are shown as far as one of their hash can still be found.
func (j *job) reportBags(ctx context.Context, at string, a, b map[string]int) error {
	add := func(kind, hash string, n int, s *side, q *sqlSide) error {
		f := Finding{Kind: kind, Table: j.to.String(), Count: n, At: at}
		rows, err := j.example(ctx, s, q, hash)
		if err != nil {
			return err
		}
		for i := range j.pairs {
			switch {
			case len(rows) == 0:
			case kind == MissingRow:
				f.Columns = append(f.Columns, j.cell(i, rows[0], nil))
			default:
				f.Columns = append(f.Columns, j.cell(i, nil, rows[0]))
			}
		}
		if j.Repair {
			f.Why = "rows of a table without a key are not mended: add a primary key, or mend it by hand"
		}
		j.add(f)
		return nil
	}
	for h, n := range a {
		if !j.t.More && n > b[h] {
			if err := add(MissingRow, h, n-b[h], j.source, &j.fromSQL); err != nil {
				return err
			}
		}
	}
	for h, n := range b {
		if !j.t.More && n > a[h] {
			if err := add(ExtraRow, h, n-a[h], j.target, &j.toSQL); err != nil {
				return err
			}
		}
	}
	return nil
}

// example returns one row of a hash, if there is one still.
func (j *job) example(ctx context.Context, s *side, q *sqlSide, hash string) (rows [][]cell, err error) {
	text := "SELECT " + strings.Join(q.forms, ",") + " FROM " + q.table
	if !j.inGo {
		return query(ctx, s.db, text+" WHERE "+q.row+"="+hash+" LIMIT 1")
	}
	err = each(ctx, s.db, text, func(r []cell) error {
		if d := j.digest(r); rows == nil && string(d[:]) == hash {
			rows = append(rows, append([]cell(nil), r...))
		}
		return nil
	})
	return rows, err
}
