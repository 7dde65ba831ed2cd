package rowevent

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/dataflowsync/dfs"
)

// appendValue appends what of node i stands beside its entry.
func (e *JSONEncoder) appendValue(b []byte, i uint32) []byte {
	n := &e.nodes[i]
	switch n.kind {
	case jsonLiteral:
		return append(b, byte(n.num))
	case jsonInt16, jsonUint16:
		return binary.LittleEndian.AppendUint16(b, uint16(n.num))
	case jsonInt32, jsonUint32:
		return binary.LittleEndian.AppendUint32(b, uint32(n.num))
	case jsonInt64, jsonUint64, jsonDouble:
		return binary.LittleEndian.AppendUint64(b, n.num)
	case jsonOpaque:
		b = append(b, n.opaque)
		fallthrough
	case jsonString:
		s := e.span(n.str)
		return append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return e.appendContainer(b, i)
}

// appendContainer appends a container: how many values it has and how many bytes,
// for each key where it is and its length, for each value its type and where it
// is or itself, the keys, and the values. Places are counted from its beginning.
func (e *JSONEncoder) appendContainer(b []byte, i uint32) []byte {
	n := &e.nodes[i]
	width, object := 2, n.kind&^jsonLarge == jsonObject
	if n.kind&jsonLarge != 0 {
		width = 4
	}
	start, count := len(b), int(n.num)
	entry := start + 2*width // the next to be written
	head := 2*width + count*(1+width)
	if object {
		head += count * (width + 2)
	}
	b = b[:start+head] // Append has made room for all
	putInt(b[start:], uint32(count), width)
	putInt(b[start+width:], n.size, width)
	if object {
		for k, m := 0, e.first(i); k < count; k, m = k+1, e.after(i, k, m) {
			key := e.nodes[m].key
			putInt(b[entry:], uint32(len(b)-start), width)
			putInt(b[entry+width:], key.size, 2)
			entry += width + 2
			b = append(b, e.span(key)...)
		}
	}
	for k, m := 0, e.first(i); k < count; k, m = k+1, e.after(i, k, m) {
		v := &e.nodes[m]
		b[entry] = v.kind
		if v.kind == jsonLiteral || v.kind == jsonInt16 || v.kind == jsonUint16 || width == 4 && (v.kind == jsonInt32 || v.kind == jsonUint32) {
			putInt(b[entry+1:], uint32(v.num), width)
		} else {
			putInt(b[entry+1:], uint32(len(b)-start), width)
			b = e.appendValue(b, m)
		}
		entry += 1 + width
	}
	return b
}

// first returns the first value of container i, in the order in which they are written.
func (e *JSONEncoder) first(i uint32) uint32 {
	if o := e.nodes[i].order; o >= 0 {
		return e.order[o]
	}
	return i + 1
}

// after returns the value after value k of container i, which is m.
func (e *JSONEncoder) after(i uint32, k int, m uint32) uint32 {
	if o := int(e.nodes[i].order); o >= 0 {
		return e.order[min(o+k+1, len(e.order)-1)] // what is behind the last is not used
	}
	return e.nodes[m].next
}

// putInt writes the low width bytes of v, of which there are two or four.
func putInt(b []byte, v uint32, width int) {
	if width == 2 {
		binary.LittleEndian.PutUint16(b, uint16(v))
	} else {
		binary.LittleEndian.PutUint32(b, v)
	}
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Types of SQL of opaque values beside those of columns.
const (
	typeTimestamp  = 7
	typeTime       = 11
	typeDateTime   = 12
	typeTinyBlob   = 249
	typeMediumBlob = 250
	typeLongBlob   = 251
	typeVarString  = 253
)

// note makes of n, whose text is given, the value that a note says it is.
func (e *JSONEncoder) note(n *jsonNode, text []byte, note *dfs.JSONNote) (err error) {
	name, args, _ := splitType(note.Type)
	start, ok := len(e.plain), false
	switch {
	case n.kind == jsonString:
		s := e.span(n.str)
		if n.opaque, ok = packedTypes[note.Type]; ok {
			var packed int64
			if packed, ok = packTemporal(n.opaque, note.Text); !ok || string(s) != note.Text {
				return fmt.Errorf("%w: %s %q", errJSONNotes, note.Type, note.Text)
			}
			e.plain = binary.LittleEndian.AppendUint64(e.plain, uint64(packed))
			break
		}
		if n.opaque, ok = blobType(s, note); !ok {
			return fmt.Errorf("%w: %s", errJSONNotes, note.Type)
		}
		e.plain = append(e.plain, note.Text...)
	case string(text) != note.Text:
		return fmt.Errorf("%w: %s %q", errJSONNotes, note.Type, note.Text)
	case note.Type == "bigint":
		num, err := strconv.ParseInt(note.Text, 10, 64)
		if err != nil {
			return errJSONNotes
		}
		n.signed(num)
		return nil
	case note.Type == "bigint unsigned":
		num, err := strconv.ParseUint(note.Text, 10, 64)
		if err != nil {
			return errJSONNotes
		}
		n.unsigned(num)
		return nil
	case name == "decimal" && len(args) == 2 && 0 < args[0] && args[0] <= 81 && 0 <= args[1] && args[1] <= args[0]:
		e.plain = append(e.plain, byte(args[0]), byte(args[1]))
		if e.plain, ok = appendDecimal(e.plain, note.Text, args[0], args[1]); !ok {
			return fmt.Errorf("%w: %s %q", errJSONNotes, note.Type, note.Text)
		}
		n.opaque = typeNewDecimal
	default:
		return fmt.Errorf("%w: %s", errJSONNotes, note.Type)
	}
	n.kind, n.str = jsonOpaque, jsonSpan{uint32(start), uint32(len(e.plain) - start), true}
	return nil
}

// packedTypes are the types of values that are stored as one number.
var packedTypes = map[string]byte{"date": typeDate, "time(6)": typeTime, "datetime(6)": typeDateTime, "timestamp(6)": typeTimestamp}

// packTemporal packs what the server prints of a temporal value (Json_datetime).
func packTemporal(typ byte, s string) (packed int64, ok bool) {
	number := func(n int) (v int64) {
		if ok = ok && len(s) >= n; !ok {
			return 0
		}
		for _, c := range []byte(s[:n]) {
			ok = ok && '0' <= c && c <= '9'
			v = v*10 + int64(c-'0')
		}
		s = s[n:]
		return v
	}
	skip := func(sep string) {
		ok = ok && strings.HasPrefix(s, sep)
		s = strings.TrimPrefix(s, sep)
	}
	ok = true
	negative := false
	if typ == typeTime {
		s, negative = strings.CutPrefix(s, "-")
		hour := number(max(strings.IndexByte(s, ':'), 2))
		packed = hour << 12
		ok = ok && hour <= 1023
	} else {
		year := number(4)
		skip("-")
		month := number(2)
		skip("-")
		day := number(2)
		ok = ok && month <= 12 && day <= 31
		packed = ((year*13+month)<<5 | day) << 17
		if typ == typeDate {
			return packed << 24, ok && s == ""
		}
		skip(" ")
		hour := number(2)
		ok = ok && hour <= 31
		packed |= hour << 12
	}
	skip(":")
	minute := number(2)
	skip(":")
	second := number(2)
	skip(".")
	micro := number(6)
	ok = ok && minute <= 63 && second <= 63 && s == ""
	packed = (packed|minute<<6|second)<<24 | micro
	if negative {
		packed = -packed
	}
	return packed, ok
}

// blobType returns the type of SQL of a value that a document prints as s:
// base64:type253:YWJj.
func blobType(s []byte, note *dfs.JSONNote) (typ byte, ok bool) {
	s, ok = bytes.CutPrefix(s, []byte("base64:type"))
	number, code, found := bytes.Cut(s, []byte(":"))
	n, err := strconv.ParseUint(alias(number), 10, 8)
	if !ok || !found || err != nil {
		return 0, false
	}
	// A server breaks lines, which decoding passes over.
	if b, err := base64.StdEncoding.AppendDecode(nil, code); err != nil || string(b) != note.Text {
		return 0, false
	}
	want := fmt.Sprintf("type %d", n)
	switch n {
	case typeBit:
		want = fmt.Sprintf("bit(%d)", 8*len(note.Text))
	case typeVarchar, typeVarString:
		want = "varbinary"
	case typeString:
		want = "binary"
	case typeTinyBlob:
		want = "tinyblob"
	case typeMediumBlob:
		want = "mediumblob"
	case typeLongBlob:
		want = "longblob"
	case typeBlob:
		want = "blob"
	}
	return byte(n), want == note.Type && n != typeNewDecimal && n != typeDate && n != typeTime && n != typeDateTime && n != typeTimestamp
}
