//go:build unix

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A few rounds on each pair, always the same.
func TestRandomTablesAreEqual(t *testing.T) {
	f := &fuzz{pairs: pairs, seed: 1, rounds: 4, duration: 5 * time.Minute, dir: t.TempDir()}
	r, err := f.run(t.Context())
	require.NoError(t, err)
	require.Empty(t, r.Failures)
	require.Equal(t, 4*len(pairs), r.Rounds)
	require.Greater(t, r.Rows, 100)
	t.Logf("%d tables, %d rows compared, %d statements", r.Tables, r.Rows, r.Statements)
}
