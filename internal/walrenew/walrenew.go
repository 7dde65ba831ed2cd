// Package walrenew writes the write-ahead log of an SQLite database once more, before
// what is in it is trusted.
//
// A process whose last sync of the log failed may have been killed before it said so.
// Linux takes pages for clean that it could not write: reads give what no disk has, and
// later syncs succeed without it ("Can Applications Recover from fsync Failures?",
// USENIX ATC 2020). The next process finds a commit that looks whole. What it adds
// behind it is lost with it when the power goes, though it was synced; and if the log is
// moved into the database meanwhile, old pages come to lie among new ones. So the log is
// written anew, which makes its pages dirty, and synced, before anything is told of it,
// added to it or moved out of it.
package walrenew

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/dataflowsync/dfs/internal/files"
)

// large is from what length on people are told why a start takes so long.
const large = 100 << 20

// disk is where the files are, if not with the system.
var disk atomic.Pointer[files.FS]

// Use puts d in the place of the system's files, for the whole process, until restore is
// called: for tests, which do the same with those that SQLite uses.
func Use(d files.FS) (restore func()) {
	old := disk.Swap(&d)
	return func() { disk.Store(old) }
}

// Renew writes the log of the database at path once more, with the bytes that it has,
// and makes it durable, with its name. The path is the one by which SQLite knows the
// file, without symbolic links. It does nothing if there is no log. A disk that is full
// is no error, but logged: what there is must be read, or there will never be room.
//
// The caller makes sure that nobody else writes to the log or shortens it meanwhile. He
// has a lock by which all keep who write, or he holds a transaction that SQLite began
// with BEGIN IMMEDIATE: writing to the log and beginning it anew take the same lock, as
// do the checkpoints that cut it (RESTART and TRUNCATE); others only read it; and it is
// removed by a connection that is the only one. Those who read it find the same bytes.
// SQLite's locks lie on the database and on its -shm, so to open and close the log
// releases none of them.
func Renew(ctx context.Context, path string, log *slog.Logger) error {
	path += "-wal"
	err := renew(ctx, path, log)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// Of a file system that writes each change elsewhere.
		log.Warn("the disk is full: a write-ahead log could not be written once more", "file", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("write its log once more, as the last sync may have failed: %w", err)
	}
	return nil
}

func renew(ctx context.Context, path string, log *slog.Logger) (err error) {
	d := files.FS(files.System{})
	if other := disk.Load(); other != nil {
		d = *other
	}
	f, err := d.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if size > large {
		log.Info("writing a large write-ahead log once more, as the last sync may have failed", "file", path, "bytes", size)
	}
	b := make([]byte, min(size, 1<<20))
	for off := int64(0); off < size; off += int64(len(b)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b = b[:min(int64(len(b)), size-off)]
		if n, err := f.ReadAt(b, off); err != nil && (err != io.EOF || n < len(b)) {
			return err
		}
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	// That process may have died before it had made the name durable, which SQLite does
	// only for a log that it makes. A folder that cannot be read it leaves alone.
	if err := d.SyncDir(filepath.Dir(path)); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
