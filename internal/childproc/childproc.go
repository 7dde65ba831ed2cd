//go:build unix

// Package childproc starts processes that do not outlive this one.
package childproc

import (
	"os/exec"
	"runtime"
)

// Start starts cmd as a process that ends with this one, even if this one is
// killed, where the kernel can do that (Linux), and that an interrupt from the
// terminal does not reach there. It waits for the process and then calls ended
// with what cmd.Wait returned. After Start, cmd.Process may be used.
func Start(cmd *exec.Cmd, ended func(error)) error {
	cmd.SysProcAttr = attr()
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that started the child for the
		// end of its parent. So the thread must stay until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-started
}
