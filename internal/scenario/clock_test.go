//go:build unix

package scenario

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// Sessions of the source have clocks of their own (SET timestamp), which go backward,
// stand at the epoch or are years ahead, and time zones of their own. The rows are the same, in the order of their commits,
// and what is told of time is never less than nothing.
func TestSessionsWithClocksOfTheirOwn(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			from, to := testenv.Shared(t, kind), testenv.Shared(t, testenv.MySQL97)
			if kind == testenv.MariaDB {
				to = from
			}
			schema, copied := from.Schema(t), to.Schema(t)
			const table = ".a (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, ts TIMESTAMP NULL, dt DATETIME, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"
			from.Exec(t, "CREATE TABLE "+schema+table)
			to.Exec(t, "CREATE TABLE "+copied+table)
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			quiet := slog.New(slog.DiscardHandler)
			src, err := cdc.Open(ctx, from.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}, Logger: quiet})
			require.NoError(t, err)
			defer src.Close()
			q, err := queue.Open(filepath.Join(t.TempDir(), "queue"), nil)
			require.NoError(t, err)
			defer q.Close()
			dst, err := sink.OpenMySQL(ctx, to.DSN(""), &sink.MySQLOptions{Name: schema, Logger: quiet, Routes: []sink.Route{{From: schema + ".*", To: copied + ".*"}}})
			require.NoError(t, err)
			defer dst.Close()

			p := &dfs.Pipeline{Source: src, Queue: q, Sink: dst, Logger: quiet}
			var seen, negative atomic.Int64
			var wrong atomic.Value
			p.Observe = func(b dfs.Batch) {
				seen.Add(1)
				s := p.Stats()
				for _, d := range []time.Duration{s.Lag, s.Capture.Latency, s.Apply.Latency} {
					if d < 0 {
						negative.Add(1)
					}
				}
				// MySQL from 8.0 on logs when a transaction was committed, whatever its session's clock says.
				if kind == testenv.MySQL97 && !b.Committed.IsZero() && time.Since(b.Committed).Abs() > time.Hour {
					wrong.Store(b.Committed.String())
				}
			}
			ran := make(chan error, 1)
			run, stop := context.WithCancel(ctx)
			defer stop()
			go func() { ran <- p.Run(run) }()
			require.Eventually(t, func() bool { return p.Stats().Capture.At.Seq > 0 }, 3*time.Minute, 5*time.Millisecond)

			conn, err := from.DB(t).Conn(ctx)
			require.NoError(t, err)
			defer conn.Close()
			exec := func(s string) {
				_, err := conn.ExecContext(ctx, s)
				require.NoError(t, err, s)
			}
			exec("USE " + schema)
			for i, clock := range []string{"DEFAULT", "1", "2147483647", "1700000000", "1000000000.123456", "946684800", "1", "DEFAULT"} {
				exec("SET timestamp=" + clock)
				exec(fmt.Sprintf("SET time_zone='%s'", [...]string{"+00:00", "+12:45", "-11:00"}[i%3]))
				exec(fmt.Sprintf("INSERT INTO a (n, ts, dt) VALUES (%d, NOW(), NOW())", i))
				exec(fmt.Sprintf("INSERT INTO a (n, ts, dt) VALUES (%d, '2026-03-29 02:30:00', '2026-03-29 02:30:00')", i))
				exec(fmt.Sprintf("UPDATE a SET n=n+100 WHERE n=%d", i))
			}
			exec("SET timestamp=DEFAULT")
			exec("INSERT INTO a (n) VALUES (-1)")

			rows := func(db *sql.DB, schema string) (list []string) {
				conn, err := db.Conn(ctx)
				require.NoError(t, err)
				defer conn.Close()
				_, err = conn.ExecContext(ctx, "SET time_zone='+00:00'")
				require.NoError(t, err)
				r, err := conn.QueryContext(ctx, "SELECT CONCAT_WS(' ', id, n, IFNULL(ts, 'NULL'), IFNULL(dt, 'NULL'), at) FROM "+schema+".a ORDER BY id")
				require.NoError(t, err)
				defer r.Close()
				for r.Next() {
					var s string
					require.NoError(t, r.Scan(&s))
					list = append(list, s)
				}
				require.NoError(t, r.Err())
				return list
			}
			want := rows(from.DB(t), schema)
			require.Len(t, want, 17)
			target := to.DB(t)
			require.Eventually(t, func() bool { return len(rows(target, copied)) == len(want) }, 3*time.Minute, 20*time.Millisecond)
			require.Equal(t, want, rows(target, copied))
			stop()
			require.NoError(t, <-ran)
			require.NotZero(t, seen.Load())
			require.Zero(t, negative.Load())
			require.Nil(t, wrong.Load())
		})
	}
}
