package relmgr_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/internal/fixture"
	"github.com/dataflowsync/dfs/relmgr"
)

const storedTables = `
table s.users (id bigint, name varchar(20), boss bigint null, key id)
table s.codes (code char(36), key code)
`

var storedOptions = relmgr.Options{ForeignKeys: shopKeys[:1], Policies: []relmgr.Policy{{Table: "s.codes", IDs: relmgr.UUID}}}

// What earlier releases have written is read, and written on: ids stay what they are.
func TestStoredMaps(t *testing.T) {
	for _, version := range []string{"1", "2", "3"} {
		t.Run("version "+version, func(t *testing.T) {
			send := func(path, script string) string {
				s, err := dfstest.Parse(storedTables + script)
				require.NoError(t, err)
				for i := range s.Transactions {
					s.Transactions[i].Seq += 10
				}
				o := storedOptions
				o.Tables, o.Adopt = s.Tables, true
				m, err := relmgr.Open(path, &o)
				require.NoError(t, err)
				out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
				require.NoError(t, err)
				require.NoError(t, m.Close())
				return dfstest.Format(out...)
			}
			dir := fixture.Unpack(t, filepath.Join("testdata", "formats", "map-"+version+".tgz"), func(dir string) {
				path := filepath.Join(dir, "map")
				send(path, "insert s.users 5, \"a\", 9\ninsert s.users 70000, \"b\", 5\ninsert s.codes \"x\"\ncommit\n")
				if version < "3" {
					t.Fatal("this program writes version 3")
				}
			})
			path := filepath.Join(dir, "map")
			require.Regexp(t, `^insert s\.users id=1, name="a", boss=2
update s\.users id=3, name="b", boss=1 -> id=3, name="c", boss=2
insert s\.users id=2, name="d", boss=1
insert s\.users id=4, name="e", boss=NULL
`, send(path, "insert s.users 5, \"a\", 9\nupdate s.users 70000, \"b\", 5 -> 70000, \"c\", 9\ninsert s.users 9, \"d\", 5\ninsert s.users 200000, \"e\", NULL\ncommit\n"))
		})
	}
}
