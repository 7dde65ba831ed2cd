// Package checkfile keeps the checkpoint of a sink in a small file, for sinks that
// write to files, or to where nothing of the kind can be kept. It lets one writer
// take over from another.
package checkfile

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/files"
)

// A Record is what a file holds.
type Record struct {
	Seq       uint64    `json:"seq"`
	Pos       string    `json:"pos"`
	ID        string    `json:"id,omitempty"`
	Committed time.Time `json:"committed,omitzero"` // at the source
	Written   time.Time `json:"written"`

	// StateSeq is the transaction that the State came with, which is in a file of
	// its own, as it may be large and changes seldom. Zero: there is none.
	StateSeq uint64 `json:"state_seq,omitempty"`
	StateSum uint32 `json:"state_sum,omitempty"`

	// File, Offset and Opened are of sinks that write to files: the number of the
	// current one, how long it is, and since when it is written.
	File   int       `json:"file,omitempty"`
	Offset int64     `json:"offset"`
	Opened time.Time `json:"opened,omitzero"`
}

// A File is a checkpoint in the file at a path, with files beside it whose names
// begin with that. It is not safe for concurrent use.
type File struct {
	files files.FS
	path  string
	owner string
	lock  *os.File
	last  Record
	state string // of last.StateSeq
}

// Open returns the checkpoint at path. It reads and makes nothing but the file with
// .lock added to the name.
func Open(path string) (*File, error) { return OpenIn(files.System{}, path) }

// OpenIn is Open for a file of another system of files; who holds its lock is a matter
// of the operating system's nevertheless.
func OpenIn(in files.FS, path string) (*File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return &File{files: in, path: path, owner: rand.Text(), lock: lock}, nil
}

// Close frees the file. It does not give up ownership, which is taken.
func (f *File) Close() error { return f.lock.Close() }

// Take makes this writer the owner, and returns what the file holds. The caller
// then calls unlock, before which no other writer does anything.
func (f *File) Take() (r Record, at dfs.Checkpoint, unlock func(), err error) {
	free, err := f.locked()
	if err != nil {
		return r, at, nil, err
	}
	defer func() {
		if err != nil {
			free()
		}
	}()
	if f.last, f.state, err = Read(f.path); err != nil {
		return r, at, nil, err
	}
	// A process may have died between giving the file its name and making that durable, and
	// what the caller is told counts as durable.
	if err = f.files.SyncDir(filepath.Dir(f.path)); err != nil {
		return r, at, nil, Judge(fmt.Errorf("checkpoint %s: make it durable: %w", f.path, err))
	}
	if err = f.lock.Truncate(0); err == nil {
		_, err = f.lock.WriteAt([]byte(f.owner), 0)
	}
	if err != nil {
		return r, at, nil, Judge(fmt.Errorf("checkpoint %s: become its owner: %w", f.path, err))
	}
	return f.last, dfs.Checkpoint{Seq: f.last.Seq, Pos: dfs.Position(f.last.Pos), State: f.state}, free, nil
}

// Lock keeps other writers away, until the caller calls unlock. If one has become
// the owner, it returns an error that is dfs.ErrConflict.
func (f *File) Lock() (unlock func(), err error) {
	if unlock, err = f.locked(); err != nil {
		return nil, err
	}
	b := make([]byte, len(f.owner))
	if _, err := f.lock.ReadAt(b, 0); err != nil && err != io.EOF {
		unlock()
		return nil, Judge(fmt.Errorf("checkpoint %s: read its owner: %w", f.path, err))
	}
	if string(b) != f.owner {
		unlock()
		return nil, fmt.Errorf("%w: another process writes with the checkpoint %s", dfs.ErrConflict, f.path)
	}
	return unlock, nil
}

func (f *File) locked() (func(), error) {
	if err := lock(f.lock); err != nil {
		return nil, fmt.Errorf("checkpoint %s: lock it: %w", f.path, err)
	}
	return func() { unlock(f.lock) }, nil
}

// Save replaces what the file holds, durably; the caller has it locked. A State in
// at replaces the one before. If it fails, either is there.
func (f *File) Save(r Record, at dfs.Checkpoint) error {
	r.Seq, r.Pos, r.Written = at.Seq, string(at.Pos), time.Now().UTC()
	r.StateSeq, r.StateSum = f.last.StateSeq, f.last.StateSum
	if at.State != "" {
		r.StateSeq, r.StateSum = at.Seq, crc32.ChecksumIEEE([]byte(at.State))
		if err := f.write(f.statePath(r.StateSeq), []byte(at.State)); err != nil {
			return Judge(fmt.Errorf("checkpoint %s: keep the source's state: %w", f.path, err))
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	b = fmt.Appendf(b, "\n%08x\n", crc32.ChecksumIEEE(b))
	if err := f.write(f.path, b); err != nil {
		return Judge(fmt.Errorf("checkpoint %s: %w", f.path, err))
	}
	if old := f.last.StateSeq; old != 0 && old != r.StateSeq {
		f.files.Remove(f.statePath(old))
	}
	if at.State != "" {
		f.state = at.State
	}
	f.last = r
	return nil
}

func (f *File) statePath(seq uint64) string { return statePath(f.path, seq) }

func statePath(path string, seq uint64) string { return fmt.Sprintf("%s.state-%d", path, seq) }

// Read returns what the file at path holds, and the zero Record if there is none.
func Read(path string) (r Record, state string, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, "", nil
	}
	if err != nil {
		return r, "", Judge(fmt.Errorf("checkpoint %s: %w", path, err))
	}
	text, sum, _ := strings.Cut(string(b), "\n")
	if fmt.Sprintf("%08x\n", crc32.ChecksumIEEE([]byte(text))) != sum {
		return r, "", fmt.Errorf("checkpoint %s is damaged: its checksum is wrong; restore it, or move it away, and the files that go with it, to begin anew", path)
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return r, "", fmt.Errorf("checkpoint %s: %w", path, err)
	}
	if r.StateSeq != 0 {
		b, err := os.ReadFile(statePath(path, r.StateSeq))
		if err != nil {
			return r, "", fmt.Errorf("checkpoint %s: read the source's state that belongs to it: %w", path, err)
		}
		if crc32.ChecksumIEEE(b) != r.StateSum {
			return r, "", fmt.Errorf("checkpoint %s: %s is damaged: its checksum is wrong; restore it", path, statePath(path, r.StateSeq))
		}
		state = string(b)
	}
	return r, state, nil
}

// write replaces a file, so that after a crash either all or nothing of b is there.
func (f *File) write(path string, b []byte) error {
	temp := path + ".new"
	w, err := f.files.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = w.WriteAt(b, 0)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err == nil {
		failpoint.Hit("checkfile.rename")
		err = f.files.Rename(temp, path)
		failpoint.Hit("checkfile.renamed")
	}
	if err == nil {
		err = f.files.SyncDir(filepath.Dir(path))
	}
	return err
}

// Judge marks a full disk as an error that may pass.
func Judge(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return dfs.Transient(fmt.Errorf("the disk is full: %w", err))
	}
	return err
}
