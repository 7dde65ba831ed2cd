package sink

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// appendIdent appends a quoted identifier.
func appendIdent(b []byte, name string) []byte {
	b = append(b, '`')
	for i := 0; i < len(name); i++ {
		if name[i] == '`' {
			b = append(b, '`')
		}
		b = append(b, name[i])
	}
	return append(b, '`')
}

// escapes holds the letter that follows the backslash, for bytes that need one.
var escapes = [256]byte{0: '0', '\n': 'n', '\r': 'r', 0x1a: 'Z', '\\': '\\', '\'': '\''}

// appendQuoted appends s as a quoted string. The session's sql_mode has no
// NO_BACKSLASH_ESCAPES, and its character_set_client is utf8mb4, in which no
// byte below 0x80 is ever part of another character. So escaping bytewise is
// right whatever character set s is in.
func appendQuoted(b []byte, s string) []byte {
	if len(s) > 1<<20 {
		// Exactly, as b would grow by half of what is large already.
		n := len(s) + 2
		for i := range len(s) {
			if escapes[s[i]] != 0 {
				n++
			}
		}
		b = slices.Grow(b, n)
	}
	b = append(b, '\'')
	start := 0
	for i := 0; i < len(s); i++ {
		if e := escapes[s[i]]; e != 0 {
			b = append(b, s[start:i]...)
			b = append(b, '\\', e)
			start = i + 1
		}
	}
	b = append(b, s[start:]...)
	return append(b, '\'')
}

// introducer returns what stands before the literal of a string in a character
// set, and whether its bytes go in hexadecimal. That is so where a second byte
// can be a backslash, or where a character is never a single byte: the parser
// reads those literals byte by byte.
func introducer(charset string) (intro string, inHex bool) {
	switch charset {
	case "":
		return "", false
	case "utf8", "utf8mb3":
		// utf8mb3 is a subset, and its name is not known to every version.
		return "_utf8mb4", false
	case "gbk", "sjis", "cp932", "big5", "gb18030", "ucs2", "utf16", "utf16le", "utf32":
		return "_" + charset, true
	}
	return "_" + charset, false
}

func appendText(b []byte, intro string, inHex bool, s string) []byte {
	if inHex && len(s)%unit(intro) != 0 {
		// The server would put zeros in front. This it refuses, so that the row
		// comes to rawRow.
		return append(b, "(SELECT '' UNION SELECT 'x')"...)
	}
	b = append(b, intro...)
	if !inHex || s == "" {
		return appendQuoted(b, s)
	}
	b = append(b, " 0x"...)
	return hex.AppendEncode(b, []byte(s))
}

// unit returns how many bytes the length of a text is a multiple of.
func unit(intro string) int {
	switch intro {
	case "_ucs2", "_utf16", "_utf16le":
		return 2
	case "_utf32":
		return 4
	}
	return 1
}

// appendValue appends v as it is written into the column, for a place where a
// value is stored.
func (c *column) appendValue(b []byte, v dfs.Value) []byte {
	switch v.Kind() {
	case dfs.Null:
		return append(b, "NULL"...)
	case dfs.Int64:
		return strconv.AppendInt(b, v.Int(), 10)
	case dfs.Uint64:
		return c.appendUint(b, v.Uint())
	case dfs.Float32, dfs.Float64:
		// Always with an exponent: a number without is DECIMAL, which has no
		// negative zero and at most 81 digits. A FLOAT as the DOUBLE that it
		// widens to: that is what it compares with, and the shorter digits of
		// the largest FLOAT are out of its range.
		return strconv.AppendFloat(b, v.Float(), 'e', -1, 64)
	case dfs.Decimal:
		return appendDecimal(b, v.Text())
	case dfs.String:
		if c.asBytes && len(v.Text())%unit(c.intro) == 0 {
			return appendText(b, "_binary", c.inHex, v.Text())
		}
		return appendText(b, c.intro, c.inHex, v.Text())
	case dfs.Bytes:
		return appendQuoted(append(b, "_binary"...), v.Text())
	case dfs.JSON:
		return appendJSON(b, v, c.notes(v))
	}
	b = append(b, '\'')
	b = v.Append(b)
	return append(b, '\'')
}

// appendKey appends v for a comparison with the column. It differs from
// appendValue where the server compares other than it stores: a date with text
// as text. And bytes compare with bytes only.
func (c *column) appendKey(b []byte, v dfs.Value) []byte {
	switch v.Kind() {
	case dfs.String:
		return appendText(b, c.intro, c.inHex, v.Text())
	case dfs.Date:
		b = append(b, "DATE"...)
	case dfs.Time:
		b = append(b, "TIME"...)
	case dfs.DateTime, dfs.Timestamp:
		b = append(b, "TIMESTAMP"...)
	}
	return c.appendValue(b, v)
}

// appendUint appends an integer, or an ENUM or SET.
func (c *column) appendUint(b []byte, n uint64) []byte {
	switch {
	case c.renumber != nil && c.isSet:
		var bits uint64
		for i, to := range c.renumber {
			bits |= n >> i & 1 << to
		}
		n = bits
	case c.renumber != nil && n > 0 && n <= uint64(len(c.renumber)):
		n = uint64(c.renumber[n-1]) + 1
	case c.members != nil && (n > 0 || !c.isEnum):
		return c.appendMembers(b, n)
	}
	if c.isSet {
		// What has all of 64 bits compares as a negative number.
		return strconv.AppendInt(b, int64(n), 10)
	}
	return strconv.AppendUint(b, n, 10)
}

// appendMembers appends the names of an ENUM's ordinal or a SET's bits, for a
// target that has not all of the members, or is a text.
func (c *column) appendMembers(b []byte, n uint64) []byte {
	if c.isSet {
		var names []string
		for i, m := range c.members {
			if n>>i&1 == 1 {
				names = append(names, m)
			}
		}
		return appendQuoted(append(b, "_utf8mb4"...), strings.Join(names, ","))
	}
	name := ""
	if n >= 1 && n <= uint64(len(c.members)) {
		name = c.members[n-1]
	}
	return appendQuoted(append(b, "_utf8mb4"...), name)
}

// appendDecimal appends a DECIMAL as a number, which is exact. What is no
// number goes quoted, for the server to refuse.
func appendDecimal(b []byte, s string) []byte {
	ok := s != ""
	for i := 0; i < len(s) && ok; i++ {
		c := s[i]
		ok = c >= '0' && c <= '9' || c == '.' && len(s) > 1 || c == '-' && i == 0 && len(s) > 1
	}
	if !ok {
		return appendQuoted(b, s)
	}
	return append(b, s...)
}

// show returns a value for an error's text, shortened.
func show(v dfs.Value) string {
	var s string
	switch v.Kind() {
	case dfs.String, dfs.JSON:
		s = strconv.Quote(v.Text())
	case dfs.Bytes:
		s = "0x" + hex.EncodeToString(v.Bytes()[:min(len(v.Bytes()), 33)])
	default:
		s = v.String()
	}
	if len(s) > 64 {
		return s[:61] + "..."
	}
	return s
}
