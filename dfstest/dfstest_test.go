package dfstest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/sink/sinktest"
	"github.com/stretchr/testify/require"
)

func TestTargetKeepsTheContractOfASink(t *testing.T) {
	sinktest.Run(t, "shop", func(t *testing.T) sinktest.Target {
		var target dfstest.Target
		return sinktest.Target{
			Open: func(testing.TB) dfs.Sink { return target.Open() },
			Rows: func(tb testing.TB) (rows []sinktest.Row) {
				for _, line := range target.Rows("shop.items", "id", "name", "n") {
					f := strings.Split(line, "|")
					id, _ := strconv.ParseInt(f[0], 10, 64)
					n, _ := strconv.ParseInt(f[2], 10, 64)
					rows = append(rows, sinktest.Row{ID: id, Name: f[1], N: n})
				}
				slices.SortFunc(rows, func(a, b sinktest.Row) int { return cmp.Compare(a.ID, b.ID) })
				return rows
			},
		}
	})
}

// A pipeline between the two fakes arrives whatever fails on the way.
func TestPipelineSurvivesRandomFaults(t *testing.T) {
	table := dfstest.Table(t, "s.n (id bigint, v int, key id)")
	for seed := range uint64(20) {
		var txs []dfs.Transaction
		for i := range 200 {
			txs = append(txs, dfs.Transaction{More: i%7 == 2, Changes: []dfs.Change{dfstest.Insert(t, table, i, i)}})
		}
		fault := dfstest.Random(seed, 0.1)
		target := &dfstest.Target{Fault: fault}
		p := &dfs.Pipeline{
			Source: &dfstest.Source{Transactions: txs, Fault: fault}, Sink: target.Open(), MaxBatch: 10, RetryWait: 1,
			Logger: slog.New(slog.DiscardHandler),
		}
		require.NoError(t, p.Run(t.Context()))
		require.Len(t, target.Rows("s.n", "id"), 200)
		for i, tx := range target.Transactions() {
			require.Equal(t, uint64(i+1), tx.Seq)
		}
	}
}

func TestOnceFailsOnce(t *testing.T) {
	boom := errors.New("boom")
	target := &dfstest.Target{Fault: dfstest.Once("sink apply", 2, boom)}
	k := target.Open()
	_, err := k.Checkpoint(t.Context())
	require.NoError(t, err)
	tx := func(n uint64) []*dfs.Transaction {
		return []*dfs.Transaction{{Checkpoint: dfs.Checkpoint{Seq: n}}}
	}
	require.NoError(t, k.Apply(t.Context(), tx(1)))
	require.ErrorIs(t, k.Apply(t.Context(), tx(2)), boom)
	require.NoError(t, k.Apply(t.Context(), tx(2)))
}

func TestTargetIsStrict(t *testing.T) {
	table := dfstest.Table(t, "s.t (id int, v int, key id)")
	for _, c := range []struct {
		change dfs.Change
		want   string
	}{
		{dfstest.Insert(t, table, 1, 2), "finds its key taken"},
		{dfstest.Update(t, table, 2, 1, 2, 2), "finds no such row"},
		{dfstest.Delete(t, table, 2, 1), "finds no such row"},
		{dfs.Change{Op: dfs.Insert, Table: table}, "does not have the 2 columns"},
	} {
		var target dfstest.Target
		k := target.Open()
		_, err := k.Checkpoint(t.Context())
		require.NoError(t, err)
		first := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 1}, Changes: []dfs.Change{dfstest.Insert(t, table, 1, 1)}}
		require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{first}))
		err = k.Apply(t.Context(), []*dfs.Transaction{{Checkpoint: dfs.Checkpoint{Seq: 2}, Changes: []dfs.Change{c.change}}})
		require.ErrorContains(t, err, c.want)
		require.Equal(t, []string{"1|1"}, target.Rows("s.t", "id", "v"))
	}
}

const script = `# every kind of value
table s.v (i bigint unsigned, d decimal(5,2), f double, s varchar(20) null, b blob, j json, t datetime(3), e enum('x','y,z'), key i)

insert s.v 18446744073709551615, 1.5, 2.5, "a, \"b\" -> c", 0x00ff, "{\"a\": 1}", "2026-11-22 10:00:00.5", "y,z"
update s.v 1, 1, 1, NULL, "raw", "1", "2026-11-22 10:00:00", "x" -> 1, 2, 1, ABSENT, "raw", "1", "0000-00-00", "x"
commit a:1
part nofk delete s.v 1, 1, 1, NULL, "", "null", "2026-11-22", "x"
ddl s.v ALTER TABLE v ADD x int
more
commit b:2
`

func TestScriptsAreReadAndWritten(t *testing.T) {
	s, err := dfstest.Parse(script)
	require.NoError(t, err)
	require.Len(t, s.Transactions, 3)
	out, err := dfstest.Run(t.Context(), nil, s.Transactions...)
	require.NoError(t, err)
	want := `insert s.v i=18446744073709551615, d=1.50, f=2.5, s="a, \"b\" -> c", b=0x00ff, j="{\"a\": 1}", t="2026-11-22 10:00:00.500", e="y,z"
update s.v i=1, d=1.00, f=1, s=NULL, b=0x726177, j="1", t="2026-11-22 10:00:00.000", e="x" -> i=1, d=2.00, f=1, s=ABSENT, b=0x726177, j="1", t="0000-00-00 00:00:00.000", e="x"
commit a:1
part nofk delete s.v i=1, d=1.00, f=1, s=NULL, b=0x, j="null", t="2026-11-22 00:00:00.000", e="x"
ddl s.v ALTER TABLE v ADD x int
more
commit b:2
`
	require.Equal(t, want, dfstest.Format(out...))

	// What is written can be read again.
	again, err := dfstest.Parse(strings.SplitN(script, "\n", 3)[1] + "\n" + want)
	require.NoError(t, err)
	out, err = dfstest.Run(t.Context(), nil, again.Transactions...)
	require.NoError(t, err)
	require.Equal(t, want, dfstest.Format(out...))
}

func TestFaultsOfScriptsAreNamed(t *testing.T) {
	const table = "table s.t (id int, name varchar(3), key id)\n"
	for _, c := range []struct{ text, want string }{
		{"insert s.t 1", `line 1: the table "s.t" is not described before`},
		{table + "insert s.t 1\ncommit", "line 2: 1 values for the 2 columns of s.t"},
		{table + "insert s.t 1, long\ncommit", "column name of s.t: long is neither"},
		{table + `insert s.t 1, "long"` + "\ncommit", "column name of s.t"},
		{table + `update s.t 1, "a"` + "\ncommit", "line 2: an update has the values before, ->"},
		{table + `insert s.t 1, "a"`, "the last transaction has no commit"},
		{"table s.t (id what)", `the type "what" is not known`},
		{"table s.t (id int, key x)", "which is not there"},
		{"upsert s.t 1", `"upsert": a line begins with`},
	} {
		_, err := dfstest.Parse(c.text)
		require.ErrorContains(t, err, c.want, c.text)
	}
}

func TestRunLeavesItsInputAlone(t *testing.T) {
	table := dfstest.Table(t, "s.t (id int, key id)")
	tx := dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, table, 1)}}
	stage := dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
		batch[0].Changes[0].After[0] = dfs.IntValue(9)
		return nil
	})
	out, err := dfstest.Run(t.Context(), []dfs.Stage{stage, stage}, tx)
	require.NoError(t, err)
	require.Equal(t, int64(1), tx.Changes[0].After[0].Int())
	require.Equal(t, int64(9), out[0].Changes[0].After[0].Int())
}

func TestRunNoticesAStageThatMovesTransactions(t *testing.T) {
	swap := dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
		batch[0], batch[1] = batch[1], batch[0]
		return nil
	})
	_, err := dfstest.Run(t.Context(), []dfs.Stage{swap}, dfs.Transaction{}, dfs.Transaction{})
	require.ErrorContains(t, err, "stage 1 moved or replaced transaction")
}

func TestCheckStagePassesAStageThatKeepsTheContract(t *testing.T) {
	table := dfstest.Table(t, "s.t (id int, key id)")
	var txs []dfs.Transaction
	for i := range 10 {
		txs = append(txs, dfs.Transaction{ID: fmt.Sprint(i), Changes: []dfs.Change{dfstest.Insert(t, table, i)}})
	}
	dfstest.CheckStage(t, func(*testing.T) dfs.Stage {
		return dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
			for _, tx := range batch {
				tx.Changes = append(tx.Changes, tx.Changes...)
			}
			return nil
		})
	}, txs...)
}
