//go:build unix

package restore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// Foreign keys whose work MariaDB does not log act while a second copy of rows is
// archived: a restore that begins with that copy is what the source is.
func TestCascadesBesideALaterCopyOfRows(t *testing.T) {
	ctx, rng := t.Context(), random(t)
	srv := testenv.Shared(t, testenv.MariaDB)
	schema, target, db := srv.Schema(t), srv.Schema(t), srv.DB(t)
	db.SetMaxOpenConns(1)
	exec := func(q string) {
		t.Helper()
		_, err := db.Exec(q)
		require.NoError(t, err, q)
	}
	exec("USE " + schema)
	exec("CREATE TABLE parents (id int PRIMARY KEY, code int NOT NULL, n int, UNIQUE KEY (code))")
	exec("CREATE TABLE children (id int PRIMARY KEY, parent int, FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE)")
	exec("CREATE TABLE links (id int PRIMARY KEY, code int, FOREIGN KEY (code) REFERENCES parents (code) ON DELETE SET NULL ON UPDATE CASCADE)")
	next := 0
	insert := func() {
		next++
		exec(fmt.Sprintf("INSERT INTO parents VALUES (%d, %d, 0)", next, -next))
		for i := range 3 {
			exec(fmt.Sprintf("INSERT INTO children VALUES (%d, %d)", 10*next+i, next))
			exec(fmt.Sprintf("INSERT INTO links VALUES (%d, %d)", 10*next+i, -next))
		}
	}
	for range 60 {
		insert()
	}
	change := func() {
		switch n := 1 + rng.IntN(next); rng.IntN(6) {
		case 0:
			exec(fmt.Sprintf("DELETE FROM parents WHERE id = %d", n))
		case 1:
			exec(fmt.Sprintf("UPDATE parents SET id = id + 1000000 WHERE id = %d", n))
		case 2:
			exec(fmt.Sprintf("UPDATE parents SET code = code - 1000000 WHERE id = %d AND code > -1000000", n))
		case 3:
			exec(fmt.Sprintf("UPDATE children SET parent = NULL WHERE id = %d", 10*n))
		case 4:
			exec(fmt.Sprintf("UPDATE parents SET n = n + 1 WHERE id > %d", n))
		default:
			insert()
		}
	}

	src, err := cdc.Open(ctx, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Snapshot: &cdc.Snapshot{ChunkRows: 7}, Logger: quiet})
	require.NoError(t, err)
	defer src.Close()
	a, err := sink.OpenArchive(t.TempDir(), &sink.ArchiveOptions{Logger: quiet})
	require.NoError(t, err)
	defer a.Close()
	defs, err := definitions(ctx, src)
	require.NoError(t, err)
	require.NoError(t, a.Baseline(ctx, defs))
	run, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- archive(run, src, a) }()
	whole := func(n int) bool {
		_, bases := a.List()
		for _, b := range bases {
			require.False(t, b.Failed)
		}
		return len(bases) == n && bases[n-1].Done > 0
	}
	require.Eventually(t, func() bool { return whole(1) }, 2*time.Minute, time.Millisecond)
	require.NoError(t, a.Baseline(ctx, defs))
	var names []string
	for _, d := range defs {
		names = append(names, d.Table.String())
	}
	require.NoError(t, src.ResnapshotAll(ctx, names))
	for !whole(2) {
		change()
	}
	for range 10 {
		change()
	}
	exec("INSERT INTO parents VALUES (9999999, 9999999, 9)")
	require.Eventually(t, func() bool {
		seen := false
		from := dfs.StopPoint{Seq: max(a.End().Seq, 20) - 19}
		require.NoError(t, a.Each(ctx, from, dfs.StopPoint{}, new(cdc.Source).Decode, func(tx *dfs.Transaction) error {
			for _, c := range tx.Changes {
				seen = seen || c.After != nil && c.After[0].Int() == 9999999
			}
			return nil
		}))
		return seen
	}, 2*time.Minute, 5*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	require.NoError(t, restoreTo(ctx, a, srv.DSN(""), target, schema, target, dfs.StopPoint{}, false))
	_, bases := a.List()
	r, err := same.Compare(ctx, db, srv.DB(t), same.Options{Schemas: []string{schema}, To: map[string]string{schema: target}})
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	t.Logf("%d rows, %d transactions beside the second copy, %+v", r.Rows, bases[1].Done-bases[1].After, a.Stats())
}
