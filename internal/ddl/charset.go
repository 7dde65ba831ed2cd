package ddl

import "strings"

// maxLen returns the most bytes that a character of a character set takes.
func maxLen(charset string) int {
	switch charset {
	case "utf8mb4", "utf16", "utf16le", "utf32", "gb18030":
		return 4
	case "utf8mb3", "utf8", "ujis", "eucjpms":
		return 3
	case "big5", "cp932", "euckr", "gb2312", "gbk", "sjis", "ucs2":
		return 2
	}
	return 1
}

// charsetOf returns the character set that a collation is of.
func charsetOf(collation string) string {
	name, _, _ := strings.Cut(collation, "_")
	return name
}

// A dialect is what the meaning of types depends on besides the text.
type dialect struct {
	Mode
	realAsFloat      bool   // sql_mode REAL_AS_FLOAT
	implicitNotNull  bool   // explicit_defaults_for_timestamp is off
	foreign          bool   // sql_mode ORACLE, which has types of its own
	utf8mb4Collation string // the default for utf8mb4; empty if not known
	serverCollation  string // the default for schemas; empty if not known
}

// oldUTF8 reports whether the server calls utf8mb3 utf8: MySQL before 8.0.28, and
// its collations before 8.0.30, and MariaDB before 10.6.
func (d *dialect) oldUTF8() bool {
	if d.MariaDB {
		return d.Version != 0 && d.Version < 100600
	}
	return d.Version != 0 && d.Version < 80028
}

// charset returns the name by which the server knows a character set.
func (d *dialect) charset(name string) string {
	name = strings.ToLower(name)
	if name == "utf8" || name == "utf8mb3" {
		if d.oldUTF8() {
			return "utf8"
		}
		return "utf8mb3"
	}
	return name
}

// collation returns the name by which the server knows a collation. MariaDB has
// some that fit several character sets and are written without one.
func (d *dialect) collation(name, charset string) string {
	name = strings.ToLower(name)
	if rest, ok := strings.CutPrefix(name, "utf8_"); ok {
		return d.charset("utf8") + "_" + rest
	}
	if rest, ok := strings.CutPrefix(name, "utf8mb3_"); ok {
		return d.charset("utf8") + "_" + rest
	}
	if strings.HasPrefix(name, "uca1400_") {
		if charset == "" {
			return ""
		}
		return charset + "_" + name
	}
	return name
}

// defaultCollation returns the collation of a character set that is named without
// one, or nothing if that is not known.
func (d *dialect) defaultCollation(charset string) string {
	switch charset {
	case "binary":
		return charset
	case "utf8mb4":
		return d.utf8mb4Collation
	case "dec8", "latin1", "swe7":
		return charset + "_swedish_ci"
	case "big5", "gb2312", "gbk", "gb18030":
		return charset + "_chinese_ci"
	case "ujis", "sjis", "cp932", "eucjpms":
		return charset + "_japanese_ci"
	case "hp8":
		return "hp8_english_ci"
	case "tis620":
		return "tis620_thai_ci"
	case "euckr":
		return "euckr_korean_ci"
	case "latin5":
		return "latin5_turkish_ci"
	}
	return charset + "_general_ci"
}
