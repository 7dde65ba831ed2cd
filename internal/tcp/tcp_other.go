//go:build !linux

package tcp

import "syscall"

// setUserTimeout does nothing: where there is no such option, the system decides
// how long it sends again what is not acknowledged.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
