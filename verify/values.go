package verify

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// valueExpr returns the expression by which a value is read for stages.
func (c *column) valueExpr() string {
	name := ident(c.name)
	switch c.class() {
	case classDouble:
		if c.typ == "double" {
			return name // with all digits, which what is computed need not have
		}
		return name + "*1e0"
	case classFloat:
		return name + "*1e0"
	case classYear:
		return name + "+0"
	case classInt, classDecimal:
		if c.zerofill {
			return name + "+0"
		}
	case classBit, classEnum, classSet:
		return "CAST(" + name + " AS UNSIGNED)"
	case classJSON, classOther:
		return "CAST(" + name + " AS CHAR CHARACTER SET utf8mb4)"
	}
	return name
}

// value makes of what valueExpr has read what package cdc makes of the same value
// in the log, but for the notes that a JSON may have there.
func (c *column) value(v cell) (dfs.Value, error) {
	if v.null {
		return dfs.NullValue(), nil
	}
	var err error
	switch c.class() {
	case classInt:
		if !c.unsigned {
			n, err := strconv.ParseInt(v.text, 10, 64)
			return dfs.IntValue(n), err
		}
		fallthrough
	case classYear, classBit, classEnum, classSet:
		n, err := strconv.ParseUint(v.text, 10, 64)
		return dfs.UintValue(n), err
	case classDecimal:
		return dfs.DecimalValue(v.text), nil
	case classFloat:
		f, err := strconv.ParseFloat(v.text, 64)
		return dfs.Float32Value(float32(f)), err
	case classDouble:
		f, err := strconv.ParseFloat(v.text, 64)
		return dfs.FloatValue(f), err
	case classText, classOther:
		return dfs.StringValue(v.text), nil
	case classBinary, classSpatial, classVector:
		return dfs.BytesValue([]byte(v.text)), nil
	case classJSON:
		return dfs.JSONValue(v.text), nil
	case classTime:
		return c.span(v.text)
	}
	var n [7]int // year to microsecond
	if n, err = clock(v.text); err != nil {
		return dfs.Value{}, err
	}
	fsp := c.arg(0, 0)
	switch {
	case c.base == "date":
		return dfs.DateValue(n[0], n[1], n[2]), nil
	case c.base == "datetime":
		return dfs.DateTimeValue(n[0], n[1], n[2], n[3], n[4], n[5], n[6], fsp), nil
	case n == [7]int{}:
		return dfs.TimestampValue(time.Time{}, fsp), nil
	}
	return dfs.TimestampValue(time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6]*1000, time.UTC), fsp), nil
}

// clock reads "2024-02-29 01:02:03.456", of which the end may be missing.
func clock(s string) (n [7]int, err error) {
	s, fraction, _ := strings.Cut(s, ".")
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == ' ' || r == ':' })
	if len(parts) > 6 {
		return n, fmt.Errorf("%q is no time", s)
	}
	for i, p := range parts {
		if n[i], err = strconv.Atoi(p); err != nil {
			return n, err
		}
	}
	n[6], err = micros(fraction)
	return n, err
}

// micros reads the digits after a second's point.
func micros(fraction string) (int, error) {
	return strconv.Atoi((fraction + "000000")[:6])
}

func (c *column) span(s string) (dfs.Value, error) {
	rest, negative := strings.CutPrefix(s, "-")
	rest, fraction, _ := strings.Cut(rest, ".")
	d := time.Duration(0)
	for part := range strings.SplitSeq(rest, ":") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return dfs.Value{}, err
		}
		d = d*60 + time.Duration(n)*time.Second
	}
	us, err := micros(fraction)
	d += time.Duration(us) * time.Microsecond
	if negative {
		d = -d
	}
	return dfs.TimeValue(d, c.arg(0, 0)), err
}

// A form is how values of a column of the target are compared with what stages
// made: an expression and, for some, a function that makes one text of all that
// mean the same.
func (c *column) form() (expr string, norm func(string) string) {
	switch c.class() {
	case classDecimal:
		return c.valueExpr(), normDecimal
	case classFloat:
		return c.valueExpr(), normFloat32
	case classDouble:
		return c.valueExpr(), normDouble
	case classJSON:
		return c.valueExpr(), normJSON
	case classBinary:
		if c.base == "binary" {
			return c.valueExpr(), normPadded
		}
	case classText:
		if c.base == "longtext" && c.collation == "utf8mb4_bin" {
			return c.valueExpr(), normJSON // it may be MariaDB's JSON
		}
	}
	return c.valueExpr(), nil
}

func normDecimal(s string) string {
	rest, negative := strings.CutPrefix(s, "-")
	whole, fraction, _ := strings.Cut(rest, ".")
	whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if negative && whole != "0" {
		return "-" + whole
	}
	return whole
}

func normDouble(s string) string {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	if f == 0 {
		return "0" // some targets store no negative zero
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func normPadded(s string) string { return strings.TrimRight(s, "\x00") }

// made returns the form of a value that stages made for a column of the target,
// as form gives it of what is stored there, and the literal that stores it.
func (r *run) made(ctx context.Context, v dfs.Value, from *dfs.Column, to *column) (cell, error) {
	switch v.Kind() {
	case dfs.Null:
		return cell{null: true, literal: "NULL"}, nil
	case dfs.Absent:
		return cell{absent: true}, nil
	}
	name, named := "", len(from.Members) > 0
	if named {
		name = convert.Member(v.Uint(), from.Members, from.Type == "set")
	}
	_, norm := to.form()
	out := func(text, literal string) (cell, error) {
		if norm != nil {
			text = norm(text)
		}
		return cell{text: text, literal: literal}, nil
	}
	fail := func(err error) (cell, error) {
		return cell{}, fmt.Errorf("column %s: %w", to.name, err)
	}
	switch to.class() {
	case classEnum:
		if !named {
			name = v.Text()
		}
		i := slices.Index(to.members, name) + 1
		if named && v.Uint() == 0 {
			i = 0
		}
		return out(strconv.Itoa(i), strconv.Itoa(i))
	case classSet:
		if !named {
			name = v.Text()
		}
		var bits uint64
		for n := range strings.SplitSeq(name, ",") {
			if i := slices.Index(to.members, n); i >= 0 {
				bits |= 1 << i
			}
		}
		text := strconv.FormatUint(bits, 10)
		return out(text, text)
	case classText:
		text, charset := v.Text(), from.Charset
		if named {
			text, charset = name, "utf8mb4"
		} else if v.Kind() != dfs.String && v.Kind() != dfs.JSON && v.Kind() != dfs.Bytes && v.Kind() != dfs.Decimal {
			text, charset = v.String(), "utf8mb4"
		}
		if charset == "" {
			charset = "utf8mb4"
		}
		literal := "_" + charset + " " + hexLiteral(text)
		if v.Kind() == dfs.Bytes {
			literal = "_binary " + hexLiteral(text)
		} else if !sameCharset(charset, to.charset) && !(convert.IsUTF8(charset) && convert.IsUTF8(to.charset)) {
			rows, err := query(ctx, r.target.db, "SELECT CONVERT("+literal+" USING "+to.charset+")")
			if err != nil {
				return fail(err)
			}
			text = rows[0][0].text
		}
		if to.base == "char" {
			text = strings.TrimRight(text, " ")
		}
		return out(text, literal)
	case classBinary, classSpatial, classVector:
		return out(v.Text(), "_binary "+hexLiteral(v.Text()))
	case classJSON:
		text := v.Text()
		if v.Kind() != dfs.JSON && v.Kind() != dfs.String {
			text = v.String()
		}
		return out(text, "_utf8mb4 "+hexLiteral(text))
	case classOther:
		text := v.String()
		return out(text, "_utf8mb4 "+hexLiteral(text))
	}
	col := to.dfs()
	v, err := convert.To(rounded(v, to), &col)
	if err != nil {
		return fail(err)
	}
	text := v.String()
	switch to.class() {
	case classFloat, classDouble:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return fail(fmt.Errorf("%v is no number", f))
		}
		return out(strconv.FormatFloat(f, 'g', -1, 64), strconv.FormatFloat(f, 'e', -1, 64))
	case classDate, classTime, classDateTime:
		return out(text, plainQuote(text))
	}
	return out(text, text)
}

// rounded rounds a time to the digits that a column of the target has, as the
// target does, where package convert cuts them off.
func rounded(v dfs.Value, to *column) dfs.Value {
	if c := to.class(); c != classTime && c != classDateTime {
		return v
	}
	step := time.Second
	for range to.arg(0, 0) {
		step /= 10
	}
	switch v.Kind() {
	case dfs.Time:
		return dfs.TimeValue(v.Duration().Round(step), v.FSP())
	case dfs.DateTime, dfs.Timestamp:
		t := v.Time()
		if t.IsZero() || t.Equal(t.Truncate(step)) {
			return v
		}
		t = t.Add(step / 2).Truncate(step)
		if v.Kind() == dfs.Timestamp {
			return dfs.TimestampValue(t, v.FSP())
		}
		return dfs.DateTimeValue(t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond()/1000, v.FSP())
	}
	return v
}
