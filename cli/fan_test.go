//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
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
	// Messages go to a file and to a receiver that remembers keys.
	hook := &receiver{keys: make(map[string]bool)}
	server := httptest.NewServer(hook)
	defer server.Close()
	messages := fmt.Sprintf(`  - {name: events, tables: shop_n.people, stream: {to: events.ndjson, max_bytes: 2KiB}}
  - name: hook
    stream: {to: "%s/?token=t0ken", checkpoint: hook.checkpoint, format: debezium, secret: "${TARGET_PASSWORD}"}
`, server.URL)
	write(whole, less, messages)
	code, out := e.basic(t, "check", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "exactly once: what a crash leaves behind is cut off")
	require.Contains(t, out, "at least once: a request whose answer is lost is sent again")
	require.NotContains(t, out, "t0ken")
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
	require.Len(t, states, 4)
	for _, s := range states {
		// What the second target is written moves the source's log, so it is not told
		// whether they are in step.
		require.NotNil(t, s.Queue.Reader, out)
		require.False(t, s.Queue.Reader.Lost, out)
	}
	code, out = e.basic(t, "verify", "-c", file, "-target", "copy")
	require.Zero(t, code, out)
	write(whole, less)
	code, out = e.basic(t, "verify", "-c", file)
	require.Zero(t, code, out)
	require.Contains(t, out, "target less\n")
	write(whole, less, messages)

	// Each row that was inserted is in the files and has been sent, once.
	wanted := make(map[string]int)
	for i := 1; i < 50; i++ {
		wanted[fmt.Sprint(i)] = 1
	}
	require.Equal(t, wanted, inserted(t, e.dir))
	hook.mu.Lock()
	require.Equal(t, wanted, hook.inserts)
	hook.mu.Unlock()
	code, out = e.basic(t, "verify", "-c", file, "-target", "events")
	require.Equal(t, exitSetup, code, out)
	require.Contains(t, out, "is a stream of messages")

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
	for _, name := range []string{"events", "hook"} {
		code, out = e.basic(t, "forget", name, "-c", file)
		require.Zero(t, code, out)
	}

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

// A receiver of a webhook counts the rows that were inserted, by their ids.
type receiver struct {
	mu      sync.Mutex
	keys    map[string]bool
	inserts map[string]int
}

var created = regexp.MustCompile(`"before":null,"after":\{"id":(\d+),`)

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(q.Body)
	if key := q.Header.Get("Idempotency-Key"); err != nil || r.keys[key] || q.Header.Get("Dfs-Signature") == "" {
		return
	} else {
		r.keys[key] = true
	}
	for _, m := range created.FindAllStringSubmatch(string(body), -1) {
		if strings.Contains(string(body), `"table":"people"`) {
			if r.inserts == nil {
				r.inserts = make(map[string]int)
			}
			r.inserts[m[1]]++
		}
	}
}

// inserted counts the rows that were inserted by the files of messages.
func inserted(t *testing.T, dir string) map[string]int {
	files, err := filepath.Glob(filepath.Join(dir, "events-*.ndjson"))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	found := make(map[string]int)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NotContains(t, string(b), "shop_n.log")
		for _, m := range regexp.MustCompile(`"op":"insert".*"after":\{"id":(\d+),`).FindAllStringSubmatch(string(b), -1) {
			found[m[1]]++
		}
	}
	return found
}
