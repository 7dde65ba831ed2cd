package sink

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// An Apply that waits for the lock of another process ends with its context.
func TestTheLockOfAnArchiveIsNotWaitedForLonger(t *testing.T) {
	dir := t.TempDir()
	a, b := openArchive(t, dir, ArchiveOptions{}), openArchive(t, dir, ArchiveOptions{})
	require.NoError(t, lockFile(t.Context(), a.lock))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := b.Checkpoint(ctx)
		done <- err
	}()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, unlockFile(a.lock))
	_, err := b.Checkpoint(t.Context())
	require.NoError(t, err)
}

// A comment that speaks of generated columns makes none.
func TestCommentsGenerateNoColumns(t *testing.T) {
	u := &Undo{made: []Definition{{Table: &dfs.Table{Schema: "s", Name: "t"},
		SQL: "CREATE TABLE `t` (\n  `a` int COMMENT 'was GENERATED ALWAYS AS (1)',\n  `b` int GENERATED ALWAYS AS (`a` + 1) VIRTUAL\n)"}}}
	table := &table{schema: "s", name: "t", columns: []targetColumn{{name: "a"}, {name: "b"}}}
	u.generated(table)
	require.False(t, table.columns[0].generated)
	require.True(t, table.columns[1].generated)
}

// Names that differ in case only are two columns where both are there.
func TestColumnsThatDifferInCase(t *testing.T) {
	table := &table{columns: []targetColumn{{name: "A"}, {name: "a"}, {name: "B"}}}
	require.Equal(t, 1, table.column("a"))
	require.Equal(t, 0, table.column("A"))
	require.Equal(t, 2, table.column("b"))
}
