package cdc

import (
	"slices"
	"strings"
)

// stmtKind is what a statement in the log means for a reader.
type stmtKind uint8

const (
	stmtDDL        stmtKind = iota
	stmtBegin               // a transaction of several events begins
	stmtCommit              // and ends
	stmtRollback            // and is undone
	stmtRollbackTo          // a part of it is undone
	stmtXAStart             // an XA transaction begins
	stmtXAEnd               // no more events of it follow
	stmtXAFinish            // XA COMMIT or XA ROLLBACK
	stmtDML                 // rows changed by a statement
	stmtAside               // defines something that is no table, and changes no rows
	stmtNothing             // nothing for a reader
)

// A statement is what can be told of a statement without a full parser.
type statement struct {
	kind stmtKind

	// tables are the tables that it alters. An empty name means all tables of
	// that schema.
	tables []tableName

	// settled says that tables is complete.
	settled bool

	// text is the statement, without what belongs to the log alone.
	text string

	xid string // of an XA statement
}

// A tableName is a table, or with an empty name all tables of the schema. The
// names are as the statement writes them.
type tableName struct{ schema, name string }

// A parser reads the names out of one statement.
type parser struct {
	lex    lexer
	tok    token
	schema string // for names without one
}

// advance moves to the next token and returns it.
func (p *parser) advance() token {
	p.tok = p.lex.next()
	return p.tok
}

// skip moves past the keywords, if they come next, and reports whether they did.
func (p *parser) skip(words ...string) bool {
	at, tok := p.lex, p.tok
	for _, w := range words {
		if !p.tok.is(w) {
			p.lex, p.tok = at, tok
			return false
		}
		p.advance()
	}
	return true
}

// skipAny moves past all of the words that come next, in any order.
func (p *parser) skipAny(words ...string) {
	for p.tok.kind == tokWord && slices.ContainsFunc(words, p.tok.is) {
		p.advance()
	}
}

// seek moves past the next keyword w, and reports whether there was one.
func (p *parser) seek(w string) bool {
	for p.tok.kind != tokEnd {
		if p.tok.is(w) {
			p.advance()
			return true
		}
		p.advance()
	}
	return false
}

// name reads "name" or "schema.name".
func (p *parser) name() (tableName, bool) {
	if p.tok.kind != tokWord && p.tok.kind != tokName {
		return tableName{}, false
	}
	n := tableName{p.schema, p.tok.text}
	if p.advance().punct(".") {
		p.advance()
		if p.tok.kind != tokWord && p.tok.kind != tokName {
			return tableName{}, false
		}
		n = tableName{n.name, p.tok.text}
		p.advance()
	}
	return n, true
}

// names reads names with commas between them.
func (p *parser) names() (list []tableName, ok bool) {
	for {
		n, ok := p.name()
		if !ok {
			return list, false
		}
		list = append(list, n)
		if !p.tok.punct(",") {
			return list, true
		}
		p.advance()
	}
}

// parseStatement tells what text, run with the given default schema, is about.
func parseStatement(text, schema string) statement {
	p := &parser{lex: lexer{s: text}, schema: schema}
	p.advance()
	s := statement{text: text}
	one := func(n tableName, ok bool) {
		s.tables, s.settled = []tableName{n}, ok
		if !ok {
			s.tables = nil
		}
	}
	first := strings.ToUpper(p.tok.text)
	if p.tok.kind != tokWord {
		first = ""
	}
	p.advance()
	switch first {
	case "BEGIN":
		s.kind = stmtBegin
	case "START":
		s.kind = stmtNothing
		if p.tok.is("TRANSACTION") {
			s.kind = stmtBegin
		}
	case "COMMIT":
		s.kind = stmtCommit
	case "ROLLBACK":
		s.kind = stmtRollback
		if p.tok.is("TO") {
			s.kind = stmtRollbackTo
		}
	case "XA":
		s.xid = strings.TrimSpace(text[p.lex.pos:])
		switch {
		case p.tok.is("START"), p.tok.is("BEGIN"):
			s.kind = stmtXAStart
		case p.tok.is("END"):
			s.kind = stmtXAEnd
		default:
			s.kind = stmtXAFinish
		}
	case "INSERT", "REPLACE":
		s.kind = stmtDML
		p.skipAny("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
		one(p.name())
	case "UPDATE", "DELETE", "LOAD", "CALL", "WITH", "DO":
		s.kind = stmtDML
	case "SAVEPOINT", "RELEASE", "GRANT", "REVOKE", "SET", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK",
		"CHECKSUM", "INSTALL", "UNINSTALL", "CHANGE", "STOP", "KILL", "USE", "LOCK", "UNLOCK", "PURGE", "RESET",
		"CACHE", "SHOW", "SHUTDOWN", "IMPORT":
		s.kind = stmtNothing
	case "TRUNCATE":
		p.skip("TABLE")
		one(p.name())
	case "RENAME":
		if !p.skip("TABLE") && !p.skip("TABLES") {
			s.kind = stmtNothing
			break
		}
		p.skip("IF", "EXISTS")
		for {
			from, ok1 := p.name()
			for p.skip("WAIT") || p.skip("NOWAIT") || p.tok.kind == tokWord && !p.tok.is("TO") {
				p.advance() // MariaDB's WAIT n
			}
			ok2 := p.skip("TO")
			to, ok3 := p.name()
			if s.settled = ok1 && ok2 && ok3; !s.settled {
				break
			}
			s.tables = append(s.tables, from, to)
			if !p.tok.punct(",") {
				break
			}
			p.advance()
		}
	case "CREATE", "ALTER", "DROP":
		p.definition(&s, first)
	}
	return s
}

// definition reads what follows CREATE, ALTER or DROP.
func (p *parser) definition(s *statement, verb string) {
	one := func(n tableName, ok bool) {
		if s.settled = ok; ok {
			s.tables = append(s.tables, n)
		}
	}
	replace := p.tok.is("OR")
	for p.modifier(s) {
	}
	if s.kind == stmtNothing {
		return
	}
	what := strings.ToUpper(p.tok.text)
	if p.tok.kind != tokWord {
		return
	}
	p.advance()
	exists := func() { _ = p.skip("IF", "NOT", "EXISTS") || p.skip("IF", "EXISTS") }
	exists()
	switch what {
	case "TABLE", "TABLES", "SEQUENCE":
		if verb == "DROP" {
			s.tables, s.settled = p.names()
			return
		}
		one(p.name())
		if verb == "ALTER" && what == "TABLE" {
			p.alterTable(s)
		}
		if verb == "CREATE" && what == "TABLE" {
			// MySQL >= 8.0.21 logs CREATE TABLE ... SELECT with this at its end,
			// and the rows after it in the same transaction.
			if trimmed, ok := cutWords(s.text, "START", "TRANSACTION"); ok {
				s.text = trimmed
			}
		}
	case "INDEX", "KEY":
		if p.seek("ON") {
			one(p.name())
		}
	case "DATABASE", "SCHEMA":
		// What goes away with a schema are its tables; MariaDB's CREATE OR REPLACE
		// drops it first.
		if verb != "DROP" && !replace {
			s.kind = stmtAside
			return
		}
		if n, ok := p.name(); ok {
			s.tables, s.settled = []tableName{{n.name, ""}}, true
		}
	case "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "PACKAGE", "USER", "ROLE", "SERVER",
		"TABLESPACE", "LOGFILE", "UNDO", "RESOURCE", "SPATIAL", "INSTANCE", "LIBRARY":
		if what == "SPATIAL" && p.tok.is("INDEX") {
			if p.seek("ON") {
				one(p.name())
			}
			return
		}
		s.kind = stmtAside
	}
}

// modifier reads one of the clauses that may stand before what a statement
// defines, and reports whether there was one.
func (p *parser) modifier(s *statement) bool {
	switch {
	case p.skip("TEMPORARY"):
		s.kind = stmtNothing // it is the session's own, and its rows are not logged
	case p.skip("OR", "REPLACE"), p.skip("UNIQUE"), p.skip("FULLTEXT"), p.skip("ONLINE"), p.skip("OFFLINE"),
		p.skip("IGNORE"), p.skip("AGGREGATE"), p.skip("JSON", "RELATIONAL", "DUALITY"), p.skip("JSON", "DUALITY"):
	case p.skip("SQL", "SECURITY"):
		p.skipAny("DEFINER", "INVOKER")
	case p.tok.is("DEFINER"), p.tok.is("ALGORITHM"):
		// DEFINER = `user`@`host`, or CURRENT_USER(), or a word.
		p.advance()
		for p.tok.punct("=") || p.tok.punct("@") || p.tok.punct("(") || p.tok.punct(")") ||
			p.tok.kind == tokName || p.tok.kind == tokString || p.tok.is("CURRENT_USER") ||
			p.tok.is("UNDEFINED") || p.tok.is("MERGE") || p.tok.is("TEMPTABLE") || p.tok.is("CURRENT_ROLE") {
			p.advance()
		}
	default:
		return false
	}
	return true
}

// alterTable looks for a second table: a new name, or one that a partition is
// exchanged with.
func (p *parser) alterTable(s *statement) {
	depth := 0
	for ; p.tok.kind != tokEnd; p.advance() {
		switch {
		case p.tok.punct("("):
			depth++
		case p.tok.punct(")"):
			depth--
		case depth > 0:
		case p.tok.is("RENAME"):
			p.advance()
			if p.tok.is("COLUMN") || p.tok.is("INDEX") || p.tok.is("KEY") {
				continue
			}
			_ = p.skip("TO") || p.skip("AS")
			if p.tok.punct("=") {
				p.advance()
			}
			n, ok := p.name()
			if !ok {
				s.settled = false
				return
			}
			s.tables = append(s.tables, n)
		case p.tok.is("EXCHANGE"):
			if p.seek("WITH") && p.skip("TABLE") {
				n, ok := p.name()
				if !ok {
					s.settled = false
					return
				}
				s.tables = append(s.tables, n)
			}
		}
	}
}

// cutWords cuts the two words off the end of text.
func cutWords(text, first, second string) (string, bool) {
	l := lexer{s: text}
	var last, before token
	for t := l.next(); t.kind != tokEnd; t = l.next() {
		before, last = last, t
	}
	if !before.is(first) || !last.is(second) {
		return text, false
	}
	return strings.TrimRight(text[:before.at], " \t\r\n"), true
}
