package ddl

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A typ is a type as it is written.
type typ struct {
	base          string // in lower case, without synonyms
	length, scale int    // what is in parentheses; -1 if absent
	unsigned      bool
	members       []string
}

// kindOfType groups the types.
type kindOfType uint8

const (
	plainKind   kindOfType = iota // the name is all there is
	intKind                       // its length says nothing
	decimalKind                   // two lengths, always shown
	floatKind                     // two lengths, shown if given
	charKind                      // characters, with a length that is shown
	textKind                      // characters, of which a length picks the type
	binaryKind                    // bytes, with a length that is shown
	blobKind                      // bytes, of which a length picks the type
	timeKind                      // digits after the second, shown if not 0
	memberKind                    // ENUM and SET
	bitKind                       // a length that is shown
)

// typesByName gives the type for each of its names that is one word, in upper
// case.
var typesByName = map[string]struct {
	base string
	kind kindOfType
}{
	"TINYINT": {"tinyint", intKind}, "INT1": {"tinyint", intKind}, "SMALLINT": {"smallint", intKind},
	"INT2": {"smallint", intKind}, "MEDIUMINT": {"mediumint", intKind}, "INT3": {"mediumint", intKind},
	"MIDDLEINT": {"mediumint", intKind}, "INT": {"int", intKind}, "INTEGER": {"int", intKind}, "INT4": {"int", intKind},
	"BIGINT": {"bigint", intKind}, "INT8": {"bigint", intKind}, "SERIAL": {"serial", plainKind},
	"BOOL": {"tinyint", plainKind}, "BOOLEAN": {"tinyint", plainKind},
	"DECIMAL": {"decimal", decimalKind}, "DEC": {"decimal", decimalKind}, "NUMERIC": {"decimal", decimalKind},
	"FIXED": {"decimal", decimalKind}, "FLOAT": {"float", floatKind}, "FLOAT4": {"float", floatKind},
	"FLOAT8": {"double", floatKind}, "DOUBLE": {"double", floatKind}, "REAL": {"real", floatKind},
	"BIT": {"bit", bitKind}, "CHAR": {"char", charKind}, "CHARACTER": {"char", charKind},
	"VARCHAR": {"varchar", charKind}, "VARCHARACTER": {"varchar", charKind}, "NCHAR": {"nchar", charKind},
	"NVARCHAR": {"nvarchar", charKind}, "BINARY": {"binary", binaryKind}, "VARBINARY": {"varbinary", binaryKind},
	"TINYTEXT": {"tinytext", charKind}, "TEXT": {"text", textKind}, "MEDIUMTEXT": {"mediumtext", charKind},
	"LONGTEXT": {"longtext", charKind}, "TINYBLOB": {"tinyblob", plainKind}, "BLOB": {"blob", blobKind},
	"MEDIUMBLOB": {"mediumblob", plainKind}, "LONGBLOB": {"longblob", plainKind},
	"DATE": {"date", plainKind}, "TIME": {"time", timeKind}, "DATETIME": {"datetime", timeKind},
	"TIMESTAMP": {"timestamp", timeKind}, "YEAR": {"year", intKind},
	"ENUM": {"enum", memberKind}, "SET": {"set", memberKind}, "JSON": {"json", plainKind},
	"GEOMETRY": {"geometry", plainKind}, "POINT": {"point", plainKind}, "LINESTRING": {"linestring", plainKind},
	"POLYGON": {"polygon", plainKind}, "MULTIPOINT": {"multipoint", plainKind},
	"MULTILINESTRING": {"multilinestring", plainKind}, "MULTIPOLYGON": {"multipolygon", plainKind},
	"GEOMETRYCOLLECTION": {"geomcollection", plainKind}, "GEOMCOLLECTION": {"geomcollection", plainKind},
	"VECTOR": {"vector", bitKind}, "UUID": {"uuid", plainKind}, "INET6": {"inet6", plainKind}, "INET4": {"inet4", plainKind},
}

// finish turns the definition into a column of a table with the given collation.
// It reports whether that is fully known.
func (c *columnDef) finish(d *dialect, table string) (dfs.Column, bool) {
	col := dfs.Column{Name: c.Name, Nullable: !c.notNull && !c.primary}
	t := typesByName[strings.ToUpper(c.base)]
	kind, base := t.kind, c.base
	switch base {
	case "serial":
		base, c.unsigned, col.Nullable = "bigint", true, false
	case "real":
		if base = "double"; d.realAsFloat {
			base = "float"
		}
	case "geomcollection":
		if d.MariaDB || d.Version != 0 && d.Version < 80000 {
			base = "geometrycollection"
		}
	case "json":
		if d.MariaDB {
			base, kind = "longtext", charKind
			c.charsetName = "utf8mb4"
			if c.collationName == "" {
				c.collationName = "utf8mb4_bin"
			}
		}
	case "timestamp":
		if d.implicitNotNull && !c.null {
			col.Nullable = false
		}
	case "nchar", "nvarchar":
		base = base[1:]
		c.charsetName = "utf8mb3"
	}
	switch kind {
	case plainKind, intKind:
	case floatKind:
		switch {
		case c.scale >= 0:
			base += "(" + strconv.Itoa(c.length) + "," + strconv.Itoa(c.scale) + ")"
		case c.length > 24 && base == "float" && c.base == "float":
			base = "double"
		}
	case decimalKind:
		if c.length <= 0 {
			c.length = 10
		}
		base += "(" + strconv.Itoa(c.length) + "," + strconv.Itoa(max(c.scale, 0)) + ")"
	case bitKind:
		if c.length < 0 {
			if c.length = 1; base == "vector" {
				c.length = 2048
			}
		}
		base += "(" + strconv.Itoa(c.length) + ")"
	case timeKind:
		if c.length > 0 {
			base += "(" + strconv.Itoa(c.length) + ")"
		}
	case memberKind:
		var in dfs.Column
		known := c.collate(d, &in, table)
		if in.Charset == "binary" && !allASCII(c.members) {
			return col, false
		}
		for _, m := range c.members {
			// "Trailing spaces are automatically deleted from ENUM member values"
			// (manual, 13.3.6), and so for SET, but those of bytes are kept (seen
			// on all servers).
			text := strings.TrimRight(m, " ")
			switch {
			case in.Charset == "binary":
				text = m
			case text != m && !known:
				return col, false
			}
			col.Members = append(col.Members, text)
		}
	case binaryKind:
		var ok bool
		if base, ok = bytesType(base, c.length); !ok {
			return col, false
		}
	case blobKind:
		if c.length > 0 {
			base = sized(c.length, "blob")
		}
	case charKind, textKind:
		if !c.collate(d, &col, table) {
			return col, false
		}
		var ok bool
		if base, ok = stringType(base, c.length, col.Charset); !ok {
			return col, false
		}
		if col.Charset == "binary" {
			col.Charset, col.Collation = "", ""
		}
	}
	if c.unsigned && (kind == intKind || kind == decimalKind || kind == floatKind || c.base == "serial") && base != "year" {
		base += " unsigned"
	}
	col.Type = base
	return col, true
}

// converts reports whether the column may come out of CONVERT TO CHARACTER SET as
// another than it is written: text does, and what is made of JSON, of which MySQL 9.7
// makes a LONGBLOB for LONG VARBINARY.
func (c columnDef) converts() bool {
	if strings.HasSuffix(strings.ToLower(c.base), "blob") {
		return true
	}
	switch typesByName[strings.ToUpper(c.base)].kind {
	case charKind, textKind, memberKind:
		return true
	}
	return c.base == "json"
}

func allASCII(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !ascii(s) })
}

// collate sets the character set and collation of a text column.
func (c *columnDef) collate(d *dialect, col *dfs.Column, table string) bool {
	charset := d.charset(c.charsetName)
	if charset == "default" || strings.EqualFold(c.collationName, "default") {
		return false
	}
	switch {
	case c.collationName != "":
		within := charset
		if within == "" {
			within = charsetOf(table)
		}
		col.Collation = d.collation(c.collationName, within)
		col.Charset = charsetOf(col.Collation)
	case charset != "":
		col.Charset, col.Collation = charset, d.defaultCollation(charset)
	default:
		col.Charset, col.Collation = charsetOf(table), table
	}
	if c.binary && col.Charset != "binary" {
		col.Collation = col.Charset + "_bin"
	}
	return col.Charset != "" && col.Collation != ""
}

// stringType returns the type of a text column: that of bytes if its character
// set is binary, and a TEXT if it is too long.
func stringType(base string, length int, charset string) (string, bool) {
	if charset == "binary" {
		switch base {
		case "char":
			return bytesType("binary", length)
		case "varchar":
			return bytesType("varbinary", length)
		case "text":
			if length > 0 {
				return sized(length, "blob"), true
			}
		}
		return strings.TrimSuffix(base, "text") + "blob", true
	}
	switch base {
	case "char":
		if length < 0 {
			length = 1
		}
		return "char(" + strconv.Itoa(length) + ")", length <= 255
	case "varchar":
		if length < 0 {
			return "", false
		}
		// Too long for a VARCHAR, it becomes a TEXT if the sql_mode is not strict,
		// and that depends on more than the length.
		return "varchar(" + strconv.Itoa(length) + ")", length*maxLen(charset) <= 65535
	case "text":
		if length > 0 {
			return sized(length*maxLen(charset), "text"), true
		}
	}
	return base, true
}

// bytesType returns BINARY or VARBINARY of a length.
func bytesType(base string, length int) (string, bool) {
	switch {
	case base == "binary" && length < 0:
		length = 1
	case length < 0 || base == "binary" && length > 255 || length > 65535:
		return "", false
	}
	return base + "(" + strconv.Itoa(length) + ")", true
}

// sized returns the smallest BLOB or TEXT that takes as many bytes.
func sized(n int, suffix string) string {
	switch {
	case n < 1<<8:
		return "tiny" + suffix
	case n < 1<<16:
		return suffix
	case n < 1<<24:
		return "medium" + suffix
	}
	return "long" + suffix
}
