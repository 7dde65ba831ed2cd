package cdc

import (
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
)

// query handles a statement in the log.
func (a *assembler) query(e event, q query) error {
	if q.text == "BEGIN" {
		return a.begin(e)
	}
	s := parseStatement(q.text, q.schema)
	switch s.kind {
	case stmtBegin:
		return a.begin(e)
	case stmtCommit:
		return a.commit(e)
	case stmtRollback:
		return a.rollback(e)
	case stmtRollbackTo:
		if len(a.part) > 0 || a.tx.parts {
			return a.refuse(e, "a transaction undoes a part of itself with ROLLBACK TO SAVEPOINT, after changes to followed tables",
				"it mixes tables with and without transactions: convert them all to InnoDB")
		}
		return nil
	case stmtXAStart:
		if err := a.begin(e); err != nil {
			return err
		}
		a.tx.xa = s.xid
		return nil
	case stmtXAEnd:
		a.tx.xa = s.xid // MariaDB logs no XA START
		return nil
	case stmtXAFinish:
		if err := a.xaFinish(e, s.xid); err != nil {
			return err
		}
	case stmtDML:
		if a.concerned(s, q) {
			err := a.refuse(e, "rows were changed by a statement that was logged as such",
				"set binlog_format=ROW on the source, for running sessions too")
			if err != nil {
				return err
			}
		}
	case stmtAside:
		a.counted.statementsFiltered++
	case stmtDDL:
		if err := a.ddl(e, s, q); err != nil {
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

// rollback ends a transaction of which the log holds no more than what cannot be
// undone.
func (a *assembler) rollback(e event) error {
	if len(a.part) > 0 || a.tx.parts {
		err := a.refuse(e, "a transaction that was rolled back has changed followed tables",
			"it mixes tables with and without transactions: convert them all to InnoDB")
		if err != nil {
			return err
		}
	}
	return a.commit(e)
}

// concerned reports whether a statement may be about something followed.
func (a *assembler) concerned(s statement, q query) bool {
	f := a.src.filter
	if s.settled {
		return slices.ContainsFunc(s.tables, func(n tableName) bool { return f.follows(n.schema, n.name) })
	}
	if f.follows(q.schema, "") {
		return true
	}
	// Take each pair of names with a dot between for a table.
	l := lexer{s: q.text}
	var t [3]token
	for t[2] = l.next(); t[2].kind != tokEnd; t[0], t[1], t[2] = t[1], t[2], l.next() {
		if t[1].punct(".") && f.follows(t[0].text, t[2].text) {
			return true
		}
	}
	return false
}

// ddl handles a statement that may alter tables.
func (a *assembler) ddl(e event, s statement, q query) error {
	for _, n := range s.tables {
		a.src.schemas.forget(n.schema, n.name)
	}
	if !s.settled {
		a.src.schemas.forgetAll()
	}
	if !a.concerned(s, q) {
		a.counted.statementsFiltered++
		return nil
	}
	if !a.tx.open {
		if err := a.startAnonymous(e); err != nil {
			return err
		}
	}
	if a.skipTo > 0 {
		return nil
	}
	t := &dfs.Table{Schema: q.schema}
	if s.settled && len(s.tables) == 1 {
		t.Schema, t.Name = s.tables[0].schema, s.tables[0].name
	}
	a.statement(dfs.Change{Op: dfs.DDL, Table: t, Query: s.text, Session: q.session(e, a.src.maria)})
	a.src.opts.Logger.Info("statement handed on", "at", fmt.Sprintf("%s:%d", a.file, a.off), "table", t.String())
	return nil
}
