package cdc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // which is what Sources log to
	testenv.Main(m)
}

// open opens a Source that the test closes.
func open(t testing.TB, dsn string, o *cdc.Options) *cdc.Source {
	t.Helper()
	src, err := cdc.Open(t.Context(), dsn, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src
}

// limit is a context for what must not take long.
func limit(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// stream opens a stream that the test closes.
func stream(t testing.TB, src *cdc.Source, from dfs.Position) dfs.Stream {
	t.Helper()
	st, err := src.Open(limit(t), dfs.Checkpoint{Pos: from})
	require.NoError(t, err)
	t.Cleanup(func() { st.Close() })
	return st
}

// read returns transactions until one satisfies enough.
func read(t testing.TB, st dfs.Stream, enough func(*dfs.Transaction) bool) []*dfs.Transaction {
	t.Helper()
	ctx := limit(t)
	var all []*dfs.Transaction
	batch := make([]*dfs.Transaction, 100)
	for {
		n, err := st.Next(ctx, batch)
		require.NoError(t, err)
		all = append(all, batch[:n]...)
		for _, tx := range batch[:n] {
			if enough(tx) {
				return all
			}
		}
	}
}

// readN returns the next n transactions that have changes, decoded.
func readN(t testing.TB, src *cdc.Source, st dfs.Stream, n int) []*dfs.Transaction {
	t.Helper()
	all := read(t, st, func(tx *dfs.Transaction) bool {
		if tx.Encoded != nil && !tx.More {
			n--
		}
		return n <= 0
	})
	var full []*dfs.Transaction
	for _, tx := range all {
		if tx.Encoded != nil {
			full = append(full, tx)
		}
	}
	require.NoError(t, src.Decode(t.Context(), full))
	return full
}

// begin starts a stream at the end of the log, and waits until it is fixed.
func begin(t testing.TB, src *cdc.Source) (dfs.Stream, dfs.Position) {
	t.Helper()
	st := stream(t, src, "")
	first := read(t, st, func(*dfs.Transaction) bool { return true })
	require.Nil(t, first[0].Encoded)
	return st, first[0].Pos
}

// ended reads until the stream fails.
func ended(t testing.TB, st dfs.Stream) error {
	t.Helper()
	ctx := limit(t)
	batch := make([]*dfs.Transaction, 100)
	for {
		_, err := st.Next(ctx, batch)
		if err != nil {
			require.NoError(t, ctx.Err())
			require.False(t, errors.Is(err, io.EOF))
			return err
		}
	}
}
