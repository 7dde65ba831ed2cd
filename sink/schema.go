package sink

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/coltype"
)

// table is what the target says of one of its tables.
type table struct {
	schema, name string
	key          string // "schema.name", in lower case if the server folds names
	engine       string
	columns      []targetColumn
	primary      []int   // the primary key's columns; nil if there is none
	uniques      []index // the other unique keys

	parents  []foreignKey // what its rows refer to
	children []foreignKey // what refers to its rows

	// inPlace says that changes of this table do more on the target than the
	// row they name, by a trigger. So nothing may move across them.
	inPlace bool
	checked bool // it has CHECK constraints

	indexed []bool // by column: it is part of an index
	created string // SHOW CREATE TABLE, to notice when the table is altered
	selfRef bool   // a foreign key refers to the table itself
	deep    bool   // a delete would be carried out in part: see loadDepth

	// madeRefs says that a foreign key, on either side, has a column which the
	// server fills in. So any update may change it.
	madeRefs bool

	stale bool // rows of the source do not fit, and people will mend that: it is to be read anew

	number uint64    // in hashes of keys, for turns.go
	run    *tableRun // what the present run did to the table, for merge.go

	// Of PostgreSQL.
	overriding  string // what an INSERT says so that it may write identity columns
	partitioned bool
	userTrigger string // a trigger that does not run where foreign keys are off; empty if none

	rowid string // of SQLite: what its rowid is called; empty if it has none
}

type targetColumn struct {
	name               string
	typ                string // "bigint(20) unsigned", in lower case
	charset, collation string
	nullable           bool
	generated          bool
	optional           bool     // an INSERT may leave it out
	onUpdate           bool     // ON UPDATE CURRENT_TIMESTAMP
	implicit           string   // what an INSERT writes that has no value for it; empty to leave it out
	octets             int      // the most bytes of text
	members            []string // of an ENUM or SET

	base      string // of PostgreSQL: the name of the type, of an array "_" and that, of a domain that of what it is made of
	collates  bool   // of PostgreSQL: texts of different bytes may be equal
	precision int    // of PostgreSQL: characters, digits or digits after the second; -1 if there is no bound
	scale     int    // of PostgreSQL: of numeric
}

type index struct {
	name     string
	columns  []int
	prefixes bool // over a part of a column only
	parts    []int
	nullable bool // one of its columns is
	opaque   bool // over an expression
}

// foreignKey is one foreign key, seen from either side.
type foreignKey struct {
	other   string // key of the table on the other side
	columns []int  // this side's columns
	acts    bool   // ON DELETE or ON UPDATE does more than to refuse
	run     *tableRun
}

func (t *table) column(name string) int {
	for i := range t.columns {
		if t.columns[i].name == name { // PostgreSQL may have two that differ in case
			return i
		}
	}
	for i := range t.columns {
		if strings.EqualFold(t.columns[i].name, name) {
			return i
		}
	}
	return -1
}

func (s *session) tableKey(schema, name string) string {
	key := schema + "." + name
	if s.srv.lowerNames {
		key = strings.ToLower(key)
	}
	return key
}

// loadTable reads what information_schema says of a table. It shows only what
// the account may see: a foreign key of a table that it has no privilege on
// stays unknown.
func (s *session) loadTable(ctx context.Context, schema, name string) (*table, error) {
	where := func(prefix string) string {
		b := []byte(prefix + "TABLE_SCHEMA=")
		b = append(appendQuoted(b, schema), " AND "+prefix+"TABLE_NAME="...)
		return string(appendQuoted(b, name))
	}
	t := &table{schema: schema, name: name, key: s.tableKey(schema, name)}

	rows, err := s.query(ctx, "SELECT t.TABLE_TYPE, t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t "+
		"LEFT JOIN information_schema.ENGINES e ON e.ENGINE=t.ENGINE WHERE "+where("t."))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the target has no table %s.%s, or the account may not see it: "+
			"create it (as create_tables does in a file, or CreateTables), grant SELECT, INSERT, UPDATE, DELETE on it, or route the source's table elsewhere", schema, name)
	}
	if rows[0][0].text != "BASE TABLE" {
		return nil, fmt.Errorf("the target's %s.%s is no table but a %s: route the source's table elsewhere",
			schema, name, strings.ToLower(rows[0][0].text))
	}
	t.engine = rows[0][1].text
	if rows[0][2].text != "YES" {
		return nil, fmt.Errorf("the target's table %s.%s has the engine %s, which has no transactions, so that nothing "+
			"could be applied exactly once: ALTER TABLE `%s`.`%s` ENGINE=InnoDB", schema, name, t.engine, schema, name)
	}
	// Before the rest is read: if the table is altered meanwhile, it shows.
	if s.srv.sqlOnly == "" {
		if t.created, err = s.showCreate(ctx, t); err != nil {
			return nil, err
		}
	}
	if err := s.loadColumns(ctx, t, where("")); err != nil {
		return nil, err
	}
	if err := s.loadKeys(ctx, t, where("")); err != nil {
		return nil, err
	}
	if err := s.loadForeignKeys(ctx, t); err != nil {
		return nil, err
	}
	b := appendQuoted([]byte("SELECT 1 FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA="), schema)
	b = appendQuoted(append(b, " AND EVENT_OBJECT_TABLE="...), name)
	rows, err = s.query(ctx, string(b)+" LIMIT 1")
	t.inPlace = len(rows) > 0
	if err != nil {
		return nil, err
	}
	rows, err = s.query(ctx, "SELECT 1 FROM information_schema.TABLE_CONSTRAINTS WHERE CONSTRAINT_TYPE='CHECK' AND "+where("")+" LIMIT 1")
	t.checked = len(rows) > 0
	if err != nil {
		return nil, err
	}
	rows, err = s.query(ctx, "SELECT DISTINCT COLUMN_NAME FROM information_schema.STATISTICS WHERE COLUMN_NAME IS NOT NULL AND "+where(""))
	t.indexed = make([]bool, len(t.columns))
	for _, r := range rows {
		if i := t.column(r[0].text); i >= 0 {
			t.indexed[i] = true
		}
	}
	return t, err
}

func (s *session) loadColumns(ctx context.Context, t *table, where string) error {
	rows, err := s.query(ctx, "SELECT COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, "+
		"COLUMN_DEFAULT IS NOT NULL, EXTRA, CHARACTER_OCTET_LENGTH FROM information_schema.COLUMNS WHERE "+where+" ORDER BY ORDINAL_POSITION")
	if err != nil {
		return err
	}
	for _, r := range rows {
		// EXTRA is "VIRTUAL GENERATED", "STORED GENERATED", in MariaDB before
		// 10.2 "PERSISTENT". "DEFAULT_GENERATED" is but a default.
		extra := strings.ToUpper(r[6].text)
		c := targetColumn{
			name: r[0].text, typ: lowerType(r[1].text), charset: r[2].text, collation: r[3].text,
			nullable: r[4].text == "YES",
			generated: strings.Contains(extra, "VIRTUAL") || strings.Contains(extra, "STORED GENERATED") ||
				strings.Contains(extra, "PERSISTENT"),
			onUpdate: strings.Contains(extra, "ON UPDATE"),
			octets:   int(r[7].uint()),
			members:  coltype.Members(r[1].text),
		}
		c.optional = c.nullable || r[5].text == "1" || strings.Contains(extra, "AUTO_INCREMENT") ||
			strings.Contains(extra, "DEFAULT_GENERATED")
		if !c.optional && !c.generated {
			c.implicit = implicitDefault(c.typ)
		}
		t.columns = append(t.columns, c)
	}
	return nil
}

// implicitDefault returns the literal of what a column gets that is NOT NULL,
// has no default and no value: what a server writes where sql_mode is not strict,
// and what a replica writes always. It is empty for types that have no such value.
func implicitDefault(typ string) string {
	base, _, _ := strings.Cut(typ, "(")
	base, _, _ = strings.Cut(base, " ")
	switch base {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double", "bit", "year":
		return "0"
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext",
		"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "set":
		return "''"
	case "enum":
		return "1" // the first of its members
	case "date":
		return "'0000-00-00'"
	case "time":
		return "'00:00:00'"
	case "datetime", "timestamp":
		return "'0000-00-00 00:00:00'"
	case "json":
		return "'null'"
	case "uuid":
		return "'00000000-0000-0000-0000-000000000000'"
	case "inet6":
		return "'::'"
	case "inet4":
		return "'0.0.0.0'"
	}
	return ""
}

func (s *session) loadKeys(ctx context.Context, t *table, where string) error {
	rows, err := s.query(ctx, "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS "+
		"WHERE NON_UNIQUE=0 AND "+where+" ORDER BY INDEX_NAME, SEQ_IN_INDEX")
	if err != nil {
		return err
	}
	for i := 0; i < len(rows); {
		name := rows[i][0].text
		ix := index{name: name}
		for ; i < len(rows) && rows[i][0].text == name; i++ {
			at := -1
			if !rows[i][1].null {
				at = t.column(rows[i][1].text)
			}
			if at < 0 {
				ix.opaque = true
				continue
			}
			ix.columns = append(ix.columns, at)
			ix.prefixes = ix.prefixes || !rows[i][2].null
			ix.parts = append(ix.parts, int(rows[i][2].uint()))
			ix.nullable = ix.nullable || t.columns[at].nullable
		}
		if !ix.prefixes {
			ix.parts = nil
		}
		if name == "PRIMARY" && !ix.prefixes {
			t.primary = ix.columns
		} else {
			t.uniques = append(t.uniques, ix)
		}
	}
	return nil
}

func (s *session) loadForeignKeys(ctx context.Context, t *table) error {
	const from = "SELECT k.CONSTRAINT_SCHEMA, k.CONSTRAINT_NAME, k.%s, k.%s, k.%s, c.DELETE_RULE, c.UPDATE_RULE " +
		"FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS c " +
		"ON c.CONSTRAINT_SCHEMA=k.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME=k.CONSTRAINT_NAME AND c.TABLE_NAME=k.TABLE_NAME " +
		"WHERE k.%sTABLE_SCHEMA="
	const order = " ORDER BY k.CONSTRAINT_SCHEMA, k.CONSTRAINT_NAME, k.TABLE_SCHEMA, k.TABLE_NAME, k.ORDINAL_POSITION"
	load := func(sql string) ([]foreignKey, error) {
		rows, err := s.query(ctx, sql+order)
		if err != nil {
			return nil, err
		}
		return s.foreignKeys(t, rows), nil
	}
	build := func(table1, table2, col, side string) string {
		b := appendQuoted(fmt.Appendf(nil, from, table1, table2, col, side), t.schema)
		return string(appendQuoted(append(b, " AND k."+side+"TABLE_NAME="...), t.name))
	}
	var err error
	if t.parents, err = load(build("REFERENCED_TABLE_SCHEMA", "REFERENCED_TABLE_NAME", "COLUMN_NAME", "")); err != nil {
		return err
	}
	if t.children, err = load(build("TABLE_SCHEMA", "TABLE_NAME", "REFERENCED_COLUMN_NAME", "REFERENCED_")); err != nil {
		return err
	}
	for _, fk := range t.parents {
		t.selfRef = t.selfRef || fk.other == t.key
	}
	for _, fk := range slices.Concat(t.parents, t.children) {
		for _, i := range fk.columns {
			t.madeRefs = t.madeRefs || i < 0 || t.columns[i].generated || t.columns[i].onUpdate
		}
	}
	return s.loadDepth(ctx, t)
}

// foreignKeys makes foreign keys of the rows of their columns, in order. The
// name of one belongs to its schema on some servers, to its table on others.
func (s *session) foreignKeys(t *table, rows [][]cell) (keys []foreignKey) {
	for i := 0; i < len(rows); {
		first := rows[i]
		fk := foreignKey{other: s.tableKey(first[2].text, first[3].text)}
		for _, rule := range first[5:7] {
			fk.acts = fk.acts || rule.text != "RESTRICT" && rule.text != "NO ACTION"
		}
		for ; i < len(rows) && slices.Equal(rows[i][:4], first[:4]); i++ {
			fk.columns = append(fk.columns, t.column(rows[i][4].text))
		}
		keys = append(keys, fk)
	}
	return keys
}

// lowerType puts a type into lower case, but for the members of an ENUM or SET.
func lowerType(typ string) string {
	name, rest, found := strings.Cut(typ, "(")
	if name = strings.ToLower(name); !found {
		return name
	}
	if name != "enum" && name != "set" {
		rest = strings.ToLower(rest)
	}
	return name + "(" + rest
}

// showCreate returns the statement that would create the table, without what
// changes as rows come.
func (s *session) showCreate(ctx context.Context, t *table) (string, error) {
	rows, err := s.query(ctx, "SHOW CREATE TABLE "+string(t.ident()))
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return withoutCounter(rows[0][1].text), nil
}

// withoutCounter cuts the table's AUTO_INCREMENT out of what SHOW CREATE TABLE
// says.
func withoutCounter(text string) string {
	if i := strings.LastIndex(text, " AUTO_INCREMENT="); i > strings.LastIndex(text, "\n)") {
		rest := strings.TrimLeft(text[i+len(" AUTO_INCREMENT="):], "0123456789")
		text = text[:i] + rest
	}
	return text
}
