package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// altered drops what was prepared for tables as they were.
func (l *liteBackend) altered() { l.forgetStmts() }

func (l *liteBackend) takesName(t *table) error { return l.claimName(t.schema, t.name) }

func (l *liteBackend) indexName(t *table, name string) string { return indexName(t, name) }

func (l *liteBackend) do(ctx context.Context, list ...string) error {
	for _, s := range list {
		if err := l.core.run(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// createSchema does nothing: a file has no schemas.
func (l *liteBackend) createSchema(context.Context, string) error { return nil }

func (l *liteBackend) dropSchema(context.Context, string) error {
	return errors.New("a file of SQLite has no schemas, so which of its tables are to go is not known: DROP TABLE them by hand")
}

func (l *liteBackend) createLike(ctx context.Context, t, like *table) error {
	if err := l.claimName(t.schema, t.name); err != nil {
		return err
	}
	d, err := l.definition(ctx, like)
	if err != nil {
		return err
	}
	d.items = slices.DeleteFunc(d.items, func(s string) bool { return strings.HasPrefix(strings.ToUpper(s), "FOREIGN KEY") })
	list, err := l.indexes(ctx, like)
	if err == nil {
		err = l.do(ctx, d.create(t.name))
	}
	if err != nil {
		return err
	}
	for _, x := range list {
		name, ours := strings.CutPrefix(x.name, like.name+".")
		switch {
		case x.constraint: // it is a part of the definition
		case ours && x.plain:
			if err := l.do(ctx, l.index(t, plainKey{name, x.unique, x.columns})); err != nil {
				return err
			}
		case x.unique:
			return fmt.Errorf("the file's table %s has the unique index %s, which is not one of the source's: make the new table by hand", l.ident(like), quoteName(x.name))
		}
	}
	return nil
}

func (l *liteBackend) renameTable(ctx context.Context, t, to *table) error {
	if err := l.claimName(to.schema, to.name); err != nil {
		return err
	}
	return l.do(ctx, "ALTER TABLE "+l.ident(t)+" RENAME TO "+l.ident(to))
}

// noTriggers refuses to change all rows of a table where that has other effects.
func (l *liteBackend) noTriggers(ctx context.Context, t *table) error {
	rows, err := l.query(ctx, "SELECT 1 FROM sqlite_schema WHERE type='trigger' AND tbl_name=?1 COLLATE NOCASE", t.name)
	if err == nil && len(rows) > 0 {
		err = fmt.Errorf("the file's table %s has triggers, which would run for each row", l.ident(t))
	}
	return err
}

func (l *liteBackend) truncate(ctx context.Context, t *table) error {
	err := l.noTriggers(ctx, t)
	if err == nil {
		err = l.do(ctx, "DELETE FROM "+l.ident(t))
	}
	return err
}

func (l *liteBackend) indexes(ctx context.Context, t *table) (list []targetIndex, err error) {
	rows, err := l.query(ctx, "SELECT l.name, l.\"unique\", l.partial, l.origin, COALESCE(x.name,''), x.cid FROM pragma_index_list(?1) l "+
		"JOIN pragma_index_xinfo(l.name) x WHERE x.key=1 AND l.origin<>'pk' ORDER BY l.name, x.seqno", t.name)
	for _, r := range rows {
		n := len(list)
		if n == 0 || list[n-1].name != r[0].text {
			list = append(list, targetIndex{name: r[0].text, unique: r[1].text == "1", plain: r[2].text == "0", constraint: r[3].text == "u"})
			n++
		}
		x := &list[n-1]
		if strings.HasPrefix(r[5].text, "-") {
			x.plain = false
			continue
		}
		x.columns = append(x.columns, r[4].text)
	}
	return list, err
}

func (l *liteBackend) dropIndex(ctx context.Context, t *table, ix *targetIndex) error {
	if ix.constraint {
		return l.remake(ctx, t, func(d *liteDefinition) error { return d.dropUnique(ix.columns) })
	}
	return l.do(ctx, "DROP INDEX "+quoteName(ix.name))
}

func (l *liteBackend) renameIndex(ctx context.Context, t *table, ix *targetIndex, name string) error {
	if !ix.plain {
		return fmt.Errorf("SQLite renames no index, and %s is not one of whole columns: make it anew by hand", quoteName(ix.name))
	}
	source, _ := strings.CutPrefix(name, t.name+".")
	return l.do(ctx, "DROP INDEX "+quoteName(ix.name), l.index(t, plainKey{source, ix.unique, ix.columns}))
}

// addColumn adds a column. A default that rows were filled with stays: SQLite keeps it
// for rows that were there, and those to come have values.
func (l *liteBackend) addColumn(ctx context.Context, t *table, n *newColumn, _ bool) error {
	return l.do(ctx, "ALTER TABLE "+l.ident(t)+" ADD COLUMN "+n.item())
}

func (l *liteBackend) dropColumn(ctx context.Context, t *table, column string) error {
	return l.do(ctx, "ALTER TABLE "+l.ident(t)+" DROP COLUMN "+quoteName(column))
}

func (l *liteBackend) renameColumn(ctx context.Context, t *table, column, name string) error {
	return l.do(ctx, "ALTER TABLE "+l.ident(t)+" RENAME COLUMN "+quoteName(column)+" TO "+quoteName(name))
}

func (l *liteBackend) changeColumn(ctx context.Context, t *table, n *newColumn) error {
	return l.remake(ctx, t, func(d *liteDefinition) error { return d.change(n) })
}

func (l *liteBackend) setDefault(ctx context.Context, t *table, column, literal string) error {
	d, err := l.definition(ctx, t)
	if err == nil {
		if _, n, _, e := d.column(column); e == nil && n.literal == literal {
			return nil
		}
	}
	return l.remake(ctx, t, func(d *liteDefinition) error {
		return d.edit(column, func(n *newColumn) { n.literal = literal })
	})
}

func (l *liteBackend) setPrimary(ctx context.Context, t *table, columns []string) error {
	return l.remake(ctx, t, func(d *liteDefinition) error { return d.setPrimary(columns) })
}

// remake makes a table anew with another definition, and its rows, as SQLite's manual
// says (lang_altertable.html, 7): ALTER TABLE there knows no other changes.
func (l *liteBackend) remake(ctx context.Context, t *table, edit func(*liteDefinition) error) error {
	if !l.fkOff && (len(t.parents) > 0 || len(t.children) > 0) {
		return fmt.Errorf("the file's table %s has foreign keys, which are on in this transaction", l.ident(t))
	}
	d, err := l.definition(ctx, t)
	if err == nil {
		err = edit(d)
	}
	if err != nil {
		return fmt.Errorf("altering the file's table %s: %w", l.ident(t), err)
	}
	var others []string
	rows, err := l.query(ctx, "SELECT sql FROM sqlite_schema WHERE tbl_name=?1 COLLATE NOCASE AND type IN ('index','trigger') AND sql IS NOT NULL ORDER BY type", t.name)
	if err != nil {
		return err
	}
	for _, r := range rows {
		others = append(others, r[0].text)
	}
	now, err := l.loadTable(ctx, t.schema, t.name)
	if err != nil {
		return err
	}
	var names []string
	for _, c := range now.columns {
		if c.generated {
			return fmt.Errorf("the file's table %s has the generated column %s: alter it by hand", l.ident(t), c.name)
		}
		names = append(names, c.name)
	}
	const other = "dfs_remade"
	copied := quoteNames(names)
	list := []string{d.create(other), "INSERT INTO " + other + " (" + copied + ") SELECT " + copied + " FROM " + l.ident(t),
		"DROP TABLE " + l.ident(t),
		// Views and other tables mean the name, under which it is there again.
		"PRAGMA legacy_alter_table=ON", "ALTER TABLE " + other + " RENAME TO " + l.ident(t), "PRAGMA legacy_alter_table=OFF"}
	err = l.do(ctx, append(list, others...)...)
	if err != nil {
		// A rollback does not take a PRAGMA back.
		err = errors.Join(err, l.do(context.WithoutCancel(ctx), "PRAGMA legacy_alter_table=OFF"))
	}
	return err
}

// liteConversion is errConversion of a file, where types say little.
func liteConversion(def *ddl.ColumnDef) error {
	return fmt.Errorf("to %s: %w", def.Type, errConversion)
}

// converts allows a change of type if all values are in the form that the new type has,
// but for zeros at their ends, which it then gives them.
func (l *liteBackend) converts(ctx context.Context, t *table, def *ddl.ColumnDef, n *newColumn, utc, done bool) error {
	old := strings.ToUpper(t.columns[t.column(n.name)].typ)
	if done {
		old = strings.ToUpper(n.typ)
	}
	whole := func(s string) bool { return s == "INTEGER" || s == "" }
	word, _, _ := strings.Cut(def.Type, "(")
	word, _, _ = strings.Cut(word, " ")
	name := quoteName(n.name)
	where := ""
	switch to := strings.ToUpper(n.typ); {
	case whole(old) && whole(to) && word != "year" && word != "bit":
	case old == "BLOB" && to == "BLOB" && (word == "varbinary" || strings.HasSuffix(word, "blob")):
	case old == "BLOB" && to == "BLOB" && word == "binary":
		where = fmt.Sprintf("length(%s)<>%d", name, pgArg(def.Type))
	case old == "REAL" && to == "REAL" && def.Type == "double":
	case old == "TEXT" && to == "TEXT":
		where = liteForm(word, def, name, utc)
	default:
		where = name + " IS NOT NULL"
	}
	if where == "" {
		return nil
	}
	some, err := l.core.anyRow(ctx, t, where)
	if err == nil && some {
		err = liteConversion(def)
	}
	digits := 0
	switch word {
	case "decimal":
		digits = pgScale(def.Type)
	case "datetime", "timestamp":
		digits = pgArg(def.Type)
	}
	if err != nil || !done || digits == 0 {
		return err
	}
	if err := l.noTriggers(ctx, t); err != nil {
		return err
	}
	return l.do(ctx, fmt.Sprintf("UPDATE %[1]s SET %[2]s=CASE WHEN instr(%[2]s,'.')=0 THEN %[2]s||'.%[3]s' ELSE %[2]s||substr('%[3]s',1,%[4]d+instr(%[2]s,'.')-length(%[2]s)) END "+
		"WHERE %[2]s IS NOT NULL AND (instr(%[2]s,'.')=0 OR length(%[2]s)-instr(%[2]s,'.')<%[4]d)", l.ident(t), name, strings.Repeat("0", digits), digits))
}

// liteForm returns a condition for texts that a column of the type has in another form.
func liteForm(word string, def *ddl.ColumnDef, name string, utc bool) string {
	stamp := strings.Repeat("[0-9]", 4) + "-[0-9][0-9]-[0-9][0-9]"
	times := " [0-9][0-9]:[0-9][0-9]:[0-9][0-9]"
	// A TIMESTAMP is kept in UTC, and becomes a text of the session's zone.
	zone := name + " GLOB '" + stamp + times + "*'"
	if utc {
		zone = "0"
	}
	switch word {
	case "varchar", "char":
		where := fmt.Sprintf("length(%s)>%d OR %s", name, pgArg(def.Type), zone)
		if word == "char" {
			where += " OR " + name + " GLOB '* '"
		}
		return where
	case "tinytext", "text", "mediumtext", "longtext":
		return zone
	case "enum":
		return name + " COLLATE BINARY NOT IN (" + quotedList(def.Members) + ")"
	case "decimal":
		// What is no DECIMAL's text, or has more digits after the point.
		return fmt.Sprintf("%[1]s GLOB '*[^-0-9.]*' OR %[1]s GLOB '?*-*' OR %[1]s GLOB '*.*.*' OR %[1]s GLOB '*.' OR %[1]s NOT GLOB '[0-9]*' AND %[1]s NOT GLOB '-[0-9]*' "+
			"OR %[1]s GLOB '0[0-9]*' OR %[1]s GLOB '-0[0-9]*' OR instr(%[1]s,'.')>0 AND length(%[1]s)-instr(%[1]s,'.')>%[2]d", name, pgScale(def.Type))
	case "date":
		return name + " NOT GLOB '" + stamp + "'"
	case "datetime", "timestamp":
		if !utc {
			return name + " IS NOT NULL" // the one is UTC, and the other what a clock shows
		}
		forms := []string{name + " NOT GLOB '" + stamp + times + "'"}
		for n := range pgArg(def.Type) {
			forms = append(forms, name+" NOT GLOB '"+stamp+times+"."+strings.Repeat("[0-9]", n+1)+"'")
		}
		return strings.Join(forms, " AND ")
	}
	return name + " IS NOT NULL"
}
