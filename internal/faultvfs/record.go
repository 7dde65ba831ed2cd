package faultvfs

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// An event is a change of a file, or a sync.
type event struct {
	kind   Op
	path   string
	offset int64
	data   []byte
	mark   int // of Mark, if path is ""

	// Of Files: what path led to, and the new name of a Rename. A node keeps its content
	// whatever its names are.
	node int
	to   string
	bad  bool // a Sync that has failed
}

// A Recording is what was done to files, in order, so that what a loss of power would
// have left at any moment can be made.
type Recording struct {
	fs     *FS
	events []event
}

func (r *Recording) add(e event) {
	e.data = bytes.Clone(e.data)
	r.events = append(r.events, e)
}

// Record begins to note all changes of files. None may be there yet.
func (f *FS) Record() *Recording {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec = &Recording{fs: f}
	return f.rec
}

// StopRecording ends what Record began.
func (f *FS) StopRecording() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rec = nil
}

// Mark notes that something has been promised by now.
func (r *Recording) Mark(n int) {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	r.events = append(r.events, event{mark: n})
}

// Len returns the number of events.
func (r *Recording) Len() int {
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	return len(r.events)
}

// sector is what a disk writes whole: less than any page of SQLite, so that pages tear.
const sector = 512

// A Loss is what becomes of that which was written and not yet synced.
type Loss uint8

const (
	All  Loss = iota // it is lost
	None             // it is there, as after kill -9
	Some             // any sectors of it are there, in any order
	Tail             // it is there up to a moment, and torn at that
)

// Losses are all of them.
var Losses = []Loss{All, None, Some, Tail}

// String names the loss.
func (l Loss) String() string { return [...]string{"all", "none", "some", "tail"}[l] }

// A disk is what files hold, and what was written to each since its last sync.
type disk map[string]*diskFile

type diskFile struct {
	synced  []byte
	pending []event
	cache   []byte // what is read, if a sync has failed
	failed  bool
}

// Crash writes into dir the files that would be there if the power had failed after
// the first n events, and returns the last mark before that, or -1. Files that were
// noted keep their names below the folder.
func (r *Recording) Crash(t testing.TB, n int, loss Loss, rng *rand.Rand, dir string) (mark int) {
	t.Helper()
	d, names := make(disk), newNames()
	mark = -1
	for _, e := range r.events[:n] {
		if e.path == "" {
			mark = e.mark
			continue
		}
		if e.node > 0 {
			names.do(e)
			continue
		}
		d.do(e)
	}
	names.lose(d, loss, rng)
	for _, path := range slices.Sorted(maps.Keys(d)) {
		rel, err := filepath.Rel(r.fs.dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, rel), d[path].lose(loss, rng), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return mark
}

func (d disk) do(e event) {
	f := d[e.path]
	if f == nil {
		f = &diskFile{}
		d[e.path] = f
	}
	switch e.kind {
	case Open:
	case Delete:
		delete(d, e.path)
	default:
		f.do(e)
	}
}

func (f *diskFile) do(e event) {
	if f.failed && e.kind != Sync {
		f.cache = apply(f.cache, e)
	}
	switch {
	case e.kind != Sync:
		f.pending = append(f.pending, e)
	case e.bad:
		if !f.failed {
			f.cache, f.failed = bytes.Clone(f.synced), true
			for _, p := range f.pending {
				f.cache = apply(f.cache, p)
			}
		}
		f.pending = nil
	default:
		for _, p := range f.pending {
			f.synced = apply(f.synced, p)
		}
		f.pending = nil
	}
}

// lose returns what the file holds after the loss.
func (f *diskFile) lose(loss Loss, rng *rand.Rand) []byte {
	b := bytes.Clone(f.synced)
	keep := len(f.pending)
	if loss == None && f.failed {
		return bytes.Clone(f.cache)
	}
	switch loss {
	case All:
		keep = 0
	case Tail:
		keep = rng.IntN(keep + 1)
	}
	for i, e := range f.pending {
		switch {
		case loss == Some && e.kind == Truncate:
			if rng.IntN(2) == 0 {
				b = apply(b, e)
			}
		case loss == Some:
			for _, s := range sectors(e) {
				if rng.IntN(2) == 0 {
					b = apply(b, s)
				}
			}
		case i < keep:
			b = apply(b, e)
		case i == keep && loss == Tail && e.kind == Write:
			s := sectors(e)
			for _, s := range s[:rng.IntN(len(s)+1)] {
				b = apply(b, s)
			}
		}
	}
	return b
}

// sectors cuts a write at the borders of sectors.
func sectors(e event) (s []event) {
	for len(e.data) > 0 {
		n := min(sector-int(e.offset%sector), len(e.data))
		part := e
		part.data = e.data[:n]
		s = append(s, part)
		e.offset, e.data = e.offset+int64(n), e.data[n:]
	}
	return s
}

func apply(b []byte, e event) []byte {
	switch e.kind {
	case Truncate:
		if int64(len(b)) > e.offset {
			return b[:e.offset]
		}
		return append(b, make([]byte, e.offset-int64(len(b)))...)
	case Write:
		if end := e.offset + int64(len(e.data)); end > int64(len(b)) {
			b = append(b, make([]byte, end-int64(len(b)))...)
		}
		copy(b[e.offset:], e.data)
		return b
	}
	panic(fmt.Sprint("faultvfs: a file cannot ", e.kind))
}
