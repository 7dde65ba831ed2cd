package dfstest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
)

// Run gives transactions to stages, all in one batch, and returns what comes out.
// The transactions stay as they are. If a stage fails, what it left is returned
// as well.
func Run(ctx context.Context, stages []dfs.Stage, txs ...dfs.Transaction) ([]*dfs.Transaction, error) {
	return run(ctx, stages, txs, len(txs))
}

// Through sends a script through stages and returns what comes out, as Format
// writes it. A mistake in the script and a stage that fails end the test.
func Through(tb testing.TB, script string, stages ...dfs.Stage) string {
	tb.Helper()
	s, err := Parse(script)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := Run(tb.Context(), stages, s.Transactions...)
	if err != nil {
		tb.Fatal(err)
	}
	return Format(out...)
}

// run gives the stages n transactions at a time.
func run(ctx context.Context, stages []dfs.Stage, txs []dfs.Transaction, n int) (out []*dfs.Transaction, err error) {
	for len(txs) > 0 {
		n = min(n, len(txs))
		var batch []*dfs.Transaction
		for i := range txs[:n] {
			batch = append(batch, clone(txs[i]))
		}
		txs = txs[n:]
		out = append(out, batch...)
		for i, s := range stages {
			given := append([]*dfs.Transaction(nil), batch...)
			heads := make([]dfs.Checkpoint, n)
			for k, tx := range batch {
				heads[k] = tx.Checkpoint
			}
			if err := s.Process(ctx, batch); err != nil {
				return out, fmt.Errorf("stage %d: %w", i+1, err)
			}
			for k, tx := range batch {
				if tx != given[k] || tx.Checkpoint != heads[k] {
					return out, fmt.Errorf("stage %d moved or replaced transaction %d, which a stage may not do", i+1, heads[k].Seq)
				}
			}
		}
	}
	return out, nil
}

// CheckStage checks that a stage keeps the contract of dfs.Stage, on transactions
// that it should take without an error: what comes out is the same when it is run
// again, by a stage that was opened anew, and whether the transactions come one
// by one or together; and none is dropped, added or moved.
func CheckStage(t *testing.T, open func(t *testing.T) dfs.Stage, txs ...dfs.Transaction) {
	t.Helper()
	want := ""
	for _, c := range []struct {
		name string
		size int
	}{{"all at once", max(len(txs), 1)}, {"one by one", 1}, {"by threes", 3}} {
		s := open(t)
		for range 2 {
			out, err := run(t.Context(), []dfs.Stage{s}, txs, c.size)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got := Format(out...)
			if want == "" {
				want = got
			}
			if got != want {
				t.Fatalf("%s: what came out differs.\ngot:\n%s\nbefore:\n%s", c.name, got, want)
			}
		}
	}
	if n := strings.Count("\n"+want, "\ncommit") + strings.Count("\n"+want, "\nmore"); n != len(txs) {
		t.Fatalf("%d transactions came out, and %d went in", n, len(txs))
	}
}
