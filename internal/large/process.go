//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// start starts the program, with what it says added to its log.
func (p *process) start() error {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close() // the program has its own
	p.cmd.Stdout, p.cmd.Stderr = f, f
	return childproc.Start(p.cmd, func(err error) {
		p.err = err
		close(p.done)
	})
}

// stopTimeout is how long the program may take to stop in good order, which is 10
// seconds for what it has in hand and some for a busy machine.
const stopTimeout = time.Minute

// end sends a signal and waits for the end of the program. Only after SIGKILL may it
// end otherwise than well.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("the program did not stop within %v; its log ends with\n%s", stopTimeout, p.tail())
	}
	// Where nothing was left to do, it may not yet have come to minding a signal.
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if sig != syscall.SIGKILL && p.err != nil && status.Signal() != sig {
		return fmt.Errorf("the program ended with %w\n%s", p.err, p.tail())
	}
	return nil
}

// tail returns the end of what the program has said.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}
