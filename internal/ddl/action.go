package ddl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
)

// An ActionKind is one thing that a statement does to a table.
type ActionKind uint8

const (
	AddColumn    ActionKind = iota + 1 // Def
	DropColumn                         // Name
	RenameColumn                       // Name is To from now on
	ChangeColumn                       // Name is defined as Def from now on
	SetDefault                         // the default of Name is that of Def from now on, or none
	ConvertText                        // all text takes another character set
	AddKey                             // Key
	DropKey                            // Name; the primary key if Key.Kind is PrimaryKey
	RenameKey                          // Name is To from now on
	MoveTable                          // it is called Table from now on
	LikeTable                          // it is made as Table is
)

// An Action is one thing that a statement does to a table. Where columns stand in it
// is not told.
type Action struct {
	Do       ActionKind
	Name, To string
	Def      ColumnDef
	Key      KeyDef
	Table    Table

	// Lenient says that there need be nothing to do: IF EXISTS, IF NOT EXISTS, or the name
	// may be that of something else than a key.
	Lenient bool
}

// A ColumnDef is a column as a statement defines it. Its character set may be another
// than the server's where the statement names none, but is never that of bytes then.
type ColumnDef struct {
	dfs.Column

	// Default is what a default that is a literal stands for, if Literal is set. Computed is
	// the text of another, such as CURRENT_TIMESTAMP.
	Default  string
	Literal  bool
	Computed string

	Generated bool // from other columns
	Numbers   bool // AUTO_INCREMENT
}

// A KeyKind is a kind of index or constraint.
type KeyKind uint8

const (
	PlainKey KeyKind = iota
	UniqueKey
	PrimaryKey
	ReferKey  // FOREIGN KEY
	SearchKey // FULLTEXT, SPATIAL, VECTOR
	CheckKey  // CHECK: no index
)

// A KeyDef is an index or constraint as a statement defines it.
type KeyDef struct {
	Kind    KeyKind
	Name    string // empty if the server chooses one
	Columns []string
	Partial bool   // it has the beginnings of columns, or expressions
	Acts    string // what a foreign key does to rows: ON DELETE CASCADE
	Text    string // as the statement has it
}

// errNoAction says that a statement cannot be taken apart.
var errNoAction = errors.New("it is not understood")

// anyText is the collation of text whose character set a statement does not name. Its
// characters have one byte, so that no length is too long.
const anyText = "latin1_swedish_ci"

// Actions takes a statement apart that creates or alters one table, or an index: what it
// does, in an order in which it can be done step by step. The error says which part
// is not understood exactly, or has to do with rows and not with what the table is.
// MariaDB says that the statement is one of MariaDB's.
func (s *Statement) Actions(session *dfs.Session, mariaDB bool) ([]Action, error) {
	if !s.Settled {
		return nil, errNoAction
	}
	n := *s
	n.mode.MariaDB = n.mode.MariaDB || mariaDB
	d := newDialect(&n, session)
	var list []Action
	var err error
	switch s.Kind {
	case CreateTable:
		switch {
		case s.Selects:
			err = errors.New("its columns are those of a query")
		case s.like && len(s.Refs) == 2:
			list = []Action{{Do: LikeTable, Table: s.Refs[1].Table}}
		default:
			list, err = n.definer(d, "").creation()
		}
	case AlterTable:
		list, err = n.definer(d, s.Tables[0].Schema).actions()
	case CreateIndex:
		list, err = n.createIndex(d)
	case DropIndex:
		p := n.definer(d, "")
		if !p.tok.named() {
			return nil, errNoAction
		}
		list = []Action{dropKey(p.text(), s.IfExists)}
	default:
		err = errNoAction
	}
	if err != nil {
		return nil, err
	}
	return ordered(list)
}

func dropKey(name string, lenient bool) Action {
	a := Action{Do: DropKey, Name: name, Lenient: lenient}
	if strings.EqualFold(name, "PRIMARY") {
		a.Key.Kind = PrimaryKey
	}
	return a
}

// ordered puts actions into an order in which one can be done after the other: all
// clauses of a statement mean the table as it is before it.
func ordered(list []Action) ([]Action, error) {
	phase := func(a *Action) int {
		switch a.Do {
		case DropKey:
			return 0
		case DropColumn:
			return 1
		case RenameColumn, RenameKey:
			return 2
		case MoveTable:
			return 4
		}
		return 3
	}
	old := make(map[string]bool)
	for _, a := range list {
		if a.Do == RenameColumn {
			old[strings.ToLower(a.Name)] = true
		}
	}
	var out []Action
	for want := range 5 {
		for i := range list {
			a := &list[i]
			if a.Do == RenameColumn && old[strings.ToLower(a.To)] && !strings.EqualFold(a.Name, a.To) {
				return nil, fmt.Errorf("the column %s gets the name of another that gets a new one", a.Name)
			}
			if phase(a) == want {
				out = append(out, *a)
			}
		}
	}
	return out, nil
}

// creation reads the parentheses of a CREATE TABLE, and what follows.
func (p *definer) creation() (list []Action, err error) {
	if !p.skipPunct('(') {
		return nil, errNoAction
	}
	for {
		from := p.tok.at
		more, err := p.item(from)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
		if p.skipPunct(')') {
			break
		}
		if !p.skipPunct(',') {
			return nil, p.strange(from)
		}
	}
	from := p.tok.at
	if o := p.options(false); o.strange {
		return nil, p.strange(from)
	}
	return list, nil
}

// strange is the error for what begins at a place of the text.
func (p *definer) strange(from int) error {
	return fmt.Errorf("%q is not understood", Short(strings.TrimSpace(p.lex.s[min(from, len(p.lex.s)):])))
}

// item reads a column or a key, as CREATE TABLE and ADD have them.
func (p *definer) item(from int) ([]Action, error) {
	k, ok := p.keyDef()
	switch {
	case !ok:
		return nil, p.strange(from)
	case k != nil:
		return []Action{{Do: AddKey, Key: *k}}, nil
	}
	def, ok := p.column()
	if !ok {
		return nil, p.strange(from)
	}
	c, err := p.finished(&def)
	if err != nil {
		return nil, err
	}
	return append([]Action{{Do: AddColumn, Def: c}}, keysOf(&def)...), nil
}

// keysOf returns the keys that the definition of a column makes.
func keysOf(def *columnDef) (list []Action) {
	one := []string{def.Name}
	if def.primary {
		list = append(list, Action{Do: AddKey, Key: KeyDef{Kind: PrimaryKey, Columns: one}})
	}
	if def.unique || def.base == "serial" {
		list = append(list, Action{Do: AddKey, Key: KeyDef{Kind: UniqueKey, Columns: one}})
	}
	if def.acts != "" {
		list = append(list, Action{Do: AddKey, Key: KeyDef{Kind: ReferKey, Columns: one, Acts: def.acts, Text: "REFERENCES"}})
	}
	return list
}

// finished returns a definition with its type and its default.
func (p *definer) finished(def *columnDef) (c ColumnDef, err error) {
	col, ok := def.finish(p.d, anyText)
	if !ok {
		return c, fmt.Errorf("the type of its column %s is not understood", def.Name)
	}
	c = ColumnDef{Column: col, Generated: def.generated, Numbers: def.numbers || def.base == "serial"}
	if def.value != "" {
		c.setDefault(def.value, p.lex.mode)
	}
	return c, nil
}

// setDefault reads the text behind DEFAULT.
func (c *ColumnDef) setDefault(text string, m *Mode) {
	l := lexer{s: text, mode: m}
	var t []token
	for k := l.next(); k.kind != tokEnd; k = l.next() {
		t = append(t, k)
	}
	sign := ""
	if len(t) == 2 && (t[0].punct('-') || t[0].punct('+')) && t[1].kind == tokNumber {
		sign, t = strings.Trim(t[0].text, "+"), t[1:]
	}
	c.Computed = text
	if len(t) != 1 {
		return
	}
	switch {
	case t[0].is("NULL"):
		c.Computed = ""
	case t[0].is("TRUE"), t[0].is("FALSE"):
		c.Literal, c.Computed, c.Default = true, "", map[bool]string{true: "1", false: "0"}[t[0].is("TRUE")]
	case t[0].kind == tokNumber && strings.Trim(t[0].text, "0123456789.eE+-") == "":
		c.Literal, c.Computed, c.Default = true, "", sign+t[0].text
	case t[0].kind == tokString:
		var b strings.Builder
		unquote(&b, t[0].text, !m.NoBackslashEscapes)
		if plain, ok := m.decode(b.String()); ok {
			c.Literal, c.Computed, c.Default = true, "", plain
		}
	}
}

// keyDef reads an index or constraint, if one comes next; else it returns nil.
func (p *definer) keyDef() (k *KeyDef, ok bool) {
	from, symbol := p.tok.at, ""
	k = &KeyDef{}
	if p.skip("CONSTRAINT") {
		if !p.tok.is("PRIMARY") && !p.tok.is("UNIQUE") && !p.tok.is("FOREIGN") && !p.tok.is("CHECK") {
			symbol = p.text()
			p.advance()
		}
		if !p.tok.is("PRIMARY") && !p.tok.is("UNIQUE") && !p.tok.is("FOREIGN") && !p.tok.is("CHECK") {
			return nil, false
		}
	}
	next := p.peek()
	switch {
	case p.skip("PRIMARY"):
		k.Kind = PrimaryKey
		if !p.skip("KEY") {
			return nil, false
		}
	case p.skip("UNIQUE"):
		k.Kind, k.Name = UniqueKey, symbol
		_ = p.skip("INDEX") || p.skip("KEY")
	case p.tok.is("FULLTEXT"), p.tok.is("SPATIAL"), p.tok.is("VECTOR") && (next.is("INDEX") || next.is("KEY")):
		k.Kind = SearchKey
		p.advance()
		_ = p.skip("INDEX") || p.skip("KEY")
	case p.skip("INDEX"), p.skip("KEY"):
	case p.skip("FOREIGN", "KEY"):
		k.Kind, k.Name = ReferKey, symbol
	case p.skip("CHECK"):
		k.Kind, k.Name = CheckKey, symbol
		p.rest()
		k.Text = p.lex.s[from:p.last]
		return k, true
	case p.tok.is("PERIOD") && next.is("FOR"), p.tok.is("LIKE"):
		return nil, false
	default:
		return nil, true
	}
	p.skip("IF", "NOT", "EXISTS")
	if p.tok.named() && !p.tok.is("USING") && k.Kind != PrimaryKey {
		k.Name = p.text()
		p.advance()
	}
	return k, p.keyParts(k, from)
}

// keyParts reads the columns of a key and what follows them.
func (p *definer) keyParts(k *KeyDef, from int) bool {
	for !p.tok.punct('(') { // USING BTREE, and the name of a primary key
		if p.tok.kind == tokEnd {
			return false
		}
		p.advance()
	}
	for p.advance(); ; {
		switch {
		case p.tok.punct('('):
			p.group(inTable)
			k.Partial = true
		default:
			name, ok := p.columnName()
			if !ok {
				return false
			}
			k.Columns = append(k.Columns, name)
			if p.tok.punct('(') {
				p.group(inTable)
				k.Partial = true
			}
		}
		p.skipAny("ASC", "DESC")
		if p.skipPunct(')') {
			break
		}
		if !p.skipPunct(',') {
			return false // WITHOUT OVERLAPS, which makes columns of its own
		}
	}
	for p.tok.kind != tokEnd && !p.tok.punct(',') && !p.tok.punct(')') && !p.tok.is("PARTITION") {
		if p.skip("ON") {
			on := p.tok.text
			if p.advance(); p.tok.is("CASCADE") || p.tok.is("SET") {
				k.Acts = "ON " + strings.ToUpper(on+" "+p.tok.text)
				if next := p.peek(); p.tok.is("SET") {
					k.Acts += " " + strings.ToUpper(next.text)
				}
			}
			continue
		}
		if p.tok.punct('(') {
			p.group(inTable)
			continue
		}
		p.advance()
	}
	k.Text = p.lex.s[from:p.last]
	if p.tok.is("PARTITION") {
		p.toEnd()
	}
	return !p.s.obscure
}

// createIndex reads CREATE INDEX.
func (s *Statement) createIndex(d *dialect) ([]Action, error) {
	p := s.definer(d, "")
	p.lex.pos, p.lex.open = 0, false
	k := KeyDef{}
	for p.advance(); p.tok.kind != tokEnd && !p.tok.is("INDEX"); p.advance() {
		switch {
		case p.tok.is("UNIQUE"):
			k.Kind = UniqueKey
		case p.tok.is("FULLTEXT"), p.tok.is("SPATIAL"), p.tok.is("VECTOR"):
			k.Kind = SearchKey
		}
	}
	p.advance()
	p.skip("IF", "NOT", "EXISTS")
	if !p.tok.named() {
		return nil, errNoAction
	}
	k.Name = p.text()
	if !p.seek("ON") {
		return nil, errNoAction
	}
	if _, ok := p.name(); !ok || !p.keyParts(&k, 0) {
		return nil, errNoAction
	}
	return []Action{{Do: AddKey, Key: k, Lenient: s.IfNotExists}}, nil
}
