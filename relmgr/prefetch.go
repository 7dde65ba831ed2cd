package relmgr

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// A wanted is what a batch will look up and is not in memory.
type wanted struct {
	before  int // misses of the batch before this one
	pages   []pageOf
	entries []entryKey
	text    []byte
}

type pageOf struct {
	space *space
	no    int64
}

// A batch whose forerunner found all but so many keys in memory has no need of a look
// ahead, which costs as much again as to look up what is there.
const fewMisses = 8

// prefetch reads what the batch will look up, in the order of the file, with a
// statement for many keys: where keys are scattered over a map that does not fit in
// memory, that is most of the work. It is no more than a hint. What it does not see,
// such as rows of tables that are new or ids in documents, is read one by one.
func (m *Manager) prefetch(ctx context.Context, batch []*dfs.Transaction) error {
	w := &m.wanted
	w.before, m.misses = m.misses, 0
	clear(m.cache.none)
	if w.before < fewMisses {
		return nil
	}
	w.pages, w.entries = w.pages[:0], w.entries[:0]
	for _, tx := range batch {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			p := m.plans[c.Table]
			if p == nil || c.Op == dfs.DDL {
				continue
			}
			for _, row := range [2]dfs.Row{c.Before, c.After} {
				if len(row) != len(p.table.Columns) {
					continue
				}
				for k := range p.cells {
					m.want(&p.cells[k], p.table, row)
				}
			}
		}
	}
	return m.fetch(ctx)
}

// want notes what a cell of a row will look up.
func (m *Manager) want(cl *cell, t *dfs.Table, row dfs.Row) {
	sp := cl.space
	if sp == nil || cl.typeCol >= 0 || cl.docs != nil || sp.id == 0 {
		return
	}
	for _, a := range cl.args {
		if row[a].Kind() <= dfs.Absent {
			return
		}
	}
	if sp.linear {
		key, err := sp.keyOf(row[cl.args[0]])
		if no := key >> pageBits; err == nil && sp.stored(no) && (sp.page == nil || sp.page.no != no) && m.wholeID(sp, no<<pageBits) == 0 && m.cached(sp, no) == nil {
			m.wanted.pages = append(m.wanted.pages, pageOf{sp, no})
		}
		return
	}
	m.key = m.key[:0]
	for i, a := range cl.args {
		var err error
		if m.key, err = appendKey(m.key, i, row[a], &t.Columns[a], sp.keyColumn(i)); err != nil {
			return
		}
	}
	if m.cache.entries[entryKey{sp, string(m.key)}] != nil || m.cache.oldEnts[entryKey{sp, string(m.key)}] != nil {
		return
	}
	m.wanted.entries = append(m.wanted.entries, entryKey{sp, string(m.key)})
}

// mostFetched is how many pages or entries one statement reads.
const mostFetched = 512

// fetch reads what is wanted into memory.
func (m *Manager) fetch(ctx context.Context) error {
	w := &m.wanted
	slices.SortFunc(w.pages, func(a, b pageOf) int {
		return cmp.Or(cmp.Compare(a.space.id, b.space.id), cmp.Compare(a.no, b.no))
	})
	w.pages = slices.Compact(w.pages)
	m.misses += len(w.pages)
	for list := w.pages; len(list) > 0; {
		n := 1
		for n < min(len(list), mostFetched) && list[n].space == list[0].space {
			n++
		}
		if err := m.fetchPages(ctx, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	slices.SortFunc(w.entries, func(a, b entryKey) int {
		return cmp.Or(cmp.Compare(a.space.id, b.space.id), cmp.Compare(a.old, b.old))
	})
	w.entries = slices.Compact(w.entries)
	m.misses += len(w.entries)
	for list := w.entries; len(list) > 0; {
		n := 1
		for n < min(len(list), mostFetched) && list[n].space == list[0].space {
			n++
		}
		if err := m.fetchEntries(ctx, list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	clear(w.entries) // their keys
	return nil
}

// fetchPages reads pages of one space, which are sorted, and not in memory.
func (m *Manager) fetchPages(ctx context.Context, list []pageOf) error {
	sp := list[0].space
	b := append(m.wanted.text[:0], '[')
	for i, p := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, p.no, 10)
	}
	b = append(b, ']')
	m.wanted.text = b
	rows, err := m.store.manyRuns.QueryContext(context.WithoutCancel(ctx), string(b), sp.id)
	if err != nil {
		return m.store.wrap("look up", err)
	}
	defer rows.Close()
	at := 0
	p := newPage(sp, list[0].no)
	var r scanned
	for rows.Next() {
		if err := r.scan(rows, m, sp); err != nil {
			return err
		}
		for no := r.old >> pageBits; p.no != no; p = newPage(sp, list[at].no) {
			m.keep(p)
			if at++; at == len(list) {
				return fmt.Errorf("map of ids %s: runs come in another order than was asked for", m.store.path)
			}
		}
		r.to(p)
	}
	if err := rows.Err(); err != nil {
		return m.store.wrap("look up", err)
	}
	for m.keep(p); at+1 < len(list); m.keep(newPage(sp, list[at].no)) {
		at++
	}
	return nil
}

// fetchEntries reads entries of one space, which are sorted, and not in memory. Those
// that are not there stay so.
func (m *Manager) fetchEntries(ctx context.Context, list []entryKey) error {
	sp := list[0].space
	b := append(m.wanted.text[:0], '[')
	for i, k := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = hex.AppendEncode(b, []byte(k.old))
		b = append(b, '"')
	}
	b = append(b, ']')
	m.wanted.text = b
	rows, err := m.store.manyEntries.QueryContext(context.WithoutCancel(ctx), string(b), sp.id)
	if err != nil {
		return m.store.wrap("look up", err)
	}
	defer rows.Close()
	for _, k := range list {
		m.cache.none[k] = true
	}
	for rows.Next() {
		var old sql.RawBytes
		var new any
		var came bool
		var sum sql.NullInt64
		if err := rows.Scan(&old, &new, &came, &sum); err != nil {
			return m.store.wrap("look up", err)
		}
		if !fits(sum, m.store.sums.entry(sp.id, old, fromSQL(new), came)) {
			return m.store.unfit("the key %q of %s.%s", old, sp.table, sp.column)
		}
		k := entryKey{sp, string(old)}
		delete(m.cache.none, k)
		m.keepEntry(k, &entry{new: fromSQL(new), came: came})
	}
	return m.store.wrap("look up", rows.Err())
}

// A scanned is a run as it is read.
type scanned struct {
	old, new    int64
	span        int32
	known, came sql.RawBytes
	sum         sql.NullInt64
}

// scan reads a run of a space, and makes sure that it is as it was written.
func (r *scanned) scan(rows *sql.Rows, m *Manager, sp *space) error {
	if err := rows.Scan(&r.old, &r.new, &r.span, &r.known, &r.came, &r.sum); err != nil {
		return m.store.wrap("look up", err)
	}
	if !fits(r.sum, m.store.sums.run(sp.id, r.old, r.new, r.span, r.known, r.came)) {
		return m.store.unfit("the keys of %s.%s from %d", sp.table, sp.column, r.old)
	}
	return nil
}

// to adds the run to its page.
func (r *scanned) to(p *page) {
	p.runs = append(p.runs, run{old: r.old, new: r.new, span: r.span})
	added := &p.runs[len(p.runs)-1]
	added.known.read(r.known, r.span)
	added.came.read(r.came, r.span)
}
