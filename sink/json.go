package sink

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// appendJSON appends a document for a column of the type JSON. What notes say of
// values in it is put there by JSON_SET, as expressions of the types of SQL. For
// some types a server has no expression but a column of JSON_TABLE.
func appendJSON(b []byte, v dfs.Value, notes []dfs.JSONNote) []byte {
	if notes == nil {
		return appendQuoted(append(b, "_utf8mb4"...), v.Text())
	}
	b = append(b, "JSON_SET(CAST("...)
	b = append(appendQuoted(append(b, "_utf8mb4"...), v.Text()), " AS JSON)"...)
	for _, n := range notes {
		b = appendQuoted(append(b, ",_utf8mb4"...), n.Path)
		b = appendNoted(append(b, ','), n)
	}
	return append(b, ')')
}

// appendNoted appends an expression of the type that a note names. What cannot be
// written in that type is a string that the server refuses: see notedAs.
func appendNoted(b []byte, n dfs.JSONNote) []byte {
	// column reads a JSON text as a column of the type.
	column := func(text string) []byte {
		b = appendQuoted(append(b, "(SELECT v FROM JSON_TABLE(_utf8mb4"...), text)
		return fmt.Appendf(b, ",'$' COLUMNS(v %s PATH '$' ERROR ON EMPTY ERROR ON ERROR)) t)", n.Type)
	}
	name, args := typeParts(n.Type)
	switch name {
	case "decimal":
		// The server keeps whole groups of digits, and may so name more than the
		// 65 that a type can have.
		n.Type = fmt.Sprintf("decimal(%d,%d)", min(fsp(args), 65), scale(args))
		fallthrough
	case "date", "time", "datetime":
		b = appendQuoted(append(b, "CAST("...), n.Text)
		return append(append(append(b, " AS "...), n.Type...), ')')
	case "bigint":
		return append(append(append(b, "CAST("...), n.Text...), signs[n.Type == "bigint unsigned"]...)
	case "timestamp":
		return column(strconv.Quote(n.Text))
	case "bit":
		var bits uint64
		for _, c := range []byte(n.Text) {
			bits = bits<<8 | uint64(c)
		}
		return column(strconv.FormatUint(bits, 10))
	case "varbinary":
		return appendQuoted(append(b, "_binary"...), n.Text)
	case "blob":
		// A literal would be a VARBINARY; IFNULL makes one type of two.
		b = append(b, "IFNULL((SELECT v FROM JSON_TABLE('[]','$[*]' COLUMNS(v BLOB PATH '$')) t),"...)
		return append(appendQuoted(append(b, "_binary"...), n.Text), ')')
	case "binary":
		n.Type = fmt.Sprintf("binary(%d)", len(n.Text))
	}
	return column(string(appendJSONString(nil, n.Text)))
}

var signs = map[bool]string{false: " AS SIGNED)", true: " AS UNSIGNED)"}

// notedAs returns why a target cannot be given a value in JSON as the type that it
// has, or "".
func notedAs(n dfs.JSONNote) string {
	switch name, _ := typeParts(n.Type); name {
	case "bigint", "decimal", "date", "time", "datetime", "timestamp", "bit", "varbinary", "blob":
		return ""
	case "binary", "tinyblob", "mediumblob", "longblob":
		if utf8.ValidString(n.Text) {
			return ""
		}
		return fmt.Sprintf("a %s of bytes that are no UTF-8, for which SQL has no expression", n.Type)
	}
	return fmt.Sprintf("a value of %s, for which SQL has no expression", n.Type)
}

// appendJSONString appends a string as JSON.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0')
			b = hex.AppendEncode(b, []byte{c})
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// notes returns the notes on a document that goes into a column of the type JSON,
// or nil. Elsewhere, and on MariaDB, a document is its text.
func (c *column) notes(v dfs.Value) []dfs.JSONNote {
	if !c.isJSON || v.Kind() != dfs.JSON {
		return nil
	}
	return v.JSONNotes()
}

// checkNotes refuses a row with a document that the target cannot be given.
func (m *mapping) checkNotes(row dfs.Row) error {
	for i := range row {
		for _, n := range m.columns[i].notes(row[i]) {
			if why := notedAs(n); why != "" {
				return fmt.Errorf("column %s of %s has at %s of the JSON document %s: write it to the source as a string, "+
					"or leave the table out", m.columns[i].name, m.src, n.Path, why)
			}
		}
	}
	return nil
}

// hasNotes reports whether one of the rows has a document with notes after. The
// column of a derived table is text for some rows if it is for others, so such
// rows go one by one.
func (m *mapping) hasNotes(rows []rowOp) bool {
	if !m.json {
		return false
	}
	for i := range rows {
		for j := range rows[i].after {
			if m.columns[j].notes(rows[i].after[j]) != nil {
				return true
			}
		}
	}
	return false
}
