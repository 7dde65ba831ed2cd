package rowevent

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
)

// ErrValue means that a column cannot hold a value.
var ErrValue = errors.New("rowevent: value does not fit")

// append appends v, which is not NULL, as a row image holds it.
func (c *column) append(b []byte, v dfs.Value, raw bool) ([]byte, bool) {
	switch c.kind {
	case typeTiny, typeShort, typeInt24, typeLong, typeLongLong:
		return appendInt(b, v.Uint(), c.width), c.holds(v)
	case typeYear:
		y := v.Int()
		if y == 0 {
			return append(b, 0), v.Kind() == dfs.Uint64 || v.Kind() == dfs.Int64
		}
		return append(b, byte(y-1900)), 1901 <= y && y <= 2155
	case typeFloat:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v.Float()))), v.Kind() == dfs.Float32 && c.finite(v)
	case typeDouble:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.Float())), v.Kind() == dfs.Float64 && c.finite(v)
	case typeNewDecimal:
		if v.Kind() != dfs.Decimal || c.unsigned && strings.HasPrefix(v.Text(), "-") {
			return b, false
		}
		return appendDecimal(b, v.Text(), c.prec, c.scale)
	case typeBit: // the highest byte first
		if v.Kind() != dfs.Uint64 || c.count < 64 && v.Uint()>>c.count != 0 {
			return b, false
		}
		for i := c.width - 1; i >= 0; i-- {
			b = append(b, byte(v.Uint()>>(8*i)))
		}
		return b, true
	case typeEnum:
		n := v.Uint()
		return appendInt(b, n, c.width), v.Kind() == dfs.Uint64 && n <= uint64(c.count) // 0: what was no member
	case typeSet:
		return appendInt(b, v.Uint(), c.width), v.Kind() == dfs.Uint64 && (c.count == 64 || v.Uint()>>c.count == 0)
	case typeDate:
		y, m, d, _, _, _, _ := v.Clock()
		return appendInt(b, uint64(d|m<<5|y<<9), 3), v.Kind() == dfs.Date && y <= 9999
	case typeDateTime2:
		y, mo, d, h, mi, s, us := v.Clock()
		if v.Kind() != dfs.DateTime || y > 9999 || h > 23 || mi > 59 || s > 59 || !c.fits(us) {
			return b, false
		}
		n := uint64(y*13+mo)<<22 | uint64(d)<<17 | uint64(h)<<12 | uint64(mi)<<6 | uint64(s) | 1<<39
		b = append(b, byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		return appendFraction(b, us, c.scale), true
	case typeTimestamp2:
		// Microseconds; zero is the zero timestamp. The first that SQL takes is
		// 1970-01-01 00:00:01, the last 2038-01-19 03:14:07.
		at := v.Int()
		if v.Kind() != dfs.Timestamp || at != 0 && at < 1e6 || at/1e6 > math.MaxInt32 || !c.fits(int(at%1e6)) {
			return b, false
		}
		b = binary.BigEndian.AppendUint32(b, uint32(at/1e6))
		return appendFraction(b, int(at%1e6), c.scale), true
	case typeTime2:
		us := v.Duration().Microseconds()
		ok := v.Kind() == dfs.Time && -maxTime <= us && us <= maxTime && c.fits(int(us%1e6))
		return appendTime(b, us, c.scale), ok
	}
	s := v.Text()
	if v.Kind() != dfs.String && v.Kind() != dfs.Bytes || len(s) > c.max || !(raw && c.kind != typeBlob) && !c.valid(s) {
		return b, false
	}
	return append(appendInt(b, uint64(len(s)), c.width), s...), true
}

const maxTime = (838*3600 + 59*60 + 59) * 1e6 // microseconds

// fits reports whether so many microseconds need no more digits than there are.
func (c *column) fits(micro int) bool { return micro%pow10[6-c.scale] == 0 }

var pow10 = [...]int{1, 10, 100, 1e3, 1e4, 1e5, 1e6}

func (c *column) finite(v dfs.Value) bool {
	f := v.Float()
	return !math.IsInf(f, 0) && f == f && !(c.unsigned && f < 0)
}

// valid reports whether s is text of the column's character set, and has no
// more characters than the column takes.
func (c *column) valid(s string) bool {
	switch c.text {
	case otherText:
		return s == ""
	case asciiText:
		for i := range len(s) {
			if s[i] >= utf8.RuneSelf {
				return false
			}
		}
	case utf8mb3Text, utf8mb4Text:
		if !utf8.ValidString(s) {
			return false
		}
		if c.text == utf8mb3Text && strings.IndexFunc(s, func(r rune) bool { return r > 0xffff }) >= 0 {
			return false
		}
		if c.chars > 0 && len(s) > c.chars {
			return utf8.RuneCountInString(s) <= c.chars
		}
	}
	return c.chars == 0 || len(s) <= c.chars
}

// holds reports whether an integer column can hold v.
func (c *column) holds(v dfs.Value) bool {
	bits := 8 * c.width
	switch v.Kind() {
	case dfs.Int64:
		if n := v.Int(); !c.unsigned {
			return n>>(bits-1) == 0 || n>>(bits-1) == -1
		} else if n < 0 {
			return false
		}
		return c.width == 8 || v.Uint()>>bits == 0
	case dfs.Uint64:
		if !c.unsigned {
			bits--
		}
		return bits == 64 || v.Uint()>>bits == 0
	}
	return false
}

// appendInt appends the low n bytes of v, the lowest first.
func appendInt(b []byte, v uint64, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}

// appendFraction appends the digits after the second, the highest byte first,
// as hundredths, ten-thousandths or millionths.
func appendFraction(b []byte, micro, fsp int) []byte {
	switch (fsp + 1) / 2 {
	case 1:
		return append(b, byte(micro/10000))
	case 2:
		n := micro / 100
		return append(b, byte(n>>8), byte(n))
	case 3:
		return append(b, byte(micro>>16), byte(micro>>8), byte(micro))
	}
	return b
}

// appendTime appends a TIME: one number of hours, minutes, seconds and fraction,
// offset so that it sorts as unsigned (my_time_packed_to_binary).
func appendTime(b []byte, micro int64, fsp int) []byte {
	negative := micro < 0
	if negative {
		micro = -micro
	}
	s := micro / 1e6
	n := (s/3600<<12|s/60%60<<6|s%60)<<24 | micro%1e6
	if negative {
		n = -n
	}
	switch (fsp + 1) / 2 {
	case 0:
		n = n>>24 + 0x800000
		return append(b, byte(n>>16), byte(n>>8), byte(n))
	case 1:
		hi := n>>24 + 0x800000
		return append(b, byte(hi>>16), byte(hi>>8), byte(hi), byte(n%(1<<24)/10000))
	case 2:
		hi, lo := n>>24+0x800000, n%(1<<24)/100
		return append(b, byte(hi>>16), byte(hi>>8), byte(hi), byte(lo>>8), byte(lo))
	}
	n += 0x800000000000
	return append(b, byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// digitBytes is how many bytes hold so many digits of a DECIMAL.
var digitBytes = [...]int{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}

// appendDecimal appends a DECIMAL(prec,scale): groups of nine digits from the
// point outwards, the highest byte first, all bits inverted if it is negative,
// and then the first bit inverted (decimal2bin).
func appendDecimal(b []byte, s string, prec, scale int) ([]byte, bool) {
	if s == "" {
		return b, false
	}
	negative := s[0] == '-'
	if negative || s[0] == '+' {
		s = s[1:]
	}
	whole, frac, _ := strings.Cut(s, ".")
	whole = strings.TrimLeft(whole, "0")
	intDigits := prec - scale
	if len(whole) > intDigits || len(frac) > scale {
		return b, false
	}
	var mask byte
	if negative {
		mask = 0xff
	}
	start, ok := len(b), true
	group := func(digits string, pad, trail int) { // pad zeros, digits, trail zeros
		n := uint32(0)
		for i := range digits {
			d := digits[i] - '0'
			ok = ok && d <= 9
			n = n*10 + uint32(d)
		}
		for range trail {
			n *= 10
		}
		for i := digitBytes[pad+len(digits)+trail] - 1; i >= 0; i-- {
			b = append(b, byte(n>>(8*i))^mask)
		}
	}
	// The integer part fills its groups from the right.
	for left := intDigits; left > 0; {
		size := (left-1)%9 + 1
		left -= size
		have := max(min(len(whole)-left, size), 0)
		group(whole[:have], size-have, 0)
		whole = whole[have:]
	}
	for left := scale; left > 0; {
		size := min(left, 9)
		left -= size
		have := min(len(frac), size)
		group(frac[:have], 0, size-have)
		frac = frac[have:]
	}
	b[start] ^= 0x80
	return b, ok
}
