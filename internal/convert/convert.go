package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// A Func converts a value. It fails rather than to change what the value means:
// a number that is out of range, a text that is none, a text that is too long.
// Null stays Null, and Absent stays Absent.
type Func func(dfs.Value) (dfs.Value, error)

// New returns a Func from one column to another, and how it may lose something
// in silence: "times lose their clock". If the types say that values stay as
// they are, the Func is nil. It is an error if no value could be converted.
func New(from, to *dfs.Column) (f Func, lossy string, err error) {
	a, err := Parse(TypeText(from))
	if err != nil {
		return nil, "", err
	}
	b, err := Parse(TypeText(to))
	if err != nil {
		return nil, "", err
	}
	if same(from, to, a, b) {
		return nil, "", nil
	}
	lossy, err = loses(a, b)
	if err != nil {
		return nil, "", fmt.Errorf("%s cannot become %s: %w", from.Type, to.Type, err)
	}
	if k := b.Kind(); (k == dfs.String || k == dfs.JSON) && a.Kind() == dfs.String && !IsUTF8(from.Charset) && from.Charset != to.Charset {
		return nil, "", fmt.Errorf("%s in %s cannot become %s: its characters are not read here", from.Type, from.Charset, to.Type)
	}
	members := from.Members
	return func(v dfs.Value) (dfs.Value, error) {
		switch v.Kind() {
		case dfs.Null, dfs.Absent:
			return v, nil
		case dfs.Uint64:
			if len(members) > 0 && len(to.Members) == 0 && b.Kind() == dfs.String {
				v = dfs.StringValue(Member(v.Uint(), members, a.Name == "set"))
			}
		}
		return convertTo(v, to, b)
	}, lossy, nil
}

func same(from, to *dfs.Column, a, b Type) bool {
	return a.Name == b.Name && a.Unsigned == b.Unsigned && slices.Equal(a.Args, b.Args) &&
		from.Charset == to.Charset && slices.Equal(from.Members, to.Members)
}

// IsUTF8 reports whether text in the character set is UTF-8 and can be read as
// such. The empty name stands for columns whose set is not known to differ.
func IsUTF8(charset string) bool {
	switch charset {
	case "", "utf8mb4", "utf8", "utf8mb3", "ascii":
		return true
	}
	return false
}

// Member returns the name of an ENUM's ordinal, or the names of a SET's bits
// with commas between.
func Member(n uint64, members []string, set bool) string {
	if !set {
		if n == 0 || n > uint64(len(members)) {
			return "" // 0 is what MySQL stores for a name that it did not know
		}
		return members[n-1]
	}
	var names []string
	for i, name := range members {
		if n>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// loses says what a conversion may lose in silence, or why there can be none.
func loses(a, b Type) (string, error) {
	x, y := a.Kind(), b.Kind()
	number := func(k dfs.Kind) bool { return k >= dfs.Int64 && k <= dfs.Decimal }
	clock := func(k dfs.Kind) bool { return k >= dfs.Date }
	switch {
	case number(x) && clock(y), clock(x) && number(y):
		return "", errors.New("a number is no time; compute it by an expression or a function")
	case x == dfs.Bytes && y != dfs.Bytes && y != dfs.String, y == dfs.Bytes && x != dfs.Bytes && x != dfs.String:
		return "", errors.New("bytes are no such value; use a function")
	case x == dfs.Time && (y == dfs.Date || y == dfs.DateTime || y == dfs.Timestamp), y == dfs.Time && x == dfs.Date:
		return "", errors.New("a span of time is no moment")
	case number(x) && (y == dfs.Int64 || y == dfs.Uint64) && (x == dfs.Float32 || x == dfs.Float64 || x == dfs.Decimal && a.arg(1, 0) > 0):
		return "numbers are rounded to whole ones", nil
	case number(x) && y == dfs.Decimal:
		_, scale := b.decimal()
		if _, from := a.decimal(); x == dfs.Decimal && from > scale || x == dfs.Float32 || x == dfs.Float64 {
			return fmt.Sprintf("numbers are rounded to %d digits after the point", scale), nil
		}
	case y == dfs.Float32 && number(x) && !(x == dfs.Float32 || a.bits() <= 16 && x != dfs.Decimal && x != dfs.Float64),
		y == dfs.Float64 && (x == dfs.Decimal || (x == dfs.Int64 || x == dfs.Uint64) && a.bits() == 64):
		return "numbers lose digits in a " + b.Name, nil
	case y == dfs.Date && clock(x) && x != dfs.Date:
		return "times lose their clock", nil
	case y == dfs.Time && (x == dfs.DateTime || x == dfs.Timestamp):
		return "times lose their date", nil
	case x == dfs.Timestamp && y == dfs.DateTime:
		return "moments become times in UTC", nil
	case x == dfs.DateTime && y == dfs.Timestamp:
		return "times without a zone are taken as UTC", nil
	case clock(x) && clock(y) && a.arg(0, 0) > b.arg(0, 0):
		return fmt.Sprintf("times are cut to %d digits after the second", b.arg(0, 0)), nil
	case x == dfs.Float32 && y == dfs.String, x == dfs.Float64 && y == dfs.String:
		return "floating numbers become their shortest text", nil
	}
	return "", nil
}

// To converts a value, whatever its kind, for the column.
func To(v dfs.Value, to *dfs.Column) (dfs.Value, error) {
	switch v.Kind() {
	case dfs.Null, dfs.Absent:
		return v, nil
	}
	t, err := Parse(TypeText(to))
	if err != nil {
		return v, err
	}
	return convertTo(v, to, t)
}

// convertTo is To for a column of the type t.
func convertTo(v dfs.Value, to *dfs.Column, t Type) (dfs.Value, error) {
	switch v.Kind() {
	case dfs.Null, dfs.Absent:
		return v, nil
	}
	if len(to.Members) > 0 {
		return toMember(v, to, t.Name == "set")
	}
	switch t.Kind() {
	case dfs.Int64, dfs.Uint64:
		return toInt(v, t)
	case dfs.Float32, dfs.Float64:
		f, err := toFloat(v)
		if t.Kind() == dfs.Float32 {
			if err == nil && math.Abs(f) > math.MaxFloat32 {
				err = fmt.Errorf("%v is out of the range of %s", v, to.Type)
			}
			return dfs.Float32Value(float32(f)), err
		}
		return dfs.FloatValue(f), err
	case dfs.Decimal:
		return toDecimal(v, t)
	case dfs.String, dfs.Bytes:
		return toText(v, to, t)
	case dfs.JSON:
		return toJSON(v)
	}
	return toClock(v, t)
}

func toMember(v dfs.Value, to *dfs.Column, set bool) (dfs.Value, error) {
	switch v.Kind() {
	case dfs.Int64, dfs.Uint64:
		n := v.Uint()
		if set && (len(to.Members) == 64 || n>>len(to.Members) == 0) || !set && n <= uint64(len(to.Members)) {
			return dfs.UintValue(n), nil
		}
		return v, fmt.Errorf("%v is no number of a member of %s", v, to.Type)
	case dfs.String:
		bits := uint64(0)
		if set && v.Text() == "" {
			return dfs.UintValue(0), nil
		}
		names := []string{v.Text()}
		if set {
			names = strings.Split(v.Text(), ",")
		}
		for _, name := range names {
			i := slices.IndexFunc(to.Members, func(m string) bool { return strings.EqualFold(m, name) })
			if i < 0 {
				return v, fmt.Errorf("%q is not one of %s", name, strings.Join(to.Members, ", "))
			}
			if !set {
				return dfs.UintValue(uint64(i) + 1), nil
			}
			bits |= 1 << i
		}
		return dfs.UintValue(bits), nil
	}
	return v, fmt.Errorf("a %s is no member of %s", v.Kind(), to.Type)
}

func toInt(v dfs.Value, t Type) (dfs.Value, error) {
	text := ""
	switch v.Kind() {
	case dfs.Int64:
		if v.Int() >= 0 || !t.Unsigned && t.Kind() == dfs.Int64 {
			return fitInt(v, t, v.Int() < 0, v.Uint())
		}
	case dfs.Uint64:
		return fitInt(v, t, false, v.Uint())
	case dfs.Float32, dfs.Float64:
		text = strconv.FormatFloat(math.Round(v.Float()), 'f', 0, 64)
	case dfs.Decimal:
		d, err := ParseDecimal(v.Text())
		if err != nil {
			return v, err
		}
		text = d.Round(0).String()
	case dfs.String, dfs.JSON:
		text = strings.TrimSpace(v.Text())
	default:
		return v, fmt.Errorf("a %s is no number", v.Kind())
	}
	if text != "" {
		if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			return fitInt(v, t, false, n)
		}
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && t.Kind() == dfs.Int64 {
			return fitInt(v, t, true, uint64(n))
		}
	}
	if v.Kind() == dfs.String || v.Kind() == dfs.JSON {
		if _, err := ParseDecimal(text); err != nil {
			return v, fmt.Errorf("%q is no whole number", v.Text())
		}
	}
	return v, fmt.Errorf("%v is out of the range of %s", v, t)
}

// fitInt makes an integer of n, which is negative as an int64 or not at all.
func fitInt(v dfs.Value, t Type, negative bool, n uint64) (dfs.Value, error) {
	bits := t.bits()
	if t.Kind() == dfs.Uint64 {
		if bits < 64 && n>>bits != 0 {
			return v, fmt.Errorf("%v is out of the range of %s", v, t)
		}
		return dfs.UintValue(n), nil
	}
	limit := uint64(1) << (bits - 1)
	if negative && -n > limit || !negative && n >= limit {
		return v, fmt.Errorf("%v is out of the range of %s", v, t)
	}
	return dfs.IntValue(int64(n)), nil
}

func toFloat(v dfs.Value) (float64, error) {
	switch v.Kind() {
	case dfs.Int64, dfs.Uint64, dfs.Float32, dfs.Float64:
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, fmt.Errorf("%v is no number of a column", f)
		}
		return v.Float(), nil
	case dfs.Decimal, dfs.String, dfs.JSON:
		f, err := strconv.ParseFloat(strings.TrimSpace(v.Text()), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return 0, fmt.Errorf("%q is no number", v.Text())
		}
		return f, nil
	}
	return 0, fmt.Errorf("a %s is no number", v.Kind())
}

func toDecimal(v dfs.Value, t Type) (dfs.Value, error) {
	var text string
	switch v.Kind() {
	case dfs.Int64, dfs.Uint64:
		text = v.String()
	case dfs.Float32:
		text = strconv.FormatFloat(v.Float(), 'f', -1, 32)
	case dfs.Float64:
		text = strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case dfs.Decimal, dfs.String, dfs.JSON:
		text = strings.TrimSpace(v.Text())
	default:
		return v, fmt.Errorf("a %s is no number", v.Kind())
	}
	precision, scale := t.decimal()
	if s, ok := smallText(text, precision, scale); ok {
		return dfs.DecimalValue(s), nil
	}
	d, err := ParseDecimal(text)
	if err != nil {
		return v, err
	}
	d = d.Round(scale)
	if d.digits() > precision {
		return v, fmt.Errorf("%v is out of the range of %s", v, t)
	}
	return dfs.DecimalValue(d.String()), nil
}

func toText(v dfs.Value, to *dfs.Column, t Type) (dfs.Value, error) {
	text := v.String()
	if v.Kind() == dfs.Bytes && t.Kind() == dfs.String && IsUTF8(to.Charset) && !utf8.ValidString(text) {
		return v, errors.New("the bytes are no text in UTF-8")
	}
	limit, bytes := t.maxLen()
	n := len(text)
	if !bytes && n > limit && IsUTF8(to.Charset) {
		n = utf8.RuneCountInString(text)
	}
	if limit > 0 && n > limit && (bytes || IsUTF8(to.Charset)) {
		return v, fmt.Errorf("%.40q has %d characters, and %s takes %d", text, n, to.Type, limit)
	}
	if t.Kind() == dfs.Bytes {
		return dfs.BytesValue([]byte(text)), nil
	}
	return dfs.StringValue(text), nil
}

func toJSON(v dfs.Value) (dfs.Value, error) {
	switch v.Kind() {
	case dfs.JSON:
		return v, nil
	case dfs.Int64, dfs.Uint64, dfs.Float32, dfs.Float64, dfs.Decimal:
		return dfs.JSONValue(v.String()), nil
	case dfs.String:
		if !json.Valid(v.Bytes()) {
			return v, fmt.Errorf("%.40q is no JSON", v.Text())
		}
		return dfs.JSONValue(v.Text()), nil
	}
	b, err := json.Marshal(v.String())
	return dfs.JSONValue(string(b)), err
}

// toClock makes a date or a time. Zero and half-zero dates stay what they are,
// unless they would have to be a moment.
func toClock(v dfs.Value, t Type) (dfs.Value, error) {
	fsp := t.arg(0, 0)
	if v.Kind() == dfs.String {
		var err error
		if v, err = ParseClock(v.Text(), t.Kind()); err != nil {
			return v, err
		}
	}
	if t.Kind() == dfs.Time {
		switch v.Kind() {
		case dfs.Time:
			return dfs.TimeValue(v.Duration().Truncate(step(fsp)), fsp), nil
		case dfs.DateTime, dfs.Timestamp:
			_, _, _, h, mi, s, us := v.Clock()
			d := time.Duration(h)*time.Hour + time.Duration(mi)*time.Minute + time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond
			return dfs.TimeValue(d.Truncate(step(fsp)), fsp), nil
		}
		return v, fmt.Errorf("a %s is no time of day", v.Kind())
	}
	switch v.Kind() {
	case dfs.Date, dfs.DateTime, dfs.Timestamp:
	default:
		return v, fmt.Errorf("a %s is no date", v.Kind())
	}
	y, mo, d, h, mi, s, us := v.Clock()
	us -= us % int(step(fsp)/time.Microsecond)
	switch t.Kind() {
	case dfs.Date:
		return dfs.DateValue(y, mo, d), nil
	case dfs.DateTime:
		return dfs.DateTimeValue(y, mo, d, h, mi, s, us, fsp), nil
	}
	if y == 0 && mo == 0 && d == 0 {
		return dfs.TimestampValue(time.Time{}, fsp), nil
	}
	if mo == 0 || d == 0 {
		return v, fmt.Errorf("%v is no moment", v)
	}
	return dfs.TimestampValue(time.Date(y, time.Month(mo), d, h, mi, s, us*1000, time.UTC), fsp), nil
}

// step returns the unit of the last of n digits after the second.
func step(n int) time.Duration {
	d := time.Second
	for range n {
		d /= 10
	}
	return d
}

// String returns the type as information_schema shows it.
func (t Type) String() string {
	b := []byte(t.Name)
	for i, n := range t.Args {
		b = append(b, "(,"[min(i, 1)])
		b = strconv.AppendInt(b, int64(n), 10)
	}
	if len(t.Args) > 0 {
		b = append(b, ')')
	}
	if t.Unsigned {
		b = append(b, " unsigned"...)
	}
	return string(b)
}

// NewTo returns a Func that converts values of any kind for the column.
func NewTo(to *dfs.Column) (Func, error) {
	t, err := Parse(TypeText(to))
	if err != nil {
		return nil, err
	}
	c, kind, limit := *to, t.Kind(), 0
	if n, _ := t.maxLen(); n > 0 {
		limit = n
	}
	return func(v dfs.Value) (dfs.Value, error) {
		// What fits at a glance needs no second look.
		switch {
		case v.Kind() == dfs.String && kind == dfs.String && (t.Name == "longtext" || len(v.Text()) <= limit),
			v.Kind() == dfs.Int64 && kind == dfs.Int64 && t.Name == "bigint",
			v.Kind() == dfs.Float64 && kind == dfs.Float64 && math.Abs(v.Float()) <= math.MaxFloat64:
			return v, nil
		}
		return convertTo(v, &c, t)
	}, nil
}
