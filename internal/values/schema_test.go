package values_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A shape is a table of an odd kind. In its statements t is its name.
type shape struct {
	what    string
	on      []testenv.Kind // all if nil
	create  string         // "t (id int ...)"
	to      string         // on the target, if it differs
	session string         // of the source, and
	toWith  string         // of the target, while the table is created
	work    []string
	read    string // what is compared; * if empty
}

var shapes = []shape{
	{what: "a generated column in the key", on: []testenv.Kind{my97}, create: "t (a int, s int AS (a+1) STORED, id int, PRIMARY KEY (id, s))",
		work: []string{"INSERT INTO t (a,id) VALUES (1,1),(2,2),(3,3)", "UPDATE t SET id=id+10", "UPDATE t SET a=a+10", "DELETE FROM t WHERE id=12"}},
	{what: "virtual and stored generated columns", on: news,
		create: "t (a int, v int AS (a*2) VIRTUAL, s int AS (a+1) STORED, id int, w varchar(20) AS (CONCAT('x',a)) VIRTUAL, PRIMARY KEY (id), UNIQUE (v))",
		work: []string{"INSERT INTO t (a,id) VALUES (1,1),(2,2),(3,3)", "INSERT INTO t (a,id) SELECT a+10,id+10 FROM t", "INSERT INTO t (a,id) SELECT a+100,id+100 FROM t", "INSERT INTO t (a,id) SELECT a+1000,id+1000 FROM t",
			"UPDATE t SET a=a+10000", "UPDATE t SET a=7 WHERE id=1", "DELETE FROM t WHERE id=2"}},
	{what: "a generated column on the source only", on: news, create: "t (id int PRIMARY KEY, a int, g int AS (a*2) STORED)", to: "t (id int PRIMARY KEY, a int, g int)",
		work: []string{"INSERT INTO t (id,a) VALUES (1,1),(2,2)", "UPDATE t SET a=5 WHERE id=1"}},
	{what: "a generated column on the target only", on: news, create: "t (id int PRIMARY KEY, a int, g int)", to: "t (id int PRIMARY KEY, a int, g int AS (a*2) STORED)",
		work: []string{"INSERT INTO t VALUES (1,1,2),(2,2,4)", "UPDATE t SET a=5, g=10 WHERE id=1"}},
	{what: "invisible columns", on: news, create: "t (id int PRIMARY KEY, a int DEFAULT 3 INVISIBLE, b int, c varchar(9) INVISIBLE)",
		to: "t (c varchar(9) INVISIBLE, id int PRIMARY KEY, b int, a int DEFAULT 4 INVISIBLE)", read: "id,a,b,c",
		work: []string{"INSERT INTO t VALUES (1,1),(2,2)", "INSERT INTO t (id,a,b,c) VALUES (3,NULL,3,'x')", "UPDATE t SET a=9 WHERE id=2", "DELETE FROM t WHERE id=1"}},
	{what: "a generated invisible primary key", on: []testenv.Kind{my97}, create: "t (a int, b varchar(9))", session: "sql_generate_invisible_primary_key=ON", toWith: "sql_generate_invisible_primary_key=ON", read: "my_row_id,a,b",
		work: []string{"INSERT INTO t VALUES (1,'a'),(2,'b'),(2,'b')", "UPDATE t SET b='c' WHERE a=1", "DELETE FROM t WHERE a=2 LIMIT 1"}},
	{what: "a generated invisible primary key on the target only", on: []testenv.Kind{my97}, create: "t (a int, b varchar(9))", toWith: "sql_generate_invisible_primary_key=ON", read: "a,b",
		work: []string{"INSERT INTO t VALUES (1,'a'),(2,'b'),(2,'b'),(2,'b')", "UPDATE t SET b='c' WHERE a=1", "DELETE FROM t WHERE a=2 LIMIT 1"}},
	{what: "a functional index, and defaults that are expressions", on: []testenv.Kind{my97}, create: "t (id int PRIMARY KEY, a varchar(20) DEFAULT (UUID()), j json, UNIQUE ((CAST(a AS CHAR(9)))), KEY ((CAST(j->'$' AS UNSIGNED ARRAY))))",
		work: []string{"INSERT INTO t (id,a,j) VALUES (1,'a','[1,2]'),(2,'b','[3]')", "INSERT INTO t (id,a) VALUES (3,'c')", "UPDATE t SET a='d', j='[9]' WHERE id=1", "DELETE FROM t WHERE id=2"}},
	{what: "ON UPDATE CURRENT_TIMESTAMP does not fire", create: "t (id int PRIMARY KEY, a int, ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, dt datetime DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
		work: []string{"INSERT INTO t VALUES (1,1,FROM_UNIXTIME(1000000),'2001-01-01'),(2,2,FROM_UNIXTIME(1000000),NULL)", "UPDATE t SET a=2, ts=ts, dt=dt", "UPDATE t SET a=3 WHERE id=2", "UPDATE t SET ts=FROM_UNIXTIME(5) WHERE id=1"}},
	{what: "AUTO_INCREMENT of 0 and below", create: "t (id int AUTO_INCREMENT PRIMARY KEY, a int)", session: "sql_mode='NO_AUTO_VALUE_ON_ZERO'",
		work: []string{"INSERT INTO t VALUES (0,1),(-5,2)", "INSERT INTO t (a) VALUES (3)", "UPDATE t SET a=9 WHERE id=0", "UPDATE t SET id=-1 WHERE a=9"}},
	{what: "CHECK constraints", on: news, create: "t (id int PRIMARY KEY, a int CHECK (a>0))", work: []string{"INSERT INTO t VALUES (1,1),(2,NULL)", "UPDATE t SET a=5"}},
	{what: "spaces, and zeros at the end", create: "t (id int PRIMARY KEY, c char(5), v varchar(5), b binary(5), x varbinary(5), e varchar(5))",
		read: "id,HEX(c),HEX(v),HEX(b),HEX(x),HEX(e)",
		work: []string{"INSERT INTO t VALUES (1,'a  ','a  ','a\\0','a\\0',''),(2,' ',' ','','\\0',NULL),(3,'','','a ','a ','\\0')", "UPDATE t SET v='', c='  b  ', x=''", "UPDATE t SET v=' ' WHERE id=2"}},
	{what: "a text of 20 MB", create: "t (id int PRIMARY KEY, c longtext, b longblob)", read: "id,LENGTH(c),CRC32(c),LENGTH(b),CRC32(b)",
		work: []string{"INSERT INTO t VALUES (1,REPEAT('0123456789',200000),'x')", "UPDATE t SET c=CONCAT(c,c,c,c,c,c,c,c,c,c)", "UPDATE t SET b=c, c='short'"}},
	{what: "names that are hostile", create: "t (`a``b` int PRIMARY KEY, `select` int, `it's` int, `\"q\"` int, `a.b` int, `%` int, ` x` int, `日本` int, `back\\slash` int, `" + strings.Repeat("ü", 64) + "` int, KEY `a``b` (`it's`))",
		work: []string{"INSERT INTO t VALUES (1,2,3,4,5,6,7,8,9,10),(2,2,3,4,5,6,7,8,9,10)", "UPDATE t SET `it's`=5, `a.b`=6 WHERE `a``b`=1", "DELETE FROM t WHERE `a``b`=2"}},
	{what: "no column but the key's", create: "t (a int, b varchar(5), PRIMARY KEY (b, a))", work: []string{"INSERT INTO t VALUES (1,'a'),(2,'b')", "UPDATE t SET a=a+10", "DELETE FROM t WHERE a=11"}},
	{what: "NULL in unique keys", create: "t (a int, b int, UNIQUE (a, b))", work: []string{"INSERT INTO t VALUES (1,NULL),(1,NULL),(NULL,NULL),(1,1)", "UPDATE t SET b=2 WHERE b IS NULL LIMIT 1", "DELETE FROM t WHERE a IS NULL"}},
}

// names are what the tables are called, in turn.
var names = []string{"plain", "it's", "a`b", "select", "a.b", "%_", "日本", "\"q\"", "-x", strings.Repeat("ü", 64), "tail`", "$1"}

func TestEachShapeOfTableArrivesAsItWas(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.String(), func(t *testing.T) {
			b := newBench(t, p, testenv.Shared(t, p.from), target(t, p.to))
			quoted := func(i int) string {
				return "`" + strings.ReplaceAll(fmt.Sprintf("%.55s%d", names[i%len(names)], i), "`", "``") + "`"
			}
			has := func(i int) bool {
				s := shapes[i]
				c := typed{on: s.on}
				return c.has(p.from) && c.has(p.to)
			}
			ran := 0
			for i, s := range shapes {
				if !has(i) {
					continue
				}
				for side, create := range []string{s.create, s.to} {
					c, session := b.from, s.session
					if side == 1 {
						c, session = b.to, s.toWith
						if create == "" {
							create = s.create
						}
					}
					if session != "" {
						b.exec(c, "SET "+session)
					}
					b.exec(c, "SET sql_mode='NO_AUTO_VALUE_ON_ZERO'")
					b.exec(c, "CREATE TABLE "+quoted(i)+strings.TrimPrefix(create, "t")+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
					if strings.HasPrefix(session, "sql_generate") {
						b.exec(c, "SET "+strings.Replace(session, "ON", "OFF", 1))
					}
				}
				ran++
			}
			require.Greater(t, ran, 6)
			b.run(false, func() {
				for i, s := range shapes {
					if !has(i) {
						continue
					}
					for _, q := range s.work {
						for _, head := range []string{"INSERT INTO ", "UPDATE ", "FROM "} {
							q = strings.ReplaceAll(q, head+"t ", head+quoted(i)+" ")
						}
						if strings.HasSuffix(q, " FROM t") {
							q = strings.TrimSuffix(q, "t") + quoted(i)
						}
						b.exec(b.from, q)
					}
				}
			})
			b.refusals()
			b.exec(b.from, "SET time_zone='+00:00'")
			for i, s := range shapes {
				if !has(i) {
					continue
				}
				cols := s.read
				if cols == "" {
					cols = "*"
				}
				q := "SELECT " + cols + " FROM " + quoted(i)
				b.same(s.what, q, q)
				require.NotEmpty(t, b.rows(b.to, q), s.what)
			}
		})
	}
}
