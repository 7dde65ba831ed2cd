//go:build unix

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// A maker writes SQL for a value of some type, as a literal or an expression.
type maker func(r *rand.Rand) string

// A columnType is one that a random column may have.
type columnType struct {
	sql     string
	make    maker
	edges   []string // values at the limits, as literals
	keyable bool     // it may be part of a key as it is
	prefix  int      // or, if not 0, by so many characters
	integer bool
	json    bool
	noDef   bool // it may have no DEFAULT
}

// value returns a value for the column: NULL if nullable, an edge, one of few, or
// any.
func (c *columnType) value(r *rand.Rand, nullable bool) string {
	switch n := r.IntN(10); {
	case n == 0 && nullable:
		return "NULL"
	case n < 4 && len(c.edges) > 0:
		return c.edges[r.IntN(len(c.edges))]
	case n < 7 && c.integer:
		return fmt.Sprint(r.IntN(30))
	}
	return c.make(r)
}

// integers returns an integer type of so many bits.
func integers(name string, bits int) columnType {
	lo, hi := -int64(1)<<(bits-1), int64(1)<<(bits-1)-1
	return columnType{sql: name, keyable: true, integer: true, edges: []string{fmt.Sprint(lo), fmt.Sprint(hi), "0", "-1"},
		make: func(r *rand.Rand) string { return fmt.Sprint(int64(r.Uint64()) >> (64 - bits)) }}
}

func unsigned(name string, bits int) columnType {
	return columnType{sql: name + " UNSIGNED", keyable: true, integer: true,
		edges: []string{"0", fmt.Sprint(uint64(math.MaxUint64) >> (64 - bits)), fmt.Sprint(uint64(1) << (bits - 1))},
		make:  func(r *rand.Rand) string { return fmt.Sprint(r.Uint64() >> (64 - bits)) }}
}

// bits returns BIT(n).
func bits(n int) columnType {
	return columnType{sql: fmt.Sprintf("BIT(%d)", n), keyable: true, edges: []string{"b'0'", "b'1'", "b'" + strings.Repeat("1", n) + "'"},
		make: func(r *rand.Rand) string { return fmt.Sprint(r.Uint64() >> (64 - n)) }}
}

func decimal(precision, scale int) columnType {
	number := func(r *rand.Rand, whole, fraction int) string {
		var b strings.Builder
		if r.IntN(2) == 0 {
			b.WriteByte('-')
		}
		for range max(1, whole) {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		if precision == scale {
			b.Reset()
			b.WriteByte('0')
		}
		b.WriteByte('.')
		for range max(1, fraction) {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		return b.String()
	}
	most := strings.Repeat("9", precision-scale) + "." + strings.Repeat("9", scale)
	if scale == 0 {
		most = strings.TrimSuffix(most, ".")
	}
	return columnType{sql: fmt.Sprintf("DECIMAL(%d,%d)", precision, scale), keyable: true, edges: []string{"0", most, "-" + most, "0.1", "-1"},
		make: func(r *rand.Rand) string {
			return number(r, r.IntN(precision-scale+1), r.IntN(scale+1))
		}}
}

func floating(name string, most float64) columnType {
	return columnType{sql: name, edges: []string{"0", "0.1", "-0.1", "1e20", "-1e-20", "16777217", fmt.Sprint(most), fmt.Sprint(-most), "1.17549435e-38", "3.3333333333333335"},
		make: func(r *rand.Rand) string {
			return fmt.Sprint((r.Float64()*2 - 1) * math.Pow(10, float64(r.IntN(30)-10)))
		}}
}

// fraction returns digits after the second.
func fraction(r *rand.Rand, fsp int) string {
	if fsp == 0 {
		return ""
	}
	return fmt.Sprintf(".%0*d", fsp, r.IntN(int(math.Pow10(fsp))))
}

func temporal(name string, fsp int) columnType {
	sql, f := name, ""
	if fsp > 0 {
		sql, f = fmt.Sprintf("%s(%d)", name, fsp), "."+strings.Repeat("9", fsp)
	}
	c := columnType{sql: sql, keyable: true}
	clock := func(r *rand.Rand) string {
		return fmt.Sprintf("%02d:%02d:%02d%s", r.IntN(24), r.IntN(60), r.IntN(60), fraction(r, fsp))
	}
	switch name {
	case "DATE":
		c.edges = []string{"'1000-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-00-00'", "'2024-02-29'", "'2023-02-31'", "'1970-01-01'"}
		c.make = func(r *rand.Rand) string {
			return fmt.Sprintf("'%04d-%02d-%02d'", 1000+r.IntN(9000), 1+r.IntN(12), 1+r.IntN(28))
		}
	case "DATETIME":
		c.edges = []string{"'1000-01-01 00:00:00'", "'9999-12-31 23:59:59" + f + "'", "'0000-00-00 00:00:00'", "'2024-03-00 01:02:03'", "'1969-12-31 23:59:59" + f + "'"}
		c.make = func(r *rand.Rand) string {
			return fmt.Sprintf("'%04d-%02d-%02d %s'", 1000+r.IntN(9000), 1+r.IntN(12), 1+r.IntN(28), clock(r))
		}
	case "TIMESTAMP":
		c.sql, c.noDef = sql+" NULL", true
		c.edges = []string{"'1970-01-02 00:00:01'", "'2038-01-18 03:14:07" + f + "'", "'0000-00-00 00:00:00'", "'2024-03-31 02:30:00'", "'2024-10-27 02:30:00'", "'2024-11-03 01:30:00'"}
		c.make = func(r *rand.Rand) string {
			return fmt.Sprintf("'%04d-%02d-%02d %s'", 1971+r.IntN(66), 1+r.IntN(12), 1+r.IntN(28), clock(r))
		}
	case "TIME":
		c.edges = []string{"'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'", "'-00:00:00" + f + "'", "'23:59:59" + f + "'"}
		c.make = func(r *rand.Rand) string {
			sign := [...]string{"", "-"}[r.IntN(2)]
			return fmt.Sprintf("'%s%d:%02d:%02d%s'", sign, r.IntN(838), r.IntN(60), r.IntN(60), fraction(r, fsp))
		}
	}
	return c
}

func hexLiteral(b []byte) string { return fmt.Sprintf("x'%x'", b) }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		switch r.IntN(6) {
		case 0:
			b[i] = "\x00\\'\"\n\r\x1a `%"[r.IntN(10)]
		case 1:
			b[i] = byte(r.Uint32())
		default:
			b[i] = byte('a' + r.IntN(4))
		}
	}
	return b
}

func binary(sql string, most, prefix int) columnType {
	return columnType{sql: sql, keyable: prefix < 0, prefix: max(prefix, 0), noDef: strings.Contains(sql, "BLOB"),
		edges: []string{"''", "x'00'", "x'20'", "x'610000'", "x'ff'", "x'5c27'"},
		make: func(r *rand.Rand) string {
			n := r.IntN(most + 1)
			if r.IntN(3) > 0 {
				n = r.IntN(min(most, 6) + 1)
			}
			return hexLiteral(randomBytes(r, n))
		}}
}

// words are texts in UTF-8 that most character sets know some of.
var words = []string{"a", "A", "b", "ab", "a ", " a", "ä", "Ä", "ß", "é", "ñ", "ж", "Я", "λ", "א", "日本", "中文", "한글", "ー", "😀", "€", "ก", "\\", "'", "\"", "%", "_", "\n", "\x00", "ſ", "ﬁ", "İ"}

// text returns a column of text, of so many characters at most.
func text(sql, charset, collation string, most, prefix int) columnType {
	convert := func(s string) string {
		if charset == "utf8mb4" || charset == "utf8" {
			return fmt.Sprintf("_utf8mb4 x'%x'", s)
		}
		return fmt.Sprintf("CONVERT(_utf8mb4 x'%x' USING %s)", s, charset)
	}
	return columnType{sql: sql + " CHARACTER SET " + charset + " COLLATE " + collation, keyable: prefix < 0, prefix: max(prefix, 0), noDef: strings.Contains(sql, "TEXT"),
		edges: []string{"''", convert("a"), convert("A "), convert("日"), convert(strings.Repeat("x", most))},
		make: func(r *rand.Rand) string {
			if r.IntN(6) == 0 {
				// Any bytes. Where they are no text the server refuses them, or
				// cuts them off, as its mode says.
				return hexLiteral(randomBytes(r, r.IntN(min(most, 12)+1)))
			}
			var b strings.Builder
			for range r.IntN(min(most, 6) + 1) {
				b.WriteString(words[r.IntN(len(words))])
			}
			if most > 300 && r.IntN(8) == 0 {
				return "REPEAT(" + convert(b.String()) + "," + fmt.Sprint(1+r.IntN(100)) + ")"
			}
			return convert(b.String())
		}}
}

// members returns ENUM or SET columns.
func members(kind string, names []string, charset string) columnType {
	var list []string
	for _, n := range names {
		list = append(list, "'"+strings.ReplaceAll(n, "'", "''")+"'")
	}
	c := columnType{sql: fmt.Sprintf("%s(%s) CHARACTER SET %s", kind, strings.Join(list, ","), charset), keyable: true}
	c.edges = []string{"1", "0", fmt.Sprint(len(names)), "''", "'no such'"}
	c.make = func(r *rand.Rand) string { return fmt.Sprint(1 + r.IntN(len(names))) }
	if kind == "SET" {
		c.edges[2] = fmt.Sprint(uint64(math.MaxUint64) >> (64 - len(names)))
		c.make = func(r *rand.Rand) string { return fmt.Sprint(r.Uint64() >> (64 - len(names))) }
	}
	return c
}

func numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("m%d", i))
	}
	return names
}

// document returns a JSON text.
func document(r *rand.Rand, depth int) string {
	switch n := r.IntN(12); {
	case n < 2 && depth > 0:
		var parts []string
		for i := range r.IntN(5) {
			parts = append(parts, fmt.Sprintf("%q: %s", [...]string{"a", "b", "", "long key", "é", "k"}[r.IntN(6)]+fmt.Sprint(i), document(r, depth-1)))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case n < 4 && depth > 0:
		var parts []string
		for range r.IntN(5) {
			parts = append(parts, document(r, depth-1))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case n < 6:
		return fmt.Sprint(r.IntN(200000) - 100000)
	case n == 6:
		return [...]string{"9223372036854775807", "-9223372036854775808", "18446744073709551615", "0", "-1", "32768", "65536"}[r.IntN(7)]
	case n == 7:
		return fmt.Sprint((r.Float64()*2 - 1) * math.Pow(10, float64(r.IntN(30)-10)))
	case n == 8:
		return [...]string{"1.0", "0.1", "1e20", "1.5e-8", "-2.5"}[r.IntN(5)]
	case n == 9:
		return [...]string{"null", "true", "false"}[r.IntN(3)]
	}
	return `"` + [...]string{"", "x", "日本", "😀", `\\`, `\"`, `\n`, `\u0001`, strings.Repeat("y", 200)}[r.IntN(9)] + `"`
}

// jsonType is the type JSON, which is text where it is MariaDB's.
func jsonType() columnType {
	literal := func(s string) string { return fmt.Sprintf("CONVERT(x'%x' USING utf8mb4)", s) }
	return columnType{sql: "JSON", json: true, noDef: true, edges: []string{literal("null"), literal("{}"), literal("[]"), literal(`"x"`)},
		make: func(r *rand.Rand) string { return literal(document(r, 1+r.IntN(5))) }}
}

func geometry(sql string) columnType {
	return columnType{sql: sql, noDef: true, edges: []string{"ST_GeomFromText('POINT(0 0)')"},
		make: func(r *rand.Rand) string {
			x, y := r.NormFloat64()*100, r.NormFloat64()*100
			switch {
			case sql == "POINT" || r.IntN(2) == 0:
				return fmt.Sprintf("ST_GeomFromText('POINT(%v %v)')", x, y)
			case r.IntN(2) == 0:
				return fmt.Sprintf("ST_GeomFromText('LINESTRING(%v %v, 1 1)', %d)", x, y, r.IntN(2)*3857)
			}
			return fmt.Sprintf("ST_GeomFromText('GEOMETRYCOLLECTION(POINT(%v %v), POINT(1 2))')", x, y)
		}}
}
