package queue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// renewLog writes the write-ahead log that a process before has left once more, with the
// bytes that it has. If the last sync of that process failed, reads give what no disk has:
// Linux takes pages for clean that it could not write, and no later sync writes them ("Can
// Applications Recover from fsync Failures?", USENIX ATC 2020). What is added behind them
// would be lost with them when the power goes.
//
// The caller holds the lock, so nobody else writes; who reads finds the same bytes.
func renewLog(path string, opts *Options) (err error) {
	f, err := os.OpenFile(path+"-wal", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer f.Close()
		b := make([]byte, 1<<20)
		for off := int64(0); err == nil; {
			var n int
			n, err = f.ReadAt(b, off)
			if err == io.EOF && n > 0 {
				err = nil
			}
			if err == nil {
				_, err = f.WriteAt(b[:n], off)
			}
			if err == nil && opts.renewed != nil {
				opts.renewed(off, b[:n])
			}
			off += int64(n)
		}
		if err == io.EOF {
			err = f.Sync()
		}
		if err == nil && opts.renewed != nil {
			opts.renewed(0, nil)
		}
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// A file system that writes each change elsewhere has no room for it. What there is
		// must be read, or there will never be any.
		opts.logger().Warn("the disk is full: the queue's write-ahead log could not be written once more", "file", path+"-wal")
		return nil
	}
	if err != nil {
		return fmt.Errorf("queue %s: write its log once more, as the last sync may have failed: %w", path, err)
	}
	return nil
}
