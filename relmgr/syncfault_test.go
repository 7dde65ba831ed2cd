package relmgr_test

import (
	"database/sql"
	"maps"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
)

// A sync fails once, whichever it was. The process is killed, or ends, or its pipeline is
// run again with the same map, and then the power goes. Each key has the id that was
// handed on.
func TestASyncOfAMapFailsOnce(t *testing.T) {
	script := ioScript(t)
	var k *keeper
	var known []map[string]string // after each transaction that was handed on
	of := ""
	faultvfs.SyncFails(t, t.TempDir(), faultvfs.Trial{
		Ends: []faultvfs.End{faultvfs.Killed, faultvfs.Closed, faultvfs.Alive},
		Use: func(t *testing.T, dir string, promise func(int), sick func() bool) {
			if dir != of {
				of, known = dir, nil
				k = &keeper{path: filepath.Join(dir, "map"), script: script, ids: make(map[string]string)}
			}
			k.t = t
			for last := len(known) + 25; !sick() && len(known) < min(last, len(script.Transactions)); {
				err := k.open()
				if err == nil {
					tx := &script.Transactions[len(known)]
					again := *tx
					again.Changes = append([]dfs.Change(nil), tx.Changes...)
					if err = k.m.Process(t.Context(), []*dfs.Transaction{&again}); err == nil {
						k.note(tx, &again)
						promise(len(known)) // it may be at the target
						known = append(known, maps.Clone(k.ids))
						continue
					}
				}
				require.True(t, sick(), "%v", err)
			}
		},
		Close: func(*testing.T) { k.close() },
		Check: func(t *testing.T, dir string, promised int) {
			k := &keeper{t: t, path: filepath.Join(dir, "map"), script: script, ids: make(map[string]string)}
			if promised >= 0 {
				k.ids = maps.Clone(known[promised])
			}
			for i := max(promised-3, 0); i < len(script.Transactions); i++ {
				k.process(&script.Transactions[i])
			}
			require.Zero(t, k.told)
			k.distinct()
			k.close()
			db, err := sql.Open("sqlite", "file:"+k.path)
			require.NoError(t, err)
			var said string
			require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&said))
			require.Equal(t, "ok", said)
			require.NoError(t, db.Close())
		},
	})
}
