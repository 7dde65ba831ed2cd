package sink

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// loadTable reads what the file says of a table.
func (l *liteBackend) loadTable(ctx context.Context, schema, name string) (*table, error) {
	t := &table{schema: schema, name: name}
	if err := l.claimName(schema, name); err != nil {
		return nil, err
	}
	rows, err := l.query(ctx, "SELECT type, wr FROM pragma_table_list WHERE schema='main' AND name=?1 COLLATE NOCASE", name)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the file has no table %s: create it, or have CreateTables do so (create_tables in the file), or route the source's table elsewhere", quoteName(name))
	}
	if rows[0][0].text != "table" {
		return nil, fmt.Errorf("%s of the file is no table but a %s: route the source's table elsewhere", quoteName(name), rows[0][0].text)
	}
	withoutRowid := rows[0][1].text == "1"
	made, err := l.query(ctx, "SELECT sql FROM sqlite_schema WHERE type='table' AND name=?1 COLLATE NOCASE", name)
	if err != nil {
		return nil, err
	}
	if m := onConflict.FindString(outsideLite(made[0][0].text)); m != "" {
		return nil, fmt.Errorf("the file's table %s has a constraint with %s, by which SQLite drops rows in silence, or ends the transaction: make the table without it", quoteName(name), m)
	}
	if rows, err = l.query(ctx, `SELECT name, type, "notnull", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1)`, name); err != nil {
		return nil, err
	}
	key := make(map[int]int)
	integer := false
	for i, r := range rows {
		c := targetColumn{name: r[0].text, typ: strings.ToUpper(r[1].text), nullable: r[2].text != "1", generated: r[5].text == "2" || r[5].text == "3"}
		c.optional = c.nullable || r[3].text == "1"
		c.base = affinity(c.typ)
		if k := int(r[4].uint()); k > 0 {
			key[k] = i
			integer = c.typ == "INTEGER"
		}
		t.columns = append(t.columns, c)
	}
	for k := 1; k <= len(key); k++ {
		t.primary = append(t.primary, key[k])
	}
	if len(key) == 1 && integer && !withoutRowid {
		t.columns[key[1]].base = "ROWID"
		t.columns[key[1]].optional = true
	}
	if !withoutRowid {
		for _, id := range []string{"rowid", "_rowid_", "oid"} {
			if t.rowid == "" && t.column(id) < 0 {
				t.rowid = id
			}
		}
	}
	rows, err = l.query(ctx, "SELECT l.name, x.cid, l.partial FROM pragma_index_list(?1) l JOIN pragma_index_xinfo(l.name) x "+
		`WHERE l."unique"=1 AND l.origin<>'pk' AND x.key=1 ORDER BY l.seq, x.seqno`, name)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(rows); {
		ix := index{name: rows[i][0].text, nullable: rows[i][2].text == "1"}
		for ; i < len(rows) && rows[i][0].text == ix.name; i++ {
			cid, err := strconv.Atoi(rows[i][1].text)
			if err != nil || cid < 0 {
				ix.opaque = true
				continue
			}
			ix.columns = append(ix.columns, cid)
			ix.nullable = ix.nullable || t.columns[cid].nullable
		}
		t.uniques = append(t.uniques, ix)
	}
	rows, err = l.query(ctx, `SELECT f."table", 0 FROM pragma_foreign_key_list(?1) f UNION ALL `+
		`SELECT m.name, 1 FROM sqlite_schema m JOIN pragma_foreign_key_list(m.name) f WHERE m.type='table' AND f."table"=?1 COLLATE NOCASE`, name)
	for _, r := range rows {
		fk := foreignKey{other: l.tableKey("", r[0].text)}
		if r[1].text == "0" {
			t.parents = append(t.parents, fk)
		} else {
			t.children = append(t.children, fk)
		}
	}
	return t, err
}

// onConflict finds what lets a constraint do something else than to refuse a row.
var onConflict = regexp.MustCompile(`(?i)\bON\s+CONFLICT\s+(REPLACE|IGNORE|FAIL|ROLLBACK)\b`)

// claimName makes sure that a name of the file stands for one table of the routes.
func (l *liteBackend) claimName(schema, name string) error {
	full, key := schema+"."+name, l.tableKey(schema, name)
	if other, ok := l.names[key]; ok && other != full {
		return oneTable(other, full)
	}
	if strings.HasPrefix(key, "sqlite_") || name == "" {
		return fmt.Errorf("SQLite keeps names like %q to itself: route the table to another", name)
	}
	l.names[key] = full
	return nil
}

// oneTable says that two tables of the source would get their rows mixed in silence.
func oneTable(a, b string) error {
	return nameError(fmt.Sprintf("%s and %s are one table of the file, which has no schemas, and for whose names case does not count: "+
		"route one of them to a table of another name, or both to one if their rows are to come together", a, b))
}

// A nameError says that a table cannot have the name that it would get.
type nameError string

func (e nameError) Error() string { return string(e) }

// affinity is what SQLite makes of a declared type (datatype3.html, 3.1).
func affinity(typ string) string {
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(typ, w) })
	}
	switch {
	case has("INT"):
		return "INTEGER"
	case has("CHAR", "CLOB", "TEXT"):
		return "TEXT"
	case has("BLOB") || typ == "":
		return "BLOB"
	case has("REAL", "FLOA", "DOUB"):
		return "REAL"
	}
	return "NUMERIC"
}

// mapColumn finds out how values of column i become those of the file's column.
func (l *liteBackend) mapColumn(m *mapping, i int, tc *targetColumn) (note string, err error) {
	sc := &m.src.Columns[i]
	from, err := convert.Parse(convert.TypeText(sc))
	if err != nil {
		return "", err
	}
	kind := from.Kind()
	numeric := tc.base == "INTEGER" || tc.base == "NUMERIC" || tc.base == "REAL" || tc.base == "ROWID"
	unfit := func(v dfs.Value, why string) error { return &UnfitError{sc.Name, show(v), why} }
	text := func(v dfs.Value) (any, error) { return v.String(), nil }
	bind := text
	m.exact[i] = true
	switch {
	case tc.base == "ROWID" && kind != dfs.Int64 && kind != dfs.Uint64:
		return "", fmt.Errorf("an INTEGER PRIMARY KEY takes nothing else: make the column %s", quoteName(liteType(sc, from)))
	case len(sc.Members) > 0 && !numeric:
		bind = func(v dfs.Value) (any, error) {
			if v.Kind() == dfs.String {
				return v.Text(), nil
			}
			return convert.Member(v.Uint(), sc.Members, from.Name == "set"), nil
		}
	case (len(sc.Members) > 0 || kind == dfs.String) && numeric:
		return "", fmt.Errorf("SQLite would make numbers of texts that look like some: make the column TEXT")
	case kind == dfs.JSON && numeric: // as of a column that is declared JSON
		bind = func(v dfs.Value) (any, error) {
			if s := v.Text(); s != "" && (s[0] == '-' || s[0] >= '0' && s[0] <= '9') {
				return nil, unfit(v, "SQLite would make a number of this document, and lose digits: make the column TEXT")
			}
			return v.Text(), nil
		}
	case kind == dfs.Int64 || kind == dfs.Uint64:
		if tc.base == "REAL" && !from.Fits(53, false) {
			note, m.exact[i] = "numbers lose digits in a "+tc.typ, false
		}
		bind = func(v dfs.Value) (any, error) {
			switch {
			case v.Kind() == dfs.Int64 || v.Uint() <= math.MaxInt64:
				return v.Int(), nil
			case numeric:
				return nil, unfit(v, "an integer of SQLite ends at 9223372036854775807: make the column one without a type, which takes the digits as text")
			}
			return v.String(), nil
		}
	case kind == dfs.Float32 || kind == dfs.Float64:
		if tc.base == "TEXT" {
			return "", fmt.Errorf("SQLite would keep 15 digits of it as text: make the column REAL")
		}
		m.exact[i] = false // 0 and -0
		bind = func(v dfs.Value) (any, error) { return v.Float(), nil }
	case kind == dfs.Decimal:
		if numeric {
			note, m.exact[i] = "numbers lose digits in a "+tc.typ, false
		}
	case kind == dfs.String:
		bind = l.text(sc)
	}
	m.bind[i] = func(v dfs.Value) (any, error) {
		if v.Kind() == dfs.Bytes { // also of MariaDB's UUID, INET4 and INET6
			return append([]byte{}, v.Text()...), nil
		}
		return bind(v)
	}
	return note, nil
}

// text returns what makes UTF-8 of a column's text. What is UTF-8 by its name goes as
// it is, as SQLite looks into no text.
func (l *liteBackend) text(sc *dfs.Column) func(v dfs.Value) (any, error) {
	if convert.IsUTF8(sc.Charset) {
		return func(v dfs.Value) (any, error) { return v.Text(), nil }
	}
	return func(v dfs.Value) (any, error) {
		s, ok := toUTF8(sc.Charset, v.Text())
		if !ok && l.unfit.InvalidText != UnfitReplace {
			return nil, &UnfitError{sc.Name, show(v), "it is no text in the character set " + sc.Charset + ": let it become U+FFFD by the policy replace for invalid text"}
		}
		return s, nil
	}
}

func (l *liteBackend) arg(m *mapping, i int, v dfs.Value) (any, error) {
	if v.IsNull() {
		return nil, nil
	}
	return m.bind[i](v)
}

// liteType returns the type that a column of the source gets in a file. One without
// a type keeps what it is given; the mapping is documented in docs/TYPES.md.
func liteType(c *dfs.Column, t convert.Type) string {
	switch kind := t.Kind(); {
	case len(c.Members) > 0:
		return "TEXT"
	case t.Name == "bigint" && t.Unsigned, t.Name == "bit":
		return ""
	case kind == dfs.Int64, kind == dfs.Uint64:
		return "INTEGER"
	case kind == dfs.Float32, kind == dfs.Float64:
		return "REAL"
	case kind == dfs.Bytes, t.Name == "uuid", t.Name == "inet4", t.Name == "inet6":
		return "BLOB"
	}
	return "TEXT"
}
