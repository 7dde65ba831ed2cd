package ddl

// Changed returns the tables that an INSERT, UPDATE or DELETE names as those whose
// rows it changes, or reads beside them. A server lets neither a trigger nor a
// function of the statement change these (error 1442). Schema is empty where the
// text has none. There are none if the statement is another one, or is not
// understood. The names alias text.
func Changed(text string, m Mode) []Table {
	s := Statement{Text: text, mode: m}
	p := parser{lex: lexer{s: text, mode: &m}, s: &s}
	p.advance()
	switch {
	case p.skip("INSERT"):
		p.skipAny("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
		p.ref(Target)
	case p.skip("UPDATE"):
		p.skipAny("LOW_PRIORITY", "IGNORE")
		if p.from(); !p.tok.is("SET") && !p.tok.is("FOR") {
			return nil
		}
	case p.skip("DELETE"):
		if p.aliases() || !p.seek("FROM") {
			return nil
		}
		p.from()
	}
	if s.obscure || p.lex.torn {
		return nil
	}
	var list []Table
	for _, r := range s.Refs {
		if r.Role == Source || r.Role == Target {
			list = append(list, r.Table)
		}
	}
	return list
}

// aliases reports whether what follows may be DELETE FROM a USING b AS a, in which
// what follows FROM can be an alias.
func (p *parser) aliases() bool {
	l := p.lex
	for t := p.tok; t.kind != tokEnd; {
		next := l.next()
		if t.is("USING") && !next.punct('(') {
			return true
		}
		t = next
	}
	return false
}
