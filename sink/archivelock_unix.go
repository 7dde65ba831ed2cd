//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package sink

import (
	"os"
	"syscall"
)

// tryLock takes the lock of f, if no other holds it.
func tryLock(f *os.File) (bool, error) {
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
	case syscall.EINTR, syscall.EWOULDBLOCK:
		return false, nil
	default:
		return err == nil, err
	}
}

func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
