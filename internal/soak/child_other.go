//go:build unix && !linux

package main

import "syscall"

// childAttr leaves the child in the group of its parent, so that the terminal's
// interrupt ends both: these kernels have nothing stronger to offer.
func childAttr() *syscall.SysProcAttr { return nil }
