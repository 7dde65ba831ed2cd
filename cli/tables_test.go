//go:build unix

package cli

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTablesChangeWhileThePipelineRuns by commands: followed, left out and copied once
// more, also across kill -9 and a file that says something else.
func TestTablesChangeWhileThePipelineRuns(t *testing.T) {
	e := newEnv(t)
	e.source.Exec(t, "CREATE DATABASE shop_t")
	e.target.Exec(t, "CREATE DATABASE shop_t", "GRANT CREATE, CREATE VIEW, ALTER, DROP, INDEX, REFERENCES ON `shop%`.* TO dfs@'%'")
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		e.source.Exec(t, "CREATE TABLE shop_t."+name+" (id int PRIMARY KEY, n int)", "INSERT INTO shop_t."+name+" VALUES (1, 1), (2, 2)")
	}
	db := e.target.DB(t)
	address := freeAddress(t)
	settings := [2]string{"", fmt.Sprintf("  create_tables: true\n  ddl: apply\nmonitor:\n  listen: %s", address)}
	file := e.config(t, "shop_t", [2]string{"  tables:", "  tables: shop_t.a"}, settings)
	ask := func(want int, args ...string) string {
		t.Helper()
		code, out := e.basic(t, append(args, "-c", file)...)
		require.Equal(t, want, code, out)
		return out
	}
	const rows = "SELECT COALESCE(GROUP_CONCAT(id, '=', n ORDER BY id), '') FROM shop_t."
	p := e.start(t, "run", "-c", file)
	up := func() {
		t.Helper()
		waitFor(t, func() bool {
			r, err := http.Get("http://" + address + "/readyz")
			if err != nil {
				return false
			}
			r.Body.Close()
			return r.StatusCode == http.StatusOK
		})
	}
	up()
	e.source.Exec(t, "INSERT INTO shop_t.a VALUES (3, 3)")
	eventually(t, p, db, rows+"a", "3=3")

	// One more, with its rows; the target gets the table.
	ask(exitOK, "follow", "shop_t.b", "-why", "it was forgotten")
	e.source.Exec(t, "UPDATE shop_t.b SET n = 7 WHERE id = 2")
	eventually(t, p, db, rows+"b", "1=1,2=7")
	require.Contains(t, ask(exitRun, "follow", "shop_t.b"), "followed already")
	require.Contains(t, ask(exitRun, "follow", "shop_t.nowhere"), "has no table shop_t.nowhere")
	require.Contains(t, ask(exitUsage, "follow", "shop_t.b", "-where", "id = 1"), "-where is for copy")

	// Statements about it are applied too, though the file does not name it.
	e.source.Exec(t, "TRUNCATE TABLE shop_t.b", "INSERT INTO shop_t.b VALUES (9, 9)")
	eventually(t, p, db, rows+"b", "9=9")

	// Without its rows, and one left out.
	ask(exitOK, "follow", "shop_t.c", "-without-rows")
	ask(exitOK, "unfollow", "shop_t.a")
	e.source.Exec(t, "INSERT INTO shop_t.a VALUES (4, 4)", "INSERT INTO shop_t.c VALUES (5, 5)")
	eventually(t, p, db, rows+"c", "5=5")
	eventually(t, p, db, rows+"a", "3=3")

	// What was answered is durable, whatever comes.
	ask(exitOK, "follow", "shop_t.d")
	p.signal(t, syscall.SIGKILL)
	p.wait(t)
	e.source.Exec(t, "INSERT INTO shop_t.d VALUES (6, 6)", "INSERT INTO shop_t.a VALUES (6, 6)")
	require.Contains(t, ask(exitOK, "check"), "was added by follow while the pipeline ran")
	p = e.start(t, "run", "-c", file)
	up()
	eventually(t, p, db, rows+"d", "1=1,2=2,6=6")
	eventually(t, p, db, rows+"a", "3=3")

	// A row of the target that is wrong is right after a copy of it; others stay.
	e.target.Exec(t, "UPDATE shop_t.d SET n = 100")
	ask(exitOK, "copy", "shop_t.d", "-where", "id < 2")
	eventually(t, p, db, rows+"d", "1=1,2=100,6=100")
	require.Contains(t, ask(exitRun, "copy", "shop_t.a"), "no table that is followed")
	require.Contains(t, ask(exitRun, "copy", "shop_t.d", "-where", "id <"), "can stand behind WHERE")

	p.signal(t, syscall.SIGTERM)
	code, out := p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "added while the pipeline ran, and stay followed")

	// The file takes it all over, has one more and one less.
	file = e.config(t, "shop_t", [2]string{"  tables:", "  tables: [shop_t.c, shop_t.d, shop_t.e, '!shop_t.b']\n  snapshot: true"}, settings)
	p = e.start(t, "run", "-c", file)
	up()
	e.source.Exec(t, "INSERT INTO shop_t.b VALUES (10, 10)", "INSERT INTO shop_t.e VALUES (10, 10)")
	eventually(t, p, db, rows+"e", "1=1,2=2,10=10")
	eventually(t, p, db, rows+"b", "9=9")
	p.signal(t, syscall.SIGTERM)
	code, out = p.wait(t)
	require.Zero(t, code, out)
	require.Contains(t, out, "do not name tables that were followed up to here")
	require.Contains(t, out, `tables=shop_t.b`)
	require.Equal(t, 1, strings.Count(out, "name tables that were not followed up to here"))
	require.Contains(t, ask(exitRun, "follow", "shop_t.b"), "check that run is running with this file")
}
