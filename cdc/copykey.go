package cdc

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A copyKey is the key by which a table is copied.
type copyKey struct {
	index   string // its name
	columns []int  // of the table
	table   *dfs.Table
	text    bool       // the order of one of its columns only the server knows
	integer bool       // it is one integer
	weigh   []*weigher // of its columns; nil for those that are no text
}

// oddCollations begin the names of those of which WEIGHT_STRING is not what the
// server compares by (seen with 5.6, 9.7 and MariaDB 10.11), or is not told.
var oddCollations = []string{"big5_chinese", "gb18030_chinese", "cp1250_czech", "latin7_estonian", "latin7_general"}

// orderable reports whether rows can be paged by a column of the type.
func orderable(c *dfs.Column) bool {
	if slices.ContainsFunc(oddCollations, func(name string) bool { return strings.HasPrefix(c.Collation, name) }) {
		return false
	}
	if c.Type == "set" && len(c.Members) == 64 {
		return false // servers compare it with a number as if both had a sign
	}
	name, _, _ := strings.Cut(c.Type, "(")
	name, _, _ = strings.Cut(name, " ")
	switch name {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "float", "double", "decimal", "year", "bit", "enum",
		"date", "time", "datetime", "timestamp", "char", "varchar", "binary", "varbinary",
		"tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob":
		return true
	}
	return false
}

// hash tells keys from each other: a position has it, so that ranges of one key
// are never taken for those of another.
func (k *copyKey) hash() string {
	h := fnv.New32a()
	for _, i := range k.columns {
		c := &k.table.Columns[i]
		fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s\x00", strings.ToLower(c.Name), c.Type, c.Collation, strings.Join(c.Members, ","))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// A bound is a place in the order of a key.
type bound struct {
	row   dfs.Row // values of the key's columns
	order string  // compares as the key does
}

// A keyRange is the keys after lo and up to hi; nil is before and after all.
type keyRange struct{ lo, hi *bound }

// has reports whether a key is in the range.
func (r keyRange) has(order string) bool {
	return (r.lo == nil || order > r.lo.order) && (r.hi == nil || order <= r.hi.order)
}

// empty reports whether there can be no key in the range.
func (r keyRange) empty() bool { return r.lo != nil && r.hi != nil && r.lo.order >= r.hi.order }

// minus returns what of list is not in r, which has the form of list: in order,
// and no key in two.
func minus(list []keyRange, r keyRange) []keyRange {
	var rest []keyRange
	for _, l := range list {
		if r.lo != nil && l.hi != nil && l.hi.order <= r.lo.order || r.hi != nil && l.lo != nil && l.lo.order >= r.hi.order {
			rest = append(rest, l)
			continue
		}
		if r.lo != nil && (l.lo == nil || l.lo.order < r.lo.order) {
			rest = append(rest, keyRange{l.lo, r.lo})
		}
		if r.hi != nil && (l.hi == nil || l.hi.order > r.hi.order) {
			rest = append(rest, keyRange{r.hi, l.hi})
		}
	}
	return rest
}

// appendOrder appends bytes that compare as v does in an index. A String's own
// bytes do not: weight has its place, or is empty for exact, which tells strings
// apart that are equal to the server.
func appendOrder(b []byte, v dfs.Value, weight string, exact bool) ([]byte, error) {
	be := binary.BigEndian
	switch v.Kind() {
	case dfs.Int64, dfs.Time:
		return be.AppendUint64(b, v.Uint()^1<<63), nil
	case dfs.Uint64, dfs.Date, dfs.DateTime, dfs.Timestamp:
		return be.AppendUint64(b, v.Uint()), nil
	case dfs.Float32, dfs.Float64:
		f := v.Float()
		if f == 0 {
			f = 0 // minus zero is the same key
		}
		n := math.Float64bits(f)
		if n>>63 != 0 {
			n = ^n
		} else {
			n |= 1 << 63
		}
		return be.AppendUint64(b, n), nil
	case dfs.Decimal:
		// All values of a column have as many digits after the point.
		s := v.Text()
		neg := strings.HasPrefix(s, "-")
		s = strings.TrimPrefix(s, "-")
		whole, _, _ := strings.Cut(s, ".")
		at := len(b)
		b = append(append(b, byte(len(whole))), s...)
		if neg {
			for i := at; i < len(b); i++ {
				b[i] = ^b[i]
			}
			return append(append(b[:at], append([]byte{0}, b[at:]...)...), 0xff), nil
		}
		return append(append(b[:at], append([]byte{1}, b[at:]...)...), 0), nil
	case dfs.Bytes:
		return appendTerminated(b, v.Text()), nil
	case dfs.String:
		if exact {
			weight = v.Text()
		}
		return appendTerminated(b, weight), nil
	}
	return b, fmt.Errorf("cdc: a key has a value of kind %v", v.Kind())
}

// appendTerminated appends s so that shorter texts come first, whatever follows.
func appendTerminated(b []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			return append(append(b, s...), 0, 1)
		}
		b = append(append(b, s[:i]...), 0, 0xff)
		s = s[i+1:]
	}
}

// exact appends what tells the key of a row from all others, byte by byte.
func (k *copyKey) exact(b []byte, row dfs.Row) ([]byte, error) {
	var err error
	for _, i := range k.columns {
		if b, err = appendOrder(b, row[i], "", true); err != nil {
			return b, err
		}
	}
	return b, nil
}

// of returns the key's values of a row.
func (k *copyKey) of(row dfs.Row) dfs.Row {
	key := make(dfs.Row, len(k.columns))
	for i, at := range k.columns {
		key[i] = ownValue(row[at])
	}
	return key
}

// ownValue returns v with its text in memory of its own.
func ownValue(v dfs.Value) dfs.Value {
	switch v.Kind() {
	case dfs.String:
		return dfs.StringValue(strings.Clone(v.Text()))
	case dfs.Bytes:
		return dfs.BytesValue([]byte(strings.Clone(v.Text())))
	case dfs.Decimal:
		return dfs.DecimalValue(strings.Clone(v.Text()))
	case dfs.JSON:
		if notes := v.JSONNotes(); notes != nil {
			return dfs.JSONNotedValue(v.Text(), notes)
		}
		return dfs.JSONValue(strings.Clone(v.Text()))
	}
	return v
}

// ownRow returns row in memory of its own.
func ownRow(row dfs.Row) dfs.Row {
	own := make(dfs.Row, len(row))
	for i := range row {
		own[i] = ownValue(row[i])
	}
	return own
}

// literal appends v as SQL has it.
func literal(b []byte, v dfs.Value, c *dfs.Column) []byte {
	switch v.Kind() {
	case dfs.Int64, dfs.Uint64, dfs.Decimal:
		return v.Append(b)
	case dfs.Float32, dfs.Float64:
		return strconv.AppendFloat(b, v.Float(), 'e', -1, 64)
	case dfs.String:
		// No set of characters is guessed: the bytes are those of the column.
		b = append(append(append(b, '_'), c.Charset...), " x'"...)
		b = append(hex.AppendEncode(b, v.Bytes()), "' COLLATE "...)
		return append(b, c.Collation...)
	case dfs.Bytes:
		return append(hex.AppendEncode(append(b, "x'"...), v.Bytes()), '\'')
	}
	return append(v.Append(append(b, '\'')), '\'')
}

// quoted quotes an identifier.
func quoted(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// condition appends a condition that the keys in r meet, or nothing.
func (k *copyKey) condition(b []byte, r keyRange) []byte {
	if r.lo != nil {
		b = append(b, " AND "...)
		b = k.beyond(b, r.lo.row, " > ", " > ")
	}
	if r.hi != nil {
		b = append(b, " AND "...)
		b = k.beyond(b, r.hi.row, " < ", " <= ")
	}
	return b
}

// beyond appends (a > x OR a = x AND (b > y)): servers find the place of that in
// an index, and not that of (a, b) > (x, y).
func (k *copyKey) beyond(b []byte, row dfs.Row, op, last string) []byte {
	for i, at := range k.columns {
		c := &k.table.Columns[at]
		name := quoted(c.Name)
		end := i == len(k.columns)-1
		b = append(append(b, '('), name...)
		if end {
			b = append(b, last...)
		} else {
			b = append(b, op...)
		}
		b = literal(b, row[i], c)
		if !end {
			b = append(append(append(b, " OR "...), name...), " = "...)
			b = append(literal(b, row[i], c), " AND "...)
		}
	}
	return append(b, strings.Repeat(")", len(k.columns))...)
}

// list appends the names of the key's columns.
func (k *copyKey) list(b []byte) []byte {
	for i, at := range k.columns {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, quoted(k.table.Columns[at].Name)...)
	}
	return b
}

// text returns a bound's values as a word of a position has them.
func (b *bound) text() string {
	if b == nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(dfs.AppendChanges(nil, []dfs.Change{{Op: dfs.Insert, After: b.row}}))
}

// parseBound reads what text wrote, but for the order.
func parseBound(s string) (*bound, error) {
	if s == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, err
	}
	c, err := dfs.ParseChanges(raw)
	if err != nil {
		return nil, err
	}
	if len(c) != 1 || len(c[0].After) == 0 {
		return nil, errors.New("it is no key")
	}
	return &bound{row: c[0].After}, nil
}

// middle returns a place between two integers, if there is one.
func (k *copyKey) middle(lo, hi dfs.Value) (*bound, bool) {
	var v dfs.Value
	if lo.Kind() == dfs.Uint64 {
		a, b := lo.Uint(), hi.Uint()
		if b <= a || b-a < 2 {
			return nil, false
		}
		v = dfs.UintValue(a + (b-a)/2)
	} else {
		a, b := lo.Int(), hi.Int()
		if b <= a || uint64(b)-uint64(a) < 2 {
			return nil, false
		}
		v = dfs.IntValue(a + int64((uint64(b)-uint64(a))/2))
	}
	order, _ := appendOrder(nil, v, "", false)
	return &bound{dfs.Row{v}, string(order)}, true
}
