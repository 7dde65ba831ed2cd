package relmgr

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

// A space is the ids of one column of one table: the map from old keys to new
// ids. An old key has one new id for ever, whatever happens to its row; so the map
// is a function, and what is made of a transaction does not depend on when, or how
// often, it is repeated.
type space struct {
	id            int64 // 0 until it is stored
	table, column string
	key           []string     // the columns that the old key consists of
	linear        bool         // keys are single whole numbers, and new ids come from blocks
	unsigned      bool         // of the old keys
	now           string       // what the column is called now; empty if the table is not known
	columns       []dfs.Column // of the key; nil if the table is not known
	typ           string       // of the new ids
	filed         string       // the type that the file has
	retyped       bool         // which is not that of the column
	policy        *policy

	next, end uint64 // what is left of the block reserved last
	asked     uint64 // its size
	known     int64  // keys that were met
	came      int64  // and those of them met as the key of a row
	lastPage  int64  // the highest page that has runs
	empty     bool   // there are no runs
	dirty     bool
	page      *page           // looked at last
	pages     map[int64]*page // in memory, by their numbers
	oldPages  map[int64]*page // and those of the older half: see caches

	// Pages all of whose keys have come are kept as the new id of their first key alone,
	// a few kilobytes for a quarter of a million keys: what is looked up in a large map
	// is then still in the processor's cache. By page number / chunkPages.
	whole, oldWhole chunks
}

// A caches keeps what was looked up, in two halves: what has not been used while
// one filled up goes with it. Nothing goes while a batch is at work, since what is
// in memory is then newer than the file. Pages are kept by their spaces.
type caches struct {
	limit            int // bytes of both halves
	size             int // of the newer one
	entries, oldEnts map[entryKey]*entry
	none             map[entryKey]bool // which the file lacks, as was seen for the batch at hand
}

func (c *caches) clear() {
	c.size = 0
	c.entries, c.oldEnts, c.none = make(map[entryKey]*entry), nil, make(map[entryKey]bool)
}

// turn drops the older half of what was looked up if the newer one is full. It is
// called when nothing in them is newer than the file.
func (m *Manager) turn() {
	c := &m.cache
	if c.size < c.limit/2 {
		return
	}
	c.oldEnts, c.entries, c.size = c.entries, make(map[entryKey]*entry), 0
	for _, sp := range m.spaces {
		sp.oldPages, sp.pages, sp.page = sp.pages, nil, nil
		sp.oldWhole, sp.whole = sp.whole, chunks{}
	}
}

// bytes is roughly what the page takes in memory, and in a map of pages.
func (p *page) bytes() int {
	n := 180
	for i := range p.runs {
		n += p.runs[i].size()
	}
	return n - min(len(p.runs), 1)*runBytes // the first is part of the page
}

// cached returns a page that is in memory; nil if it is not.
func (m *Manager) cached(sp *space, no int64) *page {
	if first := m.wholeID(sp, no<<pageBits); first != 0 {
		p := newPage(sp, no)
		p.runs = append(p.runs, run{old: no << pageBits, new: first, span: pageSize, known: bits{n: pageSize}, came: bits{n: pageSize}})
		return p
	}
	p := sp.pages[no]
	if p == nil {
		if p = sp.oldPages[no]; p != nil {
			m.keep(p)
		}
	}
	return p
}

// keep puts a page into the newer half of those in memory.
func (m *Manager) keep(p *page) {
	sp := p.space
	if m.keepWhole(p) {
		return
	}
	if sp.pages == nil {
		sp.pages = make(map[int64]*page)
	}
	sp.pages[p.no] = p
	m.cache.size += p.bytes()
}

// load returns a page of a linear space.
func (m *Manager) load(ctx context.Context, sp *space, no int64) (*page, error) {
	if p := sp.page; p != nil && p.no == no {
		return p, nil
	}
	p := m.cached(sp, no)
	if p == nil {
		p = newPage(sp, no)
		if err := m.readPage(ctx, p); err != nil {
			return nil, err
		}
		m.keep(p)
	}
	sp.page = p
	return p, nil
}

func newPage(sp *space, no int64) *page {
	p := &page{space: sp, no: no}
	p.runs = p.first[:0]
	return p
}

// stored reports whether the file may have runs of a page.
func (sp *space) stored(no int64) bool { return sp.id != 0 && !sp.empty && no <= sp.lastPage }

func (m *Manager) readPage(ctx context.Context, p *page) error {
	if !p.space.stored(p.no) {
		return nil
	}
	m.misses++
	// Waiting for a context costs more than the lookup.
	rows, err := m.store.runs.QueryContext(context.WithoutCancel(ctx), p.space.id, p.no<<pageBits, p.no<<pageBits|(pageSize-1))
	if err != nil {
		return m.store.wrap("look up", err)
	}
	defer rows.Close()
	var r scanned
	for rows.Next() {
		if err := r.scan(rows, m, p.space); err != nil {
			return err
		}
		r.to(p)
	}
	return m.store.wrap("look up", rows.Err())
}

// number returns the new id of a key of a linear space, and makes one if it has
// none. own says that the key is met as that of a row. came tells whether it has
// ever been.
func (m *Manager) number(ctx context.Context, sp *space, key int64, own bool) (id int64, came bool, err error) {
	if id := m.wholeID(sp, key); id != 0 {
		return id, true, nil
	}
	p, err := m.load(ctx, sp, key>>pageBits)
	if err != nil {
		return 0, false, err
	}
	r, at := p.find(key)
	if m.opts.ReadOnly {
		if r == nil || !r.known.has(key-r.old, r.span) {
			return 0, false, m.unknown()
		}
		return r.new + key - r.old, true, nil
	}
	if r == nil {
		if r, err = m.extend(ctx, p, key, at); err != nil {
			return 0, false, err
		}
	}
	n := key - r.old
	if r.known.set(n, r.span) {
		sp.known++
		m.mark(p, r)
	}
	came = r.came.has(n, r.span)
	if own && !came {
		r.came.set(n, r.span)
		came = true
		sp.came++
		m.mark(p, r)
	}
	return r.new + n, came, nil
}

// mark notes that a run of a page is newer than the file.
func (m *Manager) mark(p *page, r *run) {
	r.dirty, p.space.dirty = true, true
	if !p.dirty {
		p.dirty = true
		m.dirtyPages = append(m.dirtyPages, p)
	}
}

// extend makes a run that begins with the key, at the given place of the page.
func (m *Manager) extend(ctx context.Context, p *page, key int64, at int) (*run, error) {
	sp := p.space
	span := int64(1)
	if key != math.MinInt64 {
		before := p
		if (key-1)>>pageBits != p.no {
			var err error
			if before, err = m.load(ctx, sp, (key-1)>>pageBits); err != nil {
				return nil, err
			}
			sp.page = p
		}
		if r, _ := before.find(key - 1); r != nil {
			span = min(2*int64(r.span), sp.longest())
		}
	}
	span = min(span, pageSize-key&(pageSize-1))
	if at < len(p.runs) {
		span = min(span, p.runs[at].old-key)
	}
	first, n, err := m.take(ctx, sp, uint64(span))
	if err != nil {
		return nil, err
	}
	p.runs = slices.Insert(p.runs, at, run{old: key, new: int64(first), span: int32(n)})
	r := &p.runs[at]
	m.cache.size += r.size() + pageSize/8 // for bits of both kinds, as a rule for a while
	if sp.empty || p.no > sp.lastPage {
		sp.empty, sp.lastPage = false, p.no
	}
	m.mark(p, r)
	return r, nil
}

// longest returns the longest run of a space: shorter where new ids are few.
func (sp *space) longest() int64 {
	switch max := maxOf(sp.typ); {
	case max <= math.MaxUint16:
		return 1
	case max < 1<<24:
		return 16
	case max <= math.MaxUint32:
		return 256
	}
	return pageSize
}

const (
	firstBlock = 64
	mostBlock  = 8192

	// The target may have to lock a table to reserve ids of it, for which it waits as
	// long as the sink holds parts of a transaction open: until that fails, and all is
	// begun anew, with the ids that were reserved so far. So within a large transaction
	// blocks double without an end that matters, and it takes a few such rounds.
	mostInParts = 1 << 20
)

// take takes up to n consecutive ids, at least one, off the block of the space,
// and reserves a new block if there is nothing left.
func (m *Manager) take(ctx context.Context, sp *space, n uint64) (first, got uint64, err error) {
	if sp.next >= sp.end {
		if err := m.reserve(ctx, sp); err != nil {
			return 0, 0, err
		}
	}
	first, got = sp.next, min(n, sp.end-sp.next)
	sp.next += got
	sp.dirty = true
	return first, got, nil
}

func (m *Manager) reserve(ctx context.Context, sp *space) error {
	most := uint64(mostBlock)
	if m.partly {
		most = mostInParts
	}
	most = max(1, min(most, maxOf(sp.typ)/256))
	n := min(most, max(firstBlock, 2*sp.asked))
	if m.opts.Allocator == nil {
		last := maxOf(sp.typ)
		if sp.end == 0 {
			sp.end = max(1, sp.policy.first()) // the next block begins here
		}
		if sp.end > last {
			return &ExhaustedError{sp.table, sp.column}
		}
		sp.next, sp.end, sp.asked = sp.end, min(sp.end+n, last+1), n
		return nil
	}
	table, column := sp.targetOf()
	// A target that was put back from a backup has forgotten blocks that the map has
	// used since, so nothing is taken from before their end.
	least := max(sp.policy.first(), sp.end)
	first, got, err := m.opts.Allocator.Reserve(ctx, table, column, least, n)
	failpoint.Hit("relmgr.reserve")
	switch {
	case err != nil:
		return fmt.Errorf("reserving new ids for %s.%s: %w", sp.table, sp.column, err)
	case got == 0:
		return &ExhaustedError{sp.table, sp.column}
	case first < least:
		return fmt.Errorf("reserving new ids for %s.%s: the allocator returned ids from %d on, where at least %d was asked for", sp.table, sp.column, first, least)
	case first == 0 || first > math.MaxInt64 || got > math.MaxInt64-first:
		return fmt.Errorf("reserving new ids for %s.%s: the allocator returned %d ids from %d on; ids go from 1 to %d", sp.table, sp.column, got, first, int64(math.MaxInt64))
	}
	sp.next, sp.end, sp.asked = first, first+got, n
	m.reserved.Add(1)
	return nil
}

type entryKey struct {
	space *space
	old   string
}

// An entry maps one key of a space that is not linear.
type entry struct {
	new         dfs.Value
	came, dirty bool
}

// single returns the new id of a key of a space that is not linear: old as text,
// and what it was made of.
func (m *Manager) single(ctx context.Context, sp *space, old []byte, values func() []dfs.Value, own bool) (*entry, error) {
	e := m.cache.entries[entryKey{sp, string(old)}]
	if e == nil {
		k := entryKey{sp, string(old)}
		if e = m.cache.oldEnts[k]; e == nil {
			var err error
			if !m.cache.none[k] {
				if e, err = m.readEntry(ctx, sp, k.old); err != nil {
					return nil, err
				}
			}
			if e == nil && m.opts.ReadOnly {
				return nil, m.unknown()
			}
			if e == nil {
				if e, err = m.makeEntry(ctx, sp, values()); err != nil {
					return nil, err
				}
				sp.known++
				m.markEntry(k, e)
			}
		}
		m.keepEntry(k, e)
	}
	if own && !e.came && !m.opts.ReadOnly {
		e.came = true
		sp.came++
		m.markEntry(entryKey{sp, string(old)}, e)
	}
	return e, nil
}

// keepEntry puts an entry into the newer half of those in memory.
func (m *Manager) keepEntry(k entryKey, e *entry) {
	m.cache.entries[k] = e
	m.cache.size += 200 + len(k.old) + len(e.new.Text())
}

func (m *Manager) markEntry(k entryKey, e *entry) {
	k.space.dirty = true
	if !e.dirty {
		e.dirty = true
		m.dirtyEntries = append(m.dirtyEntries, k)
	}
}

func (m *Manager) readEntry(ctx context.Context, sp *space, old string) (*entry, error) {
	if sp.id == 0 {
		return nil, nil
	}
	var new any
	var came bool
	var sum sql.NullInt64
	m.misses++
	err := m.store.entry.QueryRowContext(context.WithoutCancel(ctx), sp.id, []byte(old)).Scan(&new, &came, &sum)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, m.store.wrap("look up", err)
	}
	if !fits(sum, m.store.sums.entry(sp.id, []byte(old), fromSQL(new), came)) {
		return nil, m.store.unfit("the key %q of %s.%s", old, sp.table, sp.column)
	}
	return &entry{new: fromSQL(new), came: came}, nil
}

// makeEntry makes the new id of a key by the policy of its space.
func (m *Manager) makeEntry(ctx context.Context, sp *space, key []dfs.Value) (*entry, error) {
	var v dfs.Value
	switch sp.policy.IDs {
	case UUID:
		v = newUUID(sp)
	case Function:
		var err error
		if v, err = call(ctx, sp.policy.Func, Key{Table: sp.table, Columns: sp.key, Values: key}); err != nil {
			return nil, err
		}
		switch v.Kind() {
		case dfs.Int64, dfs.Uint64, dfs.String, dfs.Bytes:
		default:
			return nil, fmt.Errorf("the function returned a %s, and a new id is a whole number, text or bytes", v.Kind())
		}
		if v.Kind() == dfs.Uint64 && v.Uint() > math.MaxInt64 {
			return nil, fmt.Errorf("the function returned %s; numbers go up to %d", v, int64(math.MaxInt64))
		}
		v = fromSQL(toSQL(v)) // as it will be when it is read again
		taken := m.newHere[entryKey{sp, v.String()}]
		if !taken && sp.id != 0 {
			var n int
			if err := m.store.newTaken.QueryRowContext(ctx, sp.id, toSQL(v)).Scan(&n); err != nil {
				return nil, m.store.wrap("look up", err)
			}
			taken = n > 0
		}
		if taken {
			return nil, fmt.Errorf("the function returned %s, which is the new id of another row already", v)
		}
		m.newHere[entryKey{sp, v.String()}] = true
	default:
		first, _, err := m.take(ctx, sp, 1)
		if err != nil {
			return nil, err
		}
		v = dfs.IntValue(int64(first))
	}
	return &entry{new: v}, nil
}

// toSQL returns a new id as SQLite has it.
func toSQL(v dfs.Value) any {
	switch v.Kind() {
	case dfs.Int64, dfs.Uint64:
		return v.Int()
	case dfs.Bytes:
		return []byte(v.Text())
	}
	return v.Text()
}

func fromSQL(x any) dfs.Value {
	switch x := x.(type) {
	case int64:
		return dfs.IntValue(x)
	case []byte:
		return dfs.BytesValue(slices.Clone(x))
	case string:
		return dfs.StringValue(x)
	}
	return dfs.Value{}
}
