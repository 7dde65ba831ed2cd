package sink

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// sample is a column type, and values as SQL and as a source would give them.
type sample struct {
	typ     string // as in CREATE TABLE
	srcType string // as dfs.Column.Type, if it differs
	charset string
	members []string
	values  []sampleValue
	kinds   []testenv.Kind // all if nil
	noKey   bool           // cannot be a key
	noKeyOn testenv.Kind
}

type sampleValue struct {
	sql string
	v   dfs.Value
}

func text(hex string) sampleValue {
	var b []byte
	fmt.Sscanf(hex, "%x", &b)
	return sampleValue{"0x" + hex, dfs.StringValue(string(b))}
}

var everyByte = func() []byte {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}()

func samples() []sample {
	i, u, d := dfs.IntValue, dfs.UintValue, dfs.DecimalValue
	utc := func(s string) time.Time {
		t, err := time.Parse("2006-01-02 15:04:05.999999", s)
		if err != nil {
			panic(err)
		}
		return t
	}
	list := []sample{
		{typ: "tinyint", values: []sampleValue{{"-128", i(-128)}, {"127", i(127)}, {"0", i(0)}}},
		{typ: "bigint", values: []sampleValue{{"-9223372036854775808", i(math.MinInt64)}, {"9223372036854775807", i(math.MaxInt64)}}},
		{typ: "bigint unsigned", values: []sampleValue{{"18446744073709551615", u(math.MaxUint64)}, {"0", u(0)}}},
		{typ: "decimal(65,30)", values: []sampleValue{
			{"99999999999999999999999999999999999.999999999999999999999999999999", d("99999999999999999999999999999999999.999999999999999999999999999999")},
			{"-0.000000000000000000000000000001", d("-0.000000000000000000000000000001")}, {"0", d("0.000000000000000000000000000000")}}},
		{typ: "decimal(10,0)", values: []sampleValue{{"-9999999999", d("-9999999999")}, {"7", d("7")}}},
		{typ: "float", noKey: true, values: []sampleValue{{"0.1", dfs.Float32Value(0.1)}, {"3.40282347e38", dfs.Float32Value(math.MaxFloat32)},
			{"1.17549435e-38", dfs.Float32Value(1.17549435e-38)}, {"-16777216", dfs.Float32Value(-16777216)}, {"1.00000012", dfs.Float32Value(1.00000012)}}},
		{typ: "double", values: []sampleValue{{"0.1e0", dfs.FloatValue(0.1)}, {"1.7976931348623157e308", dfs.FloatValue(math.MaxFloat64)},
			{"2.2250738585072014e-308", dfs.FloatValue(2.2250738585072014e-308)}, {"123456789012345678", dfs.FloatValue(123456789012345678)}}},
		{typ: "double", noKey: true, values: []sampleValue{{"'-0'", dfs.FloatValue(math.Copysign(0, -1))}, {"0", dfs.FloatValue(0)}}},
		{typ: "year", values: []sampleValue{{"1901", u(1901)}, {"2155", u(2155)}, {"'0000'", u(0)}}},
		{typ: "bit(64)", values: []sampleValue{{"18446744073709551615", u(math.MaxUint64)}, {"1", u(1)}}},
		{typ: "bit(3)", values: []sampleValue{{"5", u(5)}, {"0", u(0)}}},
		{typ: "enum('a','b''c','ü')", srcType: "enum", members: []string{"a", "b'c", "ü"},
			values: []sampleValue{{"1", u(1)}, {"2", u(2)}, {"3", u(3)}}},
		{typ: "set('x','y','z')", srcType: "set", members: []string{"x", "y", "z"},
			values: []sampleValue{{"0", u(0)}, {"5", u(5)}, {"7", u(7)}}},
		{typ: "date", values: []sampleValue{{"'1000-01-01'", dfs.DateValue(1000, 1, 1)}, {"'9999-12-31'", dfs.DateValue(9999, 12, 31)},
			{"'0000-00-00'", dfs.DateValue(0, 0, 0)}, {"'2026-00-00'", dfs.DateValue(2026, 0, 0)}}},
		// MySQL 5.6 has no literal of a day that does not exist.
		{typ: "date", noKeyOn: testenv.MySQL56, values: []sampleValue{{"'2026-02-31'", dfs.DateValue(2026, 2, 31)}}},
		{typ: "time(6)", values: []sampleValue{{"'-838:59:59'", dfs.TimeValue(-(838*time.Hour + 59*time.Minute + 59*time.Second), 6)},
			{"'-00:00:00.000001'", dfs.TimeValue(-time.Microsecond, 6)}, {"'12:34:56.5'", dfs.TimeValue(12*time.Hour+34*time.Minute+56*time.Second+500*time.Millisecond, 6)}}},
		{typ: "datetime(6)", values: []sampleValue{{"'1000-01-01 00:00:00'", dfs.DateTimeValue(1000, 1, 1, 0, 0, 0, 0, 6)},
			{"'9999-12-31 23:59:59.999999'", dfs.DateTimeValue(9999, 12, 31, 23, 59, 59, 999999, 6)}, {"'0000-00-00 00:00:00'", dfs.DateTimeValue(0, 0, 0, 0, 0, 0, 0, 6)}}},
		{typ: "datetime", values: []sampleValue{{"'2026-03-29 02:30:00'", dfs.DateTimeValue(2026, 3, 29, 2, 30, 0, 0, 0)}}},
		{typ: "timestamp(3) null", srcType: "timestamp(3)", values: []sampleValue{{"'1970-01-01 00:00:01'", dfs.TimestampValue(utc("1970-01-01 00:00:01"), 3)},
			{"'2038-01-19 03:14:07.123'", dfs.TimestampValue(utc("2038-01-19 03:14:07.123"), 3)}, {"0", dfs.TimestampMicro(0, 3)}}},
		{typ: "binary(4)", values: []sampleValue{{"0x61000000", dfs.BytesValue([]byte("a\x00\x00\x00"))}, {"0x27225c00", dfs.BytesValue([]byte("'\"\\\x00"))}}},
		{typ: "varbinary(300)", values: []sampleValue{{fmt.Sprintf("0x%x", everyByte), dfs.BytesValue(everyByte)}, {"''", dfs.BytesValue(nil)}}},
		{typ: "blob", noKey: true, values: []sampleValue{{fmt.Sprintf("0x%x", everyByte), dfs.BytesValue(everyByte)}, {"''", dfs.BytesValue(nil)}}},
		{typ: "point", noKey: true, values: []sampleValue{{"POINT(1,2)", dfs.BytesValue([]byte("\x00\x00\x00\x00\x01\x01\x00\x00\x00" +
			"\x00\x00\x00\x00\x00\x00\xf0\x3f\x00\x00\x00\x00\x00\x00\x00\x40"))}}},
		{typ: "json", noKey: true, kinds: []testenv.Kind{testenv.MySQL97}, values: []sampleValue{
			{`'{"a": "q\\"\\\\n\\u0000", "ü": [1, 1.0, null]}'`, dfs.JSONValue(`{"a": "q\"\\n\u0000", "ü": [1, 1.0, null]}`)},
			{`'"it''s"'`, dfs.JSONValue(`"it's"`)}, {`'{}'`, dfs.JSONValue(`{}`)}}},
		{typ: "vector(2)", noKey: true, kinds: []testenv.Kind{testenv.MySQL97}, values: []sampleValue{
			{"0x0000803f00000040", dfs.BytesValue([]byte("\x00\x00\x80\x3f\x00\x00\x00\x40"))}}},
	}
	for charset, hexes := range map[string][]string{
		"utf8mb4": {"6127225c0a0d001a", "f09f9880c3bc", ""}, "utf8": {"e282ac5c"}, "latin1": {"e95c27c3a9", "80"},
		"gbk": {"815cbff1275c", "955c27"}, "sjis": {"835c5c", "955c27"}, "cp932": {"835c8740"}, "big5": {"a55c5c", "b35c"},
		"ucs2": {"005c0027", "4e2d005c"}, "utf16": {"d83dde00005c"}, "utf32": {"0001f6000000005c"}, "koi8r": {"c15c"},
		"ujis": {"a4a25c"}, "gb2312": {"b0a15c"}, "cp1251": {"e05c00"}, "ascii": {"5c27"},
	} {
		s := sample{typ: "varchar(30) character set " + charset, srcType: "varchar(30)", charset: charset}
		for _, h := range hexes {
			if h == "" {
				s.values = append(s.values, sampleValue{"''", dfs.StringValue("")})
			} else {
				s.values = append(s.values, text(h))
			}
		}
		list = append(list, s)
	}
	return list
}

// sampleTables creates the tables of a sample, filled and empty, and returns
// the description of the first.
func sampleTables(t *testing.T, srv *testenv.Server, s string, n int, x sample) *dfs.Table {
	def := "(id int PRIMARY KEY, c " + x.typ + ", v int) CHARACTER SET utf8mb4"
	var vals []string
	for i, v := range x.values {
		vals = append(vals, fmt.Sprintf("(%d,%s,1)", i, v.sql))
	}
	stmts := []string{"SET sql_mode='ALLOW_INVALID_DATES', time_zone='+00:00'"}
	for _, name := range []string{"want", "ins", "upd", "none", "byname"} {
		d := def
		if name == "none" {
			d = strings.Replace(def, "PRIMARY KEY", "", 1)
		}
		if name == "byname" {
			d = strings.NewReplacer("enum('a',", "enum('other','a',", "set('x','y'", "set('y','x'").Replace(def)
		}
		stmts = append(stmts, fmt.Sprintf("CREATE TABLE %s.%s%d %s", s, name, n, d))
	}
	stmts = append(stmts, fmt.Sprintf("INSERT INTO %s.want%d VALUES %s", s, n, strings.Join(vals, ",")))
	srv.Exec(t, stmts...)
	typ := x.srcType
	if typ == "" {
		typ = x.typ
	}
	return &dfs.Table{Schema: s, Name: fmt.Sprintf("want%d", n), Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"},
		{Name: "c", Type: typ, Charset: x.charset, Members: x.members, Nullable: true}, {Name: "v", Type: "int", Nullable: true}}}
}

func named(t *dfs.Table, name string) *dfs.Table {
	out := *t
	out.Name = name
	return &out
}

// events stands for MySQL 9.7 with all rows that can as row events.
const events testenv.Kind = "row events"

// sampleSink opens a sink on the kind of server, which writes by SQL alone but
// for events.
func sampleSink(t *testing.T, kind testenv.Kind) (*testenv.Server, *MySQL) {
	server := kind
	if kind == events {
		server = testenv.MySQL97
	}
	srv := testenv.Shared(t, server)
	m := openSink(t, srv, &MySQLOptions{Name: srv.Schema(t), SQLOnly: kind != events})
	m.writer.minEvents = 1
	if kind == events {
		t.Cleanup(func() { require.Greater(t, m.Stats().EventRows, uint64(50)) })
	}
	return srv, m
}

func TestValuesArriveAsSentWhicheverStatementCarriesThem(t *testing.T) {
	for _, kind := range append(testenv.Kinds(), events) {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, m := sampleSink(t, kind)
			s := m.name
			seq := uint64(0)
			for n, x := range samples() {
				kind := srv.Kind()
				if x.kinds != nil && x.kinds[0] != kind {
					continue
				}
				src := sampleTables(t, srv, s, n, x)
				insT, updT, none, byName := named(src, fmt.Sprint("ins", n)), named(src, fmt.Sprint("upd", n)), named(src, fmt.Sprint("none", n)), named(src, fmt.Sprint("byname", n))
				var first, second, third, fourth []dfs.Change
				for i, v := range x.values {
					row := dfs.Row{dfs.IntValue(int64(i)), v.v, dfs.IntValue(1)}
					bare := dfs.Row{dfs.IntValue(int64(i)), dfs.NullValue(), dfs.IntValue(1)}
					other := dfs.Row{dfs.IntValue(int64(i)), v.v, dfs.IntValue(2)}
					first = append(first, ins(insT, row), ins(updT, bare), ins(none, row), ins(byName, row))
					second = append(second, upd(updT, bare, row), upd(none, row, other))
					third = append(third, upd(updT, row, other))
					fourth = append(fourth, del(none, other))
				}
				// A second row makes sure that more than one are written at once.
				pad := dfs.Row{dfs.IntValue(100), dfs.NullValue(), dfs.IntValue(1)}
				padded := append(dfs.Row(nil), x.values[0].v)
				full := dfs.Row{pad[0], padded[0], pad[2]}
				first = append(first, ins(insT, pad), ins(updT, pad))
				second = append(second, upd(updT, pad, full))
				for _, changes := range [][]dfs.Change{first, second, third, fourth} {
					seq++
					require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}), x.typ)
				}
				for _, name := range []string{"ins", "upd", "byname"} {
					cmp := "HEX(w.c)<=>HEX(g.c) AND CAST(w.c AS CHAR)<=>CAST(g.c AS CHAR)"
					if x.typ == "float" {
						// As text a FLOAT has six digits.
						cmp = "w.c*1e0<=>g.c*1e0 AND " + cmp
					}
					if name == "byname" {
						if x.members == nil {
							continue
						}
						cmp = "CAST(w.c AS CHAR)<=>CAST(g.c AS CHAR)"
						if x.srcType == "set" {
							cmp = "(FIND_IN_SET('x',w.c)>0)=(FIND_IN_SET('x',g.c)>0) AND (FIND_IN_SET('y',w.c)>0)=(FIND_IN_SET('y',g.c)>0) AND LENGTH(w.c)=LENGTH(g.c)"
						}
					}
					if x.typ == "point" || strings.HasPrefix(x.typ, "vector") {
						cmp = "HEX(w.c)<=>HEX(g.c)"
					}
					wrong := rows(t, srv, fmt.Sprintf("SELECT w.id, HEX(w.c), HEX(g.c) FROM %s.want%d w JOIN %s.%s%d g ON g.id=w.id WHERE NOT (%s)", s, n, s, name, n, cmp))
					require.Empty(t, wrong, "%s by %s", x.typ, name)
					count := rows(t, srv, fmt.Sprintf("SELECT COUNT(*) FROM %s.%s%d WHERE id<100", s, name, n))
					require.Equal(t, []string{fmt.Sprint(len(x.values))}, count, "%s by %s", x.typ, name)
				}
				left := rows(t, srv, fmt.Sprintf("SELECT * FROM %s.none%d", s, n))
				require.Empty(t, left, "%s: a row without a key was not found", x.typ)
				require.Zero(t, m.Stats().Fallbacks, x.typ)
				if x.members != nil && m.sess.srv.sqlOnly == "" {
					require.NotNil(t, m.maps[insT].events, "%s goes as row events", x.typ)
				}
			}
		})
	}
}

func TestKeysOfEveryTypeFindTheirRows(t *testing.T) {
	for _, kind := range append(testenv.Kinds(), events) {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			srv, m := sampleSink(t, kind)
			s := m.name
			seq := uint64(0)
			for n, x := range samples() {
				kind := srv.Kind()
				if x.noKey || x.noKeyOn == kind || x.kinds != nil && x.kinds[0] != kind {
					continue
				}
				name := fmt.Sprintf("k%d", n)
				srv.Exec(t, fmt.Sprintf("CREATE TABLE %s.%s (c %s NOT NULL, d int, v int, PRIMARY KEY (c, d)) CHARACTER SET utf8mb4", s, name, strings.TrimSuffix(x.typ, " null")))
				typ := x.srcType
				if typ == "" {
					typ = x.typ
				}
				tab := &dfs.Table{Schema: s, Name: name, Key: []int{0, 1}, Columns: []dfs.Column{
					{Name: "c", Type: typ, Charset: x.charset, Members: x.members}, {Name: "d", Type: "int"}, {Name: "v", Type: "int"}}}
				var a, b, c []dfs.Change
				for _, v := range x.values {
					for d := range 2 {
						row := dfs.Row{v.v, dfs.IntValue(int64(d)), dfs.IntValue(1)}
						other := dfs.Row{v.v, dfs.IntValue(int64(d)), dfs.IntValue(2)}
						a, b, c = append(a, ins(tab, row)), append(b, upd(tab, row, other)), append(c, del(tab, other))
					}
				}
				for i, changes := range [][]dfs.Change{a, b, c} {
					seq++
					require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}), "%s step %d", x.typ, i)
					require.Zero(t, m.Stats().Fallbacks, "%s step %d", x.typ, i)
				}
				require.Empty(t, rows(t, srv, "SELECT * FROM "+s+"."+name))
			}
		})
	}
}
