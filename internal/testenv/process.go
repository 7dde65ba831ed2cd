//go:build unix

package testenv

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// A process is a child, running or not.
type process struct {
	*os.Process
	done chan struct{} // closed at its end
	err  error         // how it ended; valid once done is closed
}

// startProcess starts cmd as a process that does not outlive ours.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	err := childproc.Start(cmd, func(err error) {
		p.err = err
		close(p.done)
	})
	p.Process = cmd.Process
	return p, err
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends the signal, unless the process has ended.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.Signal(sig); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.done
	return nil
}
