package childproc

import "syscall"

// attr makes the kernel kill the child when its parent ends, and keeps the
// terminal's interrupt from it, which is for the parent to handle.
func attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
