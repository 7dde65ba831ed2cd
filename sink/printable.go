package sink

import (
	"bytes"
	"encoding/hex"
	"strings"
	"unicode/utf8"
)

// statementsOf cuts a packet into its statements, and writes literals whose bytes
// are no text in hexadecimal, which means the same.
func statementsOf(packet []byte) (list []string) {
	var b []byte
	end := func() {
		if s := strings.TrimSpace(string(b)); s != "" {
			list = append(list, s)
		}
		b = b[:0]
	}
	for i := 0; i < len(packet); {
		switch c := packet[i]; c {
		case ';':
			end()
			i++
		case '\'', '"', '`':
			n, text := quoted(packet[i:])
			if c != '`' && !isText(text) && hasIntroducer(b) {
				b = hex.AppendEncode(append(b, " 0x"...), text)
			} else {
				b = append(b, packet[i:i+n]...)
			}
			i += n
		default:
			b = append(b, c)
			i++
		}
	}
	end()
	return list
}

// quoted returns how long the quoted name or literal is with which b begins, and
// what it says.
func quoted(b []byte) (n int, text []byte) {
	quote := b[0]
	for i := 1; i < len(b); i++ {
		switch {
		case b[i] == quote && i+1 < len(b) && b[i+1] == quote:
			i++
			text = append(text, quote)
		case b[i] == quote:
			return i + 1, text
		case b[i] == '\\' && quote != '`' && i+1 < len(b):
			i++
			c := b[i]
			if k := bytes.IndexByte([]byte("0nrZ"), c); k >= 0 {
				c = "\x00\n\r\x1a"[k]
			}
			text = append(text, c)
		default:
			text = append(text, b[i])
		}
	}
	return len(b), text
}

// isText reports whether the bytes can be shown.
func isText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < 0x20 && r != '\n' && r != '\r' && r != '\t' || r == 0x7f })
}

// hasIntroducer reports whether b ends in a word such as _binary, which gives the
// literal after it a character set.
func hasIntroducer(b []byte) bool {
	i := len(b)
	for i > 0 && (b[i-1] >= 'a' && b[i-1] <= 'z' || b[i-1] >= '0' && b[i-1] <= '9') {
		i--
	}
	return i > 0 && i < len(b) && b[i-1] == '_'
}
