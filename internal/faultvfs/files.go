package faultvfs

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/dataflowsync/dfs/internal/files"
)

// Files returns the files below the folder of f for what uses internal/files. Their
// accesses are counted, fail and are noted as those of SQLite. Names are durable by
// SyncDir only; what a Sync that has Failed was to make durable, no later one does, as Linux
// takes pages for clean that it could not write. One that is Full has not been tried.
func (f *FS) Files() files.FS { return (*disked)(f) }

type disked FS

// fails says how an access is to end.
func (d *disked) fails(a Access) error {
	switch (*FS)(d).before(a) {
	case OK:
		return nil
	case Full:
		return &os.PathError{Op: a.Op.String(), Path: a.Path, Err: syscall.ENOSPC}
	}
	return &os.PathError{Op: a.Op.String(), Path: a.Path, Err: syscall.EIO}
}

// noted does something to names, and notes it.
func (d *disked) noted(do func() (event, error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, err := do()
	if err == nil && d.rec != nil && e.path != "" {
		d.rec.add(e)
	}
	return err
}

func (d *disked) OpenFile(name string, flag int, perm fs.FileMode) (files.File, error) {
	if err := d.fails(Access{Op: Open, Path: name}); err != nil {
		return nil, err
	}
	var f *disking
	err := d.noted(func() (e event, err error) {
		info, missing := os.Stat(name)
		of, err := os.OpenFile(name, flag, perm)
		if err != nil {
			return e, err
		}
		if missing != nil || d.nodes[name] == 0 {
			d.node++
			d.nodes[name] = d.node
			e = event{kind: Open, path: name, node: d.node}
		} else if flag&os.O_TRUNC != 0 && info.Size() > 0 {
			e = event{kind: Truncate, path: name, node: d.nodes[name]}
		}
		f = &disking{File: of, on: d, node: d.nodes[name]}
		return e, nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *disked) Rename(from, to string) error {
	if err := d.fails(Access{Op: Rename, Path: from}); err != nil {
		return err
	}
	return d.noted(func() (event, error) {
		err := os.Rename(from, to)
		if err != nil {
			return event{}, err
		}
		node := d.nodes[from]
		delete(d.nodes, from)
		d.nodes[to] = node
		return event{kind: Rename, path: from, to: to, node: node}, nil
	})
}

func (d *disked) Remove(name string) error {
	if err := d.fails(Access{Op: Delete, Path: name}); err != nil {
		return err
	}
	return d.noted(func() (event, error) {
		err := os.Remove(name)
		if err != nil {
			return event{}, err
		}
		node := d.nodes[name]
		delete(d.nodes, name)
		return event{kind: Delete, path: name, node: node}, nil
	})
}

func (d *disked) SyncDir(dir string) error {
	if err := d.fails(Access{Op: SyncDir, Path: dir + string(os.PathSeparator)}); err != nil {
		return err
	}
	// Its node stands for all folders, of which none has content.
	return d.noted(func() (event, error) { return event{kind: SyncDir, path: dir, node: 1 << 30}, nil })
}

// A disking is an open file.
type disking struct {
	*os.File
	on   *disked
	node int // 0: it is SQLite's too
}

func (f *disking) note(e event) {
	e.path, e.node = f.Name(), f.node
	if f.node == 0 {
		(*FS)(f.on).after(e)
		return
	}
	f.on.noted(func() (event, error) { return e, nil })
}

// A beside is for what writes to files of SQLite's without it. They are one with those
// that SQLite uses, and their names are durable.
type beside struct{ *disked }

// OpenFile opens a file that is there.
func (d beside) OpenFile(name string, flag int, perm fs.FileMode) (files.File, error) {
	if err := d.fails(Access{Op: Open, Path: name}); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &disking{File: f, on: d.disked}, nil
}

func (d beside) SyncDir(dir string) error {
	return d.fails(Access{Op: SyncDir, Path: dir + string(os.PathSeparator)})
}

func (f *disking) ReadAt(p []byte, off int64) (int, error) {
	if err := f.on.fails(Access{Op: Read, Path: f.Name(), Offset: off, Len: len(p)}); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *disking) WriteAt(p []byte, off int64) (int, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	failed := f.on.fails(Access{Op: Write, Path: f.Name(), Offset: off, Len: len(p), grows: off+int64(len(p)) > info.Size()})
	if failed != nil {
		p = p[:len(p)/2]
	}
	n, err := f.File.WriteAt(p, off)
	if n > 0 {
		f.note(event{kind: Write, offset: off, data: p[:n]})
	}
	if failed != nil {
		err = failed
	}
	return n, err
}

func (f *disking) Truncate(size int64) error {
	if err := f.on.fails(Access{Op: Truncate, Path: f.Name(), Offset: size}); err != nil {
		return err
	}
	err := f.File.Truncate(size)
	if err == nil {
		f.note(event{kind: Truncate, offset: size})
	}
	return err
}

// Sync does not wait for the real disk.
func (f *disking) Sync() error {
	err := f.on.fails(Access{Op: Sync, Path: f.Name()})
	if err == nil || errors.Is(err, syscall.EIO) {
		f.note(event{kind: Sync, bad: err != nil})
	}
	return err
}

// Names are what a folder has, and what was done to it since its last sync.
type names struct {
	nodes   map[int]*diskFile
	synced  map[string]int
	pending []event
}

func newNames() *names {
	return &names{nodes: make(map[int]*diskFile), synced: make(map[string]int)}
}

func (n *names) do(e event) {
	switch e.kind {
	case Open, Rename, Delete:
		n.pending = append(n.pending, e)
	case SyncDir:
		var others []event
		for _, p := range n.pending {
			if filepath.Dir(p.path) == e.path {
				name(n.synced, p)
			} else {
				others = append(others, p)
			}
		}
		n.pending = others
	default:
		f := n.nodes[e.node]
		if f == nil {
			f = &diskFile{}
			n.nodes[e.node] = f
		}
		f.do(e)
	}
}

// name does to names what was done.
func name(to map[string]int, e event) {
	switch e.kind {
	case Open:
		to[e.path] = e.node
	case Rename:
		delete(to, e.path)
		to[e.to] = e.node
	case Delete:
		delete(to, e.path)
	}
}

// lose puts the files into a disk that are there after the loss.
func (n *names) lose(d disk, loss Loss, rng *rand.Rand) {
	left, keep := maps.Clone(n.synced), len(n.pending)
	if loss == Tail {
		keep = rng.IntN(keep + 1)
	}
	for i, e := range n.pending {
		if loss == None || loss == Tail && i < keep || loss == Some && rng.IntN(2) == 0 {
			name(left, e)
		}
	}
	for path, node := range left {
		f := n.nodes[node]
		if f == nil {
			f = &diskFile{}
		}
		if d[path] != nil || strings.HasSuffix(path, string(os.PathSeparator)) {
			panic("faultvfs: " + path + " is a file of two kinds")
		}
		d[path] = f
	}
}
