package cdc

import (
	"iter"
	"strings"
)

// statements cuts a text into statements as the mysql client does, for a dump's
// sake: they end with a semicolon, or with what a line with DELIMITER says.
func statements(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		end := ";"
		for from, i := 0, 0; ; {
			line := i == 0 || i <= len(text) && text[i-1] == '\n'
			switch {
			case i >= len(text):
				if s := strings.TrimSpace(text[from:]); s != "" {
					yield(s)
				}
				return
			case line && len(text)-i >= 10 && strings.EqualFold(text[i:i+10], "DELIMITER "):
				rest, _, _ := strings.Cut(text[i+10:], "\n")
				i += 10 + len(rest)
				if rest = strings.TrimSpace(rest); rest != "" {
					end = rest
				}
				from = i
			case strings.HasPrefix(text[i:], end):
				if s := strings.TrimSpace(text[from:i]); s != "" && !yield(s) {
					return
				}
				i += len(end)
				from = i
			default:
				i += skipToken(text[i:])
			}
		}
	}
}

// skipToken returns the length of what s begins with: a quoted text, a comment, or
// one byte of anything else.
func skipToken(s string) int {
	until := func(from int, end string) int {
		if n := strings.Index(s[min(from, len(s)):], end); n >= 0 {
			return from + n + len(end)
		}
		return len(s)
	}
	switch c := s[0]; {
	case c == '\'' || c == '"' || c == '`':
		for i := 1; i < len(s); i++ {
			if s[i] == '\\' && c != '`' {
				i++
			} else if s[i] == c {
				return i + 1
			}
		}
		return len(s)
	case c == '#', strings.HasPrefix(s, "-- "), strings.HasPrefix(s, "--\n"):
		return until(0, "\n")
	case strings.HasPrefix(s, "/*"):
		return until(2, "*/")
	}
	return 1
}
