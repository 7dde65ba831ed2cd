package rowevent

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// Types in MySQL's binary JSON, of sql-common/json_binary.cc. Containers have a
// large form, whose type is greater by one.
const (
	jsonObject  = 0
	jsonArray   = 2
	jsonLarge   = 1
	jsonLiteral = 4
	jsonInt16   = 5
	jsonUint16  = 6
	jsonInt32   = 7
	jsonUint32  = 8
	jsonInt64   = 9
	jsonUint64  = 10
	jsonDouble  = 11
	jsonString  = 12
	jsonOpaque  = 15
)

const (
	maxJSONDepth = 100            // JSON_DOCUMENT_MAX_DEPTH
	maxJSONSmall = math.MaxUint16 // bytes of a small container
	maxJSONKey   = math.MaxUint16 // bytes

	// Larger documents cost more memory than they are worth: 56 bytes for each value.
	maxJSONText   = 16 << 20
	maxJSONValues = 1 << 20
	keptValues    = 1 << 12 // for the next document
)

// A JSONEncoder turns documents into MySQL's binary form: into the bytes that the
// server makes of them. The zero value is ready. It keeps scratch space, so it is
// not for concurrent use.
//
// A container is small, with places of two bytes, if it takes no more than 64 KB
// that way with all that is in it, and else large. Literals and numbers that fit
// stand in a container's table of values. Keys are in order of their lengths, and
// then of their bytes.
type JSONEncoder struct {
	text  []byte
	plain []byte     // strings and keys that have escapes in the text, without, and opaque values
	nodes []jsonNode // a container comes before what is in it
	order []uint32   // members of objects that the text does not have in order
	notes []dfs.JSONNote
	path  []byte // to the value at hand, if there are notes
}

// A jsonNode is a value.
type jsonNode struct {
	num    uint64   // of a number or literal; how many values a container has
	str    jsonSpan // of a string or opaque value
	key    jsonSpan // of a member of an object
	small  uint32   // bytes beside its entry in a small container; of a large one, more than fit
	size   uint32   // bytes beside its entry in a large container
	next   uint32   // the node behind all that is in it
	order  int32    // of an object: where in order its members begin; -1 if they are in order
	kind   byte
	opaque byte // the type of SQL
}

// A jsonSpan is a place in the text or, if plain, in e.plain.
type jsonSpan struct {
	at, size uint32
	plain    bool
}

var (
	errJSONText  = errors.New("it is no JSON, or such as not all servers read alike")
	errJSONNotes = errors.New("its notes do not fit its text")
	errJSONKeys  = errors.New("an object has a key twice")
	errJSONDepth = fmt.Errorf("it nests deeper than %d", maxJSONDepth)
	errJSONLarge = fmt.Errorf("it has more than %d bytes or %d values", maxJSONText, maxJSONValues)
)

// Append appends the binary form of v to b. It refuses what is no JSON, and what
// not all servers read alike: objects with a key twice, numbers that neither a
// 64-bit integer nor a double holds, halves of surrogate pairs, notes that fit no
// value. Very large documents it refuses too.
func (e *JSONEncoder) Append(b []byte, v dfs.Value) ([]byte, error) {
	if v.Kind() != dfs.JSON {
		return b, fmt.Errorf("a %s is no JSON", v.Kind())
	}
	e.text, e.notes = v.Bytes(), v.JSONNotes()
	e.plain, e.nodes, e.order, e.path = e.plain[:0], e.nodes[:0], e.order[:0], append(e.path[:0], '$')
	defer e.letGo()
	switch {
	case len(e.text) > maxJSONText:
		return b, errJSONLarge
	case !utf8.Valid(e.text):
		return b, errJSONText
	}
	end, err := e.read(e.space(0), 1, jsonSpan{})
	if err != nil {
		return b, err
	}
	if e.space(end) != len(e.text) {
		return b, errJSONText
	}
	if len(e.notes) > 0 {
		return b, errJSONNotes
	}
	// The document's own type stands before it, and no value is in an entry.
	n := &e.nodes[0]
	b = append(slices.Grow(b, 1+int(max(n.size, 8))), n.kind)
	return e.appendValue(b, 0), nil
}

// letGo lets go of the document, and of more scratch space than most need.
func (e *JSONEncoder) letGo() {
	e.text, e.notes = nil, nil
	if cap(e.nodes) > keptValues {
		e.nodes, e.order = nil, nil
	}
	if cap(e.plain) > 16*keptValues {
		e.plain = nil
	}
}

// at returns the byte of the text at i, or 0 behind its end, which no text has
// outside of strings.
func (e *JSONEncoder) at(i int) byte {
	if i < len(e.text) {
		return e.text[i]
	}
	return 0
}

// space returns the place of the first byte from i on that is no space.
func (e *JSONEncoder) space(i int) int {
	for i < len(e.text) && (e.text[i] == ' ' || e.text[i] == '\n' || e.text[i] == '\t' || e.text[i] == '\r') {
		i++
	}
	return i
}

// span returns what is at a span.
func (e *JSONEncoder) span(s jsonSpan) []byte {
	if s.plain {
		return e.plain[s.at : s.at+s.size]
	}
	return e.text[s.at : s.at+s.size]
}

// read reads the value that begins at i, and returns where it ends. A container
// there is at the given depth.
func (e *JSONEncoder) read(i, depth int, key jsonSpan) (end int, err error) {
	n := len(e.nodes)
	if n == maxJSONValues {
		return i, errJSONLarge
	}
	e.nodes = append(e.nodes, jsonNode{key: key, order: -1})
	node := &e.nodes[n]
	switch c := e.at(i); {
	case c == '{' || c == '[':
		if depth > maxJSONDepth {
			return i, errJSONDepth
		}
		if e.noted() {
			return i, errJSONNotes
		}
		return e.container(i, depth, n)
	case c == '"':
		node.kind = jsonString
		node.str, end, err = e.quoted(i)
	case c == 't':
		end, err = e.literal(node, i, "true", 1)
	case c == 'f':
		end, err = e.literal(node, i, "false", 2)
	case c == 'n':
		end, err = e.literal(node, i, "null", 0)
	default:
		end, err = e.number(node, i)
	}
	if err == nil && e.noted() {
		err = e.note(node, e.text[i:end], &e.notes[0])
		e.notes = e.notes[1:]
	}
	if err != nil {
		return end, err
	}
	node.next = uint32(n + 1)
	node.measure()
	return end, nil
}

// noted reports whether the next note is on the value at hand.
func (e *JSONEncoder) noted() bool {
	return len(e.notes) > 0 && string(e.path) == e.notes[0].Path
}

// measure sets the sizes of what is no container.
func (n *jsonNode) measure() {
	var size int
	switch n.kind {
	case jsonLiteral, jsonInt16, jsonUint16:
	case jsonInt32, jsonUint32:
		n.small = 4 // and in the entry of a large container
		return
	case jsonInt64, jsonUint64, jsonDouble:
		size = 8
	default:
		size = int(n.str.size)
		size += uvarintSize(size)
		if n.kind == jsonOpaque {
			size++
		}
	}
	n.small, n.size = uint32(size), uint32(size)
}

func uvarintSize(n int) int { return (bits.Len32(uint32(n)|1) + 6) / 7 }

// container reads an object or array into node n.
func (e *JSONEncoder) container(i, depth, n int) (end int, err error) {
	kind, closing := byte(jsonArray), byte(']')
	if e.text[i] == '{' {
		kind, closing = jsonObject, '}'
	}
	var count, keys, small, large int // of bytes but the first
	sorted, path := true, len(e.path)
	var last jsonSpan
	if i = e.space(i + 1); e.at(i) != closing {
		for {
			var key jsonSpan
			if kind == jsonObject {
				at := i
				if key, i, err = e.quoted(i); err != nil {
					return i, err
				}
				if key.size > maxJSONKey {
					return i, fmt.Errorf("a key has more than %d bytes", maxJSONKey)
				}
				if len(e.notes) > 0 {
					e.path = append(append(e.path[:path], '.'), e.text[at:i]...)
				}
				if i = e.space(i); e.at(i) != ':' {
					return i, errJSONText
				}
				i = e.space(i + 1)
				keys += int(key.size)
				sorted = sorted && (count == 0 || e.compare(last, key) < 0)
				last = key
			} else if len(e.notes) > 0 {
				e.path = append(strconv.AppendInt(append(e.path[:path], '['), int64(count), 10), ']')
			}
			at := len(e.nodes)
			if i, err = e.read(i, depth+1, key); err != nil {
				return i, err
			}
			count++
			small += int(e.nodes[at].small)
			large += int(e.nodes[at].size)
			if i = e.space(i); e.at(i) != ',' {
				break
			}
			i = e.space(i + 1)
		}
	}
	if e.at(i) != closing {
		return i, errJSONText
	}
	e.path = e.path[:path]
	node := &e.nodes[n]
	node.num, node.next = uint64(count), uint32(len(e.nodes))
	if !sorted {
		if err := e.sort(n); err != nil {
			return i, err
		}
	}
	// Two numbers, an entry for each value and one for each key: see appendContainer.
	small += 4 + 3*count
	large += 8 + 5*count
	if kind == jsonObject {
		small += keys + 4*count
		large += keys + 6*count
	}
	if small <= maxJSONSmall {
		node.kind, node.small, node.size = kind, uint32(small), uint32(small)
	} else {
		node.kind, node.small, node.size = kind|jsonLarge, maxJSONSmall+1, uint32(large)
	}
	return i + 1, nil
}

// compare compares two keys as the server orders them.
func (e *JSONEncoder) compare(a, b jsonSpan) int {
	return cmp.Or(cmp.Compare(a.size, b.size), bytes.Compare(e.span(a), e.span(b)))
}

// sort notes the order of the members of the object that is node n.
func (e *JSONEncoder) sort(n int) error {
	from := len(e.order)
	for i := uint32(n + 1); i < e.nodes[n].next; i = e.nodes[i].next {
		e.order = append(e.order, i)
	}
	e.nodes[n].order = int32(from)
	members := e.order[from:]
	slices.SortFunc(members, func(a, b uint32) int { return e.compare(e.nodes[a].key, e.nodes[b].key) })
	for i := range len(members) - 1 {
		if e.compare(e.nodes[members[i]].key, e.nodes[members[i+1]].key) == 0 {
			return errJSONKeys
		}
	}
	return nil
}

func (e *JSONEncoder) literal(n *jsonNode, i int, word string, num uint64) (end int, err error) {
	if !bytes.HasPrefix(e.text[i:], []byte(word)) {
		return i, errJSONText
	}
	n.kind, n.num = jsonLiteral, num
	return i + len(word), nil
}

// number reads a number.
func (e *JSONEncoder) number(n *jsonNode, i int) (end int, err error) {
	from := i
	digits := func() bool {
		at := i
		for i < len(e.text) && '0' <= e.text[i] && e.text[i] <= '9' {
			i++
		}
		return i > at
	}
	if e.at(i) == '-' {
		i++
	}
	if e.at(i) == '0' {
		i++
	} else if !digits() {
		return i, errJSONText
	}
	whole := i
	if e.at(i) == '.' {
		if i++; !digits() {
			return i, errJSONText
		}
	}
	if e.at(i)|0x20 == 'e' {
		i++
		if c := e.at(i); c == '-' || c == '+' {
			i++
		}
		if !digits() {
			return i, errJSONText
		}
	}
	text := alias(e.text[from:i])
	if whole < i {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return i, errJSONText
		}
		n.kind, n.num = jsonDouble, math.Float64bits(f)
		return i, nil
	}
	// A number that is too large is for the note to say, which must be on a DECIMAL.
	// What needs more than 32 bits and is not negative is unsigned to the server, and
	// all else signed: see Rapid_json_handler in sql-common/json_dom.cc.
	if text[0] == '-' {
		num, err := strconv.ParseInt(text, 10, 64)
		if err != nil && !e.noted() {
			return i, errJSONText // a double to servers, which do not all round alike
		}
		n.signed(num)
		return i, nil
	}
	num, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err != nil && !e.noted():
		return i, errJSONText
	case num > math.MaxUint32:
		n.unsigned(num)
	default:
		n.signed(int64(num))
	}
	return i, nil
}

func (n *jsonNode) signed(num int64) {
	n.num = uint64(num)
	switch {
	case num == int64(int16(num)):
		n.kind = jsonInt16
	case num == int64(int32(num)):
		n.kind = jsonInt32
	default:
		n.kind = jsonInt64
	}
}

func (n *jsonNode) unsigned(num uint64) {
	n.num = num
	switch {
	case num <= math.MaxUint16:
		n.kind = jsonUint16
	case num <= math.MaxUint32:
		n.kind = jsonUint32
	default:
		n.kind = jsonUint64
	}
}

// special returns the place of the first byte from i on that ends a run of a
// string: a quote, a backslash, or what must be escaped.
func (e *JSONEncoder) special(i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	b := e.text
	for ; i+8 <= len(b); i += 8 {
		// The lowest high bit that is set is of the first such byte.
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^'"'*ones, x^'\\'*ones
		if m := ((x-' '*ones)&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs; m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// quoted reads the string whose quote is at i.
func (e *JSONEncoder) quoted(i int) (s jsonSpan, end int, err error) {
	if e.at(i) != '"' {
		return s, i, errJSONText
	}
	i++
	from, start := i, len(e.plain)
	for i = e.special(i); e.at(i) == '\\'; i = e.special(i) {
		e.plain = append(e.plain, e.text[from:i]...)
		r, size := e.escape(i)
		if size == 0 {
			return s, i, errJSONText
		}
		e.plain = utf8.AppendRune(e.plain, r)
		i += size
		from, s.plain = i, true
	}
	if e.at(i) != '"' {
		return s, i, errJSONText
	}
	if s.plain {
		e.plain = append(e.plain, e.text[from:i]...)
		s.at, s.size = uint32(start), uint32(len(e.plain)-start)
	} else {
		s.at, s.size = uint32(from), uint32(i-from)
	}
	return s, i + 1, nil
}

// escape reads the escape at i, which is of size bytes; 0 if it is none.
func (e *JSONEncoder) escape(i int) (r rune, size int) {
	switch c := e.at(i + 1); c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		if r = e.unit(i); r < 0 {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if r = utf16.DecodeRune(r, e.unit(i+6)); r != utf8.RuneError {
			return r, 12
		}
	}
	return 0, 0
}

// unit reads four digits behind the \u at i; -1 if they are not there.
func (e *JSONEncoder) unit(i int) rune {
	if i+6 > len(e.text) || e.text[i] != '\\' || e.text[i+1] != 'u' {
		return -1
	}
	r := rune(0)
	for _, c := range e.text[i+2 : i+6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}
