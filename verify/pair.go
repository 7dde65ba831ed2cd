package verify

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The classes of column types, by how their values are compared.
type class uint8

const (
	classOther class = iota
	classInt
	classYear
	classBit
	classDecimal
	classFloat
	classDouble
	classDate
	classTime
	classDateTime // and TIMESTAMP: all sessions are in UTC
	classText
	classBinary
	classEnum
	classSet
	classJSON
	classSpatial
	classVector
)

func (c *column) class() class {
	switch c.base {
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint":
		return classInt
	case "year":
		return classYear
	case "bit":
		return classBit
	case "decimal", "numeric":
		return classDecimal
	case "float":
		return classFloat
	case "double", "real":
		return classDouble
	case "date":
		return classDate
	case "time":
		return classTime
	case "datetime", "timestamp":
		return classDateTime
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext":
		return classText
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob":
		return classBinary
	case "enum":
		return classEnum
	case "set":
		return classSet
	case "json":
		return classJSON
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection":
		return classSpatial
	case "vector":
		return classVector
	}
	return classOther
}

// A pair is a column of the source and the one of the target that has its
// values, and the form in which they are compared: an expression on each side
// that gives the same bytes if, and only if, the values are the same.
type pair struct {
	name     string
	from, to *column
	fromExpr string
	toExpr   string
	null     bool                // it may be NULL on one of the sides
	long     bool                // its form may have any length, and any byte
	charset  string              // of the form, where it is text in the columns' own bytes
	norm     func(string) string // makes one form of both in Go, where servers cannot; nil if not needed
	ordered  bool                // both servers order values of the pair alike, and find ranges of them by an index
	sorted   bool                // they order them alike, but read all of an index to find a range
	exact    bool                // a value can be found by its form, on both sides
}

// newPair finds the common form of two columns. zero says that the target stores
// no negative zero, and kin that both servers print numbers alike.
func newPair(from, to *column, zero, kin bool) pair {
	p := pair{name: to.name, from: from, to: to, null: from.nullable || to.nullable}
	f, t := ident(from.name), ident(to.name)
	both := func(format string) {
		p.fromExpr, p.toExpr = strings.ReplaceAll(format, "?", f), strings.ReplaceAll(format, "?", t)
	}
	a, b := from.class(), to.class()
	number := func(c class) bool { return c == classInt || c == classYear || c == classBit || c == classDecimal }
	switch {
	case a == classInt && b == classInt, a == classYear && b == classYear:
		p.ordered, p.exact = true, true
		if both("?"); from.zerofill || to.zerofill || a == classYear {
			both("?+0")
		}
	case a == classBit && b == classBit:
		p.ordered, p.exact = true, true
		both("CAST(? AS UNSIGNED)")
	case number(a) && b == classDecimal:
		p.exact = a == classDecimal && from.arg(1, 0) <= to.arg(1, 0)
		p.ordered = p.exact
		both("?")
		if scale := to.arg(1, 0); a != classDecimal || from.arg(1, 0) != scale {
			// The target has rounded, half away from zero, as this does.
			p.fromExpr = fmt.Sprintf("CAST(%s AS DECIMAL(65,%d))", f, scale)
		} else if from.zerofill {
			p.fromExpr = fmt.Sprintf("CAST(%s AS DECIMAL(65,%d))", f, scale)
		}
		if to.zerofill {
			p.toExpr = fmt.Sprintf("CAST(%s AS DECIMAL(65,%d))", t, to.arg(1, 0))
		}
	case number(a) && number(b):
		both("CAST(? AS CHAR)")
		if a == classDecimal {
			p.fromExpr = "ROUND(" + f + ")"
		}
		p.norm = normNumber
	case (a == classFloat || a == classDouble) && (b == classFloat || b == classDouble):
		// A DOUBLE column prints all of its digits in the same way everywhere. What
		// is computed from one does not: MySQL 8 and later cut it to 22 characters
		// where it becomes text, which changes its form and the last digits. That
		// is enough to tell the nine digits of a FLOAT, of which the column prints
		// six, but not to compare them with another server's.
		both("?")
		p.exact = from.typ == to.typ
		switch {
		case b == classFloat && (a == classDouble || !kin):
			both("?*1e0")
			p.norm = normFloat32
		case a == classFloat && b == classDouble:
			p.fromExpr, p.norm = f+"*1e0", normDouble
		case b == classFloat && zero:
			both("IF(?=0,'0',CONCAT(?*1e0))") // -0 is 0 there
		case b == classFloat:
			both("?*1e0")
		case from.typ != to.typ:
			p.norm = normDouble
		case zero:
			both("IF(?=0,'0',CONCAT(?))")
		}
	case (a == classDate || a == classDateTime) && (b == classDate || b == classDateTime), a == classTime && b == classTime:
		both("?")
		p.ordered = a == b && from.arg(0, 0) <= to.arg(0, 0)
		p.exact = p.ordered
		if a != b || from.arg(0, 0) != to.arg(0, 0) {
			as := strings.ToUpper(map[class]string{classDate: "date", classDateTime: "datetime", classTime: "time"}[b])
			if b != classDate {
				as += fmt.Sprintf("(%d)", to.arg(0, 0))
			}
			p.fromExpr = "CAST(" + f + " AS " + as + ")"
		}
	case a == classText && b == classText:
		p.long = true
		switch {
		case sameCharset(from.charset, to.charset):
			both("?")
			p.charset = to.charset
			p.ordered = sameCollation(from.collation, to.collation)
		default:
			both("CONVERT(? USING utf8mb4)")
		}
		p.exact = true
		if (from.base == "char") != (to.base == "char") {
			both("TRIM(TRAILING ' ' FROM " + strings.ReplaceAll(p.fromExpr, f, "?") + ")") // a CHAR has none
			p.ordered, p.exact = false, false
		}
	case (a == classBinary || a == classText) && (b == classBinary || b == classText):
		both("?")
		p.long = true
		p.ordered = a == classBinary && b == classBinary
		p.exact = p.ordered
		if (from.base == "binary") != (to.base == "binary") || from.base == "binary" && from.typ != to.typ {
			both("TRIM(TRAILING _binary x'00' FROM ?)") // a BINARY is filled up with them
			p.ordered, p.exact = false, false
		}
	case a == classEnum && b == classEnum && slices.Equal(from.members, to.members),
		a == classSet && b == classSet && slices.Equal(from.members, to.members):
		both("CAST(? AS UNSIGNED)")
		p.exact, p.sorted = true, true // seen on MySQL 5.6, 9.7 and MariaDB 10.11
	case a == classEnum && b == classEnum:
		// By name; the number 0 is no member, though it reads as the empty string.
		both("CONCAT(?+0=0,CONVERT(? USING utf8mb4))")
		p.long, p.exact = true, true
	case a == classSet && b == classSet:
		both("CONVERT(? USING utf8mb4)")
		p.long, p.norm = true, normSet
	case a == classJSON && b == classJSON:
		both("CAST(? AS CHAR CHARACTER SET utf8mb4)")
		p.long = true
	case (a == classJSON || a == classText) && (b == classJSON || b == classText):
		both("CONVERT(? USING utf8mb4)")
		p.long, p.norm = true, normJSON
	case a == classSpatial && b == classSpatial, a == classVector && b == classVector:
		both("HEX(?)")
	case a == classOther && b == classBinary && octets(from) > 0, a == classBinary && b == classOther && octets(to) > 0:
		// MariaDB's log has the bytes, and so has what takes them elsewhere. UUIDs are in
		// another order there than their bytes.
		p.fromExpr, p.toExpr = asOctets(from), asOctets(to)
		p.long, p.exact = true, true
		p.ordered = from.base != "uuid" && to.base != "uuid" && max(from.arg(0, 0), to.arg(0, 0)) == max(octets(from), octets(to))
	case a == classOther && b == classOther && from.base == to.base:
		both("CAST(? AS CHAR CHARACTER SET utf8mb4)")
		p.ordered, p.exact = true, true
	default:
		both("CONVERT(CAST(? AS CHAR) USING utf8mb4)")
		p.long = true
		if a == classText || a == classEnum || a == classSet {
			p.fromExpr = "CONVERT(" + f + " USING utf8mb4)"
		}
		if b == classText || b == classEnum || b == classSet {
			p.toExpr = "CONVERT(" + t + " USING utf8mb4)"
		}
	}
	return p
}

// octets returns how many bytes values of a type of MariaDB's are that has a text of
// its own; 0 if it is none.
func octets(c *column) int {
	switch c.base {
	case "uuid", "inet6":
		return 16
	case "inet4":
		return 4
	}
	return 0
}

// asOctets returns the expression for these bytes, or for the column where it has them.
func asOctets(c *column) string {
	switch name := ident(c.name); c.base {
	case "uuid":
		return "UNHEX(REPLACE(CAST(" + name + " AS CHAR),'-',''))"
	case "inet6", "inet4":
		return "INET6_ATON(CAST(" + name + " AS CHAR))"
	default:
		return name
	}
}

// plain reports whether values are shown as they are, and not as text in quotes.
func (p *pair) plain() bool {
	switch p.to.class() {
	case classInt, classYear, classBit, classDecimal, classFloat, classDouble, classDate, classTime, classDateTime:
		return true
	}
	return false
}

func sameCharset(a, b string) bool {
	utf8 := func(s string) string {
		if s == "utf8" || s == "utf8mb3" {
			return "utf8mb4" // of which it is a part
		}
		return s
	}
	return utf8(a) == utf8(b)
}

func sameCollation(a, b string) bool {
	long := func(s string) string {
		if rest, ok := strings.CutPrefix(s, "utf8_"); ok {
			return "utf8mb3_" + rest // its name of old
		}
		return s
	}
	return long(a) == long(b)
}

// literal returns what is compared with the pair's column on one side, to find
// the rows that have a value: the form, as cells of it have been read. It is empty
// if there is no such literal.
func (p *pair) literal(c *column, form cell) string {
	v := form.text
	if form.kind != 0 {
		return storedLiteral(c, form)
	}
	if octets(p.from)+octets(p.to) > 0 && p.from.base != p.to.base {
		return "_binary " + hexLiteral(v) // MariaDB compares its own types with bytes
	}
	switch p.to.class() {
	case classInt, classYear, classBit, classDecimal:
		if strings.Trim(v, "-0123456789.") != "" || v == "" {
			return ""
		}
		return v
	case classFloat, classDouble:
		f, err := strconv.ParseFloat(v, 64)
		if err != nil {
			return ""
		}
		return strconv.FormatFloat(f, 'e', -1, 64)
	case classDate:
		return "DATE" + plainQuote(v)
	case classTime:
		return "TIME" + plainQuote(v)
	case classDateTime:
		return "TIMESTAMP" + plainQuote(v)
	case classText:
		switch {
		case p.charset != "" && sameCharset(p.charset, "utf8mb4"):
			return "_utf8mb4 " + hexLiteral(v)
		case p.charset != "":
			return "_" + p.charset + " " + hexLiteral(v)
		case c.charset != "":
			return "CONVERT(_utf8mb4 " + hexLiteral(v) + " USING " + c.charset + ")"
		}
		return ""
	case classBinary:
		return "_binary " + hexLiteral(v)
	case classEnum, classSet:
		if slices.Equal(p.from.members, p.to.members) {
			return v
		}
		if p.to.class() == classEnum && v != "" {
			v = v[1:]
		}
		return "_utf8mb4 " + hexLiteral(v)
	case classOther:
		return "_utf8mb4 " + hexLiteral(v)
	}
	return ""
}

// hexLiteral is x'…', in which no byte needs an escape and which may be empty.
func hexLiteral(s string) string { return fmt.Sprintf("x'%x'", s) }

// plainQuote quotes a time as a server prints it.
func plainQuote(s string) string {
	if strings.Trim(s, "-0123456789.: ") != "" {
		return "''" // which the server refuses
	}
	return "'" + s + "'"
}

// normNumber gives one form of whole numbers: without zeros in front.
func normNumber(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	s, _, _ = strings.Cut(s, ".")
	if s = strings.TrimLeft(s, "0"); s == "" {
		return "0"
	}
	return sign + s
}

// normFloat32 gives a DOUBLE as it is in a FLOAT.
func normFloat32(s string) string {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(f) > math.MaxFloat32 {
		return s
	}
	if float32(f) == 0 {
		return "0" // some targets store no negative zero
	}
	return strconv.FormatFloat(float64(float32(f)), 'g', -1, 64)
}

// normSet gives the names of a SET in an order that is not that of its type.
func normSet(s string) string {
	names := strings.Split(s, ",")
	slices.Sort(names)
	return strings.Join(names, ",")
}

// normJSON gives one form of a document: members in the order of their names,
// numbers as DOUBLEs where they are none that is whole. What is no JSON stays as
// it is.
func normJSON(s string) string {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return s
	}
	b, err := json.Marshal(plainNumbers(v))
	if err != nil {
		return s
	}
	return string(b)
}

func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			if _, err := strconv.ParseInt(string(v), 10, 64); err == nil && v != "-0" {
				return v
			}
			if _, err := strconv.ParseUint(string(v), 10, 64); err == nil {
				return v
			}
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return v
		}
		if f == 0 {
			return json.Number("0")
		}
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
	case []any:
		for i := range v {
			v[i] = plainNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plainNumbers(v[k])
		}
	}
	return v
}
