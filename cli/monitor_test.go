//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/monitor"
	"github.com/stretchr/testify/require"
)

const monitorPassword = "mo:ni/tor\"pw"

// freeAddress returns a loopback address that nothing listens on.
func freeAddress(t *testing.T) string {
	address, err := testenv.FreeAddr()
	require.NoError(t, err)
	return address
}

// testMonitor steers a pipeline through its monitor, by commands and calls.
func (e *env) testMonitor(t *testing.T) {
	e.both(t, "CREATE DATABASE shop_m", fmt.Sprintf(people, "shop_m"))
	db := e.target.DB(t)
	address := freeAddress(t)
	file := e.config(t, "shop_m", [2]string{"", fmt.Sprintf("monitor:\n  listen: %s\n  users:\n    - {name: ann, password: %q}", address, monitorPassword)},
		[2]string{"", "journal: {path: shop_m.journal, level: all, mask: [\"*.people.n\"]}"})
	var said strings.Builder
	get := func(path string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+address+path, nil)
		require.NoError(t, err)
		r.SetBasicAuth("ann", monitorPassword)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		said.Write(b)
		return answer.StatusCode, string(b)
	}
	ask := func(want int, args ...string) string {
		t.Helper()
		code, out := e.basic(t, append(args, "-c", file)...)
		require.Equal(t, want, code, out)
		return out
	}
	require.Contains(t, ask(exitRun, "pause"), "check that run is running with this file")

	p := e.start(t, "run", "-c", file)
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (1, 'Åsa', 1)")
	eventually(t, p, db, "SELECT COUNT(*) FROM shop_m.people", "1")
	waitFor(t, func() bool { status, _ := get("/readyz"); return status == http.StatusOK })

	// A pause holds the target.
	require.Contains(t, ask(exitOK, "pause", "-why", "looking"), "shop_m: ")
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (2, 'Bo', 1)")
	state := func() (s monitor.State) {
		_, body := get("/api/pipelines/shop_m")
		require.NoError(t, json.Unmarshal([]byte(body), &s))
		return s
	}
	waitFor(t, func() bool { s := state(); return s.Waiting == 1 && s.Health == monitor.Held })
	ask(exitOK, "resume")
	eventually(t, p, db, "SELECT COUNT(*) FROM shop_m.people", "2")

	// An error leaves the process there, and one transaction can be skipped.
	e.target.Exec(t, "INSERT INTO shop_m.people VALUES (3, 'here already', 0)")
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (3, 'Cy', 1)", "INSERT INTO shop_m.people VALUES (4, 'Di', 1)")
	waitFor(t, func() bool { s := state(); return s.Health == monitor.Failed && slices.Contains(s.Can, "start") })
	status, _ := get("/healthz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	s := state()
	require.Contains(t, s.Error.Text, "insert of shop_m.people (id=3)")
	require.NotEmpty(t, s.Error.Transaction)
	ask(exitOK, "skip", s.Error.Transaction, "-why", "it is there")
	ask(exitOK, "start")
	eventually(t, p, db, "SELECT GROUP_CONCAT(name ORDER BY id) FROM shop_m.people", "Åsa,Bo,here already,Di")
	waitFor(t, func() bool { return state().RejectedTransactions == 1 })

	// It stops exactly where it is told to, though more is to come.
	require.Contains(t, ask(exitRun, "stop-at", "now"), "write the place as gtid:SET")
	ask(exitOK, "stop")
	stopped := func() bool { return state().Text == "Stopped, as asked. Start it to go on from here." }
	waitFor(t, stopped)
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (5, 'Ed', 1)")
	here := e.here(t)
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (6, 'Flo', 1)")
	ask(exitOK, "stop-at", here)
	ask(exitOK, "start")
	waitFor(t, func() bool { return stopped() && state().StopAt == "" })
	eventually(t, p, db, "SELECT MAX(id) FROM shop_m.people", "5")
	var answer monitor.State
	require.NoError(t, json.Unmarshal([]byte(ask(exitOK, "start", "-json")), &answer))
	eventually(t, p, db, "SELECT MAX(id) FROM shop_m.people", "6")
	require.Contains(t, ask(exitRun, "start"), "the pipeline does not wait to be started")

	_, body := get("/metrics")
	for _, name := range []string{"dfs_source_events_total", "dfs_queue_bytes", "dfs_sink_commits_total", `dfs_rows_total{pipeline="shop_m",table="shop_m.people",what="applied"}`} {
		require.Contains(t, body, name)
	}
	_, body = get("/api/audit")
	require.Contains(t, body, "it is there")
	out := ask(exitOK, "audit")
	require.Regexp(t, `(?m)^TIME .*RESULT$`, out)
	require.Contains(t, out, "it is there")
	require.Regexp(t, `(?m)start +refused: `, out)
	require.Equal(t, 3, strings.Count(ask(exitOK, "audit", "-count", "2"), "\n"))
	require.Contains(t, ask(exitOK, "audit", "-json", "-count", "1"), `"action": "start"`)
	_, body = get("/api/pipelines/shop_m/settings")
	require.Contains(t, body, `{"name":"target","value":"127.0.0.1:`)
	get("/api/log")

	// The journal tells what became of a row, also of one that was refused.
	_, body = get("/api/pipelines/shop_m/trace?table=shop_m.people&key=4")
	require.Contains(t, body, "INSERT INTO `shop_m`.`people`")
	told := func() {
		t.Helper()
		out := ask(exitOK, "trace", "shop_m.people", "3")
		require.Contains(t, out, "REFUSED")
		require.Contains(t, out, "insert of shop_m.people (id=3)")
		require.Contains(t, out, `name="Cy"`)
		require.NotContains(t, out, "n=\"1\"")
		require.Contains(t, out, "INSERT INTO `shop_m`.`people`")
		out = ask(exitOK, "trace", "-failed")
		require.Equal(t, 1, strings.Count(out, "REFUSED"))
		require.NotContains(t, out, "It lacks")
	}
	told()
	require.Contains(t, ask(exitOK, "trace", "shop_m.people", "99"), "The journal has nothing of it.")
	require.Contains(t, ask(exitUsage, "trace"), "trace needs a table and a key")

	p.signal(t, syscall.SIGTERM)
	code, out := p.wait(t)
	require.Zero(t, code, out)
	told()
	require.Contains(t, out, "the monitor shows this pipeline")
	require.Contains(t, out, `msg="asked of the pipeline" pipeline=shop_m action=skip by=ann`)
	// Invariant I9.
	for _, secret := range []string{sourcePassword, targetPassword, monitorPassword, `mo:ni/tor\"pw`} {
		require.False(t, strings.Contains(said.String(), secret))
		require.False(t, strings.Contains(out, secret))
	}

	// With exit_on_error it ends, as without a monitor.
	file = e.config(t, "shop_m", [2]string{"", fmt.Sprintf("monitor: {listen: %q, exit_on_error: true}", address)})
	e.target.Exec(t, "INSERT INTO shop_m.people VALUES (7, 'here already', 0)")
	p = e.start(t, "run", "-c", file)
	e.source.Exec(t, "INSERT INTO shop_m.people VALUES (7, 'Gus', 1)")
	code, out = p.wait(t)
	require.Equal(t, exitRun, code, out)
	file = e.config(t, "shop_m")
	require.Contains(t, ask(exitUsage, "pause"), "has no section monitor")
}
