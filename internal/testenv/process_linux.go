package testenv

import "syscall"

// procAttr makes the kernel kill the child when its parent ends, and keeps the
// terminal's interrupt from it, which is for the parent to handle.
func procAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
