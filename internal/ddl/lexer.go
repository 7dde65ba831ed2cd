package ddl

import (
	"strconv"
	"strings"
)

// tokenKind is what a token of a statement is.
type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // a word without quotes: a keyword or a name
	tokName             // a name in quotes, without them
	tokString           // a string, as it stands with its quotes
	tokNumber           // a number that cannot be a name
	tokPunct            // one other character
)

type token struct {
	kind    tokenKind
	text    string
	at, end int // its place in the statement
}

// is reports whether t is the keyword w, given in upper case.
func (t token) is(w string) bool {
	return t.kind == tokWord && len(t.text) == len(w) && strings.EqualFold(t.text, w)
}

// punct reports whether t is the character c.
func (t token) punct(c byte) bool { return t.kind == tokPunct && t.text[0] == c }

// named reports whether t can be a name, which is never empty.
func (t token) named() bool { return t.kind == tokWord || t.kind == tokName && t.text != "" }

// A lexer cuts a statement into tokens as the server does. Comments are left
// out, but the content of /*! and /*M! comments is code if the server ran it.
type lexer struct {
	s    string
	mode *Mode
	pos  int
	open bool // in a /*! comment that is code; the first */ ends it, also if others began in it
	dot  bool // the last token was a dot, so that digits begin a name
	torn bool // a quote has no end, or a name ends within a character, which no server takes: the mode is not the right one

	// versions are the places of what opens and closes comments that are code, and
	// of those that are none though another server may run them. They are kept if
	// it is not nil.
	versions []span
}

// note keeps the place from at to here.
func (l *lexer) note(at int) {
	if l.versions != nil {
		l.versions = append(l.versions, span{at, l.pos})
	}
}

// next returns the next token, and one of kind tokEnd after the last. It never
// fails: what a server would not read gives tokens too.
func (l *lexer) next() token {
	dot := l.dot
	l.dot = false
	for l.pos < len(l.s) {
		c := l.s[l.pos]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r' || c == 0:
			l.pos++
			dot = false
		case c == '#' || c == '-' && l.dashes():
			l.line()
		case c == '/' && strings.HasPrefix(l.s[l.pos:], "/*"):
			l.comment()
		case c == '*' && l.open && strings.HasPrefix(l.s[l.pos:], "*/"):
			l.pos += 2
			l.open = false
			l.note(l.pos - 2)
		case c == '`' || c == '"' && l.mode.ANSIQuotes:
			return l.quoted(c)
		case c == '\'' || c == '"':
			return l.string(c)
		case c >= '0' && c <= '9' && !dot:
			return l.number()
		case wordByte(c):
			return l.word(l.pos)
		default:
			l.pos++
			l.dot = c == '.'
			return token{tokPunct, l.s[l.pos-1 : l.pos], l.pos - 1, l.pos}
		}
	}
	return token{kind: tokEnd, at: len(l.s), end: len(l.s)}
}

// dashes reports whether a comment begins here with two dashes. They are two
// minus signs unless a blank or the end follows.
func (l *lexer) dashes() bool {
	rest := l.s[l.pos:]
	return strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' ')
}

// line moves past the end of the line.
func (l *lexer) line() {
	if n := strings.IndexByte(l.s[l.pos:], '\n'); n >= 0 {
		l.pos += n + 1
	} else {
		l.pos = len(l.s)
	}
}

// comment reads the beginning of a comment that is code, or all of another.
//
// A version comes before code for servers of that version or later (sql_lex.cc).
// It is of 5 digits; MariaDB and MySQL from 8.0 on take a sixth to it. MariaDB
// leaves out versions 5.7 to 9.99 unless the comment begins with /*M!, since they
// mean MySQL.
func (l *lexer) comment() {
	at := l.pos
	rest := l.s[l.pos+2:]
	maria := strings.HasPrefix(rest, "M!")
	if !maria && !strings.HasPrefix(rest, "!") || maria && !l.mode.MariaDB && l.mode.Version != 0 {
		l.pos += 2
		switch {
		case l.passedOver():
			l.note(at)
		case maria:
			l.plainComment(0)
			l.note(at)
		default:
			l.plainComment(0)
		}
		return
	}
	n := 3
	if maria {
		n = 4
	}
	known := l.mode.Version != 0
	most := 6
	if known && !l.mode.MariaDB && l.mode.Version < 80000 {
		most = 5
	}
	version, digits := 0, 0
	for l.pos+n+digits < len(l.s) && digits < most {
		c := l.s[l.pos+n+digits]
		if c < '0' || c > '9' {
			break
		}
		version = 10*version + int(c-'0')
		digits++
	}
	if digits < 5 {
		version, digits = 0, 0
	}
	l.pos += n + digits
	if known && (version > l.mode.Version || l.mode.MariaDB && !maria && version >= 50700 && version <= 99999) {
		l.plainComment(1)
		l.note(at)
		return
	}
	l.open = true
	l.note(at)
}

// passedOver moves past the rest of a comment that begins with a blank and a later
// version, in which other comments are nested, and reports whether there is one.
// So MySQL logs /*!99999 ... */, with a blank for the exclamation mark, where it
// has not run it. A comment that a user began so ends before what is nested ends.
func (l *lexer) passedOver() bool {
	rest := l.s[l.pos:]
	if l.mode.Version == 0 || len(rest) < 6 || rest[0] != ' ' {
		return false
	}
	if version, err := strconv.Atoi(rest[1:6]); err != nil || version <= l.mode.Version {
		return false
	}
	at := l.pos
	if l.plainComment(1) && strings.Contains(l.s[at:l.pos-2], "*/") {
		return true
	}
	l.pos = at
	return false
}

// plainComment moves past the end of a comment, in which as many levels of
// others may be nested, and reports whether it has an end.
func (l *lexer) plainComment(nested int) bool {
	for l.pos < len(l.s) {
		switch rest := l.s[l.pos:]; {
		case strings.HasPrefix(rest, "*/"):
			l.pos += 2
			return true
		case nested > 0 && strings.HasPrefix(rest, "/*"):
			l.pos += 2
			l.plainComment(nested - 1)
		default:
			l.pos++
		}
	}
	return false
}

// wordByte reports whether c may be part of a name without quotes.
func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 ||
		c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// word reads the rest of a word that begins at the given place.
func (l *lexer) word(at int) token {
	single := false // the last character is one byte
	for l.pos < len(l.s) && wordByte(l.s[l.pos]) {
		if single = !l.mode.wide(l.s[l.pos:]); !single {
			l.pos++
		}
		l.pos++
	}
	l.pos = min(l.pos, len(l.s))
	// Half of a character would take the quote behind it for its other half.
	if last := l.s[l.pos-1]; single && last >= 0x80 && l.mode.wide(string([]byte{last, '`'})) {
		l.torn = true
	}
	return token{tokWord, l.s[at:l.pos], at, l.pos}
}

// digits moves past digits and reports whether there were any.
func (l *lexer) digits() bool {
	at := l.pos
	for l.pos < len(l.s) && l.s[l.pos] >= '0' && l.s[l.pos] <= '9' {
		l.pos++
	}
	return l.pos > at
}

// number reads what begins with a digit: 12, 1.5, 1e5, 1.5e-3, 0x1f, or a name
// such as 1a.
func (l *lexer) number() token {
	at := l.pos
	l.digits()
	if l.pos == at+1 && l.s[at] == '0' && l.pos < len(l.s) && (l.s[l.pos] == 'x' || l.s[l.pos] == 'b') {
		t := l.word(at)
		t.kind = tokNumber
		return t
	}
	if l.pos < len(l.s) && l.s[l.pos] == '.' {
		l.pos++
		l.digits()
		l.exponent()
		return token{tokNumber, l.s[at:l.pos], at, l.pos}
	}
	if l.exponent(); l.pos < len(l.s) && wordByte(l.s[l.pos]) {
		return l.word(at)
	}
	return token{tokNumber, l.s[at:l.pos], at, l.pos}
}

// exponent moves past an exponent, if there is one.
func (l *lexer) exponent() {
	at := l.pos
	if at >= len(l.s) || l.s[at]|0x20 != 'e' {
		return
	}
	if l.pos++; l.pos < len(l.s) && (l.s[l.pos] == '+' || l.s[l.pos] == '-') {
		l.pos++
	}
	if !l.digits() {
		l.pos = at
	}
}

// quoted reads a name in quotes, in which the quote is doubled.
func (l *lexer) quoted(q byte) token {
	at := l.pos
	l.pos++
	for doubled := false; ; doubled = true {
		for l.pos < len(l.s) && l.s[l.pos] != q {
			if l.mode.wide(l.s[l.pos:]) {
				l.pos++
			}
			l.pos++
		}
		if l.pos >= len(l.s) {
			l.pos, l.torn = len(l.s), true
			return token{tokName, l.s[at+1:], at, l.pos}
		}
		l.pos++
		if l.pos < len(l.s) && l.s[l.pos] == q {
			l.pos++
			continue
		}
		text := l.s[at+1 : l.pos-1]
		if doubled {
			text = strings.ReplaceAll(text, string([]byte{q, q}), string(q))
		}
		return token{tokName, text, at, l.pos}
	}
}

// string reads a string, in which a quote is doubled or has a backslash in front.
func (l *lexer) string(q byte) token {
	at := l.pos
	for l.pos++; l.pos < len(l.s); l.pos++ {
		switch c := l.s[l.pos]; {
		case c == '\\' && !l.mode.NoBackslashEscapes, l.mode.wide(l.s[l.pos:]):
			l.pos++
		case c == q:
			if l.pos+1 >= len(l.s) || l.s[l.pos+1] != q {
				l.pos++
				return token{tokString, l.s[at:l.pos], at, l.pos}
			}
			l.pos++
		}
	}
	l.pos, l.torn = len(l.s), true
	return token{tokString, l.s[at:], at, l.pos}
}
