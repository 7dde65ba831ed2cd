// Package files is what the sinks that write files do with them. It is a seam: tests
// put a disk in the place of the system that fails, or that loses its power.
package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// A File is an open file, as *os.File is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// An FS holds files. What it does to names is durable once SyncDir has returned for
// their folder, and what is written to a file once its Sync has.
type FS interface {
	// OpenFile, Rename and Remove are those of package os.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(from, to string) error
	Remove(name string) error

	// SyncDir makes the names in a folder durable, where the system can do that.
	SyncDir(dir string) error
}

// System is the files of the operating system.
type System struct{}

var _ FS = System{}

// OpenFile implements FS. It returns a *os.File.
func (System) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // and no File that holds a nil *os.File
	}
	return f, nil
}

// Rename implements FS.
func (System) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (System) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS.
func (System) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, fs.ErrPermission) {
		err = nil // Windows, and file systems that have no such thing
	}
	return errors.Join(err, d.Close())
}
