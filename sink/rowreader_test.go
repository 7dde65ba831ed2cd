package sink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// What the sink sends, and what PostgreSQL prints of it, have one form; what is another
// value, by however little, has another.
func TestFormsOfPostgresAreOneForWhatMeansTheSame(t *testing.T) {
	form := func(base string, precision, scale int, s string) string {
		var m formMark
		v := pgStored(&targetColumn{base: base, precision: precision, scale: scale}, &m)(s)
		return v.Kind().String() + " " + v.Text()
	}
	for _, c := range []struct {
		base             string
		precision, scale int
		same             []string
		other            []string
	}{
		{"numeric", -1, 0, []string{"1.50", "1.5", "+1.5", "15e-1", "01.500"}, []string{"1.51", "-1.5", "15", "1.5000000000000000001"}},
		{"numeric", 10, 2, []string{"1.235", "1.24", "1.2399999"}, []string{"1.234", "1.25"}},
		{"numeric", 10, 2, []string{"-0.005", "-0.01"}, []string{"-0.004", "0.01"}},
		{"numeric", 10, 0, []string{"9.5", "10"}, []string{"9.49"}},
		{"numeric", 10, -2, []string{"950", "1000", "1e3"}, []string{"949", "900"}},
		{"numeric", -1, 0, []string{"0", "-0", "0.000", "0e5", "-0.0"}, []string{"0.0001"}},
		{"numeric", -1, 0, []string{"1e20", "100000000000000000000"}, []string{"100000000000000000001"}},
		{"numeric", -1, 0, []string{"1e-7", "0.0000001"}, []string{"0.00000011"}},
		{"float8", -1, 0, []string{"1e15", "1000000000000000"}, []string{"1000000000000000.1", "-1e15"}},
		{"float8", -1, 0, []string{"0"}, []string{"-0"}},
		{"float8", -1, 0, []string{"0.1", "0.10000000000000001"}, []string{"0.10000000000000002"}},
		{"float4", -1, 0, []string{"0.1", "0.100000001"}, []string{"0.10000001"}},
		{"timestamp", 6, 0, []string{"2024-02-29 01:02:03.500000", "2024-02-29 01:02:03.5"}, []string{"2024-02-29 01:02:03.500001", "2024-02-29 01:02:03"}},
		{"timestamp", 0, 0, []string{"2024-12-31 23:59:59.5", "2025-01-01 00:00:00"}, []string{"2024-12-31 23:59:59.499999"}},
		{"timestamp", 1, 0, []string{"1999-12-31 23:59:59.25", "1999-12-31 23:59:59.2"}, []string{"1999-12-31 23:59:59.26"}},
		{"timestamptz", 0, 0, []string{"2024-02-29 01:02:03", "2024-02-29 01:02:03+00"}, []string{"2024-02-29 01:02:04+00", "-infinity"}},
		{"timestamp", -1, 0, []string{"0001-01-01 BC", "0001-01-01 00:00:00 BC"}, []string{"0001-01-01 00:00:00"}},
		{"interval", 6, 0, []string{"-838:59:59.000000", "-838:59:59"}, []string{"838:59:59", "-838:59:59.000001"}},
		{"interval", 0, 0, []string{"100:00:00.5", "100:00:01"}, []string{"100:00:00.4", "4 days 04:00:01"}},
		{"varchar", 3, 0, []string{"abc", "abc  "}, []string{"abcd", "abc d", "ab"}},
		{"varchar", 3, 0, []string{"äöü ", "äöü"}, []string{"äöü\t"}},
		{"bpchar", 5, 0, []string{"ab", "ab   "}, []string{"a", " ab"}},
		{"text", -1, 0, []string{"ab"}, []string{"ab ", "AB", "a\u0301b"}},
		{"bytea", -1, 0, []string{`\x00ff`}, []string{`\x00fe`, `\x`}},
		{"json", -1, 0, []string{`{"b":1,"a":[1.50]}`, `{"a": [15e-1], "b": 1}`}, []string{`{"a":[1.5],"b":1.0}`, `{"a":[1.5],"b":"1"}`, `{"a":[1.5]}`, `{"a":[1.5],"b":1} x`}},
		{"json", -1, 0, []string{`9007199254740993`}, []string{`9007199254740992`, `9007199254740993.0`}},
		{"json", -1, 0, []string{"\"base64:type252:AA\\nBB\"", `"base64:type252:AABB"`}, []string{`"base64:type252:AABC"`}},
		{"jsonb", -1, 0, []string{`{"a":1e2}`, `{"a": 100}`, `{"a": 100.0}`}, []string{`{"a": 101}`}},
		{"uuid", -1, 0, []string{"3E11FA47-71CA-11E1-9E33-C80AA9429562", "3e11fa4771ca11e19e33c80aa9429562"}, []string{"3e11fa4771ca11e19e33c80aa9429563"}},
		{"inet", -1, 0, []string{"::1", "::1/128", "0:0::1"}, []string{"::2", "::1/64"}},
		{"_text", -1, 0, []string{`{"a","b c"}`, `{a,"b c"}`}, []string{`{"b c",a}`, `{a}`, `{"a,b c"}`, `{NULL}`}},
		{"_text", -1, 0, []string{`{"a\"b","\\"}`, `{"a\"b",\\}`}, []string{`{"a\"b"}`}},
		{"_text", -1, 0, []string{`{"NULL"}`}, []string{`{NULL}`, `{}`}},
		{"_text", -1, 0, []string{`{a}`}, []string{`a}`, `{a`}},
		{"bit", 4, 0, []string{"0101"}, []string{"0100"}},
	} {
		want := form(c.base, c.precision, c.scale, c.same[0])
		for _, s := range c.same {
			require.Equal(t, want, form(c.base, c.precision, c.scale, s), "%s(%d,%d): %s", c.base, c.precision, c.scale, s)
		}
		for _, s := range c.other {
			require.NotEqual(t, want, form(c.base, c.precision, c.scale, s), "%s(%d,%d): %s", c.base, c.precision, c.scale, s)
		}
	}
}

func TestFormsOfSQLiteAreWhatTheAffinityMakes(t *testing.T) {
	form := func(base string, mark formMark, v any) dfs.Value {
		return liteStored(&targetColumn{base: base}, &mark)(v)
	}
	for _, c := range []struct {
		base  string
		mark  formMark
		bound any
		held  any
		equal bool
	}{
		{"TEXT", 0, int64(5), "5", true},
		{"INTEGER", 0, int64(5), int64(5), true},
		{"INTEGER", 0, int64(1<<53 + 1), int64(1 << 53), false},
		{"REAL", 0, 5.0, 5.0, true},
		{"REAL", 0, 0.1, 0.10000000000000002, false},
		{"NUMERIC", markDecimal, "1.10", 1.1, true},
		{"NUMERIC", markDecimal, "1.10", 1.1000000000000003, true},
		{"NUMERIC", markDecimal, "1.10", 1.11, false},
		{"NUMERIC", markDecimal, "7.00", int64(7), true},
		{"TEXT", markDecimal, "1.10", "1.10", true},
		{"TEXT", markDecimal, "1.10", "1.1", false},
		{"BLOB", 0, "18446744073709551615", "18446744073709551615", true},
		{"BLOB", 0, int64(1), "1", false}, // of an index the two are different keys
		{"BLOB", 0, []byte("1"), "1", false},
		{"NUMERIC", 0, "2024-02-29", "2024-02-29", true},
		{"TEXT", markJSON, `{"b":1,"a":2}`, `{"a": 2, "b": 1}`, true},
		{"TEXT", 0, `{"b":1,"a":2}`, `{"a": 2, "b": 1}`, false},
		{"TEXT", 0, "a\x00b", "a\x00c", false},
	} {
		a, b := form(c.base, c.mark, c.bound), form(c.base, c.mark, c.held)
		require.Equal(t, c.equal, a.Kind() == b.Kind() && a.String() == b.String(), "%s: %v is %s %s, %v is %s %s", c.base, c.bound, a.Kind(), a, c.held, b.Kind(), b)
	}
}
