package sink_test

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// dated is a table whose dates may be none of PostgreSQL's.
var dated = &dfs.Table{Schema: "source", Name: "dated", Key: []int{0}, Columns: []dfs.Column{
	{Name: "id", Type: "int"}, {Name: "d", Type: "date", Nullable: true}, {Name: "n", Type: "int", Nullable: true}}}

func datedRow(id int64, day int, n int64) dfs.Row {
	return dfs.Row{dfs.IntValue(id), dfs.DateValue(2024, min(day, 1), day), dfs.IntValue(n)}
}

func datedTx(seq uint64, more bool, changes ...dfs.Change) *dfs.Transaction {
	for i := range changes {
		changes[i].Table = dated
	}
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "there"}, More: more, Changes: changes}
}

// The value that cannot be held is met before anything was sent: the savepoint to
// return to must be there all the same.
func TestPostgresNamesTheUpdateWhoseValueItCannotHold(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".dated (id int PRIMARY KEY, d date, n int)")
	p := openPostgres(t, srv, schema, nil)
	defer p.Close()
	_, err := p.Checkpoint(t.Context())
	require.NoError(t, err)
	var all []dfs.Change
	for i := int64(1); i <= 100; i++ {
		all = append(all, dfs.Change{Op: dfs.Insert, After: datedRow(i, 1, 0)})
	}
	require.NoError(t, p.Apply(t.Context(), []*dfs.Transaction{datedTx(1, false, all...)}))
	run := func(seq uint64, more bool) (list []*dfs.Transaction) {
		for i := int64(1); i <= 100; i++ {
			day := 2
			if i == 70 {
				day = 0
			}
			list = append(list, datedTx(seq+uint64(i)-1, more, dfs.Change{Op: dfs.Update, Before: datedRow(i, 1, 0), After: datedRow(i, day, 0)}))
		}
		return list
	}
	var unfit *sink.UnfitError
	require.ErrorAs(t, p.Apply(t.Context(), run(2, false)), &unfit)
	require.Equal(t, "69", srv.Query(t, "SELECT count(*) FROM "+schema+".dated WHERE d='2024-01-02'")[0][0])

}

// A row of the target's own has a value that the source's column may have and the
// target's not. Written beside others it fails, and not by itself. What came in
// an earlier part stays.
func TestPostgresGoesBackToTheBeginningOfAPart(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".dated (id int PRIMARY KEY, d date, n int)",
		"INSERT INTO "+schema+".dated VALUES (1,NULL,0),(2,'2024-01-01',0),(3,'2024-01-01',0),(4,'2024-01-01',0)")
	p := openPostgres(t, srv, schema, nil)
	defer p.Close()
	_, err := p.Checkpoint(t.Context())
	require.NoError(t, err)
	apply := func(tx *dfs.Transaction) {
		require.NoError(t, p.Apply(t.Context(), []*dfs.Transaction{tx}))
	}
	apply(datedTx(1, true, dfs.Change{Op: dfs.Update, Before: datedRow(2, 1, 0), After: datedRow(2, 1, 7)}))
	apply(datedTx(2, true, dfs.Change{Op: dfs.Update, Before: datedRow(3, 1, 0), After: datedRow(3, 1, 7)}))
	apply(datedTx(3, false,
		dfs.Change{Op: dfs.Update, Before: datedRow(4, 1, 0), After: datedRow(4, 2, 7)},
		dfs.Change{Op: dfs.Update, Before: datedRow(1, 0, 0), After: datedRow(1, 0, 7)}))
	require.Equal(t, [][]string{{"1", "7"}, {"2", "7"}, {"3", "7"}, {"4", "7"}}, srv.Query(t, "SELECT id, n FROM "+schema+".dated ORDER BY id"))
}
