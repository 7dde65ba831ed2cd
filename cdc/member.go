package cdc

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// singleByte are the character sets of one byte a character in which MySQL and
// package charmap agree on every byte. A test asks the server.
var singleByte = map[string]*charmap.Charmap{
	"cp1250":   charmap.Windows1250,
	"cp1251":   charmap.Windows1251,
	"cp1256":   charmap.Windows1256,
	"cp1257":   charmap.Windows1257,
	"cp850":    charmap.CodePage850,
	"cp852":    charmap.CodePage852,
	"koi8r":    charmap.KOI8R,
	"latin1":   charmap.Windows1252,
	"latin5":   charmap.ISO8859_9,
	"macroman": charmap.Macintosh,
}

// memberText returns the name of a member of an ENUM or SET as UTF-8, in memory of
// its own. Table maps have it in the character set of the column. It reports
// whether the name can be told.
func memberText(charset, name string) (string, bool) {
	switch charset {
	case "utf8mb4", "utf8mb3", "utf8":
		return strings.Clone(name), utf8.ValidString(name)
	case "ucs2", "utf16", "utf16le", "utf32", "swe7":
		return strings.Clone(name), name == "" // bytes of ASCII mean something else there
	}
	m := singleByte[charset]
	var b strings.Builder
	ok := true
	for i := range len(name) {
		c := name[i]
		if c < utf8.RuneSelf {
			b.WriteByte(c)
			continue
		}
		r := utf8.RuneError
		if m != nil {
			r = m.DecodeByte(c)
		}
		if r == utf8.RuneError && charset == "latin1" {
			r = rune(c) // MySQL's latin1 is cp1252 with control characters in its gaps
		}
		ok = ok && r != utf8.RuneError
		b.WriteRune(r)
	}
	return b.String(), ok
}

// nameOr returns name or, if it is empty, other.
func nameOr(name, other string) string {
	if name == "" {
		return other
	}
	return name
}
