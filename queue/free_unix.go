//go:build linux || darwin || freebsd

package queue

import "syscall"

// diskFree returns how many bytes the file system at path still takes from this
// process, and whether it knows.
func diskFree(path string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * int64(s.Bsize), true
}
