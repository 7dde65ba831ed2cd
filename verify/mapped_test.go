package verify_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// units makes units of a lab's schema, and what verify is told of them.
func (l *lab) units(list []dpu.Unit) (stages []dfs.Stage, shapes func(*dfs.Table) ([]verify.Shape, error)) {
	l.t.Helper()
	u, err := dpu.New(list, &dpu.Options{HashKey: []byte("0123456789abcdef")})
	require.NoError(l.t, err)
	return []dfs.Stage{u}, func(t *dfs.Table) (shapes []verify.Shape, err error) {
		made, err := u.Targets(t)
		for _, m := range made {
			if m.Table == nil {
				continue
			}
			s := verify.Shape{Table: m.Table, From: make([]string, len(m.Table.Columns))}
			for i, o := range m.Origins {
				if t.Column(o) >= 0 {
					s.From[i] = o
				}
			}
			shapes = append(shapes, s)
		}
		return shapes, err
	}
}

func TestRowsThatUnitsReshapeAreComparedWithWhatTheyMustBe(t *testing.T) {
	for _, p := range [][2]testenv.Kind{{my97, my97}, {my56, my97}, {maria, my97}, {my97, maria}} {
		t.Run(string(p[0]+" to "+p[1]), func(t *testing.T) {
			l := newLab(t, p[0], p[1])
			list := []dpu.Unit{
				{From: l.schema + ".users", Where: dpu.Where{Expr: `state != "gone"`}, Drop: []string{"secret"}, Rename: map[string]string{"mail": "email"},
					Mask: map[string]dpu.Mask{"phone": "hash"}, Cast: map[string]string{"score": "decimal(12,3)"},
					Columns: []dpu.Column{{Name: "double_age", Type: "bigint", Expr: "(age ?? 0) * 2"}}, Into: l.schema + ".people"},
				{From: l.schema + ".parts_a", Into: l.schema + ".wide", Part: true},
				{From: l.schema + ".parts_b", Into: l.schema + ".wide", Part: true},
			}
			l.exec(l.from, "CREATE TABLE S.users (id bigint PRIMARY KEY, mail varchar(60) CHARACTER SET latin1, secret varchar(20), phone varchar(30), age int, score double, "+
				"state enum('new','old','gone') NOT NULL, born date, seen timestamp(3) NULL, span time(2), bits bit(9), raw varbinary(20)) CHARACTER SET utf8mb4",
				"CREATE TABLE S.parts_a (id int PRIMARY KEY, a varchar(20) NOT NULL)", "CREATE TABLE S.parts_b (id int PRIMARY KEY, b varchar(20) NOT NULL)",
				"CREATE TABLE S.plain (id int PRIMARY KEY, a varchar(20))", "CREATE TABLE S.shard_1 (id int PRIMARY KEY, a int)", "CREATE TABLE S.shard_2 (id int PRIMARY KEY, a int)",
				"CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.exec(l.to, "CREATE TABLE T.people (id bigint PRIMARY KEY, email varchar(60), phone varchar(80), age bigint, score decimal(12,3), "+
				"state enum('x','gone','old','new') NOT NULL, born date, seen datetime(3) NULL, span time(2), bits bit(9), raw varbinary(20), double_age bigint, own int) CHARACTER SET utf8mb4",
				"CREATE TABLE T.wide (id int PRIMARY KEY, a varchar(20), b varchar(20))",
				"CREATE TABLE T.plain (id int PRIMARY KEY, a varchar(20))", "CREATE TABLE T.shards (id int PRIMARY KEY, a int)",
				"CREATE TABLE T.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.routes = []sink.Route{{From: l.schema + ".shard_*", To: l.target() + ".shards"}, l.routes[0]}
			l.stages, _ = l.units(list)
			l.run()
			for i := range 3 {
				l.exec(l.from, "INSERT INTO S.users VALUES "+rows(i*400, i*400+400,
					"(#,CONCAT('ä#@x'),'s','+49 #',IF(#%5,#,NULL),#/7,1+#%3,'2024-02-29','2024-05-06 07:08:09.123','-12:34:56.78',#%512,UNHEX('00ff27'))"))
			}
			l.exec(l.from, "INSERT INTO S.parts_a VALUES "+rows(0, 30, "(#,'a#')"), "INSERT INTO S.parts_b VALUES "+rows(10, 40, "(#,'b#')"),
				"INSERT INTO S.plain VALUES "+rows(0, 30, "(#,'p#')"), "INSERT INTO S.shard_1 VALUES "+rows(0, 30, "(#,#)"), "INSERT INTO S.shard_2 VALUES "+rows(100, 130, "(#,#)"),
				"UPDATE S.users SET state='gone' WHERE id BETWEEN 600 AND 700", "UPDATE S.users SET phone='1', age=age+1 WHERE id>1100")
			l.passed()

			v := l.verifier()
			v.Stages, v.Shapes = l.units(list)
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			require.EqualValues(t, 1200, table(t, r, l.schema+".users").Rows)
			require.EqualValues(t, 60, table(t, r, l.schema+".shard_1,"+l.schema+".shard_2").TargetRows)

			l.exec(l.to, "UPDATE T.people SET email='other' WHERE id=7", "DELETE FROM T.people WHERE id=9", "UPDATE T.people SET score=score+0.001 WHERE id=12",
				"INSERT INTO T.people (id,state) VALUES (602,'new'),(99999,'old')", "UPDATE T.wide SET b='other' WHERE id=20", "DELETE FROM T.wide WHERE id=39",
				"INSERT INTO T.wide VALUES (77,'a','b')", "UPDATE T.shards SET a=0 WHERE id=105", "INSERT INTO T.shards VALUES (50,1)", "UPDATE T.plain SET a='other' WHERE id=3")
			r = l.verify(v)
			counts := func(name string) []int {
				x := table(t, r, name)
				require.Empty(t, x.Untold, x.String())
				return []int{x.Missing, x.Extra, x.Different, x.Repaired}
			}
			users, wide, shards := l.schema+".users", l.schema+".parts_a,"+l.schema+".parts_b", l.schema+".shard_1,"+l.schema+".shard_2"
			require.Equal(t, []int{1, 2, 2, 0}, counts(users), r)
			require.Equal(t, []int{1, 1, 1, 0}, counts(wide), r)
			require.Equal(t, []int{0, 1, 1, 0}, counts(shards), r)
			require.Equal(t, []int{0, 0, 1, 0}, counts(l.schema+".plain"), r)
			require.Contains(t, r.String(), `id=12; score is 1.714 on the source, 1.715 on the target`)

			v.Repair = true
			r = l.verify(v)
			require.Equal(t, []int{1, 2, 2, 5}, counts(users), r)
			require.Equal(t, []int{1, 1, 1, 3}, counts(wide), r)
			require.Equal(t, []int{0, 1, 1, 2}, counts(shards), r)
			v.Repair = false
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			l.exec(l.from, "UPDATE S.users SET age=1", "DELETE FROM S.parts_b")
			l.passed()
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
		})
	}
}
