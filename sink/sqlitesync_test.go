package sink_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// A sync fails once, whichever it was. The process is killed, or ends, or goes on with the
// same sink, and then the power goes. What the sink has told to be there is there: the
// queue has let go of it. An application that reads the file, or writes to it without
// waiting for the disk, makes no difference.
func TestASyncOfASQLiteTargetFailsOnce(t *testing.T) {
	for _, app := range []string{"none", "reads", "writes", "has written"} {
		t.Run(app, func(t *testing.T) { sqliteSyncFails(t, app) })
	}
}

func sqliteSyncFails(t *testing.T, app string) {
	keyed := &dfs.Table{Schema: "shop", Name: "keyed", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "text", Type: "text"}}}
	tx := func(seq uint64) *dfs.Transaction {
		return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("pos ", seq))}, Changes: []dfs.Change{
			{Op: dfs.Insert, Table: keyed, After: dfs.Row{dfs.IntValue(int64(seq)), dfs.StringValue(fmt.Sprintf("%2000d", seq))}}}}
	}
	var s *sink.SQLite
	var db *sql.DB // the application's
	of, made := "", ""
	faultvfs.SyncFails(t, t.TempDir(), faultvfs.Trial{
		Ends: []faultvfs.End{faultvfs.Killed, faultvfs.Closed, faultvfs.Alive},
		Use: func(t *testing.T, dir string, promise func(int), sick func() bool) {
			path := filepath.Join(dir, "target.db")
			use := func(query string) {
				if of != dir {
					of, db = dir, openFile(t, path)
					db.SetMaxOpenConns(1)
				}
				if _, err := db.Exec(query); err != nil {
					require.True(t, sick(), "%v", err)
				}
				if app == "none" || app == "has written" {
					require.NoError(t, db.Close())
					of = ""
				}
			}
			if made != dir { // who closes a file that nobody else has open makes all of it durable
				if use("CREATE TABLE IF NOT EXISTS keyed (id INTEGER PRIMARY KEY, text TEXT)"); sick() {
					return
				}
				made = dir
			}
			err := error(nil)
			if s == nil {
				if s, err = sink.OpenSQLite(t.Context(), path, nil); err != nil {
					s = nil
					require.True(t, sick(), "%v", err)
					return
				}
			}
			for last := uint64(0); !sick(); {
				at, err := s.Checkpoint(t.Context())
				if err == nil {
					promise(int(at.Seq))
					if last == 0 {
						last = at.Seq + 12
					}
					if at.Seq >= last {
						return
					}
					if app == "writes" || app == "has written" {
						use("PRAGMA synchronous=OFF; CREATE TABLE IF NOT EXISTS own (n INT); INSERT INTO own VALUES (1)")
					}
					err = s.Apply(t.Context(), []*dfs.Transaction{tx(at.Seq + 1), tx(at.Seq + 2)})
				}
				if err != nil {
					require.True(t, sick(), "%v", err)
				}
			}
		},
		Close: func(t *testing.T) {
			if s != nil {
				require.NoError(t, s.Close())
				s = nil
			}
		},
		Check: func(t *testing.T, dir string, promised int) {
			path := filepath.Join(dir, "target.db")
			db := openFile(t, path)
			var said string
			require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&said))
			require.Equal(t, "ok", said)
			if promised >= 0 {
				var seq, rows int
				require.NoError(t, db.QueryRow("SELECT seq FROM dfs_checkpoint").Scan(&seq))
				require.GreaterOrEqual(t, seq, promised)
				require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM keyed").Scan(&rows))
				require.Equal(t, seq, rows)
			}
			require.NoError(t, db.Close())
		},
	})
}
