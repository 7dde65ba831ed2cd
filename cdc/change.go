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
	if !s.maria && atLeast(s.known().version, 8, 0) {
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
