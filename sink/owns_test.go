package sink

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// A source may itself be a target, with a checkpoint of the same name: its rows
// must not move this one.
func TestRowsForThePipelinesOwnTablesAreRefused(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	m := openSink(t, srv, &MySQLOptions{Schema: s, Routes: []Route{{From: "dfs.*", To: s + ".*"}}, DDL: PolicyApply})
	cp := &dfs.Table{Schema: "dfs", Name: "dfs_checkpoint", Key: []int{0}, Columns: []dfs.Column{
		{Name: "name", Type: "varchar(64)", Charset: "utf8mb4", Collation: "utf8mb4_bin"}, {Name: "seq", Type: "bigint unsigned"},
	}}
	require.ErrorContains(t, m.CheckTables(t.Context(), []*dfs.Table{cp}), "dfs.dfs_checkpoint would be written to "+s+".dfs_checkpoint, which is the pipeline's own")
	before, after := dfs.Row{dfs.StringValue("dfs"), dfs.UintValue(0)}, dfs.Row{dfs.StringValue("dfs"), dfs.UintValue(77)}
	require.ErrorContains(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1, upd(cp, before, after))}), "the pipeline's own")
	require.Equal(t, []string{"0"}, rows(t, srv, "SELECT seq FROM "+s+".dfs_checkpoint"))
	// That it has rows is no reason to say that it is to be emptied.
	require.NoError(t, m.CheckEmpty(t.Context(), []*dfs.Table{cp}))
	cp.Name = "dfs_ids"
	require.ErrorContains(t, m.CheckTables(t.Context(), []*dfs.Table{cp}), "the pipeline's own")
}
