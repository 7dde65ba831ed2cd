package values_test

import (
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/rowevent"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// wide are the character sets with characters of more than one byte.
const wide = " big5 cp932 eucjpms euckr gb18030 gb2312 gbk sjis ucs2 ujis utf16 utf16le utf32 utf8 utf8mb3 utf8mb4 "

// charsets returns the character sets that both sides have.
func (b *bench) charsets() (list []string) {
	const q = "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS ORDER BY 1"
	there := b.rows(b.to, q)
	for _, name := range b.rows(b.from, q) {
		for _, other := range there {
			if name == other || name == "utf8" && other == "utf8mb3" {
				list = append(list, name)
			}
		}
	}
	return list
}

// codes fills the tables one and two with every code of so many bytes, as bytes.
func (b *bench) codes(c *sql.Conn) {
	var rows []string
	for i := range 256 {
		rows = append(rows, fmt.Sprintf("(%d,x'%02x')", i, i))
	}
	b.exec(c, "CREATE TEMPORARY TABLE one (n int PRIMARY KEY, b varbinary(1))")
	b.exec(c, "INSERT INTO one VALUES "+strings.Join(rows, ","))
	b.exec(c, "CREATE TEMPORARY TABLE two (n int PRIMARY KEY, b varbinary(2))")
	b.exec(c, "CREATE TEMPORARY TABLE other LIKE one")
	b.exec(c, "INSERT INTO other SELECT * FROM one")
	b.exec(c, "INSERT INTO two SELECT a.n*256+c.n, CONCAT(a.b,c.b) FROM one a, other c")
}

// texts fills the table text with those codes of the table from that are text in
// a character set. A server makes '?' of what is none, or cuts it.
func (b *bench) texts(c *sql.Conn, cs, from string) {
	b.exec(c, "CREATE TEMPORARY TABLE text (n int PRIMARY KEY, b varbinary(2), c varchar(2) CHARACTER SET "+cs+")")
	b.exec(c, "INSERT INTO text SELECT n, b, b FROM "+from)
	b.exec(c, "DELETE FROM text WHERE HEX(b)<>HEX(c)")
}

// onlyThere returns the codes in the table text of the source that the target's
// lacks, in hexadecimal digits.
func (b *bench) onlyThere(cs, from string) (list []string) {
	b.texts(b.to, cs, from)
	there := make(map[string]bool)
	for _, code := range b.rows(b.to, "SELECT HEX(b) FROM text") {
		there[code] = true
	}
	b.exec(b.to, "DROP TEMPORARY TABLE text")
	for _, code := range b.rows(b.from, "SELECT HEX(b) FROM text ORDER BY n") {
		if !there[code] {
			list = append(list, code)
		}
	}
	return list
}

// Every code of each character set, of one byte and of two, that the source takes
// as text arrives as the same bytes: as a value, as a key, and in a row of 256.
func TestEachCharacterOfEachSetArrivesAsItWas(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.String(), func(t *testing.T) {
			b := newBench(t, p, testenv.Shared(t, p.from), target(t, p.to))
			sets := b.charsets()
			require.Greater(t, len(sets), 30)
			b.both("SET sql_mode='NO_ENGINE_SUBSTITUTION'")
			b.exec(b.from, "SET SESSION group_concat_max_len=1000000")
			var tables []string
			for _, cs := range sets {
				collate := " COLLATE " + cs + "_bin"
				if cs == "binary" {
					collate = ""
				}
				long := "text"
				if cs == "ascii" {
					long = "varchar(600)" // for there are bytes that are no ascii: see below
				}
				tables = append(tables, fmt.Sprintf("CREATE TABLE v_%s (id int PRIMARY KEY, c varchar(600) CHARACTER SET %s%s, t %s CHARACTER SET %s)", cs, cs, collate, long, cs))
				tables = append(tables, fmt.Sprintf("CREATE TABLE k_%s (c varchar(3) CHARACTER SET %s%s NOT NULL, n int, PRIMARY KEY (c))", cs, cs, collate))
				tables = append(tables, fmt.Sprintf("CREATE TABLE n_%s (c char(3) CHARACTER SET %s, n int)", cs, cs))
			}
			b.createBoth([]string{"SET sql_mode='NO_ENGINE_SUBSTITUTION'"}, tables, tables)
			b.codes(b.from)
			b.codes(b.to)
			b.both("CREATE TABLE x_ascii (id int PRIMARY KEY, t text CHARACTER SET ascii)")
			loose := p.from != my97 && p.to == my97 // only the source takes such a TEXT
			lacking := make(map[string][]string)    // what MariaDB has no character for, and cuts
			b.run(false, func() {
				if loose {
					b.exec(b.from, "INSERT INTO x_ascii VALUES (1, x'6180')")
				}
				for _, cs := range sets {
					tables := []string{"one"}
					if strings.Contains(wide, " "+cs+" ") {
						tables = append(tables, "two")
					}
					for i, from := range tables {
						b.texts(b.from, cs, from)
						if p == (pair{my97, maria}) {
							if lacks := b.onlyThere(cs, from); len(lacks) > 0 {
								lacking[cs] = lacks
								b.exec(b.from, "DELETE FROM text WHERE HEX(b) IN ('"+strings.Join(lacks, "','")+"')")
							}
						}
						b.exec(b.from, fmt.Sprintf("INSERT INTO v_%s SELECT %d+(n DIV 256), GROUP_CONCAT(c ORDER BY n SEPARATOR ''), GROUP_CONCAT(c ORDER BY n DESC SEPARATOR '') FROM text GROUP BY n DIV 256", cs, i*1000))
						b.exec(b.from, fmt.Sprintf("INSERT IGNORE INTO k_%s SELECT c, n FROM text WHERE n%%%d=0", cs, 1+i*16))
						b.exec(b.from, fmt.Sprintf("INSERT INTO n_%s SELECT c, n FROM text WHERE n%%%d=0", cs, 5+i*1000))
						b.exec(b.from, "DROP TEMPORARY TABLE text")
					}
					b.exec(b.from, fmt.Sprintf("UPDATE k_%s SET n=n+1", cs))
					b.exec(b.from, fmt.Sprintf("UPDATE IGNORE k_%s SET c=CONCAT(c,c) WHERE n%%7=0 AND (n<128 OR n>255)", cs))
					b.exec(b.from, fmt.Sprintf("DELETE FROM k_%s WHERE n%%5=0", cs))
					b.exec(b.from, fmt.Sprintf("UPDATE n_%s SET n=n+1", cs))
					b.exec(b.from, fmt.Sprintf("DELETE FROM n_%s WHERE n%%3=0", cs))
				}
			})
			if loose {
				require.Len(t, b.refused, 1)
				require.Contains(t, b.refused[0], "x_ascii (id=1)")
				require.Contains(t, b.refused[0], "Incorrect string value")
				require.Empty(t, b.rows(b.to, "SELECT * FROM x_ascii"))
				b.refused = nil
			}
			b.refusals()
			if p == (pair{my97, maria}) {
				require.Equal(t, map[string][]string{"eucjpms": {"8EA0"}, "ujis": {"8EA0"}}, lacking)
			}
			total := 0
			for _, cs := range sets {
				for table, cols := range map[string]string{"v_": "id,HEX(c),HEX(t)", "k_": "HEX(c),n", "n_": "HEX(c),n"} {
					q := "SELECT " + cols + " FROM " + table + cs
					b.same(table+cs, q, q)
					total += len(b.rows(b.to, q))
				}
			}
			t.Logf("%d character sets, %d rows", len(sets), total)
		})
	}
}

// A server may hold text that it would not take by SQL. A row event has put it
// there, as an older version or a raw copy of a table may have.
func TestTextThatIsNoneArrivesAsItWas(t *testing.T) {
	p := pair{my97, my97}
	b := newBench(t, p, testenv.Shared(t, p.from), target(t, p.to))
	bad := map[string][]string{
		"utf8mb4": {"\xff\xfe", "ok\xc3", "\xed\xa0\x80", "\xf0\x9f\x98"}, "utf8mb3": {"\xf0\x9f\x98\x80", "\x80"}, "ascii": {"\x80x", "x\xff"},
		"gbk": {"\xff", "a\x81"}, "sjis": {"\xfd\xfd"}, "ucs2": {"abc"}, "utf16": {"\xd8\x00"}, "utf32": {"\x00\x11\x00\x00"},
	}
	for cs := range bad {
		b.both(fmt.Sprintf("CREATE TABLE a_%s (id int PRIMARY KEY, c varchar(20) CHARACTER SET %s, n int)", cs, cs))
		b.both(fmt.Sprintf("CREATE TABLE n_%s (id int, c varchar(20) CHARACTER SET %s, n int)", cs, cs))
		b.both(fmt.Sprintf("CREATE TABLE k_%s (id int, c varchar(20) CHARACTER SET %s COLLATE %s_bin PRIMARY KEY, n int)", cs, cs, cs))
	}
	b.exec(b.from, rowevent.FormatDescription())
	b.exec(b.from, "SET gtid_next='AUTOMATIC'")
	event := func(table, cs string, op dfs.Op, before, after dfs.Row) {
		octets, err := strconv.Atoi(b.rows(b.from, "SELECT CHARACTER_OCTET_LENGTH FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='"+b.schema+"' AND TABLE_NAME='"+table+"' AND COLUMN_NAME='c'")[0])
		require.NoError(t, err)
		tab, err := rowevent.New(1, b.schema, table, []rowevent.ColumnDef{{Name: "id", Type: "int", Nullable: true},
			{Name: "c", Type: "varchar(20)", Charset: cs, Octets: octets, Nullable: true}, {Name: "n", Type: "int", Nullable: true}})
		require.NoError(t, err)
		all := []int{0, 1, 2}
		e, err := tab.Append(nil, &rowevent.Rows{Op: op, Before: all, After: all, From: all, Raw: true}, 1, func(int) (dfs.Row, dfs.Row) { return before, after })
		require.NoError(t, err)
		b.exec(b.from, string(rowevent.AppendStatement(nil, e)))
	}
	row := func(id int, c string, n int) dfs.Row {
		return dfs.Row{dfs.IntValue(int64(id)), dfs.StringValue(c), dfs.IntValue(int64(n))}
	}
	b.run(false, func() {
		for cs, texts := range bad {
			for i, c := range texts {
				for _, table := range []string{"a_", "n_", "k_"} {
					event(table+cs, cs, dfs.Insert, nil, row(i, c, i))
					event(table+cs, cs, dfs.Insert, nil, row(i+10, c+strings.Repeat("\x00\x00\x00a", 1), i))
					b.exec(b.from, fmt.Sprintf("UPDATE %s%s SET n=n+1", table, cs))
				}
				event("a_"+cs, cs, dfs.Update, row(i, c, i+1), row(i, c+c, i+2))
				if i%2 == 1 {
					event("n_"+cs, cs, dfs.Update, row(i, c, i+1), row(i, c+c, i+2))
				}
				b.exec(b.from, fmt.Sprintf("DELETE FROM a_%s WHERE id=%d", cs, i+10))
				b.exec(b.from, fmt.Sprintf("DELETE FROM n_%s WHERE id=%d", cs, i+10))
				b.exec(b.from, fmt.Sprintf("DELETE FROM k_%s WHERE id=%d", cs, i+10))
			}
		}
	})
	b.refusals()
	for cs := range bad {
		for _, table := range []string{"a_", "n_", "k_"} {
			q := "SELECT id,HEX(c),n FROM " + table + cs
			b.same(table+cs, q, q)
			require.NotEmpty(t, b.rows(b.to, q))
		}
	}
}
