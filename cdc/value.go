package cdc

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// readable reports whether value can read the column.
func (c *column) readable() bool {
	switch c.typ {
	case typTiny, typShort, typInt24, typLong, typLongLong, typFloat, typDouble, typYear, typNewDecimal,
		typDate, typNewDate, typNull,
		typVarchar, typVarString, typString, typJSON, typVarcharZ:
		return true
	case typTime, typDateTime, typTimestamp, typTime2, typDateTime2, typTimestamp2:
		return c.meta <= 6
	case typBit:
		return c.meta>>8*8+c.meta&0xff <= 64
	case typEnum:
		return c.size == 1 || c.size == 2
	case typSet:
		return c.size >= 1 && c.size <= 8
	case typBlob, typBlobZ, typGeometry, typVector:
		return c.meta >= 1 && c.meta <= 4
	}
	return false
}

// value reads one value that is not NULL into v. If it errs v is not changed.
func (d *decoder) value(r *reader, c *column, v *dfs.Value) error {
	switch c.typ {
	case typTiny:
		if n := r.byte(); c.unsigned {
			*v = dfs.UintValue(uint64(n))
		} else {
			*v = dfs.IntValue(int64(int8(n)))
		}
	case typShort:
		if n := r.uint16(); c.unsigned {
			*v = dfs.UintValue(uint64(n))
		} else {
			*v = dfs.IntValue(int64(int16(n)))
		}
	case typInt24:
		if n := uint32(r.uint(3)); c.unsigned {
			*v = dfs.UintValue(uint64(n))
		} else {
			*v = dfs.IntValue(int64(int32(n<<8) >> 8))
		}
	case typLong:
		if n := r.uint32(); c.unsigned {
			*v = dfs.UintValue(uint64(n))
		} else {
			*v = dfs.IntValue(int64(int32(n)))
		}
	case typLongLong:
		if n := r.uint64(); c.unsigned {
			*v = dfs.UintValue(n)
		} else {
			*v = dfs.IntValue(int64(n))
		}
	case typFloat:
		*v = dfs.Float32Value(math.Float32frombits(r.uint32()))
	case typDouble:
		*v = dfs.FloatValue(math.Float64frombits(r.uint64()))
	case typNewDecimal:
		return d.decimal(r, c, v)
	case typYear:
		n := uint64(r.byte())
		if n != 0 {
			n += 1900
		}
		*v = dfs.UintValue(n)
	case typBit:
		*v = dfs.UintValue(uintBE(r.bytes((int(c.meta>>8*8+c.meta&0xff) + 7) / 8)))
	case typEnum, typSet:
		*v = dfs.UintValue(r.uint(c.size))
	case typVarchar, typVarString:
		n := 1
		if c.meta > 255 {
			n = 2
		}
		c.bytes(r.bytes(int(r.uint(n))), v)
	case typString:
		d.char(r, c, v)
	case typBlob:
		c.bytes(r.bytes(int(r.uint(int(c.meta)))), v)
	case typGeometry, typVector:
		*v = dfs.BytesValue(r.bytes(int(r.uint(int(c.meta)))))
	case typJSON:
		return d.json(r.bytes(int(r.uint(int(c.meta)))), r, v)
	case typVarcharZ, typBlobZ:
		n := int(c.meta)
		if c.typ == typVarcharZ {
			if n = 1; c.meta > 255 {
				n = 2
			}
		}
		b := r.bytes(int(r.uint(n)))
		if r.bad {
			return errShortEvent
		}
		b, err := inflateColumn(b)
		if err != nil {
			return err
		}
		c.bytes(b, v)
	case typNull:
	default:
		return d.temporal(r, c, v)
	}
	if r.bad {
		return errShortEvent
	}
	return nil
}

// bytes makes a String or Bytes of b.
func (c *column) bytes(b []byte, v *dfs.Value) {
	if c.collation == binaryCollation {
		*v = dfs.BytesValue(b)
	} else {
		*v = dfs.StringValue(alias(b))
	}
}

// char reads a CHAR or BINARY. The server cuts the zeros off the end of a
// BINARY before it logs it, which are put back.
func (d *decoder) char(r *reader, c *column, v *dfs.Value) {
	n := 1
	if c.size > 255 {
		n = 2
	}
	b := r.bytes(int(r.uint(n)))
	if c.collation == binaryCollation && len(b) < c.size {
		at := d.room(c.size)
		d.text = append(d.text, b...)
		for len(d.text) < at+c.size {
			d.text = append(d.text, 0)
		}
		b = d.text[at:len(d.text):len(d.text)]
	}
	c.bytes(b, v)
}

// decimalBytes is how many bytes so many digits less than 9 take.
var decimalBytes = [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// decimal reads a DECIMAL: groups of 9 digits in 4 bytes each, the rest in
// fewer, before and after the point; highest byte first, the highest bit
// flipped, and every bit of a negative number too.
func (d *decoder) decimal(r *reader, c *column, v *dfs.Value) error {
	precision, scale := int(c.meta>>8), int(c.meta&0xff)
	at := d.room(precision + 4)
	var err error
	if d.text, err = appendDecimal(d.text, r, precision, scale); err != nil {
		return err
	}
	*v = dfs.DecimalValue(alias(d.text[at:]))
	return nil
}

// appendDecimal reads a DECIMAL(precision, scale) from r and appends its text as
// the server prints it: all digits of the scale, and no more zeros in front than
// the one before the point.
func appendDecimal(to []byte, r *reader, precision, scale int) ([]byte, error) {
	whole := precision - scale
	if whole < 0 || precision == 0 || precision > 81 {
		return to, fmt.Errorf("cdc: decimal(%d,%d) is not a type", precision, scale)
	}
	size := whole/9*4 + decimalBytes[whole%9] + scale/9*4 + decimalBytes[scale%9]
	b := r.bytes(size)
	if r.bad {
		return to, errShortEvent
	}
	var mask uint32
	flip := byte(0x80)
	if b[0]&0x80 == 0 {
		mask = math.MaxUint32
		to = append(to, '-')
	}
	start := len(to)
	first := true
	group := func(digits int) {
		n := decimalBytes[digits]
		var g uint32
		for _, x := range b[:n] {
			if first {
				x ^= flip
				first = false
			}
			g = g<<8 | uint32(x)
		}
		b = b[n:]
		g ^= mask
		if n < 4 {
			g &= 1<<(8*n) - 1
		}
		// A damaged group may have more digits than it should: keep its length.
		k := len(to)
		for range digits {
			to = append(to, '0')
		}
		for i := digits - 1; i >= 0; i-- {
			to[k+i] = byte('0' + g%10)
			g /= 10
		}
	}
	if n := whole % 9; n > 0 {
		group(n)
	}
	for range whole / 9 {
		group(9)
	}
	// Of the zeros in front one is left at most, and that if nothing else is.
	zeros := 0
	for zeros < len(to)-start && to[start+zeros] == '0' {
		zeros++
	}
	to = append(to[:start], to[start+zeros:]...)
	if len(to) == start {
		to = append(to, '0')
	}
	if scale > 0 {
		to = append(to, '.')
		for range scale / 9 {
			group(9)
		}
		if n := scale % 9; n > 0 {
			group(n)
		}
	}
	// There is no negative zero; a value of that form would not be one.
	if mask != 0 && strings.Trim(string(to[start:]), "0.") == "" {
		to = append(to[:start-1], to[start:]...)
	}
	return to, nil
}

// fractionBytes is how many bytes a fraction of so many digits takes, and
// fractionUnit how many microseconds its last bit is.
var (
	fractionBytes = [...]int{0, 1, 1, 2, 2, 3, 3}
	fractionUnit  = [...]int64{0, 10000, 10000, 100, 100, 1, 1}
)

// temporal reads dates and times. What ends in 2 is the form of MySQL 5.6 and
// later; the others are older tables', and MariaDB's with
// mysql56_temporal_format=OFF.
func (d *decoder) temporal(r *reader, c *column, v *dfs.Value) error {
	fsp := int(c.meta)
	if fsp > 0 && c.oldTemporal() {
		return hires(r, c.typ, fsp, v)
	}
	switch c.typ {
	case typDate, typNewDate:
		n := int(r.uint(3))
		*v = dfs.DateValue(n>>9, n>>5&15, n&31)
	case typTime:
		n := int64(int32(r.uint(3)<<8) >> 8)
		sign := time.Duration(1)
		if n < 0 {
			n, sign = -n, -1
		}
		span := time.Duration(n/10000)*time.Hour + time.Duration(n/100%100)*time.Minute + time.Duration(n%100)*time.Second
		*v = dfs.TimeValue(sign*span, 0)
	case typDateTime:
		n := r.uint64()
		day, clock := int(n/1000000), int(n%1000000)
		*v = dfs.DateTimeValue(day/10000, day/100%100, day%100, clock/10000, clock/100%100, clock%100, 0, 0)
	case typTimestamp:
		*v = dfs.TimestampMicro(int64(r.uint32())*1e6, 0)
	case typTimestamp2:
		sec := int64(uintBE(r.bytes(4)))
		*v = dfs.TimestampMicro(sec*1e6+fraction(r, fsp), fsp)
	case typDateTime2:
		// One bit sign, always set; 17 bits year and month, 5 day, 5 hour, 6
		// minute, 6 second.
		n := uintBE(r.bytes(5)) &^ (1 << 39)
		us := fraction(r, fsp)
		day, clock := int(n>>17), int(n&0x1ffff)
		ym := day >> 5
		*v = dfs.DateTimeValue(ym/13, ym%13, day&31, clock>>12, clock>>6&63, clock&63, int(us), fsp)
	case typTime2:
		// The same, as one signed number with its fraction: 10 bits hour, 6
		// minute, 6 second, and an offset so that it is never negative.
		n := fractionBytes[fsp]
		b := r.bytes(3 + n)
		if r.bad {
			return errShortEvent
		}
		packed := int64(uintBE(b)) - 1<<(23+8*n)
		sign := time.Duration(1)
		if packed < 0 {
			packed, sign = -packed, -1
		}
		us := packed & (1<<(8*n) - 1)
		if n > 0 {
			us *= fractionUnit[fsp]
		}
		clock := packed >> (8 * n)
		span := time.Duration(clock>>12&1023)*time.Hour + time.Duration(clock>>6&63)*time.Minute +
			time.Duration(clock&63)*time.Second + time.Duration(us)*time.Microsecond
		*v = dfs.TimeValue(sign*span, fsp)
	default:
		return fmt.Errorf("cdc: type %d cannot be read", c.typ)
	}
	if r.bad {
		return errShortEvent
	}
	return nil
}

// fraction reads the digits after the second, as microseconds.
func fraction(r *reader, fsp int) int64 {
	if fsp == 0 {
		return 0
	}
	return int64(uintBE(r.bytes(fractionBytes[fsp]))) * fractionUnit[fsp]
}

// hires reads a time with digits after the second in the form of MariaDB 5.3 to
// 10.0, or later ones with mysql56_temporal_format=OFF: see sql/compat56.h and
// Field_timestamp_hires, Field_datetime_hires and Field_time_hires of sql/field.cc.
// Numbers have their highest byte first, and as many decimal digits of the second
// as the column has, without the rounding up to an even number of MySQL's form.
func hires(r *reader, typ byte, fsp int, v *dfs.Value) error {
	unit := int64(1)
	for range 6 - fsp {
		unit *= 10
	}
	if typ == typTimestamp {
		sec := int64(uintBE(r.bytes(4)))
		*v = dfs.TimestampMicro(sec*1e6+int64(uintBE(r.bytes(fractionBytes[fsp])))*unit, fsp)
	} else {
		size := [...]int{0, 6, 6, 7, 7, 7, 8}[fsp]
		if typ == typTime {
			size = [...]int{0, 4, 4, 5, 5, 5, 6}[fsp]
		}
		n := int64(uintBE(r.bytes(size)))
		if typ == typTime {
			// So that it is never negative, a second more than the longest span is
			// added.
			n -= ((838*60+59)*60 + 60) * 1e6 / unit
		}
		sign := time.Duration(1)
		if n < 0 {
			n, sign = -n, -1
		}
		if n > math.MaxInt64/unit {
			return errShortEvent
		}
		us := n * unit
		sec := us / 1e6
		if typ == typTime {
			// A day is counted as 24 hours.
			*v = dfs.TimeValue(sign*time.Duration(us)*time.Microsecond, fsp)
		} else {
			ym := sec / (60 * 60 * 24 * 32)
			*v = dfs.DateTimeValue(int(ym/13), int(ym%13), int(sec/(60*60*24)%32), int(sec/3600%24), int(sec/60%60), int(sec%60), int(us%1e6), fsp)
		}
	}
	if r.bad {
		return errShortEvent
	}
	return nil
}
