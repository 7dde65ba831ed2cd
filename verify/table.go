package verify

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/coltype"
)

// A table is what one side says of one of its tables.
type table struct {
	schema, name string
	engine       string
	columns      []column
	keys         []index // primary key first, then the other indexes
}

// A column is a column of a table.
type column struct {
	name       string
	typ        string // as information_schema has it, in lower case but for members
	base       string // "varchar"
	args       []int  // of "decimal(10,2)"
	unsigned   bool
	zerofill   bool
	charset    string
	collation  string
	members    []string // of an ENUM or SET
	nullable   bool
	generated  bool
	versioning bool // MariaDB's ROW START and ROW END, which each server sets by itself
}

// An index is a key of a table.
type index struct {
	name    string
	columns []int
	unique  bool
	whole   bool // over whole columns, none of which may be NULL, and no expressions
}

func (t *table) String() string { return t.schema + "." + t.name }
func (t *table) ident() string  { return ident(t.schema) + "." + ident(t.name) }

func (t *table) column(name string) int {
	return slices.IndexFunc(t.columns, func(c column) bool { return strings.EqualFold(c.name, name) })
}

// key returns the columns that find a row: the primary key's, else those of a
// unique key over whole columns without NULL. It is nil if there is none.
func (t *table) key() []int {
	for _, k := range t.keys {
		if k.unique && k.whole {
			return k.columns
		}
	}
	return nil
}

// indexOver returns the name of an index that orders rows by the columns, in
// that order. It is empty if there is none.
func (t *table) indexOver(columns []int) string {
	for _, k := range t.keys {
		if k.whole && len(k.columns) >= len(columns) && slices.Equal(k.columns[:len(columns)], columns) {
			return k.name
		}
	}
	return ""
}

// describe reads a table, or returns nil if it is not there.
func (s *side) describe(ctx context.Context, schema, name string) (*table, error) {
	where := " WHERE table_schema=" + quote(schema) + " AND table_name=" + quote(name)
	rows, err := query(ctx, s.db, "SELECT table_schema, table_name, engine FROM information_schema.tables"+where+
		" AND table_type IN ('BASE TABLE','SYSTEM VERSIONED')")
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	t := &table{schema: rows[0][0].text, name: rows[0][1].text, engine: strings.ToLower(rows[0][2].text)}
	rows, err = query(ctx, s.db, "SELECT column_name, column_type, is_nullable, character_set_name, collation_name, extra "+
		"FROM information_schema.columns"+where+" ORDER BY ordinal_position")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		extra := strings.ToUpper(r[5].text)
		c := newColumn(r[0].text, r[1].text)
		c.nullable, c.charset, c.collation = r[2].text == "YES", r[3].text, r[4].text
		c.generated = strings.Contains(extra, "VIRTUAL") || strings.Contains(extra, "STORED GENERATED") || strings.Contains(extra, "PERSISTENT")
		c.versioning = strings.Contains(strings.ToUpper(r[1].text), "GENERATED ALWAYS AS ROW") || strings.Contains(extra, "GENERATED ALWAYS AS ROW")
		t.columns = append(t.columns, c)
	}
	rows, err = query(ctx, s.db, "SELECT index_name, non_unique, column_name, sub_part, nullable FROM information_schema.statistics"+where+
		" AND index_type='BTREE' ORDER BY index_name<>'PRIMARY', non_unique, index_name, seq_in_index")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if n := len(t.keys); n == 0 || t.keys[n-1].name != r[0].text {
			t.keys = append(t.keys, index{name: r[0].text, unique: r[1].text == "0", whole: true})
		}
		k := &t.keys[len(t.keys)-1]
		i := t.column(r[2].text)
		if i < 0 || !r[3].null || r[4].text == "YES" {
			k.whole = false
			continue
		}
		k.columns = append(k.columns, i)
	}
	return t, nil
}

// newColumn takes a column type apart.
func newColumn(name, typ string) column {
	c := column{name: name, members: coltype.Members(typ)}
	// MariaDB puts comments such as /* mariadb-5.3 */ behind old temporal types.
	if i := strings.Index(typ, " /*"); i >= 0 && c.members == nil {
		typ = typ[:i]
	}
	c.typ = typ
	if c.members == nil {
		c.typ = strings.ToLower(typ)
	}
	head, rest, args := strings.Cut(c.typ, "(")
	if args && c.members == nil {
		inside, after, _ := strings.Cut(rest, ")")
		for a := range strings.SplitSeq(inside, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(a)); err == nil {
				c.args = append(c.args, n)
			}
		}
		head += after
	}
	words := strings.Fields(strings.ToLower(head))
	if len(words) > 0 {
		c.base = words[0]
	}
	c.unsigned, c.zerofill = slices.Contains(words, "unsigned"), slices.Contains(words, "zerofill")
	return c
}

// arg returns an argument of the type, or def if it has not so many.
func (c *column) arg(i, def int) int {
	if i < len(c.args) {
		return c.args[i]
	}
	return def
}

// dfs returns the column as package cdc would show it to stages.
func (c *column) dfs() dfs.Column {
	d := dfs.Column{Name: c.name, Type: c.typ, Charset: c.charset, Collation: c.collation, Members: c.members, Nullable: c.nullable}
	switch {
	case c.members != nil:
		d.Type, d.Charset, d.Collation = c.base, "", ""
	case c.class() == classInt, c.base == "year":
		d.Type = c.base
		if c.unsigned {
			d.Type += " unsigned"
		}
	default:
		d.Type = strings.ReplaceAll(c.typ, " zerofill", "")
	}
	return d
}

// dfs returns the table as package cdc would show it to stages.
func (t *table) dfs() *dfs.Table {
	d := &dfs.Table{Schema: t.schema, Name: t.name}
	for i := range t.columns {
		d.Columns = append(d.Columns, t.columns[i].dfs())
	}
	if len(t.keys) > 0 && t.keys[0].name == "PRIMARY" {
		d.Key = t.keys[0].columns
	}
	return d
}

// list returns the names of the tables that have rows of their own.
func (s *side) list(ctx context.Context) ([][2]string, error) {
	rows, err := query(ctx, s.db, "SELECT table_schema, table_name FROM information_schema.tables "+
		"WHERE table_type IN ('BASE TABLE','SYSTEM VERSIONED') ORDER BY 1, 2")
	if err != nil {
		return nil, fmt.Errorf("list the tables of the %s: %w", s.name, err)
	}
	var names [][2]string
	for _, r := range rows {
		names = append(names, [2]string{r[0].text, r[1].text})
	}
	return names, nil
}
