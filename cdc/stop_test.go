package cdc_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A server that is stopped in good order says that the log is at its end. It is
// not: the server comes back.
func TestAServerThatStopsDoesNotEndTheLog(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL56, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Start(t, kind)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			src, err := cdc.Open(ctx, srv.DSN(""), &cdc.Options{Start: "earliest"})
			require.NoError(t, err)
			defer src.Close()
			stream, err := src.Open(ctx, dfs.Checkpoint{})
			require.NoError(t, err)
			defer stream.Close()
			batch := make([]*dfs.Transaction, 100)
			_, err = stream.Next(ctx, batch)
			require.NoError(t, err)

			stopped := make(chan error, 1)
			go func() { stopped <- srv.Stop() }()
			for err == nil {
				_, err = stream.Next(ctx, batch)
			}
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.NoError(t, <-stopped)
		})
	}
}
