package dpu_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/queue"
	"github.com/stretchr/testify/require"
)

// A transaction whose row a function panics at, or hangs at, becomes a dead letter,
// and no other does; once the function is mended it is applied.
func TestWhatAFunctionCannotDoBecomesALetter(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context) error{
		"panics":       func(context.Context) error { panic("boom") },
		"hangs":        func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"is left late": func(ctx context.Context) error { <-ctx.Done(); time.Sleep(100 * time.Millisecond); return nil },
		"refuses":      func(context.Context) error { return errors.New("no") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // a machine that halts for a while is no call that takes long
				s, err := dfstest.Parse(tables + "insert eu.orders 1, 2\ncommit a:1\ninsert eu.orders 7, 2\ncommit a:2\n" +
					"insert eu.orders 8, 2\ncommit a:3\nupdate eu.orders 7, 2 -> 7, 3\ncommit a:4\ninsert eu.orders 9, 2\ncommit a:5\n")
				require.NoError(t, err)
				mended := false
				units, err := dpu.New([]dpu.Unit{{From: "eu.orders", Func: func(ctx context.Context, c dpu.Change, emit func(dpu.Change)) error {
					if id := c.Get("id"); id.Int() == 7 && !mended {
						return f(ctx)
					}
					emit(c)
					return nil
				}}}, &dpu.Options{CallTimeout: 20 * time.Millisecond})
				require.NoError(t, err)
				store, err := queue.OpenLetters(filepath.Join(t.TempDir(), "letters"), nil)
				require.NoError(t, err)
				defer store.Close()
				target := new(dfstest.Target)
				p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: s.Transactions}, Stages: []dfs.Stage{units}, Sink: target.Open(),
					Letters: store, RetryWait: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
				require.NoError(t, p.Run(t.Context()))
				require.Len(t, target.Rows("eu.orders", "id"), 3)
				b, err := store.Book(t.Context())
				require.NoError(t, err)
				var ids []string
				for _, l := range b.Letters {
					ids = append(ids, l.ID)
				}
				require.Equal(t, []string{"a:2", "a:4"}, ids)
				require.Contains(t, b.Letters[0].Err, `row id=7`)

				// It is applied with the next transactions.
				mended = true
				require.NoError(t, p.RetryLetters(t.Context(), 1, 2))
				more, err := dfstest.Parse(tables + "insert eu.orders 20, 2\ncommit a:6\ninsert eu.orders 21, 2\ncommit a:7\n")
				require.NoError(t, err)
				p.Source.(*dfstest.Source).Transactions = append(s.Transactions, more.Transactions...)
				require.NoError(t, p.Run(t.Context()))
				require.Len(t, target.Rows("eu.orders", "id"), 6)
				require.Zero(t, p.Stats().Letters)
			})
		})
	}
}
