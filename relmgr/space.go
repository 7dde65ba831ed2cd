package relmgr

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	mathbits "math/bits"
	"slices"
	"sort"

	"github.com/dataflowsync/dfs"
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
}

// pageBits is the size of a page: as many old keys, whether mapped or not.
const pageBits = 10
const pageSize = 1 << pageBits

// A page holds the runs of pageSize old keys, in their order. Most have one: so it is
// part of the page, and a page takes about 160 bytes.
type page struct {
	space *space
	no    int64
	runs  []run
	first [1]run // what runs is made of, until there are more
	dirty bool
}

// A run maps the keys old, old+1 and so on to new, new+1 and so on. It is made
// when the first of them is met, and is longer the more keys before it are mapped:
// keys that come one after the other need one run for many, and keys that are far
// apart one each. New ids that its keys never need are not used.
type run struct {
	old, new    int64
	known, came bits
	span        int32
	dirty       bool
}

// bits are as many as a run has keys. Once all are set, which is soon so where keys
// come one after the other, they take no memory of their own.
type bits struct {
	few  uint64                 // of a run of at most 64 keys
	many *[pageSize / 64]uint64 // of a longer one; nil if none or all are set
	n    int32                  // how many are set
}

func (b *bits) has(i int64, span int32) bool {
	switch {
	case b.n == span:
		return true
	case span <= 64:
		return b.few>>i&1 != 0
	}
	return b.many != nil && b.many[i>>6]>>(i&63)&1 != 0
}

// set sets a bit, and reports whether it was not.
func (b *bits) set(i int64, span int32) bool {
	if b.has(i, span) {
		return false
	}
	b.n++
	switch {
	case span <= 64:
		b.few |= 1 << i
	case b.n == span:
		b.many = nil
	default:
		if b.many == nil {
			b.many = new([pageSize / 64]uint64)
		}
		b.many[i>>6] |= 1 << (i & 63)
	}
	return true
}

// bytes returns the bits as the file has them.
func (b *bits) bytes(span int32) []byte {
	list := make([]byte, (span+7)/8)
	if span > 64 && b.n < span && b.many == nil {
		return list
	}
	for i := range list {
		switch {
		case b.n == span:
			list[i] = 0xff
		case span <= 64:
			list[i] = byte(b.few >> (8 * i))
		default:
			list[i] = byte(b.many[i/8] >> (i % 8 * 8))
		}
	}
	if rest := span % 8; rest != 0 {
		list[len(list)-1] &= 1<<rest - 1
	}
	return list
}

// read sets the bits that the file has.
func (b *bits) read(list []byte, span int32) {
	n := int32(0)
	for i, c := range list {
		if rest := span - int32(8*i); rest < 8 {
			c &= 1<<max(rest, 0) - 1
		}
		n += int32(mathbits.OnesCount8(c))
	}
	if n == span {
		b.n = span
		return
	}
	for i, c := range list {
		for ; c != 0; c &= c - 1 {
			if at := int64(8*i + mathbits.TrailingZeros8(c)); at < int64(span) {
				b.set(at, span)
			}
		}
	}
}

const runBytes = 72

// size is roughly how many bytes of memory the run takes, with those of its bits.
func (r *run) size() int {
	n := runBytes
	for _, b := range [2]*bits{&r.known, &r.came} {
		if b.many != nil {
			n += pageSize / 8
		}
	}
	return n
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
		if err := r.scan(rows); err != nil {
			return m.store.wrap("look up", err)
		}
		r.to(p)
	}
	return m.store.wrap("look up", rows.Err())
}

// find returns the run that maps the key, or nil, and where in the page a run of
// it would be.
func (p *page) find(key int64) (*run, int) {
	i := len(p.runs)
	if i > 1 {
		i = sort.Search(i, func(i int) bool { return p.runs[i].old > key })
	} else if i == 1 && p.runs[0].old > key {
		i = 0
	}
	if i > 0 {
		if r := &p.runs[i-1]; key-r.old < int64(r.span) {
			return r, i
		}
	}
	return nil, i
}

// number returns the new id of a key of a linear space, and makes one if it has
// none. own says that the key is met as that of a row. came tells whether it has
// ever been.
func (m *Manager) number(ctx context.Context, sp *space, key int64, own bool) (id int64, came bool, err error) {
	p, err := m.load(ctx, sp, key>>pageBits)
	if err != nil {
		return 0, false, err
	}
	r, at := p.find(key)
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
	most := max(1, min(mostBlock, maxOf(sp.typ)/256))
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
	if own && !e.came {
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
	m.misses++
	err := m.store.entry.QueryRowContext(context.WithoutCancel(ctx), sp.id, []byte(old)).Scan(&new, &came)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, m.store.wrap("look up", err)
	}
	return &entry{new: fromSQL(new), came: came}, nil
}

// makeEntry makes the new id of a key by the policy of its space.
func (m *Manager) makeEntry(ctx context.Context, sp *space, key []dfs.Value) (*entry, error) {
	var v dfs.Value
	switch sp.policy.Ids {
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

// flush stores what the batch has changed, in one commit. Then it may be handed
// on.
//
// Invariant: a new id is durable before a row with it leaves the stage.
func (m *Manager) flush(ctx context.Context, head uint64) error {
	s := m.store
	if err := ctx.Err(); err != nil {
		return err
	}
	// A statement that ctx cuts off may have been done, BEGIN and COMMIT too. It is
	// a matter of milliseconds, so it is not cut off.
	ctx = context.WithoutCancel(ctx)
	if _, err := s.begin.ExecContext(ctx); err != nil {
		return s.wrap("store", err)
	}
	err := m.write(ctx, head)
	if err == nil {
		_, err = s.commit.ExecContext(ctx)
	}
	if err != nil {
		_, _ = s.rollback.ExecContext(ctx)
		return s.wrap("store", err)
	}
	for _, p := range m.dirtyPages {
		p.dirty = false
		for i := range p.runs {
			p.runs[i].dirty = false
		}
	}
	for _, k := range m.dirtyEntries {
		m.cache.entries[k].dirty = false
	}
	for _, sp := range m.spaces {
		sp.dirty = false
	}
	m.dirtyPages, m.dirtyEntries = m.dirtyPages[:0], m.dirtyEntries[:0]
	m.newSeen, m.newLearned = m.newSeen[:0], m.newLearned[:0]
	clear(m.newHere)
	m.head = max(m.head, head)
	m.turn()
	return nil
}

func (m *Manager) write(ctx context.Context, head uint64) error {
	s := m.store
	for _, sp := range m.spaces {
		if !sp.dirty {
			continue
		}
		if sp.id == 0 {
			typ := sp.typ
			if sp.linear && len(sp.columns) == 1 {
				typ = sp.columns[0].Type // which tells how to read the old keys
			}
			r, err := s.addSpace.ExecContext(ctx, sp.table, sp.column, encodeNames(sp.key), sp.linear, typ, sp.next, sp.end)
			if err != nil {
				return err
			}
			if sp.id, err = r.LastInsertId(); err != nil {
				return err
			}
		}
		if _, err := s.putSpace.ExecContext(ctx, int64(sp.next), int64(sp.end), int64(sp.asked), sp.known, sp.came, sp.id); err != nil {
			return err
		}
	}
	for _, p := range m.dirtyPages {
		for i := range p.runs {
			r := &p.runs[i]
			if !r.dirty {
				continue
			}
			if _, err := s.putRun.ExecContext(ctx, p.space.id, r.old, r.new, r.span, r.known.bytes(r.span), r.came.bytes(r.span)); err != nil {
				return err
			}
		}
	}
	for _, k := range m.dirtyEntries {
		e := m.cache.entries[k]
		if _, err := s.putEntry.ExecContext(ctx, k.space.id, []byte(k.old), toSQL(e.new), e.came); err != nil {
			return err
		}
	}
	for _, name := range m.newSeen {
		var err error
		if h := m.seen[name]; h != nil {
			_, err = s.saw.ExecContext(ctx, name, h.encode())
		} else {
			_, err = s.unsee.ExecContext(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	for _, k := range m.newLearned {
		if _, err := s.learn.ExecContext(ctx, int64(head), k.Name, k.Schema+"."+k.Table, encodeNames(k.Columns),
			k.ParentSchema+"."+k.Parent, encodeNames(k.ParentColumns)); err != nil {
			return err
		}
	}
	_, err := s.setHead.ExecContext(ctx, int64(head))
	return err
}
