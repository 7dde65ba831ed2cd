package relmgr

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
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
	page      *page // looked at last
}

// pageBits is the size of a page: as many old keys, whether mapped or not.
const pageBits = 10
const pageSize = 1 << pageBits

type pageKey struct {
	space *space
	no    int64
}

// A page holds the runs of pageSize old keys, in their order.
type page struct {
	pageKey
	runs  []*run
	dirty bool
}

// A run maps the keys old, old+1 and so on to new, new+1 and so on. It is made
// when the first of them is met, and is longer the more keys before it are mapped:
// keys that come one after the other need one run for many, and keys that are far
// apart one each. New ids that its keys never need are not used.
type run struct {
	old, new    int64
	span        int
	known, came []uint64 // bits
	dirty       bool
}

func newRun(old, new int64, span int) *run {
	words := make([]uint64, 2*((span+63)/64))
	return &run{old: old, new: new, span: span, known: words[:len(words)/2], came: words[len(words)/2:]}
}

// size is roughly how many bytes of memory the run takes.
func (r *run) size() int { return 136 + 16*len(r.known) }

func bitBytes(words []uint64, span int) []byte {
	b := make([]byte, (span+7)/8)
	for i := range b {
		b[i] = byte(words[i/8] >> (i % 8 * 8))
	}
	return b
}

func setBytes(words []uint64, b []byte) {
	for i, c := range b {
		if i/8 < len(words) {
			words[i/8] |= uint64(c) << (i % 8 * 8)
		}
	}
}

// A caches keeps what was looked up, in two halves: what has not been used while
// one filled up goes with it. Nothing goes while a batch is at work, since what is
// in memory is then newer than the file.
type caches struct {
	limit            int // bytes of both halves
	size             int
	pages, oldPages  map[pageKey]*page
	entries, oldEnts map[entryKey]*entry
}

func (c *caches) clear() {
	c.size = 0
	c.pages, c.oldPages = make(map[pageKey]*page), nil
	c.entries, c.oldEnts = make(map[entryKey]*entry), nil
}

// turn drops the older half if the newer one is full.
func (c *caches) turn() bool {
	if c.size < c.limit/2 {
		return false
	}
	c.oldPages, c.oldEnts = c.pages, c.entries
	c.pages, c.entries, c.size = make(map[pageKey]*page), make(map[entryKey]*entry), 0
	return true
}

func (p *page) bytes() int {
	n := 160
	for _, r := range p.runs {
		n += r.size()
	}
	return n
}

// load returns a page of a linear space.
func (m *Manager) load(ctx context.Context, sp *space, no int64) (*page, error) {
	if p := sp.page; p != nil && p.no == no {
		return p, nil
	}
	k := pageKey{sp, no}
	p := m.cache.pages[k]
	if p == nil {
		if p = m.cache.oldPages[k]; p == nil {
			p = &page{pageKey: k}
			if err := m.readPage(ctx, p); err != nil {
				return nil, err
			}
		}
		m.cache.pages[k] = p
		m.cache.size += p.bytes()
	}
	sp.page = p
	return p, nil
}

func (m *Manager) readPage(ctx context.Context, p *page) error {
	if p.space.id == 0 || p.space.empty || p.no > p.space.lastPage {
		return nil
	}
	rows, err := m.store.runs.QueryContext(ctx, p.space.id, p.no<<pageBits, p.no<<pageBits|(pageSize-1))
	if err != nil {
		return m.store.wrap("look up", err)
	}
	defer rows.Close()
	for rows.Next() {
		var old, new int64
		var span int
		var known, came sql.RawBytes
		if err := rows.Scan(&old, &new, &span, &known, &came); err != nil {
			return m.store.wrap("look up", err)
		}
		r := newRun(old, new, span)
		setBytes(r.known, known)
		setBytes(r.came, came)
		p.runs = append(p.runs, r)
	}
	return m.store.wrap("look up", rows.Err())
}

// find returns the run that maps the key, or nil, and where in the page a run of
// it would be.
func (p *page) find(key int64) (*run, int) {
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].old > key })
	if i > 0 {
		if r := p.runs[i-1]; key-r.old < int64(r.span) {
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
	word, bit := n>>6, uint64(1)<<(n&63)
	if r.known[word]&bit == 0 {
		r.known[word] |= bit
		sp.known++
		m.mark(p, r)
	}
	if own && r.came[word]&bit == 0 {
		r.came[word] |= bit
		sp.came++
		m.mark(p, r)
	}
	return r.new + n, r.came[word]&bit != 0, nil
}

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
	r := newRun(key, int64(first), int(n))
	p.runs = slices.Insert(p.runs, at, r)
	m.cache.size += r.size()
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
			if e, err = m.readEntry(ctx, sp, k.old); err != nil {
				return nil, err
			}
			if e == nil {
				if e, err = m.makeEntry(ctx, sp, values()); err != nil {
					return nil, err
				}
				sp.known++
				m.markEntry(k, e)
			}
		}
		m.cache.entries[k] = e
		m.cache.size += 200 + len(old) + len(e.new.Text())
	}
	if own && !e.came {
		e.came = true
		sp.came++
		m.markEntry(entryKey{sp, string(old)}, e)
	}
	return e, nil
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
	err := m.store.entry.QueryRowContext(ctx, sp.id, []byte(old)).Scan(&new, &came)
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
		for _, r := range p.runs {
			r.dirty = false
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

// turn keeps the caches within their bound, when nothing in them is newer than the
// file.
func (m *Manager) turn() {
	if m.cache.turn() {
		for _, sp := range m.spaces {
			sp.page = nil
		}
	}
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
		for _, r := range p.runs {
			if !r.dirty {
				continue
			}
			if _, err := s.putRun.ExecContext(ctx, p.space.id, r.old, r.new, r.span, bitBytes(r.known, r.span), bitBytes(r.came, r.span)); err != nil {
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
