package relmgr

import (
	"context"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
)

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
	if s.dead != nil {
		return dfs.Standing(s.dead)
	}
	if s.gone() {
		return dfs.Standing(s.save(ctx))
	}
	if _, err := s.begin.ExecContext(ctx); err != nil {
		return s.wrap("store", err)
	}
	err := m.write(ctx, head)
	if err == nil {
		failpoint.Hit("relmgr.commit")
		_, err = s.commit.ExecContext(ctx)
		failpoint.Hit("relmgr.committed")
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
		if m.keepWhole(p) {
			sp := p.space
			delete(sp.pages, p.no)
			delete(sp.oldPages, p.no)
			if sp.page == p {
				sp.page = nil
			}
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
	m.measure()
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
			sp.filed = typ
		}
		if err := s.putCounters(ctx, sp); err != nil {
			return err
		}
	}
	for _, p := range m.dirtyPages {
		for i := range p.runs {
			r := &p.runs[i]
			if !r.dirty {
				continue
			}
			if err := s.putRunOf(ctx, p.space.id, r); err != nil {
				return err
			}
		}
	}
	for _, k := range m.dirtyEntries {
		e := m.cache.entries[k]
		if err := s.putEntryOf(ctx, k.space.id, []byte(k.old), e.new, e.came); err != nil {
			return err
		}
	}
	for _, name := range m.newSeen {
		var err error
		if h := m.seen[name]; h != nil {
			how := h.encode()
			_, err = s.saw.ExecContext(ctx, name, how, s.sums.text(name, how).sum())
		} else {
			_, err = s.unsee.ExecContext(ctx, name)
		}
		if err != nil {
			return err
		}
	}
	for _, k := range m.newLearned {
		table, columns := k.Schema+"."+k.Table, encodeNames(k.Columns)
		parent, parentColumns := k.ParentSchema+"."+k.Parent, encodeNames(k.ParentColumns)
		sum := s.sums.text(k.Name, table, columns, parent, parentColumns).sum()
		if _, err := s.learn.ExecContext(ctx, int64(head), k.Name, table, columns, parent, parentColumns, sum); err != nil {
			return err
		}
	}
	_, err := s.setHead.ExecContext(ctx, int64(head))
	return err
}
