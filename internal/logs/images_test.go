package logs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// sparseTables are tables in which it matters what an image leaves out: defaults
// of every kind, columns that must not be NULL and have none, BLOBs, keys of
// several columns, keys that are no primary key, and none.
var sparseTables = []string{
	"a (id int PRIMARY KEY, n int NOT NULL, d int DEFAULT 7, c char(3) NOT NULL, b text, l longblob, e enum('x','y') NOT NULL, " +
		"s set('p','q') NOT NULL, dt datetime NOT NULL, ti time NOT NULL, da date NOT NULL, y year NOT NULL, de decimal(5,2) NOT NULL, f double NOT NULL, " +
		"bi bit(3) NOT NULL, bn binary(2) NOT NULL, t text NOT NULL, ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
	"k (x int NOT NULL, y int NOT NULL, z int DEFAULT 3, b text, UNIQUE zz (x), UNIQUE aa (y))",
	"m (i int, s varchar(5) NOT NULL DEFAULT 'q', n int DEFAULT 1, v int, b blob, PRIMARY KEY (s, i), UNIQUE u (n, v)) CHARACTER SET latin1",
	"n (x int, y int DEFAULT 4, b text)",
}

func TestRandomSparseImages(t *testing.T) {
	for _, c := range []struct {
		from, to testenv.Kind
		o        sink.MySQLOptions
	}{
		{testenv.MySQL97, testenv.MySQL97, sink.MySQLOptions{}},
		{testenv.MySQL97, testenv.MySQL97, sink.MySQLOptions{SQLOnly: true, MaxRows: 3}},
		{testenv.MySQL56, testenv.MySQL56, sink.MySQLOptions{}},
		{testenv.MySQL56, testenv.MySQL97, sink.MySQLOptions{}},
		{testenv.MariaDB, testenv.MariaDB, sink.MySQLOptions{}},
		{testenv.MariaDB, testenv.MySQL97, sink.MySQLOptions{}},
		{testenv.MySQL97, testenv.MariaDB, sink.MySQLOptions{}},
	} {
		t.Run(fmt.Sprintf("%s to %s, SQL only %v", c.from, c.to, c.o.SQLOnly), func(t *testing.T) {
			p := newPair(t, c.from, c.to, c.o, sparseTables...)
			db := p.from.DB(t)
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			do := func(sql string) {
				_, _ = conn.ExecContext(t.Context(), sql) // it may meet a key that is there
			}
			do("USE " + p.src)
			do("SET sql_mode=''")
			for round := range 6 {
				do("SET SESSION binlog_row_image='" + []string{"MINIMAL", "NOBLOB", "MINIMAL", "FULL"}[p.rnd.IntN(4)] + "'")
				for range 60 {
					many := p.rnd.IntN(6) == 0
					if many {
						do("BEGIN")
					}
					for range 1 + p.rnd.IntN(5) {
						do(p.sparseStatement())
					}
					if many {
						do("COMMIT")
					}
				}
				// Enough rows of one kind for the lane of row events.
				do(fmt.Sprintf("INSERT IGNORE INTO a (id, n) VALUES (%d, 1)", 1000*round) + p.list(50, func(i int) string { return fmt.Sprintf("(%d, %d)", 1000*round+i+1, i) }))
				do("UPDATE a SET d = d + 1 WHERE id >= 1000")
				do("UPDATE a SET b = 'new' WHERE id >= 1000")
				p.finish()
				for _, name := range []string{"a", "k", "m", "n"} {
					p.same(name)
				}
				p.reopen()
			}
			t.Logf("%+v", p.sink.Stats())
		})
	}
}

// list makes a list of n texts, each with a comma before it.
func (p *pair) list(n int, text func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(", " + text(i))
	}
	return b.String()
}

// sparseStatement makes a statement that sets some of the columns.
func (p *pair) sparseStatement() string {
	num := func() string { return fmt.Sprint(p.rnd.IntN(12)) }
	text := func() string { return []string{"'x'", "'yy'", "NULL", "REPEAT('z', 300)", "''"}[p.rnd.IntN(5)] }
	columns := map[string]map[string]func() string{
		"a": {"n": num, "d": num, "c": func() string { return "'c" + num() + "'" }, "b": text, "l": text, "e": func() string { return "'y'" },
			"dt": func() string { return "'2020-01-02 03:04:05'" }, "de": num, "bi": func() string { return "b'101'" }, "t": text, "ts": func() string { return "'2001-02-03 04:05:06'" }},
		"k": {"z": num, "b": text, "y": num},
		"m": {"n": num, "v": num, "b": text, "s": func() string { return "'s" + num() + "'" }},
		"n": {"x": num, "y": num, "b": text},
	}
	keys := map[string][]string{"a": {"id"}, "k": {"x"}, "m": {"i"}, "n": nil}
	table := []string{"a", "k", "m", "n"}[p.rnd.IntN(4)]
	var names, values, sets []string
	for name, f := range columns[table] {
		if p.rnd.IntN(3) > 0 && !(table == "k" && name == "y") {
			continue
		}
		v := f()
		names, values, sets = append(names, name), append(values, v), append(sets, name+"="+v)
	}
	where := " WHERE " + map[string]string{"a": "id", "k": "x", "m": "i", "n": "x"}[table] + []string{"=", ">", "<"}[p.rnd.IntN(3)] + num()
	switch p.rnd.IntN(8) {
	case 0, 1, 2, 3:
		verb, tail := "INSERT IGNORE", ""
		switch p.rnd.IntN(4) {
		case 0:
			if p.from.Kind() != testenv.MariaDB {
				verb = "REPLACE"
			}
		case 1:
			if len(sets) > 0 {
				verb, tail = "INSERT", " ON DUPLICATE KEY UPDATE "+strings.Join(sets, ",")
			}
		}
		for _, k := range keys[table] {
			names, values = append(names, k), append(values, num())
		}
		if len(names) == 0 {
			names, values = []string{"y"}, []string{"5"}
		}
		return verb + " INTO " + table + " (" + strings.Join(names, ",") + ") VALUES (" + strings.Join(values, ",") + ")" + tail
	case 4:
		return "DELETE FROM " + table + where + " LIMIT 2"
	case 5:
		if len(keys[table]) > 0 {
			return "UPDATE IGNORE " + table + " SET " + keys[table][0] + "=" + num() + where + " LIMIT 1"
		}
	}
	if len(sets) == 0 {
		sets = []string{map[string]string{"a": "d=5", "k": "z=6", "m": "v=7", "n": "y=8"}[table]}
	}
	return "UPDATE IGNORE " + table + " SET " + strings.Join(sets, ",") + where
}
