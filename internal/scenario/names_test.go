//go:build unix

package scenario

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// Where the log does not name columns, a pipeline that was stopped goes on with
// those of its place, though the source has altered the table since; from its
// queue, and from the target alone if the queue is lost.
func TestColumnsKeepTheirNamesAcrossRestarts(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			src, dst := testenv.Shared(t, kind), testenv.Shared(t, testenv.MySQL97)
			from, to := src.Schema(t), dst.Schema(t)
			if kind != testenv.MySQL56 {
				src.Exec(t, "SET GLOBAL binlog_row_metadata=MINIMAL")
				t.Cleanup(func() { src.Exec(t, "SET GLOBAL binlog_row_metadata=FULL") })
			}
			table := "a (id int PRIMARY KEY, x int, y int)"
			src.Exec(t, "CREATE TABLE "+from+"."+table)
			dst.Exec(t, "CREATE TABLE "+to+"."+table)
			path := filepath.Join(t.TempDir(), "queue")

			// run carries rows until the target has n.
			run := func(n int) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				in, err := cdc.Open(ctx, src.DSN(""), &cdc.Options{Tables: []string{from + ".*"}, Logger: quiet})
				require.NoError(t, err)
				defer in.Close()
				q, err := queue.Open(path, nil)
				require.NoError(t, err)
				defer q.Close()
				out, err := sink.OpenMySQL(ctx, dst.DSN(""), &sink.MySQLOptions{Name: to, DDL: sink.PolicyIgnore, Logger: quiet,
					Routes: []sink.Route{{From: from + ".*", To: to + ".*"}}})
				require.NoError(t, err)
				defer out.Close()
				done := make(chan error, 1)
				p := &dfs.Pipeline{Source: in, Queue: q, Sink: out, Logger: quiet}
				go func() { done <- p.Run(ctx) }()
				var have int
				for have < n && ctx.Err() == nil {
					select {
					case err := <-done:
						require.NoError(t, err)
						require.Fail(t, "the pipeline has ended")
					case <-time.After(20 * time.Millisecond):
						require.NoError(t, dst.DB(t).QueryRow("SELECT COUNT(*) FROM "+to+".a").Scan(&have))
					}
				}
				if n == 0 { // the place to begin at is stored
					require.Eventually(t, func() bool {
						var seq int
						err := dst.DB(t).QueryRow("SELECT seq FROM dfs.dfs_checkpoint WHERE name = ?", to).Scan(&seq)
						return err == nil && seq > 0
					}, time.Minute, 20*time.Millisecond)
				}
				cancel()
				require.NoError(t, <-done)
			}
			run(0)
			swap := "ALTER TABLE " + from + ".a CHANGE x y int, CHANGE y x int"
			rows := 0
			insert := func() {
				rows++
				src.Exec(t, fmt.Sprintf("INSERT INTO %s.a (id, x, y) VALUES (%d, %d, %d)", from, rows, 10*rows, 10*rows+1))
			}
			for round := range 4 {
				insert()
				src.Exec(t, "DO SLEEP(1.1)", swap)
				insert()
				src.Exec(t, swap)
				insert()
				src.Exec(t, "RENAME TABLE "+from+".a TO "+from+".b", "CREATE TABLE "+from+".a (id int PRIMARY KEY, y int, x int)")
				insert()
				src.Exec(t, "DROP TABLE "+from+".a", "RENAME TABLE "+from+".b TO "+from+".a", "TRUNCATE TABLE "+from+".a", "DO SLEEP(1.1)", swap)
				if round%2 == 1 {
					for _, name := range []string{"", "-wal", "-shm", ".lock"} {
						if err := os.Remove(path + name); err != nil {
							require.ErrorIs(t, err, os.ErrNotExist)
						}
					}
				}
				run(rows)
			}
			var wrong int
			require.NoError(t, dst.DB(t).QueryRow("SELECT COUNT(*) FROM "+to+".a WHERE x <> 10 * id OR y <> 10 * id + 1").Scan(&wrong))
			require.Zero(t, wrong)
		})
	}
}
