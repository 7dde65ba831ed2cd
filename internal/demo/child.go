//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// A child is a run of the basic program.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end

	mu   sync.Mutex
	err  error    // how it ended
	said []string // the last lines of its log
	rest string   // a line that has no end yet
}

// startChild starts cmd in a process group of its own, so that an interrupt
// from the terminal is for us to handle, and reads its log.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	cmd.Stderr = c
	err := childproc.Start(cmd, func(err error) {
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		close(c.done)
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// Write keeps the last lines of the child's log.
func (c *child) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := strings.Split(c.rest+string(b), "\n")
	c.rest = lines[len(lines)-1]
	c.said = append(c.said, lines[:len(lines)-1]...)
	c.said = c.said[max(0, len(c.said)-20):]
	return len(b), nil
}

// log returns the last of what the child has said.
func (c *child) log() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said, "\n")
}

// kill ends the child as a crash would.
func (c *child) kill() {
	if err := c.cmd.Process.Kill(); err == nil || errors.Is(err, os.ErrProcessDone) {
		<-c.done
	}
}

// stop asks the child to end, and returns how it did.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.kill()
		return errors.New("did not end within 30 seconds of SIGTERM")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// ended returns why the child is no longer running, or nil while it is.
func (c *child) ended() error {
	select {
	case <-c.done:
		c.mu.Lock()
		err := c.err
		c.mu.Unlock()
		return fmt.Errorf("the program ended by itself: %v; it said\n%s", err, c.log())
	default:
		return nil
	}
}
