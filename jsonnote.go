package dfs

import "encoding/binary"

// A JSONNote says what one value inside of a JSON document is, where the text of
// the document does not. MySQL's documents may hold values of types of SQL: 1.10
// that is a DECIMAL and no DOUBLE, or a date that is no string.
type JSONNote struct {
	// Path leads to the value, in MySQL's syntax: `$."a"[0]`, or `$` for the
	// document itself.
	Path string

	// Type is the type of SQL: "bigint" and "bigint unsigned" where MySQL would take
	// the number for the other one, "decimal(5,2)", "date", "time(6)", "datetime(6)",
	// "timestamp(6)", "bit(16)", "varbinary", "binary", "tinyblob", "blob",
	// "mediumblob", "longblob", or "type 255" with a number of MySQL's
	// include/field_types.h.
	Type string

	// Text is the value as MySQL prints it, or the bytes of a BIT, BINARY or BLOB,
	// for which the document's text has base64.
	Text string
}

// JSONNotedValue returns a JSON of text, which is not checked, with notes on some
// of its values, in the order of the text. Such Values are equal by == if the notes
// are equal too.
func JSONNotedValue(text string, notes []JSONNote) Value {
	if len(notes) == 0 {
		return JSONValue(text)
	}
	// The notes follow the text, whose length num has.
	b := append(make([]byte, 0, len(text)+64*len(notes)), text...)
	for _, n := range notes {
		b = appendString(appendString(appendString(b, n.Path), n.Type), n.Text)
	}
	v := BytesValue(b)
	v.kind, v.num = JSON, uint64(len(text))
	return v
}

// JSONNotes returns the notes of a JSON, and nil if it has none, as nearly all.
func (v Value) JSONNotes() []JSONNote {
	if !v.noted() {
		return nil
	}
	notes, _ := parseNotes(v.str[v.num:])
	return notes
}

// noted reports whether notes follow the text in str. No document is empty.
func (v Value) noted() bool { return v.kind == JSON && v.num != 0 }

// text returns what a String, Bytes, JSON or Decimal shows.
func (v Value) text() string {
	if v.noted() {
		return v.str[:v.num]
	}
	return v.str
}

func parseNotes(s string) (notes []JSONNote, ok bool) {
	next := func() string {
		b := Value{str: s[:min(len(s), binary.MaxVarintLen64)]}.Bytes()
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(s)-k) {
			ok = false
			return ""
		}
		text := s[k : k+int(n)]
		s = s[k+int(n):]
		return text
	}
	for ok = true; ok && s != ""; {
		notes = append(notes, JSONNote{Path: next(), Type: next(), Text: next()})
	}
	return notes, ok
}
