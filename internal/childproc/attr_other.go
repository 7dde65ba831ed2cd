//go:build unix && !linux

package childproc

import "syscall"

// attr leaves the child in the group of its parent, so that the terminal's
// interrupt ends both: these kernels have nothing stronger to offer.
func attr() *syscall.SysProcAttr { return nil }
