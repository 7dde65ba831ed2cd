package ddl

import (
	"slices"
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
	first   bool
	after   string
}

// A typ is a type as it is written.
type typ struct {
	base          string // in lower case, without synonyms
	length, scale int    // what is in parentheses; -1 if absent
	unsigned      bool
	members       []string
}

// kindOfType groups the types.
type kindOfType uint8

const (
	plainKind   kindOfType = iota // the name is all there is
	intKind                       // its length says nothing
	decimalKind                   // two lengths, always shown
	floatKind                     // two lengths, shown if given
	charKind                      // characters, with a length that is shown
	textKind                      // characters, of which a length picks the type
	binaryKind                    // bytes, with a length that is shown
	blobKind                      // bytes, of which a length picks the type
	timeKind                      // digits after the second, shown if not 0
	memberKind                    // ENUM and SET
	bitKind                       // a length that is shown
)

// typesByName gives the type for each of its names that is one word, in upper
// case.
var typesByName = map[string]struct {
	base string
	kind kindOfType
}{
	"TINYINT": {"tinyint", intKind}, "INT1": {"tinyint", intKind}, "SMALLINT": {"smallint", intKind},
	"INT2": {"smallint", intKind}, "MEDIUMINT": {"mediumint", intKind}, "INT3": {"mediumint", intKind},
	"MIDDLEINT": {"mediumint", intKind}, "INT": {"int", intKind}, "INTEGER": {"int", intKind}, "INT4": {"int", intKind},
	"BIGINT": {"bigint", intKind}, "INT8": {"bigint", intKind}, "SERIAL": {"serial", plainKind},
	"BOOL": {"tinyint", plainKind}, "BOOLEAN": {"tinyint", plainKind},
	"DECIMAL": {"decimal", decimalKind}, "DEC": {"decimal", decimalKind}, "NUMERIC": {"decimal", decimalKind},
	"FIXED": {"decimal", decimalKind}, "FLOAT": {"float", floatKind}, "FLOAT4": {"float", floatKind},
	"FLOAT8": {"double", floatKind}, "DOUBLE": {"double", floatKind}, "REAL": {"real", floatKind},
	"BIT": {"bit", bitKind}, "CHAR": {"char", charKind}, "CHARACTER": {"char", charKind},
	"VARCHAR": {"varchar", charKind}, "VARCHARACTER": {"varchar", charKind}, "NCHAR": {"nchar", charKind},
	"NVARCHAR": {"nvarchar", charKind}, "BINARY": {"binary", binaryKind}, "VARBINARY": {"varbinary", binaryKind},
	"TINYTEXT": {"tinytext", charKind}, "TEXT": {"text", textKind}, "MEDIUMTEXT": {"mediumtext", charKind},
	"LONGTEXT": {"longtext", charKind}, "TINYBLOB": {"tinyblob", plainKind}, "BLOB": {"blob", blobKind},
	"MEDIUMBLOB": {"mediumblob", plainKind}, "LONGBLOB": {"longblob", plainKind},
	"DATE": {"date", plainKind}, "TIME": {"time", timeKind}, "DATETIME": {"datetime", timeKind},
	"TIMESTAMP": {"timestamp", timeKind}, "YEAR": {"year", intKind},
	"ENUM": {"enum", memberKind}, "SET": {"set", memberKind}, "JSON": {"json", plainKind},
	"GEOMETRY": {"geometry", plainKind}, "POINT": {"point", plainKind}, "LINESTRING": {"linestring", plainKind},
	"POLYGON": {"polygon", plainKind}, "MULTIPOINT": {"multipoint", plainKind},
	"MULTILINESTRING": {"multilinestring", plainKind}, "MULTIPOLYGON": {"multipolygon", plainKind},
	"GEOMETRYCOLLECTION": {"geomcollection", plainKind}, "GEOMCOLLECTION": {"geomcollection", plainKind},
	"VECTOR": {"vector", bitKind}, "UUID": {"uuid", plainKind}, "INET6": {"inet6", plainKind}, "INET4": {"inet4", plainKind},
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
		// "Trailing spaces are automatically deleted from ENUM member values"
		// (manual, 13.3.6), and so for SET.
		c.members = append(c.members, strings.TrimRight(text, " "))
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
		c.notNull = true
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
		return true, p.defaultValue()
	case "ON": // also of what a foreign key does
		return true, (p.skip("UPDATE") || p.skip("DELETE")) && p.defaultValue()
	case "GENERATED":
		return true, p.skip("ALWAYS") && p.skip("AS") && p.parenthesized()
	case "AS":
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
		c.notNull = true
		return true, p.skip("DEFAULT", "VALUE")
	case "PRIMARY":
		p.skip("KEY")
		c.primary = true
	case "KEY":
		c.primary = true
	case "UNIQUE":
		p.skip("KEY")
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

// finish turns the definition into a column of a table with the given collation.
// It reports whether that is fully known.
func (c *columnDef) finish(d *dialect, table string) (dfs.Column, bool) {
	col := dfs.Column{Name: c.Name, Nullable: !c.notNull && !c.primary}
	t := typesByName[strings.ToUpper(c.base)]
	kind, base := t.kind, c.base
	switch base {
	case "serial":
		base, c.unsigned, col.Nullable = "bigint", true, false
	case "real":
		if base = "double"; d.realAsFloat {
			base = "float"
		}
	case "geomcollection":
		if d.MariaDB || d.Version != 0 && d.Version < 80000 {
			base = "geometrycollection"
		}
	case "json":
		if d.MariaDB {
			base, kind = "longtext", charKind
			c.charsetName = "utf8mb4"
			if c.collationName == "" {
				c.collationName = "utf8mb4_bin"
			}
		}
	case "timestamp":
		if d.implicitNotNull && !c.null {
			col.Nullable = false
		}
	case "nchar", "nvarchar":
		base = base[1:]
		c.charsetName = "utf8mb3"
	}
	switch kind {
	case plainKind, intKind:
	case floatKind:
		switch {
		case c.scale >= 0:
			base += "(" + strconv.Itoa(c.length) + "," + strconv.Itoa(c.scale) + ")"
		case c.length > 24 && base == "float" && c.base == "float":
			base = "double"
		}
	case decimalKind:
		if c.length <= 0 {
			c.length = 10
		}
		base += "(" + strconv.Itoa(c.length) + "," + strconv.Itoa(max(c.scale, 0)) + ")"
	case bitKind:
		if c.length < 0 {
			if c.length = 1; base == "vector" {
				c.length = 2048
			}
		}
		base += "(" + strconv.Itoa(c.length) + ")"
	case timeKind:
		if c.length > 0 {
			base += "(" + strconv.Itoa(c.length) + ")"
		}
	case memberKind:
		col.Members = c.members
		if c.charsetName == "binary" || c.charsetName == "" && charsetOf(table) == "binary" {
			if !allASCII(c.members) {
				return col, false
			}
		}
	case binaryKind:
		var ok bool
		if base, ok = bytesType(base, c.length); !ok {
			return col, false
		}
	case blobKind:
		if c.length > 0 {
			base = sized(c.length, "blob")
		}
	case charKind, textKind:
		if !c.collate(d, &col, table) {
			return col, false
		}
		var ok bool
		if base, ok = stringType(base, c.length, col.Charset); !ok {
			return col, false
		}
		if col.Charset == "binary" {
			col.Charset, col.Collation = "", ""
		}
	}
	if c.unsigned && (kind == intKind || kind == decimalKind || kind == floatKind || c.base == "serial") && base != "year" {
		base += " unsigned"
	}
	col.Type = base
	return col, true
}

// text reports whether the column may be one of text.
func (c columnDef) text() bool {
	switch typesByName[strings.ToUpper(c.base)].kind {
	case charKind, textKind, memberKind:
		return true
	}
	return c.base == "json"
}

func allASCII(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !ascii(s) })
}

// collate sets the character set and collation of a text column.
func (c *columnDef) collate(d *dialect, col *dfs.Column, table string) bool {
	charset := d.charset(c.charsetName)
	if charset == "default" || strings.EqualFold(c.collationName, "default") {
		return false
	}
	switch {
	case c.collationName != "":
		within := charset
		if within == "" {
			within = charsetOf(table)
		}
		col.Collation = d.collation(c.collationName, within)
		col.Charset = charsetOf(col.Collation)
	case charset != "":
		col.Charset, col.Collation = charset, d.defaultCollation(charset)
	default:
		col.Charset, col.Collation = charsetOf(table), table
	}
	if c.binary && col.Charset != "binary" {
		col.Collation = col.Charset + "_bin"
	}
	return col.Charset != "" && col.Collation != ""
}

// stringType returns the type of a text column: that of bytes if its character
// set is binary, and a TEXT if it is too long.
func stringType(base string, length int, charset string) (string, bool) {
	if charset == "binary" {
		switch base {
		case "char":
			return bytesType("binary", length)
		case "varchar":
			return bytesType("varbinary", length)
		case "text":
			if length > 0 {
				return sized(length, "blob"), true
			}
		}
		return strings.TrimSuffix(base, "text") + "blob", true
	}
	switch base {
	case "char":
		if length < 0 {
			length = 1
		}
		return "char(" + strconv.Itoa(length) + ")", length <= 255
	case "varchar":
		if length < 0 {
			return "", false
		}
		// Too long for a VARCHAR, it becomes a TEXT if the sql_mode is not strict,
		// and that depends on more than the length.
		return "varchar(" + strconv.Itoa(length) + ")", length*maxLen(charset) <= 65535
	case "text":
		if length > 0 {
			return sized(length*maxLen(charset), "text"), true
		}
	}
	return base, true
}

// bytesType returns BINARY or VARBINARY of a length.
func bytesType(base string, length int) (string, bool) {
	switch {
	case base == "binary" && length < 0:
		length = 1
	case length < 0 || base == "binary" && length > 255 || length > 65535:
		return "", false
	}
	return base + "(" + strconv.Itoa(length) + ")", true
}

// sized returns the smallest BLOB or TEXT that takes as many bytes.
func sized(n int, suffix string) string {
	switch {
	case n < 1<<8:
		return "tiny" + suffix
	case n < 1<<16:
		return suffix
	case n < 1<<24:
		return "medium" + suffix
	}
	return "long" + suffix
}
