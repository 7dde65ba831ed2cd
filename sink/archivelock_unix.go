//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sink

import (
	"os"
	"syscall"
)

// lockFile waits until no other holds the lock of f, and takes it. It ends with the
// process.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			return err
		}
	}
}

func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

// syncDir makes what was created, renamed and removed in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
