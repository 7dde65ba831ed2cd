//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A child is a run of the basic program.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed at its end

	mu   sync.Mutex
	err  error    // how it ended
	said []string // the last lines of its log
}

// startChild starts cmd in a process group of its own, so that an interrupt
// from the terminal is for us to handle, and reads its log.
func startChild(cmd *exec.Cmd) (*child, error) {
	c := &child{cmd: cmd, done: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = procAttr()
	started := make(chan error)
	go func() {
		// Where the kernel ends a child with its parent, it takes the end of the
		// thread that started the child for the end of the parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		c.read(stderr)
		err := cmd.Wait()
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return c, nil
}

// read keeps the last lines of the child's log.
func (c *child) read(r io.Reader) {
	in := bufio.NewScanner(r)
	for in.Scan() {
		c.mu.Lock()
		c.said = append(c.said, in.Text())
		c.said = c.said[max(0, len(c.said)-20):]
		c.mu.Unlock()
	}
	io.Copy(io.Discard, r) // a line too long must not block the child
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
