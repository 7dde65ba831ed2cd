package verify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/verify"
)

func replace(s, old, new string) string { return strings.ReplaceAll(s, old, new) }

func (l *lab) sql(s string) string {
	return replace(replace(s, "S.", l.schema+"."), "T.", l.target()+".")
}

// shapes are tables whose keys are of each kind, with 300 rows each. MySQL 5.6 has
// them all.
var shapes = []struct{ name, create, insert string }{
	{"ints", "(id bigint PRIMARY KEY, a int, b varchar(40))", "(%[1]d*7,%[1]d,'text %[1]d')"},
	{"unsigned", "(id bigint unsigned PRIMARY KEY, a int, b varchar(40))", "(18446744073709551615-%[1]d,%[1]d,NULL)"},
	{"texts", "(id varchar(60) COLLATE utf8mb4_general_ci, a int, b varchar(40), PRIMARY KEY(id))", "(CONCAT(CHAR(65+%[1]d%%26 USING utf8mb4),'ö ',%[1]d),%[1]d,'')"},
	{"composite", "(k varchar(20), n int, a int, b varchar(40), PRIMARY KEY(k,n))", "(CONCAT('k',%[1]d DIV 50),%[1]d,%[1]d,'b')"},
	{"binaries", "(id varbinary(20) PRIMARY KEY, a int, b varchar(40))", "(UNHEX(LPAD(HEX(%[1]d),8,'0')),%[1]d,'b')"},
	{"times", "(id datetime(3) PRIMARY KEY, a int, b varchar(40))", "(TIMESTAMPADD(MICROSECOND,%[1]d*1000,'2024-01-01'),%[1]d,'b')"},
	{"decimals", "(id decimal(20,5) PRIMARY KEY, a int, b varchar(40))", "(%[1]d*1.5-100,%[1]d,'b')"},
	{"enums", "(id enum('z','y','x'), n int, a int, b varchar(40), PRIMARY KEY(id,n))", "(1+%[1]d%%3,%[1]d,%[1]d,'b')"},
	{"uniques", "(id int NOT NULL, a int, b varchar(40), UNIQUE KEY(id))", "(%[1]d,%[1]d,'b')"},
	{"collated", "(id varchar(60) COLLATE utf8mb4_general_ci, a int, b varchar(40), PRIMARY KEY(id))", "(CONCAT(CHAR(65+%[1]d%%58 USING utf8mb4),%[1]d),%[1]d,'')"},
}

func (l *lab) shapes() {
	l.t.Helper()
	for _, s := range shapes {
		l.exec(l.from, "CREATE TABLE S."+s.name+" "+s.create+" CHARACTER SET utf8mb4")
		// One table has keys that the sides order in different ways.
		l.exec(l.to, "CREATE TABLE T."+s.name+" "+replace(s.create, map[bool]string{true: "utf8mb4_general_ci", false: "-"}[s.name == "collated"], "utf8mb4_bin")+" CHARACTER SET utf8mb4")
	}
	l.both("CREATE TABLE S.bag (a int, b varchar(40)) CHARACTER SET utf8mb4", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
}

func (l *lab) fill() {
	l.t.Helper()
	for _, s := range shapes {
		var rows []string
		for i := range 300 {
			rows = append(rows, fmt.Sprintf(s.insert, i))
		}
		l.exec(l.from, "INSERT INTO S."+s.name+" VALUES "+strings.Join(rows, ","))
	}
	l.exec(l.from, "INSERT INTO S.bag SELECT a%3, 'x' FROM S.ints")
}

func TestEqualIsEqualAndEachFaultIsFoundWithKeyAndColumn(t *testing.T) {
	for _, p := range [][2]testenv.Kind{{my97, my97}, {my56, my97}, {maria, my97}, {my97, maria}, {maria, maria}} {
		t.Run(fmt.Sprintf("%s to %s", p[0], p[1]), func(t *testing.T) {
			l := newLab(t, p[0], p[1])
			l.shapes()
			l.run()
			l.fill()
			l.passed()
			v := l.verifier()
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			for _, s := range shapes {
				require.EqualValues(t, 300, table(t, r, l.schema+"."+s.name).Rows, s.name)
			}

			for _, s := range shapes {
				l.exec(l.to, "UPDATE T."+s.name+" SET b='other' WHERE a=17", "DELETE FROM T."+s.name+" WHERE a=33",
					"INSERT INTO T."+s.name+" VALUES "+fmt.Sprintf(s.insert, 4711))
			}
			l.exec(l.to, "UPDATE T.bag SET b='y' WHERE a=1 LIMIT 2")
			r = l.verify(v)
			require.Equal(t, verify.Different, r.Verdict(), r)
			for _, s := range shapes {
				x := table(t, r, l.schema+"."+s.name)
				require.Equal(t, []int{1, 1, 1}, []int{x.Missing, x.Extra, x.Different}, "%s\n%s", s.name, r)
				require.Empty(t, x.Untold)
				for _, f := range x.Findings {
					require.NotEmpty(t, f.Key, r)
					if f.Kind == verify.DifferentRow {
						require.Len(t, f.Columns, 1, f)
						require.Equal(t, "b", f.Columns[0].Column)
						require.Equal(t, `"other"`, f.Columns[0].Target)
					}
				}
			}
			x := table(t, r, l.schema+".ints")
			require.Contains(t, x.String(), "missing in "+l.target()+".ints: id=231\n")
			require.Contains(t, x.String(), "extra in "+l.target()+".ints: id=32977\n")
			require.Contains(t, x.String(), "different in "+l.target()+".ints: id=119; b is \"text 17\" on the source, \"other\" on the target\n")
			x = table(t, r, l.schema+".bag")
			require.Equal(t, []int{1, 1}, []int{x.Missing, x.Extra}, r)
			for _, f := range x.Findings {
				require.Equal(t, 2, f.Count)
			}
			require.Equal(t, verify.Equal, table(t, r, l.schema+".zz_end").Verdict)
			var b bytes.Buffer
			require.NoError(t, r.WriteJSON(&b))
			var back struct{ Verdict verify.Verdict }
			require.NoError(t, json.Unmarshal(b.Bytes(), &back))
			require.Equal(t, verify.Different, back.Verdict)

			v.Repair = true
			r = l.verify(v)
			for _, s := range shapes {
				x := table(t, r, l.schema+"."+s.name)
				require.Equal(t, 3, x.Repaired, "%s\n%s", s.name, r)
			}
			x = table(t, r, l.schema+".bag")
			require.Equal(t, []int{1, 1, 2}, []int{x.Missing, x.Extra, x.Repaired}, r)
			v.Repair = false
			r = l.verify(v)
			for _, s := range shapes {
				require.Equal(t, verify.Equal, table(t, r, l.schema+"."+s.name).Verdict, r)
			}
			require.Equal(t, verify.Equal, r.Verdict(), r)
			l.exec(l.from, "DELETE FROM S.bag WHERE a=1", "UPDATE S.ints SET a=a+1", "UPDATE S.texts SET b='new'", "DELETE FROM S.enums WHERE a>20")
			l.passed() // what was mended does not stand in the way of the pipeline
		})
	}
}
