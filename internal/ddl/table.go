package ddl

import "strings"

// createTable reads what follows the name in a CREATE TABLE.
func (p *parser) createTable() {
	s := p.s
	if p.tok.is("LIKE") || p.tok.punct('(') && p.peek().is("LIKE") {
		s.like = true
		p.skipPunct('(')
		p.advance()
		if _, ok := p.ref(Source); !ok {
			s.Settled = false
		}
		p.skipPunct(')')
		p.end()
		return
	}
	p.expression(inTable)
	p.cutTransaction()
}

// cutTransaction cuts off the START TRANSACTION with which MySQL 8.0.21 and later
// ends the text of a CREATE TABLE ... SELECT. The rows follow in the same
// transaction of the log.
func (p *parser) cutTransaction() {
	s := p.s
	n := len(strings.TrimRight(s.Text, " \t\r\n;"))
	const last = "TRANSACTION"
	if n < len(last) || !strings.EqualFold(s.Text[n-len(last):n], last) {
		return
	}
	l := lexer{s: s.Text, mode: p.lex.mode}
	var before, t token
	for {
		next := l.next()
		if next.kind == tokEnd || next.punct(';') {
			break
		}
		before, t = t, next
	}
	if before.is("START") && t.is(last) && before.at >= s.body {
		s.Text = strings.TrimRight(s.Text[:before.at], " \t\r\n")
	}
}

// alterTable reads what follows the name in an ALTER TABLE. Other tables are
// named by what begins with RENAME, EXCHANGE and CONVERT, at the head of a clause,
// and by REFERENCES within one.
func (p *parser) alterTable() {
	s := p.s
	for p.wait(); p.tok.kind != tokEnd; {
		switch {
		case p.skip("RENAME"):
			if p.tok.is("COLUMN") || p.tok.is("INDEX") || p.tok.is("KEY") {
				break
			}
			_ = p.skip("TO") || p.skip("AS") || p.skipPunct('=')
			p.target(NewName)
		case p.skip("EXCHANGE", "PARTITION"):
			if !p.seek("WITH") || !p.skip("TABLE") {
				s.Settled = false
				return
			}
			p.target(Target)
		case p.skip("CONVERT", "PARTITION"):
			p.advance()
			if !p.skip("TO", "TABLE") {
				s.Settled = false
				return
			}
			p.target(Target)
		case p.skip("CONVERT", "TABLE"):
			p.target(Target)
		}
		p.clause(inTable)
		p.advance()
	}
}

// selects reports whether a CREATE TABLE has a query. The words that begin one are
// reserved, and no other clause has them: neither defaults nor generated columns
// nor partitions can hold a subquery.
func (s *Statement) selects() bool {
	mode := s.mode
	l := lexer{s: s.Text, mode: &mode}
	var last token
	named := false // the TABLE of CREATE TABLE is behind
	for t := l.next(); t.kind != tokEnd; last, t = t, l.next() {
		switch {
		case last.punct('.'):
		case t.is("TABLE") && !named:
			named = true
		case t.is("SELECT"), t.is("TABLE"):
			return true
		case t.is("VALUES"):
			ahead := l
			if next := ahead.next(); !next.is("LESS") && !next.is("IN") {
				return true
			}
		}
	}
	return false
}
