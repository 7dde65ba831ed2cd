package ddl

import (
	"slices"
	"strings"
)

// Parse tells what text is about, run with the given default schema. The
// strings of the result alias text.
func Parse(text, schema string, m Mode) Statement {
	s := Statement{Text: text, mode: m}
	p := parser{lex: lexer{s: text, mode: &m}, schema: schema, s: &s}
	p.advance()
	p.statement()
	s.Selects = s.Kind == CreateTable && s.selects()
	if s.obscure || p.lex.torn {
		s.Settled = false
	}
	if !s.Settled {
		s.fault = "not all tables that it alters are known"
	}
	return s
}

// A parser reads one statement.
type parser struct {
	lex    lexer
	tok    token
	last   int    // where the token before tok ended
	schema string // for names without one
	s      *Statement
	ctes   []string // the names of common table expressions in scope
	depth  int      // of parentheses
}

// advance moves to the next token and returns it.
func (p *parser) advance() token {
	p.last = p.tok.end
	p.tok = p.lex.next()
	return p.tok
}

// peek returns the token after the next.
func (p *parser) peek() token {
	l := p.lex
	return l.next()
}

// skip moves past the keywords, if they come next, and reports whether they did.
func (p *parser) skip(words ...string) bool {
	if len(words) == 1 && !p.tok.is(words[0]) {
		return false
	}
	at, tok, last := p.lex, p.tok, p.last
	for _, w := range words {
		if !p.tok.is(w) {
			p.lex, p.tok, p.last = at, tok, last
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

// skipPunct moves past the character, if it comes next.
func (p *parser) skipPunct(c byte) bool {
	if !p.tok.punct(c) {
		return false
	}
	p.advance()
	return true
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

// text returns the name that comes next, in UTF-8.
func (p *parser) text() string { return p.textOf(p.tok) }

// textOf returns the name that t is, in UTF-8.
func (p *parser) textOf(t token) string {
	if ascii(t.text) {
		return t.text
	}
	name, ok := p.lex.mode.decode(t.text)
	if !ok {
		p.s.obscure = true
	}
	return name
}

// name reads "name", "schema.name" or ".name".
func (p *parser) name() (r Ref, ok bool) {
	if p.tok.punct('.') && p.peek().named() {
		r.From = p.tok.at
		p.advance()
		r.Table, r.To = Table{p.schema, p.text()}, p.tok.end
		p.advance()
		return r, true
	}
	if !p.tok.named() {
		return Ref{}, false
	}
	r = Ref{Table: Table{p.schema, p.text()}, From: p.tok.at, To: p.tok.end}
	if p.advance().punct('.') {
		if !p.advance().named() {
			return Ref{}, false
		}
		r.Table, r.To, r.qualified = Table{r.Table.Name, p.text()}, p.tok.end, true
		p.advance()
	}
	return r, true
}

// ref reads a name and keeps it as one of the statement's Refs.
func (p *parser) ref(role Role) (Ref, bool) {
	r, ok := p.name()
	if ok {
		r.Role = role
		p.s.Refs = append(p.s.Refs, r)
	}
	return r, ok
}

// mark notes that the definition of what the statement is about begins with the
// next token.
func (p *parser) mark() { p.s.body, p.s.open = p.tok.at, p.lex.open }

// target reads the name of a table that the statement alters. The statement is
// settled if there is one, and was settled so far.
func (p *parser) target(role Role) bool {
	r, ok := p.ref(role)
	if ok {
		p.s.Tables = append(p.s.Tables, r.Table)
	} else {
		p.s.Settled = false
	}
	return ok
}

// targets reads the names of tables with commas between them.
func (p *parser) targets() {
	for p.target(Target) && p.skipPunct(',') {
	}
}

// wait moves past MariaDB's WAIT n and NOWAIT.
func (p *parser) wait() {
	if p.skip("WAIT") {
		p.advance()
	} else {
		p.skip("NOWAIT")
	}
}

// exists reads IF EXISTS and IF NOT EXISTS.
func (p *parser) exists() {
	switch {
	case p.skip("IF", "NOT", "EXISTS"):
		p.s.IfNotExists = true
	case p.skip("IF", "EXISTS"):
		p.s.IfExists = true
	}
}

// other notes a statement of which no more than its kind is told.
func (p *parser) other(k Kind) {
	p.s.Kind, p.s.Settled = k, k != DML
	p.s.fault = "the tables that its text names are not told from other names"
}

// statement reads a whole statement.
func (p *parser) statement() {
	s := p.s
	first := ""
	if p.tok.kind == tokWord {
		first = strings.ToUpper(p.tok.text)
	}
	verb := p.tok
	p.advance()
	switch first {
	case "CREATE", "ALTER", "DROP":
		s.Settled = true
		p.definition(first)
	case "TRUNCATE":
		s.Kind, s.Settled = TruncateTable, true
		p.skip("TABLE")
		p.target(Target)
		p.wait()
		p.end()
	case "RENAME":
		p.rename()
	case "BEGIN":
		p.other(Begin)
	case "START":
		p.other(Nothing)
		if p.tok.is("TRANSACTION") {
			s.Kind = Begin
		}
	case "COMMIT":
		p.other(Commit)
	case "ROLLBACK":
		p.other(Rollback)
		if p.skip("WORK"); p.tok.is("TO") {
			s.Kind = RollbackTo
		}
	case "SAVEPOINT":
		p.other(Savepoint)
	case "XA":
		s.XID = strings.TrimSpace(s.Text[p.tok.end:])
		switch {
		case p.tok.is("START"), p.tok.is("BEGIN"):
			p.other(XAStart)
		case p.tok.is("END"):
			p.other(XAEnd)
		case p.tok.is("PREPARE"):
			p.other(XAPrepare)
		case p.tok.is("COMMIT"):
			p.other(XACommit)
		case p.tok.is("ROLLBACK"):
			p.other(XARollback)
		}
	case "INSERT", "REPLACE":
		p.other(DML)
		p.skipAny("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
		if r, ok := p.name(); ok {
			s.Tables, s.Settled = []Table{r.Table}, true
		}
	case "UPDATE", "DELETE", "LOAD", "CALL", "WITH", "DO", "SELECT":
		p.other(DML)
	case "GRANT", "REVOKE":
		p.other(Account)
	case "SET":
		p.set(verb)
	case "RELEASE", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM", "INSTALL", "UNINSTALL",
		"CHANGE", "STOP", "KILL", "USE", "LOCK", "UNLOCK", "PURGE", "RESET", "CACHE", "SHOW", "SHUTDOWN",
		"EXPLAIN", "DESCRIBE", "DESC", "HELP":
		p.other(Nothing)
	}
}

// set reads what follows SET. MariaDB runs another statement with some variables
// set by SET STATEMENT a = 1, b = 2 FOR, and logs the values that count for it
// apart.
func (p *parser) set(verb token) {
	switch {
	case p.tok.is("PASSWORD"), p.tok.is("DEFAULT") && p.peek().is("ROLE"):
		p.other(Account)
		return
	case !p.tok.is("STATEMENT"):
		p.other(Nothing)
		return
	}
	depth := 0
	for p.advance(); p.tok.kind != tokEnd; p.advance() {
		switch {
		case p.tok.punct('('):
			depth++
		case p.tok.punct(')'):
			depth--
		case depth == 0 && p.tok.is("FOR"):
			if p.lex.open {
				return // the comment ends where it did not begin
			}
			*p.s = Parse(strings.TrimLeft(p.lex.s[p.tok.end:], " \t\r\n"), p.schema, *p.lex.mode)
			return
		}
	}
}

// rename reads what follows RENAME.
func (p *parser) rename() {
	s := p.s
	if !p.skip("TABLE") && !p.skip("TABLES") {
		if p.tok.is("USER") {
			p.other(Account)
		}
		return
	}
	s.Kind, s.Settled = RenameTable, true
	p.exists()
	for p.target(Target) {
		p.wait()
		if !p.skip("TO") {
			s.Settled = false
			return
		}
		if !p.target(NewName) || !p.skipPunct(',') {
			break
		}
	}
	p.end()
}

// end notes that the statement is not understood if anything follows.
func (p *parser) end() {
	p.skipPunct(';')
	if p.tok.kind != tokEnd {
		p.s.Settled = false
	}
}

// definition reads what follows CREATE, ALTER or DROP.
func (p *parser) definition(verb string) {
	s := p.s
	for p.modifier() {
	}
	what := p.tok
	p.advance()
	p.exists()
	pick := func(create, alter, drop Kind) Kind {
		switch verb {
		case "CREATE":
			return create
		case "ALTER":
			return alter
		default:
			return drop
		}
	}
	switch word := strings.ToUpper(what.text); {
	case what.kind != tokWord:
		s.Settled = false
	case word == "TABLE" || word == "TABLES" && verb == "DROP":
		s.Kind = pick(CreateTable, AlterTable, DropTable)
		if verb == "DROP" {
			p.targets()
			p.skipAny("RESTRICT", "CASCADE")
			p.wait()
			p.end()
			return
		}
		if !p.target(Target) {
			return
		}
		p.mark()
		if verb == "CREATE" {
			p.createTable()
		} else {
			p.alterTable()
		}
	case word == "SEQUENCE":
		s.Kind = Sequence
		if verb == "DROP" {
			p.targets()
			return
		}
		p.target(Target)
	case word == "INDEX" || word == "SPATIAL" && p.tok.is("INDEX"):
		s.Kind = pick(CreateIndex, Unknown, DropIndex)
		p.mark()
		if s.Settled = p.seek("ON") && p.target(Target); s.Settled && verb == "CREATE" {
			p.expression(inTable)
		}
	case word == "DATABASE" || word == "SCHEMA":
		s.Kind = pick(CreateSchema, AlterSchema, DropSchema)
		p.schemaName(verb == "ALTER")
	case word == "VIEW":
		s.Kind = pick(CreateView, AlterView, DropView)
		if verb == "DROP" {
			p.targets()
			p.skipAny("RESTRICT", "CASCADE")
			p.end()
			return
		}
		if !p.target(Target) {
			return
		}
		if p.tok.punct('(') {
			p.group(inTable) // the names of the columns
		}
		if !p.skip("AS") {
			s.Settled = false
			return
		}
		p.expression(inQuery)
	default:
		kind, ok := otherKinds[word]
		if !ok {
			s.Settled = false
			return
		}
		p.other(kind)
	}
}

// otherKinds are the things besides tables that CREATE, ALTER and DROP define, by
// the first word of their names.
var otherKinds = map[string]Kind{
	"TRIGGER": Trigger, "PROCEDURE": Routine, "FUNCTION": Routine, "PACKAGE": Routine, "LIBRARY": Routine, "EVENT": Event,
	"USER": Account, "ROLE": Account, "SERVER": Storage, "TABLESPACE": Storage, "LOGFILE": Storage, "UNDO": Storage,
	"RESOURCE": Storage, "SPATIAL": Storage, "INSTANCE": Storage,
}

// schemaName reads the name of a schema, which ALTER may leave out. ALTER
// DATABASE is followed by options or by UPGRADE DATA DIRECTORY NAME, none of
// which can be taken for a name: MySQL's grammar knows no name in front of '=',
// and the options are CHARACTER, CHARSET, COLLATE, COMMENT, DEFAULT, ENCRYPTION
// and READ.
func (p *parser) schemaName(optional bool) {
	s := p.s
	option := p.tok.kind == tokEnd || p.tok.is("CHARACTER") || p.tok.is("COLLATE") || p.tok.is("DEFAULT") || p.tok.is("READ")
	if p.tok.is("CHARSET") || p.tok.is("ENCRYPTION") || p.tok.is("COMMENT") {
		next := p.peek()
		option = next.punct('=') || next.kind == tokString || p.tok.is("CHARSET") && next.named() && !schemaOption(next)
	}
	switch {
	case optional && option:
		s.Tables = []Table{{Schema: p.schema}}
		s.Refs = append(s.Refs, Ref{Table: Table{Schema: p.schema}, From: p.last, To: p.last, Role: Schema})
		p.mark()
	case p.tok.named():
		name := p.text()
		s.Tables = []Table{{Schema: name}}
		s.Refs = append(s.Refs, Ref{Table: Table{Schema: name}, From: p.tok.at, To: p.tok.end, Role: Schema})
		p.advance()
		p.mark()
	default:
		s.Settled = false
	}
}

// schemaOption reports whether t begins an option of a schema.
func schemaOption(t token) bool {
	return t.is("CHARACTER") || t.is("CHARSET") || t.is("COLLATE") || t.is("COMMENT") || t.is("DEFAULT") ||
		t.is("ENCRYPTION") || t.is("READ")
}

// modifier reads one of the clauses that may stand before what a statement
// defines, and reports whether there was one.
func (p *parser) modifier() bool {
	switch {
	case p.skip("TEMPORARY"):
		p.s.Temporary = true
	case p.skip("OR", "REPLACE"):
		p.s.OrReplace = true
	case p.skip("UNIQUE"), p.skip("FULLTEXT"), p.skip("ONLINE"), p.skip("OFFLINE"), p.skip("VECTOR"),
		p.skip("IGNORE"), p.skip("AGGREGATE"), p.skip("JSON", "RELATIONAL", "DUALITY"), p.skip("JSON", "DUALITY"):
	case p.skip("SQL", "SECURITY"):
		p.skipAny("DEFINER", "INVOKER")
	case p.tok.is("DEFINER"), p.tok.is("ALGORITHM"):
		// DEFINER = `user`@`host`, or CURRENT_USER(), or a word.
		p.advance()
		p.skipPunct('=')
		p.advance()
		if p.skipPunct('(') {
			p.skipPunct(')')
		}
		if p.skipPunct('@') {
			p.advance()
		}
	default:
		return false
	}
	return true
}
