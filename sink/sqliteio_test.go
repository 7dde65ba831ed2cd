package sink_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// Whichever access to the disk fails: the file has the rows of the transactions up to
// its checkpoint, each once, and the sink goes on, by itself or once it has been opened
// anew.
func TestEveryAccessOfASQLiteTargetFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "target.db")
	keyed := &dfs.Table{Schema: "shop", Name: "keyed", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "n", Type: "int"}}}
	keyless := &dfs.Table{Schema: "shop", Name: "keyless", Columns: []dfs.Column{{Name: "id", Type: "int"}}}
	const last = 30
	tx := func(seq uint64) *dfs.Transaction {
		tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("pos ", seq))}, More: seq%10 == 4}
		row := func(n int64) dfs.Row { return dfs.Row{dfs.IntValue(int64(seq)), dfs.IntValue(n)} }
		tx.Changes = []dfs.Change{{Op: dfs.Insert, Table: keyed, After: row(0)}, {Op: dfs.Insert, Table: keyless, After: row(0)[:1]}}
		if seq > 1 {
			before := dfs.Row{dfs.IntValue(int64(seq - 1)), dfs.IntValue(0)}
			after := dfs.Row{dfs.IntValue(int64(seq - 1)), dfs.IntValue(1)}
			tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Update, Table: keyed, Before: before, After: after})
		}
		return tx
	}
	disk := faultvfs.Install(t, dir)
	run := func() {
		for _, name := range []string{"", "-wal", "-shm", "-journal"} {
			os.Remove(path + name)
		}
		var s *sink.SQLite
		opened, tries, acked := false, 0, uint64(0)
		fail := func(err error) {
			t.Helper()
			tries++
			require.Less(t, tries, 10, "it does not go on: %v", err)
			require.NotErrorIs(t, err, dfs.ErrConflict)
			if s != nil && !errors.Is(err, dfs.ErrTransient) {
				require.NoError(t, s.Close())
				s = nil
			}
		}
		for at := (dfs.Checkpoint{}); at.Seq < last; {
			var err error
			if s == nil {
				if s, err = sink.OpenSQLite(t.Context(), path, nil); err != nil {
					s = nil
					fail(err)
					continue
				}
			}
			if !opened {
				db := openFile(t, path)
				_, err := db.Exec("CREATE TABLE IF NOT EXISTS keyed (id INTEGER PRIMARY KEY, n INT); CREATE TABLE IF NOT EXISTS keyless (id INT)")
				if err == nil {
					opened = true
				}
				require.NoError(t, db.Close())
				if !opened {
					tries++
					require.Less(t, tries, 10)
					continue
				}
			}
			if at, err = s.Checkpoint(t.Context()); err != nil {
				fail(err)
				continue
			}
			require.GreaterOrEqual(t, at.Seq, acked, "what was confirmed is lost")
			for at.Seq < last && err == nil {
				batch := []*dfs.Transaction{tx(at.Seq + 1), tx(at.Seq + 2), tx(at.Seq + 3)}
				for batch[len(batch)-1].More {
					batch = append(batch, tx(at.Seq+uint64(len(batch))+1))
				}
				if err = s.Apply(t.Context(), batch); err == nil {
					at = batch[len(batch)-1].Checkpoint
					acked = at.Seq
				}
			}
			if err != nil {
				at = dfs.Checkpoint{}
				fail(err)
			}
		}
		disk.Stop()
		require.NoError(t, s.Close())
		db := openFile(t, path)
		var said string
		var n, sum, rows, distinct, seq uint64
		require.NoError(t, db.QueryRow("PRAGMA integrity_check").Scan(&said))
		require.Equal(t, "ok", said)
		require.NoError(t, db.QueryRow("SELECT seq FROM dfs_checkpoint").Scan(&seq))
		require.GreaterOrEqual(t, seq, uint64(last))
		require.NoError(t, db.QueryRow("SELECT COUNT(*), SUM(n) FROM keyed").Scan(&n, &sum))
		require.NoError(t, db.QueryRow("SELECT COUNT(*), COUNT(DISTINCT id) FROM keyless").Scan(&rows, &distinct))
		require.Equal(t, []uint64{seq, seq - 1, seq, seq}, []uint64{n, sum, rows, distinct})
		require.NoError(t, db.Close())
	}
	for _, m := range []faultvfs.Mode{{Runs: 12}, {Runs: 4, Times: 3}, {Runs: 4, Ops: []faultvfs.Op{faultvfs.Sync}},
		{Runs: 4, Ops: []faultvfs.Op{faultvfs.Write}, Code: faultvfs.Full}} {
		require.Positive(t, disk.Sweep(t, m, run))
	}
}
