package sink

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile waits until no other holds the lock of f, and takes it. It ends with the
// process.
func lockFile(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}

func unlockFile(f *os.File) error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
}

// syncDir does nothing: NTFS keeps its own log of folders.
func syncDir(string) error { return nil }
