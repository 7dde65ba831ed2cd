package cdc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A request is something that is to change about a Stream while it goes on. A Stream
// takes it over between two transactions, hands on a transaction without changes of
// which State has it, and lets the asker go on when it is asked for more: then who
// reads the Stream has that transaction. A Stream that ends before gives it back, and
// the next one takes it over, if its checkpoint does not have it already. So all that
// a request does can be done twice.
type request struct {
	follow   []tableName
	unfollow []tableName
	copies   []copyItem

	// at and server are where follow may be taken over: the end of the log when the
	// tables were what the asker was told that they are.
	at     place
	server string

	taken *Stream
	done  chan error
}

var (
	_ dfs.Follower = (*Source)(nil)
	_ dfs.Recopier = (*Source)(nil)
)

// Follow makes the Stream follow tables that it does not follow yet, "schema.table"
// each, and copies the rows that they have if rows is set. It goes on meanwhile. Where
// their changes begin is one place of the log, between two transactions: the first
// that the Stream comes to, at or after the log's end when Follow was called. What
// tables are followed is a part of State from there on. So they stay followed after a
// restart, also if Options.Tables does not name them; a warning then says so.
//
// Follow returns when whoever reads the Stream has the transaction that says so. For
// that it waits until the Stream has come to that place, and until no XA transaction
// is prepared, for whose rows it would be too late. If ctx ends before, nothing has
// changed. If all of the tables are followed already, the error is dfs.ErrNoChange.
//
// The rows must come to tables without any: a row that is there already is a conflict.
// A table that a pattern of Options.Tables with ! leaves out cannot be followed so.
func (s *Source) Follow(ctx context.Context, tables []string, rows bool) error {
	names, err := s.names("follow", tables)
	if err != nil {
		return err
	}
	f := s.current()
	names = slices.DeleteFunc(names, f.follows)
	if len(names) == 0 {
		return fmt.Errorf("cdc: follow %s: %w: followed already; to copy rows once more is Resnapshot's", someOf(tables), dfs.ErrNoChange)
	}
	var errs []error
	for _, n := range names {
		if !f.plus(n).follows(n) {
			errs = append(errs, fmt.Errorf("cdc: follow %s: a pattern of Options.Tables with ! leaves it out: take that out, and start anew", n))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a := &request{follow: names}
	if s.db == nil {
		if rows {
			return fmt.Errorf("cdc: follow %s: log files have no rows but those that they log: follow it without its rows, or read from the server", someOf(tables))
		}
		return s.ask(ctx, a, "follow "+someOf(tables))
	}
	if rows {
		if err := s.fullImages(ctx, "follow "+someOf(tables)); err != nil {
			return err
		}
	}
	before := make([][]byte, len(names))
	for i := range names {
		t, err := readTable(ctx, s.db, names[i].schema, names[i].name)
		switch {
		case err != nil:
			return mark(err)
		case t == nil:
			errs = append(errs, fmt.Errorf("cdc: follow %s: the source has no such table, or does not show it to the account: create it, or GRANT SELECT ON it", names[i]))
			continue
		}
		before[i] = appendTable(nil, t)
		if rows {
			_, err = s.readShape(ctx, names[i])
			errs = append(errs, err)
			a.copies = append(a.copies, copyItem{tableName: names[i]})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := s.askPlace(ctx, a); err != nil {
		return err
	}
	for i, n := range names {
		t, err := readTable(ctx, s.db, n.schema, n.name)
		if err != nil {
			return mark(err)
		}
		if t == nil || !bytes.Equal(before[i], appendTable(nil, t)) {
			return dfs.Transient(fmt.Errorf("cdc: follow %s: it is being altered: do it again", n))
		}
	}
	return s.ask(ctx, a, "follow "+someOf(tables))
}

// askPlace sets the place from which an ask can be taken over.
func (s *Source) askPlace(ctx context.Context, a *request) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return mark(err)
	}
	defer conn.Close()
	if err := conn.QueryRowContext(ctx, s.serverName()).Scan(&a.server); err != nil {
		return mark(fmt.Errorf("cdc: ask which server it is: %w", err))
	}
	var end position
	if err := s.logEndOn(ctx, conn, &end); err != nil {
		return err
	}
	a.at = place{end.file, end.pos}
	if !s.maria && atLeast(s.version, 8, 0) {
		// The end may be behind a statement that is written and not yet committed, whose
		// tables show as they were before.
		return sleep(ctx, commitWait)
	}
	return nil
}

// Unfollow makes the Stream leave out tables that it follows, "schema.table" each,
// from one place of the log on, between two transactions: the one that it has come to.
// A copy of them that is under way ends. What the target has of them stays. Follow
// says how long that lasts, and when Unfollow returns. Later Follow may take them up
// again, from a place of that time on.
func (s *Source) Unfollow(ctx context.Context, tables []string) error {
	names, err := s.names("unfollow", tables)
	if err != nil {
		return err
	}
	f := s.current()
	if !slices.ContainsFunc(names, f.follows) {
		return fmt.Errorf("cdc: unfollow %s: %w: not followed", someOf(tables), dfs.ErrNoChange)
	}
	return s.ask(ctx, &request{unfollow: names}, "unfollow "+someOf(tables))
}

// Resnapshot copies the rows of one table, "schema.table", or those of them that
// meet a condition in SQL, to a target that has the table already, while the
// Stream goes on: each row comes as an Insert with Overwrite, as it is at that
// place of the log. Rows that the target has and the source has not stay. It
// returns as Follow does, and Progress then tells how far it is. One that is under
// way already begins anew, for the rows of both conditions; while the first copy of a
// table is, the error is dfs.ErrNoChange. A table whose copy has failed begins anew
// too: empty it on the target before, as rows that the source has deleted meanwhile
// stay there. The table needs a primary key.
func (s *Source) Resnapshot(ctx context.Context, table, where string) error {
	item, err := s.againItem(ctx, table, where)
	if err != nil {
		return err
	}
	return s.ask(ctx, &request{copies: []copyItem{item}}, "copy "+table+" again")
}

// ResnapshotAll is Resnapshot of all rows of several tables, as one copy: the
// transaction with Copied set comes when the rows of all of them have come. It is
// what a new baseline of an archive is made of.
func (s *Source) ResnapshotAll(ctx context.Context, tables []string) error {
	var items []copyItem
	var errs []error
	for _, t := range tables {
		item, err := s.againItem(ctx, t, "")
		items, errs = append(items, item), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || len(items) == 0 {
		return err
	}
	return s.ask(ctx, &request{copies: items}, "copy "+someOf(tables)+" again")
}

// againItem checks that a table can be copied again.
func (s *Source) againItem(ctx context.Context, table, where string) (item copyItem, err error) {
	what := "copy " + table + " again"
	if s.db == nil {
		return item, fmt.Errorf("cdc: %s: log files have no rows but those that they log: read from the server", what)
	}
	names, err := s.names("copy", []string{table})
	if err != nil {
		return item, err
	}
	if !s.current().follows(names[0]) {
		return item, fmt.Errorf("cdc: %s: it is no table that is followed: write schema.table, and name it in Tables, or Follow it", what)
	}
	t, err := readTable(ctx, s.db, names[0].schema, names[0].name)
	switch {
	case err != nil:
		return item, mark(err)
	case t == nil:
		return item, fmt.Errorf("cdc: %s: the source has no such table, or does not show it to the account: GRANT SELECT ON it", what)
	case t.Key == nil:
		return item, fmt.Errorf("cdc: %s: it has no primary key, by which rows of the target are found: add one", what)
	}
	item = copyItem{tableName: names[0], where: where, again: true}
	if err := s.checkWhere(ctx, item); err != nil {
		return item, err
	}
	return item, s.fullImages(ctx, what)
}

// fullImages checks that the log has rows whole, as a copy needs them.
func (s *Source) fullImages(ctx context.Context, what string) error {
	var image string
	if err := s.db.QueryRowContext(ctx, "SELECT @@global.binlog_row_image").Scan(&image); err != nil {
		return mark(fmt.Errorf("cdc: ask for binlog_row_image: %w", err))
	}
	if image != "FULL" {
		return fmt.Errorf("cdc: %s: binlog_row_image is %s: SET GLOBAL binlog_row_image = FULL, and let applications connect anew", what, image)
	}
	return nil
}

// names reads the names of tables, without wildcards, as the server spells them.
func (s *Source) names(what string, tables []string) ([]tableName, error) {
	var errs []error
	var names []tableName
	if len(tables) == 0 {
		errs = append(errs, fmt.Errorf("cdc: %s: no table is named: write schema.table", what))
	}
	for _, text := range tables {
		p, out, err := match.ParseFollowed(text)
		if err != nil || out || strings.ContainsAny(text, "*?") {
			errs = append(errs, fmt.Errorf("cdc: %s %q: it is not the name of one table: write schema.table", what, text))
			continue
		}
		if n := (tableName{p.Schema, p.Table}); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, errors.Join(errs...)
}

// Follows reports whether a table, "schema.table", is followed as of the latest Stream.
func (s *Source) Follows(table string) bool { return s.current().follows(nameOf(table)) }

// current returns what is followed as of the latest Stream.
func (s *Source) current() *following {
	if f := s.follow.Load(); f != nil {
		return f
	}
	return newFollowing(s.opts.Tables, nil, nil)
}

// ask waits until what is asked has been handed on.
func (s *Source) ask(ctx context.Context, a *request, what string) error {
	a.done = make(chan error, 1)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errClosed
	}
	s.asks = append(s.asks, a)
	s.asked.Add(1)
	s.mu.Unlock()
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err := <-a.done:
		return err
	default:
	}
	s.asks = slices.DeleteFunc(s.asks, func(b *request) bool { return a == b })
	if a.taken != nil {
		return fmt.Errorf("cdc: %s: %w after a stream has taken it over, and before it is known that it was handed on: look whether it goes on after a restart", what, ctx.Err())
	}
	s.asked.Add(-1)
	why := "no stream has come to it"
	switch {
	case len(s.streams) == 0:
		why = "no stream is open"
	case a.at != (place{}):
		why = fmt.Sprintf("the stream has not come to %s:%d, or XA transactions are prepared there (XA RECOVER)", a.at.file, a.at.pos)
	}
	return fmt.Errorf("cdc: %s: %w while %s: nothing has changed", what, ctx.Err(), why)
}

var errClosed = errors.New("cdc: the Source is closed")

// answer ends an ask. mu is held.
func (s *Source) answer(a *request, err error) {
	n := len(s.asks)
	s.asks = slices.DeleteFunc(s.asks, func(b *request) bool { return a == b })
	if len(s.asks) == n {
		return // whoever asked has left
	}
	if a.taken == nil {
		s.asked.Add(-1)
	}
	a.done <- err
}

// answerAll ends all asks. mu is held.
func (s *Source) answerAll(err error) {
	for len(s.asks) > 0 {
		s.answer(s.asks[0], err)
	}
}

// askAgain gives back what a stream has taken over that has ended before it was known
// to be handed on. mu is held.
func (s *Source) askAgain() {
	for _, a := range s.asks {
		if a.taken != nil {
			a.taken = nil
			s.asked.Add(1)
		}
	}
}

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
	a.ahead = ahead{open: a.ahead.open, done: a.ahead.done, payload: payload{zip: a.ahead.payload.zip}}
	if a.catalog.kept {
		a.catalog.tables.Forget(n.schema, n.name)
		a.catalog.changed = true
		clear(a.catalog.records)
	}
}

// copiesOf returns the copies that begin where tables are followed anew.
func (s *Source) copiesOf(names []string) (list []copyItem) {
	if s.snapshot == nil {
		return nil
	}
	for _, name := range names {
		if n := nameOf(name); s.copies.follows(n.schema, n.name) {
			list = append(list, copyItem{tableName: n, where: s.snapshot.Where[name]})
		}
	}
	return list
}

// mayBegin returns an error if tables cannot be followed from a place on, since rows
// of them may be in XA transactions that were prepared before.
func (c *FollowChange) mayBegin(at *position) error {
	for _, p := range at.xa {
		if len(c.New) > 0 && p.at == "" {
			return fmt.Errorf("cdc: Options.Tables name %s, which were not followed up to here, and the XA transaction %s is prepared, of which it is not known whether it has rows of them: "+
				"start with the tables of before, wait until XA RECOVER shows nothing on the source, and start with these again", someOf(c.New), p.xid)
		}
	}
	return nil
}

// checkWhere checks the condition of a copy: that the server reads it, and that it
// ends where it is to end, alone as between parentheses.
func (s *Source) checkWhere(ctx context.Context, item copyItem) error {
	if item.where == "" {
		return nil
	}
	from := "SELECT 1 FROM " + quoted(item.schema) + "." + quoted(item.name) + " WHERE "
	for _, q := range [2]string{from + item.where + "\n", from + "1 AND " + between(item.where)} {
		st, err := s.db.PrepareContext(ctx, q)
		if err != nil {
			return mark(fmt.Errorf("cdc: copy %s: the condition %q is not one that can stand behind WHERE: %w", item.tableName, item.where, err))
		}
		if err := st.Close(); err != nil {
			return mark(err)
		}
	}
	return nil
}

// between puts a condition into parentheses. It may end with a comment.
func between(where string) string { return "(" + where + "\n)" }
