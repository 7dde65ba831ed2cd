package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// What was asked of a Source (change.go) is taken over by its Stream.

// confirm lets those go on who asked for what the last call of Next has handed on.
func (s *Stream) confirm() {
	if len(s.taken) == 0 || !s.given {
		return
	}
	s.src.mu.Lock()
	defer s.src.mu.Unlock()
	for _, a := range s.taken {
		if a.taken == s {
			s.src.answer(a, nil)
		}
	}
	s.taken = nil
}

// changeDue reports whether there is something to take over here.
func (s *Stream) changeDue() bool {
	if s.src.asked.Load() == 0 || s.fix || s.inPart || s.asm.tx.open || s.asm.skipTo > 0 {
		return false
	}
	s.src.mu.Lock()
	defer s.src.mu.Unlock()
	return slices.ContainsFunc(s.src.asks, s.mayTake)
}

// mayTake reports whether an ask can be taken over where the stream stands. src.mu is
// held.
func (s *Stream) mayTake(a *request) bool {
	if a.taken != nil || len(a.follow) > 0 && len(s.asm.at.xa) > 0 {
		return false
	}
	if a.at == (place{}) || a.server != s.server {
		return true // change says that it cannot be
	}
	at, ok := s.asm.reached()
	return ok && !at.before(a.at)
}

// change takes over what is asked, if there is something and the stream is between
// two transactions. Chunks of a copy that were read are read again.
func (s *Stream) change(ctx context.Context) error {
	if !s.changeDue() || s.copier != nil && !s.copier.between() && !s.copier.done {
		return nil
	}
	src := s.src
	src.mu.Lock()
	var asks []*request
	for _, a := range slices.Clone(src.asks) {
		switch {
		case !s.mayTake(a):
		case s.copiesFirst(a) != "":
			src.answer(a, fmt.Errorf("cdc: copy %s again: %w: its rows are being copied for the first time: wait until that has ended", s.copiesFirst(a), dfs.ErrNoChange))
		case a.at != (place{}) && a.server != s.server:
			src.answer(a, dfs.Transient(fmt.Errorf("cdc: the address led to server %s for the question and to %s for the log: do it again", a.server, s.server)))
		default:
			asks = append(asks, a)
		}
	}
	src.mu.Unlock()
	if len(asks) == 0 {
		return nil
	}
	err := s.apply(ctx, asks)
	src.mu.Lock()
	defer src.mu.Unlock()
	for _, a := range asks {
		if err != nil {
			src.answer(a, err)
			continue
		}
		if slices.Contains(src.asks, a) {
			a.taken = s
			src.asked.Add(-1)
		}
	}
	if err != nil {
		s.err = dfs.Transient(err)
		return s.err
	}
	s.taken, s.given = append(s.taken, asks...), false
	return nil
}

// apply changes what is followed and copied.
func (s *Stream) apply(ctx context.Context, asks []*request) error {
	was := s.asm.follow
	if was == nil {
		was = newFollowing(s.src.opts.Tables, nil, nil)
	}
	now := was
	var items []copyItem
	word := "-"
	old := s.copier
	if old != nil {
		old.close()
		if !old.done {
			items, word = old.items(), old.word()
		}
	}
	copies := len(items) > 0
	for _, a := range asks {
		for _, n := range a.unfollow {
			now = now.minus(n)
			endCopies(items, n)
		}
		for _, item := range a.copies {
			if len(a.follow) > 0 && now.follows(item.tableName) {
				continue // it was taken over before
			}
			switch t := old.latest(item.tableName); {
			case t == nil || !item.again:
			case t.state == dfs.CopyFailed:
				// Of what the target has of it nothing is known, and so its changes are left
				// out until its rows have come.
				item.again, item.anew = false, true
			case t.state == dfs.CopyWaiting || t.state == dfs.Copying:
				item.where = either(t.where, item.where) // it has to do for both
			}
			items, copies = append(items, item), true
		}
		for _, n := range a.follow {
			now = now.plus(n)
		}
	}
	for _, n := range asksTables(asks) {
		s.asm.forget(n)
	}
	s.asm.follow, s.asm.followDue = now, true
	s.src.follow.Store(now)
	var c *copier
	if copies {
		var err error
		if c, err = s.src.newCopier(ctx, s, items, word, old); err != nil {
			s.src.follow.Store(was)
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copier = c
	s.fix = true // a transaction without changes is to have it in State
	if c == nil {
		s.until = nil
		return nil
	}
	c.stateDue = true
	s.src.mu.Lock()
	s.src.copier = c
	s.src.mu.Unlock()
	if !s.ended {
		c.start()
	}
	return nil
}

// asksTables returns the tables of which it changes whether they are followed.
func asksTables(asks []*request) (list []tableName) {
	for _, a := range asks {
		list = append(append(list, a.follow...), a.unfollow...)
	}
	return list
}

// endCopies marks the copies of a table as those of which nothing is left to do.
func endCopies(items []copyItem, n tableName) {
	for i := range items {
		if strings.EqualFold(items[i].schema, n.schema) && strings.EqualFold(items[i].name, n.name) {
			items[i].gone = true
		}
	}
}

// latest returns the copy of a table that is not over, or nil.
func (c *copier) latest(n tableName) *copyTable {
	if c == nil || c.done {
		return nil
	}
	return c.byName[c.fold(n)]
}

// either returns a condition that rows meet which meet one of two.
func either(a, b string) string {
	switch {
	case a == "" || b == "":
		return ""
	case a == b:
		return a
	}
	return between(a) + " OR " + between(b)
}

// copiesFirst returns a table that a request wants to be copied again, and of which
// the first copy is not over: of what the target has of it not all is known.
func (s *Stream) copiesFirst(a *request) string {
	for _, item := range a.copies {
		if s.copier == nil || s.copier.done || !item.again {
			continue
		}
		s.copier.mu.Lock()
		t := s.copier.latest(item.tableName)
		first := t != nil && !t.again && (t.state == dfs.CopyWaiting || t.state == dfs.Copying)
		s.copier.mu.Unlock()
		if first {
			return item.String()
		}
	}
	return ""
}

// goOn takes over what was counted of a table before the copier was made anew.
func (t *copyTable) goOn(old *copyTable) {
	t.rows, t.bytes, t.total, t.started, t.ended = old.rows, old.bytes, max(t.total, old.total), old.started, old.ended
	if t.state == dfs.CopyFailed && old.err != nil {
		t.err = old.err
	}
}

// forget drops what is known of a table of which it changes whether it is followed:
// where it was not, statements about it may have been passed over.
func (a *assembler) forget(n tableName) {
	clear(a.maps)
	a.last = nil
	a.ahead = ahead{open: a.ahead.open, done: a.ahead.done, payload: a.ahead.payload.kept()}
	if a.catalog.kept {
		a.catalog.tables.Forget(n.schema, n.name)
		a.catalog.changed = true
		clear(a.catalog.records)
	}
}
