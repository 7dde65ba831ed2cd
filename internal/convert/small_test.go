package convert_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/stretchr/testify/require"
)

// Small gives what Decimal gives, or nothing.
func TestSmallDecimalsAreThoseOfDecimal(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "-", "+", ".", "-.", "5.", ".5", "-.5", "+7.50", "007.10", "-0", "-0.00", "0", "1.2.3", "1_0", "1e3", " 1", "--1",
		"999999999999999999", "-999999999999999999", "1000000000000000000", "0.000000000000000001", "99999999999999999.9", "12345678901234567890"}
	for range 400 {
		text := fmt.Sprint(r.Int64N([]int64{10, 1000, 1 << 40, 1<<62 - 1}[r.IntN(4)]))
		if n := r.IntN(len(text) + 1); r.IntN(3) > 0 {
			text = text[:n] + "." + text[n:]
		}
		if r.IntN(2) == 0 {
			text = "-" + text
		}
		texts = append(texts, text)
	}
	fit := 0
	for i, text := range texts {
		d, err := convert.ParseDecimal(text)
		a, ok := convert.ParseSmall(text)
		if !ok {
			continue
		}
		require.NoError(t, err, text)
		fit++
		for _, c := range []struct{ precision, scale int }{{65, 30}, {18, 2}, {5, 0}, {3, 3}, {65, len(text)}} {
			want := d.Round(c.scale)
			got, ok := a.Append(nil, c.precision, c.scale)
			require.Equal(t, want.Digits() <= c.precision, ok, "%s as decimal(%d,%d)", text, c.precision, c.scale)
			if ok {
				require.Equal(t, want.String(), string(got), "%s with %d digits", text, c.scale)
			}
		}
		other := texts[(i*7+3)%len(texts)]
		b, ok := convert.ParseSmall(other)
		if !ok {
			continue
		}
		e, err := convert.ParseDecimal(other)
		require.NoError(t, err)
		same := func(op string, x convert.Small, ok bool, want convert.Decimal) {
			if ok {
				got, fits := x.Append(nil, 200, x.Scale)
				require.True(t, fits)
				require.Equal(t, want.String(), string(got), "%s %s %s", text, op, other)
			}
		}
		x, ok := a.Add(b)
		same("+", x, ok, d.Add(e))
		x, ok = a.Add(b.Neg())
		same("-", x, ok, d.Sub(e))
		x, ok = a.Mul(b)
		same("*", x, ok, d.Mul(e))
		if cmp, ok := a.Cmp(b); ok {
			require.Equal(t, d.Cmp(e), cmp, "%s and %s", text, other)
		}
	}
	require.Greater(t, fit, 300)
	_, ok := convert.SmallOf(-1 << 63)
	require.False(t, ok)
	a, _ := convert.ParseSmall("999999999999999999")
	for _, f := range []func() (convert.Small, bool){func() (convert.Small, bool) { return a.Add(a) }, func() (convert.Small, bool) { return a.Mul(a) }} {
		_, ok := f()
		require.False(t, ok, "more than 18 digits")
	}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		b, _ := convert.ParseSmall("19.90")
		c, _ := convert.SmallOf(3)
		b, _ = b.Mul(c)
		var buf [40]byte
		if got, ok := b.Append(buf[:0], 12, 2); !ok || string(got) != "59.70" {
			panic(string(got))
		}
	}))
}
