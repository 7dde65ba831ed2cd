package relmgr

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	mathbits "math/bits"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
)

// SQLite does not notice when a disk gives back other bytes than were written, as long
// as they look like a database: of random bits that were flipped in a map, a third gave
// rows other ids and no error. So each row of the file has a checksum of all its values,
// and what fails it is never used. Rows of files of versions 1 and 2 have none until
// they are written again.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A summer makes the checksum of a row.
type summer struct{ b []byte }

func (s *summer) ints(list ...int64) *summer {
	for _, n := range list {
		s.b = binary.LittleEndian.AppendUint64(s.b, uint64(n))
	}
	return s
}

func (s *summer) bytes(b []byte) *summer {
	s.b = append(binary.AppendUvarint(s.b, uint64(len(b))), b...)
	return s
}

func (s *summer) text(list ...string) *summer {
	for _, t := range list {
		s.b = append(binary.AppendUvarint(s.b, uint64(len(t))), t...)
	}
	return s
}

func (s *summer) value(v dfs.Value) *summer {
	s.b = append(s.b, byte(v.Kind()))
	switch v.Kind() {
	case dfs.Int64:
		return s.ints(v.Int())
	}
	return s.text(v.Text())
}

// sum returns the checksum, and makes the summer ready for another row.
func (s *summer) sum() int64 {
	n := crc32.Checksum(s.b, castagnoli)
	s.b = s.b[:0]
	return int64(n)
}

func bit(on bool) int64 {
	if on {
		return 1
	}
	return 0
}

func (s *summer) run(space, old, new int64, span int32, known, came []byte) int64 {
	return s.ints(space, old, new, int64(span)).bytes(known).bytes(came).sum()
}

func (s *summer) entry(space int64, old []byte, new dfs.Value, came bool) int64 {
	return s.ints(space).bytes(old).value(new).ints(bit(came)).sum()
}

func (s *summer) space(sp *space) int64 {
	return s.ints(sp.id, int64(sp.next), int64(sp.end), int64(sp.asked), sp.known, sp.came, bit(sp.linear)).
		text(sp.table, sp.column, encodeNames(sp.key), sp.filed).sum()
}

// fits reports whether a row has the checksum that it was written with, or none.
func fits(have sql.NullInt64, want int64) bool { return !have.Valid || have.Int64 == want }

// unfit says of what the checksum is wrong.
func (s *store) unfit(format string, args ...any) error {
	return s.damaged(fmt.Errorf("the checksum of "+format+" is wrong", args...))
}

// damaged says that the file is not as it was written.
func (s *store) damaged(err error) error {
	return fmt.Errorf("map of ids %s is damaged: %w; put back a backup of the map no older than the target, as no other copy of it exists", s.path, err)
}

// putRunOf stores a run.
func (s *store) putRunOf(ctx context.Context, space int64, r *run) error {
	known, came := r.known.bytes(r.span), r.came.bytes(r.span)
	_, err := s.putRun.ExecContext(ctx, space, r.old, r.new, r.span, known, came, s.sums.run(space, r.old, r.new, r.span, known, came))
	return err
}

// putEntryOf stores an entry.
func (s *store) putEntryOf(ctx context.Context, space int64, old []byte, new dfs.Value, came bool) error {
	x := toSQL(new)
	_, err := s.putEntry.ExecContext(ctx, space, old, x, came, s.sums.entry(space, old, fromSQL(x), came))
	return err
}

// putCounters stores what a space counts.
func (s *store) putCounters(ctx context.Context, sp *space) error {
	_, err := s.putSpace.ExecContext(ctx, int64(sp.next), int64(sp.end), int64(sp.asked), sp.known, sp.came, s.sums.space(sp), sp.id)
	return err
}

// patience is how long Open waits for a look at the whole file. A larger map is looked
// at while it is used.
const patience = 2 * time.Second

// look begins to look at the whole file, and waits for the end of that if it comes soon.
func (m *Manager) look() error {
	ctx, cancel := context.WithCancel(context.Background())
	m.stopLook, m.looked = cancel, make(chan struct{})
	var late atomic.Bool // nobody waits for what is found
	go func() {
		defer close(m.looked)
		if err := m.store.inspect(ctx); err != nil && ctx.Err() == nil {
			m.damage.Store(err)
			if late.Load() {
				m.opts.Logger.Error("looking at the map of ids for damage", "map", m.store.path, "err", err)
			}
		}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-m.looked:
		err, _ := m.damage.Load().(error)
		return err
	case <-timer.C:
		late.Store(true)
		m.opts.Logger.Info("the map of ids is large: it is looked at for damage while it is used", "map", m.store.path)
		return nil
	}
}

// inspect looks at all rows of the file: whether they fit their checksums, stand in
// their order, and are as many as the spaces have counted. So a row that can no longer
// be found is noticed too. It reads one snapshot.
func (s *store) inspect(ctx context.Context) error {
	tx, err := s.reads.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return s.wrap("inspect", err)
	}
	defer tx.Rollback()
	var sums summer
	known := make(map[int64][2]int64) // keys of a space that are known and have come
	rows, err := tx.QueryContext(ctx, "SELECT space, old, new, span, known, came, sum FROM run ORDER BY space, old")
	if err != nil {
		return s.wrap("inspect", err)
	}
	defer rows.Close()
	var r scanned
	var space, end int64
	for rows.Next() {
		at := space
		if err := rows.Scan(&space, &r.old, &r.new, &r.span, &r.known, &r.came, &r.sum); err != nil {
			return s.damaged(err)
		}
		if !fits(r.sum, sums.run(space, r.old, r.new, r.span, r.known, r.came)) {
			return s.unfit("a run of keys from %d", r.old)
		}
		if r.span < 1 || r.span > pageSize || len(r.known) != int(r.span+7)/8 || len(r.came) != len(r.known) || space < at || space == at && r.old < end {
			return s.damaged(fmt.Errorf("a run of keys from %d is not one that this program writes", r.old))
		}
		end = r.old + int64(r.span)
		n := known[space]
		for i := range r.known {
			n[0] += int64(mathbits.OnesCount8(r.known[i]))
			n[1] += int64(mathbits.OnesCount8(r.came[i]))
		}
		known[space] = n
	}
	if err := rows.Err(); err != nil {
		return s.wrap("inspect", err)
	}
	entries, err := tx.QueryContext(ctx, "SELECT space, old, new, came, sum FROM entry")
	if err != nil {
		return s.wrap("inspect", err)
	}
	defer entries.Close()
	for entries.Next() {
		var old sql.RawBytes
		var new any
		var came bool
		var sum sql.NullInt64
		if err := entries.Scan(&space, &old, &new, &came, &sum); err != nil {
			return s.damaged(err)
		}
		if !fits(sum, sums.entry(space, old, fromSQL(new), came)) {
			return s.unfit("the key %q", old)
		}
		n := known[space]
		known[space] = [2]int64{n[0] + 1, n[1] + bit(came)}
	}
	if err := entries.Err(); err != nil {
		return s.wrap("inspect", err)
	}
	spaces, err := tx.QueryContext(ctx, `SELECT id, "table", "column", known, came FROM space`)
	if err != nil {
		return s.wrap("inspect", err)
	}
	defer spaces.Close()
	for spaces.Next() {
		var table, column string
		var want [2]int64
		if err := spaces.Scan(&space, &table, &column, &want[0], &want[1]); err != nil {
			return s.damaged(err)
		}
		if have := known[space]; have != want {
			return s.damaged(fmt.Errorf("it has %d keys of %s.%s, and had %d when it was written", have[0], table, column, want[0]))
		}
		delete(known, space)
	}
	if len(known) > 0 {
		return s.damaged(fmt.Errorf("it has keys of %d columns that it does not know", len(known)))
	}
	return s.wrap("inspect", spaces.Err())
}
