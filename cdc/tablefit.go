package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// fits checks that t, as information_schema shows it, can be the table of the
// table map, and takes over from it what the map does not say.
func (m *tableMapBody) fits(t *dfs.Table) error {
	cure := "the table was altered since this was logged: set binlog_row_metadata=FULL on the source where it has that, " +
		"and start after the ALTER TABLE with a new copy of the table"
	if len(t.Columns) != len(m.columns) {
		return &TypeError{Table: t.String(), Column: fmt.Sprintf("1 to %d", len(m.columns)), Type: "any",
			Cure: fmt.Sprintf("the table has %d columns now; %s", len(t.Columns), cure)}
	}
	for i := range m.columns {
		c, is := &m.columns[i], &t.Columns[i]
		c.name, c.members = is.Name, is.Members
		c.unsigned = strings.HasSuffix(is.Type, " unsigned")
		c.collation = binaryCollation
		if is.Charset != "" {
			c.collation = 0
		}
		name, _, _ := strings.Cut(is.Type, "(")
		name, _, _ = strings.Cut(name, " ")
		if c.oldTemporal() && m.maria {
			// The log does not tell the digits after the second, on which the form
			// of the value depends.
			fmt.Sscanf(is.Type, name+"(%d)", &c.meta)
		}
		if !c.named(name, is.Type) {
			return &TypeError{Table: t.String(), Column: is.Name, Type: c.describe(charset{}),
				Cure: fmt.Sprintf("the column is %s now; %s", is.Type, cure)}
		}
	}
	m.key, m.named = t.Key, true
	return nil
}

// suits reports whether t is the table of the table map, as far as that tells. It
// is stricter than fits, and for tables that a catalog knows: where one of them
// differs, the catalog has missed something. Kinds of geometry, dimensions of
// VECTOR, lengths of BINARY and VARBINARY and whether MariaDB compresses a column
// are not compared.
func (m *tableMapBody) suits(t *dfs.Table) bool {
	if len(t.Columns) != len(m.columns) {
		return false
	}
	was := slices.Clone(m.columns)
	if m.fits(t) != nil {
		return false
	}
	for i := range was {
		c, is := &was[i], &t.Columns[i]
		if c.nullable != is.Nullable {
			return false
		}
		if n := lengthBytes[is.Type]; (c.typ == typBlob || c.typ == typBlobZ) && n != 0 && c.meta != n {
			return false
		}
		switch c.typ {
		case typTiny, typShort, typInt24, typLong, typLongLong, typNewDecimal, typFloat, typDouble:
			if m.signs && c.unsigned != strings.HasSuffix(is.Type, " unsigned") {
				return false
			}
		case typEnum, typSet:
			if n := len(is.Members); c.typ == typEnum && c.size != 1+n/256 || c.typ == typSet && c.size != setSize(n) {
				return false
			}
		case typVarchar, typString, typBlob:
			if c.collation != 0 && c.collation != m.columns[i].collation && charsetOf(c.collation, m.maria).collation != is.Collation {
				return false
			}
			if c.typ != typBlob && strings.Contains(is.Type, "char(") && m.columns[i].describe(charset{name: is.Charset}) != is.Type {
				return false
			}
		}
	}
	return true
}

// lengthBytes is how many bytes the length of a BLOB or TEXT takes.
var lengthBytes = map[string]uint16{"tinyblob": 1, "tinytext": 1, "blob": 2, "text": 2, "mediumblob": 3, "mediumtext": 3, "longblob": 4, "longtext": 4}

// setSize returns how many bytes a SET of n members takes: see MySQL's
// get_set_pack_length.
func setSize(n int) int {
	if n = (n + 7) / 8; n > 4 {
		return 8
	}
	return n
}

// oldTemporal reports whether the column has a time in the form of MySQL before
// 5.6, or of MariaDB with mysql56_temporal_format=OFF.
func (c *column) oldTemporal() bool {
	return c.typ == typTime || c.typ == typDateTime || c.typ == typTimestamp
}

// named reports whether a column of the type that information_schema shows as
// full, and whose first word is name, is logged as c is.
func (c *column) named(name, full string) bool {
	switch c.typ {
	case typTiny:
		return name == "tinyint"
	case typShort:
		return name == "smallint"
	case typInt24:
		return name == "mediumint"
	case typLong:
		return name == "int"
	case typLongLong:
		return name == "bigint"
	case typFloat:
		return name == "float"
	case typDouble:
		return name == "double"
	case typNewDecimal:
		sign := c.unsigned
		return full == c.describe(charset{}) || sign && strings.HasPrefix(full, "decimal(")
	case typYear, typEnum, typSet, typJSON:
		return name == c.describe(charset{})
	case typDate, typNewDate:
		return name == "date"
	case typTime, typTime2, typDateTime, typDateTime2, typTimestamp, typTimestamp2, typBit:
		return full == c.describe(charset{})
	case typVarchar, typVarString, typVarcharZ:
		return name == "varchar" || name == "varbinary"
	case typString:
		// MariaDB logs UUID, INET6 and INET4 as BINARY.
		return name == "char" || name == "binary" || name == "uuid" || name == "inet6" || name == "inet4"
	case typBlob, typBlobZ:
		return strings.HasSuffix(name, "text") || strings.HasSuffix(name, "blob") || name == "json" || name == "vector"
	case typGeometry:
		return strings.Contains("geometry point linestring polygon multipoint multilinestring multipolygon geomcollection geometrycollection", name)
	case typVector:
		return name == "vector"
	}
	return true
}
