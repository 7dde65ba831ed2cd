//go:build unix

package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/stretchr/testify/require"
)

const people = "CREATE TABLE %s.people (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL, n INT NOT NULL DEFAULT 0)"

func TestBasic(t *testing.T) {
	e := newEnv(t)
	schema := func(t *testing.T, name string) {
		e.both(t, "CREATE DATABASE "+name, fmt.Sprintf(people, name))
	}
	db := e.target.DB(t)

	t.Run("run carries rows, survives kill -9, and stops when asked", func(t *testing.T) {
		schema(t, "shop")
		file := e.config(t, "shop")
		code, out := e.basic(t, "status", "-c", file)
		require.Zero(t, code, out)
		require.Contains(t, out, "target    "+e.target.Addr()+" · MySQL 9.7.", out)
		require.Contains(t, out, "not started")
		require.Contains(t, out, "behind    unknown\n")

		p := e.start(t, "-c", file) // run is the default
		e.source.Exec(t, "INSERT INTO shop.people VALUES (1, 'Åsa', 1), (2, 'Bo', 1)", "UPDATE shop.people SET n = n + 1")
		eventually(t, p, db, "SELECT SUM(n) FROM shop.people", "4")
		require.NoError(t, p.cmd.Process.Kill())
		<-p.done

		e.source.Exec(t, "UPDATE shop.people SET n = n + 1", "DELETE FROM shop.people WHERE id = 2", "INSERT INTO shop.people VALUES (3, 'Cy', 7)")
		code, out = e.basic(t, "status", "-c", file)
		require.Zero(t, code, out)
		require.Contains(t, out, "behind    3 transactions not read yet, 0 transactions in the queue\n")

		p = e.start(t, "run", "-c", file, "-log", "json")
		eventually(t, p, db, "SELECT GROUP_CONCAT(id, name, n ORDER BY id) FROM shop.people", "1Åsa3,3Cy7")

		// Another process may look, but not take the queue.
		code, out = e.basic(t, "status", "-c", file, "-json")
		require.Zero(t, code, out)
		var s state
		require.NoError(t, json.Unmarshal([]byte(out), &s))
		require.True(t, s.InStep, out)
		require.NotZero(t, s.Target.Seq)
		require.Equal(t, s.Queue.Last, s.Target.Seq)
		code, out = e.basic(t, "run", "-c", file)
		require.Equal(t, exitSetup, code)
		require.Equal(t, fmt.Sprintf("basic: the queue cannot be used: queue DIR/shop.queue: process %d is writing it; a queue has one writer: "+
			"stop that process, or open the queue with ReadOnly\n", p.cmd.Process.Pid), e.plain(out))

		p.signal(t, syscall.SIGTERM)
		code, out = p.wait(t)
		require.Zero(t, code, out)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		for _, line := range lines {
			require.True(t, json.Valid([]byte(line)), line)
		}
		require.Contains(t, lines[len(lines)-1], `"msg":"stopped"`)
	})

	t.Run("routes and no queue", func(t *testing.T) {
		schema(t, "shop_r")
		e.target.Exec(t, "ALTER TABLE shop_r.people RENAME shop_r.folk")
		file := e.config(t, "shop_r", [2]string{"queue:", "#"}, [2]string{"path:", "#"},
			[2]string{"", "  routes: [{from: shop_r.people, to: \"*.folk\"}]"})
		code, out := e.basic(t, "check", "-c", file)
		require.Zero(t, code, out)
		require.Regexp(t, `(?m)^  ok     shop_r\.people → shop_r\.folk +3 columns, key id$`, out)
		p := e.start(t, "-c", file)
		e.source.Exec(t, "INSERT INTO shop_r.people VALUES (1, 'Åsa', 1)")
		eventually(t, p, db, "SELECT COUNT(*) FROM shop_r.folk", "1")
		p.signal(t, syscall.SIGINT)
		code, out = p.wait(t)
		require.Zero(t, code, out)
	})

	t.Run("a second signal ends at once and loses nothing", func(t *testing.T) {
		schema(t, "shop_s")
		file := e.config(t, "shop_s", [2]string{"", "pipeline: {stop_timeout: 1h}"})
		p := e.start(t, "-c", file)
		e.source.Exec(t, "INSERT INTO shop_s.people VALUES (1, 'Åsa', 1)")
		eventually(t, p, db, "SELECT COUNT(*) FROM shop_s.people", "1")
		require.NoError(t, e.target.Pause())
		resume := true
		defer func() {
			if resume {
				e.target.Resume()
			}
		}()
		e.source.Exec(t, "UPDATE shop_s.people SET n = n + 1")
		eventually(t, p, e.source.DB(t), "SELECT COUNT(*) FROM shop_s.people WHERE n = 2", "1")
		waitFor(t, func() bool { return readQueue(t.Context(), filepath.Join(e.dir, "shop_s.queue"), "").Last == 3 })
		p.signal(t, syscall.SIGTERM)
		waitFor(t, func() bool { return strings.Contains(p.printed(), "stopping; a second signal ends at once") })
		p.signal(t, syscall.SIGINT)
		code, out := p.wait(t)
		require.Equal(t, 130, code, out)
		require.Contains(t, out, "basic: ended at once by a second signal; the next start goes on from the target's checkpoint\n")
		require.NoError(t, e.target.Resume())
		resume = false

		p = e.start(t, "-c", file)
		eventually(t, p, db, "SELECT n FROM shop_s.people", "2")
		p.signal(t, syscall.SIGTERM)
		code, out = p.wait(t)
		require.Zero(t, code, out)
	})

	t.Run("a conflict stops it with what to do", func(t *testing.T) {
		schema(t, "shop_c")
		file := e.config(t, "shop_c")
		p := e.start(t, "-c", file)
		e.target.Exec(t, "INSERT INTO shop_c.people VALUES (1, 'here already', 0)")
		e.source.Exec(t, "INSERT INTO shop_c.people VALUES (1, 'Åsa', 1)")
		code, out := p.wait(t)
		require.Equal(t, exitRun, code, out)
		require.Regexp(t, `(?m)^basic: stopped: sink, transaction 2 \([-:0-9a-f]+\): .*insert of shop_c\.people \(id=1\).*conflict policy`, out)

		file = e.config(t, "shop_c", [2]string{"", "  conflicts: [{tables: shop_c.people, policy: overwrite}]"})
		p = e.start(t, "-c", file)
		eventually(t, p, db, "SELECT name FROM shop_c.people", "Åsa")
		p.signal(t, syscall.SIGTERM)
		code, out = p.wait(t)
		require.Zero(t, code, out)
		require.Contains(t, out, "level=WARN msg=conflicts pipeline=shop_c table=shop_c.people policy=overwrite rows=1\n")
	})

	t.Run("check", func(t *testing.T) { e.testCheck(t) })
	t.Run("faults", func(t *testing.T) { e.testFaults(t) })
	t.Run("purged", func(t *testing.T) { e.testPurged(t) })
	t.Run("statements", func(t *testing.T) { e.testStatements(t) })
	t.Run("units", func(t *testing.T) { e.testUnits(t) })
	t.Run("functions", func(t *testing.T) { e.testFuncs(t) })
	t.Run("verify", func(t *testing.T) { e.testVerify(t) })
	t.Run("ids", func(t *testing.T) { e.testIDs(t) })
	t.Run("a dry run", func(t *testing.T) { e.testDryRun(t) })
	t.Run("tables that units make", func(t *testing.T) { e.testCreateUnits(t) })
	t.Run("monitor", func(t *testing.T) { e.testMonitor(t) })
	t.Run("letters", func(t *testing.T) { e.testLetters(t) })
	t.Run("lost checkpoint", func(t *testing.T) { e.testLostCheckpoint(t) })
	t.Run("embed", func(t *testing.T) { e.testEmbed(t) })
}

func TestExampleFileIsValidAndComplete(t *testing.T) {
	lookup := func(name string) (string, bool) {
		if strings.HasSuffix(name, "_PASSWORD") {
			return "x", true
		}
		return "", false
	}
	_, err := config.Parse("dfs.yaml", []byte(example), lookup)
	require.NoError(t, err)

	// With every key that is commented out, but for those that exclude others.
	var all []string
	for line := range strings.Lines(example) {
		key := strings.TrimSpace(line)
		if strings.HasPrefix(key, "#  - ") || strings.HasPrefix(key, "#") && !strings.HasPrefix(key, "# ") && key != "#" {
			key = strings.TrimPrefix(key, "#")
			if strings.HasPrefix(key, "socket") || strings.HasPrefix(key, "dsn") || strings.HasPrefix(key, "tls: {") || strings.HasPrefix(key, "file") || key == "ddl: apply" {
				continue
			}
			line = strings.Replace(line, "#", "", 1)
		}
		all = append(all, line)
	}
	c, err := config.Parse("dfs.yaml", []byte(strings.Join(all, "")), lookup)
	require.NoError(t, err, strings.Join(all, ""))
	require.Len(t, c.Target.Routes, 2)

	// The file says of each key that there is such a key.
	for _, key := range config.Keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		require.Regexp(t, `(?m)^\s*#?\s*(- \{.*|tls: \{.*)?\b`+name+`:`, example, key)
	}
}

func TestCommandLine(t *testing.T) {
	e := &env{dir: t.TempDir()}
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"-h", exitOK, "130, 143  a second SIGINT or SIGTERM ended it at once\n"},
		{"help", exitOK, "usage: basic [command] [flags] [tables]\n"},
		{"run -h", exitOK, "usage: basic [command] [flags] [tables]\n"},
		{"version", exitOK, "basic "},
		{"config", exitOK, example},
		{"frobnicate", exitUsage, "basic: unknown command \"frobnicate\"\n"},
		{"archive frobnicate", exitUsage, "basic archive: unknown command \"frobnicate\"\nbasic archive -h lists the commands and flags\n"},
		{"run -frobnicate", exitUsage, "basic: flag provided but not defined: -frobnicate\n"},
		{"check -dry-run", exitUsage, "basic: -dry-run is for run, and for verify -repair\n"},
		{"run -count 3", exitUsage, "basic: -count and -for are for run -dry-run\n"},
		{"run -dry-run -for -3s", exitUsage, "basic: -count and -for must not be negative\n"},
		{"run -repair", exitUsage, "basic: -repair, -lock-time, -continuous and -rows are for verify\n"},
		{"verify -dry-run", exitUsage, "basic: -dry-run is for run, and for verify -repair\n"},
		{"verify -lock-time -1s", exitUsage, "basic: -lock-time must not be negative\n"},
		{"verify -rows -1", exitUsage, "basic: -rows must not be negative\n"},
		{"verify shop.a -json", exitUsage, `basic: "-json" names no table`},
		{"check extra", exitUsage, "basic: unexpected argument \"extra\"\n"},
		{"skip", exitUsage, "basic: skip needs the name of a transaction\n"},
		{"stop-at a b", exitUsage, "basic: unexpected argument \"b\"\n"},
		{"pause now", exitUsage, "basic: unexpected argument \"now\"\n"},
		{"-log xml", exitUsage, "basic: -log is \"xml\"; want text or json\n"},
		{"", exitUsage, "basic: dfs.yaml cannot be used: read configuration: open dfs.yaml: no such file or directory; the command config prints an example to begin with, and -c names another file\n"},
		{"status -c none.yaml", exitUsage, "basic: none.yaml cannot be used: read configuration: open none.yaml: no such file or directory; the command config prints an example to begin with, and -c names another file\n"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, out := e.basic(t, strings.Fields(test.args)...)
			require.Equal(t, test.code, code, out)
			require.Contains(t, out, test.want)
		})
	}
}

func TestReadmeHasTheExitCodes(t *testing.T) {
	readme, err := os.ReadFile("../examples/basic/README.md")
	require.NoError(t, err)
	_, codes, found := strings.Cut(usage, "exit codes:\n")
	require.True(t, found)
	codes, _, _ = strings.Cut(codes, "\n\n")
	for line := range strings.Lines(codes) {
		code, meaning := strings.TrimSpace(line[:12]), strings.TrimSpace(line[12:])
		require.Contains(t, string(readme), "| "+code+" | "+meaning+" |\n")
	}
}

func TestConfigWithThreeMistakesTellsAllThree(t *testing.T) {
	e := &env{dir: t.TempDir()}
	require.NoError(t, os.WriteFile(filepath.Join(e.dir, "dfs.yaml"), []byte(`source:
  dsn: dfs:pw@tcp(127.0.0.1:1)/
  tabels: [shop.*]
  heartbeat: fast
target:
  host: 127.0.0.1
  user: dfs
  password: ${MISSING}
`), 0o600))
	for _, command := range []string{"run", "check", "status"} {
		code, out := e.basic(t, command)
		require.Equal(t, exitUsage, code)
		require.Equal(t, `basic: dfs.yaml cannot be used:
  - dfs.yaml:3: unknown key "tabels" under source; did you mean tables?
  - dfs.yaml:4: source.heartbeat is "fast"; want a duration such as 500ms, 10s, 24h or 7d
  - dfs.yaml:8: target.password: environment variable MISSING is not set; set it, or write ${MISSING:-default}
`, out)
	}
}
