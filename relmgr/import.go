package relmgr

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"

	"github.com/dataflowsync/dfs"
)

// Import puts into the map which new ids rows have already: of a target that was
// filled by something else, which knows of each of its rows what it was on the source.
// It is for before the first row of the table comes.
//
// The ids are those of a column of the table, "schema.table" of the source; an empty
// column means the only one that gets new ids of its own. pairs gives old keys, with a
// value for each column that they go by (mostly the primary key's one), and the new id
// of each. A key may be given again with the same id. Pairs whose keys and ids are both
// consecutive are imported by the thousand, so a hundred million of them take seconds.
// Both may be used again by pairs once it is called for the next.
//
// It returns how many keys the map did not have. A key that has another id already, and
// an id that is another key's, is an error; what came long before it stays imported.
func (m *Manager) Import(ctx context.Context, table, column string, pairs iter.Seq2[dfs.Row, dfs.Value]) (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, errors.New("the map of ids is closed")
	}
	if err := m.reset(ctx); err != nil {
		return 0, err
	}
	i := importer{m: m, ctx: context.WithoutCancel(ctx)}
	if i.sp, i.t, err = m.ownSpace(table, column); err != nil {
		return 0, fmt.Errorf("import of ids of %s: %w", table, err)
	}
	i.sp.dirty = true
	if err := m.flush(ctx, m.head); err != nil { // the space is in the file
		return 0, err
	}
	err = i.run(ctx, pairs)
	// Memory is what the file says, again.
	if again := m.reset(ctx); err == nil {
		err = again
	}
	if err != nil {
		return i.stored, fmt.Errorf("import of ids of %s.%s: %w", i.sp.table, i.sp.column, err)
	}
	return i.stored, nil
}

// ownSpace returns the space of a table's own ids.
func (m *Manager) ownSpace(table, column string) (*space, *dfs.Table, error) {
	t := m.table(table)
	if t == nil {
		return nil, nil, errors.New("the table is not known; give it in Options.Tables")
	}
	p, err := m.newPlan(t)
	if err != nil {
		return nil, nil, err
	}
	var found *space
	for k := range p.cells {
		cl := &p.cells[k]
		if name := t.Columns[cl.col].Name; !cl.own || column != "" && !strings.EqualFold(name, column) {
			continue
		}
		if found != nil {
			return nil, nil, errors.New("several of its columns get new ids; name one")
		}
		found = cl.space
	}
	switch {
	case found == nil && column != "":
		return nil, nil, fmt.Errorf("its column %s gets no new ids of its own", column)
	case found == nil:
		return nil, nil, errors.New("none of its columns gets new ids of its own")
	}
	return found, t, nil
}

// An importer writes to the file by itself, a run at a time, and not by what is in
// memory.
type importer struct {
	m   *Manager
	ctx context.Context // of statements, which are not cut off
	sp  *space
	t   *dfs.Table

	old, new, span int64  // the run at hand; none if span is 0
	mostOld        int64  // the greatest that runs of the file begin with or have
	mostNew        int64  // the greatest id that the file has
	some           bool   // it has any
	added, came    int64  // keys of the transaction at hand that are new, and that had not come
	stored         int64  // keys that are new, of those before
	pending        int    // what was written since the last commit
	least          uint64 // where the next block may begin
	key            []byte
}

const importCommit = 20000

func (i *importer) run(ctx context.Context, pairs iter.Seq2[dfs.Row, dfs.Value]) (err error) {
	s := i.m.store
	if err := i.most(); err != nil {
		return err
	}
	if _, err := s.begin.ExecContext(i.ctx); err != nil {
		return s.wrap("store", err)
	}
	defer func() {
		if err != nil {
			_, _ = s.rollback.ExecContext(i.ctx)
		}
	}()
	for old, new := range pairs {
		if len(old) != len(i.sp.key) {
			return fmt.Errorf("a key with %d values was given, and keys have the columns %s", len(old), joinNames(i.sp.key))
		}
		if i.sp.linear {
			err = i.number(old[0], new)
		} else {
			err = i.single(old, new)
		}
		if err == nil && i.pending >= importCommit {
			if err = i.commit(); err == nil {
				if _, err = s.begin.ExecContext(i.ctx); err == nil {
					err = ctx.Err()
				}
			}
		}
		if err != nil {
			return err
		}
	}
	if err := i.put(); err != nil {
		return err
	}
	return i.commit()
}

// most finds out what the file has of the space.
func (i *importer) most() error {
	if !i.sp.linear {
		return nil
	}
	var last *int64
	row := i.m.store.conn.QueryRowContext(i.ctx, "SELECT max(old), COALESCE((SELECT new + span - 1 FROM run WHERE space = ?1 ORDER BY new DESC LIMIT 1), 0) "+
		"FROM run WHERE space = ?1", i.sp.id)
	if err := row.Scan(&last, &i.mostNew); err != nil {
		return i.m.store.wrap("look up", err)
	}
	if i.some = last != nil; i.some {
		i.mostOld = *last | (pageSize - 1) // a run ends with its page
	}
	return nil
}

// commit stores what was imported, with the counters.
func (i *importer) commit() error {
	sp, s := i.sp, i.m.store
	sp.known, sp.came = sp.known+i.added, sp.came+i.came
	// What is left of a block may be among the ids that were imported.
	if i.least > sp.next {
		sp.end = max(sp.end, i.least)
		sp.next = sp.end
	}
	err := s.putCounters(i.ctx, sp)
	if err == nil {
		_, err = s.commit.ExecContext(i.ctx)
	}
	if err != nil {
		return s.wrap("store", err)
	}
	i.stored += i.added
	i.added, i.came, i.pending = 0, 0, 0
	return nil
}

// number takes a pair of whole numbers.
func (i *importer) number(oldValue, newValue dfs.Value) error {
	old, err := i.sp.keyOf(oldValue)
	if err != nil {
		return err
	}
	ids := space{table: i.sp.table, column: i.sp.column}
	new, err := ids.keyOf(newValue)
	if err != nil || new < 1 || new == math.MaxInt64 || uint64(new) > maxOf(i.sp.typ) {
		return fmt.Errorf("the key %s has the id %s, and ids of this column are whole numbers from 1 to %d", oldValue, newValue, min(maxOf(i.sp.typ), math.MaxInt64-1))
	}
	i.least = max(i.least, uint64(new)+1)
	if i.span > 0 && old == i.old+i.span && new == i.new+i.span && old>>pageBits == i.old>>pageBits {
		i.span++
		return nil
	}
	if err := i.put(); err != nil {
		return err
	}
	i.old, i.new, i.span = old, new, 1
	return nil
}

// put writes the run at hand.
func (i *importer) put() error {
	if i.span == 0 {
		return nil
	}
	m, sp := i.m, i.sp
	old, new, span := i.old, i.new, i.span
	i.span = 0
	if i.some && old <= i.mostOld {
		return i.putKeys(old, new, span)
	}
	if i.some && new <= i.mostNew {
		if err := i.free(new, span); err != nil {
			return err
		}
	}
	r := run{old: old, new: new, span: int32(span)}
	r.known.n, r.came.n = r.span, r.span
	i.mostOld, i.mostNew, i.some = old+span-1, max(i.mostNew, new+span-1), true
	i.added, i.came = i.added+span, i.came+span
	i.pending++
	return m.store.wrap("store", m.store.putRunOf(i.ctx, sp.id, &r))
}

// putKeys writes the keys of a run that may meet runs which are there.
func (i *importer) putKeys(old, new, span int64) error {
	m, sp := i.m, i.sp
	sp.empty, sp.lastPage = false, math.MaxInt64>>pageBits
	p := newPage(sp, old>>pageBits)
	if err := m.readPage(i.ctx, p); err != nil {
		return err
	}
	for n := int64(0); n < span; {
		key, id := old+n, new+n
		r, at := p.find(key)
		if r == nil {
			// As many as fit before the next run.
			fits := span - n
			if at < len(p.runs) {
				fits = min(fits, p.runs[at].old-key)
			}
			if err := i.free(id, fits); err != nil {
				return err
			}
			made := run{old: key, new: id, span: int32(fits)}
			made.known.n, made.came.n = made.span, made.span
			if err := m.store.putRunOf(i.ctx, sp.id, &made); err != nil {
				return m.store.wrap("store", err)
			}
			i.mostOld, i.mostNew, i.some = max(i.mostOld, key+fits-1), max(i.mostNew, id+fits-1), true
			i.added, i.came = i.added+fits, i.came+fits
			i.pending++
			n += fits
			continue
		}
		if has := r.new + key - r.old; has != id {
			return fmt.Errorf("the key %s has the new id %d already, and was given with %d", sp.text(key), has, id)
		}
		if r.known.set(key-r.old, r.span) {
			i.added++
		}
		if r.came.set(key-r.old, r.span) {
			i.came++
			if err := m.store.putRunOf(i.ctx, sp.id, r); err != nil {
				return m.store.wrap("store", err)
			}
			i.pending++
		}
		n++
	}
	return nil
}

// text returns an old key as people read it.
func (sp *space) text(key int64) string {
	if sp.unsigned {
		return dfs.UintValue(uint64(key)).String()
	}
	return dfs.IntValue(key).String()
}

// free makes sure that no other key has one of the ids.
func (i *importer) free(new, span int64) error {
	rows, err := i.m.store.runOfNew.QueryContext(i.ctx, i.sp.id, new+span-1)
	if err != nil {
		return i.m.store.wrap("look up", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return i.m.store.wrap("look up", rows.Err())
	}
	var old, first, n int64
	var known []byte
	if err := rows.Scan(&old, &first, &n, &known); err != nil {
		return i.m.store.wrap("look up", err)
	}
	if first+n > new {
		at := max(first, new)
		return fmt.Errorf("the id %d was given for another key, and is that of the key %s, or set aside for it", at, i.sp.text(old+at-first))
	}
	return nil
}

// single takes a pair of a space that is not linear.
func (i *importer) single(old dfs.Row, new dfs.Value) (err error) {
	m, sp := i.m, i.sp
	i.key = i.key[:0]
	for k, v := range old {
		if i.key, err = appendKey(i.key, k, v, sp.keyColumn(k), sp.keyColumn(k)); err != nil {
			return err
		}
	}
	switch new.Kind() {
	case dfs.Int64, dfs.Uint64:
		if new.Kind() == dfs.Uint64 && new.Uint() > math.MaxInt64 || new.Int() < 1 {
			return fmt.Errorf("the key %s has the id %s; numbers go from 1 to %d", describeValues(old), new, int64(math.MaxInt64))
		}
		i.least = max(i.least, uint64(new.Int())+1)
	case dfs.String, dfs.Bytes:
	default:
		return fmt.Errorf("the key %s has a %s as its id, and a new id is a whole number, text or bytes", describeValues(old), new.Kind())
	}
	if want, has := kindOf(sp.typ), new.Kind(); (want == dfs.String || want == dfs.Bytes) != (has == dfs.String || has == dfs.Bytes) {
		return fmt.Errorf("the key %s has the id %s, and the column is a %s", describeValues(old), new, sp.typ)
	}
	new = fromSQL(toSQL(new))
	e, err := m.readEntry(i.ctx, sp, string(i.key))
	if err != nil {
		return err
	}
	switch {
	case e != nil && e.new != new:
		return fmt.Errorf("the key %s has the new id %s already, and was given with %s", describeValues(old), e.new, new)
	case e != nil && e.came:
		return nil
	case e == nil:
		var n int
		if err := m.store.newTaken.QueryRowContext(i.ctx, sp.id, toSQL(new)).Scan(&n); err != nil {
			return m.store.wrap("look up", err)
		}
		if n > 0 {
			return fmt.Errorf("the key %s was given the id %s, which is that of another key", describeValues(old), new)
		}
		i.added++
	}
	i.came++
	i.pending++
	return m.store.wrap("store", m.store.putEntryOf(i.ctx, sp.id, []byte(i.key), new, true))
}

func describeValues(key dfs.Row) string {
	var parts []string
	for _, v := range key {
		parts = append(parts, v.String())
	}
	return strings.Join(parts, ",")
}
