package sink

import (
	"cmp"
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
//   - Events run no triggers and check no CHECK constraints. Tables with these
//     stay away.
//   - Events do check that a parent or child exists (errors 1451, 1452). But what
//     ON DELETE and ON UPDATE say they do only where InnoDB does that itself, as it did
//     before MySQL 9.6. Since then deletes, and updates of indexed columns, stay
//     away unless the server says, under the same lock, that no foreign key acts on
//     rows that refer to the table. information_schema shows keys of tables
//     that the account has a right on; all of them are in INNODB_FOREIGN, which takes
//     the privilege PROCESS.
//   - Values that SQL might refuse or change are not encoded: see rowevent.
//   - Events are strict. A row that is there already, or missing, is error 1062
//     or 1032, upon which the run is undone and applied in pieces. A server that
//     is set to pass over such errors gets no events.

// useEvents prepares the session for row events, or notes why it cannot.
func (s *session) useEvents(ctx context.Context, off bool) error {
	if off {
		s.srv.sqlOnly = "the options say so"
		return nil
	}
	if err := s.strictEvents(ctx); err != nil || s.srv.sqlOnly != "" {
		return err
	}
	if s.srv.mariadb {
		if _, err := s.exec(ctx, []byte(rowevent.FormatDescription())); err != nil {
			return s.sqlBecause(err, "BINLOG REPLAY")
		}
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
	if s.srv.major < 8 {
		return s.sqlBecause(err, "SUPER")
	}
	return s.sqlBecause(err, "REPLICATION_APPLIER")
}

// strictEvents notes if the server is set to pass over errors of events, or to write
// them elsewhere. By an option it is started with all servers do the former, and not for
// replication alone: the event then ends at the row that is refused, without an error. By a
// variable, MariaDB and MySQL before 8.0 do so for all sessions alike; the others for those
// that ask for it. MariaDB and MySQL before 8.0 put the schemas of replicate-rewrite-db in
// place of those of events, of which only MariaDB from 10.11 on has a variable that tells.
func (s *session) strictEvents(ctx context.Context) error {
	rows, err := s.query(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN "+
		"('slave_skip_errors','replica_skip_errors','replicate_rewrite_db') AND Value NOT IN ('','OFF')")
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		s.srv.sqlOnly = fmt.Sprintf("the server has %s=%s, which is not for replication alone: without that option applying is faster",
			rows[0][0].text, rows[0][1].text)
		return nil
	}
	if s.srv.globalMode = s.srv.mariadb || s.srv.major < 8; !s.srv.globalMode {
		return nil
	}
	if rows, err = s.query(ctx, passesOverSQL); err == nil && len(rows) > 0 {
		s.srv.sqlOnly = errPassesOver.Error()
	}
	return err
}

const passesOverSQL = "SELECT 1 FROM DUAL WHERE @@global.slave_exec_mode<>'STRICT'"

var errPassesOver = errors.New("the server passes over errors of row events: SET GLOBAL slave_exec_mode='STRICT' makes applying faster")

// sqlBecause notes that the session takes no events because of err, unless that may pass.
func (s *session) sqlBecause(err error, privilege string) error {
	switch {
	case serverError(err) == erSpecificAccess:
		s.srv.sqlOnly = "the account may not use them: GRANT " + privilege + " ON *.* makes applying faster"
	case serverError(err) != 0 && !errors.Is(classify(err), dfs.ErrTransient):
		s.srv.sqlOnly = "the server refuses them: " + err.Error()
	default:
		return err
	}
	return nil
}

// mapEvents makes the mapping ready for the row-event lane, if it may take it.
func (m *mapping) mapEvents(back []int) {
	switch {
	case m.to.inPlace:
		m.bySQL = "the target's table has triggers"
		return
	case m.to.checked:
		m.bySQL = "the target's table has CHECK constraints"
		return
	}
	defs := make([]rowevent.ColumnDef, len(m.to.columns))
	for j := range m.to.columns {
		tc := &m.to.columns[j]
		switch {
		case tc.generated:
			m.bySQL = fmt.Sprintf("column %s is generated", tc.name)
			return
		case back[j] < 0:
			m.bySQL = fmt.Sprintf("the source has no column %s", tc.name)
			return
		}
		sc, c := &m.src.Columns[back[j]], &m.columns[back[j]]
		// The numbers of an ENUM or SET mean the same if its names do.
		switch {
		case len(sc.Members) == 0 && tc.charset != "" && !c.sameText:
			m.bySQL = fmt.Sprintf("the text of column %s is in %s on the source and in %s on the target", tc.name, cmp.Or(sc.Charset, "no character set"), tc.charset)
			return
		case c.members != nil:
			m.bySQL = fmt.Sprintf("column %s has other members on the target", tc.name)
			return
		case len(sc.Members) == 0 && plainType(sc.Type) != plainType(tc.typ):
			m.bySQL = fmt.Sprintf("column %s is %s on the source and %s on the target", tc.name, sc.Type, tc.typ)
			return
		}
		defs[j] = rowevent.ColumnDef{Name: tc.name, Type: tc.typ, Charset: tc.charset, Octets: tc.octets, Members: len(sc.Members), Nullable: tc.nullable}
	}
	t, err := rowevent.New(1, m.to.schema, m.to.name, defs)
	if err != nil {
		m.bySQL = strings.TrimPrefix(err.Error(), "rowevent: ")
		return
	}
	if !t.Checks() {
		m.bySQL = "its text is in a character set of several bytes that only the server can check"
	}
	m.events, m.back = t, back
	for j := range defs {
		m.eventAll = append(m.eventAll, j)
	}
	if m.key == nil || m.to.primary == nil || m.keyName != "PRIMARY" {
		m.bySQL = "the target's table has no primary key, or the source does not have its columns"
		return
	}
	for _, i := range m.key {
		m.eventKey = append(m.eventKey, m.columns[i].to)
	}
	slices.Sort(m.eventKey)
	for j, i := range back {
		if len(m.to.indexed) > 0 && m.to.indexed[j] {
			m.indexedBack = append(m.indexedBack, i)
		}
	}
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
	if w.srv.sqlOnly != "" || m.events == nil || m.eventKey == nil || !m.events.Checks() || len(g.rows) < w.minEvents || g.serial || g.fixed || g.part || g.spare {
		return false
	}
	if g.op == dfs.Insert {
		return g.cols == nil
	}
	switch w.actions(g) {
	case noActions:
		return true
	case askActions:
		return len(g.rows) >= 4*w.minEvents // the question is a round trip
	}
	return false
}

// What foreign keys may do to rows that refer to those of a group, beyond what events do.
const (
	noActions   = iota
	askActions  // the server is to be asked
	someActions // maybe something, and the account may not ask
)

// actions tells what foreign keys may do when the group is applied.
func (w *writer) actions(g *group) int {
	if g.op == dfs.Insert || g.noFK || !w.srv.sqlCascades {
		return noActions
	}
	if g.op == dfs.Update && !slices.ContainsFunc(g.m.indexedBack, g.cols.has) {
		return noActions
	}
	if w.srv.seesKeys && isPlain(g.m.to.schema) && isPlain(g.m.to.name) {
		return askActions
	}
	return someActions
}

// isPlain reports whether a name is written the same by everybody.
func isPlain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '_')
	})
}

// actsSQL asks for a foreign key that acts on rows which refer to the table: bits 0 to
// 3 of its type are CASCADE and SET NULL on delete and on update ("The
// INFORMATION_SCHEMA INNODB_FOREIGN Table").
func (t *table) actsSQL() string {
	return string(appendQuoted([]byte("SELECT 1 FROM information_schema.INNODB_FOREIGN WHERE TYPE & 15 AND LOWER(REF_NAME)="),
		strings.ToLower(t.schema+"/"+t.name))) + " LIMIT 1"
}

// errAltered says that a table of the target is not what it was when it was
// looked at.
var errAltered = errors.New("the target's table was altered")

// verifyActions makes sure that no foreign key acts on rows which refer to the table,
// and none does until the end of the transaction. The table's definition must be
// locked, which keeps others from adding one.
func (w *writer) verifyActions(m *mapping) (bool, error) {
	if m.unreferred != w.run {
		acts, err := w.ask(m.to.actsSQL())
		if err != nil || acts {
			return false, err
		}
		m.unreferred = w.run
	}
	return true, nil
}

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
	if w.srv.globalMode {
		if over, err := w.ask(passesOverSQL); err != nil || over {
			return cmp.Or(err, errPassesOver)
		}
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
	if w.actions(g) == askActions {
		if ok, err := w.verifyActions(m); err != nil || !ok {
			return 0, err
		}
	}
	// What was written before goes first, by itself.
	if err := w.flush(); err != nil {
		return 0, err
	}
	for n := 0; done < len(g.rows); done += n {
		rows := g.rows[done:]
		if cap(w.events) > 4*w.maxBytes {
			w.events = nil // of a large row
		}
		w.events, n, err = m.events.AppendSome(w.events[:0], &r, min(len(rows), w.maxRows), w.maxBytes/4*3,
			func(i int) (dfs.Row, dfs.Row) { return rows[i].before, rows[i].after })
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
	if s.srv.sqlCascades && !s.srv.seesKeys {
		return "row events, but deletes and updates of indexed columns by SQL: " +
			"the account does not see the foreign keys of all tables: GRANT PROCESS ON *.* makes them faster"
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
