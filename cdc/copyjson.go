package cdc

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// The text of a document does not tell all types of its values: see jsonnote.go.
// The log has the document itself, but a query only its text. So the server is
// asked for the types of a document's values, if one of them is not what the text
// would be read as.

// jsonTypes returns an expression for the types of all values of the documents in
// a column, with commas between, or NULL if the text tells them all. The values
// come in the order of jsonPart.inOrder.
func jsonTypes(column string) string {
	special := func(v string) string {
		return "CASE COALESCE(JSON_TYPE(" + v + "), 'NULL') WHEN 'OBJECT' THEN 0 WHEN 'ARRAY' THEN 0 WHEN 'STRING' THEN 0 WHEN 'BOOLEAN' THEN 0 WHEN 'NULL' THEN 0 WHEN 'DOUBLE' THEN 0 " +
			"WHEN 'INTEGER' THEN " + v + " > 4294967295 WHEN 'UNSIGNED INTEGER' THEN " + v + " <= 4294967295 ELSE 1 END"
	}
	// JSON_TABLE gives JSON's null as NULL. The document itself is not in the result of JSON_EXTRACT, which would nest
	// deeper than a document may.
	return "(SELECT IF(COALESCE(SUM(" + special("dfs_j") + "), 0) + " + special(column) + " > 0, " +
		"CONCAT_WS(',', JSON_TYPE(" + column + "), GROUP_CONCAT(COALESCE(JSON_TYPE(dfs_j), 'NULL') ORDER BY dfs_o SEPARATOR ',')), NULL) FROM JSON_TABLE(JSON_EXTRACT(" + column +
		", '$**.*', '$**[*]'), '$[*]' COLUMNS (dfs_o FOR ORDINALITY, dfs_j JSON PATH '$')) dfs_t)"
}

// A jsonPart is a value in the text of a document.
type jsonPart struct {
	at   int
	path string
	kids []*jsonPart
}

// parseJSON reads the text of a document as a server prints it.
func parseJSON(text string) *jsonPart {
	var root *jsonPart
	var open []*jsonPart
	jsonPaths(text, func(at int, path []byte) {
		n := &jsonPart{at: at, path: string(path)}
		for len(open) > 0 && !strings.HasPrefix(n.path, open[len(open)-1].path) {
			open = open[:len(open)-1]
		}
		if root == nil {
			root = n
		}
		// The container is the latest whose path is all of this one's but its last
		// step: no path of a sibling's child has that length.
		for len(open) > 0 && !directly(open[len(open)-1].path, n.path, text[open[len(open)-1].at]) {
			open = open[:len(open)-1]
		}
		if len(open) > 0 {
			p := open[len(open)-1]
			p.kids = append(p.kids, n)
		}
		if c := text[at]; c == '{' || c == '[' {
			open = append(open, n)
		}
	})
	return root
}

// directly reports whether the path of a value leads out of a container that
// begins with open by one step.
func directly(container, path string, open byte) bool {
	rest, ok := strings.CutPrefix(path, container)
	switch {
	case !ok || rest == "":
		return false
	case open == '[':
		i := strings.IndexByte(rest, ']')
		return rest[0] == '[' && i == len(rest)-1
	}
	return strings.HasPrefix(rest, `."`) && quotedEnd(rest, 1) == len(rest)
}

// inOrder calls f for all values in the order in which the server gives those at
// $, $**.* and $**[*]: of each container first what is in it, and then what is in
// that.
func (n *jsonPart) inOrder(text string, f func(*jsonPart)) {
	f(n)
	var walk func(n *jsonPart, open byte)
	walk = func(n *jsonPart, open byte) {
		if text[n.at] == open {
			for _, k := range n.kids {
				f(k)
			}
		}
		for _, k := range n.kids {
			walk(k, open)
		}
	}
	walk(n, '{')
	walk(n, '[')
}

// notedJSON returns a document of which types has what jsonTypes gave.
func notedJSON(text, types string) (dfs.Value, error) {
	list := strings.Split(types, ",")
	type note struct {
		at, size int // of the value's text
		dfs.JSONNote
	}
	var notes []note
	var failed error
	i := 0
	parseJSON(text).inOrder(text, func(n *jsonPart) {
		if i < len(list) {
			scalar := scalarAt(text, n.at)
			typ, value, err := jsonNoteOf(list[i], scalar)
			if err != nil && failed == nil {
				failed = err
			}
			if typ != "" {
				notes = append(notes, note{n.at, len(scalar), dfs.JSONNote{Path: n.path, Type: typ, Text: value}})
			}
		}
		i++
	})
	if failed == nil && i != len(list) {
		failed = fmt.Errorf("the server names the types of %d values of a JSON document that has %d", len(list), i)
	}
	if failed != nil {
		return dfs.Value{}, failed
	}
	slices.SortFunc(notes, func(a, b note) int { return a.at - b.at })
	plain := make([]dfs.JSONNote, len(notes))
	var b strings.Builder
	from := 0
	for i, n := range notes {
		plain[i] = n.JSONNote
		// The server breaks base64 into lines of 76 characters.
		b.WriteString(text[from:n.at])
		b.WriteString(strings.ReplaceAll(text[n.at:n.at+n.size], `\n`, ""))
		from = n.at + n.size
	}
	b.WriteString(text[from:])
	return dfs.JSONNotedValue(b.String(), plain), nil
}

// scalarAt returns the text of the value that begins at a place, or of its first
// character if it is a container.
func scalarAt(text string, at int) string {
	switch text[at] {
	case '{', '[':
		return text[at : at+1]
	case '"':
		return text[at:quotedEnd(text, at)]
	}
	end := strings.IndexAny(text[at:], ",]}")
	if end < 0 {
		return text[at:]
	}
	return text[at : at+end]
}

// jsonNoteOf returns what a note on a value has to say, if it needs one: the same
// as jsonWriter's of the document itself.
func jsonNoteOf(typ, text string) (name, value string, err error) {
	inner := func() string { return text[1 : len(text)-1] }
	switch typ {
	case "OBJECT", "ARRAY", "STRING", "BOOLEAN", "NULL", "DOUBLE":
		return "", "", nil
	case "INTEGER":
		if n, err := strconv.ParseInt(text, 10, 64); err != nil || n <= math.MaxUint32 {
			return "", "", err
		}
		return "bigint", text, nil
	case "UNSIGNED INTEGER":
		if n, err := strconv.ParseUint(text, 10, 64); err != nil || n > math.MaxUint32 {
			return "", "", err
		}
		return "bigint unsigned", text, nil
	case "DECIMAL":
		// The server keeps digits before the point in groups of nine.
		whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
		digits := (max(len(whole), 1) + 8) / 9 * 9
		return fmt.Sprintf("decimal(%d,%d)", digits+len(fraction), len(fraction)), text, nil
	case "DATE":
		return "date", inner(), nil
	case "TIME":
		return "time(6)", inner(), nil
	case "DATETIME":
		return "datetime(6)", inner(), nil
	case "TIMESTAMP":
		return "timestamp(6)", inner(), nil
	}
	rest, ok := strings.CutPrefix(text, `"base64:type`)
	number, data, more := strings.Cut(strings.TrimSuffix(rest, `"`), ":")
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || !more || err != nil {
		return "", "", fmt.Errorf("a value of type %s in a JSON document is not read", typ)
	}
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(data, `\n`, ""))
	if err != nil {
		return "", "", fmt.Errorf("a value of type %s in a JSON document is not read: %w", typ, err)
	}
	return opaqueName(byte(n), b), string(b), nil
}
