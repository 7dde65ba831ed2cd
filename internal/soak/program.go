//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// build compiles the program under test, the one that users run.
func build(ctx context.Context, dir string) (string, error) {
	binary := filepath.Join(dir, "dfs")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/dataflowsync/dfs/examples/basic")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program under test: %w\n%s", err, out)
	}
	return binary, nil
}

// settings are what a configuration file says.
type settings struct {
	source, target string // data source names
	schema         string
	start          string // GTIDs after which the source's log begins
	queue          string // path
	monitor        string // where the monitor listens
}

// write writes the configuration file. Go's quoted strings are YAML's, too, for
// what they hold here.
func (s *settings) write(file string) error {
	quoted := func(s string) string { return fmt.Sprintf("%q", strings.ReplaceAll(s, "$", "$$")) }
	text := fmt.Sprintf(`name: soak
source:
  dsn: %s
  tables: [%s]
  start: %s
queue:
  path: %s
target:
  dsn: %s
  checkpoint_schema: %s
monitor:
  listen: %s
  exit_on_error: true
`, quoted(s.source), quoted(s.schema+".*"), quoted("gtid:"+s.start), quoted(s.queue), quoted(s.target), quoted(s.schema+"_dfs"), quoted(s.monitor))
	return os.WriteFile(file, []byte(text), 0o600)
}

// An instance is one process of the program under test.
type instance struct {
	process *os.Process
	log     string
	monitor string
	began   time.Time
	done    chan struct{}
	state   *os.ProcessState // valid once done is closed
}

// launch starts cmd with its output going to the file log.
func launch(cmd *exec.Cmd, log string) (*instance, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the process has its own
	cmd.Stdout, cmd.Stderr = f, f
	p := &instance{log: log, began: time.Now(), done: make(chan struct{})}
	err = childproc.Start(cmd, func(error) {
		p.state = cmd.ProcessState // it tells how it ended
		close(p.done)
	})
	if err != nil {
		return nil, fmt.Errorf("start the program under test: %w", err)
	}
	p.process = cmd.Process
	return p, nil
}

// ended reports whether the process has ended.
func (p *instance) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends the signal, unless the process has ended.
func (p *instance) signal(sig syscall.Signal) error {
	if err := p.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v: %w", sig, err)
	}
	return nil
}

// kill ends the process as a crash would.
func (p *instance) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// wait waits for the end of the process. It is false if d passes first.
func (p *instance) wait(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// tail returns the end of what the process has said.
func (p *instance) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(b) > 1500 {
		b = b[len(b)-1500:]
	}
	return strings.TrimSpace(string(b))
}
