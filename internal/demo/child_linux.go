package main

import "syscall"

// procAttr makes the kernel kill the child when its parent ends, and keeps the
// terminal's interrupt from it.
func procAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
