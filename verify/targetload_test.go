package verify_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// While rows go to and fro and the pipeline is ended and begun again, no row is taken for
// a fault, and each fault is found.
func TestOtherTargetsAreVerifiedUnderLoad(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			l := newOtherLab(t, my97, kind)
			l.exec(l.from, "CREATE TABLE S.hot (id int PRIMARY KEY, flag int, note varchar(40), n decimal(10,2))",
				"CREATE TABLE S.moves (id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n int)",
				"CREATE TABLE S.logs (id int AUTO_INCREMENT PRIMARY KEY, a int)", "CREATE TABLE S.bag (a int, b int)",
				"CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.start(sink.Unfit{}, true)
			l.exec(l.from, "INSERT INTO S.hot VALUES "+rows(0, 1500, "(#,0,'x',#)"), "INSERT INTO S.moves VALUES "+rows(0, 100, "('M#',#)"), "INSERT INTO S.bag VALUES (0,0),(1,1),(0,0)")
			l.passed()
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan bool)
			go func() {
				defer close(done)
				rng := rand.New(rand.NewPCG(3, 4))
				for ctx.Err() == nil {
					i := rng.IntN(100)
					for _, q := range [][]string{
						{fmt.Sprintf("UPDATE S.hot SET flag=1-flag WHERE id=%d", i)},
						{fmt.Sprintf("DELETE FROM S.hot WHERE id=%d", i), fmt.Sprintf("INSERT INTO S.hot VALUES (%d,1,'y',1)", i)},
						{fmt.Sprintf("UPDATE IGNORE S.moves SET id='m%d' WHERE id='M%d'", i, i), fmt.Sprintf("UPDATE IGNORE S.moves SET id='X%d' WHERE n=%d+1", i, i)},
						{fmt.Sprintf("INSERT INTO S.logs (a) VALUES (%d)", i), fmt.Sprintf("DELETE FROM S.logs WHERE a=%d ORDER BY id DESC LIMIT 1", i+1)},
						{"UPDATE S.bag SET a=1-a LIMIT 2"},
					}[rng.IntN(5)] {
						if _, err := l.from.ExecContext(ctx, l.sql(q)); err != nil && ctx.Err() == nil {
							t.Error(err)
							return
						}
					}
					time.Sleep(time.Millisecond) // to leave the processor to others
				}
			}()
			v := l.otherVerifier(sink.Unfit{})
			v.Patience = 2 * time.Minute
			looked := uint64(0)
			for round := range 3 {
				if round > 0 {
					l.stop()
				}
				// A pipeline that stands is none that differs.
				ended := make(chan *verify.Report, 1)
				go func() {
					r, err := v.Run(t.Context())
					if err != nil {
						t.Error(err)
					}
					ended <- r
				}()
				if round > 0 {
					l.start(sink.Unfit{}, false)
				}
				r := <-ended
				require.NotNil(t, r)
				require.Equal(t, verify.Equal, r.Verdict(), r)
				for _, x := range r.Tables {
					looked += x.Looked
				}
			}
			t.Logf("%d rows looked at again", looked)
			l.change("UPDATE T.hot SET n=n+0.01 WHERE id=700", "DELETE FROM T.hot WHERE id=800", "INSERT INTO T.hot (id,flag) VALUES (5000,1)", "INSERT INTO T.hot (id,flag) VALUES (-3,1)",
				"INSERT INTO T.moves VALUES ('another',7)")
			r := l.verify(v)
			x := table(t, r, l.schema+".hot")
			require.Equal(t, []int{1, 2, 1}, []int{x.Missing, x.Extra, x.Different}, r)
			x = table(t, r, l.schema+".moves")
			require.Equal(t, []int{0, 1, 0}, []int{x.Missing, x.Extra, x.Different}, r)
			require.Equal(t, verify.Equal, table(t, r, l.schema+".logs").Verdict, r)
			require.Equal(t, verify.Equal, table(t, r, l.schema+".bag").Verdict, r)
			// They are mended while the pipeline goes on, and is ended and begun again.
			ended, m := make(chan *verify.Report, 1), l.mender(sink.Unfit{})
			go func() {
				r, err := m.Run(t.Context())
				if err != nil {
					t.Error(err)
				}
				ended <- r
			}()
			l.stop()
			l.start(sink.Unfit{}, false)
			r = <-ended
			require.NotNil(t, r)
			x = table(t, r, l.schema+".hot")
			require.Equal(t, []int{1, 2, 1, 4}, []int{x.Missing, x.Extra, x.Different, x.Repaired}, r)
			require.Equal(t, 1, table(t, r, l.schema+".moves").Repaired, r)
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			stop()
			<-done
			l.passed()
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
		})
	}
}

// Rows that units reshape, that come together from two tables, whose keys change on their
// way, that have none or one of floating point, and that the target cannot hold.
func TestOtherTargetsAreVerifiedThroughUnitsAndPolicies(t *testing.T) {
	for _, kind := range []string{"postgres", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			l := newOtherLab(t, my97, kind)
			list := []dpu.Unit{{From: l.schema + ".users", Where: dpu.Where{Expr: `state != "gone"`}, Drop: []string{"secret"}, Rename: map[string]string{"mail": "email"},
				Mask: map[string]dpu.Mask{"phone": "hash"}, Columns: []dpu.Column{{Name: "twice", Type: "bigint", Expr: "(age ?? 0) * 2"}}, Into: l.schema + ".people"}}
			l.exec(l.from, "CREATE TABLE S.users (id bigint PRIMARY KEY, mail varchar(60) CHARACTER SET latin1, secret varchar(20), phone varchar(30), age int, state enum('new','old','gone') NOT NULL)",
				"CREATE TABLE S.shard_1 (id int PRIMARY KEY, a int)", "CREATE TABLE S.shard_2 (id int PRIMARY KEY, a int)",
				"CREATE TABLE S.keys_ (id varbinary(20) PRIMARY KEY, a int)", "CREATE TABLE S.texts (id varchar(20) PRIMARY KEY, a int, d date)",
				"CREATE TABLE S.floats (id float PRIMARY KEY, a int)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			for _, s := range []string{"CREATE TABLE T.people (id bigint PRIMARY KEY, email text, phone text, age int, state text, twice bigint, own int)",
				"CREATE TABLE T.shards (id int PRIMARY KEY, a int)", "CREATE TABLE T.keys_ (id bytea PRIMARY KEY, a int)", "CREATE TABLE T.texts (id text PRIMARY KEY, a int, d date)",
				"CREATE TABLE T.floats (id real PRIMARY KEY, a int)", "CREATE TABLE T.zz_end (id int PRIMARY KEY)"} {
				if kind == "sqlite" {
					s = replace(s, "bytea", "blob")
				}
				l.change(s)
			}
			l.routes = []sink.Route{{From: l.schema + ".shard_*", To: l.target() + ".shards"}, l.routes[0]}
			l.stages, _ = l.units(list)
			unfit := sink.Unfit{}
			if kind == "postgres" {
				unfit = sink.Unfit{NULs: sink.UnfitReplace, ZeroDates: sink.UnfitInfinity}
			}
			l.start(unfit, false)
			l.exec(l.from, "INSERT INTO S.users VALUES "+rows(0, 900, "(#,CONCAT('ä#@x'),'s','+49 #',IF(#%5,#,NULL),1+#%3)"),
				"INSERT INTO S.shard_1 VALUES "+rows(0, 30, "(#,#)"), "INSERT INTO S.shard_2 VALUES "+rows(100, 130, "(#,#)"), "INSERT INTO S.keys_ VALUES "+rows(0, 30, "('k#',#)"),
				"INSERT INTO S.texts VALUES "+rows(0, 30, "(CONCAT('a',CHAR(0),'#'),#,'2024-02-29')"), "INSERT INTO S.floats VALUES "+rows(0, 30, "(#/7,#)"))
			l.passed()
			v := l.otherVerifier(unfit)
			v.Stages, v.Shapes = l.units(list)
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			require.EqualValues(t, 900, table(t, r, l.schema+".users").Rows)
			require.EqualValues(t, 600, table(t, r, l.schema+".users").TargetRows)
			require.EqualValues(t, 60, table(t, r, l.schema+".shard_1,"+l.schema+".shard_2").TargetRows)

			l.change("UPDATE T.people SET email='other' WHERE id=7", "UPDATE T.people SET twice=twice+1 WHERE id=12", "DELETE FROM T.people WHERE id=9", "INSERT INTO T.people (id,state) VALUES (8,'new'),(99999,'old')",
				"UPDATE T.shards SET a=-1 WHERE id=105", "INSERT INTO T.shards VALUES (50,1)", "UPDATE T.keys_ SET a=-1 WHERE a=3", "UPDATE T.floats SET a=-1 WHERE a=3", "UPDATE T.texts SET a=-1 WHERE a=3",
				"INSERT INTO T.texts VALUES ('more',1,NULL)")
			r = l.verify(v)
			counts := func(name string) []int {
				x := table(t, r, name)
				return []int{x.Missing, x.Extra, x.Different}
			}
			require.Equal(t, []int{1, 2, 2}, counts(l.schema+".users"), r)
			require.Equal(t, []int{0, 1, 1}, counts(l.schema+".shard_1,"+l.schema+".shard_2"), r)
			require.Equal(t, []int{0, 0, 1}, counts(l.schema+".keys_"), r)
			require.Equal(t, []int{1, 1, 0}, counts(l.schema+".floats"), r)
			x := table(t, r, l.schema+".texts")
			verdict := verify.Equal
			if kind == "sqlite" {
				require.Equal(t, []int{0, 1, 1}, counts(l.schema+".texts"), r)
			} else {
				// Which keys are the source's cannot be told from the key, as U+0000 has become another.
				verdict = verify.Unknown
				require.Equal(t, []int{0, 0, 1}, counts(l.schema+".texts"), r)
				require.Len(t, x.Untold, 1, r)
				require.Contains(t, x.Untold[0], "1 rows have keys that no row of the source has now")
				require.Contains(t, x.Untold[0], `id="more"`)
			}

			m := l.mender(unfit)
			m.Stages, m.Shapes = l.units(list)
			l.change("UPDATE T.people SET own=7 WHERE id=12")
			r = l.verify(m)
			for i := range r.Tables {
				require.Equal(t, len(r.Tables[i].Findings), r.Tables[i].Repaired, r)
			}
			r = l.verify(m)
			require.Equal(t, verdict, r.Verdict(), r)
			require.Equal(t, "7", l.count("SELECT own FROM T.people WHERE id=12"), "a column of the target's own is left alone")
			require.Equal(t, map[bool]string{true: "0", false: "1"}[kind == "sqlite"], l.count("SELECT COUNT(*) FROM T.texts WHERE id='more'"))
			l.exec(l.from, "UPDATE S.users SET age=1", "DELETE FROM S.shard_2", "UPDATE S.floats SET a=a+1", "DELETE FROM S.keys_")
			l.passed()
			r = l.verify(m)
			require.Equal(t, verdict, r.Verdict(), r)
		})
	}
}

// A reader that may not read says what to grant, and a table that is missing what to do.
func TestWhatKeepsAnOtherTargetFromBeingVerifiedIsTold(t *testing.T) {
	l := newOtherLab(t, my97, "postgres")
	l.exec(l.from, "CREATE TABLE S.a (id int PRIMARY KEY)", "CREATE TABLE S.b (id int PRIMARY KEY, x int)", "CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
	v := l.otherVerifier(sink.Unfit{})
	_, err := v.Run(t.Context())
	require.ErrorContains(t, err, "the target has no checkpoint of this pipeline")
	l.change("CREATE TABLE T.b (id int PRIMARY KEY)", "CREATE TABLE T.zz_end (id int PRIMARY KEY)", "CREATE TABLE T.a (id int PRIMARY KEY)")
	l.exec(l.from, "DROP TABLE S.b")
	l.start(sink.Unfit{}, false)
	l.passed()
	l.stop() // it would not take the statements
	l.exec(l.from, "CREATE TABLE S.b (id int PRIMARY KEY, x int)", "CREATE TABLE S.c (id int PRIMARY KEY)")
	r := l.verify(v)
	require.Equal(t, verify.Unknown, r.Verdict(), r)
	require.Equal(t, verify.Equal, table(t, r, l.schema+".a").Verdict)
	require.Contains(t, table(t, r, l.schema+".b").Untold[0], "has no column x")
	require.Contains(t, table(t, r, l.schema+".c").Untold[0], "the target has no table")
	v.Repair, v.Target = true, "x"
	_, err = v.Run(t.Context())
	require.ErrorContains(t, err, "open them by sink.MendPostgres or sink.MendSQLite")
	require.ErrorContains(t, err, "Target and TargetRows are both set")
	v.Repair, v.DryRun, v.Target = false, true, ""
	_, err = v.Run(t.Context())
	require.ErrorContains(t, err, "DryRun says what Repair would do")
}
