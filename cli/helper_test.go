//go:build unix

package cli

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// binary is the program, built by TestMain.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dfs-basic-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "basic")
	build := exec.Command("go", "build", "-o", binary, "../examples/basic")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	build = exec.Command("go", "build", "-o", filepath.Join(dir, "embed"), "../examples/embed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// Passwords that must never be printed. They need care in YAML, in a DSN and in
// SQL alike.
const (
	sourcePassword = `so:ur@ce/(pw)?#$"x`
	targetPassword = `ta:rg@et/[pw]&%$'y`
	wrongPassword  = `wr@ng:pw/`
)

// An env is two servers with the accounts that the example file describes, and
// a folder for files.
type env struct {
	source, target *testenv.Server
	dir            string

	mu   sync.Mutex
	said strings.Builder // all that any program printed
}

func newEnv(t *testing.T) *env {
	e := &env{dir: t.TempDir()}
	e.source, e.target = testenv.Start(t, testenv.MySQL97), testenv.Start(t, testenv.MySQL97)
	e.source.Exec(t,
		"CREATE USER dfs@'%' IDENTIFIED BY '"+sourcePassword+"'",
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO dfs@'%'",
		"GRANT SELECT ON `shop%`.* TO dfs@'%'")
	e.target.Exec(t,
		"CREATE USER dfs@'%' IDENTIFIED BY '"+strings.ReplaceAll(targetPassword, "'", "''")+"'",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON `shop%`.* TO dfs@'%'",
		"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON dfs.* TO dfs@'%'")
	t.Cleanup(func() {
		// Invariant I9, for all that the test made the program print.
		for _, secret := range []string{sourcePassword, targetPassword, wrongPassword} {
			require.NotContains(t, e.said.String(), secret)
			require.NotContains(t, e.said.String(), secret[2:8])
		}
	})
	return e
}

// both runs the statements on both servers.
func (e *env) both(t *testing.T, statements ...string) {
	e.source.Exec(t, statements...)
	e.target.Exec(t, statements...)
}

// config writes a file for the schema. Each edit replaces a line that contains
// its first word by the second, or appends the second if the first is empty.
func (e *env) config(t *testing.T, schema string, edits ...[2]string) string {
	t.Helper()
	_, sourcePort, err := net.SplitHostPort(e.source.Addr())
	require.NoError(t, err)
	_, targetPort, err := net.SplitHostPort(e.target.Addr())
	require.NoError(t, err)
	lines := strings.Split(fmt.Sprintf(`name: %[1]s
source:
  host: 127.0.0.1
  port: %[2]s
  user: dfs
  password: ${SOURCE_PASSWORD}
  tables: %[1]s.*
  start: %[4]s
queue:
  path: %[1]s.queue
target:
  host: 127.0.0.1
  port: %[3]s
  user: dfs
  password: ${TARGET_PASSWORD}`, schema, sourcePort, targetPort, e.here(t)), "\n")
	for _, edit := range edits {
		found := edit[0] == ""
		for i, line := range lines {
			if !found && strings.Contains(line, edit[0]) {
				lines[i], found = edit[1], true
			}
		}
		require.True(t, found, "no line has %q", edit[0])
		if edit[0] == "" {
			lines = append(lines, edit[1])
		}
	}
	file := filepath.Join(e.dir, schema+".yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return file
}

// here returns where the source's log ends now, as source.start.
func (e *env) here(t *testing.T) string {
	var set string
	require.NoError(t, e.source.DB(t).QueryRow("SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')").Scan(&set))
	return "gtid:" + set
}

// A program is a running basic.
type program struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	out  bytes.Buffer
	done chan struct{}
}

func (p *program) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *program) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// start starts basic with the arguments.
func (e *env) start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(binary, args...), done: make(chan struct{})}
	e.begin(t, p)
	return p
}

// begin starts the program with the passwords in its environment, and sees to
// its end. Its output goes to p unless it is set.
func (e *env) begin(t *testing.T, p *program) {
	t.Helper()
	p.cmd.Dir = e.dir
	p.cmd.Env = []string{"TERM=xterm", "SOURCE_PASSWORD=" + sourcePassword, "TARGET_PASSWORD=" + targetPassword,
		"WRONG_PASSWORD=" + wrongPassword, "PATH=" + os.Getenv("PATH"), "HOME=" + e.dir}
	if p.cmd.Stdout == nil {
		p.cmd.Stdout, p.cmd.Stderr = p, p
	}
	require.NoError(t, p.cmd.Start())
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		e.mu.Lock()
		defer e.mu.Unlock()
		e.said.WriteString(p.printed())
	})
}

// wait returns the exit code and all that was printed.
func (p *program) wait(t *testing.T) (int, string) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		t.Fatalf("the program has not ended; it printed\n%s", p.printed())
	}
	return p.cmd.ProcessState.ExitCode(), p.printed()
}

func (p *program) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

// basic runs basic to its end.
func (e *env) basic(t *testing.T, args ...string) (int, string) {
	t.Helper()
	return e.start(t, args...).wait(t)
}

// plain replaces what differs from run to run.
func (e *env) plain(text string) string {
	return strings.NewReplacer(e.dir, "DIR", e.source.Addr(), "SOURCE", e.target.Addr(), "TARGET").Replace(text)
}

// waitFor waits until f is true.
func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 3*time.Minute, 2*time.Millisecond)
}

// eventually waits until the query on db gives want, while the program runs.
func eventually(t *testing.T, p *program, db *sql.DB, query, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var got string
	var err error
	for ctx.Err() == nil {
		if err = db.QueryRowContext(ctx, query).Scan(&got); err == nil && got == want {
			return
		}
		select {
		case <-ctx.Done():
		case <-p.done:
			t.Fatalf("%s: got %q, want %q; the program ended, and printed\n%s", query, got, want, p.printed())
		case <-time.After(2 * time.Millisecond):
		}
	}
	t.Fatalf("%s: got %q, want %q (%v); the program printed\n%s", query, got, want, err, p.printed())
}
