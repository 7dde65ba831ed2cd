//go:build unix

package testenv

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// A process is a child, running or not.
type process struct {
	*os.Process
	done chan struct{} // closed at its end
	err  error         // how it ended; valid once done is closed
}

// startProcess starts cmd as a process that does not outlive ours.
func startProcess(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = procAttr()
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started the child for the
		// end of its parent. So the thread must stay until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.Process = cmd.Process
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
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
