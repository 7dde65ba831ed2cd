package dfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The first byte of what AppendChanges writes is the version of the form. What
// an older program can read is written as that program wrote it.
const (
	codecPlain   = 1 // no change has a Session
	codecSession = 2 // a change whose operation is sessionDDL has one
	codecPart    = 3 // a byte before each change says whether it is a Part
	codecOver    = 4 // or Overwrite
)

// What the byte before a change says.
const (
	changePart = 1
	changeOver = 2
)

// notedJSON stands for JSON in the encoding of a JSON with notes. A program that
// knows nothing of it takes it for damage.
const notedJSON = 15

// sessionDDL stands for DDL in the encoding of a change that has a Session.
const sessionDDL = 7

// AppendChanges appends changes to b in a binary form that ParseChanges reads,
// also in later versions of this package. Queues store with it the transactions
// of a source that does not encode its own. Tables are written once each.
func AppendChanges(b []byte, changes []Change) []byte {
	head := len(b)
	b = append(b, codecPlain)
	parts := slices.ContainsFunc(changes, func(c Change) bool { return c.Part || c.Overwrite })
	switch {
	case slices.ContainsFunc(changes, func(c Change) bool { return c.Overwrite }):
		b[head] = codecOver
	case parts:
		b[head] = codecPart
	}
	b = binary.AppendUvarint(b, uint64(len(changes)))
	tables := make(map[*Table]uint64)
	for i := range changes {
		c := &changes[i]
		if parts {
			how := byte(0)
			if c.Part {
				how |= changePart
			}
			if c.Overwrite {
				how |= changeOver
			}
			b = append(b, how)
		}
		flags, session := byte(c.Op), c.Op == DDL && c.Session != nil
		if session {
			flags, b[head] = sessionDDL, max(b[head], codecSession)
		}
		for bit, on := range [...]bool{c.NoForeignKeys, c.Before != nil, c.After != nil, c.Query != "", c.Table != nil} {
			if on {
				flags |= 8 << bit
			}
		}
		b = append(b, flags)
		if c.Table != nil {
			n, seen := tables[c.Table]
			if !seen {
				n = uint64(len(tables))
				tables[c.Table] = n
			}
			b = binary.AppendUvarint(b, n)
			if !seen {
				b = appendTable(b, c.Table)
			}
		}
		if c.Query != "" {
			b = appendString(b, c.Query)
		}
		if session {
			b = appendSession(b, c.Session)
		}
		for _, r := range [2]Row{c.Before, c.After} {
			if r != nil {
				b = appendRow(b, r)
			}
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSession(b []byte, s *Session) []byte {
	b = binary.AppendUvarint(appendString(b, s.Schema), uint64(len(s.Vars)))
	for _, v := range s.Vars {
		b = appendString(appendString(b, v.Name), v.Value)
	}
	return b
}

func appendTable(b []byte, t *Table) []byte {
	b = appendString(appendString(b, t.Schema), t.Name)
	b = binary.AppendUvarint(b, uint64(len(t.Columns)))
	for i := range t.Columns {
		c := &t.Columns[i]
		b = appendString(appendString(appendString(appendString(b, c.Name), c.Type), c.Charset), c.Collation)
		nullable := byte(0)
		if c.Nullable {
			nullable = 1
		}
		b = append(b, nullable)
		b = binary.AppendUvarint(b, uint64(len(c.Members)))
		for _, m := range c.Members {
			b = appendString(b, m)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(t.Key)))
	for _, k := range t.Key {
		b = binary.AppendUvarint(b, uint64(k))
	}
	return b
}

func appendRow(b []byte, r Row) []byte {
	b = binary.AppendUvarint(b, uint64(len(r)))
	for _, v := range r {
		if v.noted() {
			b = append(b, notedJSON)
			b = appendString(binary.AppendUvarint(b, v.num), v.str)
			continue
		}
		b = append(b, byte(v.kind)|v.fsp<<4)
		switch v.kind {
		case Null, Absent:
		case Int64, Time, Timestamp:
			b = binary.AppendVarint(b, int64(v.num))
		case Uint64, Date, DateTime:
			b = binary.AppendUvarint(b, v.num)
		case Float32:
			b = binary.LittleEndian.AppendUint32(b, uint32(v.num))
		case Float64:
			b = binary.LittleEndian.AppendUint64(b, v.num)
		default:
			b = appendString(b, v.str)
		}
	}
	return b
}

var errCodec = errors.New("dfs: damaged encoding of changes")

// ParseChanges reads what AppendChanges wrote. The strings in the result alias
// b, which must not be written again. Damaged input gives an error, and never
// takes more memory than a small multiple of its length.
func ParseChanges(b []byte) (changes []Change, err error) {
	if len(b) == 0 {
		return nil, errCodec
	}
	version := b[0]
	if version < codecPlain || version > codecOver {
		return nil, fmt.Errorf("dfs: encoding of changes has version %d, this program reads up to %d", version, codecOver)
	}
	d := decoder{b: b[1:]}
	n := d.count(1)
	if n > 0 {
		changes = make([]Change, 0, min(n, 1024))
	}
	var tables []*Table
	for range n {
		how := byte(0)
		if version >= codecPart {
			how = d.byte()
			if how > changePart && version == codecPart || how > changePart|changeOver {
				d.fail()
			}
		}
		flags := d.byte()
		c := Change{Op: Op(flags & 7), NoForeignKeys: flags&8 != 0, Part: how&changePart != 0, Overwrite: how&changeOver != 0}
		session := c.Op == sessionDDL && version >= codecSession
		if session {
			c.Op = DDL
		}
		if flags&128 != 0 {
			switch i := d.uvarint(); {
			case i < uint64(len(tables)):
				c.Table = tables[i]
			case i == uint64(len(tables)):
				c.Table = d.table()
				tables = append(tables, c.Table)
			default:
				d.bad = true
			}
		}
		if flags&64 != 0 {
			c.Query = d.string()
		}
		if session {
			c.Session = d.session()
		}
		if flags&16 != 0 {
			c.Before = d.row()
		}
		if flags&32 != 0 {
			c.After = d.row()
		}
		if d.bad {
			return nil, errCodec
		}
		changes = append(changes, c)
	}
	if d.bad || len(d.b) != 0 {
		return nil, errCodec
	}
	return changes, nil
}

// A decoder reads from b. After the first fault bad is set and reads give zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads how many things follow, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string { return BytesValue(d.bytes(d.count(1))).str }

func (d *decoder) session() *Session {
	s := &Session{Schema: d.string()}
	if n := d.count(2); n > 0 {
		s.Vars = make([]Var, n)
	}
	for i := range s.Vars {
		s.Vars[i] = Var{Name: d.string(), Value: d.string()}
	}
	return s
}

func (d *decoder) table() *Table {
	t := &Table{Schema: d.string(), Name: d.string()}
	if n := d.count(6); n > 0 {
		t.Columns = make([]Column, n)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		c.Name, c.Type, c.Charset, c.Collation = d.string(), d.string(), d.string(), d.string()
		c.Nullable = d.byte() != 0
		for range d.count(1) {
			c.Members = append(c.Members, d.string())
		}
	}
	for range d.count(1) {
		k := d.uvarint()
		if k >= uint64(len(t.Columns)) {
			d.fail()
			break
		}
		t.Key = append(t.Key, int(k))
	}
	return t
}

func (d *decoder) row() Row {
	r := make(Row, d.count(1))
	for i := range r {
		head := d.byte()
		v := Value{kind: Kind(head & 15), fsp: head >> 4}
		switch v.kind {
		case Null, Absent:
		case Int64, Time, Timestamp:
			v.num = uint64(d.varint())
		case Uint64, Date, DateTime:
			v.num = d.uvarint()
		case Float32:
			if f := d.bytes(4); f != nil {
				v.num = uint64(binary.LittleEndian.Uint32(f))
			}
		case Float64:
			if f := d.bytes(8); f != nil {
				v.num = binary.LittleEndian.Uint64(f)
			}
		case notedJSON:
			v.kind, v.num, v.str = JSON, d.uvarint(), d.string()
			if v.num == 0 || v.num > uint64(len(v.str)) {
				d.fail()
			} else if _, ok := parseNotes(v.str[v.num:]); !ok {
				d.fail()
			}
		case Decimal, String, Bytes, JSON:
			v.str = d.string()
		default:
			d.fail()
		}
		if v.fsp > 6 || v.kind == Float32 && v.num > math.MaxUint32 {
			d.fail()
		}
		r[i] = v
	}
	return r
}
