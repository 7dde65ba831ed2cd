//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly && !windows

package sink

import (
	"errors"
	"os"
)

// An archive without locks could have two writers, so there it can be read only.
func lockFile(*os.File) error {
	return errors.New("this operating system has no locks on files that an archive could be written with")
}

func unlockFile(*os.File) error { return nil }

func syncDir(string) error { return nil }
