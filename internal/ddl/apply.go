package ddl

import (
	"strings"

	"github.com/dataflowsync/dfs"
)

// Apply moves the Catalog past a statement that has been run without an error.
// What the statement does to a table is either understood exactly, or the table
// is forgotten. The session may be nil; it tells what the log says of variables
// on which the meaning of types depends. The Catalog shares no memory with
// either. Apply reports whether anything changed.
func (c *Catalog) Apply(s *Statement, session *dfs.Session) (changed bool) {
	switch s.Kind {
	case Begin, Commit, Rollback, RollbackTo, Savepoint, XAStart, XAEnd, XAPrepare, XACommit, XARollback,
		DML, Nothing, Trigger, Routine, Event, Account, Storage, TruncateTable, CreateIndex:
		return false
	}
	if !s.Settled {
		c.ForgetAll()
		return true
	}
	// What is kept are parts of the text, which may be only lent.
	s = s.clone()
	if s.Temporary {
		// While a session has a temporary table, it hides the other one of its
		// name, and other statements of the session may mean either.
		if s.Kind == CreateTable {
			c.forgetTables(s.Tables)
		}
		return s.Kind == CreateTable
	}
	for _, n := range s.Tables {
		c.forgetOthers(n)
	}
	d := newDialect(s, session)
	switch s.Kind {
	case CreateSchema, AlterSchema:
		c.defineSchema(s, d)
	case DropSchema:
		c.Forget(s.Tables[0].Schema, "")
		c.schema(s.Tables[0].Schema).only = true
	case CreateTable:
		c.createTable(s, d)
	case AlterTable:
		c.alterTable(s, d)
	case RenameTable:
		c.rename(s)
	case DropTable:
		for _, n := range s.Tables {
			c.drop(n)
		}
	case DropIndex:
		return c.dropIndex(s)
	default: // views, sequences
		c.forgetTables(s.Tables)
	}
	return true
}

func (c *Catalog) forgetTables(names []Table) {
	for _, n := range names {
		c.Forget(n.Schema, n.Name)
	}
}

// newDialect returns what the types of a statement depend on.
func newDialect(s *Statement, session *dfs.Session) *dialect {
	d := &dialect{Mode: s.mode}
	if d.MariaDB && d.Version < 110500 || d.Version != 0 && d.Version < 80000 {
		d.utf8mb4Collation = "utf8mb4_general_ci"
	}
	// Without the variable, the default of MySQL 8.0.2 and later is on, and no
	// other server's.
	d.implicitNotNull = d.Version < 80002 || d.MariaDB
	if session == nil {
		return d
	}
	for _, v := range session.Vars {
		value := strings.Clone(strings.Trim(v.Value, "'"))
		switch v.Name {
		case "sql_mode":
			for mode := range strings.SplitSeq(value, ",") {
				d.realAsFloat = d.realAsFloat || mode == "REAL_AS_FLOAT"
				d.foreign = d.foreign || mode == "ORACLE"
			}
		case "explicit_defaults_for_timestamp":
			d.implicitNotNull = value == "0"
		case "default_collation_for_utf8mb4":
			d.utf8mb4Collation = value
		case "collation_server":
			d.serverCollation = d.collation(value, "")
		}
	}
	return d
}

// definer returns a reader of what stands behind the name of the table, or of
// the schema, that a statement defines.
func (s *Statement) definer(d *dialect, schema string) *definer {
	scratch := &Statement{mode: s.mode}
	p := &definer{parser{lex: lexer{s: s.Text, mode: &scratch.mode, pos: s.body, open: s.open}, schema: schema, s: scratch}, d}
	p.advance()
	return p
}

// defineSchema notes the collation of a schema.
func (c *Catalog) defineSchema(s *Statement, d *dialect) {
	name := s.Tables[0].Schema
	if s.Kind == CreateSchema {
		if s.IfNotExists && !s.OrReplace {
			return // it may have been there
		}
		c.Forget(name, "")
		c.schema(name).only = true
		c.schema(name).collation = d.serverCollation
	}
	o := s.definer(d, name).options(false)
	if o.set {
		c.schema(name).collation = o.collation
	}
}

// options are what the options of a table or schema say of what this package
// wants to know.
type options struct {
	set       bool   // they name a character set or a collation
	collation string // the default; empty if not known
	strange   bool   // there is something that is not understood
}

// options reads the options of a table or schema, up to the end, or to a comma
// where commas do not stand between options but between clauses.
func (p *definer) options(clause bool) (o options) {
	charset, collation := "", ""
	for p.tok.kind != tokEnd && !(clause && p.tok.punct(',')) {
		switch {
		case p.skip("CHARACTER", "SET"), p.skip("CHARSET"), p.skip("CHAR", "SET"):
			p.skipPunct('=')
			charset = p.d.charset(p.word())
		case p.skip("COLLATE"):
			p.skipPunct('=')
			collation = p.word()
		case p.skip("PARTITION"), p.skip("REMOVE", "PARTITIONING"):
			p.toEnd()
		case p.skip("DEFAULT"), p.skip("START", "TRANSACTION"), p.skip("SECONDARY_LOAD"), p.skip("SECONDARY_UNLOAD"),
			p.skipPunct(','), p.skipPunct(';'):
		case p.tok.kind == tokWord && (p.peek().punct('=') && !p.tok.is("SEQUENCE") || tableOption(p.tok.text)):
			if p.advance(); p.skip("DIRECTORY") || p.skip("ONLY") || p.tok.punct('=') {
				p.skipPunct('=')
			}
			if !p.parenthesized() {
				p.advance()
			}
		default:
			// It is followed by what gives it other columns: a SELECT, LIKE, or
			// MariaDB's WITH SYSTEM VERSIONING, which has hidden ones. Or it is new.
			o.strange = true
			return o
		}
	}
	switch o.set = charset != "" || collation != ""; {
	case charset == "default", strings.EqualFold(collation, "default"):
	case collation != "":
		o.collation = p.d.collation(collation, charset)
	case charset != "":
		o.collation = p.d.defaultCollation(charset)
	}
	return o
}

// tableOption reports whether a word begins an option of a table or schema that
// has a value, besides character sets and collations. With "=" behind it any word
// does: the engines of MariaDB have options of their own.
func tableOption(word string) bool {
	switch strings.ToUpper(word) {
	case "ENGINE", "TYPE", "AUTO_INCREMENT", "AVG_ROW_LENGTH", "CHECKSUM", "TABLE_CHECKSUM", "PAGE_CHECKSUM", "COMMENT",
		"COMPRESSION", "CONNECTION", "DATA", "INDEX", "DELAY_KEY_WRITE", "ENCRYPTION", "ENGINE_ATTRIBUTE",
		"SECONDARY_ENGINE", "SECONDARY_ENGINE_ATTRIBUTE", "INSERT_METHOD", "KEY_BLOCK_SIZE", "MAX_ROWS", "MIN_ROWS",
		"PACK_KEYS", "PASSWORD", "ROW_FORMAT", "STATS_AUTO_RECALC", "STATS_PERSISTENT", "STATS_SAMPLE_PAGES",
		"TABLESPACE", "STORAGE", "TRANSACTIONAL", "UNION", "AUTOEXTEND_SIZE", "ALGORITHM", "LOCK", "READ":
		return true
	}
	return false
}

// createTable adds a table.
func (c *Catalog) createTable(s *Statement, d *dialect) {
	name := s.Tables[0]
	if old, known := c.entry(name); s.IfNotExists && !s.OrReplace {
		if !known {
			c.Forget(name.Schema, name.Name)
			return
		}
		if old.table != nil {
			return
		}
	}
	if s.Selects {
		c.Forget(name.Schema, name.Name)
		return
	}
	if len(s.Refs) == 2 && s.Refs[1].Role == Source && s.like {
		from, known := c.entry(s.Refs[1].Table)
		if !known || from.table == nil {
			c.Forget(name.Schema, name.Name)
			return
		}
		from.table = renamed(from.table, name)
		c.set(name, from)
		return
	}
	t, collation, ok := c.readTable(s, d)
	if !ok {
		c.Forget(name.Schema, name.Name)
		return
	}
	c.Set(t, collation)
}

// renamed returns t under another name.
func renamed(t *dfs.Table, name Table) *dfs.Table {
	n := *t
	n.Schema, n.Name = name.Schema, name.Name
	return &n
}

// readTable reads the definition in a CREATE TABLE.
func (c *Catalog) readTable(s *Statement, d *dialect) (t *dfs.Table, collation string, ok bool) {
	name := s.Tables[0]
	p := s.definer(d, name.Schema)
	if !p.skipPunct('(') {
		return nil, "", false
	}
	var defs []columnDef
	var key []string
	for {
		switch k, isKey, ok := p.key(); {
		case !ok:
			return nil, "", false
		case k != nil:
			key = k
		case isKey:
		default:
			def, ok := p.column()
			if !ok || def.first || def.after != "" {
				return nil, "", false
			}
			defs = append(defs, def)
		}
		if p.skipPunct(')') {
			break
		}
		if !p.skipPunct(',') {
			return nil, "", false
		}
	}
	o := p.options(false)
	if o.strange || len(defs) == 0 {
		return nil, "", false
	}
	collation = o.collation
	if !o.set {
		if in := c.schemas[c.key(name.Schema)]; in != nil {
			collation = in.collation
		}
	}
	t = &dfs.Table{Schema: name.Schema, Name: name.Name}
	for _, def := range defs {
		col, ok := def.finish(d, collation)
		if !ok || t.Column(col.Name) >= 0 {
			return nil, "", false
		}
		if def.primary {
			key = []string{col.Name}
		}
		t.Columns = append(t.Columns, col)
	}
	return t, collation, setKey(t, key)
}

// setKey makes the named columns the primary key.
func setKey(t *dfs.Table, names []string) bool {
	t.Key = nil
	for _, name := range names {
		i := t.Column(name)
		if i < 0 {
			return false
		}
		t.Key = append(t.Key, i)
		t.Columns[i].Nullable = false
	}
	return true
}

// key reads the definition of an index or constraint, if one comes next. It
// returns the columns of a primary key.
func (p *definer) key() (primary []string, isKey, ok bool) {
	constraint := false
	if p.tok.is("CONSTRAINT") {
		constraint = true
		if p.advance(); !p.tok.is("PRIMARY") && !p.tok.is("UNIQUE") && !p.tok.is("FOREIGN") && !p.tok.is("CHECK") {
			p.advance()
		}
	}
	switch next := p.peek(); {
	case p.tok.is("PRIMARY"):
		p.advance()
		if !p.skip("KEY") {
			return nil, true, false
		}
		primary, ok = p.keyColumns()
		p.rest()
		return primary, true, ok
	case p.tok.is("UNIQUE"), p.tok.is("FOREIGN"), p.tok.is("CHECK"), p.tok.is("INDEX"), p.tok.is("KEY"),
		p.tok.is("FULLTEXT"), p.tok.is("SPATIAL"), p.tok.is("VECTOR") && (next.is("INDEX") || next.is("KEY")):
		p.rest()
		return nil, true, true
	case p.tok.is("PERIOD") && next.is("FOR"), p.tok.is("LIKE"), constraint:
		return nil, true, false
	}
	return nil, false, true
}

// rest moves past what is left of a clause.
func (p *definer) rest() {
	for p.tok.kind != tokEnd && !p.tok.punct(',') && !p.tok.punct(')') {
		if p.tok.is("PARTITION") {
			p.toEnd()
			return
		}
		if p.tok.punct('(') {
			p.group(inTable)
			continue
		}
		p.advance()
	}
}

// keyColumns reads the columns of a primary key, in front of which may be a name
// and a kind of index: (a, b(10) DESC).
func (p *definer) keyColumns() (names []string, ok bool) {
	for !p.tok.punct('(') {
		if p.tok.kind == tokEnd || p.tok.is("IF") {
			return nil, false // MariaDB's IF NOT EXISTS
		}
		p.advance()
	}
	p.advance()
	for {
		name, ok := p.columnName()
		if !ok {
			return nil, false
		}
		names = append(names, name)
		if p.tok.punct('(') {
			p.group(inTable)
		}
		p.skipAny("ASC", "DESC")
		if p.skipPunct(')') {
			return names, true
		}
		if !p.skipPunct(',') {
			return nil, false // WITHOUT OVERLAPS, which makes columns of its own
		}
	}
}

// rename gives tables other names, one after the other.
func (c *Catalog) rename(s *Statement) {
	for i := 0; i+1 < len(s.Tables); i += 2 {
		c.renameTable(s.Tables[i], s.Tables[i+1], s.IfExists)
	}
}

// renameTable gives a table another name. Where it may not be there, nothing is
// known afterwards if nothing was known before.
func (c *Catalog) renameTable(from, to Table, ifExists bool) {
	e, known := c.entry(from)
	switch {
	case known && e.table != nil:
		c.drop(from)
		e.table = renamed(e.table, to)
		c.set(to, e)
	case ifExists:
		c.Forget(from.Schema, from.Name)
		c.Forget(to.Schema, to.Name)
	default:
		c.drop(from)
		c.Forget(to.Schema, to.Name)
	}
}

// dropIndex drops the primary key, which is called PRIMARY.
func (c *Catalog) dropIndex(s *Statement) bool {
	p := s.definer(nil, "")
	if !p.tok.named() || !strings.EqualFold(p.tok.text, "PRIMARY") {
		return false
	}
	n := s.Tables[0]
	e, _ := c.entry(n)
	if e.table == nil {
		return false
	}
	t := *e.table
	t.Key = nil
	e.table = &t
	c.set(n, e)
	return true
}
