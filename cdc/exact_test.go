package cdc_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestWhatJSONTextDoesNotTellIsNoted(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY AUTO_INCREMENT, j json)")
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	db := srv.DB(t)
	for _, c := range []struct{ value, typ, text string }{
		{"CAST('12345678901234567890.123456789' AS DECIMAL(40,9))", "decimal(36,9)", "12345678901234567890.123456789"},
		{"CAST('1.10' AS DECIMAL(5,2))", "decimal(11,2)", "1.10"},
		{"CAST('5' AS DECIMAL(5))", "decimal(9,0)", "5"},
		{"CAST('2024-02-29' AS DATE)", "date", "2024-02-29"},
		{"CAST('-10:00' AS TIME)", "time(6)", "-10:00:00.000000"},
		{"CAST('abc' AS BINARY)", "varbinary", "abc"},
		{"CAST(5 AS UNSIGNED)", "bigint unsigned", "5"},
		{"CAST(18446744073709551615 AS UNSIGNED)", "", ""},
		{"1.5e0", "", ""},
	} {
		for path, doc := range map[string]string{
			"$": "CAST(%s AS JSON)", `$."k"[1]`: "JSON_OBJECT('k', JSON_ARRAY(1, %s), 'l', '], [')",
			`$[1]."a\"b".""`: `JSON_ARRAY(JSON_ARRAY('x, {"'), JSON_OBJECT('a"b', JSON_OBJECT('', %s)))`,
		} {
			srv.Exec(t, fmt.Sprintf("INSERT INTO %s.a (j) VALUES (%s)", schema, fmt.Sprintf(doc, c.value)))
			v := readN(t, src, st, 1)[0].Changes[0].After[1]
			var want string
			require.NoError(t, db.QueryRow("SELECT j FROM "+schema+".a ORDER BY id DESC LIMIT 1").Scan(&want))
			require.Equal(t, want, v.Text())
			require.Equal(t, want, v.String())
			if c.typ == "" {
				require.Nil(t, v.JSONNotes())
				require.Equal(t, dfs.JSONValue(want), v)
				continue
			}
			notes := v.JSONNotes()
			require.Len(t, notes, 1, want)
			require.Equal(t, []dfs.JSONNote{{Path: path, Type: c.typ, Text: c.text}}, notes, want)
		}
	}
}

// members are the names of ENUM and SET members in a character set of their own.
func TestMembersOfAnotherCharacterSet(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		for _, metadata := range []string{"FULL", "MINIMAL"} {
			if kind == testenv.MySQL56 && metadata == "FULL" {
				continue // it has no such setting
			}
			t.Run(fmt.Sprintf("%v %s", kind, metadata), func(t *testing.T) {
				srv := testenv.Start(t, kind)
				if kind != testenv.MySQL56 {
					srv.Exec(t, "SET GLOBAL binlog_row_metadata="+metadata)
				}
				srv.Exec(t, "CREATE DATABASE shop", "SET NAMES utf8mb4", `CREATE TABLE shop.a (
					a enum('é','€','x') CHARACTER SET latin1, b set('ж','я') CHARACTER SET koi8r,
					c enum('a','ü') CHARACTER SET latin5, d enum('日本') CHARACTER SET utf8, e enum('p','q') CHARACTER SET hebrew)`)
				src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
				st, _ := begin(t, src)
				srv.Exec(t, "SET NAMES utf8mb4", "INSERT INTO shop.a VALUES ('é', 'я', 'ü', '日本', 'q')")
				c := readN(t, src, st, 1)[0].Changes[0]
				var names [][]string
				for _, col := range c.Table.Columns {
					names = append(names, col.Members)
				}
				require.Equal(t, [][]string{{"é", "€", "x"}, {"ж", "я"}, {"a", "ü"}, {"日本"}, {"p", "q"}}, names)
				require.Equal(t, dfs.Row{dfs.UintValue(1), dfs.UintValue(2), dfs.UintValue(2), dfs.UintValue(1), dfs.UintValue(2)}, c.After)

				// Sets in which a byte of ASCII is another character, or half of one.
				srv.Exec(t, "SET NAMES utf8mb4", "CREATE TABLE shop.b (a enum('א') CHARACTER SET hebrew, b set('a') CHARACTER SET ucs2)")
				readN(t, src, st, 1)
				srv.Exec(t, "INSERT INTO shop.b VALUES (1, 1)")
				c = readN(t, src, st, 1)[0].Changes[0]
				require.Equal(t, []string{"א"}, c.Table.Columns[0].Members)
				require.Equal(t, []string{"a"}, c.Table.Columns[1].Members)
			})
		}
	}
}
