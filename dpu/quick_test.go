package dpu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/stretchr/testify/require"
)

var quickColumns = []dfs.Column{
	{Name: "i", Type: "bigint"}, {Name: "k", Type: "int unsigned"}, {Name: "n", Type: "bigint", Nullable: true}, {Name: "u", Type: "bigint unsigned"},
	{Name: "d", Type: "decimal(20,4)"}, {Name: "e", Type: "decimal(8,2)", Nullable: true}, {Name: "f", Type: "double"}, {Name: "g", Type: "float", Nullable: true},
	{Name: "s", Type: "varchar(20)", Charset: "utf8mb4"}, {Name: "t", Type: "varchar(20)", Charset: "utf8mb4", Nullable: true},
	{Name: "m", Type: "enum", Members: []string{"x", "y"}}, {Name: "b", Type: "varbinary(9)"},
}

// randomExpr writes an expression that means something, of a kind.
func randomExpr(r *rand.Rand, kind string, depth int) string {
	sub := func(kind string) string { return randomExpr(r, kind, depth-1) }
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	if depth == 0 {
		switch kind {
		case "int":
			return pick("i", "k", "u", "7", "-3", "0", "9223372036854775807", "(n ?? 5)")
		case "dec":
			return pick("d", "d", "(e ?? d)")
		case "float":
			return pick("f", "1.5", "-0.25", "(g ?? 2.5)", "(g ?? f)")
		case "text":
			return pick("s", "m", "b", `"x"`, `""`, `"Zoë"`, `(t ?? "none")`, "(t ?? s)")
		}
		return pick("true", "n == nil", "t != nil", "nil == e", "i == 3", `s == "x"`)
	}
	binary := func(operators string, a, b string) string {
		return "(" + a + " " + pick(strings.Fields(operators)...) + " " + b + ")"
	}
	switch kind {
	case "int":
		return pick(sub("int"), binary("+ - * %", sub("int"), sub("int")), "-("+sub("int")+")", "("+sub("bool")+" ? "+sub("int")+" : "+sub("int")+")")
	case "dec":
		return pick(sub("dec"), binary("+ - * /", sub("dec"), sub(pick("dec", "int"))), binary("+ - *", sub(pick("dec", "int")), sub("dec")), binary("+ - *", sub("dec"), pick("1.2", "0.05", "100.0")))
	case "float":
		return pick(sub("float"), binary("+ - * /", sub("float"), sub("float")), binary("/", sub("int"), sub("int")), "-("+sub("float")+")")
	case "text":
		return pick(sub("text"), binary("+", sub("text"), sub("text")), "("+sub("bool")+" ? "+sub("text")+" : "+sub("text")+")")
	}
	compared := pick("int", "float", "text")
	return pick(sub("bool"), binary("and or && ||", sub("bool"), sub("bool")), "not ("+sub("bool")+")", binary("== != < <= > >=", sub(compared), sub(compared)),
		binary("== != < <= > >=", sub("dec"), sub(pick("dec", "int"))), binary("contains startsWith endsWith", sub("text"), sub("text")),
		binary("== !=", pick("n", "e", "t"), pick("n", "e", "t")), "(n != nil and n > "+sub("int")+")", "(e == nil or e > 1.5)")
}

func randomQuickRow(r *rand.Rand) []dfs.Value {
	ints := []int64{0, 1, -1, 3, 7, 1000, math.MaxInt64, math.MinInt64, 1 << 40}
	decs := []string{"0.0000", "19.9000", "-0.5000", "9999999999999999.9999", "-123456789012.3456", "1.0000", "0.0001"}
	texts := []string{"", "x", "y", "X", "Zoë", "a b", "none"}
	row := []dfs.Value{
		dfs.IntValue(ints[r.IntN(len(ints))]), dfs.UintValue(uint64(r.IntN(9))), dfs.IntValue(ints[r.IntN(len(ints))]), dfs.UintValue([]uint64{0, 5, 1 << 63, math.MaxUint64}[max(0, r.IntN(40)-36)]),
		dfs.DecimalValue(decs[r.IntN(len(decs))]), dfs.DecimalValue([]string{"1.50", "-7.00", "0.00"}[r.IntN(3)]),
		dfs.FloatValue([]float64{0, 1.5, -2.25, 1e308, 3}[r.IntN(5)]), dfs.Float32Value([]float32{0, 0.1, 2.5}[r.IntN(3)]),
		dfs.StringValue(texts[r.IntN(len(texts))]), dfs.StringValue(texts[r.IntN(len(texts))]), dfs.UintValue(uint64(r.IntN(3))), dfs.BytesValue([]byte(texts[r.IntN(len(texts))])),
	}
	for i := range row {
		if quickColumns[i].Nullable && r.IntN(3) == 0 {
			row[i] = dfs.NullValue()
		}
	}
	return row
}

// The quick form of an expression gives what the library's machine gives, or says
// that it does not know: for random expressions, rows and types of the result.
func TestQuickFormsGiveWhatTheMachineGives(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 1))
	quickForms, known, unknown, failed := 0, 0, 0, 0
	for range 3000 {
		kind := []string{"int", "dec", "float", "text", "bool"}[r.IntN(5)]
		text := randomExpr(r, kind, 1+r.IntN(3))
		e, err := compileExpr(text, quickColumns, false)
		if err != nil {
			continue // such as a comparison that the checker refuses
		}
		if e.fast == nil {
			continue
		}
		quickForms++
		types := map[string][]string{"int": {"bigint", "int", "tinyint unsigned", "varchar(9)"}, "dec": {"decimal(12,2)", "decimal(65,30)", "decimal(30,10)", "varchar(30)", "bigint", "double"},
			"float": {"double", "decimal(12,3)"}, "text": {"varchar(20)", "text"}, "bool": {"tinyint(1)"}}[kind]
		typ := types[r.IntN(len(types))]
		ct, err := convert.Parse(typ)
		require.NoError(t, err)
		precision, scale := ct.Decimal()
		def := columnOf("r", typ)
		for range 20 {
			row := randomQuickRow(r)
			var v []dfs.Value
			for _, i := range e.deps {
				v = append(v, row[i])
			}
			got, ok := e.fast.value(v, precision, scale)
			if !ok {
				unknown++
				continue
			}
			known++
			x, err := e.run(v)
			about := fmt.Sprintf("%s as %s of %v", text, typ, v)
			require.NoError(t, err, about)
			want, err := convert.Of(x)
			require.NoError(t, err, about)
			want, err1 := convert.To(want, &def)
			got, err2 := convert.To(got, &def)
			require.Equal(t, err1 == nil, err2 == nil, "%s: %v, %v", about, err1, err2)
			if err1 == nil {
				require.Equal(t, want, got, about)
			} else {
				failed++
			}
		}
	}
	t.Logf("%d quick forms, %d results compared, %d left to the machine, %d out of their column's range", quickForms, known, unknown, failed)
	require.Greater(t, quickForms, 1500)
	require.Greater(t, known, 10000)
	require.Greater(t, unknown, 500)
}

func TestWhatHasAQuickForm(t *testing.T) {
	for text, want := range map[string]bool{
		"i * k": true, "d * k + 1.5": true, `s == "x" and i > 3`: true, "(n ?? 0) * 2": true, "n != nil ? n : i": true, `s + " " + (t ?? "")`: true,
		"upper(s)": false, "i ** 2": false, "i * 1.5": false, "d + f": false, "let x = i; x": false, `s matches "x"`: false, "$env[\"i\"] * k": true,
	} {
		e, err := compileExpr(text, quickColumns, false)
		if text == "d + f" && err == nil {
			require.Nil(t, e.fast)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, e.fast != nil, text)
	}
}
