package ddl

import (
	"slices"
	"strings"
)

// A setting is what surrounds an expression.
type setting uint8

const (
	inTable setting = iota // the definition of a table or index
	inQuery                // a SELECT, with all that belongs to it
)

// expression reads to the end of the statement.
func (p *parser) expression(in setting) {
	for p.tok.kind != tokEnd {
		p.clause(in)
		p.advance()
	}
}

// group reads from a parenthesis to the one that closes it.
func (p *parser) group(in setting) {
	// Nobody nests as deep as this, and a server's stack would not hold it.
	if p.depth++; p.depth > 1000 {
		p.s.Settled = false
		p.tok = token{kind: tokEnd, at: len(p.lex.s), end: len(p.lex.s)}
	}
	scope := len(p.ctes)
	for p.advance(); p.tok.kind != tokEnd && !p.tok.punct(')'); {
		p.clause(in)
		p.skipPunct(',')
	}
	p.skipPunct(')')
	p.ctes = p.ctes[:scope]
	p.depth--
}

// clause reads up to a comma, to the parenthesis that closes the group, or to
// the end.
func (p *parser) clause(in setting) {
	for p.tok.kind != tokEnd && !p.tok.punct(',') && !p.tok.punct(')') {
		p.element(in)
	}
}

// element reads one token, with all that belongs to it.
func (p *parser) element(in setting) {
	switch p.tok.kind {
	case tokPunct:
		switch {
		case p.tok.punct('('):
			p.group(in)
		case p.tok.punct('@'):
			p.variable()
		default:
			p.advance()
		}
	case tokWord:
		if !p.keyword(in) {
			p.chain(in)
		}
	case tokName:
		p.chain(in)
	default:
		p.advance()
	}
}

// variable moves past @name, @@name and @@scope.name.
func (p *parser) variable() {
	for p.skipPunct('@') {
	}
	for p.tok.kind == tokWord || p.tok.kind == tokName || p.tok.kind == tokString {
		if !p.advance().punct('.') {
			break
		}
		p.advance()
	}
}

// keyword reads what begins with a keyword that a table's name follows, and
// reports whether there was one. All of these are reserved words, but for those
// of sequences, which are told by what follows.
func (p *parser) keyword(in setting) bool {
	w := p.tok.text
	switch w[0] | 0x20 {
	case 's':
		if p.tok.is("SELECT") {
			p.advance()
			p.selection()
			return true
		}
		if p.tok.is("SETVAL") {
			return p.sequence()
		}
	case 'w':
		if p.tok.is("WITH") && (in == inQuery || p.beforeTables()) {
			p.with()
			return true
		}
	case 't':
		// The statement TABLE, as in AS TABLE t.
		if p.tok.is("TABLE") && in == inQuery {
			p.advance()
			n := len(p.s.Refs)
			if p.factor(); len(p.s.Refs) > n {
				p.s.Refs[n].aliasAt = 0 // it takes none, and has no columns to qualify
			}
			return true
		}
	case 'r':
		if p.tok.is("REFERENCES") {
			p.advance()
			if _, ok := p.ref(Parent); !ok {
				p.s.Settled = false
			}
			return true
		}
	case 'u':
		if p.tok.is("UNION") && in == inTable {
			p.union()
			return true
		}
	case 'n':
		if p.tok.is("NEXTVAL") {
			return p.sequence()
		}
		if p.tok.is("NEXT") {
			return p.valueFor()
		}
	case 'l':
		if p.tok.is("LASTVAL") {
			return p.sequence()
		}
	case 'p':
		if p.tok.is("PREVIOUS") {
			return p.valueFor()
		}
	}
	return false
}

// sequence reads MariaDB's nextval(name), lastval(name) and setval(name, ...).
func (p *parser) sequence() bool {
	if !p.lex.mode.MariaDB || !p.peek().punct('(') {
		return false
	}
	p.advance()
	p.advance()
	p.ref(Source)
	p.clause(inTable)
	return true
}

// valueFor reads MariaDB's NEXT VALUE FOR name and PREVIOUS VALUE FOR name.
func (p *parser) valueFor() bool {
	if !p.lex.mode.MariaDB || !p.peek().is("VALUE") {
		return false
	}
	p.advance()
	p.advance()
	if p.skip("FOR") {
		p.ref(Source)
	}
	return true
}

// union reads the table option UNION = (a, b) of MERGE tables. A UNION of SELECTs
// has a SELECT before it, which reads it.
func (p *parser) union() {
	p.advance()
	p.skipPunct('=')
	if !p.skipPunct('(') {
		return
	}
	for !p.tok.punct(')') {
		if _, ok := p.ref(Source); !ok {
			return
		}
		p.skipPunct(',')
	}
	p.advance()
}

// chain reads a name in an expression, with dots: column, table.column,
// schema.table.column, schema.function(.
func (p *parser) chain(in setting) {
	first := p.tok
	if !p.advance().punct('.') || slices.ContainsFunc(notAliases[:], first.is) {
		return
	}
	second := p.advance()
	if !second.named() && !second.punct('*') {
		return
	}
	column := second
	third := p.advance()
	switch {
	case third.punct('.'):
		column = p.advance()
		if !column.named() && !column.punct('*') {
			return
		}
		p.advance()
		if in == inQuery {
			p.s.Refs = append(p.s.Refs, Ref{Table: Table{p.textOf(first), p.textOf(second)}, From: first.at, To: second.end, Role: Qualifier})
		}
	case third.punct('(') && second.end == third.at:
		p.s.Refs = append(p.s.Refs, Ref{Table: Table{p.textOf(first), p.textOf(second)}, From: first.at, To: second.end, Role: Function})
		return
	}
	if in == inTable {
		p.s.drops = append(p.s.drops, qualified{span{first.at, column.at}, column})
	}
}

// with reads the head of WITH a AS (SELECT ...), b AS (SELECT ...), whose names
// hide tables until the end of the group that it is in.
func (p *parser) with() {
	p.advance()
	if p.tok.is("CASCADED") || p.tok.is("LOCAL") || p.tok.is("CHECK") || p.tok.is("ROLLUP") {
		p.advance()
		return
	}
	recursive := p.skip("RECURSIVE")
	if recursive {
		// Each may refer to all, in MariaDB also to later ones.
		ahead, refs, drops := *p, len(p.s.Refs), len(p.s.drops)
		ahead.commonTables()
		p.s.Refs, p.s.drops = p.s.Refs[:refs], p.s.drops[:drops]
		p.ctes = slices.Clone(ahead.ctes)
	}
	p.commonTables()
}

// beforeTables reports whether WITH begins common table expressions and not an
// option such as WITH SYSTEM VERSIONING.
func (p *parser) beforeTables() bool {
	l := p.lex
	first := l.next()
	second := l.next()
	return first.is("RECURSIVE") || first.named() && (second.is("AS") || second.punct('('))
}

// commonTables reads a AS (SELECT ...), b AS (SELECT ...).
func (p *parser) commonTables() {
	for p.tok.named() {
		name := p.tok.text
		if p.advance(); p.tok.punct('(') {
			p.group(inTable)
		}
		if !p.skip("AS") || !p.tok.punct('(') {
			return
		}
		p.group(inQuery)
		// MariaDB's CYCLE a, b RESTRICT
		if p.skip("CYCLE") {
			for p.tok.named() && !p.skip("RESTRICT") {
				p.advance()
				p.skipPunct(',')
			}
		}
		p.ctes = append(p.ctes, name)
		if !p.skipPunct(',') {
			return
		}
	}
}

// selection reads what follows SELECT, to the end of the group.
func (p *parser) selection() {
	for p.tok.kind != tokEnd && !p.tok.punct(')') {
		switch {
		case p.tok.is("SELECT"):
			p.advance()
		case p.tok.is("FROM"):
			p.advance()
			// NTH_VALUE(a, 2) FROM FIRST OVER w
			if next := p.peek(); (p.tok.is("FIRST") || p.tok.is("LAST")) && (next.is("OVER") || next.is("RESPECT") || next.is("IGNORE")) {
				continue
			}
			p.from()
		default:
			p.element(inQuery)
		}
	}
}

// from reads the tables of a FROM clause, until the next clause.
func (p *parser) from() {
	table := true // a table comes next
	for p.tok.kind != tokEnd && !p.tok.punct(')') {
		switch {
		case p.tok.punct(','), p.tok.is("JOIN"), p.tok.is("STRAIGHT_JOIN"):
			table = true
			p.advance()
		case table && p.tok.punct('('):
			p.tables()
			table = false
		case table && p.tok.punct('{'):
			p.advance() // { OJ a LEFT JOIN b ON ... }
			p.skip("OJ")
		case table && p.tok.is("LATERAL"):
			p.advance()
		case table:
			p.factor()
			table = false
		case p.tok.is("FOR") && !p.peek().is("SYSTEM_TIME"), slices.ContainsFunc(clauses[:], p.tok.is):
			return
		default:
			p.element(inQuery)
		}
	}
}

// clauses are the words that end a FROM clause.
var clauses = [...]string{"WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "MINUS",
	"WINDOW", "QUALIFY", "PROCEDURE", "INTO", "LOCK", "WITH", "FETCH", "SELECT", "TABLE", "SET"}

// tables reads a group in a FROM clause: a query or more tables.
func (p *parser) tables() {
	next := p.peek()
	if next.is("SELECT") || next.is("WITH") || next.is("TABLE") || next.is("VALUES") {
		p.group(inQuery)
		return
	}
	if p.depth++; p.depth > 1000 {
		p.s.Settled = false
		p.tok = token{kind: tokEnd, at: len(p.lex.s), end: len(p.lex.s)}
		return
	}
	p.advance()
	p.from()
	// A query in two pairs of parentheses may go on with UNION or ORDER BY.
	p.selection()
	p.skipPunct(')')
	p.depth--
}

// factor reads the name of a table in a FROM clause, with its alias.
func (p *parser) factor() {
	before := len(p.s.Refs)
	r, ok := p.ref(Source)
	switch {
	case !ok:
		p.advance()
		return
	case p.tok.punct('('), r.To-r.From == len("dual") && strings.EqualFold(r.Table.Name, "dual"),
		!r.qualified && slices.ContainsFunc(p.ctes, func(cte string) bool { return strings.EqualFold(cte, r.Table.Name) }):
		// JSON_TABLE(...), no table, or a common table expression.
		p.s.Refs = p.s.Refs[:before]
		return
	}
	if p.tok.is("PARTITION") && p.peek().punct('(') {
		p.advance()
		p.group(inTable)
	}
	made := &p.s.Refs[before]
	made.alias = r.Table.Name
	if p.tok.is("FOR") && p.peek().is("SYSTEM_TIME") {
		made.vague = true
		return
	}
	switch {
	case p.skip("AS"), p.tok.kind == tokName, p.tok.kind == tokWord && !slices.ContainsFunc(notAliases[:], p.tok.is):
		made.alias = p.text()
		p.advance()
	default:
		made.aliasAt = p.last
	}
	for p.skip("USE") || p.skip("FORCE") || p.skip("IGNORE") {
		// USE INDEX FOR ORDER BY (a), with commas between such in MySQL.
		for p.tok.kind == tokWord {
			p.advance()
		}
		if p.tok.punct('(') {
			p.group(inTable)
		}
	}
}

// notAliases are the words besides clauses that may follow a table without being
// its alias; all are reserved.
var notAliases = [...]string{"JOIN", "INNER", "CROSS", "LEFT", "RIGHT", "NATURAL", "STRAIGHT_JOIN", "ON", "USING",
	"USE", "FORCE", "IGNORE", "FOR", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT",
	"WINDOW", "PROCEDURE", "INTO", "LOCK", "WITH", "FETCH", "TABLESAMPLE", "SET"}
