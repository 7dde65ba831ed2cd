package convert

import (
	"fmt"
	"math/big"
	"strings"
)

// A Decimal is an exact decimal number: n divided by ten to the power of scale.
// The zero Decimal is not valid.
type Decimal struct {
	n     *big.Int
	scale int
}

// ParseDecimal reads text such as "-12.50".
func ParseDecimal(s string) (Decimal, error) {
	whole, fraction, point := strings.Cut(s, ".")
	digits := whole + fraction
	rest := strings.TrimLeft(digits, "+-")
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok || len(digits)-len(rest) > 1 || strings.ContainsAny(rest, "_") || point && fraction == "" && whole == "" ||
		strings.ContainsAny(fraction, "+-") || len(digits) > 200 {
		return Decimal{}, fmt.Errorf("%.40q is no decimal number", s)
	}
	return Decimal{n, len(fraction)}, nil
}

// DecimalOf returns a whole number.
func DecimalOf(n int64) Decimal { return Decimal{big.NewInt(n), 0} }

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// align returns both numbers with the greater scale of the two.
func align(a, b Decimal) (x, y *big.Int, scale int) {
	scale = max(a.scale, b.scale)
	return a.at(scale), b.at(scale), scale
}

func (a Decimal) at(scale int) *big.Int {
	if scale == a.scale {
		return a.n
	}
	return new(big.Int).Mul(a.n, pow10(scale-a.scale))
}

// Add returns a+b.
func (a Decimal) Add(b Decimal) Decimal {
	x, y, scale := align(a, b)
	return Decimal{new(big.Int).Add(x, y), scale}
}

// Sub returns a-b.
func (a Decimal) Sub(b Decimal) Decimal {
	x, y, scale := align(a, b)
	return Decimal{new(big.Int).Sub(x, y), scale}
}

// Mul returns a*b.
func (a Decimal) Mul(b Decimal) Decimal {
	return Decimal{new(big.Int).Mul(a.n, b.n), a.scale + b.scale}
}

// Div returns a/b with four digits more than a has, as MySQL does
// (div_precision_increment). Ok is false if b is zero.
func (a Decimal) Div(b Decimal) (q Decimal, ok bool) {
	if b.n.Sign() == 0 {
		return a, false
	}
	scale := a.scale + 4
	x := new(big.Int).Mul(a.n, pow10(b.scale+5)) // one digit more, to round by
	return Decimal{x.Quo(x, b.n), scale + 1}.Round(scale), true
}

// Neg returns -a.
func (a Decimal) Neg() Decimal { return Decimal{new(big.Int).Neg(a.n), a.scale} }

// Cmp returns -1, 0 or 1 as a is less than, equal to or greater than b.
func (a Decimal) Cmp(b Decimal) int {
	x, y, _ := align(a, b)
	return x.Cmp(y)
}

// Round returns a with scale digits after the point, rounded half away from
// zero, as MySQL does.
func (a Decimal) Round(scale int) Decimal {
	if scale >= a.scale {
		return Decimal{a.at(scale), scale}
	}
	unit := pow10(a.scale - scale)
	half := new(big.Int).Quo(unit, big.NewInt(2))
	n := new(big.Int).Abs(a.n)
	n.Quo(n.Add(n, half), unit)
	if a.n.Sign() < 0 {
		n.Neg(n)
	}
	return Decimal{n, scale}
}

// digits returns how many digits a DECIMAL's precision counts.
func (a Decimal) digits() int {
	s := strings.TrimLeft(a.n.String(), "-")
	if s == "0" {
		s = ""
	}
	return max(len(s), a.scale)
}

// Float returns the nearest floating number.
func (a Decimal) Float() float64 {
	f, _ := new(big.Rat).SetFrac(a.n, pow10(a.scale)).Float64()
	return f
}

// String returns text such as "-12.50".
func (a Decimal) String() string {
	s := new(big.Int).Abs(a.n).String()
	if len(s) <= a.scale {
		s = strings.Repeat("0", a.scale-len(s)+1) + s
	}
	if a.scale > 0 {
		s = s[:len(s)-a.scale] + "." + s[len(s)-a.scale:]
	}
	if a.n.Sign() < 0 {
		s = "-" + s
	}
	return s
}

// MarshalJSON returns the number with all its digits.
func (a Decimal) MarshalJSON() ([]byte, error) { return []byte(a.String()), nil }
