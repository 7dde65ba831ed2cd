package cdc

import "strings"

// tokenKind is what a token of a statement is.
type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // a word without quotes: a keyword, a name or a number
	tokName             // a name in quotes, without them
	tokString           // a string in single quotes, as it stands
	tokPunct            // one other character
)

type token struct {
	kind tokenKind
	text string
	at   int // where it begins
}

// is reports whether t is the keyword w, given in upper case.
func (t token) is(w string) bool { return t.kind == tokWord && strings.EqualFold(t.text, w) }

// punct reports whether t is the character c.
func (t token) punct(c string) bool { return t.kind == tokPunct && t.text == c }

// A lexer cuts a statement into tokens as MySQL does. Comments are left out, but
// the content of /*! and /*M! comments is code, as it was for the server that
// logged it.
type lexer struct {
	s    string
	pos  int
	open int // /*! comments that are open
}

// next returns the next token, and one of kind tokEnd after the last. It never
// fails: what MySQL would not parse gives tokens too, as the statement has been
// run, and so was right for the server that logged it.
func (l *lexer) next() token {
	for l.pos < len(l.s) {
		rest := l.s[l.pos:]
		switch c := rest[0]; {
		case c == ' ' || c >= '\t' && c <= '\r' || c == 0:
			l.pos++
		case c == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
			if n := strings.IndexByte(rest, '\n'); n >= 0 {
				l.pos += n + 1
			} else {
				l.pos = len(l.s)
			}
		case strings.HasPrefix(rest, "/*!"), strings.HasPrefix(rest, "/*M!"):
			l.pos += strings.IndexByte(rest, '!') + 1
			for l.pos < len(l.s) && l.s[l.pos] >= '0' && l.s[l.pos] <= '9' {
				l.pos++
			}
			l.open++
		case l.open > 0 && strings.HasPrefix(rest, "*/"):
			l.pos += 2
			l.open--
		case strings.HasPrefix(rest, "/*"):
			if n := strings.Index(rest[2:], "*/"); n >= 0 {
				l.pos += n + 4
			} else {
				l.pos = len(l.s)
			}
		case c == '`' || c == '"':
			return l.quoted(c)
		case c == '\'':
			return l.string()
		case wordByte(c):
			at := l.pos
			for l.pos < len(l.s) && wordByte(l.s[l.pos]) {
				l.pos++
			}
			return token{tokWord, l.s[at:l.pos], at}
		default:
			l.pos++
			return token{tokPunct, rest[:1], l.pos - 1}
		}
	}
	return token{tokEnd, "", len(l.s)}
}

// wordByte reports whether c may be part of a name without quotes.
func wordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 ||
		c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// quoted reads a name in quotes, in which the quote is doubled.
func (l *lexer) quoted(q byte) token {
	at := l.pos
	var name strings.Builder
	for l.pos++; l.pos < len(l.s); l.pos++ {
		if l.s[l.pos] == q {
			if l.pos+1 >= len(l.s) || l.s[l.pos+1] != q {
				l.pos++
				break
			}
			l.pos++
		}
		name.WriteByte(l.s[l.pos])
	}
	return token{tokName, name.String(), at}
}

// string reads a string, in which a quote is doubled or has a backslash in front.
// Under sql_mode NO_BACKSLASH_ESCAPES a backslash means nothing, so that a string
// may seem to end later than it does. It then ends with a later quote, and names
// between them are missed; they stand behind strings in no statement read here.
func (l *lexer) string() token {
	at := l.pos
	for l.pos++; l.pos < len(l.s); l.pos++ {
		switch l.s[l.pos] {
		case '\\':
			l.pos++
		case '\'':
			if l.pos+1 >= len(l.s) || l.s[l.pos+1] != '\'' {
				l.pos++
				return token{tokString, l.s[at:l.pos], at}
			}
			l.pos++
		}
	}
	l.pos = len(l.s)
	return token{tokString, l.s[at:], at}
}
