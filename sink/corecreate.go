package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/match"
)

// CreateTables creates those tables that the target lacks, and their schemas, and
// returns their names. What there is already it leaves alone. A table gets the
// columns, with the types of docs/TYPES.md, the primary key, unique keys and plain
// indexes of the source's, defaults that are literals, and those foreign keys that
// NeedForeignKeys named. Notes tell what it lacks.
//
// Ask Fresh before: a pipeline that has begun does not bring again the rows of a table
// that is gone, so it would be made empty. All faults are returned at once, and the
// tables without a fault are created. No index waits for the rows, whatever later says.
func (c *core) CreateTables(ctx context.Context, tables []Definition, later bool) (made, notes []string, err error) {
	if err := c.db.connect(ctx); err != nil {
		return nil, nil, err
	}
	var errs []error
	for i := range tables {
		d := &tables[i]
		to := &table{}
		to.schema, to.name = match.Target(c.routes, d.Table.Schema, d.Table.Name)
		there, err := c.db.there(ctx, to.schema, to.name)
		if err == nil && !there {
			var list, lacks []string
			if list, lacks, err = c.creation(d, to); err == nil {
				err = c.db.create(ctx, to, list)
				failpoint.Hit("core.create")
			}
			if err == nil {
				made = append(made, to.schema+"."+to.name)
				for _, n := range lacks {
					notes = append(notes, to.schema+"."+to.name+": "+n)
				}
			}
		}
		if errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
			return made, notes, err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("creating the target's table %s: %w", c.db.ident(to), err))
		}
	}
	for _, k := range c.foreign {
		errs = append(errs, c.db.addForeignKey(ctx, k, made))
	}
	c.forget()
	return made, notes, errors.Join(errs...)
}

// NeedForeignKeys names the foreign keys that CreateTables is to give to tables: those
// whose work the source's log does not tell (package cdc's SilentForeignKeys). Others
// would do twice what the log tells.
func (c *core) NeedForeignKeys(keys []ForeignKey) { c.foreign = keys }

// creation returns the statements that create a table, and what it will lack.
func (c *core) creation(d *Definition, to *table) (list, notes []string, err error) {
	t := d.Table
	defaults, keys, notes := c.extras(d)
	var items []string
	var errs []error
	for i := range t.Columns {
		col := &t.Columns[i]
		n := newColumn{name: col.Name, notNull: !col.Nullable}
		var err error
		if n.typ, err = c.columnType(col); err != nil {
			errs = append(errs, err)
		}
		if text, ok := defaults[strings.ToLower(col.Name)]; ok {
			if n.literal, err = c.literal(col, text); err != nil {
				notes = append(notes, fmt.Sprintf("its column %s has no default: %v", col.Name, err))
			}
		}
		items = append(items, n.item())
	}
	var primary []string
	for _, i := range t.Key {
		primary = append(primary, t.Columns[i].Name)
	}
	if primary != nil {
		items = append(items, "PRIMARY KEY ("+quoteNames(primary)+")")
	}
	var after []string
	for _, k := range keys {
		after = append(after, c.db.index(to, k))
	}
	items = append(items, c.db.inlineKeys(slices.DeleteFunc(slices.Clone(c.foreign), func(k ForeignKey) bool {
		return k.Schema != d.Table.Schema || k.Table != d.Table.Name
	}))...)
	list = append(list, "CREATE TABLE "+c.db.ident(to)+" (\n  "+strings.Join(items, ",\n  ")+"\n)")
	return append(list, after...), notes, errors.Join(errs...)
}

// newColumn is a column as the target is to have it.
type newColumn struct {
	name, typ string
	literal   string // its default; empty if it has none
	notNull   bool
	empty     bool // the table has no rows, so whatever was in the column is nothing
}

// item returns the column as CREATE TABLE has it.
func (n *newColumn) item() string {
	item := quoteName(n.name)
	if n.typ != "" {
		item += " " + n.typ
	}
	if n.literal != "" {
		item += " DEFAULT " + n.literal
	}
	if n.notNull {
		item += " NOT NULL"
	}
	return item
}

func (c *core) columnType(col *dfs.Column) (string, error) {
	t, err := convert.Parse(convert.TypeText(col))
	if err != nil {
		return "", fmt.Errorf("column %s: %w", col.Name, err)
	}
	return c.db.typeOf(col, t)
}

// plainKey is a unique key or index of whole columns.
type plainKey struct {
	name    string // as the source calls it
	unique  bool
	columns []string
}

// extras reads the source's definition for defaults, by the column's name in lower
// case, and for keys.
func (c *core) extras(d *Definition) (defaults map[string]string, keys []plainKey, notes []string) {
	defaults = make(map[string]string)
	def, err := readDefinition(d.SQL)
	if err != nil {
		return defaults, nil, nil
	}
	for _, item := range def.items {
		switch {
		case strings.HasPrefix(item, "`"):
			end := skipQuoted(item, 0)
			if text, ok := defaultOf(item[end:]); ok {
				defaults[strings.ToLower(unquote(item[:end]))] = text
			}
		case strings.HasPrefix(item, "UNIQUE KEY "), strings.HasPrefix(item, "KEY "):
			unique := strings.HasPrefix(item, "UNIQUE")
			at := strings.IndexByte(item, '`')
			end := skipQuoted(item, at)
			rest := item[end:]
			open, shut := strings.IndexByte(rest, '('), strings.LastIndexByte(rest, ')')
			if open < 0 || shut < open || strings.ContainsAny(outsideNames(rest[open+1:shut]), "(") {
				notes = append(notes, "it lacks the key "+item)
				continue
			}
			keys = append(keys, plainKey{unquote(item[at:end]), unique, names(rest)})
		case strings.HasPrefix(item, "PRIMARY KEY"):
		default:
			notes = append(notes, "it lacks "+item)
		}
	}
	return defaults, keys, notes
}

// outsideNames returns s without what is in quotes.
func outsideNames(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '`' {
			i = skipQuoted(s, i) - 1
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// defaultOf finds the literal behind DEFAULT in a column's definition; NULL is none.
func defaultOf(s string) (text string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'' || s[i] == '"' || s[i] == '`':
			i = skipQuoted(s, i) - 1
		case strings.HasPrefix(s[i:], " DEFAULT "):
			text = s[i+len(" DEFAULT "):]
			if text[0] == '\'' {
				text = text[:skipQuoted(text, 0)]
			} else {
				text, _, _ = strings.Cut(text, " ")
			}
			return text, text != "NULL"
		}
	}
	return "", false
}

// literal returns a default of the source's as one of the target's.
func (c *core) literal(col *dfs.Column, text string) (string, error) {
	plain := text
	switch {
	case strings.HasPrefix(text, "'"):
		plain = unescape(text)
	case strings.Trim(text, "-+.0123456789eE") != "":
		return "", fmt.Errorf("%s is no literal", text)
	}
	return c.plainLiteral(col, plain)
}

// plainLiteral returns what a text stands for in a column of the source as a literal of
// the target's.
func (c *core) plainLiteral(col *dfs.Column, plain string) (string, error) {
	utf := *col
	if utf.Charset != "" {
		utf.Charset = "utf8mb4" // as the statement is
	}
	v, err := convert.To(dfs.StringValue(plain), &utf)
	if err != nil {
		return "", err
	}
	return c.db.literal(&utf, v)
}

// unescape returns what a quoted string of SHOW CREATE TABLE stands for.
func unescape(s string) string {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "'"), "'")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+1 < len(s) && (s[i] == '\\' || s[i] == '\'' && s[i+1] == '\'') {
			i++
			if at := strings.IndexByte("0nrtZ", s[i]); at >= 0 && s[i-1] == '\\' {
				b.WriteByte("\x00\n\r\t\x1a"[at])
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
