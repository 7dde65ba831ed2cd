package rowevent_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// column is a type with some values, each as SQL and as a dfs.Value.
type column struct {
	typ    string
	values []value
}

type value struct {
	sql string
	v   dfs.Value
}

func integers(bits int) []value {
	lo, hi := int64(-1)<<(bits-1), int64(1)<<(bits-1)-1
	return []value{{"0", dfs.IntValue(0)}, {fmt.Sprint(lo), dfs.IntValue(lo)}, {fmt.Sprint(hi), dfs.IntValue(hi)}, {"-1", dfs.IntValue(-1)}}
}

func unsigned(bits int) []value {
	hi := uint64(math.MaxUint64) >> (64 - bits)
	return []value{{"0", dfs.UintValue(0)}, {fmt.Sprint(hi), dfs.UintValue(hi)}, {"7", dfs.UintValue(7)}}
}

func decimals(ss ...string) (vs []value) {
	for _, s := range ss {
		vs = append(vs, value{s, dfs.DecimalValue(s)})
	}
	return vs
}

func texts(ss ...string) (vs []value) {
	for _, s := range ss {
		vs = append(vs, value{"'" + s + "'", dfs.StringValue(s)})
	}
	return vs
}

func blobs(ss ...string) (vs []value) {
	for _, s := range ss {
		vs = append(vs, value{fmt.Sprintf("x'%x'", s), dfs.BytesValue([]byte(s))})
	}
	return vs
}

func times(fsp int, ds ...time.Duration) (vs []value) {
	for _, d := range ds {
		v := dfs.TimeValue(d, fsp)
		vs = append(vs, value{"'" + v.String() + "'", v})
	}
	return vs
}

func columns() []column {
	cs := []column{
		{"tinyint", integers(8)}, {"smallint", integers(16)}, {"mediumint", integers(24)}, {"int", integers(32)}, {"bigint", integers(64)},
		{"tinyint unsigned", unsigned(8)}, {"smallint unsigned", unsigned(16)}, {"mediumint unsigned", unsigned(24)},
		{"int unsigned", unsigned(32)}, {"bigint unsigned", unsigned(64)},
		{"float", []value{{"-1.5e30", dfs.Float32Value(-1.5e30)}, {"0.1", dfs.Float32Value(0.1)}}},
		{"double", []value{{"0.1", dfs.FloatValue(0.1)}, {"-1.7976931348623157e308", dfs.FloatValue(-math.MaxFloat64)}}},
		{"decimal(10,2)", decimals("0.00", "-0.01", "12345678.90", "-99999999.99", "1.5")},
		{"decimal(65,30)", decimals("12345678901234567890123456789012345.123456789012345678901234567890", "-0.000000000000000000000000000001")},
		{"decimal(5,5)", decimals("0.12345", "-0.10000")}, {"decimal(18,9)", decimals("123456789.987654321", "9.000000001")},
		{"decimal(9,0)", decimals("999999999", "-1")},
		{"year", []value{{"1901", dfs.UintValue(1901)}, {"2155", dfs.UintValue(2155)}, {"0", dfs.UintValue(0)}}},
		{"date", []value{{"'2026-11-22'", dfs.DateValue(2026, 11, 22)}, {"'0000-00-00'", dfs.DateValue(0, 0, 0)}, {"'9999-12-31'", dfs.DateValue(9999, 12, 31)}, {"'2026-00-00'", dfs.DateValue(2026, 0, 0)}}},
		{"varchar(10)", texts("", "abc", "häé")}, {"varchar(300)", texts("", strings.Repeat("x", 300))},
		{"char(5)", texts("", "abc")}, {"char(255)", texts(strings.Repeat("ä", 255))},
		{"binary(3)", blobs("abc", "a\x00b")}, {"varbinary(300)", blobs("", "\x00\xff")},
		{"tinytext", texts("tiny")}, {"text", texts("", strings.Repeat("t", 1000))}, {"mediumtext", texts(strings.Repeat("m", 70000))}, {"longtext", texts("l")},
		{"tinyblob", blobs("\x01")}, {"blob", blobs("\x00")}, {"mediumblob", blobs("m")}, {"longblob", blobs("l")},
		{"enum('a','b','c')", []value{{"1", dfs.UintValue(1)}, {"3", dfs.UintValue(3)}, {"0", dfs.UintValue(0)}}},
		{"set('a','b','c')", []value{{"0", dfs.UintValue(0)}, {"5", dfs.UintValue(5)}}},
		{"bit(1)", []value{{"b'1'", dfs.UintValue(1)}}}, {"bit(13)", []value{{"4097", dfs.UintValue(4097)}}},
		{"bit(64)", []value{{"18446744073709551615", dfs.UintValue(math.MaxUint64)}}},
	}
	for fsp := range 7 {
		micro := 123456 / int(math.Pow10(6-fsp)) * int(math.Pow10(6-fsp))
		at := dfs.DateTimeValue(2026, 11, 22, 23, 59, 58, micro, fsp)
		stamp := dfs.TimestampMicro(1<<31*1e6-1e6+int64(micro), fsp)
		frac := time.Duration(micro) * time.Microsecond
		cs = append(cs,
			column{fmt.Sprintf("datetime(%d)", fsp), []value{{"'" + at.String() + "'", at}, {"'0000-00-00'", dfs.DateTimeValue(0, 0, 0, 0, 0, 0, 0, fsp)}}},
			column{fmt.Sprintf("timestamp(%d)", fsp), []value{{"'" + stamp.String() + "'", stamp}, {"'0000-00-00'", dfs.TimestampMicro(0, fsp)}}},
			column{fmt.Sprintf("time(%d)", fsp), times(fsp, 0, 838*time.Hour+59*time.Minute+59*time.Second, -838*time.Hour, -frac, frac-time.Hour, time.Hour+frac)})
	}
	return cs
}

// documents are values of a column of the type JSON.
func documents() (vs []value) {
	for _, doc := range []string{"{}", "[]", "null", "true", "-1", "70000", "5000000000", "1.5", `"text"`, `{"bb": 1, "a": [1, {"c": null}, "é"]}`,
		"[" + strings.Repeat(`"long", `, 8000) + "70000]", `{"b":1,"aa":2,"a":3}`} {
		vs = append(vs, value{"'" + doc + "'", dfs.JSONValue(doc)})
	}
	return append(vs, value{"JSON_ARRAY(CAST('1.10' AS DECIMAL(11,2)), CAST('2024-02-29' AS DATE))", dfs.JSONNotedValue(`[1.10, "2024-02-29"]`,
		[]dfs.JSONNote{{Path: "$[0]", Type: "decimal(11,2)", Text: "1.10"}, {Path: "$[1]", Type: "date", Text: "2024-02-29"}})})
}

// connect returns a connection that BINLOG may be used on.
func connect(t *testing.T, s *testenv.Server, schema string) *sql.Conn {
	conn, err := s.DB(t).Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	for _, q := range []string{"USE `" + schema + "`", "SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO'",
		rowevent.FormatDescription()} {
		exec(t, conn, q)
	}
	if s.Kind() != testenv.MariaDB {
		exec(t, conn, "SET gtid_next='AUTOMATIC'")
	}
	return conn
}

func exec(t *testing.T, conn *sql.Conn, query string, args ...any) {
	t.Helper()
	_, err := conn.ExecContext(context.Background(), query, args...)
	require.NoError(t, err, "%.200s", query)
}

func scan(t *testing.T, conn *sql.Conn, query string) (s string) {
	t.Helper()
	require.NoError(t, conn.QueryRowContext(context.Background(), query).Scan(&s), query)
	return s
}

// defs reads the definitions of a table.
func defs(t *testing.T, conn *sql.Conn, schema, table string) (defs []rowevent.ColumnDef) {
	rows, err := conn.QueryContext(t.Context(), `SELECT COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME,''), COALESCE(CHARACTER_OCTET_LENGTH,0), IS_NULLABLE='YES'
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=? AND TABLE_NAME=? ORDER BY ORDINAL_POSITION`, schema, table)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var d rowevent.ColumnDef
		require.NoError(t, rows.Scan(&d.Name, &d.Type, &d.Charset, &d.Octets, &d.Nullable))
		d.Members = strings.Count(d.Type, "'") / 2
		defs = append(defs, d)
	}
	require.NoError(t, rows.Err())
	return defs
}

func TestRowsArriveAsSQLWouldWriteThem(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) { testRows(t, testenv.Shared(t, kind)) })
	}
}

func testRows(t *testing.T, s *testenv.Server) {
	schema := s.Schema(t)
	conn := connect(t, s, schema)
	list := columns()
	if s.Kind() == testenv.MySQL97 {
		list = append(list, column{"json", documents()})
	}
	for n, c := range list {
		t.Run(c.typ, func(t *testing.T) {
			want, got := fmt.Sprintf("want%d", n), fmt.Sprintf("got%d", n)
			for _, name := range []string{want, got} {
				exec(t, conn, fmt.Sprintf("CREATE TABLE %s (id INT PRIMARY KEY, c %s NULL, d INT DEFAULT 5)", name, c.typ))
			}
			table, err := rowevent.New(7, schema, got, defs(t, conn, schema, got))
			require.NoError(t, err)
			var rows []dfs.Row
			for i, v := range append(c.values, value{"NULL", dfs.NullValue()}) {
				exec(t, conn, fmt.Sprintf("INSERT INTO %s VALUES (%d, %s, %d)", want, i, v.sql, i))
				rows = append(rows, dfs.Row{dfs.IntValue(int64(i)), v.v, dfs.IntValue(int64(i))})
			}
			all := []int{0, 1, 2}
			apply := func(r *rowevent.Rows, row func(i int) (dfs.Row, dfs.Row)) {
				r.From = all
				b, err := table.Append(nil, r, len(rows), row)
				require.NoError(t, err)
				exec(t, conn, string(rowevent.AppendStatement(nil, b)))
			}
			same := func() {
				t.Helper()
				q := "SELECT COALESCE(GROUP_CONCAT(HEX(c), ':', d, ' ' ORDER BY id), '') FROM "
				require.Equal(t, scan(t, conn, q+want), scan(t, conn, q+got))
				sum := func(name string) (n sql.NullInt64) {
					var table string
					require.NoError(t, conn.QueryRowContext(t.Context(), "CHECKSUM TABLE "+name).Scan(&table, &n))
					return n
				}
				require.Equal(t, sum(want), sum(got))
			}
			apply(&rowevent.Rows{Op: dfs.Insert, After: all}, func(i int) (dfs.Row, dfs.Row) { return nil, rows[i] })
			same()
			// Turn the values around by updates that give the key and one column.
			exec(t, conn, fmt.Sprintf("UPDATE %s a JOIN (SELECT id, c FROM %s) b ON b.id = %d - a.id SET a.c = b.c", want, want, len(rows)-1))
			apply(&rowevent.Rows{Op: dfs.Update, Before: all[:1], After: []int{1}}, func(i int) (dfs.Row, dfs.Row) {
				return rows[i], rows[len(rows)-1-i]
			})
			same()
			exec(t, conn, "DELETE FROM "+want)
			apply(&rowevent.Rows{Op: dfs.Delete, Before: all[:1]}, func(i int) (dfs.Row, dfs.Row) { return rows[i], nil })
			same()
		})
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	def := func(typ string) rowevent.ColumnDef {
		typ, charset, _ := strings.Cut(typ, " charset ")
		return rowevent.ColumnDef{Name: "c", Type: typ, Charset: charset, Octets: 12, Members: 2}
	}
	for _, c := range []struct {
		typ string
		v   dfs.Value
	}{
		{"tinyint", dfs.IntValue(128)}, {"tinyint", dfs.IntValue(-129)}, {"tinyint unsigned", dfs.IntValue(-1)},
		{"bigint", dfs.UintValue(math.MaxUint64)}, {"int", dfs.StringValue("1")}, {"int", dfs.NullValue()},
		{"decimal(3,1)", dfs.DecimalValue("100.0")}, {"decimal(3,1)", dfs.DecimalValue("1.23")}, {"decimal(3,1)", dfs.DecimalValue("x")},
		{"varchar(3) charset latin1", dfs.StringValue("abcd")}, {"varchar(3) charset utf8mb4", dfs.StringValue("abcd")},
		{"char(3) charset utf8mb4", dfs.StringValue("äöüß")}, {"varchar(3) charset utf8mb4", dfs.StringValue("\xff")},
		{"text charset utf8mb3", dfs.StringValue("😀")}, {"text charset ascii", dfs.StringValue("ä")},
		{"varchar(3)", dfs.IntValue(1)}, {"year", dfs.UintValue(1900)},
		{"enum('a','b')", dfs.UintValue(3)}, {"set('a','b')", dfs.UintValue(4)}, {"bit(3)", dfs.UintValue(8)},
		{"decimal(3,1) unsigned", dfs.DecimalValue("-1.0")}, {"double unsigned", dfs.FloatValue(-1)}, {"double", dfs.FloatValue(math.Inf(1))},
		{"datetime(3)", dfs.DateTimeValue(2026, 1, 1, 0, 0, 0, 1, 6)}, {"datetime", dfs.DateTimeValue(2026, 1, 1, 24, 0, 0, 0, 0)},
		{"time", dfs.TimeValue(839*time.Hour, 0)}, {"time(1)", dfs.TimeValue(time.Millisecond, 3)}, {"timestamp", dfs.TimestampMicro(1<<31*1e6, 0)},
		{"enum('a','b')", dfs.UintValue(256)}, {"timestamp", dfs.TimestampMicro(-1, 0)}, {"timestamp", dfs.DateValue(1, 1, 1)},
		{"json", dfs.StringValue("{}")}, {"json", dfs.JSONValue("{")}, {"json", dfs.JSONValue(`{"a":1,"a":2}`)}, {"json", dfs.JSONValue("")},
		{"json", dfs.JSONNotedValue("[1.5]", []dfs.JSONNote{{Path: "$[1]", Type: "decimal(2,1)", Text: "1.5"}})},
		{"json", dfs.JSONNotedValue("[1.5]", []dfs.JSONNote{{Path: "$[0]", Type: "decimal(2,1)", Text: "2.5"}})},
		{"json", dfs.JSONNotedValue(`["base64:type15:YQ=="]`, []dfs.JSONNote{{Path: "$[0]", Type: "blob", Text: "a"}})},
		{"float", dfs.FloatValue(0.1)}, {"tinytext", dfs.StringValue(strings.Repeat("x", 256))},
	} {
		table, err := rowevent.New(1, "s", "t", []rowevent.ColumnDef{def(c.typ)})
		require.NoError(t, err)
		_, err = table.Append(nil, &rowevent.Rows{Op: dfs.Insert, After: []int{0}, From: []int{0}}, 1,
			func(int) (dfs.Row, dfs.Row) { return nil, dfs.Row{c.v} })
		require.ErrorIs(t, err, rowevent.ErrValue, "%s %s", c.typ, c.v)
		require.ErrorContains(t, err, "column c")
	}
	for _, typ := range []string{"geometry", "float(7,4)", "vector(3)", "uuid",
		"text /*M!100301 COMPRESSED*/", "varchar(100) /*M!100301 COMPRESSED*/"} {
		_, err := rowevent.New(1, "s", "t", []rowevent.ColumnDef{def(typ)})
		require.ErrorIs(t, err, rowevent.ErrType)
	}
	// What is text in these is not known here, so they take it as it is or not.
	for _, typ := range []string{"varchar(3) charset gbk", "text charset utf16"} {
		table, err := rowevent.New(1, "s", "t", []rowevent.ColumnDef{def(typ)})
		require.NoError(t, err)
		require.False(t, table.Checks())
		r := rowevent.Rows{Op: dfs.Insert, After: []int{0}, From: []int{0}}
		row := func(int) (dfs.Row, dfs.Row) { return nil, dfs.Row{dfs.StringValue("ab")} }
		_, err = table.Append(nil, &r, 1, row)
		require.ErrorIs(t, err, rowevent.ErrValue)
		r.Raw = true
		_, err = table.Append(nil, &r, 1, row)
		require.Equal(t, strings.HasPrefix(typ, "text"), err != nil, "%v", err)
	}
}

func TestStrictlyNothingIsOverwritten(t *testing.T) {
	s := testenv.Shared(t, testenv.MySQL97)
	schema := s.Schema(t)
	conn := connect(t, s, schema)
	exec(t, conn, "CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, p INT, FOREIGN KEY (p) REFERENCES t (id))")
	exec(t, conn, "INSERT INTO t VALUES (1, 1, NULL)")
	table, err := rowevent.New(7, schema, "t", defs(t, conn, schema, "t"))
	require.NoError(t, err)
	all := []int{0, 1, 2}
	row := func(id, u int64, p dfs.Value) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.IntValue(u), p} }
	for _, c := range []struct {
		op            dfs.Op
		before, after dfs.Row
		want          string
	}{
		{dfs.Insert, nil, row(1, 2, dfs.NullValue()), "1062"},
		{dfs.Insert, nil, row(2, 1, dfs.NullValue()), "1062"},
		{dfs.Insert, nil, row(2, 2, dfs.IntValue(9)), "1452"},
		{dfs.Update, row(2, 2, dfs.NullValue()), row(2, 2, dfs.NullValue()), "1032"},
		{dfs.Delete, row(2, 2, dfs.NullValue()), nil, "1032"},
	} {
		r := &rowevent.Rows{Op: c.op, Before: all[:1], After: all, From: all}
		b, err := table.Append(nil, r, 1, func(int) (dfs.Row, dfs.Row) { return c.before, c.after })
		require.NoError(t, err)
		_, err = conn.ExecContext(t.Context(), string(rowevent.AppendStatement(nil, b)))
		require.ErrorContains(t, err, c.want)
	}
	require.Equal(t, "1", scan(t, conn, "SELECT COUNT(*) FROM t"))
}

func TestAsManyRowsAreTakenAsFit(t *testing.T) {
	table, err := rowevent.New(1, "s", "t", []rowevent.ColumnDef{{Name: "id", Type: "int"}, {Name: "c", Type: "varchar(100)", Octets: 100}})
	require.NoError(t, err)
	r := &rowevent.Rows{Op: dfs.Update, Before: []int{0}, After: []int{0, 1}, From: []int{0, 1}}
	row := func(i int) (dfs.Row, dfs.Row) {
		after := dfs.Row{dfs.IntValue(int64(i)), dfs.StringValue(strings.Repeat("x", i%7*10))}
		if i == 40 {
			after[1] = dfs.IntValue(1)
		}
		return after, after
	}
	size := func(n int) int {
		b, err := table.Append(nil, r, n, row)
		require.NoError(t, err)
		return len(b)
	}
	for n := 1; n <= 40; n++ {
		for extra := range 10 {
			b, taken, err := table.AppendSome([]byte("before"), r, 1000, 6+size(n)+extra, row)
			require.NoError(t, err)
			require.Equal(t, n, taken)
			want, err := table.Append([]byte("before"), r, n, row)
			require.NoError(t, err)
			require.Equal(t, want, b)
		}
	}
	b, taken, err := table.AppendSome(nil, r, 1000, 5, row)
	require.NoError(t, err)
	require.Equal(t, 1, taken, "one is taken whatever its size")
	require.Len(t, b, size(1))
	_, taken, err = table.AppendSome(nil, r, 1, 1000, func(int) (dfs.Row, dfs.Row) { return row(40) })
	require.ErrorIs(t, err, rowevent.ErrValue)
	require.Zero(t, taken)
	_, err = table.Append(nil, r, 41, row)
	require.ErrorIs(t, err, rowevent.ErrValue)
	require.ErrorContains(t, err, "column c")
}

func BenchmarkAppend(b *testing.B) {
	defs := []rowevent.ColumnDef{{Name: "id", Type: "bigint"}, {Name: "a", Type: "int"}, {Name: "b", Type: "int"},
		{Name: "s", Type: "varchar(100)", Octets: 400}, {Name: "d", Type: "decimal(10,2)"}, {Name: "t", Type: "datetime(6)"}}
	table, err := rowevent.New(1, "s", "t", defs)
	require.NoError(b, err)
	row := dfs.Row{dfs.IntValue(1 << 40), dfs.IntValue(5), dfs.IntValue(-5), dfs.StringValue("a string of usual length"),
		dfs.DecimalValue("1234.56"), dfs.DateTimeValue(2026, 11, 22, 1, 2, 3, 456789, 6)}
	all := []int{0, 1, 2, 3, 4, 5}
	r := &rowevent.Rows{Op: dfs.Insert, After: all, From: all}
	const n = 1000
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = table.Append(buf[:0], r, n, func(int) (dfs.Row, dfs.Row) { return nil, row }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/row")
}

// BenchmarkJSON encodes a document of 600 bytes and 50 values, as the wide rows of make bench have.
func BenchmarkJSON(b *testing.B) {
	doc := `{"tags": [`
	for i := range 7 {
		doc += fmt.Sprintf(`{"tag": "some tag %d", "seen": [%d, %d, null, true], "weight": 0.%d4321098765}, `, i, 100+i, 900-i, i+1)
	}
	v := dfs.JSONValue(doc[:len(doc)-2] + `], "total": 512.25, "customer": {"id": 54321, "name": "a customer of some name"}}`)
	var e rowevent.JSONEncoder
	var buf []byte
	var err error
	b.ReportAllocs()
	b.SetBytes(int64(len(v.Text())))
	for b.Loop() {
		if buf, err = e.Append(buf[:0], v); err != nil {
			b.Fatal(err)
		}
	}
}
