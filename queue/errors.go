package queue

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dataflowsync/dfs"
)

// ErrClosed is returned by the methods of a closed Queue or Stream.
var ErrClosed = errors.New("queue: closed")

// A CorruptError says that the file no longer holds what was written to it: the
// disk, or another program, changed it. What is damaged is never decoded, so no
// wrong row leaves the queue.
type CorruptError struct {
	Path  string
	Block int64  // number of the damaged block, or 0 for the file itself
	Seq   uint64 // first transaction in that block
	Err   error  // what was found
}

func (e *CorruptError) Error() string {
	const cure = "stop, remove the file with those named -wal and -shm beside it, and start again: " +
		"the pipeline then reads on from the source, where its target stands"
	if e.Block == 0 {
		return fmt.Sprintf("queue %s is damaged: %v; %s", e.Path, e.Err, cure)
	}
	return fmt.Sprintf("queue %s is damaged in block %d, from transaction %d on: %v; %s",
		e.Path, e.Block, e.Seq, e.Err, cure)
}

// Unwrap returns what was found.
func (e *CorruptError) Unwrap() error { return e.Err }

// A MismatchError says that a reader and the queue remember different positions
// for the same transaction, so that they belong to different pipelines. It also
// arises when an older copy of the queue's file was put back and captured on from
// where that copy ends: the source's transactions may then bear other numbers.
type MismatchError struct {
	Path   string
	Seq    uint64
	Queue  dfs.Position // what the queue holds for Seq
	Reader dfs.Position // what the reader's checkpoint says
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("queue %s belongs to another pipeline or target: "+
		"its transaction %d is at %q, the reader's at %q; give each pipeline a queue file of its own; "+
		"or, if the file is an older copy of the right one, remove it with those named -wal and -shm beside it, "+
		"so that the source is read again from where the target stands",
		e.Path, e.Seq, e.Queue, e.Reader)
}

// gap wraps dfs.ErrGap with what is missing and what to do.
func gap(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{dfs.ErrGap}, args...)...)
}

// wrap adds to an error of SQLite what was being done, and judges it: a full
// disk, a failed write and a lock held by another program may pass. It does not
// judge errors that are not SQLite's.
func wrap(path, doing string, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("queue %s: %s: %w", path, doing, err)
	}
	why := ""
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		why = "the disk is full: "
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		why = "another program holds a lock on it: "
	case sqlite3.SQLITE_IOERR:
		if unsure(err) {
			return fmt.Errorf("queue %s: %s: the disk did not confirm a write; restart once it is sound: %w", path, doing, err)
		}
	case sqlite3.SQLITE_NOMEM:
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return &CorruptError{Path: path, Err: fmt.Errorf("%s: %w", doing, err)}
	default:
		return fmt.Errorf("queue %s: %s: %w", path, doing, err)
	}
	return dfs.Transient(fmt.Errorf("queue %s: %s: %s%w", path, doing, why, err))
}

// unsure reports whether err leaves open what is on the disk. After a failed
// fsync Linux takes the pages for clean, and the next fsync succeeds without
// having written them (LWN, "PostgreSQL's fsync() surprise"), so that no later
// success can be trusted until the file has been opened anew.
func unsure(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return true
	}
	return false
}

// isFull reports whether err is a full disk.
func isFull(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_FULL
}
