// Package faultvfs stands between SQLite and its files, so that tests can let the
// n-th access to a disk fail, fill the disk, and see what a loss of power leaves.
//
// SQLite calls a table of functions for all it does with files (its "OS interface",
// sqlite3_vfs). Install puts one in front of the system's own, for all databases of
// the process that are opened from then on, so the code under test needs no door
// for it. Only files below the folder of the FS are counted, made to fail, and noted.
//
// Files does the same for what uses files without SQLite, by internal/files; and what
// writes to SQLite's own without it, by internal/walrenew, is covered by Install.
package faultvfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dataflowsync/dfs/internal/walrenew"
)

// An Op is what SQLite does with a file.
type Op uint8

// The operations that can fail. Locks are left alone: that they are held by another
// is no fault of a disk.
const (
	Open Op = iota
	Read
	Write
	Truncate
	Sync
	Delete
	ShmMap // a page of the index of a write-ahead log
	Size
	Rename  // of Files only, as is the next
	SyncDir // makes names durable, which for SQLite they are at once
)

var opNames = [...]string{"open", "read", "write", "truncate", "sync", "delete", "shmmap", "size", "rename", "syncdir"}

// String returns the operation's name.
func (o Op) String() string { return opNames[o] }

// An Access is one operation on a file.
type Access struct {
	Op     Op
	Path   string
	Offset int64 // of Read and Write; of Truncate the new length
	Len    int
	grows  bool // a Write makes the file longer
}

// String returns what was done to which file.
func (a Access) String() string {
	return fmt.Sprintf("%v %s %d+%d", a.Op, filepath.Base(a.Path), a.Offset, a.Len)
}

// A Code is an error of SQLite's.
type Code int32

// What an access may fail with. Failed is what a disk with a fault gives, and
// depends on the operation.
const (
	OK     Code = 0
	Full   Code = 13 // SQLITE_FULL
	Failed Code = 10 // SQLITE_IOERR
)

// failures are what Failed means for each operation: the extended code.
var failures = [...]Code{
	Open: 14, Read: 10 | 1<<8, Write: 10 | 3<<8, Truncate: 10 | 6<<8, Sync: 10 | 4<<8,
	Delete: 10 | 10<<8, ShmMap: 10 | 21<<8, Size: 10 | 7<<8, Rename: 10, SyncDir: 10 | 5<<8,
}

// An FS is what stands before the files below a folder.
type FS struct {
	dir string

	mu     sync.Mutex
	count  int
	fail   func(n int, a Access) Code
	failed []Access
	rec    *Recording
	nodes  map[string]int // what names of Files lead to
	node   int            // the last of them
}

// installed is the one that is asked. SQLite has one list of file systems for the
// whole process, and so have we.
var installed atomic.Pointer[FS]

// Install stands before the files below dir until the test ends. One test at a time
// may use it, and no database below dir may be open before or after.
func Install(t testing.TB, dir string) *FS {
	t.Helper()
	f := New(t, dir)
	if !installed.CompareAndSwap(nil, f) {
		t.Fatal("faultvfs: another test has it installed: such tests must not run in parallel")
	}
	register(t)
	restore := walrenew.Use(beside{(*disked)(f)})
	t.Cleanup(func() {
		restore()
		unregister(t)
		installed.Store(nil)
	})
	return f
}

// New stands before the files below dir that are used by its Files, and not before
// SQLite's.
func New(t testing.TB, dir string) *FS {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &FS{dir: dir + string(os.PathSeparator), nodes: make(map[string]int)}
}

// FailAt lets the accesses from the n-th on, counted from now and from 1, fail, as
// many as times says. What ops does not list is neither counted nor fails; none
// means all. A write that fails with Failed has been half done.
func (f *FS) FailAt(n, times int, code Code, ops ...Op) {
	f.Fail(func(i int, _ Access) Code {
		if i >= n && i < n+times {
			return code
		}
		return OK
	}, ops...)
}

// Fail asks judge about each access from now on, with its number from 1. A nil judge
// lets all succeed.
func (f *FS) Fail(judge func(n int, a Access) Code, ops ...Op) {
	var listed [len(opNames)]bool
	for _, o := range ops {
		listed[o] = true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count, f.failed, f.fail = 0, nil, nil
	if judge == nil {
		return
	}
	f.fail = func(_ int, a Access) Code {
		if len(ops) > 0 && !listed[a.Op] {
			return OK
		}
		f.count++
		return judge(f.count, a)
	}
}

// SetFull says whether the disk is full: nothing can be written that makes a file
// longer.
func (f *FS) SetFull(on bool) {
	if !on {
		f.Fail(nil)
		return
	}
	f.Fail(func(_ int, a Access) Code {
		if a.grows {
			return Full
		}
		return OK
	}, Write)
}

// Stop lets all succeed from now on, and returns what has failed.
func (f *FS) Stop() []Access {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = nil
	return f.failed
}

// Failures returns how many accesses have failed since Fail or FailAt was called.
func (f *FS) Failures() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failed)
}

// Count returns how many accesses were counted since Fail or FailAt was called.
func (f *FS) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// before says how an access is to end.
func (f *FS) before(a Access) Code {
	if !f.covers(a.Path) {
		return OK
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail == nil {
		return OK
	}
	c := f.fail(0, a)
	if c != OK {
		f.failed = append(f.failed, a)
	}
	if c == Failed {
		c = failures[a.Op]
	}
	return c
}

func (f *FS) covers(path string) bool { return f != nil && strings.HasPrefix(path, f.dir) }

// after notes what has been done, if it is being recorded.
func (f *FS) after(e event) {
	if !f.covers(e.path) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rec != nil {
		f.rec.add(e)
	}
}
