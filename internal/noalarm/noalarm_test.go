//go:build unix

package main

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// Faults planted under load are found and mended, and nothing else is.
func TestUnderLoadThereIsNoAlarm(t *testing.T) {
	for _, p := range [][2]testenv.Kind{{testenv.MySQL97, testenv.MySQL97}, {testenv.MariaDB, testenv.MySQL97}, {testenv.MySQL97, testenv.PostgreSQL}, {testenv.MySQL97, sqliteFile}} {
		c := &campaign{source: p[0], target: p[1], writers: 4, rate: 500, seed: 1, duration: 3 * time.Second, plantEvery: 2}
		c.enough = func() bool { return c.looked > 0 && c.planted > 0 } // on a slow machine a round is long
		failures, err := c.run(t.Context())
		require.NoError(t, err)
		require.Empty(t, failures)
		require.NotZero(t, c.looked, "the load disturbs no comparison")
		require.NotZero(t, c.planted)
		t.Log(c.summary())
	}
}
