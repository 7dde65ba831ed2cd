package ddl

import (
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A columnDef is the definition of a column, before what its table adds to it is
// known.
type columnDef struct {
	dfs.Column
	typ

	charsetName, collationName string // as the definition has them
	binary                     bool   // attribute BINARY: the collation that compares codes

	null    bool // NULL
	notNull bool // NOT NULL, or what means it
	primary bool // PRIMARY KEY
	unique  bool // UNIQUE
	numbers bool // AUTO_INCREMENT, or what means it

	value     string // the text behind DEFAULT
	generated bool
	acts      string // what REFERENCES does to rows: ON DELETE CASCADE
	first     bool
	after     string
}

// A definer reads definitions of columns. It stops at what it does not know.
type definer struct {
	parser
	d *dialect
}

// column reads a name and its definition, up to the comma or parenthesis behind
// it, and reports whether all of it is understood.
func (p *definer) column() (c columnDef, ok bool) {
	name, ok := p.columnName()
	if !ok {
		return c, false
	}
	c.Name = name
	if !p.columnType(&c) {
		return c, false
	}
	for {
		more, ok := p.attribute(&c)
		if !ok || !more {
			return c, ok
		}
	}
}

// columnName reads the name of a column, in front of which may be that of its
// table.
func (p *definer) columnName() (string, bool) {
	r, ok := p.name()
	if !ok {
		return "", false
	}
	name := r.Table.Name
	if p.skipPunct('.') {
		if !p.tok.named() {
			return "", false
		}
		name = p.text()
		p.advance()
	}
	return name, !p.s.obscure
}

// columnType reads a type, up to its attributes.
func (p *definer) columnType(c *columnDef) bool {
	if p.tok.kind != tokWord {
		return false
	}
	c.length, c.scale = -1, -1
	word := strings.ToUpper(p.tok.text)
	p.advance()
	switch word {
	case "NATIONAL":
		// NATIONAL CHAR, CHARACTER, VARCHAR, CHAR VARYING, VARCHARACTER
		switch {
		case p.skip("CHAR"), p.skip("CHARACTER"):
			word = "NCHAR"
		case p.skip("VARCHAR"), p.skip("VARCHARACTER"):
			word = "NVARCHAR"
		default:
			return false
		}
	case "LONG":
		word = "MEDIUMTEXT"
		switch {
		case p.skip("VARBINARY"):
			word = "MEDIUMBLOB"
		case p.skip("VARCHAR"), p.skip("VARCHARACTER"), p.skip("CHAR", "VARYING"), p.skip("CHARACTER", "VARYING"):
		}
	}
	t, ok := typesByName[word]
	if !ok || p.d.foreign {
		return false
	}
	c.base = t.base
	switch {
	case c.base == "double":
		p.skip("PRECISION")
	case c.base == "nchar" && (p.skip("VARYING") || p.skip("VARCHAR")):
		c.base = "nvarchar"
	case c.base == "char" && p.skip("VARYING"):
		c.base = "varchar"
	}
	switch {
	case t.kind == memberKind:
		return p.memberList(c)
	case p.tok.punct('('):
		return t.kind != plainKind && p.lengths(c)
	}
	return true
}

// lengths reads what is in parentheses behind a type: (10) or (10,2).
func (p *definer) lengths(c *columnDef) bool {
	for _, n := range [2]*int{&c.length, &c.scale} {
		p.advance()
		v, err := strconv.Atoi(p.tok.text)
		if p.tok.kind != tokNumber || err != nil {
			return false
		}
		*n = v
		if p.advance(); p.skipPunct(')') {
			return true
		}
		if !p.tok.punct(',') {
			return false
		}
	}
	return false
}

// memberList reads the names of an ENUM or SET.
func (p *definer) memberList(c *columnDef) bool {
	if !p.tok.punct('(') {
		return false
	}
	for {
		p.advance()
		text, ok := p.literal()
		if !ok {
			return false
		}
		c.members = append(c.members, text)
		if p.skipPunct(')') {
			return true
		}
		if !p.tok.punct(',') {
			return false
		}
	}
}

// literal reads a string without introducer, and returns what it stands for, in
// UTF-8.
func (p *definer) literal() (string, bool) {
	if p.tok.kind != tokString {
		return "", false
	}
	var b strings.Builder
	unquote(&b, p.tok.text, !p.lex.mode.NoBackslashEscapes)
	p.advance()
	return p.decode(b.String())
}

// decode returns text of the statement in UTF-8.
func (p *definer) decode(s string) (string, bool) { return p.lex.mode.decode(s) }

// unquote writes what a string in quotes stands for.
func unquote(b *strings.Builder, s string, backslash bool) {
	q := s[0]
	s = strings.TrimSuffix(s[1:], string(q))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == q {
			i++ // it is doubled
		}
		if c != '\\' || !backslash || i+1 >= len(s) {
			b.WriteByte(c)
			continue
		}
		i++
		switch c = s[i]; c {
		case '0':
			c = 0
		case 'b':
			c = '\b'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'Z':
			c = 26
		case '%', '_':
			b.WriteByte('\\') // these are for LIKE to read
		}
		b.WriteByte(c)
	}
}

// attribute reads one attribute of a column. There are no more at a comma, a
// parenthesis or the end, or at what can only follow the last column of an ALTER.
func (p *definer) attribute(c *columnDef) (more, ok bool) {
	if p.tok.kind != tokWord {
		return false, p.tok.kind == tokEnd || p.tok.punct(',') || p.tok.punct(')')
	}
	word := strings.ToUpper(p.tok.text)
	p.advance()
	switch word {
	case "NULL":
		c.null, c.notNull = true, false
	case "NOT":
		if p.skip("SECONDARY") {
			break
		}
		c.notNull, c.null = true, false
		return true, p.skip("NULL")
	case "UNSIGNED", "ZEROFILL":
		c.unsigned = true
	case "SIGNED", "INVISIBLE", "VISIBLE", "VIRTUAL", "STORED", "PERSISTENT", "COMPRESSED":
		if word == "COMPRESSED" && p.skipPunct('=') {
			p.advance()
		}
	case "AUTO_INCREMENT":
		c.notNull, c.numbers = true, true
	case "BINARY":
		c.binary = true
	case "BYTE":
		c.charsetName = "binary"
	case "ASCII":
		c.charsetName = "latin1"
	case "UNICODE":
		c.charsetName = "ucs2"
	case "CHARACTER", "CHARSET", "CHAR":
		if word != "CHARSET" && !p.skip("SET") || p.tok.kind == tokEnd {
			return false, false
		}
		c.charsetName = p.word()
	case "COLLATE":
		if c.collationName != "" {
			return false, false
		}
		c.collationName = p.word()
	case "DEFAULT":
		from := p.tok.at
		ok = p.defaultValue()
		c.value = p.lex.s[from:max(from, p.last)]
		return true, ok
	case "ON": // also of what a foreign key does
		from := p.last
		if !p.skip("UPDATE") && !p.skip("DELETE") {
			return true, false
		}
		if p.tok.is("CASCADE") || p.tok.is("SET") {
			c.acts = strings.TrimSpace("ON" + p.lex.s[from:p.tok.end])
		}
		return true, p.defaultValue()
	case "GENERATED":
		c.generated = true
		return true, p.skip("ALWAYS") && p.skip("AS") && p.parenthesized()
	case "AS":
		c.generated = true
		return true, p.parenthesized()
	case "COMMENT", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE":
		p.skipPunct('=')
		ok = p.tok.kind == tokString
		p.advance()
		return true, ok
	case "COLUMN_FORMAT", "STORAGE", "SRID":
		p.advance()
	case "REF_SYSTEM_ID":
		p.skipPunct('=')
		p.advance()
	case "SERIAL":
		c.notNull, c.numbers, c.unique = true, true, true
		return true, p.skip("DEFAULT", "VALUE")
	case "PRIMARY":
		p.skip("KEY")
		c.primary = true
	case "KEY":
		c.primary = true
	case "UNIQUE":
		p.skip("KEY")
		c.unique = true
	case "CONSTRAINT":
		if !p.tok.is("CHECK") && !p.tok.is("REFERENCES") && !p.tok.is("PRIMARY") && !p.tok.is("UNIQUE") {
			p.advance()
		}
	case "CHECK":
		if !p.parenthesized() {
			return false, false
		}
		p.skip("NOT")
		p.skip("ENFORCED")
	case "REFERENCES":
		if _, ok := p.name(); !ok {
			return false, false
		}
		if p.tok.punct('(') {
			p.group(inTable)
		}
	case "MATCH":
		p.advance()
	case "FIRST":
		c.first = true
	case "AFTER":
		c.after, ok = p.columnName()
		return true, ok
	case "PARTITION", "REMOVE":
		p.toEnd()
		return false, true
	default:
		return false, false
	}
	return true, true
}

// word reads a word or name and returns it.
func (p *definer) word() string {
	w := p.tok.text
	if p.tok.kind == tokString {
		var b strings.Builder
		unquote(&b, w, true)
		w = b.String()
	}
	p.advance()
	return w
}

// toEnd moves to the end of the statement.
func (p *definer) toEnd() {
	for p.tok.kind != tokEnd {
		p.advance()
	}
}

// parenthesized moves past an expression in parentheses.
func (p *definer) parenthesized() bool {
	if !p.tok.punct('(') {
		return false
	}
	p.group(inTable)
	return true
}

// defaultValue moves past the value of a DEFAULT or ON UPDATE, of which the words
// of a foreign key's ON DELETE and ON UPDATE are too.
func (p *definer) defaultValue() bool {
	if p.tok.punct('-') || p.tok.punct('+') {
		p.advance()
	}
	switch {
	case p.tok.punct('('):
		p.group(inTable)
	case p.tok.kind == tokNumber, p.tok.kind == tokString:
		p.strings()
	case p.skip("SET"):
		return p.skip("NULL") || p.skip("DEFAULT")
	case p.skip("CASCADE"), p.skip("RESTRICT"):
	case p.skip("NO"):
		return p.skip("ACTION")
	case p.skip("NEXT", "VALUE", "FOR"):
		_, ok := p.name()
		return ok
	case p.tok.kind == tokWord:
		// NULL, a function with or without arguments, or what stands in front of
		// a string: x'00', b'1', _latin1'a', DATE '2020-01-01'.
		p.advance()
		for p.skipPunct('.') {
			p.advance()
		}
		p.strings()
		if p.tok.punct('(') {
			p.group(inTable)
		}
	default:
		return false
	}
	return true
}

// strings moves past a number or string, and the strings behind it.
func (p *definer) strings() {
	if p.tok.kind == tokNumber {
		p.advance()
		return
	}
	for p.tok.kind == tokString {
		p.advance()
	}
}
