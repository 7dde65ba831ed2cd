package convert

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A Small is a decimal number of at most 18 digits: N divided by ten to the power
// of Scale. It needs no memory beside itself. What does not fit is not ok, and is
// for Decimal.
type Small struct {
	N     int64
	Scale int
}

// maxSmall is the greatest number of 18 digits.
const maxSmall = 999_999_999_999_999_999

var tens = func() (t [19]int64) {
	t[0] = 1
	for i := 1; i < len(t); i++ {
		t[i] = 10 * t[i-1]
	}
	return t
}()

// SmallOf returns a whole number.
func SmallOf(n int64) (Small, bool) { return Small{n, 0}, -maxSmall <= n && n <= maxSmall }

// ParseSmall reads text such as "-12.50". It takes no more than ParseDecimal does.
func ParseSmall(s string) (a Small, ok bool) {
	i, negative := 0, false
	if s != "" && (s[0] == '-' || s[0] == '+') {
		i, negative = 1, s[0] == '-'
	}
	point := -1
	digits := len(s) - i
	if digits > 19 || digits == 0 {
		return a, false
	}
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.' && point < 0:
			point = i
			digits--
		case c-'0' <= 9:
			a.N = a.N*10 + int64(c-'0')
		default:
			return a, false
		}
	}
	if digits == 0 || digits > 18 {
		return a, false
	}
	if point >= 0 {
		a.Scale = len(s) - 1 - point
	}
	if negative {
		a.N = -a.N
	}
	return a, true
}

// at returns a's N for a scale that is not less than its own.
func (a Small) at(scale int) (int64, bool) {
	by := scale - a.Scale
	if by == 0 || a.N == 0 {
		return a.N, true
	}
	if by >= len(tens) {
		return 0, false
	}
	return mul(a.N, tens[by])
}

func mul(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(abs(a), abs(b))
	if hi != 0 || lo > maxSmall {
		return 0, false
	}
	return a * b, true
}

func abs(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// Add returns a+b.
func (a Small) Add(b Small) (Small, bool) {
	scale := max(a.Scale, b.Scale)
	x, ok1 := a.at(scale)
	y, ok2 := b.at(scale)
	n := x + y // of 18 digits each, so it does not wrap
	return Small{n, scale}, ok1 && ok2 && -maxSmall <= n && n <= maxSmall
}

// Neg returns -a.
func (a Small) Neg() Small { return Small{-a.N, a.Scale} }

// Mul returns a*b.
func (a Small) Mul(b Small) (Small, bool) {
	n, ok := mul(a.N, b.N)
	return Small{n, a.Scale + b.Scale}, ok
}

// Cmp returns -1, 0 or 1 as a is less than, equal to or greater than b.
func (a Small) Cmp(b Small) (int, bool) {
	scale := max(a.Scale, b.Scale)
	x, ok1 := a.at(scale)
	y, ok2 := b.at(scale)
	switch {
	case x < y:
		return -1, ok1 && ok2
	case x > y:
		return 1, ok1 && ok2
	}
	return 0, ok1 && ok2
}

// Append appends a with scale digits after the point, rounded as Decimal.Round
// does. It is not ok if that has more digits than precision.
func (a Small) Append(b []byte, precision, scale int) ([]byte, bool) {
	pad := scale - a.Scale
	n := abs(a.N)
	if pad < 0 {
		if -pad >= len(tens) {
			return b, false
		}
		unit := uint64(tens[-pad])
		n, pad = (n+unit/2)/unit, 0
	}
	var buf [20]byte
	digits := strconv.AppendUint(buf[:0], n, 10)
	if n == 0 {
		digits = digits[:0]
		pad = 0
	}
	if max(len(digits)+pad, scale) > precision {
		return b, false
	}
	if a.N < 0 && n > 0 {
		b = append(b, '-')
	}
	whole := len(digits) + pad - scale // digits before the point
	if whole <= 0 {
		b = append(b, '0')
	}
	for i := min(whole, 0); i < len(digits)+pad; i++ { // below 0 stand zeros
		if i == whole {
			b = append(b, '.')
		}
		if i < 0 || i >= len(digits) {
			b = append(b, '0')
		} else {
			b = append(b, digits[i])
		}
	}
	return b, true
}

// SmallDecimal returns a as the value of a column decimal(precision, scale).
func SmallDecimal(a Small, precision, scale int) (dfs.Value, bool) {
	var buf [96]byte
	b, ok := a.Append(buf[:0], precision, scale)
	if !ok {
		return dfs.Value{}, false
	}
	return dfs.DecimalValue(string(b)), true
}

// smallText is what toDecimal makes of a text, if that is quickly known.
func smallText(text string, precision, scale int) (string, bool) {
	a, ok := ParseSmall(text)
	if !ok {
		return "", false
	}
	var buf [96]byte
	b, ok := a.Append(buf[:0], precision, scale)
	if ok && string(b) == text {
		return text, true
	}
	return strings.Clone(string(b)), ok
}
