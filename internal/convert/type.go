// Package convert turns values of one column type into those of another, and
// tells beforehand where something may be lost.
package convert

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A Type is a column type taken apart: "decimal(10,2) unsigned" has the Name
// "decimal", the Args 10 and 2, and is Unsigned.
type Type struct {
	Name     string
	Args     []int
	Unsigned bool
}

// Parse takes a type apart. It is an error if no server of ours has the type.
func Parse(text string) (Type, error) {
	var t Type
	name, rest, paren := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "(")
	if paren {
		args, after, closed := strings.Cut(rest, ")")
		if !closed {
			return t, fmt.Errorf("the type %q lacks its closing parenthesis", text)
		}
		for _, a := range strings.Split(args, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(a))
			if err != nil || n < 0 {
				return t, fmt.Errorf("the type %q has the argument %q, which is no number", text, a)
			}
			t.Args = append(t.Args, n)
		}
		rest = after
	} else {
		name, rest, _ = strings.Cut(name, " ")
	}
	t.Name = strings.TrimSpace(name)
	switch t.Name {
	case "integer":
		t.Name = "int"
	case "bool", "boolean":
		t.Name, t.Args = "tinyint", []int{1}
	case "numeric", "dec":
		t.Name = "decimal"
	case "real":
		t.Name = "double"
	}
	for _, word := range strings.Fields(rest) {
		switch word {
		case "unsigned":
			t.Unsigned = true
		case "zerofill":
		case "precision": // "double precision"
		default:
			return t, fmt.Errorf("the type %q has the word %q, which is not part of a type here", text, word)
		}
	}
	if t.Kind() == dfs.Null {
		return t, fmt.Errorf("the type %q is not known; use one such as bigint, decimal(10,2), varchar(40), datetime(6) or json", text)
	}
	if t.Name == "varchar" && len(t.Args) != 1 || t.Name == "varbinary" && len(t.Args) != 1 {
		return t, fmt.Errorf("the type %q needs its length, such as %s(40)", text, t.Name)
	}
	return t, nil
}

// Kind returns the kind of values of the type, or Null if the type is unknown.
func (t Type) Kind() dfs.Kind {
	switch t.Name {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		if t.Unsigned {
			return dfs.Uint64
		}
		return dfs.Int64
	case "year", "bit", "enum", "set":
		return dfs.Uint64
	case "float":
		return dfs.Float32
	case "double":
		return dfs.Float64
	case "decimal":
		return dfs.Decimal
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "uuid", "inet4", "inet6":
		return dfs.String
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return dfs.Bytes
	case "json":
		return dfs.JSON
	case "date":
		return dfs.Date
	case "time":
		return dfs.Time
	case "datetime":
		return dfs.DateTime
	case "timestamp":
		return dfs.Timestamp
	}
	return dfs.Null
}

// KindOf returns the kind of the values of a column, or Null if its type is
// unknown. MariaDB's UUID and INET types travel as bytes or text.
func KindOf(c *dfs.Column) dfs.Kind {
	t, err := Parse(TypeText(c))
	if err != nil {
		return dfs.Null
	}
	return t.Kind()
}

// TypeText returns the column's type without the members that some servers put
// into that of an ENUM or SET.
func TypeText(c *dfs.Column) string {
	for _, name := range [2]string{"enum", "set"} {
		if strings.HasPrefix(c.Type, name+"(") {
			return name
		}
	}
	return c.Type
}

// arg returns argument i, or def if the type does not have it.
func (t Type) arg(i, def int) int {
	if i < len(t.Args) {
		return t.Args[i]
	}
	return def
}

// Decimal returns how many digits a DECIMAL has, in all and after the point; 0 and
// 0 for another type.
func (t Type) Decimal() (precision, scale int) {
	if t.Name != "decimal" {
		return 0, 0
	}
	return t.decimal()
}

// decimal returns the precision and scale of a DECIMAL.
func (t Type) decimal() (precision, scale int) { return t.arg(0, 10), t.arg(1, 0) }

// bits returns the size of an integer type.
func (t Type) bits() int {
	switch t.Name {
	case "tinyint":
		return 8
	case "smallint":
		return 16
	case "mediumint":
		return 24
	case "int":
		return 32
	case "bit":
		return t.arg(0, 1)
	case "year":
		return 16
	}
	return 64
}

// maxLen returns how many characters or bytes a text or binary type holds, and
// whether they are bytes; 0 if it is not limited by us.
func (t Type) maxLen() (n int, bytes bool) {
	switch t.Name {
	case "char", "varchar":
		return t.arg(0, 1), false
	case "binary", "varbinary":
		return t.arg(0, 1), true
	case "tinytext", "tinyblob":
		return 255, true
	case "text", "blob":
		return 65535, true
	case "mediumtext", "mediumblob":
		return 1<<24 - 1, true
	}
	return 0, false
}

// Fits reports whether every value of an integer type fits a Go integer of so
// many bits.
func (t Type) Fits(bits int, unsigned bool) bool {
	if k := t.Kind(); k != dfs.Int64 && k != dfs.Uint64 {
		return false
	}
	switch {
	case t.Kind() == dfs.Int64:
		return !unsigned && t.bits() <= bits
	case unsigned:
		return t.bits() <= bits
	}
	return t.bits() < bits
}
