package values_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// alterations are run on a source, with rows between them. In them @ stands before the
// names of tables. What begins with "maria:" or "mysql:" is for one kind of server.
var alterations = []string{
	"CREATE TABLE @a (id int NOT NULL AUTO_INCREMENT, name varchar(20) DEFAULT 'it''s', n decimal(8,2) NOT NULL DEFAULT '1.50', PRIMARY KEY (id), UNIQUE KEY name (name), KEY by_n (n)) ENGINE=InnoDB COMMENT='x, y'",
	"INSERT INTO @a (id,name) VALUES (1,'a'),(2,NULL),(3,'c')",
	"ALTER TABLE @a ADD COLUMN plain int, ADD extra varchar(10) NOT NULL DEFAULT 'é\\\\', ADD COLUMN (m int NOT NULL, e enum('x','y') NOT NULL), ADD s text NOT NULL",
	"INSERT INTO @a (id,name,m,s) VALUES (4,'d',9,'text')",
	"ALTER TABLE @a MODIFY id bigint NOT NULL AUTO_INCREMENT, MODIFY n decimal(12,4) NULL, CHANGE m amount bigint unsigned DEFAULT 7, MODIFY e enum('x','y','z') NOT NULL FIRST",
	"INSERT INTO @a (id,name,n,amount,e,s) VALUES (500000000000,'e',NULL,18446744073709551615,'z','')",
	"UPDATE @a SET name='b' WHERE name IS NULL",
	"ALTER TABLE @a MODIFY n decimal(14,4), MODIFY name varchar(40) NOT NULL DEFAULT ''",
	"UPDATE @a SET amount=NULL WHERE id=3",
	"ALTER TABLE @a ADD COLUMN d datetime(3) DEFAULT '2020-02-03 04:05:06.789', ADD b varbinary(8) DEFAULT 'ab', ADD f double NOT NULL DEFAULT -2.5, ADD INDEX (d), ADD UNIQUE INDEX u (id, f)",
	"INSERT INTO @a (id,name,d,b,e,s) VALUES (6,'f',NULL,NULL,'x','s')",
	"ALTER TABLE @a MODIFY d datetime(6), MODIFY n decimal(14,6)",
	"ALTER TABLE @a ADD c5 char(5) NOT NULL DEFAULT 'a  ', ADD b4 binary(4) DEFAULT 'xy', ADD y year NOT NULL DEFAULT '2024', ADD bo bool NOT NULL DEFAULT TRUE, " +
		"ADD t3 time(3) DEFAULT '10:11:12.5', ADD dt date NOT NULL DEFAULT '2024-02-29', ADD fl float DEFAULT 0.1, ADD st set('p','q') NOT NULL DEFAULT 'p,q'",
	"ALTER TABLE @a DROP fl",
	"ALTER TABLE @a DROP INDEX name, DROP COLUMN plain, RENAME TO @b",
	"INSERT INTO @b (id,name,e,s) VALUES (7,'a','x','s')",
	"mysql:ALTER TABLE @b DROP f", // which leaves the rest of its unique key
	"maria:ALTER TABLE @b DROP INDEX u, DROP f, ADD UNIQUE u (id)",
	"mysql:ALTER TABLE @b RENAME COLUMN extra TO other, RENAME INDEX by_n TO amounts",
	"maria:ALTER TABLE @b CHANGE extra other varchar(10) NOT NULL, DROP KEY by_n, ADD KEY amounts (n)",
	"INSERT INTO @b (id,name,e,s,other) VALUES (8,'b','x','s','o')",
	"CREATE TABLE @like LIKE @b",
	"INSERT INTO @like SELECT * FROM @b WHERE id<7",
	"DROP INDEX amounts ON @b",
	"CREATE UNIQUE INDEX amounts ON @b (id, n)",
	"RENAME TABLE @b TO @x, @like TO @b, @x TO @like",
	"INSERT INTO @b (id,name,e,s,other) VALUES (80,'swapped','x','s','o')",
	"UPDATE @like SET name='was b' WHERE id=8",
	"ALTER TABLE @b DROP PRIMARY KEY, MODIFY id bigint NOT NULL, ADD COLUMN k int, ADD PRIMARY KEY (name, id)",
	"UPDATE @b SET k=id, name=CONCAT(name,'!') WHERE id>3",
	"ALTER TABLE @b ALTER COLUMN amount DROP DEFAULT, ALTER other SET DEFAULT 'x', CONVERT TO CHARACTER SET latin1, ORDER BY id",
	"UPDATE @b SET amount=5",
	"CREATE TABLE @gone (id int PRIMARY KEY)",
	"DROP TABLE IF EXISTS @gone, @never",
	"TRUNCATE TABLE @like",
	"INSERT INTO @like (id,name,e,s,other) VALUES (1,'only','x','s','o')",
	"CREATE TABLE @t SELECT id, CONCAT(name,'') name FROM @b",
	"UPDATE @t SET name=CONCAT(name,'?')",
	"ALTER TABLE @t ADD j json, ADD ts timestamp NULL DEFAULT NULL, ADD PRIMARY KEY (id), ENGINE=InnoDB, COMMENT='t'",
	"INSERT INTO @t (id,name,j,ts) VALUES (1000,'j','{\"a\": 1}','2021-01-01 00:00:00')",
	"ALTER TABLE @t DROP COLUMN id, ADD num int unsigned NOT NULL DEFAULT 3",
	"INSERT INTO @t (name) VALUES ('no key')",
}

// What is done to tables of a source is done to those of PostgreSQL and SQLite, and what
// rows that are there get by it they get there.
func TestStatementsAreFollowedOnOtherDatabases(t *testing.T) {
	for _, kind := range []testenv.Kind{my97, maria} {
		src := testenv.Shared(t, kind)
		for _, target := range otherTargets(t) {
			t.Run(string(kind)+" to "+target.name, func(t *testing.T) {
				schema := src.Schema(t)
				prefix := strings.NewReplacer("-", "_", ".", "_").Replace(string(kind)) + "_"
				from := conn(t, src)
				exec := func(q string) {
					t.Helper()
					_, err := from.ExecContext(t.Context(), q)
					require.NoError(t, err, "%.300s", q)
				}
				exec("USE " + schema)
				exec("SET NAMES utf8mb4")
				exec("SET time_zone='+00:00', sql_mode='STRICT_TRANS_TABLES'")
				s, err := cdc.Open(t.Context(), src.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
				require.NoError(t, err)
				defer s.Close()
				k := target.sink(schema, sink.PolicyApply)
				defer k.Close()
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				done := make(chan error, 1)
				line := &dfs.Pipeline{Source: s, Sink: k}
				go func() { done <- line.Run(ctx) }()
				require.Eventually(t, func() bool { return line.Stats().Apply.At.Seq > 0 || len(done) > 0 }, time.Minute, time.Millisecond)
				for _, q := range alterations {
					own, rest, ok := strings.Cut(q, ":")
					switch {
					case ok && own == "mysql" && kind == my97, ok && own == "maria" && kind == maria:
						q = rest
					case ok && (own == "mysql" || own == "maria"):
						continue
					}
					exec(strings.ReplaceAll(q, "@", prefix))
				}
				exec("CREATE TABLE " + prefix + "end (id int PRIMARY KEY)")
				exec("INSERT INTO " + prefix + "end VALUES (1)")
				at := func() string {
					rows, err := from.QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema=? ORDER BY 1", schema)
					require.NoError(t, err)
					return strings.Join(column(t, rows), " ")
				}
				var stopped error
				require.Eventually(t, func() bool {
					select {
					case stopped = <-done:
						return true
					default:
					}
					n := line.Stats().Apply
					return n.Transactions > 0 && len(quiet(target, schema, prefix)) == 1
				}, 2*time.Minute, 20*time.Millisecond)
				if stopped == nil {
					stop()
					stopped = <-done
				}
				require.NoError(t, stopped)
				tables := strings.Fields(at())
				require.Equal(t, []string{prefix + "b", prefix + "end", prefix + "like", prefix + "t"}, tables)
				for _, name := range tables {
					rows, err := from.QueryContext(t.Context(), "SELECT CONCAT(column_name,' ',data_type) FROM information_schema.columns WHERE table_schema=? AND table_name=? ORDER BY column_name", schema, name)
					require.NoError(t, err)
					var mine, theirs, order []string
					for _, c := range column(t, rows) {
						col, typ, _ := strings.Cut(c, " ")
						order = append(order, col)
						switch typ {
						case "enum", "set", "char", "varchar", "text", "longtext", "json":
							mine = append(mine, "CONVERT(CONCAT("+col+") USING utf8mb4)")
							theirs = append(theirs, "CAST("+col+" AS text)")
						case "varbinary", "binary":
							mine = append(mine, "LOWER(HEX("+col+"))")
							theirs = append(theirs, map[string]string{"postgres": "encode(" + col + ",'hex')", "sqlite": "CASE WHEN " + col + " IS NOT NULL THEN lower(hex(" + col + ")) END"}[target.name])
						case "timestamp", "datetime", "time":
							mine = append(mine, "TRIM(TRAILING '0' FROM CAST("+col+" AS char))")
							theirs = append(theirs, "rtrim(replace(CAST("+col+" AS text),'+00',''),'0')")
						default:
							mine = append(mine, "CAST("+col+" AS char)")
							theirs = append(theirs, "CAST("+col+" AS text)")
						}
					}
					rows, err = from.QueryContext(t.Context(), "SELECT "+strings.Join(mine, ",")+" FROM "+name)
					require.NoError(t, err)
					require.ElementsMatch(t, all(t, rows), target.query(schema, "SELECT "+strings.Join(theirs, ",")+" FROM "+name), "%s %v", name, order)
				}
				var indexes [][]string
				if target.name == "postgres" {
					indexes = target.query(schema, "SELECT indexname FROM pg_indexes WHERE schemaname='"+schema+"' AND indexname NOT LIKE '%pkey' ORDER BY 1")
				} else {
					indexes = target.query(schema, "SELECT name FROM sqlite_schema WHERE type='index' AND name NOT LIKE 'sqlite%' AND name LIKE '"+prefix+"%' ORDER BY 1")
				}
				var names []string
				for _, r := range indexes {
					names = append(names, strings.TrimPrefix(r[0], prefix))
				}
				require.Equal(t, []string{"b.amounts", "b.d", "b.u", "like.amounts", "like.d", "like.u"}, names)

				// Rows get what a clock of the session's zone shows, which no log has.
				exec("SET time_zone='+05:00'")
				exec("ALTER TABLE " + prefix + "t MODIFY ts datetime")
				ctx, stop = context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				require.ErrorContains(t, (&dfs.Pipeline{Source: s, Sink: k}).Run(ctx), "column ts")
			})
		}
	}
}

// quiet returns the row that comes last, or none while its table is yet to come.
func quiet(target otherTarget, schema, prefix string) [][]string {
	q := "SELECT name FROM sqlite_schema WHERE name='" + prefix + "end'"
	if target.name == "postgres" {
		q = "SELECT tablename FROM pg_tables WHERE schemaname='" + schema + "' AND tablename='" + prefix + "end'"
	}
	if len(target.query(schema, q)) == 0 {
		return nil
	}
	return target.query(schema, "SELECT id FROM "+prefix+"end")
}

func column(t *testing.T, rows *sql.Rows) (list []string) {
	for _, r := range all(t, rows) {
		list = append(list, r[0])
	}
	return list
}

// all returns rows as text, NULL as "NULL".
func all(t *testing.T, rows *sql.Rows) (out [][]string) {
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		require.NoError(t, rows.Scan(into...))
		row := make([]string, len(names))
		for i, c := range cells {
			if row[i] = c.String; !c.Valid {
				row[i] = "NULL"
			}
		}
		out = append(out, row)
	}
	require.NoError(t, rows.Err())
	return out
}
