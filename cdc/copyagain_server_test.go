package cdc_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A table that is copied again twice at once comes with the rows of both conditions.
// While its rows are copied for the first time it cannot be copied again.
func TestATableIsCopiedAgainForTwoConditions(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY)", "INSERT INTO "+schema+".a VALUES (1), (2), (3), (4)")
	var holding atomic.Bool
	holding.Store(true)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second,
		Snapshot: &cdc.Snapshot{Hold: holding.Load}})
	var rows []string
	k := &keeper{t: t, src: src, see: func(tx *dfs.Transaction) {
		for _, c := range tx.Changes {
			rows = append(rows, fmt.Sprint(c.After[0], " ", c.Overwrite))
		}
	}}
	k.next(nil)
	k.until(func() error {
		require.ErrorIs(t, src.Resnapshot(t.Context(), schema+".a", ""), dfs.ErrNoChange)
		return nil
	})
	copied := func() {
		holding.Store(false)
		for !k.next(func(tx *dfs.Transaction) bool { return tx.Copied }) {
		}
		slices.Sort(rows)
	}
	copied()
	require.Equal(t, []string{"1 false", "2 false", "3 false", "4 false"}, rows)

	rows = nil
	holding.Store(true)
	k.until(func() error { return src.Resnapshot(t.Context(), schema+".a", "id = 1 -- the first") })
	k.leave()
	k.until(func() error { return src.Resnapshot(t.Context(), schema+".a", "id = 3") })
	copied()
	require.Equal(t, []string{"1 true", "3 true"}, rows)
	k.leave()
}

// A table whose copy has failed is copied anew: its changes come after its rows, which
// may be on the target already.
func TestATableWhoseCopyHasFailedIsCopiedAnew(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, n int)", "INSERT INTO "+schema+".a VALUES (1, 1), (2, 2)")
	var statements, most atomic.Int32
	most.Store(1)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Heartbeat: 10 * time.Millisecond, ReadTimeout: 20 * time.Second,
		Snapshot: &cdc.Snapshot{Readers: 1, ChunkRows: 1, Hold: func() bool { return statements.Add(1) > most.Load() }}})
	var rows []string
	k := &keeper{t: t, src: src, see: func(tx *dfs.Transaction) {
		for _, c := range tx.Changes {
			if c.Op != dfs.DDL {
				rows = append(rows, fmt.Sprint(c.Op, c.After[0], "=", c.After[1], c.Overwrite))
			}
		}
	}}
	for !k.next(func(tx *dfs.Transaction) bool { return tx.Snapshot }) {
	}
	require.Equal(t, []string{"insert 1=1 false"}, rows)
	srv.Exec(t, "RENAME TABLE "+schema+".a TO "+schema+".b, "+schema+".b TO "+schema+".a") // it fails in the midst of it
	for src.Progress()[0].State != dfs.CopyFailed {
		k.next(nil)
	}
	k.leave()
	rows = nil
	k.until(func() error { return src.Resnapshot(t.Context(), schema+".a", "") })
	// What the target has of this row is not known.
	srv.Exec(t, "UPDATE "+schema+".a SET n = 7 WHERE id = 2")
	k.leave()
	most.Store(1 << 30)
	for !k.next(func(tx *dfs.Transaction) bool { return tx.Copied }) {
	}
	require.Equal(t, []string{"insert 1=1 true", "insert 2=7 true"}, rows)
	for _, p := range src.Progress() {
		require.NotEqual(t, dfs.CopyFailed, p.State)
	}
	srv.Exec(t, "UPDATE "+schema+".a SET n = 8 WHERE id = 2")
	for !k.next(func(tx *dfs.Transaction) bool { return len(tx.Changes) > 0 }) {
	}
	require.Equal(t, "update 2=8 false", rows[2])
	k.leave()
}
