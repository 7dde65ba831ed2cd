package convert_test

import (
	"math"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/stretchr/testify/require"
)

func column(typ string) *dfs.Column {
	c := &dfs.Column{Name: "c", Type: typ, Charset: "utf8mb4"}
	if typ == "enum" || typ == "set" {
		c.Members = []string{"small", "large"}
	}
	return c
}

// A value is written as its text, or as "kind text" where the kind matters.
func TestConversions(t *testing.T) {
	s, n, d := dfs.StringValue, dfs.IntValue, dfs.DecimalValue
	for _, c := range []struct {
		from     string
		v        dfs.Value
		to, want string // "" if it must fail
		lossy    string
	}{
		{"int", n(5), "bigint", "int64 5", ""},
		{"int", n(300), "tinyint", "", ""},
		{"int", n(255), "tinyint unsigned", "uint64 255", ""},
		{"int", n(-1), "bigint unsigned", "", ""},
		{"int", n(-128), "tinyint", "int64 -128", ""},
		{"int", n(-129), "tinyint", "", ""},
		{"bigint unsigned", dfs.UintValue(1 << 63), "bigint", "", ""},
		{"bigint unsigned", dfs.UintValue(1<<63 - 1), "bigint", "int64 9223372036854775807", ""},
		{"bigint", n(-1 << 63), "decimal(20,0)", "decimal -9223372036854775808", ""},
		{"decimal(10,2)", d("2.50"), "int", "int64 3", "numbers are rounded to whole ones"},
		{"decimal(10,2)", d("-2.50"), "int", "int64 -3", "numbers are rounded to whole ones"},
		{"decimal(10,3)", d("1.005"), "decimal(5,2)", "decimal 1.01", "numbers are rounded to 2 digits after the point"},
		{"decimal(10,2)", d("12345.00"), "decimal(5,2)", "", ""},
		{"decimal(10,2)", d("0.01"), "decimal(2,2)", "decimal 0.01", ""},
		{"double", dfs.FloatValue(0.1), "decimal(5,1)", "decimal 0.1", "numbers are rounded to 1 digits after the point"},
		{"double", dfs.FloatValue(1e300), "bigint", "", ""},
		{"double", dfs.FloatValue(2.5), "varchar(5)", "string 2.5", "floating numbers become their shortest text"},
		{"double", dfs.FloatValue(1e300), "float", "", ""},
		{"float", dfs.FloatValue(math.Inf(1)), "double", "", ""},
		{"float", dfs.FloatValue(math.NaN()), "double", "", ""},
		{"bigint", n(7), "double", "float64 7", "numbers lose digits in a double"},
		{"int", n(7), "double", "float64 7", ""},
		{"varchar(9)", s(" 12 "), "int", "int64 12", ""},
		{"varchar(9)", s("12a"), "int", "", ""},
		{"varchar(9)", s("1_000"), "decimal(9,0)", "", ""},
		{"varchar(9)", s("1.5"), "int", "", ""},
		{"varchar(9)", s("NaN"), "double", "", ""},
		{"varchar(9)", s("grün"), "varchar(4)", "string grün", ""},
		{"varchar(9)", s("grüne"), "varchar(4)", "", ""},
		{"varchar(9)", s("grün"), "varbinary(4)", "", ""},
		{"blob", dfs.BytesValue([]byte{0xff}), "varchar(4)", "", ""},
		{"blob", dfs.BytesValue([]byte("ok")), "varchar(4)", "string ok", ""},
		{"varchar(40)", s("2026-02-30"), "date", "", ""},
		{"varchar(40)", s("2026-02-28"), "date", "date 2026-02-28", ""},
		{"varchar(40)", s("2026-02-28T10:00:00.123456"), "datetime(3)", "datetime 2026-02-28 10:00:00.123", ""},
		{"varchar(40)", s("-838:59:59"), "time", "time -838:59:59", ""},
		{"varchar(40)", s("10:61"), "time", "", ""},
		{"varchar(40)", s("2026-02-28 10:00:00Z"), "timestamp", "timestamp 2026-02-28 10:00:00", ""},
		{"datetime(6)", dfs.DateTimeValue(2026, 2, 0, 1, 2, 3, 999999, 6), "datetime", "datetime 2026-02-00 01:02:03", "times are cut to 0 digits after the second"},
		{"datetime", dfs.DateTimeValue(2026, 2, 0, 1, 2, 3, 0, 0), "timestamp", "", "times without a zone are taken as UTC"},
		{"datetime", dfs.DateTimeValue(0, 0, 0, 0, 0, 0, 0, 0), "timestamp", "timestamp 0000-00-00 00:00:00", "times without a zone are taken as UTC"},
		{"datetime", dfs.DateTimeValue(2026, 2, 3, 1, 2, 3, 0, 0), "date", "date 2026-02-03", "times lose their clock"},
		{"datetime", dfs.DateTimeValue(2026, 2, 3, 1, 2, 3, 0, 0), "time", "time 01:02:03", "times lose their date"},
		{"date", dfs.DateValue(2026, 2, 3), "datetime(2)", "datetime 2026-02-03 00:00:00.00", ""},
		{"enum", dfs.UintValue(2), "varchar(9)", "string large", ""},
		{"enum", dfs.UintValue(0), "varchar(9)", "string ", ""},
		{"set", dfs.UintValue(3), "varchar(20)", "string small,large", ""},
		{"varchar(20)", s("Large"), "enum", "uint64 2", ""},
		{"varchar(20)", s("huge"), "enum", "", ""},
		{"varchar(20)", s("large,small"), "set", "uint64 3", ""},
		{"varchar(20)", s(`{"a":1}`), "json", `json {"a":1}`, ""},
		{"varchar(20)", s(`{a:1}`), "json", "", ""},
		{"int", n(4), "json", "json 4", ""},
		{"date", dfs.DateValue(2026, 2, 3), "json", `json "2026-02-03"`, ""},
		{"int", dfs.NullValue(), "varchar(1)", "null NULL", ""},
		{"int", dfs.AbsentValue(), "varchar(1)", "absent ABSENT", ""},
	} {
		f, lossy, err := convert.New(column(c.from), column(c.to))
		require.NoError(t, err, c)
		if c.want != "" {
			require.Equal(t, c.lossy, lossy, "%s to %s", c.from, c.to)
		}
		got, err := f(c.v)
		if c.want == "" {
			require.Error(t, err, "%s %v to %s gave %v", c.from, c.v, c.to, got)
			continue
		}
		require.NoError(t, err, c)
		require.Equal(t, c.want, got.Kind().String()+" "+got.String(), "%s to %s", c.from, c.to)
	}
}

func TestConversionsThatCannotBe(t *testing.T) {
	for _, c := range [][2]string{{"int", "date"}, {"datetime", "bigint"}, {"blob", "int"}, {"int", "blob"}, {"time", "datetime"},
		{"date", "time"}, {"what", "int"}, {"int", "varchar"}, {"int", "decimal(x)"}, {"int", "int(3"}, {"int", "int auto_increment"}} {
		_, _, err := convert.New(column(c[0]), column(c[1]))
		require.Error(t, err, c)
	}
	latin := column("varchar(3)")
	latin.Charset = "latin1"
	_, _, err := convert.New(latin, column("varchar(9)"))
	require.ErrorContains(t, err, "latin1")
	f, _, err := convert.New(column("int"), column("int"))
	require.NoError(t, err)
	require.Nil(t, f, "nothing is to be done")
}

func TestDecimals(t *testing.T) {
	p := func(s string) convert.Decimal {
		d, err := convert.ParseDecimal(s)
		require.NoError(t, err, s)
		return d
	}
	require.Equal(t, "0.30", p("0.1").Add(p("0.20")).String())
	require.Equal(t, "-0.05", p("0.1").Sub(p("0.15")).String())
	require.Equal(t, "-0.020", p("0.1").Mul(p("-0.20")).String())
	q, ok := p("2").Div(p("3"))
	require.True(t, ok)
	require.Equal(t, "0.6667", q.String())
	q, _ = p("-1.00").Div(p("3.0"))
	require.Equal(t, "-0.333333", q.String())
	_, ok = p("1").Div(p("0.00"))
	require.False(t, ok)
	require.Zero(t, p("1.50").Cmp(p("1.5")))
	require.Equal(t, "-2", p("-1.5").Round(0).String())
	require.Equal(t, "1.50", p("1.5").Round(2).String())
	for _, bad := range []string{"", ".", "-", "1e5", "1.-2", "--1", "0x1", "1_0", "1.2.3"} {
		_, err := convert.ParseDecimal(bad)
		require.Error(t, err, bad)
	}
}
