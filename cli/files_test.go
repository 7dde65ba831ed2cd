//go:build unix

package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// A busy writes to a source until it is stopped.
type busy struct {
	stop func()
	rows int
}

func beBusy(t *testing.T, srv *testenv.Server) *busy {
	ctx, cancel := context.WithCancel(t.Context())
	db := srv.DB(t)
	b := new(busy)
	var running sync.WaitGroup
	running.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			for _, stmt := range []string{
				fmt.Sprintf("INSERT INTO shop.t VALUES (%d, 'row %d', %d.25, NOW(6)), (%d, NULL, NULL, NULL)", 2*n, n, n, 2*n+1),
				fmt.Sprintf("UPDATE shop.t SET s = CONCAT(COALESCE(s, ''), REPEAT('é', 20)) WHERE id > %d", 2*n-5),
				fmt.Sprintf("DELETE FROM shop.t WHERE id = %d", 2*n-9),
			} {
				if _, err := db.Exec(stmt); err != nil {
					t.Error(err)
					return
				}
			}
			if n%40 == 0 {
				if _, err := db.Exec("FLUSH LOGS"); err != nil {
					t.Error(err)
				}
			}
			b.rows++
		}
	})
	b.stop = func() { cancel(); running.Wait() }
	t.Cleanup(b.stop)
	return b
}

// copyLog copies what a running server has of its log.
func copyLog(t *testing.T, srv *testenv.Server, to string) {
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.MkdirAll(to, 0o755))
	files, err := filepath.Glob(filepath.Join(srv.Dir(), "binlog.0*"))
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, filepath.Base(f)), b, 0o644))
	}
}

// filesEnv is a source and a target with a table, and a configuration that reads
// the source's log from the folder log, from the file that begins behind the
// making of the table.
func filesEnv(t *testing.T, kind testenv.Kind, more string) (e *env, config string) {
	e = &env{dir: t.TempDir(), source: testenv.Start(t, kind), target: testenv.Start(t, kind)}
	e.both(t, "CREATE DATABASE shop",
		"CREATE TABLE shop.t (id int PRIMARY KEY, s text, d decimal(20,2), at datetime(6)) CHARACTER SET utf8mb4", "FLUSH LOGS")
	_, port, _ := net.SplitHostPort(e.target.Addr())
	config = filepath.Join(e.dir, "dfs.yaml")
	var first string
	logs, err := filepath.Glob(filepath.Join(e.source.Dir(), "binlog.0*"))
	require.NoError(t, err)
	first = filepath.Base(logs[len(logs)-1])
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
source: {files: [log], tables: shop.*, start: "file:%s:4"%s}
target: {port: %s, user: root}
`, first, more, port), 0o600))
	return e, config
}

func (e *env) requireSame(t *testing.T) {
	t.Helper()
	r, err := same.Compare(t.Context(), e.source.DB(t), e.target.DB(t), same.Options{Schemas: []string{"shop"}})
	require.NoError(t, err)
	require.Empty(t, r.Differences)
	require.Positive(t, r.Rows)
}

// TestFilesOfARunningServer applies what was copied while the server wrote it,
// then a later copy, and at last the whole log.
func TestFilesOfARunningServer(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			more := ""
			if kind == testenv.MySQL56 {
				more = ", schema_file: schema.sql" // its log names no columns
			}
			e, config := filesEnv(t, kind, more)
			if more != "" {
				copyLog(t, e.source, filepath.Join(e.dir, "log"))
				code, out := e.basic(t, "check", "-c", config)
				require.Equal(t, 3, code, out)
				require.Contains(t, out, "dfs.yaml:2: source.schema_file: open ")
				require.NoError(t, os.WriteFile(filepath.Join(e.dir, "schema.sql"), []byte(
					"CREATE DATABASE `shop` /*!40100 DEFAULT CHARACTER SET latin1 */;\nUSE `shop`;\n"+
						"CREATE TABLE `t` (`id` int(11) NOT NULL, `s` text, `d` decimal(20,2) DEFAULT NULL,\n"+
						"`at` datetime(6) DEFAULT NULL, PRIMARY KEY (`id`)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;\n"), 0o600))
			}
			work := beBusy(t, e.source)
			db := e.target.DB(t)
			seen := -1
			for range 3 {
				waitFor(t, func() bool {
					logs, _ := filepath.Glob(filepath.Join(e.source.Dir(), "binlog.0*"))
					return len(logs) > 3
				})
				copyLog(t, e.source, filepath.Join(e.dir, "log"))
				code, out := e.basic(t, "check", "-c", config)
				require.Zero(t, code, out)
				require.Contains(t, out, "shop.t → shop.t")
				code, out = e.basic(t, "run", "-c", config)
				require.Zero(t, code, out)
				var n int
				require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM shop.t").Scan(&n))
				require.Greater(t, n, seen)
				seen = n
			}
			work.stop()
			copyLog(t, e.source, filepath.Join(e.dir, "log"))
			code, out := e.basic(t, "run", "-c", config)
			require.Zero(t, code, out)
			e.requireSame(t)
			code, out = e.basic(t, "status", "-c", config)
			require.Zero(t, code, out)
			require.Contains(t, out, "files")

			// Without the file to go on from there is no going on.
			require.NoError(t, os.RemoveAll(filepath.Join(e.dir, "log")))
			require.NoError(t, os.MkdirAll(filepath.Join(e.dir, "log"), 0o755))
			code, out = e.basic(t, "run", "-c", config)
			require.Equal(t, exitSetup, code, out)
			require.Contains(t, out, "there is no binary log file")
		})
	}
}

// TestFilesThatMysqlbinlogWrites follows a folder to which mysqlbinlog --raw
// copies a running server's log.
func TestFilesThatMysqlbinlogWrites(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MySQL97, testenv.MariaDB} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			e, config := filesEnv(t, kind, ", follow: true, heartbeat: 100ms")
			log := filepath.Join(e.dir, "log")
			require.NoError(t, os.MkdirAll(log, 0o755))
			first, err := filepath.Glob(filepath.Join(e.source.Dir(), "binlog.000001"))
			require.NoError(t, err)
			args := []string{"--read-from-remote-server", "--raw", "--stop-never", "--result-file=" + log + "/", filepath.Base(first[0])}
			if kind == testenv.MySQL97 {
				args = append(args[:3:3], append([]string{"--connection-server-id=4711"}, args[3:]...)...)
			} else {
				args = append(args[:3:3], append([]string{"--stop-never-slave-server-id=4711"}, args[3:]...)...)
			}
			var said strings.Builder
			raw := e.source.Command("mysqlbinlog", args...)
			raw.Stdout, raw.Stderr = &said, &said
			ended := start(t, raw)
			waitFor(t, func() bool {
				select {
				case <-ended:
					t.Fatal(said.String())
				default:
				}
				files, _ := filepath.Glob(filepath.Join(log, "*"))
				return len(files) > 1
			})
			p := e.start(t, "run", "-c", config)
			db := e.target.DB(t)
			work := beBusy(t, e.source)
			eventually(t, p, db, "SELECT COUNT(*) > 100 FROM shop.t", "1")
			work.stop()
			var want string
			require.NoError(t, e.source.DB(t).QueryRow("SELECT CONCAT(COUNT(*), ' ', MAX(id), ' ', SUM(LENGTH(s))) FROM shop.t").Scan(&want))
			eventually(t, p, db, "SELECT CONCAT(COUNT(*), ' ', MAX(id), ' ', SUM(LENGTH(s))) FROM shop.t", want)
			e.requireSame(t)
			p.signal(t, syscall.SIGTERM)
			code, out := p.wait(t)
			require.Zero(t, code, out)
		})
	}
}

// start starts a program that the test ends.
func start(t *testing.T, cmd *exec.Cmd) (ended chan struct{}) {
	require.NoError(t, cmd.Start())
	ended = make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	return ended
}
