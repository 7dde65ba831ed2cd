package cdc

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// How pieces that were read become right, and are handed on.

// full reports whether the log has to wait for statements that read. It goes on
// where they wait for the log.
// Invariant I6: a window is bounded, but for what the log has up to the ends of
// statements that were read.
func (c *copier) full() bool {
	if c.frozen != nil {
		return true
	}
	if c.window < windowSize || c.inside {
		return false
	}
	some := false
	for _, t := range c.tables[c.first:] {
		for _, f := range t.flights {
			if f.known && c.place.before(f.end) {
				return false
			}
			some = true
		}
	}
	return some
}

// right reports whether a piece can be handed on.
func (c *copier) right(p *piece) bool {
	return p.f.known && !c.place.before(p.f.end) && (c.frozen == nil || c.frozen == p.f)
}

// ready reports whether something can be handed on.
func (c *copier) ready() bool {
	return !c.inside && (c.over() || !c.holds() && slices.ContainsFunc(c.pending, c.right))
}

// over reports whether nothing is left to be copied, and that is yet to be told.
func (c *copier) over() bool {
	if c.ended || c.inside || c.frozen != nil {
		return false
	}
	for c.first < len(c.tables) && (c.tables[c.first].state == dfs.Copied || c.tables[c.first].state == dfs.CopyFailed) {
		c.first++
	}
	return c.first == len(c.tables)
}

// handOut hands on the chunks that are right where the log was read up to.
func (c *copier) handOut(batch []*dfs.Transaction) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside {
		return 0, nil
	}
	c.takeWord()
	size := 0
	for i := 0; i < len(c.pending) && n < len(batch) && size < pieceSize && !c.holds(); {
		p := c.pending[i]
		if !c.right(p) {
			i++
			continue
		}
		c.pending = slices.Delete(c.pending, i, i+1)
		c.size -= p.size
		if batch[n], err = c.settle(p); err != nil {
			return n, err
		}
		n++
		size += p.size
	}
	if n < len(batch) && c.over() {
		batch[n] = c.finish()
		n++
	}
	if n > 0 {
		c.cond.Broadcast()
	}
	return n, nil
}

// settle makes a Transaction of a piece, at the place that the log was read up to.
// Invariant I1: that its range is copied stands in the position of its rows.
func (c *copier) settle(p *piece) (*dfs.Transaction, error) {
	t := p.f.t
	tx := &dfs.Transaction{Snapshot: true, ID: "snapshot " + t.String(), More: p.more}
	var err error
	if tx.Changes, err = p.replay(); err != nil {
		return nil, err
	}
	t.void = 0
	t.rows += uint64(len(tx.Changes))
	t.bytes += uint64(p.size)
	p.f.open--
	c.frozen = nil
	if p.more {
		c.frozen = p.f
	} else {
		t.left = minus(t.left, p.r)
		if t.key != nil {
			t.hash = t.key.hash()
		}
		if len(t.left) == 0 {
			c.copied(t)
		}
		c.st.asm.at.copy = c.word()
	}
	c.land(p.f)
	tx.Pos = dfs.Position(c.st.asm.at.String())
	return tx, nil
}

// land forgets a statement of which all is handed on.
func (c *copier) land(f *flight) {
	if f.over && f.open == 0 {
		f.t.flights = slices.DeleteFunc(f.t.flights, func(g *flight) bool { return g == f })
		c.trim(f.t)
	}
}

// copied notes that a table is copied to its end.
func (c *copier) copied(t *copyTable) {
	t.state, t.ended = dfs.Copied, time.Now()
	t.left, t.hash = nil, ""
	c.discard(t)
	c.src.opts.Logger.Info("a table is copied", "table", t.String(), "rows", t.rows)
}

// finish returns the transaction that ends the copy: from here on positions have
// nothing of it, unless tables have failed.
func (c *copier) finish() *dfs.Transaction {
	c.ended = true
	tx := &dfs.Transaction{Snapshot: true, Copied: true, ID: "snapshot"}
	var failed []error
	for _, t := range c.tables {
		if t.state == dfs.CopyFailed {
			failed = append(failed, t.err)
		}
	}
	if len(failed) == 0 {
		c.st.asm.at.copy = ""
		c.done, c.st.until = true, nil
		tx.State = c.st.asm.state()
	}
	tx.Pos = dfs.Position(c.st.asm.at.String())
	if c.opts.Only {
		c.err = io.EOF
		if len(failed) > 0 {
			c.err = errors.Join(failed...)
		}
	}
	c.src.opts.Logger.Info("all tables are copied", "failed", len(failed))
	return tx
}

// replay applies the window's changes to the rows of a piece.
func (p *piece) replay() ([]dfs.Change, error) {
	t := p.f.t
	var at map[string]int
	for _, ch := range t.log[p.f.from-t.base:] {
		was := ch.before != "" && p.r.has(ch.beforeOrder)
		is := ch.after != "" && p.r.has(ch.afterOrder)
		if !was && !is {
			continue
		}
		if at == nil {
			at = make(map[string]int, len(p.rows))
			var b []byte
			for i := range p.rows {
				var err error
				if b, err = t.shape.key.exact(b[:0], p.rows[i].After); err != nil {
					return nil, err
				}
				at[string(b)] = i
			}
		}
		if was {
			if i, ok := at[ch.before]; ok {
				p.rows[i].After = nil
				delete(at, ch.before)
			}
		}
		if is {
			if i, ok := at[ch.after]; ok {
				p.rows[i].After = ch.row
				continue
			}
			at[ch.after] = len(p.rows)
			p.rows = append(p.rows, dfs.Change{Op: dfs.Insert, Table: t.shape.table, After: ch.row, NoForeignKeys: true, Overwrite: t.again || t.anew})
		}
	}
	if at != nil {
		p.rows = slices.DeleteFunc(p.rows, func(c dfs.Change) bool { return c.After == nil })
	}
	return p.rows, nil
}
