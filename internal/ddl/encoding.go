package ddl

import (
	"strings"
	"unicode/utf8"
)

// isUTF8 reports whether the text of statements is in UTF-8 or ASCII.
func (m *Mode) isUTF8() bool {
	switch m.Charset {
	case "", "utf8mb4", "utf8mb3", "utf8", "ascii", "binary":
		return true
	}
	return false
}

// wide reports whether s begins with a character of two bytes, of which the
// second may be a quote or a backslash. A first byte without a second one of its
// character set is a character of its own, as it is for the server (the
// functions ismbchar of strings/ctype-*.c): a quote behind it is a quote.
func (m *Mode) wide(s string) bool {
	if len(s) < 2 || s[0] < 0x81 {
		return false
	}
	in := func(c, from, to byte) bool { return from <= c && c <= to }
	a, b := s[0], s[1]
	switch m.Charset {
	case "gbk", "gb18030": // of gb18030's longer ones no byte is a quote
		return a != 0xff && (in(b, 0x40, 0x7e) || in(b, 0x80, 0xfe))
	case "big5":
		return in(a, 0xa1, 0xf9) && (in(b, 0x40, 0x7e) || in(b, 0xa1, 0xfe))
	case "sjis", "cp932":
		return (in(a, 0x81, 0x9f) || in(a, 0xe0, 0xfc)) && (in(b, 0x40, 0x7e) || in(b, 0x80, 0xfc))
	}
	return false
}

// cp1252 are the characters 0x80 to 0x9f of MySQL's latin1, which is Windows-1252
// with control characters where that has none.
const cp1252 = "€\u0081‚ƒ„…†‡ˆ‰Š‹Œ\u008dŽ\u008f\u0090‘’“”•–—˜™š›œ\u009džŸ"

// decode returns a part of a statement's text in UTF-8, and false if what it
// would be is not known.
func (m *Mode) decode(s string) (string, bool) {
	if m.isUTF8() {
		return s, utf8.ValidString(s)
	}
	if ascii(s) {
		return s, true
	}
	if m.Charset != "latin1" {
		return s, false
	}
	high := []rune(cp1252)
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= 0x80 && c < 0xa0 {
			b.WriteRune(high[c-0x80])
		} else {
			b.WriteRune(rune(c))
		}
	}
	return b.String(), true
}

// encode returns s as the text of a statement has it, and false if that is not
// known.
func (m *Mode) encode(s string) (string, bool) {
	if m.isUTF8() || ascii(s) {
		return s, true
	}
	if m.Charset != "latin1" {
		return s, false
	}
	high := []rune(cp1252)
	b := make([]byte, 0, len(s))
next:
	for _, r := range s {
		for i, h := range high {
			if r == h {
				b = append(b, byte(0x80+i))
				continue next
			}
		}
		if r > 0xff {
			return s, false
		}
		b = append(b, byte(r))
	}
	return string(b), true
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
