// Package charset turns text of the servers' character sets into UTF-8, as MySQL
// does. Its table is compared with that of a server, code by code.
package charset

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

//go:embed characters.txt
var characterList string

// characters is the table that characters.txt holds: of each character set what a
// code means, if that is neither ASCII nor what package encoding has for it, or
// utf8.RuneError if a code has no character.
var characters = sync.OnceValue(func() map[string]map[uint32]rune {
	m := make(map[string]map[uint32]rune)
	for line := range strings.Lines(characterList) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.SplitN(strings.TrimSpace(line), " ", 3)
		first, err := strconv.ParseUint(f[1], 16, 32)
		if err != nil {
			panic(err) // the file is part of the program
		}
		text, err := strconv.Unquote(f[2])
		if err != nil {
			panic(err)
		}
		of := m[f[0]]
		if of == nil {
			of = make(map[uint32]rune)
			m[f[0]] = of
		}
		code := uint32(first)
		for _, r := range text {
			of[code] = r
			code++
		}
	}
	return m
})

// multiByte are the character sets in which a character has one byte or more. The
// encoding is right for most codes; characters has the others.
var multiByte = map[string]encoding.Encoding{
	"big5":    traditionalchinese.Big5,
	"cp932":   japanese.ShiftJIS,
	"eucjpms": japanese.EUCJP,
	"euckr":   korean.EUCKR,
	"gb18030": simplifiedchinese.GB18030,
	"gb2312":  simplifiedchinese.GBK,
	"gbk":     simplifiedchinese.GBK,
	"sjis":    japanese.ShiftJIS,
	"ujis":    japanese.EUCJP,
}

// Text returns text in a character set as UTF-8, and reports whether it is all text.
// What is none has U+FFFD in its place, but text in UTF-8 is returned as it is.
func Text(charset, name string) (string, bool) {
	switch charset {
	case "utf8mb4", "utf8mb3", "utf8":
		return name, utf8.ValidString(name)
	case "ucs2", "utf16", "utf16le", "utf32":
		return unicodeText(charset, name)
	}
	special := characters()[charset]
	var dec *encoding.Decoder
	if e := multiByte[charset]; e != nil {
		dec = e.NewDecoder()
	}
	var b strings.Builder
	ok := true
	for rest := name; rest != ""; {
		n := min(codeLen(charset, rest), len(rest))
		var code uint32
		for _, c := range []byte(rest[:n]) {
			code = code<<8 | uint32(c)
		}
		r, found := special[code]
		switch {
		case found:
		case code < utf8.RuneSelf:
			r = rune(code)
		case dec != nil:
			text, err := dec.String(rest[:n])
			var size int
			r, size = utf8.DecodeRuneInString(text)
			if err != nil || size != len(text) {
				r = utf8.RuneError
			}
		default:
			r = utf8.RuneError
		}
		ok = ok && r != utf8.RuneError
		b.WriteRune(r)
		rest = rest[n:]
	}
	return b.String(), ok
}

// codeLen returns the number of bytes of the character with which s begins, in a
// character set whose characters do not all have the same. It may be more than s has.
func codeLen(charset, s string) int {
	c := s[0]
	if c < utf8.RuneSelf || multiByte[charset] == nil {
		return 1
	}
	switch charset {
	case "sjis", "cp932":
		if c == 0x80 || 0xa0 <= c && c <= 0xdf || c >= 0xfd {
			return 1
		}
	case "ujis", "eucjpms":
		if c == 0x8f {
			return 3
		}
	case "gb18030":
		if len(s) > 1 && '0' <= s[1] && s[1] <= '9' {
			return 4
		}
	}
	return 2
}

// unicodeText is Text for the encodings of Unicode other than UTF-8. Those
// of more than one byte have the high one first, but for utf16le.
func unicodeText(charset, name string) (string, bool) {
	size := 2
	if charset == "utf32" {
		size = 4
	}
	ok := len(name)%size == 0
	var list []rune
	for ; len(name) >= size; name = name[size:] {
		var r rune
		for i := range size {
			at := i
			if charset == "utf16le" {
				at = size - 1 - i
			}
			r = r<<8 | rune(name[at])
		}
		if n := len(list); size == 2 && charset != "ucs2" && n > 0 && utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(list[n-1], r); pair != utf8.RuneError {
				list[n-1] = pair
				continue
			}
		}
		list = append(list, r)
	}
	for _, r := range list {
		ok = ok && utf8.ValidRune(r) && r != utf8.RuneError
	}
	return string(list), ok
}
