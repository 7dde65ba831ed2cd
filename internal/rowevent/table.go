// Package rowevent encodes rows as binary log events of format version 4, in the
// form that MySQL's BINLOG statement accepts: a format description, then table
// maps and rows events for tables of the server that is to apply them.
//
// The server takes what row events hold as it is: it checks neither the length
// of a VARCHAR in characters, nor whether text is valid in its character set,
// nor whether an ENUM has a member of that number. So encoding checks all of
// that, and refuses what SQL might not take as it is. Nor does the server run
// triggers and actions of foreign keys, fill generated columns, look at CHECK
// constraints, or match columns by name: it is for the caller to keep away where
// that matters.
package rowevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Type codes of the binary log (enum_field_types in MySQL's sources).
const (
	typeTiny       = 1
	typeShort      = 2
	typeLong       = 3
	typeFloat      = 4
	typeDouble     = 5
	typeLongLong   = 8
	typeInt24      = 9
	typeDate       = 10
	typeYear       = 13
	typeVarchar    = 15
	typeBit        = 16
	typeTimestamp2 = 17
	typeDateTime2  = 18
	typeTime2      = 19
	typeJSON       = 245
	typeNewDecimal = 246
	typeEnum       = 247
	typeSet        = 248
	typeBlob       = 252
	typeString     = 254
)

// A ColumnDef is a column as information_schema.COLUMNS shows it.
type ColumnDef struct {
	Name     string
	Type     string // COLUMN_TYPE, such as "decimal(10,2) unsigned"
	Charset  string // CHARACTER_SET_NAME; empty for NULL
	Octets   int    // CHARACTER_OCTET_LENGTH; 0 for NULL
	Members  int    // of an ENUM or SET
	Nullable bool
}

// A Table encodes rows for one table of the target. It is not safe for
// concurrent use, since it keeps scratch space.
type Table struct {
	id       uint64
	columns  []column
	tableMap []byte // the body of its table map event
	present  []byte
	json     JSONEncoder
}

// Checks reports whether every text can be checked: whether it is one of its
// character set. Where it cannot, Append takes rows with Raw only.
func (t *Table) Checks() bool {
	for i := range t.columns {
		if t.columns[i].text == otherText {
			return false
		}
	}
	return true
}

type column struct {
	name     string
	kind     byte // what the rows hold
	unsigned bool
	nullable bool
	width    int // bytes of a number, of a length prefix, or of an ENUM, SET or BIT
	max      int // the most bytes of text
	chars    int // the most characters of a CHAR or VARCHAR; else 0
	text     textRule
	count    int // of bits of a BIT, or members of an ENUM or SET
	prec     int // of a DECIMAL
	scale    int // of a DECIMAL, or digits after the second
}

// ErrType means that a column has a type that this package does not encode.
var ErrType = errors.New("rowevent: type not encoded")

// New returns a Table. All columns of the table must be given, in order, the
// invisible ones too. The id must differ from that of every other table used in
// one statement. The error wraps ErrType if a column cannot be encoded.
func New(id uint64, schema, name string, columns []ColumnDef) (*Table, error) {
	t := &Table{id: id, columns: make([]column, len(columns)), present: make([]byte, (len(columns)+7)/8)}
	types := make([]byte, len(columns))
	var meta []byte
	nulls := make([]byte, (len(columns)+7)/8)
	for i, def := range columns {
		c := &t.columns[i]
		c.name, c.nullable = def.Name, def.Nullable
		var ok bool
		if types[i], meta, ok = c.parse(def, meta); !ok {
			return nil, fmt.Errorf("%w: column %s is %s", ErrType, def.Name, def.Type)
		}
		if def.Nullable {
			nulls[i/8] |= 1 << (i % 8)
		}
	}
	b := appendID(nil, id)
	b = append(b, 1, 0, byte(len(schema)))
	b = append(append(b, schema...), 0, byte(len(name)))
	b = append(append(b, name...), 0)
	b = appendLength(b, len(columns))
	b = append(b, types...)
	b = appendLength(b, len(meta))
	t.tableMap = append(append(b, meta...), nulls...)
	return t, nil
}

// parse reads a column's definition. It returns the type as the table map shows
// it, and appends its metadata to meta.
func (c *column) parse(def ColumnDef, meta []byte) (byte, []byte, bool) {
	name, args, attributes := splitType(def.Type)
	c.unsigned = strings.Contains(attributes, "unsigned") || strings.Contains(attributes, "zerofill")
	arg := func(i, or int) int {
		if i < len(args) {
			return args[i]
		}
		return or
	}
	number := func(kind byte, width int) (byte, []byte, bool) {
		c.kind, c.width = kind, width
		return kind, meta, true
	}
	temporal := func(kind byte) (byte, []byte, bool) {
		c.kind, c.scale = kind, arg(0, 0)
		return kind, append(meta, byte(c.scale)), c.scale <= 6
	}
	var known bool
	if c.text, known = textRules[def.Charset]; !known {
		c.text = otherText
	}
	if strings.Contains(attributes, "compressed") {
		return 0, meta, false // MariaDB's, which has types of its own for these (140, 141)
	}
	switch name {
	case "tinyint":
		return number(typeTiny, 1)
	case "smallint":
		return number(typeShort, 2)
	case "mediumint":
		return number(typeInt24, 3)
	case "int":
		return number(typeLong, 4)
	case "bigint":
		return number(typeLongLong, 8)
	case "year":
		return number(typeYear, 1)
	case "float":
		c.kind, c.width = typeFloat, 4
		return typeFloat, append(meta, 4), len(args) == 0 // FLOAT(M,D) rounds
	case "double":
		c.kind, c.width = typeDouble, 8
		return typeDouble, append(meta, 8), len(args) == 0
	case "decimal":
		c.kind, c.prec, c.scale = typeNewDecimal, arg(0, 10), arg(1, 0)
		return typeNewDecimal, append(meta, byte(c.prec), byte(c.scale)), true
	case "bit":
		n := arg(0, 1)
		c.kind, c.width, c.count = typeBit, (n+7)/8, n
		return typeBit, append(meta, byte(n%8), byte(n/8)), true
	case "date":
		return number(typeDate, 3)
	case "datetime":
		return temporal(typeDateTime2)
	case "timestamp":
		return temporal(typeTimestamp2)
	case "time":
		return temporal(typeTime2)
	case "varchar", "varbinary":
		c.kind, c.max, c.chars, c.width = typeVarchar, def.Octets, arg(0, 0), 1
		if def.Octets > 255 {
			c.width = 2
		}
		return typeVarchar, binary.LittleEndian.AppendUint16(meta, uint16(def.Octets)), true
	case "char", "binary":
		c.kind, c.max, c.chars, c.width = typeString, def.Octets, arg(0, 1), 1
		if def.Octets > 255 {
			c.width = 2
		}
		// The two upper bits of a length over 255 hide, inverted, in the type
		// (Field_string::do_save_field_metadata).
		return typeString, append(meta, typeString^byte(def.Octets>>4&0x30), byte(def.Octets)), def.Octets < 1024
	case "json":
		c.kind, c.width, c.max = typeJSON, 4, math.MaxUint32
		return typeJSON, append(meta, 4), true
	case "enum":
		c.kind, c.width, c.count = typeEnum, 1, def.Members
		if def.Members > 255 {
			c.width = 2
		}
		return typeString, append(meta, typeEnum, byte(c.width)), true
	case "set":
		c.kind, c.width, c.count = typeSet, (def.Members+7)/8, def.Members
		if c.width > 4 {
			c.width = 8
		}
		return typeString, append(meta, typeSet, byte(c.width)), true
	}
	for i, prefix := range [...]string{"tiny", "", "medium", "long"} {
		if name == prefix+"text" || name == prefix+"blob" {
			c.kind, c.width, c.max = typeBlob, i+1, 1<<(8*(i+1))-1
			return typeBlob, append(meta, byte(c.width)), true
		}
	}
	return 0, meta, false
}

// A textRule tells which bytes are text in a character set.
type textRule uint8

const (
	anyBytes textRule = iota // binary, or one byte for each character
	asciiText
	utf8mb3Text
	utf8mb4Text
	otherText // which cannot be checked
)

// textRules has the character sets whose text can be checked. In the others, of
// several bytes for a character, it is for the server to tell what is valid.
var textRules = map[string]textRule{
	"": anyBytes, "binary": anyBytes, "ascii": asciiText,
	"utf8": utf8mb3Text, "utf8mb3": utf8mb3Text, "utf8mb4": utf8mb4Text,
	"latin1": anyBytes, "latin2": anyBytes, "latin5": anyBytes, "latin7": anyBytes,
	"cp850": anyBytes, "cp852": anyBytes, "cp866": anyBytes, "cp1250": anyBytes, "cp1251": anyBytes,
	"cp1256": anyBytes, "cp1257": anyBytes, "dec8": anyBytes, "greek": anyBytes, "hebrew": anyBytes,
	"hp8": anyBytes, "keybcs2": anyBytes, "koi8r": anyBytes, "koi8u": anyBytes, "macce": anyBytes,
	"macroman": anyBytes, "armscii8": anyBytes, "geostd8": anyBytes, "swe7": anyBytes,
}

// splitType splits "decimal(10,2) unsigned" into its name, its numbers and the
// rest.
func splitType(s string) (name string, args []int, rest string) {
	s = strings.ToLower(s)
	end := strings.IndexAny(s, "( ")
	if end < 0 {
		return s, nil, ""
	}
	name, rest = s[:end], s[end:]
	if rest[0] == '(' {
		inner, after, _ := strings.Cut(rest[1:], ")")
		for _, a := range strings.Split(inner, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(a)); err == nil {
				args = append(args, n)
			}
		}
		rest = after
	}
	return name, args, rest
}

func appendID(b []byte, id uint64) []byte {
	return append(b, byte(id), byte(id>>8), byte(id>>16), byte(id>>24), byte(id>>32), byte(id>>40))
}

// appendLength appends a length-encoded integer, of up to two bytes.
func appendLength(b []byte, n int) []byte {
	if n < 251 {
		return append(b, byte(n))
	}
	return append(b, 252, byte(n), byte(n>>8))
}
