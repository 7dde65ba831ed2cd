package same

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// table is what one side says of a table.
type table struct {
	columns []column
	key     []int // the primary key's columns
	created string
}

type column struct {
	name string
	kind string // the type's first word, in lower case
}

// autoIncrement is the counter, which says nothing of the rows.
var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

// describe reads how a table is made. Its name is quoted.
//
// SHOW COLUMNS leaves out no column that SELECT * leaves out, such as one that
// is INVISIBLE; but MySQL leaves out generated invisible primary keys where
// show_gipk_in_create_table_and_information_schema is off.
func describe(ctx context.Context, conn *sql.Conn, name string) (*table, error) {
	t := new(table)
	rows, err := query(ctx, conn, "SHOW COLUMNS FROM "+name)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		kind := strings.ToLower(r[1].String)
		if i := strings.IndexAny(kind, "( "); i >= 0 {
			kind = kind[:i]
		}
		t.columns = append(t.columns, column{r[0].String, kind})
	}
	rows, err = query(ctx, conn, "SHOW INDEX FROM "+name+" WHERE Key_name='PRIMARY'")
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		for i := range t.columns {
			if t.columns[i].name == r[4].String {
				t.key = append(t.key, i)
			}
		}
	}
	rows, err = query(ctx, conn, "SHOW CREATE TABLE "+name)
	if err != nil {
		return nil, err
	}
	_, body, _ := strings.Cut(rows[0][1].String, "(")
	t.created = autoIncrement.ReplaceAllString(body, "")
	return t, nil
}

func (t *table) names() []string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return names
}

// selects returns the query of all rows, each column by its expression.
func (t *table) selects(name string) string {
	var list []string
	for _, c := range t.columns {
		list = append(list, c.expr())
	}
	return "SELECT " + strings.Join(list, ",") + " FROM " + name
}

// expr returns the expression by which the column is compared: one that differs
// whenever the value does.
func (c column) expr() string {
	name := ident(c.name)
	switch c.kind {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext",
		"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return "HEX(" + name + ")"
	case "enum", "set":
		// A member may be the empty string, which is also what 0 reads as.
		return "CONCAT(CAST(" + name + " AS UNSIGNED),':',HEX(" + name + "))"
	case "bit":
		return name + "+0"
	case "float", "double":
		// A FLOAT prints six digits of its seven to nine, but not as a DOUBLE;
		// and a product keeps the sign of zero.
		return name + "*1e0"
	case "json":
		return "HEX(CAST(" + name + " AS CHAR CHARACTER SET utf8mb4))"
	}
	return name
}

// describe shows the given columns of a row, or all of them if there are none.
func (t *table) describe(row []sql.NullString, cols []int) string {
	var parts []string
	for i := range t.columns {
		if cols == nil {
			parts = append(parts, fmt.Sprintf("%s=%.60s", t.columns[i].name, text(row[i])))
		}
	}
	for _, i := range cols {
		parts = append(parts, fmt.Sprintf("%s=%.60s", t.columns[i].name, text(row[i])))
	}
	return strings.Join(parts, ", ")
}

// plainJSON replaces the hexadecimal JSON text in column i by one form of it:
// members in order of their names, numbers as the DOUBLE that they are. lax text
// that is not JSON stays as it is.
func plainJSON(rows [][]sql.NullString, i int, lax bool) {
	for _, r := range rows {
		if !r[i].Valid {
			continue
		}
		b := make([]byte, len(r[i].String)/2)
		for k := range b {
			n, _ := strconv.ParseUint(r[i].String[2*k:2*k+2], 16, 8)
			b[k] = byte(n)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			if !lax {
				r[i].String = "not JSON: " + string(b)
			}
			continue
		}
		plain, err := json.Marshal(v)
		if err != nil {
			continue
		}
		r[i].String = string(plain)
	}
}
