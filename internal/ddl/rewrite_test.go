//go:build unix

package ddl

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// TestRewrittenStatementsDoTheSame runs statements in one schema and, rewritten,
// in another whose tables have other names, from a session without a default
// schema. Tables and views must come out the same but for the names.
func TestRewrittenStatementsDoTheSame(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			o := newOracle(t, kind)
			from, to := o.schema, o.schema+"_to"
			exec := func(text string) {
				_, err := o.conn.ExecContext(t.Context(), text)
				require.NoError(t, err, text)
			}
			exec("CREATE DATABASE " + to)
			defer exec("DROP DATABASE " + to)
			route := func(r Ref) Table {
				n := r.Table
				if strings.EqualFold(n.Schema, from) {
					n.Schema = to
				}
				if n.Name != "" && !strings.HasPrefix(n.Name, "same") {
					n.Name = "new_" + n.Name
				}
				return n
			}
			texts := []string{
				"CREATE TABLE p (a INT PRIMARY KEY, b INT, UNIQUE KEY (b))",
				"CREATE TABLE c(a INT PRIMARY KEY, p INT, CONSTRAINT ca FOREIGN KEY (p) REFERENCES p(a) ON DELETE CASCADE, CONSTRAINT cc FOREIGN KEY(a) REFERENCES `FROM`.`p`(`b`)) COMMENT='REFERENCES p (a)'",
				"CREATE TABLE same LIKE p",
				"CREATE TABLE d (LIKE FROM . c)",
				"ALTER TABLE same ADD CONSTRAINT f1 FOREIGN KEY (b) REFERENCES p (a), ADD c VARCHAR(9) DEFAULT 'p.a', RENAME TO other",
				"CREATE INDEX i ON`other`(c)",
				"ALTER TABLE other RENAME same",
				"DROP INDEX i ON FROM.same",
				"RENAME TABLE d TO e, FROM.p TO q, q TO p, e TO d",
				"CREATE VIEW v1 AS SELECT p.a, FROM.p.b, c.a AS x FROM p JOIN FROM.c ON p.a = c.p WHERE p.b > 1.5",
				"CREATE VIEW v2 (x, y) AS SELECT t.a, (SELECT MAX(p.b) FROM p WHERE p.a = t.a) FROM c AS t, same WHERE same.a IN (SELECT b FROM FROM.p) UNION ALL SELECT 1, 2 FROM v1",
				"CREATE OR REPLACE VIEW v1 AS SELECT EXTRACT(YEAR FROM NOW()) AS y, p.a FROM (p) WHERE EXISTS (SELECT * FROM same s WHERE s.a = p.a) WITH CASCADED CHECK OPTION",
				"ALTER VIEW v2 AS SELECT p.a FROM p",
				"TRUNCATE TABLE d",
				"DROP TABLE d",
			}
			switch kind {
			case testenv.MySQL97:
				texts = append(texts,
					"CREATE TABLE g (a INT CHECK (a > 0), b INT AS (a + 1), CHECK (g.b < 5), KEY ((a + b)))",
					"WITHVIEW", "CREATE VIEW v4 AS TABLE p",
					"CREATE VIEW v5 AS SELECT j.x, p.a FROM p, JSON_TABLE('[1]', '$[*]' COLUMNS (x INT PATH '$')) AS j, LATERAL (SELECT c.p FROM c WHERE c.a = p.a) AS l")
			case testenv.MariaDB:
				texts = append(texts,
					"CREATE OR REPLACE TABLE g (a INT CHECK (a > 0), b INT AS (g.a + 1) PERSISTENT, CHECK (g.b < 5))",
					"WITHVIEW", "CREATE SEQUENCE s", "CREATE TABLE h (a INT DEFAULT NEXT VALUE FOR s, b INT DEFAULT nextval(FROM.s))",
					"ALTER TABLE h WAIT 3 ADD COLUMN IF NOT EXISTS x INT", "SET STATEMENT max_statement_time=100 FOR ALTER TABLE IF EXISTS h DROP COLUMN IF EXISTS x")
			}
			for _, text := range texts {
				text = strings.ReplaceAll(text, "WITHVIEW", "CREATE VIEW v3 AS WITH p AS (SELECT c.a, c.p FROM c), RECURSIVEX AS (SELECT p.a FROM p) SELECT p.a, y.a AS b FROM p JOIN RECURSIVEX y WHERE y.a IN (WITH RECURSIVE z (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM z WHERE n < 3) SELECT n FROM z)")
				for _, s := range []string{"FROM.", "FROM .", "`FROM`"} {
					text = strings.ReplaceAll(text, s, strings.Replace(s, "FROM", from, 1))
				}
				exec("USE " + from)
				exec(text)
				s := Parse(text, from, o.mode)
				moved, err := s.Rewrite(route)
				require.NoError(t, err, text)
				exec("USE mysql")
				exec(moved)

				again := Parse(moved, "mysql", o.mode)
				require.Len(t, again.Refs, len(s.Refs), moved)
				for i, r := range s.Refs {
					if r.Role != Qualifier {
						require.Equal(t, route(r), again.Refs[i].Table, moved)
					}
				}
			}
			seen := 0
			for _, r := range o.rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = ?", from) {
				show := func(schema, name string) string {
					text := o.rows("SHOW CREATE TABLE " + quote(schema) + "." + quote(name))[0][1]
					return text[strings.Index(text, " "):]
				}
				n := route(Ref{Table: Table{from, r[0]}})
				if r[1] == "VIEW" {
					// The server has rewritten their text.
					require.Equal(t, o.columnsOf(from, r[0]), o.columnsOf(to, n.Name))
					_, err := o.conn.ExecContext(t.Context(), "SELECT * FROM "+n.quoted())
					require.NoError(t, err)
				} else {
					want := show(from, r[0])
					got := show(to, n.Name)
					for _, name := range []string{"p", "c", "same", "g", "h", "s"} {
						m := route(Ref{Table: Table{from, name}})
						got = strings.ReplaceAll(got, " "+m.quoted(), " "+quote(name))
						got = strings.ReplaceAll(got, " "+quote(m.Name)+" (", " "+quote(name)+" (")
						got = strings.ReplaceAll(got, quote(to)+"."+quote(m.Name), quote(from)+"."+quote(name))
					}
					got = strings.ReplaceAll(got, "CONSTRAINT `new_", "CONSTRAINT `")
					require.Equal(t, want, got)
				}
				seen++
			}
			require.Greater(t, seen, 4)
		})
	}
}

// columnsOf returns the columns of a view.
func (o *oracle) columnsOf(schema, view string) string {
	var b strings.Builder
	for _, r := range o.rows("SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position", schema, view) {
		b.WriteString(r[0] + " " + r[1] + "\n")
	}
	return b.String()
}
