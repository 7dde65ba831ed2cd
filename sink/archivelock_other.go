//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package sink

import (
	"errors"
	"os"
)

// An archive without locks could have two writers, so there it can be read only.
func tryLock(*os.File) (bool, error) {
	return false, errors.New("this operating system has no locks on files that an archive could be written with")
}

func unlockFile(*os.File) error { return nil }
