package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/verify"
)

// MariaDB's UUID, INET6 and INET4 are their bytes elsewhere, also in keys. An ENUM or
// SET may be a part of a key, of which ranges are the same on both sides.
func TestTypesWithATextOfTheirOwnAreBytesElsewhere(t *testing.T) {
	keys := map[string]string{"uuids": "id", "addresses": "ip,e", "small": "i4,s"}
	create := func(kind testenv.Kind, key string) string {
		types := "(id binary(16), ip binary(16), i4 binary(4)"
		if kind == maria {
			types = "(id uuid, ip inet6, i4 inet4"
		}
		return types + ", e enum('z','y','x'), s set('c','b','a'), n int, PRIMARY KEY (" + key + "))"
	}
	for _, p := range [][2]testenv.Kind{{maria, my97}, {my97, maria}} {
		t.Run(fmt.Sprintf("%s to %s", p[0], p[1]), func(t *testing.T) {
			l := newLab(t, p[0], p[1])
			for name, key := range keys {
				l.exec(l.from, "CREATE TABLE S."+name+" "+create(p[0], key))
				l.exec(l.to, "CREATE TABLE T."+name+" "+create(p[1], key))
			}
			l.both("CREATE TABLE S.zz_end (id int AUTO_INCREMENT PRIMARY KEY)")
			l.run()
			row := func(i int) string {
				return fmt.Sprintf("(UNHEX('%08X%024X'),UNHEX('%032X'),UNHEX('%08X'),%d,%d,%d)", i*7919, i, i*31, i*17, 1+i%3, i%8, i)
			}
			for name := range keys {
				var all []string
				for i := range 3000 {
					all = append(all, row(i))
				}
				l.exec(l.from, "INSERT INTO S."+name+" VALUES "+strings.Join(all, ","))
			}
			l.passed()
			v := l.verifier()
			r := l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
			require.EqualValues(t, 9001, r.Tables[0].Rows+r.Tables[1].Rows+r.Tables[2].Rows+r.Tables[3].Rows)
			for name := range keys {
				l.exec(l.to, "UPDATE T."+name+" SET n=-1 WHERE n=17", "DELETE FROM T."+name+" WHERE n=33", "INSERT INTO T."+name+" VALUES "+row(9000))
			}
			v.Repair = true
			r = l.verify(v)
			for name := range keys {
				x := table(t, r, l.schema+"."+name)
				require.Equal(t, []int{1, 1, 1, 3}, []int{x.Missing, x.Extra, x.Different, x.Repaired}, "%s\n%s", name, r)
			}
			v.Repair = false
			r = l.verify(v)
			require.Equal(t, verify.Equal, r.Verdict(), r)
		})
	}
}
