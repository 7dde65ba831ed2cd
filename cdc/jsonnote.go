package cdc

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// A document may hold values of types of SQL that JSON does not have: opaque ones.
// The server prints them as numbers and strings, and no server reads them as what
// they were. So the text comes with notes, see dfs.JSONNote.

// A jsonNote is a note on the value whose text begins at a place in the document.
type jsonNote struct {
	at   int
	typ  string
	text string
}

// integer writes a number. A server that reads the text takes one that needs more
// than 32 bits, and is not negative, for unsigned, and all others for signed: see
// Rapid_json_handler in MySQL's sql-common/json_dom.cc.
func (w *jsonWriter) integer(n int64, unsigned bool) {
	at := len(w.to)
	if unsigned {
		w.to = strconv.AppendUint(w.to, uint64(n), 10)
	} else {
		w.to = strconv.AppendInt(w.to, n, 10)
	}
	taken := n > math.MaxUint32 || unsigned && n < 0
	if taken == unsigned {
		return
	}
	typ := "bigint"
	if unsigned {
		typ = "bigint unsigned"
	}
	w.notes = append(w.notes, jsonNote{at - w.from, typ, string(w.to[at:])})
}

// opaque writes a value of a type of SQL.
func (w *jsonWriter) opaque(typ byte, b []byte) error {
	at := len(w.to)
	note := func(typ string, text []byte) {
		w.notes = append(w.notes, jsonNote{at - w.from, typ, string(text)})
	}
	switch typ {
	case typNewDecimal:
		if len(b) < 2 {
			return errJSON
		}
		r := reader{b: b[2:]}
		var err error
		if w.to, err = appendDecimal(w.to, &r, int(b[0]), int(b[1])); err != nil {
			return err
		}
		note(fmt.Sprintf("decimal(%d,%d)", b[0], b[1]), w.to[at:])
		return nil
	case typDate, typTime, typDateTime, typTimestamp:
		if len(b) < 8 {
			return errJSON
		}
		n := int64(binary.LittleEndian.Uint64(b))
		neg := n < 0
		if neg {
			n = -n
		}
		us, clock := n&0xffffff, n>>24
		w.to = append(w.to, '"')
		if typ == typTime {
			if neg {
				w.to = append(w.to, '-')
			}
			w.to = fmt.Appendf(w.to, "%02d:%02d:%02d.%06d", clock>>12&1023, clock>>6&63, clock&63, us)
		} else {
			ymd, hms := clock>>17, clock&0x1ffff
			ym := ymd >> 5
			w.to = fmt.Appendf(w.to, "%04d-%02d-%02d", ym/13, ym%13, ymd&31)
			if typ != typDate {
				w.to = fmt.Appendf(w.to, " %02d:%02d:%02d.%06d", hms>>12, hms>>6&63, hms&63, us)
			}
		}
		note(opaqueName(typ, b), w.to[at+1:])
		w.to = append(w.to, '"')
		return nil
	}
	w.to = fmt.Appendf(w.to, `"base64:type%d:`, typ)
	w.to = base64.StdEncoding.AppendEncode(w.to, b)
	w.to = append(w.to, '"')
	note(opaqueName(typ, b), b)
	return nil
}

// opaqueName names the type of an opaque value.
func opaqueName(typ byte, b []byte) string {
	switch typ {
	case typDate:
		return "date"
	case typTime:
		return "time(6)"
	case typDateTime:
		return "datetime(6)"
	case typTimestamp:
		return "timestamp(6)"
	case typBit:
		return fmt.Sprintf("bit(%d)", 8*len(b))
	case typVarchar, typVarString:
		return "varbinary"
	case typString:
		return "binary"
	case typTinyBlob:
		return "tinyblob"
	case typMediumBlob:
		return "mediumblob"
	case typLongBlob:
		return "longblob"
	case typBlob:
		return "blob"
	}
	return fmt.Sprintf("type %d", typ)
}

// result returns the document, whose text and notes alias to.
func (w *jsonWriter) result() dfs.Value {
	text := alias(w.to[w.from:len(w.to):len(w.to)])
	if len(w.notes) == 0 {
		return dfs.JSONValue(text)
	}
	notes := make([]dfs.JSONNote, 0, len(w.notes))
	jsonPaths(text, func(at int, path []byte) {
		// Notes are in the order of the text.
		if len(notes) < len(w.notes) && w.notes[len(notes)].at == at {
			n := w.notes[len(notes)]
			notes = append(notes, dfs.JSONNote{Path: string(path), Type: n.typ, Text: n.text})
		}
	})
	return dfs.JSONNotedValue(text, notes)
}

// jsonPaths calls f for each value of a document that jsonWriter wrote, with the
// place where it begins and the path to it.
func jsonPaths(text string, f func(at int, path []byte)) {
	type level struct {
		path  int // how long the path to the container is
		index int // of the next element; -1 in an object
	}
	var levels []level
	path := []byte("$")
	for i := 0; i < len(text); {
		// A value begins here, or a key.
		if n := len(levels); n > 0 {
			l := &levels[n-1]
			switch text[i] {
			case ',', ' ':
				i++
				continue
			case ']', '}':
				levels = levels[:n-1]
				i++
				continue
			}
			path = path[:l.path]
			if l.index >= 0 {
				path = append(strconv.AppendInt(append(path, '['), int64(l.index), 10), ']')
				l.index++
			} else {
				end := quotedEnd(text, i)
				path = append(append(path, '.'), text[i:end]...)
				i = end + len(": ")
			}
		}
		f(i, path)
		switch text[i] {
		case '{':
			levels = append(levels, level{len(path), -1})
			i++
		case '[':
			levels = append(levels, level{len(path), 0})
			i++
		case '"':
			i = quotedEnd(text, i)
		default:
			for i < len(text) && text[i] != ',' && text[i] != ']' && text[i] != '}' {
				i++
			}
		}
	}
}

// quotedEnd returns where the string ends that begins at i.
func quotedEnd(text string, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}
