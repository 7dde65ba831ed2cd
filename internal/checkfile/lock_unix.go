//go:build unix

package checkfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// lock waits until no other open file holds the lock: flock, which ends with the
// process and tells two files of one process apart.
func lock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
			return err
		}
	}
}

func unlock(f *os.File) { unix.Flock(int(f.Fd()), unix.LOCK_UN) }
