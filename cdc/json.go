package cdc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/dataflowsync/dfs"
)

// Types in MySQL's binary JSON, of sql-common/json_binary.cc.
const (
	jsonSmallObject = 0
	jsonLargeObject = 1
	jsonSmallArray  = 2
	jsonLargeArray  = 3
	jsonLiteral     = 4
	jsonInt16       = 5
	jsonUint16      = 6
	jsonInt32       = 7
	jsonUint32      = 8
	jsonInt64       = 9
	jsonUint64      = 10
	jsonDouble      = 11
	jsonString      = 12
	jsonOpaque      = 15

	// jsonDepth is how deep the server lets documents nest.
	jsonDepth = 100
)

var errJSON = errors.New("cdc: damaged binary JSON")

// json reads a JSON document and writes it as the server would.
func (d *decoder) json(b []byte, r *reader, v *dfs.Value) error {
	if r.bad {
		return errShortEvent
	}
	at := d.room(2*len(b) + 16)
	w := jsonWriter{to: d.text, from: at}
	if err := w.document(b); err != nil {
		return err
	}
	d.text = w.to
	*v = w.result()
	return nil
}

// A jsonWriter appends the text of one document, as MySQL prints it, to its to.
type jsonWriter struct {
	to    []byte
	from  int // where in to the document begins
	left  int // how many more values and bytes of strings there can be
	notes []jsonNote
}

// document writes a binary document. No bytes at all stand for null: a server
// writes that where it adds a column that must not be NULL to rows that are there.
func (w *jsonWriter) document(b []byte) error {
	if len(b) == 0 {
		w.to = append(w.to, "null"...)
		return nil
	}
	// Values may lie over each other in a damaged document, so that a small one
	// could print as a huge text. In one that is whole no byte is of two values,
	// and each takes one at least.
	w.left = len(b) + 1
	return w.value(b[0], b[1:], 0)
}

// value writes a value of the given type. b begins with it.
func (w *jsonWriter) value(kind byte, b []byte, depth int) error {
	if w.left--; w.left < 0 {
		return errJSON
	}
	le := binary.LittleEndian
	need := 0
	switch kind {
	case jsonLiteral:
		need = 1
	case jsonInt16, jsonUint16:
		need = 2
	case jsonInt32, jsonUint32:
		need = 4
	case jsonInt64, jsonUint64, jsonDouble:
		need = 8
	}
	if len(b) < need {
		return errJSON
	}
	switch kind {
	case jsonSmallObject, jsonLargeObject, jsonSmallArray, jsonLargeArray:
		return w.container(kind, b, depth+1)
	case jsonLiteral:
		if b[0] > 2 {
			return errJSON
		}
		w.to = append(w.to, [...]string{"null", "true", "false"}[b[0]]...)
	case jsonInt16:
		w.integer(int64(int16(le.Uint16(b))), false)
	case jsonUint16:
		w.integer(int64(le.Uint16(b)), true)
	case jsonInt32:
		w.integer(int64(int32(le.Uint32(b))), false)
	case jsonUint32:
		w.integer(int64(le.Uint32(b)), true)
	case jsonInt64:
		w.integer(int64(le.Uint64(b)), false)
	case jsonUint64:
		w.integer(int64(le.Uint64(b)), true)
	case jsonDouble:
		w.to = appendDouble(w.to, math.Float64frombits(le.Uint64(b)))
	case jsonString:
		s, err := jsonBytes(b)
		if err != nil {
			return err
		}
		if w.left -= len(s); w.left < 0 {
			return errJSON
		}
		w.to = appendQuoted(w.to, s)
	case jsonOpaque:
		if len(b) < 1 {
			return errJSON
		}
		s, err := jsonBytes(b[1:])
		if err != nil {
			return err
		}
		if w.left -= len(s); w.left < 0 {
			return errJSON
		}
		return w.opaque(b[0], s)
	default:
		return fmt.Errorf("cdc: binary JSON has a value of the unknown type %d", kind)
	}
	return nil
}

// jsonBytes reads a length, in 7 bits a byte with the lowest first, and as many
// bytes.
func jsonBytes(b []byte) ([]byte, error) {
	n, k := binary.Uvarint(b[:min(len(b), 5)])
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, errJSON
	}
	return b[k : k+int(n)], nil
}

// container writes an object or an array.
func (w *jsonWriter) container(kind byte, b []byte, depth int) error {
	if depth > jsonDepth {
		return fmt.Errorf("cdc: JSON document nests deeper than %d", jsonDepth)
	}
	m, err := openMembers(kind, b)
	if err != nil {
		return err
	}
	open, end := byte('['), byte(']')
	if m.object {
		open, end = '{', '}'
	}
	w.to = append(w.to, open)
	for i := range m.count {
		if i > 0 {
			w.to = append(w.to, ", "...)
		}
		if m.object {
			key, err := m.key(i)
			if err != nil {
				return err
			}
			if w.left -= len(key); w.left < 0 {
				return errJSON
			}
			w.to = append(appendQuoted(w.to, key), ": "...)
		}
		kind, data, err := m.value(i)
		if err != nil {
			return err
		}
		if err := w.value(kind, data, depth); err != nil {
			return err
		}
	}
	w.to = append(w.to, end)
	return nil
}

// A jsonMembers finds the members of an object, or the elements of an array: two
// numbers, of the members and of all bytes, an entry for each key, an entry for
// each value, keys, and values. The numbers are of 2 bytes in a small container
// and of 4 in a large one. The entry of a value is its type, and its place or, if
// it is small enough, itself.
type jsonMembers struct {
	b      []byte
	width  int
	object bool
	count  int
	values int // where the entries of the values begin
}

// openMembers reads the head of a container, with which b begins.
func openMembers(kind byte, b []byte) (m jsonMembers, err error) {
	m.width = 2
	if kind == jsonLargeObject || kind == jsonLargeArray {
		m.width = 4
	}
	m.object = kind == jsonSmallObject || kind == jsonLargeObject
	if len(b) < 2*m.width {
		return m, errJSON
	}
	count, size := m.number(b), m.number(b[m.width:])
	if size > len(b) {
		return m, errJSON
	}
	m.b, m.count = b[:size], count
	keyEntry, valueEntry := 0, 1+m.width
	if m.object {
		keyEntry = m.width + 2
	}
	if size < 2*m.width || count > (size-2*m.width)/(keyEntry+valueEntry) {
		return m, errJSON
	}
	m.values = 2*m.width + count*keyEntry
	return m, nil
}

// number reads a number of the container's width.
func (m *jsonMembers) number(b []byte) int {
	if m.width == 2 {
		return int(binary.LittleEndian.Uint16(b))
	}
	return int(binary.LittleEndian.Uint32(b))
}

// key returns the key of member i of an object.
func (m *jsonMembers) key(i int) ([]byte, error) {
	entry := m.b[2*m.width+i*(m.width+2):]
	at, n := m.number(entry), int(binary.LittleEndian.Uint16(entry[m.width:]))
	if at > len(m.b) || n > len(m.b)-at {
		return nil, errJSON
	}
	return m.b[at : at+n], nil
}

// value returns the type of value i, and the bytes that begin with it.
func (m *jsonMembers) value(i int) (kind byte, data []byte, err error) {
	entry := m.b[m.values+i*(1+m.width):]
	kind, data = entry[0], entry[1:]
	if kind == jsonLiteral || kind == jsonInt16 || kind == jsonUint16 ||
		m.width == 4 && (kind == jsonInt32 || kind == jsonUint32) {
		return kind, data, nil
	}
	at := m.number(data)
	if at >= len(m.b) {
		return 0, nil, errJSON
	}
	return kind, m.b[at:], nil
}

// appendQuoted writes a string as the server does: it escapes what JSON must
// have escaped, and nothing else.
func appendQuoted(to, s []byte) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		to = append(to, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			to = append(to, '\\', c)
		case '\b':
			to = append(to, `\b`...)
		case '\f':
			to = append(to, `\f`...)
		case '\n':
			to = append(to, `\n`...)
		case '\r':
			to = append(to, `\r`...)
		case '\t':
			to = append(to, `\t`...)
		default:
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	to = append(to, s[from:]...)
	return append(to, '"')
}

// appendDouble writes f as the server prints a double in JSON: with the fewest
// digits that give the same number, and as 1e20 where it has more than 15 digits
// before the point or begins more than 14 zeros after it. See my_gcvt in
// MySQL's strings/dtoa.cc.
func appendDouble(to []byte, f float64) []byte {
	var buf [32]byte
	s := strconv.AppendFloat(buf[:0], f, 'e', -1, 64)
	if s[0] == '-' {
		to = append(to, '-')
		s = s[1:]
	}
	e := bytes.IndexByte(s, 'e')
	if e < 0 {
		return append(to, "null"...) // no number: JSON has no word for it
	}
	exp, _ := strconv.Atoi(string(s[e+1:]))
	digits := append(s[:1:1], s[min(2, e):e]...)
	point := exp + 1 // digits before the point
	switch {
	case f == 0:
		to = append(to, "0.0"...)
	case point > 15 || point <= -14:
		to = append(to, digits[0])
		if len(digits) > 1 {
			to = append(append(to, '.'), digits[1:]...)
		}
		to = strconv.AppendInt(append(to, 'e'), int64(exp), 10)
	case point <= 0:
		to = append(to, "0."...)
		for range -point {
			to = append(to, '0')
		}
		to = append(to, digits...)
	case len(digits) <= point:
		to = append(to, digits...)
		for range point - len(digits) {
			to = append(to, '0')
		}
		to = append(to, ".0"...)
	default:
		to = append(append(append(to, digits[:point]...), '.'), digits[point:]...)
	}
	return to
}
