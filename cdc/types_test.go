package cdc_test

import (
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A typeCase is a column and values for it, each written in SQL.
type typeCase struct {
	typ    string
	values []string
	skip   []testenv.Kind // servers that do not have it
}

var noJSON = []testenv.Kind{testenv.MySQL56, testenv.MariaDB}

var typeCases = []typeCase{
	{typ: "tinyint", values: []string{"-128", "127", "0", "NULL"}},
	{typ: "tinyint unsigned", values: []string{"0", "255"}},
	{typ: "smallint", values: []string{"-32768", "32767"}},
	{typ: "smallint unsigned", values: []string{"65535"}},
	{typ: "mediumint", values: []string{"-8388608", "8388607", "-1"}},
	{typ: "mediumint unsigned", values: []string{"16777215"}},
	{typ: "int", values: []string{"-2147483648", "2147483647"}},
	{typ: "int unsigned", values: []string{"4294967295"}},
	{typ: "bigint", values: []string{"-9223372036854775808", "9223372036854775807"}},
	{typ: "bigint unsigned", values: []string{"18446744073709551615"}},
	{typ: "float", values: []string{"0", "-1.5", "3.4e38", "1e-38"}},
	{typ: "double", values: []string{"0", "-1.5", "1.7976931348623157e308", "2.2250738585072014e-308", "0.1"}},
	{typ: "decimal(10,2)", values: []string{"0", "-0.01", "12345678.90", "-99999999.99", "5"}},
	{typ: "decimal(65,30)", values: []string{"12345678901234567890123456789012345.123456789012345678901234567890", "-0.000000000000000000000000000001"}},
	{typ: "decimal(9,0)", values: []string{"123456789", "-1"}},
	{typ: "decimal(4,4)", values: []string{"0.1234", "-0.0001"}},
	{typ: "varchar(40)", values: []string{"''", "'grüße'", "'日本語 🎉'", `'a\0b'`}},
	{typ: "varchar(300)", values: []string{"REPEAT('é', 300)"}},
	{typ: "char(10)", values: []string{"''", "'abc'", "'éé'"}},
	{typ: "char(255)", values: []string{"REPEAT('ü', 255)", "'x'"}},
	{typ: "tinytext", values: []string{"'t'"}},
	{typ: "text", values: []string{"REPEAT('x', 70)", "''"}},
	{typ: "mediumtext", values: []string{"REPEAT('y', 70000)"}},
	{typ: "longtext", values: []string{"'z'"}},
	{typ: "varchar(20) CHARACTER SET latin1", values: []string{"'é€'"}},
	{typ: "char(5) CHARACTER SET latin1 COLLATE latin1_bin", values: []string{"'é'"}},
	{typ: "binary(6)", values: []string{"0x61006200", "''", "0x010203040506"}},
	{typ: "varbinary(300)", values: []string{"0x00ff00", "''"}},
	{typ: "tinyblob", values: []string{"0x01"}},
	{typ: "blob", values: []string{"0x00ff", "''"}},
	{typ: "longblob", values: []string{"0xdeadbeef"}},
	{typ: "date", values: []string{"'2024-02-29'", "'0000-00-00'", "'2024-00-00'", "'9999-12-31'", "'0001-01-01'"}},
	{typ: "time", values: []string{"'00:00:00'", "'-838:59:59'", "'838:59:59'", "'-00:00:01'"}},
	{typ: "time(1)", values: []string{"'-00:00:00.9'", "'12:34:56.7'"}},
	{typ: "time(3)", values: []string{"'-01:02:03.456'", "'-00:00:00.001'"}},
	{typ: "time(6)", values: []string{"'-838:59:58.999999'", "'00:00:00.000001'"}},
	{typ: "datetime", values: []string{"'2024-02-29 12:34:56'", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"}},
	{typ: "datetime(2)", values: []string{"'2024-02-29 12:34:56.78'"}},
	{typ: "datetime(6)", values: []string{"'2024-02-29 12:34:56.789012'", "'1000-01-01 00:00:00.000001'"}},
	{typ: "timestamp NULL", values: []string{"'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'", "NULL"}},
	{typ: "timestamp(4) NULL", values: []string{"'2024-03-31 01:30:00.1234'"}},
	{typ: "timestamp(6) NULL", values: []string{"'2038-01-19 03:14:07.999999'"}},
	{typ: "year", values: []string{"0", "1901", "2155"}},
	{typ: "bit(1)", values: []string{"0", "1"}},
	{typ: "bit(13)", values: []string{"8191", "256"}},
	{typ: "bit(64)", values: []string{"18446744073709551615", "1"}},
	{typ: "enum('a','b''c','d,e','ö')", values: []string{"'a'", "'b''c'", "'d,e'", "'ö'", "NULL"}},
	{typ: "set('x','y','z''q')", values: []string{"''", "'x,z''q'", "'y'"}},
	{typ: "geometry", values: []string{"ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('LINESTRING(0 0, 1 1)')"}},
	{typ: "point", values: []string{"ST_GeomFromText('POINT(3 4)')"}},
	{typ: "json", skip: noJSON, values: []string{
		`'{"a": 1, "bb": [true, false, null, "x\\"\\\\\\n\\u0001é"], "c": {}}'`, `'[]'`, `'"s"'`, `'null'`, `'-1'`,
		`'[1.0, 1e300, 1e-7, 123456.789, 1e15, 1e14, 0.0001, 1e20, 12345678901234567890123, -0.0, 1.5e-14, 1e-13, 1e-14, 5e-324]'`,
		`'[32767, 32768, -32769, 65536, 2147483648, 4294967296, 9223372036854775807, 18446744073709551615, -9223372036854775808]'`,
		`JSON_ARRAY(CAST('12.345' AS DECIMAL(10,3)), CAST(18446744073709551615 AS DECIMAL(30)), CAST('-0.5' AS DECIMAL(4,1)), CAST(-5 AS DECIMAL(5)), CAST('2024-02-29' AS DATE), CAST('-12:30:00.5' AS TIME(1)), CAST('2024-02-29 01:02:03.456' AS DATETIME(3)))`,
		`JSON_OBJECT('long', REPEAT('k', 70000), 'n', 70000)`,
		`CONCAT('[', REPEAT('[', 60), REPEAT(']', 60), ']')`,
	}},
	{typ: "vector(3)", skip: noJSON, values: []string{"STRING_TO_VECTOR('[1,2,-3.5]')"}},
}

// selectText is how to ask for a column as the text that a Value has.
func (c typeCase) selectText() string {
	switch {
	case strings.HasPrefix(c.typ, "enum"), strings.HasPrefix(c.typ, "set"), strings.HasPrefix(c.typ, "bit"):
		return "CAST(v+0 AS CHAR)"
	case strings.HasPrefix(c.typ, "json"):
		return "CAST(v AS CHAR)"
	case strings.HasPrefix(c.typ, "float"), strings.HasPrefix(c.typ, "double"):
		return "v"
	}
	if strings.HasPrefix(c.typ, "decimal") || strings.HasPrefix(c.typ, "date") || strings.HasPrefix(c.typ, "time") {
		return "CAST(v AS CHAR)"
	}
	return "HEX(v)"
}

func TestValuesAreAsTheServerHasThem(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		for _, metadata := range []string{"FULL", "MINIMAL", "NO_LOG"} {
			if kind == testenv.MySQL56 && metadata != "MINIMAL" || kind == testenv.MySQL97 && metadata == "NO_LOG" {
				continue // it has no such setting, and always logs less than MINIMAL
			}
			t.Run(fmt.Sprintf("%v %s", kind, metadata), func(t *testing.T) { testTypes(t, kind, metadata) })
		}
	}
}

func testTypes(t *testing.T, kind testenv.Kind, metadata string) {
	srv := testenv.Shared(t, kind)
	schema := srv.Schema(t)
	db := srv.DB(t)
	if kind != testenv.MySQL56 {
		srv.Exec(t, "SET GLOBAL binlog_row_metadata="+metadata)
		defer srv.Exec(t, "SET GLOBAL binlog_row_metadata=FULL")
	}
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	exec := func(format string, args ...any) {
		t.Helper()
		_, err := conn.ExecContext(t.Context(), fmt.Sprintf(format, args...))
		require.NoError(t, err, format, args)
	}
	exec("USE %s", schema)
	exec("SET NAMES utf8mb4")
	exec("SET time_zone='+00:00'")
	exec("SET sql_mode='NO_ENGINE_SUBSTITUTION'")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)

	for i, c := range typeCases {
		if len(c.skip) > 0 && contains(c.skip, kind) {
			continue
		}
		t.Run(c.typ, func(t *testing.T) {
			table := fmt.Sprintf("t%d", i)
			exec("CREATE TABLE %s (id int PRIMARY KEY, v %s) DEFAULT CHARSET utf8mb4", table, c.typ)
			for j, v := range c.values {
				exec("INSERT INTO %s VALUES (%d, %s)", table, j, v)
			}
			txs := readN(t, src, st, 1+len(c.values))
			require.Equal(t, dfs.DDL, txs[0].Changes[0].Op)
			var fullType string
			require.NoError(t, conn.QueryRowContext(t.Context(),
				"SELECT column_type FROM information_schema.columns WHERE table_schema=? AND table_name=? AND column_name='v'",
				schema, table).Scan(&fullType))
			for j := range c.values {
				tx := txs[1+j]
				require.Len(t, tx.Changes, 1)
				ch := tx.Changes[0]
				require.Equal(t, dfs.Insert, ch.Op)
				require.Equal(t, []int{0}, ch.Table.Key)
				require.Equal(t, "id", ch.Table.Columns[0].Name)
				col := ch.Table.Columns[1]
				require.Equal(t, "v", col.Name)
				checkType(t, kind, fullType, col)
				require.Equal(t, int64(j), ch.After[0].Int())

				var want sql.NullString
				require.NoError(t, conn.QueryRowContext(t.Context(),
					fmt.Sprintf("SELECT %s FROM %s WHERE id=%d", c.selectText(), table, j)).Scan(&want))
				got := ch.After[1]
				if !want.Valid {
					require.True(t, got.IsNull())
					continue
				}
				checkValue(t, c, want.String, got)
			}
		})
	}
}

func contains(list []testenv.Kind, k testenv.Kind) bool {
	for _, x := range list {
		if x == k {
			return true
		}
	}
	return false
}

// checkType compares a column with what information_schema says of it.
func checkType(t *testing.T, kind testenv.Kind, full string, col dfs.Column) {
	t.Helper()
	name, _, _ := strings.Cut(full, "(")
	switch name {
	case "enum", "set":
		require.Equal(t, name, col.Type)
		require.Equal(t, full, name+"('"+strings.Join(quoted(col.Members), "','")+"')")
	case "tinyint", "smallint", "mediumint", "int", "bigint", "year":
		want := name
		if strings.Contains(full, "unsigned") && !strings.HasSuffix(want, "unsigned") {
			want += " unsigned"
		}
		require.Equal(t, want, col.Type)
	default:
		require.Equal(t, full, col.Type)
	}
}

func quoted(list []string) []string {
	var q []string
	for _, s := range list {
		q = append(q, strings.ReplaceAll(s, "'", "''"))
	}
	return q
}

func checkValue(t *testing.T, c typeCase, want string, got dfs.Value) {
	t.Helper()
	switch got.Kind() {
	case dfs.Float32:
		f, err := strconv.ParseFloat(want, 64)
		require.NoError(t, err)
		require.InEpsilon(t, 1+math.Abs(f), 1+math.Abs(got.Float()), 1e-5)
	case dfs.Float64:
		f, err := strconv.ParseFloat(want, 64)
		require.NoError(t, err)
		require.Equal(t, f, got.Float())
	case dfs.JSON:
		require.Equal(t, want, got.String())
	default:
		if c.selectText() == "HEX(v)" {
			want = unhex(t, c, want, got)
		}
		require.Equal(t, want, got.String())
	}
}

// unhex undoes HEX, which gives digits of the number for a number.
func unhex(t *testing.T, c typeCase, s string, got dfs.Value) string {
	t.Helper()
	switch got.Kind() {
	case dfs.Int64, dfs.Uint64:
		n, err := strconv.ParseUint(s, 16, 64)
		require.NoError(t, err)
		if got.Kind() == dfs.Int64 {
			return strconv.FormatInt(int64(n), 10)
		}
		return strconv.FormatUint(n, 10)
	}
	var b strings.Builder
	for i := 0; i < len(s); i += 2 {
		n, err := strconv.ParseUint(s[i:i+2], 16, 8)
		require.NoError(t, err)
		b.WriteByte(byte(n))
	}
	return b.String()
}
