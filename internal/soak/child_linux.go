package main

import "syscall"

// childAttr makes the kernel kill the child when its parent ends, and keeps the
// terminal's interrupt from it, which is for the parent to handle.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
