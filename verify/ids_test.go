package verify_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/dataflowsync/dfs/verify"
)

// Rows that get new ids are compared through the map, which the pipeline has open and
// writes to: rows that come meanwhile are no false alarm, and rows of others on the
// target are left alone.
func TestRowsWithNewIDsAreComparedThroughTheMap(t *testing.T) {
	for _, p := range [][2]testenv.Kind{{maria, my97}} {
		t.Run(string(p[0]+" to "+p[1]), func(t *testing.T) {
			l := newLab(t, p[0], p[1])
			l.exec(l.from, "CREATE TABLE S.users (id bigint PRIMARY KEY, mail varchar(60))",
				"CREATE TABLE S.orders (id int PRIMARY KEY, user_id bigint NOT NULL, n int, FOREIGN KEY (user_id) REFERENCES users (id))",
				"CREATE TABLE S.items (order_id int, line int, what varchar(20), PRIMARY KEY (order_id, line), FOREIGN KEY (order_id) REFERENCES orders (id))",
				"CREATE TABLE S.tags (name varchar(20) PRIMARY KEY, about bigint)", "CREATE TABLE S.plain (id int PRIMARY KEY)",
				"CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.exec(l.to, "CREATE TABLE T.users (id bigint PRIMARY KEY, mail varchar(60))",
				"CREATE TABLE T.orders (id int PRIMARY KEY, user_id bigint NOT NULL, n int, FOREIGN KEY (user_id) REFERENCES users (id))",
				"CREATE TABLE T.items (order_id int, line int, what varchar(20), PRIMARY KEY (order_id, line), FOREIGN KEY (order_id) REFERENCES orders (id))",
				"CREATE TABLE T.tags (name char(36) PRIMARY KEY, about bigint)", "CREATE TABLE T.plain (id int PRIMARY KEY)",
				"CREATE TABLE T.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			key := func(child, column, parent string) relmgr.ForeignKey {
				return relmgr.ForeignKey{Schema: l.schema, Table: child, Name: child + "_" + column, Columns: []string{column},
					ParentSchema: l.schema, Parent: parent, ParentColumns: []string{"id"}, ParentFollowed: true}
			}
			open := func(o relmgr.Options) *relmgr.Manager {
				o.ForeignKeys = []relmgr.ForeignKey{key("orders", "user_id", "users"), key("items", "order_id", "orders")}
				o.References = []relmgr.Reference{{Table: l.schema + ".tags", Columns: []string{"about"}, Parent: l.schema + ".users"}}
				o.Policies = []relmgr.Policy{{Table: l.schema + ".tags", IDs: relmgr.UUID, Type: "char(36)"}, {Table: l.schema + ".plain", IDs: relmgr.Keep}, {Table: l.schema + ".zz_end", IDs: relmgr.Keep}}
				m, err := relmgr.Open(filepath.Join(t.TempDir(), "..", "map"), &o)
				require.NoError(t, err)
				return m
			}
			ids := open(relmgr.Options{})
			defer ids.Close()
			l.stages = []dfs.Stage{ids}
			l.run()
			l.exec(l.from, "INSERT INTO S.users VALUES "+rows(1, 301, "(#*7,'m#')"), "INSERT INTO S.orders VALUES "+rows(1, 401, "(#,(1+#%300)*7,#)"),
				"INSERT INTO S.items VALUES "+rows(1, 401, "(#,1,'a#'),(#,2,'b#')"), "INSERT INTO S.tags VALUES "+rows(1, 51, "('t#',7*#)"), "INSERT INTO S.plain VALUES "+rows(0, 50, "(#)"))
			l.passed()
			l.exec(l.to, "INSERT INTO T.users VALUES (-5,'somebody else''s')", "INSERT INTO T.tags VALUES ('theirs',-5)")

			look := open(relmgr.Options{ReadOnly: true})
			defer look.Close()
			v := l.verifier()
			v.Stages = []dfs.Stage{look}
			v.Shapes = func(t *dfs.Table) ([]verify.Shape, error) {
				out, err := look.Table(t)
				if err != nil {
					return nil, err
				}
				s := verify.Shape{Table: out}
				for i := range out.Columns {
					s.From = append(s.From, out.Columns[i].Name)
				}
				if t.Name != "plain" && t.Name != "zz_end" {
					s.Old = func(ctx context.Context, key []dfs.Value) ([]string, bool, error) {
						values := make([]any, len(key))
						for i := range key {
							values[i] = key[i]
						}
						return look.Old(ctx, t.String(), values...)
					}
				}
				return []verify.Shape{s}, nil
			}
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			require.EqualValues(t, 800, table(t, r, l.schema+".items").Rows)

			// Under load.
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan bool)
			go func() {
				defer close(done)
				rng := rand.New(rand.NewPCG(1, 2))
				for n := 1000; ctx.Err() == nil; n++ {
					i := min(n, 1499) // a table that grows as fast as it is read is not read to its end
					for _, q := range []string{fmt.Sprintf("INSERT INTO S.users VALUES (%d,'n')", i*7), fmt.Sprintf("INSERT INTO S.orders VALUES (%d,%d,1)", i, i*7),
						fmt.Sprintf("INSERT INTO S.items VALUES (%d,1,'c')", i), fmt.Sprintf("UPDATE S.orders SET n=n+1, user_id=%d WHERE id=%d", 7*(1000+rng.IntN(i-999)), 1+rng.IntN(400)),
						fmt.Sprintf("DELETE FROM S.items WHERE order_id=%d", 1+rng.IntN(400)), fmt.Sprintf("INSERT INTO S.tags VALUES ('l%d',%d)", i, i*7)} {
						if n > i && strings.HasPrefix(q, "INSERT") {
							continue
						}
						if _, err := l.from.ExecContext(ctx, l.sql(q)); err != nil && ctx.Err() == nil {
							t.Error(err)
							return
						}
					}
					time.Sleep(time.Millisecond) // to leave the processor to others
				}
			}()
			for range 2 {
				r := l.verify(v)
				require.Equal(t, verify.Equal, r.Verdict(), r)
			}
			stop()
			<-done
			l.passed()

			// What is wrong is found, also what the pipeline has never carried.
			l.exec(l.to, "UPDATE T.orders SET n=-1 ORDER BY id LIMIT 1", "DELETE FROM T.items ORDER BY order_id LIMIT 2")
			c, err := l.from.Conn(t.Context())
			require.NoError(t, err)
			defer c.Close()
			for _, q := range []string{"SET sql_log_bin=0", "INSERT INTO S.users VALUES (1,'never')", "DELETE FROM S.tags WHERE name='t3'"} {
				_, err := c.ExecContext(t.Context(), l.sql(q))
				require.NoError(t, err)
			}
			r = l.verify(v)
			counts := func(name string) [3]int {
				x := table(t, r, l.schema+"."+name)
				require.Empty(t, x.Untold, x.String())
				return [3]int{x.Missing, x.Extra, x.Different}
			}
			require.Equal(t, [3]int{0, 0, 1}, counts("orders"), r)
			require.Equal(t, [3]int{2, 0, 0}, counts("items"), r)
			require.Equal(t, [3]int{1, 0, 0}, counts("users"), r)
			require.Equal(t, [3]int{0, 1, 0}, counts("tags"), r)
			require.Contains(t, r.String(), "the map has no new id for it")
			require.Contains(t, r.String(), "they are others'")

			v.Repair = true
			l.verify(v)
			v.Repair = false
			r = l.verify(v)
			require.Equal(t, [3]int{1, 0, 0}, counts("users"), r)
			require.Equal(t, [3]int{}, counts("orders"), r)
			require.Equal(t, [3]int{}, counts("tags"), r)
			var others int
			require.NoError(t, l.to.QueryRow(l.sql("SELECT COUNT(*) FROM T.users JOIN T.tags ON about=id WHERE id=-5")).Scan(&others))
			require.Equal(t, 1, others, "rows of others are there still")
		})
	}
}
