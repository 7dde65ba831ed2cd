package ddl

import (
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// An alteration is what an ALTER TABLE does to the columns of a table.
type alteration struct {
	defs    []columnDef       // columns that are added or changed, in the order of the statement
	changed []string          // for each of defs, the column it changes; empty if it is new
	dropped []string          // columns
	renamed map[string]string // new names of columns, by the old ones in lower case

	key     []string // the new primary key
	dropKey bool

	options options
	convert bool // CONVERT TO CHARACTER SET, with options

	into []Table // partitions that become tables
	from []Table // tables that become partitions
	name Table   // the new name, if any
}

// alterTable alters a table.
func (c *Catalog) alterTable(s *Statement, d *dialect) {
	n := s.Tables[0]
	old, known := c.entry(n)
	if known && old.table == nil {
		if s.IfExists {
			return
		}
		known = false
	}
	a := &alteration{renamed: make(map[string]string)}
	e, ok := tableEntry{}, false
	if known {
		p := s.definer(d, n.Schema)
		if ok = p.alteration(a, old.table); ok {
			e, ok = a.apply(old, d)
		}
	}
	if !ok {
		// Tables besides this one: a new name, or what takes part in an exchange of
		// partitions.
		c.forgetTables(s.Tables)
		return
	}
	if a.name != (Table{}) {
		c.drop(n)
		n = a.name
	}
	e.table = renamed(e.table, n)
	c.set(n, e)
	for _, from := range a.from {
		c.drop(from)
	}
	for _, into := range a.into {
		e.table = renamed(e.table, into)
		c.set(into, e)
	}
}

// alteration reads the clauses of an ALTER TABLE of t.
func (p *definer) alteration(a *alteration, t *dfs.Table) bool {
	p.wait()
	for p.tok.kind != tokEnd {
		if !p.alterClause(a, t) {
			return false
		}
		if !p.skipPunct(',') && p.tok.kind != tokEnd {
			return false
		}
	}
	return true
}

// alterClause reads one clause.
func (p *definer) alterClause(a *alteration, t *dfs.Table) bool {
	switch {
	case p.skip("ADD"):
		return p.add(a, t)
	case p.skip("DROP"):
		return p.drop(a, t)
	case p.skip("CHANGE"), p.tok.is("MODIFY"):
		change := !p.skip("MODIFY")
		p.skip("COLUMN")
		ifExists := p.skip("IF", "EXISTS")
		old := ""
		if change {
			var ok bool
			if old, ok = p.columnName(); !ok {
				return false
			}
		}
		def, ok := p.column()
		if !ok {
			return false
		}
		if !change {
			old = def.Name
		}
		if ifExists && def.primary {
			return false // MariaDB leaves a primary key alone that is there already
		}
		if t.Column(old) < 0 {
			return ifExists
		}
		a.defs, a.changed = append(a.defs, def), append(a.changed, old)
		return true
	case p.skip("RENAME"):
		return p.renameClause(a, t)
	case p.skip("ALTER"):
		// A default, or whether something is visible or enforced.
		p.rest()
		return true
	case p.skip("CONVERT", "TO"):
		if !(p.tok.is("CHARACTER") || p.tok.is("CHARSET") || p.tok.is("CHAR")) {
			return false
		}
		a.convert = true
		return p.tableOptions(a)
	case p.skip("CONVERT", "PARTITION"):
		p.advance()
		if !p.skip("TO", "TABLE") {
			return false
		}
		r, ok := p.name()
		a.into = append(a.into, r.Table)
		p.rest()
		return ok
	case p.skip("CONVERT", "TABLE"):
		r, ok := p.name()
		a.from = append(a.from, r.Table)
		p.toEnd()
		return ok
	case p.skip("EXCHANGE", "PARTITION"):
		// Both tables have the same columns, or it would not be done.
		p.rest()
		return true
	case p.skip("ORDER", "BY"):
		return p.orderBy()
	case p.tok.is("PARTITION"), p.tok.is("REMOVE"), p.tok.is("COALESCE"), p.tok.is("REORGANIZE"), p.tok.is("TRUNCATE"),
		p.tok.is("REBUILD"), p.tok.is("OPTIMIZE"), p.tok.is("ANALYZE"), p.tok.is("CHECK"), p.tok.is("REPAIR"),
		p.tok.is("DISCARD"), p.tok.is("IMPORT"), p.tok.is("UPGRADE"):
		p.toEnd()
		return true
	case p.tok.is("DISABLE"), p.tok.is("ENABLE"), p.tok.is("FORCE"), p.tok.is("WITH"), p.tok.is("WITHOUT"):
		next := p.peek()
		p.rest()
		return !next.is("SYSTEM")
	case p.tok.kind == tokWord:
		return p.tableOptions(a)
	}
	return false
}

// tableOptions reads options of the table.
func (p *definer) tableOptions(a *alteration) bool {
	o := p.options(true)
	if o.set {
		if a.options.set {
			return false // which of them counts depends on both
		}
		a.options = o
	}
	return !o.strange
}

// add reads what follows ADD.
func (p *definer) add(a *alteration, t *dfs.Table) bool {
	if p.tok.is("PARTITION") {
		p.toEnd()
		return true
	}
	if p.tok.is("SYSTEM") && p.peek().is("VERSIONING") {
		return false
	}
	key, isKey, ok := p.key()
	switch {
	case !ok:
		return false
	case isKey:
		if key != nil {
			a.key = key
		}
		return true
	}
	p.skip("COLUMN")
	ifNotExists := p.skip("IF", "NOT", "EXISTS")
	group := p.skipPunct('(')
	for {
		if group {
			// In parentheses, MySQL takes indexes too.
			switch key, isKey, ok = p.key(); {
			case !ok:
				return false
			case isKey && key != nil:
				a.key = key
			}
		}
		if !group || !isKey {
			def, ok := p.column()
			switch {
			case !ok, group && (def.first || def.after != ""):
				return false
			case ifNotExists && def.primary:
				// MariaDB adds the key though the column is there, or the column
				// but no key where there is one.
				return false
			case ifNotExists && t.Column(def.Name) >= 0:
			default:
				a.defs, a.changed = append(a.defs, def), append(a.changed, "")
			}
		}
		if !group {
			return true
		}
		if p.skipPunct(')') {
			return true
		}
		if !p.skipPunct(',') {
			return false
		}
	}
}

// drop reads what follows DROP.
func (p *definer) drop(a *alteration, t *dfs.Table) bool {
	switch {
	case p.tok.is("PARTITION"):
		p.toEnd()
		return true
	case p.skip("PRIMARY", "KEY"):
		a.dropKey = true
		return true
	case p.tok.is("PERIOD") && p.peek().is("FOR"), p.tok.is("SYSTEM") && p.peek().is("VERSIONING"):
		return false
	case p.skip("FOREIGN", "KEY"), p.skip("CHECK"):
		p.rest()
		return true
	case p.skip("INDEX"), p.skip("KEY"), p.skip("CONSTRAINT"):
		p.skip("IF", "EXISTS")
		a.dropKey = a.dropKey || strings.EqualFold(p.tok.text, "PRIMARY")
		named := p.tok.named()
		p.rest()
		return named
	}
	p.skip("COLUMN")
	ifExists := p.skip("IF", "EXISTS")
	name, ok := p.columnName()
	if !ok {
		return false
	}
	p.skipAny("RESTRICT", "CASCADE")
	if p.tok.is("PARTITION") || p.tok.is("REMOVE") {
		p.toEnd()
	}
	if t.Column(name) < 0 {
		return ifExists
	}
	a.dropped = append(a.dropped, name)
	return true
}

// renameClause reads what follows RENAME.
func (p *definer) renameClause(a *alteration, t *dfs.Table) bool {
	switch {
	case p.tok.is("INDEX"), p.tok.is("KEY"):
		p.rest()
		return true
	case p.skip("COLUMN"):
		ifExists := p.skip("IF", "EXISTS")
		from, ok := p.columnName()
		if !ok || !p.skip("TO") {
			return false
		}
		to, ok := p.columnName()
		if !ok {
			return false
		}
		if t.Column(from) < 0 {
			return ifExists
		}
		a.renamed[strings.ToLower(t.Columns[t.Column(from)].Name)] = to
		return true
	}
	_ = p.skip("TO") || p.skip("AS") || p.skipPunct('=')
	r, ok := p.name()
	a.name = r.Table
	return ok
}

// orderBy reads the columns by which the rows are put in order, with commas
// between them.
func (p *definer) orderBy() bool {
	for {
		if _, ok := p.columnName(); !ok {
			return false
		}
		p.skipAny("ASC", "DESC")
		if p.tok.kind == tokEnd || !p.tok.punct(',') {
			return p.tok.kind == tokEnd
		}
		// The next clause, or the next column?
		l := p.lex
		l.next()
		if next := l.next(); next.kind != tokEnd && !next.punct(',') && !next.is("ASC") && !next.is("DESC") {
			return true
		}
		p.advance()
	}
}

// apply returns the table as it is afterwards.
//
// Columns come as mysql_prepare_alter_table (sql/sql_table.cc) puts them: first
// the old ones, changed where they stand unless they move; then, in the order of
// the statement, those that are new or that move, each behind the column that it
// names, under its new name, or at the end.
func (a *alteration) apply(old tableEntry, d *dialect) (e tableEntry, ok bool) {
	e = old
	if a.convert && slices.ContainsFunc(a.defs, columnDef.converts) {
		return e, false // the servers differ in what is converted
	}
	if a.options.set {
		e.collation = a.options.collation
	}
	t := *old.table
	t.Columns = nil
	done := make([]bool, len(a.defs))
	names := make(map[string]string) // of old columns, by the old ones in lower case
	finish := func(i int) (dfs.Column, bool) { return a.defs[i].finish(d, e.collation) }
	for _, col := range old.table.Columns {
		was, lower := col.Name, strings.ToLower(col.Name)
		same := func(name string) bool { return strings.EqualFold(name, was) } // not as it is renamed to
		if slices.ContainsFunc(a.dropped, same) {
			continue
		}
		if name, ok := a.renamed[lower]; ok {
			col.Name = name
		}
		if i := slices.IndexFunc(a.changed, same); i >= 0 {
			def := &a.defs[i]
			if def.first || def.after != "" {
				names[lower] = def.Name
				continue
			}
			if col, ok = finish(i); !ok {
				return e, false
			}
			done[i] = true
		}
		names[lower] = col.Name
		if a.convert {
			if col, ok = a.converted(col, d); !ok {
				return e, false
			}
		}
		t.Columns = append(t.Columns, col)
	}
	if a.convert && !slices.ContainsFunc(t.Columns, func(c dfs.Column) bool { return c.Charset != "" }) {
		// MySQL 5.6 leaves the default alone where no column changes.
		e.collation = ""
	}
	for i := range a.defs {
		if done[i] {
			continue
		}
		col, ok := finish(i)
		if !ok {
			return e, false
		}
		at := len(t.Columns)
		switch def := &a.defs[i]; {
		case def.first:
			at = 0
		case def.after != "":
			if at = t.Column(def.after) + 1; at == 0 {
				return e, false
			}
		}
		t.Columns = slices.Insert(t.Columns, at, col)
	}
	for i, col := range t.Columns {
		if t.Column(col.Name) != i || slices.ContainsFunc(t.Columns[:i], func(b dfs.Column) bool { return strings.EqualFold(b.Name, col.Name) }) {
			return e, false
		}
	}
	key := a.key
	for i := range a.defs {
		if a.defs[i].primary {
			key = []string{a.defs[i].Name}
		}
	}
	if key == nil && !a.dropKey {
		for _, k := range old.table.Key {
			if name, ok := names[strings.ToLower(old.table.Columns[k].Name)]; ok {
				key = append(key, name)
			}
		}
	}
	e.table = &t
	return e, len(t.Columns) > 0 && setKey(&t, key)
}

// converted returns a column after CONVERT TO CHARACTER SET. A text column takes
// the new collation, and TEXT types grow to take as many characters as before.
func (a *alteration) converted(col dfs.Column, d *dialect) (dfs.Column, bool) {
	if len(col.Members) > 0 {
		// Names of members come out wrong where either character set is ucs2 or
		// binary (all of 5.6, 9.7 and MariaDB 10.11), and which one an ENUM has
		// is not known here.
		return col, false
	}
	if col.Charset == "" {
		return col, true
	}
	to := a.options.collation
	if to == "" || to == "binary" {
		return col, false
	}
	old := maxLen(col.Charset)
	col.Charset, col.Collation = charsetOf(to), to
	if maxLen(col.Charset) > old && !strings.HasPrefix(col.Type, "char(") {
		return col, strings.HasPrefix(col.Type, "varchar(") && fitsVarchar(col) || col.Type == "longtext"
	}
	return col, true
}

// fitsVarchar reports whether a VARCHAR is not longer than one may be.
func fitsVarchar(col dfs.Column) bool {
	n := 0
	for _, c := range strings.TrimPrefix(col.Type, "varchar(") {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n*maxLen(col.Charset) <= 65535
}
