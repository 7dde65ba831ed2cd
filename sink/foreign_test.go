package sink

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Some servers let two tables of a schema have foreign keys of one name.
func TestForeignKeysOfOneNameAreThoseOfTheirTables(t *testing.T) {
	row := func(fields ...string) (r []cell) {
		for _, f := range fields {
			r = append(r, cell{text: f})
		}
		return r
	}
	to := &table{columns: []targetColumn{{name: "id"}, {name: "code"}}}
	keys := new(session).foreignKeys(to, [][]cell{
		row("s", "fk", "s", "a", "id", "RESTRICT", "NO ACTION"),
		row("s", "fk", "s", "a", "code", "RESTRICT", "NO ACTION"),
		row("s", "fk", "s", "b", "id", "CASCADE", "NO ACTION"),
	})
	require.Equal(t, []foreignKey{
		{other: "s.a", columns: []int{0, 1}},
		{other: "s.b", columns: []int{0}, acts: true},
	}, keys)
}

// A foreign key that acts refers to a column which the source lacks.
func TestForeignKeyToAColumnOfTheTargetAloneActsInPlace(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".p (id int PRIMARY KEY, own int NOT NULL DEFAULT 7, UNIQUE (own))",
				"CREATE TABLE "+s+".c (id int PRIMARY KEY, own int, FOREIGN KEY (own) REFERENCES "+s+".p (own) ON DELETE CASCADE)",
				"INSERT INTO "+s+".p VALUES (1,7), (9,9)")
			m := openSink(t, srv, &MySQLOptions{Name: s})
			id := func(name string) *dfs.Table {
				return &dfs.Table{Schema: s, Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}}}
			}
			p, c := id("p"), &dfs.Table{Schema: s, Name: "c", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "own", Type: "int"}}}
			row := func(v ...int64) (r dfs.Row) {
				for _, x := range v {
					r = append(r, dfs.IntValue(x))
				}
				return r
			}
			// The child comes first, and goes with its parent.
			child := ins(c, row(2, 7))
			child.NoForeignKeys = true
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, del(p, row(9))), txn(2, child), txn(3, del(p, row(1)))}))
			require.Empty(t, rows(t, srv, "SELECT * FROM "+s+".c"))
			require.Empty(t, rows(t, srv, "SELECT * FROM "+s+".p"))
		})
	}
}
