//go:build unix && !linux

package main

import "syscall"

// procAttr leaves the child in the group of its parent, so that the terminal's
// interrupt ends both: these kernels have nothing stronger to offer.
func procAttr() *syscall.SysProcAttr { return nil }
