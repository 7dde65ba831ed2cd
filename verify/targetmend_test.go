package verify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// Rows are mended without the target's foreign keys and cascades where the account may
// turn them off. Where it may not, what they would do is not done, and the cure is told.
func TestForeignKeysOfOtherTargetsDoNothingToWhatIsMended(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite", "postgres with an account that may not"} {
		t.Run(kind, func(t *testing.T) {
			limited := strings.Contains(kind, " ")
			l := newOtherLab(t, my97, strings.Fields(kind)[0])
			l.exec(l.from, "CREATE TABLE S.a_child (id int PRIMARY KEY, p int)", "CREATE TABLE S.parent (id int PRIMARY KEY, a int)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.change("CREATE TABLE T.parent (id int PRIMARY KEY, a int)", "CREATE TABLE T.zz_end (id int PRIMARY KEY)",
				"CREATE TABLE T.a_child (id int PRIMARY KEY, p int REFERENCES "+map[bool]string{true: l.target() + "."}[l.pg != nil]+"parent (id) ON DELETE CASCADE)")
			l.start(sink.Unfit{}, false)
			l.exec(l.from, "INSERT INTO S.parent VALUES "+rows(0, 10, "(#,#)"), "INSERT INTO S.a_child VALUES "+rows(0, 10, "(#,#)"))
			l.passed()
			// Of a pair the child comes first, and a parent too many has children that are right.
			l.change("DELETE FROM T.a_child WHERE id=3", "DELETE FROM T.parent WHERE id=3", "INSERT INTO T.parent VALUES (77,0)", "UPDATE T.a_child SET p=77 WHERE id=5",
				"UPDATE T.parent SET a=-1 WHERE id=7")
			m := l.mender(sink.Unfit{})
			if limited {
				role := "r_" + l.schema[:8]
				l.pg.Exec(t, "CREATE ROLE "+role+" LOGIN", "GRANT USAGE ON SCHEMA "+l.target()+" TO "+role, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "+l.target()+" TO "+role)
				t.Cleanup(func() { l.pg.Exec(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
				r, err := sink.MendPostgres(t.Context(), strings.Replace(l.pg.DSN(), "postgres@", role+"@", 1), &sink.PostgresOptions{Name: l.name, Schema: l.target()})
				require.NoError(t, err)
				t.Cleanup(func() { r.Close() })
				m.TargetRows = r
			}
			r := l.verify(m)
			child, parent := table(t, r, l.schema+".a_child"), table(t, r, l.schema+".parent")
			require.Equal(t, []int{1, 0, 1}, []int{child.Missing, child.Extra, child.Different}, r)
			require.Equal(t, []int{1, 1, 1}, []int{parent.Missing, parent.Extra, parent.Different}, r)
			if !limited {
				require.Equal(t, []int{2, 3}, []int{child.Repaired, parent.Repaired}, r)
				require.Equal(t, verify.Equal, l.verify(m).Verdict())
				return
			}
			require.Equal(t, []int{1, 2}, []int{child.Repaired, parent.Repaired}, r)
			require.Contains(t, child.String(), "not mended: ERROR: insert or update on table")
			require.Contains(t, child.String(), "repair again when the row that it refers to is there")
			require.Contains(t, parent.String(), "a foreign key of "+l.target()+".a_child would change rows there")
			require.Contains(t, parent.String(), "GRANT SET ON PARAMETER session_replication_role TO the account")
			r = l.verify(m)
			require.Equal(t, 1, table(t, r, l.schema+".a_child").Repaired, "its parent is there now: %s", r)
			l.pg.Exec(t, "GRANT SET ON PARAMETER session_replication_role TO r_"+l.schema[:8])
			require.NoError(t, m.TargetRows.(*sink.RowMender).Close()) // rights are asked for by a new session
			require.Equal(t, 1, table(t, l.verify(m), l.schema+".parent").Repaired)
			require.Equal(t, verify.Equal, l.verify(m).Verdict())
		})
	}
}

// An account that may not write the target is told what it needs, and nothing is mended;
// what the target refuses is no reason to leave the rest.
func TestARepairThatIsRefusedSaysWhy(t *testing.T) {
	l := newOtherLab(t, my97, "postgres")
	l.exec(l.from, "CREATE TABLE S.a (id int PRIMARY KEY, mail varchar(20))", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
	l.change("CREATE TABLE T.a (id int PRIMARY KEY, mail text UNIQUE)", "CREATE TABLE T.zz_end (id int PRIMARY KEY)")
	l.start(sink.Unfit{}, false)
	l.exec(l.from, "INSERT INTO S.a VALUES "+rows(0, 9, "(#,'m#')"))
	l.passed()
	l.change("UPDATE T.a SET mail='x' WHERE id=1", "UPDATE T.a SET mail='m1' WHERE id=4", "UPDATE T.a SET mail='y' WHERE id=6")
	role := "r_" + l.schema[:8]
	l.pg.Exec(t, "CREATE ROLE "+role+" LOGIN", "GRANT USAGE ON SCHEMA "+l.target()+" TO "+role, "GRANT SELECT ON ALL TABLES IN SCHEMA "+l.target()+" TO "+role)
	t.Cleanup(func() { l.pg.Exec(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	m := l.mender(sink.Unfit{})
	all := m.TargetRows
	r, err := sink.MendPostgres(t.Context(), strings.Replace(l.pg.DSN(), "postgres@", role+"@", 1), &sink.PostgresOptions{Name: l.name, Schema: l.target()})
	require.NoError(t, err)
	defer r.Close()
	m.TargetRows = r
	x := table(t, l.verify(m), l.schema+".a")
	require.Equal(t, []int{3, 0}, []int{x.Different, x.Repaired}, x.String())
	require.Equal(t, 3, strings.Count(x.String(), "GRANT SELECT, UPDATE ON"), x.String())
	l.pg.Exec(t, "GRANT UPDATE ON "+l.target()+".dfs_checkpoint TO "+role)
	x = table(t, l.verify(m), l.schema+".a")
	require.Equal(t, 3, strings.Count(x.String(), "GRANT SELECT, INSERT, UPDATE, DELETE ON"), x.String())

	// Row 1 is to get what row 4 has, and row 4 comes after it.
	m.TargetRows = all
	x = table(t, l.verify(m), l.schema+".a")
	require.Equal(t, []int{3, 2}, []int{x.Different, x.Repaired}, x.String())
	require.Contains(t, x.String(), "another row of the target has a value that must be unique")
	m.Hide = []string{l.target() + ".a.mail"}
	l.change("UPDATE T.a SET mail='m1' WHERE id=4")
	x = table(t, l.verify(m), l.schema+".a")
	require.Contains(t, x.String(), "its words may show a value that is hidden")
	require.NotContains(t, x.String(), "m1")
	m.Hide = nil
	require.Equal(t, 1, table(t, l.verify(m), l.schema+".a").Repaired)
	require.Equal(t, verify.Equal, l.verify(m).Verdict())
}

// What is ignored is left as it is, also in rows that are mended.
func TestARepairLeavesAloneWhatIsIgnored(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			l := newOtherLab(t, my97, kind)
			l.exec(l.from, "CREATE TABLE S.a (id int PRIMARY KEY, b int, seen int)", "CREATE TABLE S.bag (b int, seen int)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.start(sink.Unfit{}, true)
			l.exec(l.from, "INSERT INTO S.a VALUES "+rows(0, 9, "(#,#,#)"), "INSERT INTO S.bag VALUES "+rows(0, 9, "(#,#)"))
			l.passed()
			l.change("UPDATE T.a SET seen=100", "UPDATE T.a SET b=-1 WHERE id=2", "DELETE FROM T.a WHERE id=3", "UPDATE T.bag SET seen=100", "DELETE FROM T.bag WHERE b=4")
			m := l.mender(sink.Unfit{})
			m.Ignore = []string{l.target() + ".*.seen"}
			r := l.verify(m)
			require.Equal(t, 2, table(t, r, l.schema+".a").Repaired, r)
			require.Equal(t, 1, table(t, r, l.schema+".bag").Repaired, r)
			require.Equal(t, verify.Equal, l.verify(m).Verdict())
			require.Equal(t, "8", l.count("SELECT COUNT(*) FROM T.a WHERE seen=100"))
			require.Equal(t, "1", l.count("SELECT COUNT(*) FROM T.a WHERE id=3 AND seen IS NULL"))
			require.Equal(t, "8", l.count("SELECT COUNT(*) FROM T.bag WHERE seen=100"))
		})
	}
}

// A table without a key that has more rows than are held at once is compared by parts, on
// each kind of target: what differs is found, and mended where there is time for it.
func TestLargeTablesWithoutAKeyAreComparedByParts(t *testing.T) {
	const n = 2000
	type target struct {
		*lab
		v      *verify.Verifier
		change func(stmts ...string)
		passed func()
	}
	open := map[string]func(t *testing.T) target{
		"mysql": func(t *testing.T) target {
			l := newLab(t, my97, maria)
			l.both("CREATE TABLE S.bag (a int, b varchar(40))", "CREATE TABLE S.docs (a int, b varchar(40))", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.exec(l.from, "ALTER TABLE S.docs ADD j json") // which servers do not compare
			l.exec(l.to, "ALTER TABLE T.docs ADD j longtext")
			l.run()
			return target{l, l.verifier(), func(stmts ...string) { l.exec(l.to, stmts...) }, l.passed}
		},
	}
	for _, kind := range []string{"postgres", "sqlite"} {
		open[kind] = func(t *testing.T) target {
			l := newOtherLab(t, my97, kind)
			l.exec(l.from, "CREATE TABLE S.bag (a int, b varchar(40))", "CREATE TABLE S.docs (a int, b varchar(40), j json)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.start(sink.Unfit{}, true)
			return target{l.lab, l.mender(sink.Unfit{}), l.change, l.passed}
		}
	}
	for kind, open := range open {
		t.Run(kind, func(t *testing.T) {
			l := open(t)
			l.exec(l.from, "INSERT INTO S.bag VALUES "+rows(0, n, "(#%1500,'row #')"), "INSERT INTO S.bag VALUES (7,'twice'),(7,'twice'),(7,NULL)",
				"INSERT INTO S.docs VALUES "+rows(0, n, `(#%1500,'row #','{"b": #, "a": [1.5]}')`))
			l.passed()
			v := l.v
			v.Repair, v.LockTime = false, time.Minute
			v.HoldFew(100)
			counts := func(r *verify.Report, name string) string {
				x := table(t, r, l.schema+"."+name)
				require.Empty(t, x.Untold, r)
				return fmt.Sprint(x.Rows, x.TargetRows, x.Missing, x.Extra, x.Repaired, x.More)
			}
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			require.Equal(t, fmt.Sprint(n+3, n+3, 0, 0, 0, false), counts(r, "bag"), r)

			l.change("DELETE FROM T.bag WHERE b='row 17'", "DELETE FROM T.bag WHERE b='twice'", "INSERT INTO T.bag VALUES (8,'row 8'),(-1,'more')", "UPDATE T.docs SET a=-5 WHERE b='row 19'")
			r = l.verify(v)
			require.Equal(t, fmt.Sprint(n+3, n+2, 2, 2, 0, false), counts(r, "bag"), r)
			require.Equal(t, fmt.Sprint(n, n, 1, 1, 0, false), counts(r, "docs"), r)
			require.Contains(t, r.String(), `2 rows; a=7, b="twice"`)
			v.Repair = true
			r = l.verify(v)
			require.Equal(t, fmt.Sprint(n+3, n+2, 2, 2, 4, false), counts(r, "bag"), r)
			v.Repair = false
			if kind == "mysql" {
				x := table(t, r, l.schema+".docs")
				require.Contains(t, x.String(), "values that the two servers do not write alike")
				l.change("UPDATE T.docs SET a=19 WHERE b='row 19'")
			}
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)

			// What does not fit into memory at once is told as what it is: a part of all.
			l.change("UPDATE T.bag SET a=a+1 WHERE a<100")
			r = l.verify(v)
			x := table(t, r, l.schema+".bag")
			require.True(t, x.More && x.Missing > 20 && x.Extra > 20, r)
			require.Less(t, len(x.Findings), 400)
			v.Repair = true
			for range 100 {
				if x = table(t, l.verify(v), l.schema+".bag"); x.Verdict == verify.Equal {
					break
				}
				require.Equal(t, len(x.Findings), x.Repaired, x.String())
			}
			require.Equal(t, verify.Equal, x.Verdict)
			l.exec(l.from, "DELETE FROM S.bag", "DELETE FROM S.docs WHERE a<1000")
			l.passed()
		})
	}
}

// Between the scan of sums and that of rows the source moves on: nothing is said of that.
func TestPartsThatMoveOnBetweenTwoScansAreLookedAtAgain(t *testing.T) {
	l := newOtherLab(t, testenv.MySQL97, "sqlite")
	l.exec(l.from, "CREATE TABLE S.bag (a int, b varchar(40))", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
	l.start(sink.Unfit{}, true)
	l.exec(l.from, "INSERT INTO S.bag VALUES "+rows(0, 500, "(#,'row #')"))
	l.passed()
	l.change("DELETE FROM T.bag WHERE a=7")
	v := l.otherVerifier(sink.Unfit{})
	v.Tables, v.LockTime = []string{l.schema + ".bag"}, time.Minute
	v.HoldFew(50)
	looks := 0
	v.Between(func(what string) {
		if looks++; what == "parts" && looks == 1 {
			l.change("INSERT INTO bag VALUES (7,'row 7')")
		}
	})
	r := l.verify(v)
	require.Equal(t, verify.Equal, r.Verdict(), r)
	require.Equal(t, 1, looks)
}
