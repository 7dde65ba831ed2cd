//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSeveralTargets feeds two targets from one source through one queue: each
// with its own tables, units and checkpoint. One of them stands still for a while,
// the process is killed meanwhile, and targets come and go.
func TestSeveralTargets(t *testing.T) {
	e := newEnv(t)
	e.both(t, "CREATE DATABASE shop_n", fmt.Sprintf(people, "shop_n"), "CREATE TABLE shop_n.log (id INT PRIMARY KEY)")
	e.source.Exec(t, "CREATE DATABASE less", "CREATE TABLE less.people (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL)")
	_, sourcePort, _ := net.SplitHostPort(e.source.Addr())
	_, targetPort, _ := net.SplitHostPort(e.target.Addr())
	file := filepath.Join(e.dir, "dfs.yaml")
	head := fmt.Sprintf(`name: shop
source: {port: %s, user: dfs, password: "${SOURCE_PASSWORD}", tables: shop_n.*, start: "%s"}
queue: {path: shop.queue, max_target: 1GiB}
targets:
`, sourcePort, e.here(t))
	whole := fmt.Sprintf(`  - {name: copy, checkpoint: shop, port: %s, user: dfs, password: "${TARGET_PASSWORD}"}
`, targetPort)
	less := fmt.Sprintf(`  - name: less
    tables: shop_n.people
    port: %s
    user: root
    routes: [{from: "shop_n.*", to: "less.*"}]
    units: [{from: shop_n.people, drop: [n]}]
`, sourcePort)
	write := func(targets ...string) {
		t.Helper()
		require.NoError(t, os.WriteFile(file, []byte(head+strings.Join(targets, "")), 0o600))
	}
	write(whole, less)
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Regexp(t, `(?m)^target copy  .*\n(?s:.*)^tables copy  2 tables .*\n(?s:.*)^target less  .*\n(?s:.*)^tables less  1 table `, out)

	a, b := e.target.DB(t), e.source.DB(t)
	p := e.start(t, "-c", file)
	e.source.Exec(t, "INSERT INTO shop_n.people VALUES (1, 'Åsa', 1)", "INSERT INTO shop_n.log VALUES (1)")
	eventually(t, p, a, "SELECT COUNT(*) FROM shop_n.log", "1")
	eventually(t, p, b, "SELECT CONCAT(id, name) FROM less.people", "1Åsa")

	// One stands still; the other goes on. All of it is killed.
	require.NoError(t, e.target.Pause())
	running := false
	defer func() {
		if !running {
			e.target.Resume()
		}
	}()
	for i := 2; i < 50; i++ {
		e.source.Exec(t, fmt.Sprintf("INSERT INTO shop_n.people VALUES (%d, 'Bo', 1)", i), "UPDATE shop_n.people SET n = n + 1")
	}
	eventually(t, p, b, "SELECT COUNT(*) FROM less.people", "49")
	require.NoError(t, p.cmd.Process.Kill())
	<-p.done
	require.NoError(t, e.target.Resume())
	running = true

	p = e.start(t, "-c", file)
	eventually(t, p, a, "SELECT CONCAT(COUNT(*), ' ', SUM(n)) FROM shop_n.people", "49 1273")
	e.source.Exec(t, "DELETE FROM shop_n.people WHERE id > 40")
	eventually(t, p, a, "SELECT COUNT(*) FROM shop_n.people", "40")
	eventually(t, p, b, "SELECT COUNT(*) FROM less.people", "40")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "pipeline=shop.less")

	code, out = e.basic(t, "status", "-c", file, "-json")
	require.Zero(t, code, out)
	var states []state
	require.NoError(t, json.Unmarshal([]byte(out), &states))
	require.Len(t, states, 2)
	for _, s := range states {
		// What the second target is written moves the source's log, so it is not told
		// whether they are in step.
		require.NotNil(t, s.Queue.Reader, out)
		require.False(t, s.Queue.Reader.Lost, out)
	}
	code, out = e.basic(t, "verify", "-c", file, "-target", "copy")
	require.Zero(t, code, out)
	code, out = e.basic(t, "verify", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "target less\n")

	// A target that is taken out is named, until it is forgotten.
	write(whole)
	e.source.Exec(t, "INSERT INTO shop_n.log VALUES (2)")
	p = e.start(t, "-c", file)
	eventually(t, p, a, "SELECT COUNT(*) FROM shop_n.log", "2")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "basic forget less")
	code, out = e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "reader less")
	code, out = e.basic(t, "forget", "copy", "-c", file)
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, `"copy" is still one of the targets`)
	code, out = e.basic(t, "forget", "less", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "forgotten: less, which had passed transaction")

	// One that comes later is refused, since the queue has not all that it needs,
	// and the others go on.
	write(whole, strings.NewReplacer("name: less", "name: late").Replace(less))
	p = e.start(t, "-c", file)
	waitFor(t, func() bool {
		return strings.Contains(p.printed(), "the target of reader \\\"late\\\" has no checkpoint")
	})
	e.source.Exec(t, "INSERT INTO shop_n.log VALUES (3)")
	eventually(t, p, a, "SELECT COUNT(*) FROM shop_n.log", "3")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "pipeline late: ")
}
