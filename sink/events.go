package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
)

// The row-event lane writes a group as binary log events in a BINLOG statement.
// For the same 130,000 rows the target's server took 1.95 s of processor time
// that way, and 2.99 s by SQL (make bench, single-row transactions).
//
// What it does must not differ from what SQL does, so it takes only groups for
// which that holds:
//
//   - Events match columns by their place. So the source must have every column
//     of the table, none of them generated, and of the same type and character
//     set. Before its first group in each transaction of the target, SHOW CREATE
//     TABLE tells whether the table is still the one that was looked at, and a
//     lock that the transaction holds keeps it so.
//   - Events run no triggers, check no CHECK constraints and, on MySQL 9.7, do
//     not do what ON DELETE and ON UPDATE say. They do check that a parent or
//     child exists (errors 1451, 1452). Tables with triggers or checks stay away,
//     and so do deletes and updates of indexed columns: a child table may be
//     there that the account cannot see.
//   - Values that SQL might refuse or change are not encoded: see rowevent.
//   - Events are strict. A row that is there already, or missing, is error 1062
//     or 1032, upon which the run is undone and applied in pieces.

// useEvents prepares the session for row events, or notes why it cannot.
func (s *session) useEvents(ctx context.Context, off bool) error {
	switch {
	case off:
		s.srv.sqlOnly = "the options say so"
	case s.srv.mariadb:
		s.srv.sqlOnly = "MariaDB takes other events"
	case s.srv.major < 8:
		s.srv.sqlOnly = "the server is older than MySQL 8.0"
	}
	if s.srv.sqlOnly != "" {
		return nil
	}
	// The description leaves the session's next GTID open, and every statement
	// after it would fail with error 1782. So that it can be closed again is
	// made sure of first; BINLOG_ADMIN alone does not allow it.
	const next = "SET gtid_next='AUTOMATIC'"
	_, err := s.exec(ctx, []byte(next))
	if err == nil {
		if _, err = s.exec(ctx, []byte(rowevent.FormatDescription())); err == nil {
			_, err = s.exec(ctx, []byte(next))
			return err
		}
	}
	switch {
	case serverError(err) == erSpecificAccess:
		s.srv.sqlOnly = "the account may not use them: GRANT REPLICATION_APPLIER ON *.* makes applying faster"
	case serverError(err) != 0 && !errors.Is(classify(err), dfs.ErrTransient):
		s.srv.sqlOnly = "the server refuses them: " + err.Error()
	default:
		return err
	}
	return nil
}

// mapEvents makes the mapping ready for the row-event lane, if it may take it.
func (m *mapping) mapEvents(back []int) {
	if m.to.inPlace || m.to.checked {
		return
	}
	defs := make([]rowevent.ColumnDef, len(m.to.columns))
	for j := range m.to.columns {
		tc := &m.to.columns[j]
		if back[j] < 0 || tc.generated {
			return
		}
		sc, c := &m.src.Columns[back[j]], &m.columns[back[j]]
		// The numbers of an ENUM or SET mean the same if its names do.
		if len(sc.Members) == 0 && tc.charset != "" && !c.sameText || c.members != nil {
			return
		}
		if len(sc.Members) == 0 && plainType(sc.Type) != plainType(tc.typ) {
			return
		}
		defs[j] = rowevent.ColumnDef{Name: tc.name, Type: tc.typ, Charset: tc.charset, Octets: tc.octets, Members: len(sc.Members), Nullable: tc.nullable}
	}
	t, err := rowevent.New(1, m.to.schema, m.to.name, defs)
	if err != nil {
		return // it has a type that is not encoded
	}
	m.events, m.back = t, back
	for j := range defs {
		m.eventAll = append(m.eventAll, j)
	}
	if m.key == nil || m.to.primary == nil || m.keyName != "PRIMARY" {
		return
	}
	for _, i := range m.key {
		m.eventKey = append(m.eventKey, m.columns[i].to)
	}
	slices.Sort(m.eventKey)
}

// plainType drops what servers print differently of one and the same type: the
// display width of integers, and ZEROFILL.
func plainType(typ string) string {
	typ = strings.TrimSuffix(strings.ToLower(typ), " zerofill")
	if i := strings.IndexByte(typ, '('); i > 0 && (strings.HasSuffix(typ[:i], "int") || typ[:i] == "year") {
		if j := strings.IndexByte(typ, ')'); j > 0 {
			typ = typ[:i] + typ[j+1:]
		}
	}
	return typ
}

// takesEvents reports whether the group goes by the row-event lane.
func (w *writer) takesEvents(g *group) bool {
	m := g.m
	if w.srv.sqlOnly != "" || m.events == nil || m.eventKey == nil || !m.events.Checks() || len(g.rows) < w.minEvents || g.serial || g.fixed || g.part {
		return false
	}
	switch g.op {
	case dfs.Insert:
		return g.cols == nil
	case dfs.Update:
		for j, i := range m.back {
			if m.to.indexed[j] && g.cols.has(i) {
				return false
			}
		}
		return true
	}
	return false
}

// errAltered says that a table of the target is not what it was when it was
// looked at.
var errAltered = errors.New("the target's table was altered")

// verifyEvents makes sure that the mapping still fits the target's table, and
// does so until the end of the transaction.
func (w *writer) verifyEvents(m *mapping) error {
	if m.verified == w.run {
		return nil
	}
	// That locks the table's definition.
	w.statement("DO (SELECT 1 FROM "+string(m.to.ident())+" LIMIT 0)", uncounted)
	if err := w.flush(); err != nil {
		return err
	}
	created, err := w.showCreate(m.to)
	if err != nil {
		return err
	}
	if created != m.to.created {
		return errAltered
	}
	m.verified = w.run
	return nil
}

// eventGroup sends the group's rows as events, and returns how many rows those
// are. It stops at the first row that cannot be encoded, and SQL will tell what
// is wrong with it.
func (w *writer) eventGroup(g *group) (done int, err error) {
	m := g.m
	r := rowevent.Rows{Op: g.op, Before: m.eventKey, After: m.eventAll, From: m.back, NoForeignKeys: g.noFK}
	if g.op == dfs.Update {
		r.After = nil
		for j, i := range m.back {
			if g.cols.has(i) {
				r.After = append(r.After, j)
			}
		}
	}
	if err := w.verifyEvents(m); err != nil {
		return 0, err
	}
	// What was written before goes first, by itself.
	if err := w.flush(); err != nil {
		return 0, err
	}
	for n := 0; done < len(g.rows); done += n {
		rows := g.rows[done:]
		for n = min(len(rows), w.maxRows); ; n /= 2 {
			w.events, err = m.events.Append(w.events[:0], &r, n, func(i int) (dfs.Row, dfs.Row) { return rows[i].before, rows[i].after })
			if n <= 1 || err == nil && len(w.events)/3*4 < w.maxBytes {
				break
			}
		}
		if err != nil || len(w.events)/3*4+64 > w.srv.maxPacket {
			return done, nil
		}
		w.b = rowevent.AppendStatement(w.b, w.events)
		w.want = append(w.want, uncounted)
		if err := w.flush(); err != nil {
			return done, err
		}
		w.eventRows.Add(uint64(n))
		// Whether the session takes the flag over from the event depends on
		// the server: MySQL 9.7 puts its own back after the statement.
		w.fkUnknown = w.fkUnknown || g.noFK || w.fkOff
	}
	return done, nil
}

// lane tells how the sink writes: by row events, or by SQL alone and why.
func (s *session) lane() string {
	if s.srv.sqlOnly != "" {
		return fmt.Sprintf("SQL: %s", s.srv.sqlOnly)
	}
	return "row events"
}

// useLane makes the writer follow the session.
func (m *MySQL) useLane() {
	m.writer.srv = m.sess.srv
	lane := m.sess.lane()
	m.stats.lane.Store(&lane)
}

// refusesEvents reports whether err, of a BINLOG statement, is neither about
// the rows nor one that may pass. Then the session should not use events again.
func refusesEvents(err error) bool {
	n := serverError(err)
	return n != 0 && n != erKeyNotFound && !isConstraint(err) && !errors.Is(err, dfs.ErrTransient)
}

// closeEvents keeps the session from using events.
func (m *MySQL) closeEvents(cause error) {
	if m.sess == nil || m.sess.srv.sqlOnly != "" {
		return
	}
	m.sess.srv.sqlOnly = "the server refused them: " + cause.Error()
	m.useLane()
	m.log.Warn("applying by SQL alone, without row events", "cause", cause)
}
