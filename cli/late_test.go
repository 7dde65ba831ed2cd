//go:build unix

package cli

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A target that the queue knows may be away when the program starts: the others go on,
// also across a kill -9, and it goes on once it is back. One that has never been there is
// refused.
func TestATargetThatIsAwayAtTheStart(t *testing.T) {
	e := newEnv(t)
	e.both(t, "CREATE DATABASE shop_a", fmt.Sprintf(people, "shop_a"))
	e.source.Exec(t, "CREATE TABLE shop_a.notes (id int PRIMARY KEY, secret int)")
	e.target.Exec(t, "CREATE TABLE shop_a.notes (id int PRIMARY KEY)")
	_, sourcePort, _ := net.SplitHostPort(e.source.Addr())
	_, targetPort, _ := net.SplitHostPort(e.target.Addr())
	file := filepath.Join(e.dir, "dfs.yaml")
	require.NoError(t, os.WriteFile(file, []byte(fmt.Sprintf(`name: shop
source: {port: %s, user: dfs, password: "${SOURCE_PASSWORD}", tables: shop_a.*, start: "%s"}
queue: {path: shop.queue}
pipeline: {retry_wait: 10ms}
targets:
  - {name: copy, port: %s, user: root, ddl: apply, units: [{from: shop_a.notes, drop: [secret]}]}
  - {name: lite, file: lite.db, create_tables: true, ddl: apply}
`, sourcePort, e.here(t), targetPort)), 0o600))
	lite, err := sql.Open("sqlite", "file:"+filepath.Join(e.dir, "lite.db")+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	defer lite.Close()

	require.NoError(t, e.target.Stop())
	code, out := e.basic(t, "run", "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "at its first start each of several targets must be there")

	require.NoError(t, e.target.Restart(t.Context()))
	p := e.start(t, "-c", file)
	e.source.Exec(t, "INSERT INTO shop_a.people VALUES (1, 'Åsa', 1)")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_a.people", "1")
	eventually(t, p, lite, "SELECT COUNT(*) FROM people", "1")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)

	require.NoError(t, e.target.Stop())
	e.source.Exec(t, "INSERT INTO shop_a.people VALUES (2, 'Bo', 2)", "ALTER TABLE shop_a.people ADD COLUMN z int DEFAULT 7")
	p = e.start(t, "-c", file)
	e.source.Exec(t, "INSERT INTO shop_a.people VALUES (3, 'Cy', 3, 8), (100, 'Di', 4, 9)", "INSERT INTO shop_a.notes VALUES (1, 2)")
	eventually(t, p, lite, "SELECT COUNT(*) || ' ' || SUM(z) FROM people", "4 31")
	require.Contains(t, p.printed(), "the others start")
	waitFor(t, func() bool { return strings.Contains(p.printed(), "msg=retrying pipeline=shop.copy") })
	code, out = e.basic(t, "status", "-c", file)
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "cannot be read")
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	p = e.start(t, "-c", file)
	e.source.Exec(t, "UPDATE shop_a.people SET n = n + 1")
	eventually(t, p, lite, "SELECT SUM(n) FROM people", "14")
	require.NoError(t, e.target.Restart(t.Context()))
	eventually(t, p, e.target.DB(t), "SELECT CONCAT(COUNT(*), ' ', SUM(n), ' ', SUM(z)) FROM shop_a.people", "4 14 31")
	eventually(t, p, e.target.DB(t), "SELECT COUNT(*) FROM shop_a.notes", "1")
	require.Contains(t, p.printed(), "the target is there")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
}
