package cdc

import (
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	text "github.com/dataflowsync/dfs/internal/charset"
)

// Types of columns, of MySQL's include/field_types.h.
const (
	typTiny       = 1
	typShort      = 2
	typLong       = 3
	typFloat      = 4
	typDouble     = 5
	typNull       = 6
	typTimestamp  = 7
	typLongLong   = 8
	typInt24      = 9
	typDate       = 10
	typTime       = 11
	typDateTime   = 12
	typYear       = 13
	typNewDate    = 14
	typVarchar    = 15
	typBit        = 16
	typTimestamp2 = 17
	typDateTime2  = 18
	typTime2      = 19
	typBlobZ      = 140 // MariaDB's COMPRESSED columns
	typVarcharZ   = 141
	typVector     = 242
	typJSON       = 245
	typNewDecimal = 246
	typEnum       = 247
	typSet        = 248
	typTinyBlob   = 249 // in JSON only; in tables these four are all typBlob
	typMediumBlob = 250
	typLongBlob   = 251
	typBlob       = 252
	typVarString  = 253
	typString     = 254
	typGeometry   = 255
)

// binaryCollation is the collation of columns that hold bytes and not text.
const binaryCollation = 63

// A column is what a table map says of one column.
type column struct {
	typ       byte
	meta      uint16
	size      int // ENUM and SET: bytes; CHAR and BINARY: most bytes
	nullable  bool
	unsigned  bool
	collation uint64 // of text, ENUM and SET; 0 if not known
	geometry  uint64 // kind of geometry
	dimension uint64 // of a VECTOR
	name      string
	members   []string
}

// numeric reports whether the signedness of the column is in the table map.
func (c *column) numeric() bool {
	switch c.typ {
	case typTiny, typShort, typInt24, typLong, typLongLong, typNewDecimal, typFloat, typDouble, typYear:
		return true
	}
	return false
}

// character reports whether the collation of the column is in the table map.
func (c *column) character(maria bool) bool {
	switch c.typ {
	case typString, typVarString, typVarchar, typBlob, typBlobZ, typVarcharZ:
		return true
	case typGeometry:
		return maria // for which a geometry is a kind of BLOB
	case typVector:
		return true // as seen with MySQL 9.7.4: it counts as a BLOB
	}
	return false
}

// A tableMapBody is a parsed table map event. Its strings alias the event.
type tableMapBody struct {
	schema, table string
	columns       []column
	key           []int
	named         bool // columns have names
	signs         bool // it says which numbers are unsigned
	maria         bool
	err           error // why dfsTable cannot name all; a *TypeError
}

// Fields of the optional metadata of a table map event, of MySQL's
// Table_map_event::Optional_metadata_field_type.
const (
	metaSignedness     = 1
	metaDefaultCharset = 2
	metaColumnCharset  = 3
	metaColumnName     = 4
	metaSetNames       = 5
	metaEnumNames      = 6
	metaGeometry       = 7
	metaKey            = 8
	metaPrefixKey      = 9
	metaEnumDefault    = 10
	metaEnumCharset    = 11
	metaVector         = 13
)

// maxColumns is how many columns a table can have.
const maxColumns = 4096

// columnsOf reads the fixed part of a table map up to the optional metadata.
func columnsOf(e event) (m *tableMapBody, rest reader, err error) {
	m = new(tableMapBody)
	r := reader{b: e.body()}
	r.bytes(8)
	m.schema = alias(r.bytes(int(r.byte())))
	r.byte()
	m.table = alias(r.bytes(int(r.byte())))
	r.byte()
	n := r.count(1)
	types := r.bytes(n)
	meta := reader{b: r.bytes(r.count(1))}
	nulls := r.bytes((n + 7) / 8)
	if r.bad || n > maxColumns {
		return nil, r, errShortEvent
	}
	m.columns = make([]column, n)
	for i := range m.columns {
		c := &m.columns[i]
		c.typ = types[i]
		c.nullable = nulls[i/8]&(1<<(i%8)) != 0
		switch c.typ {
		case typFloat, typDouble, typBlob, typGeometry, typJSON, typVector,
			typTimestamp2, typDateTime2, typTime2, typBlobZ:
			c.meta = uint16(meta.byte())
		case typVarchar, typBit, typVarString, typVarcharZ:
			c.meta = meta.uint16()
		case typNewDecimal:
			c.meta = uint16(meta.byte())<<8 | uint16(meta.byte())
		case typString, typEnum, typSet:
			c.realString(meta.byte(), meta.byte())
		}
	}
	if meta.bad {
		return nil, r, errShortEvent
	}
	return m, r, nil
}

// realString reads the metadata of a string. CHAR, ENUM and SET all have the
// type of CHAR, and the first byte is the real one; but the two highest bits of
// a CHAR's length are in that byte too, flipped.
func (c *column) realString(first, second byte) {
	c.meta = uint16(first)<<8 | uint16(second)
	if c.typ != typString {
		c.size = int(second)
		return
	}
	if first&0x30 != 0x30 {
		c.typ = first | 0x30
		c.size = int(second) | int(first&0x30^0x30)<<4
		return
	}
	c.typ, c.size = first, int(second)
}

// hasColumnNames reports whether the table map names its columns.
func hasColumnNames(e event) (bool, error) {
	_, r, err := columnsOf(e)
	if err != nil {
		return false, err
	}
	for len(r.b) > 0 {
		field := r.byte()
		r.bytes(r.count(1))
		if r.bad {
			return false, errShortEvent
		}
		if field == metaColumnName {
			return true, nil
		}
	}
	return false, nil
}

// parseTableMap reads a table map event.
func parseTableMap(e event, maria bool) (*tableMapBody, error) {
	m, r, err := columnsOf(e)
	if err != nil {
		return nil, err
	}
	m.maria = maria
	text := func(c *column) bool { return c.character(maria) }
	named := func(c *column) bool { return c.typ == typEnum || c.typ == typSet }
	for len(r.b) > 0 {
		field := r.byte()
		v := reader{b: r.bytes(r.count(1))}
		if r.bad {
			return nil, errShortEvent
		}
		switch field {
		case metaSignedness:
			m.signs = true
			bits := v.b
			n := 0
			for i := range m.columns {
				if c := &m.columns[i]; c.numeric() && n/8 < len(bits) {
					c.unsigned = bits[n/8]&(0x80>>(n%8)) != 0
					n++
				}
			}
		case metaDefaultCharset:
			m.defaultCharset(&v, text)
		case metaEnumDefault:
			m.defaultCharset(&v, named)
		case metaColumnCharset:
			m.each(&v, text, func(c *column) { c.collation = v.packed() })
		case metaEnumCharset:
			m.each(&v, named, func(c *column) { c.collation = v.packed() })
		case metaColumnName:
			for i := range m.columns {
				m.columns[i].name = alias(v.bytes(v.count(1)))
			}
			m.named = true
		case metaEnumNames:
			m.each(&v, func(c *column) bool { return c.typ == typEnum }, func(c *column) { c.members = v.strings() })
		case metaSetNames:
			m.each(&v, func(c *column) bool { return c.typ == typSet }, func(c *column) { c.members = v.strings() })
		case metaGeometry:
			m.each(&v, func(c *column) bool { return c.typ == typGeometry }, func(c *column) { c.geometry = v.packed() })
		case metaVector:
			m.each(&v, func(c *column) bool { return c.typ == typVector }, func(c *column) { c.dimension = v.packed() })
		case metaKey, metaPrefixKey:
			for len(v.b) > 0 {
				i := v.packed()
				if field == metaPrefixKey {
					v.packed()
				}
				if i >= uint64(len(m.columns)) {
					return nil, errShortEvent
				}
				m.key = append(m.key, int(i))
			}
		}
		if v.bad {
			return nil, errShortEvent
		}
	}
	return m, nil
}

// each calls f for each column that is wanted, while there is something to read.
func (m *tableMapBody) each(v *reader, want func(*column) bool, f func(*column)) {
	for i := range m.columns {
		if c := &m.columns[i]; want(c) && len(v.b) > 0 {
			f(c)
		}
	}
}

// defaultCharset reads the collation of most columns, and then pairs for the
// others: which one among those that have a collation, and its own.
func (m *tableMapBody) defaultCharset(v *reader, want func(*column) bool) {
	most := v.packed()
	var at []*column
	for i := range m.columns {
		if c := &m.columns[i]; want(c) {
			c.collation = most
			at = append(at, c)
		}
	}
	for len(v.b) > 0 {
		i, id := v.packed(), v.packed()
		if i >= uint64(len(at)) {
			v.fail()
			return
		}
		at[i].collation = id
	}
}

// strings reads a list of texts with its length in front.
func (r *reader) strings() []string {
	list := make([]string, r.count(1))
	for i := range list {
		list[i] = alias(r.bytes(r.count(1)))
	}
	return list
}

var geometryTypes = [...]string{"geometry", "point", "linestring", "polygon", "multipoint",
	"multilinestring", "multipolygon", "geomcollection"}

// describe returns the type of the column as information_schema shows it.
func (c *column) describe(charset charset) string {
	sign := func(s string) string {
		if c.unsigned {
			return s + " unsigned"
		}
		return s
	}
	fsp := func(s string) string {
		if c.meta > 0 {
			return fmt.Sprintf("%s(%d)", s, c.meta)
		}
		return s
	}
	binary := c.collation == binaryCollation
	pick := func(text, bytes string) string {
		if binary {
			return bytes
		}
		return text
	}
	switch c.typ {
	case typTiny:
		return sign("tinyint")
	case typShort:
		return sign("smallint")
	case typInt24:
		return sign("mediumint")
	case typLong:
		return sign("int")
	case typLongLong:
		return sign("bigint")
	case typFloat:
		return sign("float")
	case typDouble:
		return sign("double")
	case typNewDecimal:
		return sign(fmt.Sprintf("decimal(%d,%d)", c.meta>>8, c.meta&0xff))
	case typYear:
		return "year"
	case typDate, typNewDate:
		return "date"
	case typTime, typTime2:
		return fsp("time")
	case typDateTime, typDateTime2:
		return fsp("datetime")
	case typTimestamp, typTimestamp2:
		return fsp("timestamp")
	case typBit:
		return fmt.Sprintf("bit(%d)", c.meta>>8*8+c.meta&0xff)
	case typEnum:
		return "enum"
	case typSet:
		return "set"
	case typVarchar, typVarString:
		return fmt.Sprintf("%s(%d)", pick("varchar", "varbinary"), int(c.meta)/charset.maxLen())
	case typVarcharZ:
		// One byte is for how it is compressed.
		return fmt.Sprintf("%s(%d)", pick("varchar", "varbinary"), max(0, int(c.meta)-1)/charset.maxLen())
	case typString:
		return fmt.Sprintf("%s(%d)", pick("char", "binary"), c.size/charset.maxLen())
	case typBlob, typBlobZ:
		size := [...]string{"", "tiny", "", "medium", "long"}
		if int(c.meta) < len(size) {
			return size[c.meta] + pick("text", "blob")
		}
	case typJSON:
		return "json"
	case typGeometry:
		if c.geometry < uint64(len(geometryTypes)) {
			return geometryTypes[c.geometry]
		}
		return "geometry"
	case typVector:
		return fmt.Sprintf("vector(%d)", c.dimension)
	}
	return fmt.Sprintf("type %d", c.typ)
}

// dfsTable makes a dfs.Table of a table map that names its columns. It sets err if
// the names of members have no form in UTF-8.
func (m *tableMapBody) dfsTable() *dfs.Table {
	t := &dfs.Table{
		Schema: strings.Clone(m.schema), Name: strings.Clone(m.table),
		Columns: make([]dfs.Column, len(m.columns)), Key: m.key,
	}
	for i := range m.columns {
		c, to := &m.columns[i], &t.Columns[i]
		cs := charsetOf(c.collation, m.maria)
		to.Name = strings.Clone(c.name)
		to.Type = c.describe(cs)
		to.Nullable = c.nullable
		for _, name := range c.members {
			text, ok := memberText(cs.name, name)
			if !ok && m.err == nil {
				m.err = &TypeError{
					Table: t.String(), Column: to.Name, Type: to.Type + " in character set " + nameOr(cs.name, "binary"),
					Cure: fmt.Sprintf("the names of its members cannot be turned into UTF-8: give the column the character set utf8mb4, or leave the table out; %s", cureLogged),
				}
			}
			to.Members = append(to.Members, text)
		}
		if c.isText() {
			to.Charset, to.Collation = cs.name, cs.collation
		}
	}
	return t
}

// cureLogged is what helps with a row that is in the log already.
const cureLogged = "for what is logged already, copy the row by hand and start after its transaction"

// isText reports whether the column's value is a dfs.String.
func (c *column) isText() bool {
	switch c.typ {
	case typString, typVarString, typVarchar, typBlob, typVarcharZ, typBlobZ:
		return c.collation != binaryCollation
	}
	return false
}

// memberText returns the name of a member of an ENUM or SET as UTF-8, in memory of
// its own. Table maps have it in the character set of the column. It reports
// whether the name can be told.
func memberText(set, name string) (string, bool) {
	member, ok := text.Text(set, name)
	return strings.Clone(member), ok
}

// nameOr returns name or, if it is empty, other.
func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}
