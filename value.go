package dfs

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unsafe"
)

// Kind is the kind of a Value.
type Kind uint8

const (
	Null      Kind = iota
	Absent         // not logged, as where a row image leaves columns out
	Int64          // a signed integer
	Uint64         // an unsigned integer, a YEAR, a BIT, the ordinal of an ENUM, the bits of a SET
	Float32        // FLOAT
	Float64        // DOUBLE
	Decimal        // DECIMAL, as exact text
	String         // text, as bytes in the column's character set
	Bytes          // BINARY, BLOB, GEOMETRY (with its SRID first, as stored), VECTOR
	JSON           // JSON, as text in UTF-8, and JSONNotes on what the text does not tell
	Date           // DATE; zero and half-zero dates are kept
	Time           // TIME, which is a signed span of up to 838 hours
	DateTime       // DATETIME, without a zone; zero dates are kept
	Timestamp      // TIMESTAMP, a moment; its text is in UTC
)

var kindNames = [...]string{"null", "absent", "int64", "uint64", "float32", "float64", "decimal",
	"string", "bytes", "json", "date", "time", "datetime", "timestamp"}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// A Value is one column of one row. It is small, and holds a number without
// allocating. Two Values of one kind with the same content are equal by ==,
// but a Float32 or Float64 compares by its bits. The zero Value is Null.
type Value struct {
	kind Kind
	fsp  uint8 // digits after the second, 0 to 6
	num  uint64
	str  string
}

const valueSize = int(unsafe.Sizeof(Value{}))

// changeSize is the size of a Change without what it points to.
const changeSize = int(unsafe.Sizeof(Change{}))

// IntValue returns an Int64.
func IntValue(v int64) Value { return Value{kind: Int64, num: uint64(v)} }

// UintValue returns a Uint64.
func UintValue(v uint64) Value { return Value{kind: Uint64, num: v} }

// Float32Value returns a Float32.
func Float32Value(v float32) Value { return Value{kind: Float32, num: uint64(math.Float32bits(v))} }

// FloatValue returns a Float64.
func FloatValue(v float64) Value { return Value{kind: Float64, num: math.Float64bits(v)} }

// DecimalValue returns a Decimal of text such as "-12.50", which is not checked.
func DecimalValue(s string) Value { return Value{kind: Decimal, str: s} }

// StringValue returns a String whose bytes are in the column's character set.
func StringValue(s string) Value { return Value{kind: String, str: s} }

// BytesValue returns Bytes that alias b, which must not be written again.
func BytesValue(b []byte) Value {
	return Value{kind: Bytes, str: unsafe.String(unsafe.SliceData(b), len(b))}
}

// JSONValue returns a JSON of text, which is not checked.
func JSONValue(s string) Value { return Value{kind: JSON, str: s} }

// NullValue returns a Null.
func NullValue() Value { return Value{} }

// AbsentValue returns an Absent.
func AbsentValue() Value { return Value{kind: Absent} }

// DateValue returns a Date. MySQL allows zero for month and day, and for all
// three.
func DateValue(year, month, day int) Value {
	return Value{kind: Date, num: packDateTime(year, month, day, 0, 0, 0, 0)}
}

// DateTimeValue returns a DateTime with fsp digits after the second. MySQL
// allows zero for month and day, and for everything.
func DateTimeValue(year, month, day, hour, minute, second, micro, fsp int) Value {
	return Value{kind: DateTime, fsp: uint8(fsp), num: packDateTime(year, month, day, hour, minute, second, micro)}
}

// TimeValue returns a Time of d with fsp digits after the second.
func TimeValue(d time.Duration, fsp int) Value {
	return Value{kind: Time, fsp: uint8(fsp), num: uint64(d.Microseconds())}
}

// TimestampValue returns a Timestamp of t with fsp digits after the second. The
// zero time.Time stands for MySQL's zero timestamp.
func TimestampValue(t time.Time, fsp int) Value {
	if t.IsZero() {
		return Value{kind: Timestamp, fsp: uint8(fsp)}
	}
	return Value{kind: Timestamp, fsp: uint8(fsp), num: uint64(t.UnixMicro())}
}

// TimestampMicro is TimestampValue of a Unix time in microseconds. Zero stands
// for MySQL's zero timestamp.
func TimestampMicro(us int64, fsp int) Value {
	return Value{kind: Timestamp, fsp: uint8(fsp), num: uint64(us)}
}

// packDateTime packs as MySQL does: 17 bits year*13+month, 5 day, 5 hour, 6
// minute, 6 second, 24 microsecond. Greater means later.
func packDateTime(year, month, day, hour, minute, second, micro int) uint64 {
	ymd := uint64(year*13+month)<<5 | uint64(day)
	hms := uint64(hour)<<12 | uint64(minute)<<6 | uint64(second)
	return (ymd<<17|hms)<<24 | uint64(micro)
}

// Kind returns the kind of the value.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether the value is Null.
func (v Value) IsNull() bool { return v.kind == Null }

// Int returns the number in an Int64 or Uint64.
func (v Value) Int() int64 { return int64(v.num) }

// Uint returns the number in an Int64 or Uint64.
func (v Value) Uint() uint64 { return v.num }

// Float returns the number in a Float32 or Float64, or that of an integer.
func (v Value) Float() float64 {
	switch v.kind {
	case Float32:
		return float64(math.Float32frombits(uint32(v.num)))
	case Float64:
		return math.Float64frombits(v.num)
	case Int64:
		return float64(int64(v.num))
	case Uint64:
		return float64(v.num)
	}
	return 0
}

// Text returns the text or the bytes of a String, Bytes, JSON or Decimal as
// they are, without a copy. For other kinds it is empty.
func (v Value) Text() string { return v.text() }

// Bytes returns what Text returns, as a slice that must not be written to.
func (v Value) Bytes() []byte {
	s := v.text()
	return unsafe.Slice(unsafe.StringData(s), len(s))
}

// FSP returns the digits after the second of a temporal value, 0 to 6.
func (v Value) FSP() int { return int(v.fsp) }

// Clock returns the parts of a Date or DateTime, or of a Timestamp in UTC.
func (v Value) Clock() (year, month, day, hour, minute, second, micro int) {
	n := v.num
	if v.kind == Timestamp {
		if n == 0 {
			return
		}
		t := time.UnixMicro(int64(n)).UTC()
		return t.Year(), int(t.Month()), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond() / 1000
	}
	micro = int(n & 0xffffff)
	n >>= 24
	second, minute, hour, day = int(n&63), int(n>>6&63), int(n>>12&31), int(n>>17&31)
	ym := int(n >> 22)
	return ym / 13, ym % 13, day, hour, minute, second, micro
}

// Time returns the moment that a Timestamp is, or that a Date or DateTime is in
// UTC. For zero and half-zero dates, and other kinds, it is the zero time.
func (v Value) Time() time.Time {
	switch v.kind {
	case Timestamp:
		if v.num == 0 {
			return time.Time{}
		}
		return time.UnixMicro(int64(v.num)).UTC()
	case Date, DateTime:
		y, mo, d, h, mi, s, us := v.Clock()
		if mo == 0 || d == 0 {
			return time.Time{}
		}
		return time.Date(y, time.Month(mo), d, h, mi, s, us*1000, time.UTC)
	}
	return time.Time{}
}

// Duration returns the span that a Time is.
func (v Value) Duration() time.Duration {
	if v.kind != Time {
		return 0
	}
	return time.Duration(int64(v.num)) * time.Microsecond
}

// Append appends the value to b as MySQL prints it, text and bytes as they are,
// and Null and Absent as "NULL" and "ABSENT".
func (v Value) Append(b []byte) []byte {
	switch v.kind {
	case Null:
		return append(b, "NULL"...)
	case Absent:
		return append(b, "ABSENT"...)
	case Int64:
		return strconv.AppendInt(b, int64(v.num), 10)
	case Uint64:
		return strconv.AppendUint(b, v.num, 10)
	case Float32:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 32)
	case Float64:
		return strconv.AppendFloat(b, v.Float(), 'g', -1, 64)
	case Date, DateTime, Timestamp:
		y, mo, d, h, mi, s, us := v.Clock()
		b = digits(digits(digits(b, y, 4, '-'), mo, 2, '-'), d, 2, 0)
		if v.kind == Date {
			return b
		}
		b = append(b, ' ')
		return v.fraction(digits(digits(digits(b, h, 2, ':'), mi, 2, ':'), s, 2, 0), us)
	case Time:
		n := int64(v.num)
		if n < 0 {
			b, n = append(b, '-'), -n
		}
		s := int(n / 1e6)
		width := 2
		if s >= 360000 {
			width = 3
		}
		b = digits(digits(digits(b, s/3600, width, ':'), s/60%60, 2, ':'), s%60, 2, 0)
		return v.fraction(b, int(n%1e6))
	}
	return append(b, v.text()...)
}

// digits appends n with leading zeros, and then sep unless it is 0.
func digits(b []byte, n, width int, sep byte) []byte {
	at := len(b)
	b = append(b, "0000"[:width]...)
	for i := at + width - 1; i >= at; i-- {
		b[i], n = byte('0'+n%10), n/10
	}
	if sep != 0 {
		b = append(b, sep)
	}
	return b
}

func (v Value) fraction(b []byte, micro int) []byte {
	if v.fsp == 0 {
		return b
	}
	b = append(b, '.')
	for i, unit := 0, 100000; i < int(v.fsp); i, unit = i+1, unit/10 {
		b = append(b, byte('0'+micro/unit%10))
	}
	return b
}

// String returns what Append appends.
func (v Value) String() string {
	if v.str != "" {
		return v.text()
	}
	return string(v.Append(nil))
}
