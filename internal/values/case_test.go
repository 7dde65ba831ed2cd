package values_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// A target that keeps names in lower case has one table for each that the source
// writes in mixed case. Two that meet there are refused when the pipeline starts.
func TestNamesInMixedCaseMeetLowerOnes(t *testing.T) {
	b := newBench(t, pair{my97, maria}, testenv.Shared(t, my97), testenv.Start(t, maria, "--lower-case-table-names=1"))
	b.both("CREATE TABLE `Mixed` (id int PRIMARY KEY, n int)")
	b.run(false, func() {
		b.exec(b.from, "INSERT INTO `Mixed` VALUES (1,1),(2,2)")
		b.exec(b.from, "UPDATE `Mixed` SET n=n+1")
	})
	b.refusals()
	b.same("Mixed", "SELECT * FROM `Mixed`", "SELECT * FROM `Mixed`")
	require.Equal(t, []string{"1|2", "2|3"}, b.rows(b.to, "SELECT * FROM `Mixed`"))

	b.exec(b.to, "CREATE TABLE two (id int PRIMARY KEY)")
	dst, err := sink.OpenMySQL(t.Context(), b.dst.DSN(""), &sink.MySQLOptions{Name: "case"})
	require.NoError(t, err)
	defer dst.Close()
	one := func(name string) *dfs.Table {
		return &dfs.Table{Schema: b.schema, Name: name, Columns: []dfs.Column{{Name: "id", Type: "int"}}, Key: []int{0}}
	}
	require.NoError(t, dst.CheckTables(t.Context(), []*dfs.Table{one("Two")}))
	err = dst.CheckTables(t.Context(), []*dfs.Table{one("Two"), one("two")})
	require.ErrorContains(t, err, "lower_case_table_names")
}
