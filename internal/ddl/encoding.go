package ddl

import "unicode/utf8"

// utf8 returns a part of a statement's text in UTF-8, and false if that is not
// known.
func (m *Mode) utf8(s string) (string, bool) { return s, utf8.ValidString(s) }
