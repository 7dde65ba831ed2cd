package sink

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Rows as binlog_row_image=MINIMAL logs them: what they leave out stays, or has its
// default, and the row is found by the key that is there.
func TestRowsThatLeaveColumnsOut(t *testing.T) {
	null, out, num := dfs.NullValue(), dfs.AbsentValue(), func(n int64) dfs.Value { return dfs.IntValue(n) }
	a := &dfs.Table{Schema: "x", Name: "a", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"}, {Name: "k", Type: "int"}, {Name: "n", Type: "int"}, {Name: "c", Type: "int", Nullable: true}, {Name: "ts", Type: "timestamp"}}}
	old := dfs.TimestampMicro(946684800e6, 0)
	for _, kind := range testenv.Kinds() {
		for _, at := range []string{"merged", "one by one"} {
			t.Run(string(kind)+" "+at, func(t *testing.T) {
				srv := testenv.Shared(t, kind)
				s := srv.Schema(t)
				srv.Exec(t, "SET time_zone='+00:00'", "CREATE TABLE "+s+".a (id int PRIMARY KEY DEFAULT 77, k int NOT NULL, n int NOT NULL, c int DEFAULT 5, "+
					"ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, UNIQUE (k))")
				m := openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"x.*", s + ".*"}}})
				changes := []dfs.Change{
					ins(a, dfs.Row{num(1), num(1), out, out, old}),
					ins(a, dfs.Row{num(2), num(2), num(3), null, old}),
					ins(a, dfs.Row{out, num(3), out, num(9), old}),
					upd(a, dfs.Row{num(1), out, out, out, out}, dfs.Row{out, out, num(4), out, out}),
					upd(a, dfs.Row{num(2), out, out, out, out}, dfs.Row{out, out, num(5), out, out}),
					upd(a, dfs.Row{out, num(1), out, out, out}, dfs.Row{out, out, out, num(6), out}),
					upd(a, dfs.Row{out, num(2), out, out, out}, dfs.Row{num(8), out, out, out, out}),
					upd(a, dfs.Row{num(77), out, out, out, out}, dfs.Row{out, num(33), out, out, out}),
				}
				want := []string{"1|1|4|6|2000-01-01 00:00:00", "8|2|5|NULL|2000-01-01 00:00:00", "77|33|0|9|2000-01-01 00:00:00"}
				apply := func(seq uint64, changes ...dfs.Change) {
					if at == "merged" {
						require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq, changes...)}))
						return
					}
					for i, c := range changes {
						require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq+uint64(i), c)}))
					}
				}
				apply(1, changes...)
				const query = "SELECT id, k, n, IFNULL(c, 'NULL'), CONVERT_TZ(ts, @@time_zone, '+00:00') FROM "
				require.Equal(t, want, rows(t, srv, query+s+".a ORDER BY id"))
				seq, err := m.Checkpoint(t.Context())
				require.NoError(t, err)
				apply(seq.Seq+1, del(a, dfs.Row{out, num(33), out, out, out}), del(a, dfs.Row{num(8), out, out, out, out}))
				require.Equal(t, want[:1], rows(t, srv, query+s+".a ORDER BY id"))
			})
		}
	}
}

// What the whole row is to be cannot be told from a part of it.
func TestOverwriteNeedsTheWholeRow(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".a (id int PRIMARY KEY, n int, m int)")
	sink := openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"x.*", s + ".*"}}, Conflicts: []ConflictRule{{s + ".*", PolicyOverwrite}}})
	a := &dfs.Table{Schema: "x", Name: "a", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "n", Type: "int"}, {Name: "m", Type: "int"}}}
	out := dfs.AbsentValue()
	err := sink.Apply(t.Context(), []*dfs.Transaction{txn(1, upd(a, dfs.Row{dfs.IntValue(1), out, out}, dfs.Row{out, dfs.IntValue(2), out}))})
	var conflict *ConflictError
	require.ErrorAs(t, err, &conflict)
	require.ErrorContains(t, err, "binlog_row_image=FULL")

	b := &dfs.Table{Schema: "x", Name: "a", Columns: a.Columns}
	err = sink.Apply(t.Context(), []*dfs.Transaction{txn(1, del(b, dfs.Row{out, dfs.IntValue(2), out}))})
	require.ErrorContains(t, err, "lacks the column id")
}
