package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// query handles a statement in the log.
func (a *assembler) query(e event, q query) error {
	if q.text == "BEGIN" {
		return a.begin(e)
	}
	mode := a.mode(e, q)
	s := ddl.Parse(ddl.Plain(q.text, mode), q.schema, mode)
	switch s.Kind {
	case ddl.Begin:
		return a.begin(e)
	case ddl.Commit:
		return a.commit(e)
	case ddl.Rollback:
		return a.rollback(e)
	case ddl.Savepoint, ddl.RollbackTo:
		if a.tx.begun {
			return a.savepoint(e, &s)
		}
	case ddl.XAStart:
		if err := a.begin(e); err != nil {
			return err
		}
		a.hold()
		return nil
	case ddl.XAEnd:
		return nil
	case ddl.XAPrepare, ddl.XACommit, ddl.XARollback:
		later, err := a.xaFinish(e, s.XID, s.Kind != ddl.XARollback)
		if later || err != nil {
			return err
		}
	case ddl.DML:
		if a.concerned(&s, q) {
			err := a.refuse(e, "rows were changed by a statement that was logged as such",
				"set binlog_format=ROW on the source, for running sessions too")
			if err != nil {
				return err
			}
		}
	case ddl.Nothing:
	case ddl.Trigger, ddl.Routine, ddl.Event, ddl.Account, ddl.Storage:
		a.counted.statementsFiltered++
	default:
		if s.Temporary { // it is the session's own, and its rows are not logged
			a.evolve(e, q, &s, nil)
		} else if err := a.ddl(e, &s, q); err != nil {
			return err
		}
	}
	if a.tx.begun {
		return nil
	}
	// A statement that stands alone is a transaction of its own.
	if !a.tx.open {
		if err := a.startAnonymous(e); err != nil {
			return err
		}
	}
	return a.commit(e)
}

// begin notes that more events follow. Where there are no GTIDs, this is where
// a transaction begins.
func (a *assembler) begin(e event) error {
	if a.tx.begun && a.at.kind != byMaria {
		return a.fault("a transaction begins before the last one has ended",
			"the log is damaged: make a new copy of the data and start after this place")
	}
	if !a.tx.open {
		if err := a.startAnonymous(e); err != nil {
			return err
		}
	}
	a.tx.begun = true
	return nil
}

// mode says how to read the text of a query: as the server did that wrote it into
// the log, which may have another version by now.
func (a *assembler) mode(e event, q query) ddl.Mode {
	return modeOf(q.session(e, a.src.maria), a.src.maria, a.version)
}

// modeOf is mode for a session on a server of a version.
func modeOf(session *dfs.Session, maria bool, version string) ddl.Mode {
	m := ddl.Mode{MariaDB: maria, Version: versionNumber(version)}
	for _, v := range session.Vars {
		switch v.Name {
		case "sql_mode":
			m.ANSIQuotes = strings.Contains(v.Value, "ANSI_QUOTES")
			m.NoBackslashEscapes = strings.Contains(v.Value, "NO_BACKSLASH_ESCAPES")
		case "character_set_client":
			m.Charset = v.Value
		}
	}
	return m
}

// concerned reports whether a statement may be about something followed.
func (a *assembler) concerned(s *ddl.Statement, q query) bool {
	f := a.filter()
	if s.Settled {
		return slices.ContainsFunc(s.Tables, func(t ddl.Table) bool { return f.follows(t.Schema, t.Name) })
	}
	if f.follows(q.schema, "") {
		return true
	}
	for t := range s.Pairs() {
		if f.follows(t.Schema, t.Name) {
			return true
		}
	}
	return false
}

// halfway reports whether a statement has done only a part of what it says. A DROP
// that found one of its tables or views missing has dropped the others.
func (q *query) halfway(s *ddl.Statement) bool {
	const badTable = 1051 // ER_BAD_TABLE_ERROR
	missing := q.failed == badTable && (s.Kind == ddl.DropTable || s.Kind == ddl.DropView)
	return q.failed != 0 && !missing
}

// ddl handles a statement that may alter tables.
func (a *assembler) ddl(e event, s *ddl.Statement, q query) error {
	session := q.session(e, a.src.maria)
	if q.phase&(mariaAlterBegins|mariaAlterRolledBack) != 0 {
		a.counted.statementsFiltered++
		return nil // it comes again when it is done, or has done nothing
	}
	if q.unread != "" {
		s.Settled = false // how its text is to be read is not known
	}
	a.evolve(e, q, s, session)
	if !a.concerned(s, q) {
		a.counted.statementsFiltered++
		return nil
	}
	if !a.tx.open {
		if err := a.startAnonymous(e); err != nil {
			return err
		}
	}
	switch {
	case a.skipTo > 0:
		return nil
	case q.unread != "":
		return a.refuse(e, fmt.Sprintf("the statement %.80q was logged with %s, so that what it means is not known", s.Text, q.unread),
			"update this program to one that knows the source's version")
	case s.Selects:
		return a.refuse(e, "a CREATE TABLE ... SELECT was logged as a statement, without its rows",
			"set binlog_format=ROW on the source, for running sessions too")
	case q.halfway(s):
		return a.refuse(e, fmt.Sprintf("the statement %.80q ended with error %d on the source after it had done a part of its work, and which part is not known", s.Text, q.failed),
			"compare its tables on source and target")
	}
	t := &dfs.Table{Schema: q.schema}
	if s.Settled && len(s.Tables) == 1 {
		t.Schema, t.Name = s.Tables[0].Schema, s.Tables[0].Name
	}
	a.statement(dfs.Change{Op: dfs.DDL, Table: t, Query: s.Text, Session: session})
	a.src.opts.Logger.Info("statement handed on", "at", fmt.Sprintf("%s:%d", a.file, a.off), "table", t.String())
	return nil
}
