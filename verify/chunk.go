package verify

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// A job is a pair of tables that is being compared.
type job struct {
	*run
	*plan
	t        *TableReport
	mapper   *mapper // nil if rows are not changed on their way
	stored   *stored // of TargetRows; nil for MySQL and MariaDB
	suspects []suspect
	seen     map[string]bool    // ids of the keys of these suspects
	found    map[string]bool    // ids of the rows that are findings
	behind   bound              // the key on the target up to which ranges of both sides were compared
	doubts   map[string]Finding // rows that only the target has, by keys of which that is not sure
	others   int                // rows of the target whose ids were given to no row of the source
	hindered error              // what was in the way of the last repair, and may pass

	large bool          // of a table without a key: rows are held in memory by parts only
	scan  time.Duration // how long it took to read all of it, on both sides
	more  bool          // not all parts that differ were looked into
	moved bool          // what differed in one scan did not in the next
}

// A sum is what a server says of a range of rows: how many there are, and a
// checksum that does not depend on their order.
type sum struct {
	rows uint64
	xor  string
}

const (
	firstChunk = 2000    // rows of the first chunk, from which the others grow
	mostChunk  = 1 << 21 // rows of a chunk, at most
)

// compare goes over both tables. What it returns is an error that keeps the rest
// of them from being compared.
func (j *job) compare(ctx context.Context) error {
	if j.fromIndex == "" {
		return j.compareWhole(ctx)
	}
	size := firstChunk
	var lo bound
	for {
		size = j.pace.limit(size)
		began := time.Now()
		hi, err := j.boundary(ctx, lo, size)
		if err != nil {
			return err
		}
		n, err := j.compareRange(ctx, lo, hi)
		if err != nil {
			return err
		}
		// The next chunk is to take as long as it should, and not more than
		// twice as many rows: the time of one says little of the next.
		took := time.Since(began)
		grow := min(2, max(0.2, j.chunkTime().Seconds()/max(took.Seconds(), 1e-6)))
		size = min(mostChunk, max(100, int(float64(size)*grow)))
		if len(j.suspects) >= suspectsAtOnce || hi == nil {
			if err := j.settle(ctx); err != nil {
				return err
			}
		}
		if hi == nil || j.t.More {
			return nil
		}
		j.pace.spend(ctx, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		lo = hi
	}
}

// boundary returns the key of the source's row that is size rows behind lo, or
// nil if there are not so many. It steps over an index as far as the chunk is
// long, and never further.
func (j *job) boundary(ctx context.Context, lo bound, size int) (bound, error) {
	var forms []string
	for _, i := range j.key {
		forms = append(forms, j.pairs[i].fromExpr)
	}
	s := &j.fromSQL
	rows, err := query(ctx, j.source.db, fmt.Sprintf("SELECT %s FROM %s%s WHERE %s ORDER BY %s LIMIT %d,1",
		strings.Join(forms, ","), s.table, s.index, j.within(j.from, lo, nil), strings.Join(s.keys, ","), size-1))
	if err != nil {
		return nil, fmt.Errorf("read keys of the source: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return rows[0], nil
}

// compareRange compares the rows whose key is greater than lo and not greater than
// hi. It returns how many the source has.
func (j *job) compareRange(ctx context.Context, lo, hi bound) (uint64, error) {
	from, to := j.within(j.from, lo, hi), j.within(j.to, lo, hi)
	if j.inGo {
		return j.compareRows(ctx, from, to)
	}
	a, b, err := j.sums(ctx, from, to)
	if err != nil {
		return 0, err
	}
	j.count(a.rows, b.rows)
	if a == b {
		return a.rows, nil
	}
	return a.rows, j.narrow(ctx, from, to, max(a.rows, b.rows))
}

func (j *job) count(source, target uint64) {
	j.t.Rows += source
	j.t.TargetRows += target
	j.progress(source)
}

// sums asks both sides at the same time for the checksum of the rows that their
// conditions select.
func (j *job) sums(ctx context.Context, from, to string) (a, b sum, err error) {
	ask := func(s *side, q *sqlSide, where string, out *sum) error {
		rows, err := query(ctx, s.db, fmt.Sprintf("SELECT COUNT(*), %s(%s) FROM %s%s WHERE %s", j.combine(), q.row, q.table, q.index, where))
		if err != nil {
			return fmt.Errorf("checksum rows of the %s: %w", s.name, err)
		}
		out.rows, err = strconv.ParseUint(rows[0][0].text, 10, 64)
		out.xor = rows[0][1].text
		return err
	}
	err = both(
		func() error { return ask(j.source, &j.fromSQL, from, &a) },
		func() error { return ask(j.target, &j.toSQL, to, &b) })
	return a, b, err
}

// combine returns what makes one checksum of those of many rows. BIT_XOR is the
// faster, but two rows that are the same in all cancel each other out, which only
// a table without a key can have.
func (j *job) combine() string {
	if j.key == nil {
		return "SUM"
	}
	return "BIT_XOR"
}

// both runs the two at the same time.
func both(f, g func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- g() }()
	err := f()
	if err2 := <-ended; err == nil {
		err = err2
	}
	return err
}

// bucketRows is about how many rows a bucket of narrow has, and so how many rows
// are read to find one that differs.
const bucketRows = 64

// rowsInMemory is about how many keys and hashes of rows are held at once.
const rowsInMemory = 50000

// narrow finds the rows that differ among those that the conditions select, and
// makes them suspects. Each side puts its rows into buckets by a hash of their
// keys, and rows are read of those buckets only that differ. That needs no order
// of keys, so it serves as well where the servers have none in common.
func (j *job) narrow(ctx context.Context, from, to string, rows uint64) error {
	buckets := uint64(16)
	for buckets < 1<<16 && buckets*bucketRows < rows {
		buckets *= 2
	}
	var a, b map[string]sum
	ask := func(s *side, q *sqlSide, where string, out *map[string]sum) error {
		*out = make(map[string]sum)
		err := each(ctx, s.db, fmt.Sprintf("SELECT %s%%%d, COUNT(*), BIT_XOR(%s) FROM %s%s WHERE %s GROUP BY 1 ORDER BY NULL",
			q.key, buckets, q.row, q.table, q.index, where), func(r []cell) error {
			n, err := strconv.ParseUint(r[1].text, 10, 64)
			(*out)[r[0].text] = sum{n, r[2].text}
			return err
		})
		if err != nil {
			return fmt.Errorf("checksum rows of the %s: %w", s.name, err)
		}
		return nil
	}
	if err := both(
		func() error { return ask(j.source, &j.fromSQL, from, &a) },
		func() error { return ask(j.target, &j.toSQL, to, &b) }); err != nil {
		return err
	}
	var differ []string
	for k, s := range a {
		if b[k] != s {
			differ = append(differ, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			differ = append(differ, k)
		}
	}
	for len(differ) > 0 {
		n := min(len(differ), max(1, int(rowsInMemory*buckets/max(rows, 1))), 2048)
		in := fmt.Sprintf("%%%d IN (%s)", buckets, strings.Join(differ[:n], ","))
		differ = differ[n:]
		if err := j.rowsOf(ctx, from+" AND "+j.fromSQL.key+in, to+" AND "+j.toSQL.key+in); err != nil {
			return err
		}
		if len(j.suspects) < suspectsAtOnce {
			continue
		}
		if err := j.settle(ctx); err != nil || j.t.More {
			return err
		}
	}
	return nil
}

// rowsOf reads key and hash of the rows that the conditions select, and makes
// suspects of those that are not on both sides.
func (j *job) rowsOf(ctx context.Context, from, to string) error {
	type row struct {
		key  bound
		hash string
	}
	read := func(s *side, q *sqlSide, where string, out map[string]row) error {
		var list []string
		for _, i := range j.key {
			list = append(list, q.forms[i])
		}
		list = append(list, q.row)
		err := each(ctx, s.db, "SELECT "+strings.Join(list, ",")+" FROM "+q.table+q.index+" WHERE "+where, func(r []cell) error {
			key := append(bound(nil), r[:len(r)-1]...)
			out[key.id()] = row{key, r[len(r)-1].text}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read rows of the %s: %w", s.name, err)
		}
		return nil
	}
	a, b := make(map[string]row), make(map[string]row)
	if err := both(
		func() error { return read(j.source, &j.fromSQL, from, a) },
		func() error { return read(j.target, &j.toSQL, to, b) }); err != nil {
		return err
	}
	for id, r := range a {
		if other, ok := b[id]; !ok || other.hash != r.hash {
			j.suspect(id, r.key)
		}
	}
	for id, r := range b {
		if _, ok := a[id]; !ok && !j.keepsExtra(j.to) {
			j.suspect(id, r.key)
		}
	}
	return nil
}

// suspect notes a key whose rows differ.
func (j *job) suspect(id string, key bound) {
	if j.seen[id] {
		return
	}
	if j.seen == nil {
		j.seen = make(map[string]bool)
	}
	j.seen[id] = true
	j.t.Looked++
	j.suspects = append(j.suspects, suspect{key: key})
}

// A digest is a hash of a row's forms.
type digest [16]byte

// compareRows reads the rows themselves, of a table with values that only Go can
// compare, and returns how many the source has.
func (j *job) compareRows(ctx context.Context, from, to string) (uint64, error) {
	type row struct {
		key bound
		sum digest
	}
	read := func(s *side, q *sqlSide, where string, out map[string]row) error {
		err := each(ctx, s.db, "SELECT "+strings.Join(q.forms, ",")+" FROM "+q.table+q.index+" WHERE "+where, func(r []cell) error {
			key := j.keyOf(r)
			out[key.id()] = row{key, j.digest(r)}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read rows of the %s: %w", s.name, err)
		}
		return nil
	}
	a, b := make(map[string]row), make(map[string]row)
	if err := both(
		func() error { return read(j.source, &j.fromSQL, from, a) },
		func() error { return read(j.target, &j.toSQL, to, b) }); err != nil {
		return 0, err
	}
	j.count(uint64(len(a)), uint64(len(b)))
	for id, r := range a {
		if other, ok := b[id]; !ok || other.sum != r.sum {
			j.suspect(id, r.key)
		}
	}
	for id, r := range b {
		if _, ok := a[id]; !ok && !j.keepsExtra(j.to) {
			j.suspect(id, r.key)
		}
	}
	return uint64(len(a)), nil
}

// normal brings the values of a row that servers cannot compare into one form.
func (j *job) normal(row []cell) []cell {
	for i := range row {
		if norm := j.pairs[i].norm; norm != nil && !row[i].null {
			row[i].text = norm(row[i].text)
		}
	}
	return row
}

// digest hashes a row of forms.
func (j *job) digest(row []cell) (d digest) {
	h := sha256.New()
	io.WriteString(h, bound(j.normal(row)).id())
	copy(d[:], h.Sum(nil))
	return d
}

// compareWhole compares tables in which a range of keys need not be the same rows
// on both sides: all rows in one statement of each.
func (j *job) compareWhole(ctx context.Context) error {
	if j.key == nil {
		return j.compareBags(ctx)
	}
	if !j.inGo {
		a, b, err := j.sums(ctx, "TRUE", "TRUE")
		if err != nil {
			return err
		}
		j.count(a.rows, b.rows)
		if a == b {
			return nil
		}
		if err := j.narrow(ctx, "TRUE", "TRUE", max(a.rows, b.rows)); err != nil {
			return err
		}
		return j.settle(ctx)
	}
	// In parts by a hash of the key, each of which fits into memory.
	rows, err := query(ctx, j.source.db, "SELECT COUNT(*) FROM "+j.fromSQL.table)
	if err != nil {
		return fmt.Errorf("count the rows of the source: %w", err)
	}
	n, err := strconv.ParseUint(rows[0][0].text, 10, 64)
	if err != nil {
		return err
	}
	parts := n/rowsInMemory + 1
	for i := range parts {
		in := fmt.Sprintf("%%%d=%d", parts, i)
		if _, err := j.compareRows(ctx, j.fromSQL.key+in, j.toSQL.key+in); err != nil {
			return err
		}
		if err := j.settle(ctx); err != nil || j.t.More {
			return err
		}
	}
	return nil
}
