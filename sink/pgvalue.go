package sink

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/charset"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A textOf appends the text of a value, as PostgreSQL reads it for the column's type.
// It returns nil for what becomes NULL.
type textOf = func(b []byte, v dfs.Value) ([]byte, error)

// mapColumn finds out how values of column i become those of the target's column.
func (p *pgBackend) mapColumn(m *mapping, i int, tc *targetColumn) (note string, err error) {
	sc := &m.src.Columns[i]
	from, err := convert.Parse(convert.TypeText(sc))
	if err != nil {
		return "", err
	}
	c := pgColumn{sc: sc, tc: tc, from: from, unfit: p.unfit, exact: true}
	if sc.Type != "" && tc.base != "" {
		m.text[i] = c.find()
	}
	if m.text[i] == nil {
		return "", fmt.Errorf("no value of the one is a value of the other: ALTER the target's column to %s, or convert the column on the way", pgType(sc, from))
	}
	m.exact[i] = c.exact && !tc.collates
	return c.note, nil
}

// pgColumn is a pair of columns, and what is found out about it.
type pgColumn struct {
	sc    *dfs.Column
	tc    *targetColumn
	from  convert.Type
	unfit Unfit

	exact bool
	note  string
}

// inexact notes that different values may become one.
func (c *pgColumn) inexact(note string) {
	c.exact = false
	if note != "" {
		c.note = note
	}
}

// find returns what makes the text of the values, or nil if nothing does.
func (c *pgColumn) find() textOf {
	kind := c.from.Kind()
	member := len(c.sc.Members) > 0
	number := kind >= dfs.Int64 && kind <= dfs.Decimal && !member && c.from.Name != "bit"
	switch c.tc.base {
	case "int2", "int4", "int8":
		if c.from.Name == "bit" || number {
			if kind == dfs.Float32 || kind == dfs.Float64 || kind == dfs.Decimal {
				if _, scale := c.from.Decimal(); kind != dfs.Decimal || scale > 0 {
					return nil
				}
			}
			return printedOf
		}
	case "numeric":
		if number || c.from.Name == "bit" {
			if _, scale := c.from.Decimal(); c.tc.precision >= 0 && scale > c.tc.scale || kind == dfs.Float32 || kind == dfs.Float64 {
				c.inexact(fmt.Sprintf("numbers are rounded to %d digits after the point", max(c.tc.scale, 0)))
			}
			return printedOf
		}
	case "float4", "float8":
		if number {
			c.inexact("")
			if kind != dfs.Float32 && (kind != dfs.Float64 || c.tc.base == "float4") {
				c.note = "numbers lose digits in a " + c.tc.typ
			}
			return printedOf
		}
	case "bool":
		if c.from.Name == "bit" || kind == dfs.Int64 || kind == dfs.Uint64 && number {
			return c.boolean
		}
	case "text", "varchar", "bpchar", "citext", "name", "enum":
		return c.findText(kind, member)
	case "bytea":
		if kind == dfs.Bytes || kind == dfs.String {
			return bytea
		}
	case "bit", "varbit":
		if c.from.Name == "bit" && (c.tc.base == "varbit" || max(c.tc.precision, 1) == bits(c.from)) {
			return c.bits
		}
	case "date":
		if kind == dfs.Date {
			c.fraction()
			return c.date
		}
	case "timestamp", "timestamptz":
		switch kind {
		case dfs.Date, dfs.DateTime, dfs.Timestamp:
			if c.tc.base == "timestamptz" && kind != dfs.Timestamp {
				c.note = "times without a zone are taken as UTC"
			} else if c.tc.base == "timestamp" && kind == dfs.Timestamp {
				c.note = "moments arrive as UTC"
			}
			c.fraction()
			return c.date
		}
	case "time":
		if kind == dfs.Time {
			c.fraction()
			if c.unfit.Times != UnfitStop {
				c.inexact("")
			}
			return c.time
		}
	case "interval":
		if kind == dfs.Time {
			c.fraction()
			return printedOf
		}
	case "json", "jsonb":
		if kind == dfs.JSON || kind == dfs.String && convert.IsUTF8(c.sc.Charset) {
			if kind == dfs.String && c.tc.base == "jsonb" {
				c.inexact("of members of one name only the last is kept, and spaces are not")
			}
			return c.json
		}
	case "uuid":
		if kind == dfs.String || c.from.Name == "binary" && c.from.Args != nil && c.from.Args[0] == 16 {
			if kind == dfs.String && c.from.Name != "uuid" {
				c.inexact("letters become small ones")
			}
			return c.uuid
		}
	case "inet":
		// MariaDB logs INET4 and INET6 as BINARY.
		if kind == dfs.String || c.from.Name == "binary" && (bits(c.from) == 4 || bits(c.from) == 16) {
			if kind == dfs.String && !strings.HasPrefix(c.from.Name, "inet") {
				c.inexact("addresses are written in one way")
			}
			return c.text
		}
	case "_text", "_varchar":
		if member && c.from.Name == "set" {
			return c.array
		}
	}
	return nil
}

// fraction notes digits after the second that are lost.
func (c *pgColumn) fraction() {
	n := 0
	if len(c.from.Args) > 0 {
		n = c.from.Args[0]
	}
	if c.tc.precision >= 0 && c.tc.precision < n {
		c.inexact(fmt.Sprintf("times are rounded to %d digits after the second", c.tc.precision))
	}
	if c.unfit.ZeroDates != UnfitStop {
		c.exact = false
	}
}

func (c *pgColumn) findText(kind dfs.Kind, member bool) textOf {
	switch {
	case kind == dfs.Bytes:
		return nil // they are no text
	case member:
		if c.from.Name == "enum" {
			c.exact = false // a member may have no letters, as what is no member prints
		}
		return c.member
	case kind != dfs.String:
		return c.printed
	}
	if c.unfit.NULs != UnfitStop || c.unfit.InvalidText != UnfitStop {
		c.exact = false
	}
	if c.tc.base == "bpchar" && c.from.Name != "char" {
		c.inexact("spaces at the end do not count")
	}
	if n := c.tc.precision; n >= 0 && (len(c.from.Args) == 0 || c.from.Args[0] > n) && c.tc.base != "enum" {
		c.inexact(fmt.Sprintf("spaces after %d characters are cut off", n))
	}
	switch c.sc.Charset {
	case "", "utf8mb4", "utf8mb3", "utf8", "ascii", "latin1", "ucs2", "utf16", "utf16le", "utf32":
	default:
		c.exact = false // two codes may be one character
	}
	return c.text
}

func bits(t convert.Type) int {
	if len(t.Args) > 0 {
		return t.Args[0]
	}
	return 1
}

// printedOf prints a value as MySQL does.
func printedOf(b []byte, v dfs.Value) ([]byte, error) { return v.Append(b), nil }

func bytea(b []byte, v dfs.Value) ([]byte, error) {
	return hex.AppendEncode(append(b, `\x`...), v.Bytes()), nil
}

func (c *pgColumn) unfitting(v dfs.Value, format string, args ...any) error {
	return &UnfitError{Column: c.sc.Name, Value: show(v), Why: fmt.Sprintf(format, args...)}
}

func (c *pgColumn) boolean(b []byte, v dfs.Value) ([]byte, error) {
	switch v.Uint() {
	case 0:
		return append(b, 'f'), nil
	case 1:
		return append(b, 't'), nil
	}
	return nil, c.unfitting(v, "it is no boolean: make the target's column a smallint")
}

func (c *pgColumn) bits(b []byte, v dfs.Value) ([]byte, error) {
	for i := bits(c.from) - 1; i >= 0; i-- {
		b = append(b, byte('0'+v.Uint()>>i&1))
	}
	return b, nil
}

func (c *pgColumn) member(b []byte, v dfs.Value) ([]byte, error) {
	if v.Kind() == dfs.String {
		return c.text(b, v)
	}
	return c.safe(b, v, convert.Member(v.Uint(), c.sc.Members, c.from.Name == "set"))
}

func (c *pgColumn) array(b []byte, v dfs.Value) ([]byte, error) {
	b = append(b, '{')
	for i, m := range c.sc.Members {
		if v.Uint()>>i&1 == 1 {
			if b[len(b)-1] != '{' {
				b = append(b, ',')
			}
			b = appendElement(b, []byte(m))
		}
	}
	return append(b, '}'), nil
}

// printed is the text of a value that is none.
func (c *pgColumn) printed(b []byte, v dfs.Value) ([]byte, error) {
	if v.Kind() == dfs.String {
		return c.text(b, v)
	}
	return v.Append(b), nil
}

// text is a text in UTF-8. The values of MariaDB's UUID, INET4 and INET6 come as bytes.
func (c *pgColumn) text(b []byte, v dfs.Value) ([]byte, error) {
	if v.Kind() == dfs.Bytes {
		addr, ok := netip.AddrFromSlice(v.Bytes())
		switch {
		case c.from.Name == "uuid" && len(v.Bytes()) == 16:
			return appendUUID(b, v.Bytes()), nil
		case ok && (c.tc.base == "inet" || c.from.Name == "inet4" || c.from.Name == "inet6"):
			return addr.AppendTo(b), nil
		}
		return nil, c.unfitting(v, "these bytes are no text: make the target's column bytea")
	}
	s, ok := toUTF8(c.sc.Charset, v.Text())
	if !ok {
		if c.unfit.InvalidText != UnfitReplace {
			return nil, c.unfitting(v, "it is no text in the character set %s: let it become U+FFFD by the policy replace for invalid text, or make the target's column bytea", c.sc.Charset)
		}
		s = replaceInvalid(s)
	}
	return c.safe(b, v, s)
}

// toUTF8 is charset.Text, faster for what is ASCII.
func toUTF8(set, s string) (string, bool) {
	switch set {
	case "", "utf8mb4", "utf8mb3", "utf8":
		return s, utf8.ValidString(s)
	case "swe7", "ucs2", "utf16", "utf16le", "utf32":
		return charset.Text(set, s)
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return charset.Text(set, s)
		}
	}
	return s, true
}

// replaceInvalid puts U+FFFD in the place of each byte that is no UTF-8.
func replaceInvalid(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

// safe appends text in UTF-8, which PostgreSQL takes but for U+0000.
func (c *pgColumn) safe(b []byte, v dfs.Value, s string) ([]byte, error) {
	if strings.IndexByte(s, 0) < 0 {
		return append(b, s...), nil
	}
	switch c.unfit.NULs {
	case UnfitReplace:
		return append(b, strings.ReplaceAll(s, "\x00", "\uFFFD")...), nil
	case UnfitRemove:
		return append(b, strings.ReplaceAll(s, "\x00", "")...), nil
	}
	return nil, c.unfitting(v, "PostgreSQL has no text with the character U+0000: choose the policy replace or remove for NULs, or make the target's column bytea")
}

// json is a document. Only jsonb cannot hold the character U+0000, which a document
// has as an escape.
func (c *pgColumn) json(b []byte, v dfs.Value) ([]byte, error) {
	s := v.Text()
	if c.tc.base == "json" || !strings.Contains(s, `\u0000`) {
		return append(b, s...), nil
	}
	start := len(b)
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b = append(b, s[i])
		case strings.HasPrefix(s[i:], `\u0000`):
			switch c.unfit.NULs {
			case UnfitReplace:
				b = append(b, `\ufffd`...)
			case UnfitRemove:
			default:
				return nil, c.unfitting(v, "jsonb has no text with the character U+0000: choose the policy replace or remove for NULs, or make the target's column json")
			}
			i += 5
		default:
			b = append(b, s[i], s[i+1])
			i++
		}
	}
	if len(b) == start {
		return nil, errors.New("an empty document")
	}
	return b, nil
}

func (c *pgColumn) uuid(b []byte, v dfs.Value) ([]byte, error) {
	if v.Kind() == dfs.Bytes {
		return appendUUID(b, v.Bytes()), nil
	}
	return append(b, v.Text()...), nil
}

func appendUUID(b, raw []byte) []byte {
	for i, c := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, []byte{c})
	}
	return b
}

// date is a Date, DateTime or Timestamp. The year 0 is the year 1 BC.
func (c *pgColumn) date(b []byte, v dfs.Value) ([]byte, error) {
	y, mo, d, _, _, _, _ := v.Clock()
	if mo == 0 || d == 0 || d > 28 && d > time.Date(y, time.Month(mo)+1, 0, 0, 0, 0, 0, time.UTC).Day() {
		switch c.unfit.ZeroDates {
		case UnfitNull:
			return nil, nil
		case UnfitInfinity:
			return append(b, "-infinity"...), nil
		}
		return nil, c.unfitting(v, "PostgreSQL has no such date: choose the policy null or infinity for zero dates, or make the target's column text")
	}
	at := len(b)
	b = v.Append(b)
	if y == 0 {
		copy(b[at:], "0001")
		return append(b, " BC"...), nil
	}
	return b, nil
}

// time is a TIME in a column of the type time, which ends at 24:00:00.
func (c *pgColumn) time(b []byte, v dfs.Value) ([]byte, error) {
	if d := v.Duration(); d < 0 || d > 24*time.Hour {
		if c.unfit.Times == UnfitNull {
			return nil, nil
		}
		return nil, c.unfitting(v, "it is no time of day: choose the policy null for times, or make the target's column interval")
	}
	return v.Append(b), nil
}

// pgType returns the type that a column of the source gets on PostgreSQL. The
// mapping is documented in docs/TYPES.md.
func pgType(c *dfs.Column, t convert.Type) string {
	n := func(name string, def int) string {
		if len(t.Args) > 0 {
			def = t.Args[0]
		}
		return name + "(" + strconv.Itoa(def) + ")"
	}
	switch t.Name {
	case "tinyint", "year":
		return "smallint"
	case "smallint":
		if t.Unsigned {
			return "integer"
		}
		return "smallint"
	case "mediumint":
		return "integer"
	case "int":
		if t.Unsigned {
			return "bigint"
		}
		return "integer"
	case "bigint":
		if t.Unsigned {
			return "numeric(20,0)"
		}
		return "bigint"
	case "float":
		return "real"
	case "double":
		return "double precision"
	case "decimal":
		p, s := t.Decimal()
		return fmt.Sprintf("numeric(%d,%d)", p, s)
	case "bit":
		return n("bit", 1)
	case "char", "varchar":
		if len(t.Args) > 0 && t.Args[0] == 0 {
			return "varchar(1)" // there is none of no characters
		}
		return n("varchar", 1)
	case "date":
		return "date"
	case "datetime":
		return n("timestamp", 0)
	case "timestamp":
		return n("timestamptz", 0)
	case "time":
		return n("interval", 0)
	case "json":
		return "json"
	case "uuid":
		return "uuid"
	case "inet4", "inet6":
		return "inet"
	}
	if t.Kind() == dfs.Bytes {
		return "bytea"
	}
	return "text"
}
