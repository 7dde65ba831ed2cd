//go:build unix

package main

import (
	"math/rand/v2"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A pair is a source and a target.
type pair struct {
	name           string
	source, target testenv.Kind
}

var pairs = []pair{
	{"5.6-9.7", testenv.MySQL56, testenv.MySQL97},
	{"9.7-9.7", testenv.MySQL97, testenv.MySQL97},
	{"maria-maria", testenv.MariaDB, testenv.MariaDB},
	{"9.7-maria", testenv.MySQL97, testenv.MariaDB},
	{"maria-9.7", testenv.MariaDB, testenv.MySQL97},
}

// kin reports whether both servers compare text alike.
func (p pair) kin() bool { return (p.source == testenv.MariaDB) == (p.target == testenv.MariaDB) }

func (p pair) has(k testenv.Kind) bool { return p.source == k || p.target == k }

// charsets are those that all three servers have, with a collation besides _bin.
var charsets = [][2]string{
	{"utf8mb4", "utf8mb4_general_ci"}, {"utf8mb4", "utf8mb4_unicode_ci"}, {"utf8", "utf8_general_ci"}, {"latin1", "latin1_swedish_ci"},
	{"latin1", "latin1_german2_ci"}, {"ascii", "ascii_general_ci"}, {"latin2", "latin2_general_ci"}, {"latin5", "latin5_turkish_ci"}, {"latin7", "latin7_general_ci"},
	{"cp1250", "cp1250_general_ci"}, {"cp1251", "cp1251_general_ci"}, {"cp1256", "cp1256_general_ci"}, {"cp1257", "cp1257_general_ci"},
	{"cp850", "cp850_general_ci"}, {"cp852", "cp852_general_ci"}, {"cp866", "cp866_general_ci"}, {"koi8r", "koi8r_general_ci"}, {"koi8u", "koi8u_general_ci"},
	{"greek", "greek_general_ci"}, {"hebrew", "hebrew_general_ci"}, {"armscii8", "armscii8_general_ci"}, {"dec8", "dec8_swedish_ci"},
	{"geostd8", "geostd8_general_ci"}, {"hp8", "hp8_english_ci"}, {"keybcs2", "keybcs2_general_ci"}, {"macce", "macce_general_ci"},
	{"macroman", "macroman_general_ci"}, {"swe7", "swe7_swedish_ci"}, {"tis620", "tis620_thai_ci"}, {"big5", "big5_chinese_ci"},
	{"gbk", "gbk_chinese_ci"}, {"gb2312", "gb2312_chinese_ci"}, {"euckr", "euckr_korean_ci"}, {"sjis", "sjis_japanese_ci"},
	{"cp932", "cp932_japanese_ci"}, {"ujis", "ujis_japanese_ci"}, {"eucjpms", "eucjpms_japanese_ci"}, {"ucs2", "ucs2_general_ci"},
	{"utf16", "utf16_general_ci"}, {"utf16le", "utf16le_general_ci"}, {"utf32", "utf32_general_ci"},
}

// charset picks a character set and a collation of it. Servers that are not kin
// agree only on what is the same byte by byte.
func (p pair) charset(r *rand.Rand) (string, string) {
	c := charsets[r.IntN(len(charsets))]
	if r.IntN(3) == 0 {
		c = charsets[r.IntN(4)]
	}
	if p.source == testenv.MySQL97 && p.target == testenv.MySQL97 && r.IntN(6) == 0 {
		return "utf8mb4", [...]string{"utf8mb4_0900_ai_ci", "utf8mb4_0900_as_cs", "utf8mb4_0900_bin"}[r.IntN(3)]
	}
	if !p.kin() || r.IntN(3) == 0 {
		return c[0], c[0] + "_bin"
	}
	return c[0], c[1]
}

// columnType picks a type that both servers have.
func (p pair) columnType(r *rand.Rand) columnType {
	cs, collation := p.charset(r)
	switch r.IntN(30) {
	case 0, 1:
		return integers("INT", 32)
	case 2:
		return [...]columnType{integers("TINYINT", 8), integers("SMALLINT", 16), integers("MEDIUMINT", 24), integers("BIGINT", 64)}[r.IntN(4)]
	case 3, 4:
		return [...]columnType{unsigned("TINYINT", 8), unsigned("SMALLINT", 16), unsigned("MEDIUMINT", 24), unsigned("INT", 32), unsigned("BIGINT", 64)}[r.IntN(5)]
	case 5:
		return bits(1 + r.IntN(64))
	case 6, 7:
		n := 1 + r.IntN(65)
		return decimal(n, r.IntN(min(n, 30)+1))
	case 8:
		return floating("FLOAT", 3.4028234e38)
	case 9:
		return floating("DOUBLE", 1.7976931348623157e308)
	case 10:
		return temporal("DATE", 0)
	case 11, 12:
		return temporal("DATETIME", r.IntN(7))
	case 13, 14:
		return temporal("TIMESTAMP", r.IntN(7))
	case 15:
		return temporal("TIME", r.IntN(7))
	case 16:
		return columnType{sql: "YEAR", keyable: true, edges: []string{"0", "1901", "2155"}, make: func(r *rand.Rand) string { return [...]string{"1970", "2024", "1999"}[r.IntN(3)] }}
	case 17, 18:
		return text("CHAR(10)", cs, collation, 10, -1)
	case 19, 20, 21:
		return text("VARCHAR(20)", cs, collation, 20, -1)
	case 22:
		return text([...]string{"TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"}[r.IntN(4)], cs, collation, 60, 7)
	case 23:
		return [...]columnType{binary("BINARY(6)", 6, -1), binary("VARBINARY(20)", 20, -1)}[r.IntN(2)]
	case 24:
		return binary([...]string{"TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB"}[r.IntN(4)], 250, 5)
	case 25:
		if r.IntN(4) == 0 {
			return members("ENUM", numbered(300), "latin1")
		}
		return members("ENUM", []string{"one", "b", "it''s", "x,y", "Z z"}, "utf8mb4")
	case 26:
		if r.IntN(4) == 0 {
			return members("SET", numbered(64), "ascii")
		}
		return members("SET", []string{"r", "w", "x"}, "utf8mb4")
	case 27:
		return geometry([...]string{"GEOMETRY", "POINT"}[r.IntN(2)])
	case 28:
		if !p.has(testenv.MySQL56) {
			return jsonType()
		}
	case 29:
		switch {
		case p.source == testenv.MySQL97 && p.target == testenv.MySQL97:
			return columnType{sql: "VECTOR(4)", noDef: true, edges: []string{"STRING_TO_VECTOR('[0]')"},
				make: func(r *rand.Rand) string { return "STRING_TO_VECTOR('[1.5, -2e10, 3]')" }}
		case p.source == testenv.MariaDB && p.target == testenv.MariaDB:
			return [...]columnType{
				{sql: "UUID", keyable: true, edges: []string{"'00000000-0000-0000-0000-000000000000'"}, make: func(r *rand.Rand) string {
					return "'123e4567-e89b-12d3-a456-42665544" + [...]string{"0000", "0100", "ffff"}[r.IntN(3)] + "'"
				}},
				{sql: "INET6", keyable: true, edges: []string{"'::'"}, make: func(r *rand.Rand) string { return [...]string{"'2001:db8::1'", "'::ffff:1.2.3.4'"}[r.IntN(2)] }},
				{sql: "INET4", keyable: true, edges: []string{"'0.0.0.0'"}, make: func(r *rand.Rand) string { return [...]string{"'1.2.3.4'", "'255.255.255.0'"}[r.IntN(2)] }},
			}[r.IntN(3)]
		}
	}
	return integers("INT", 32)
}
