//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// testLostCheckpoint drops the table of checkpoints under a running pipeline. What then
// follows must never be a start from now that nobody has asked for.
func (e *env) testLostCheckpoint(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_gone", fmt.Sprintf(people, "shop_gone"))
	e.target.Exec(t, "GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON dfs_lost.* TO dfs@'%'")
	db := e.target.DB(t)
	ids := "SELECT COALESCE(GROUP_CONCAT(id ORDER BY id), '') FROM shop_gone.people"
	edits := [][2]string{{"start:", ""}, {"queue:", ""}, {"path:", ""}, {"", "  checkpoint_schema: dfs_lost"}}
	file := e.config(t, "shop_gone", edits...)
	change := func(id int) { e.source.Exec(t, fmt.Sprintf("INSERT INTO shop_gone.people VALUES (%d, 'x', 1)", id)) }
	refused := func() {
		t.Helper()
		for _, command := range []string{"run", "check"} {
			code, out := e.basic(t, command, "-c", file)
			require.Equal(t, exitSetup, code, out)
			require.Contains(t, out, `the target has no checkpoint of the pipeline "shop_gone", and rows in shop_gone.people. To begin now would leave out`)
		}
	}
	says := func(p *program, text string) {
		t.Helper()
		ended := func() bool {
			select {
			case <-p.done:
				return true
			default:
				return false
			}
		}
		waitFor(t, func() bool { return ended() || strings.Contains(p.printed(), text) })
		require.Contains(t, p.printed(), text)
	}
	stop := func(p *program) {
		t.Helper()
		p.signal(t, syscall.SIGTERM)
		code, out := p.wait(t)
		require.Zero(t, code, out)
	}

	// A target without rows is that of a first start.
	p := e.start(t, "-c", file)
	says(p, "reading the log")
	change(1)
	eventually(t, p, db, ids, "1")

	e.target.Exec(t, "DROP TABLE dfs_lost.dfs_checkpoint")
	change(2)
	code, out := p.wait(t)
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "the sink's checkpoint is lost: the table `dfs_lost`.`dfs_checkpoint` is gone from the target")
	change(3)
	refused()
	refused() // though the table is there again by now

	// What the error has said puts it back, and nothing is missing.
	_, cure, _ := strings.Cut(out[strings.LastIndex(out, "basic: stopped"):], "by: ")
	cure, _, found := strings.Cut(cure, "; then start again")
	require.True(t, found, out)
	e.target.Exec(t, strings.Split(cure, "; ")...)
	p = e.start(t, "-c", file)
	eventually(t, p, db, ids, "1,2,3")
	stop(p)

	// Another name, by mistake.
	file = e.config(t, "shop_gone", append(edits, [2]string{"name:", "name: shop_gone2"})...)
	code, out = e.basic(t, "-c", file)
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, `no checkpoint of the pipeline "shop_gone2"`)

	// A file that says now means it, and is told what that does.
	e.target.Exec(t, "DROP DATABASE dfs_lost")
	file = e.config(t, "shop_gone", append([][2]string{{"start:", "  start: now"}}, edits[1:]...)...)
	p = e.start(t, "-c", file)
	says(p, "reading the log")
	change(4)
	eventually(t, p, db, ids, "1,2,3,4")
	require.Contains(t, p.printed(), "it begins now, as source.start says")
	stop(p)
	p = e.start(t, "-c", file)
	change(5)
	eventually(t, p, db, ids, "1,2,3,4,5")
	require.NotContains(t, p.printed(), "it begins now")
	stop(p)

	// A queue knows better than to begin anew.
	e.target.Exec(t, "DELETE FROM dfs_lost.dfs_checkpoint")
	file = e.config(t, "shop_gone", append([][2]string{{"start:", "  start: now"}}, edits[3])...)
	p = e.start(t, "-c", file)
	says(p, "reading the log")
	id := 6
	waitFor(t, func() bool { // until the queue has let go of something
		change(id)
		id++
		_, out := e.basic(t, "status", "-json", "-c", file)
		var s state
		require.NoError(t, json.Unmarshal([]byte(out), &s), out)
		return s.Queue.First > 1
	})
	stop(p)
	e.target.Exec(t, "DROP DATABASE dfs_lost")
	code, out = e.basic(t, "-c", file)
	require.Equal(t, exitRun, code, out)
	require.Contains(t, out, "dfs: the sink's checkpoint is lost: the target says that nothing was applied yet")
}
