package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// An ArchiveStore holds sealed segments of an archive in another place than its folder,
// such as a bucket: see ArchiveOptions.Store and package sink/s3. Names are like those of
// files, with a slash where a segment was set aside. An error that may pass is
// dfs.ErrTransient. It is safe for concurrent use.
type ArchiveStore interface {
	// Name says in errors and logs where it is. It holds no secret.
	Name() string

	// List returns all that is there, in no order.
	List(ctx context.Context) ([]StoredSegment, error)

	// Put stores size bytes, which survive the loss of any one machine once it returns. It
	// never replaces: if the name is taken, also by another at this moment, the error is
	// fs.ErrExist, and nothing has changed.
	Put(ctx context.Context, name string, from io.ReaderAt, size int64) error

	// ReadAt fills p with what stands at an offset, as io.ReaderAt does. If there is
	// no such name, the error is fs.ErrNotExist.
	ReadAt(ctx context.Context, name string, p []byte, off int64) (int, error)

	// Move gives what is called from another name, which is free.
	Move(ctx context.Context, from, to string) error

	// Delete removes a name. It is no error if there is none.
	Delete(ctx context.Context, name string) error
}

// A StoredSegment is a name in an ArchiveStore, and how many bytes it has.
type StoredSegment struct {
	Name string
	Size int64
}

// storeTimeout bounds one request to a store about a segment's bytes, and storeWindow is
// how many are asked for at least: what is read is mostly read on.
const (
	storeTimeout = 2 * time.Minute
	storeWindow  = 1 << 20
)

// A storeError is one of asking a store. It says nothing about what the store holds.
type storeError struct{ error }

func (e storeError) Unwrap() error { return e.error }

// unreadable reports whether an error is one of reading, so that nothing is known of
// what was to be read.
func unreadable(err error) bool {
	var file *os.PathError
	var store storeError
	return errors.As(err, &file) || errors.As(err, &store)
}

// A segmentReader reads a segment, wherever it is.
type segmentReader interface {
	io.ReaderAt
	io.Closer
}

// A storedReader reads a segment of a store, by more than is asked for.
type storedReader struct {
	store ArchiveStore
	name  string
	size  int64
	at    int64 // of buf
	buf   []byte
}

func (r *storedReader) Close() error { return nil }

// ReadAt has no context, so each request has its own bound.
func (r *storedReader) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= r.size {
			return n, io.EOF
		}
		if off >= r.at && off < r.at+int64(len(r.buf)) {
			k := copy(p[n:], r.buf[off-r.at:])
			n, off = n+k, off+int64(k)
			continue
		}
		want := min(max(int64(len(p)-n), storeWindow), r.size-off)
		if cap(r.buf) < int(want) {
			r.buf = make([]byte, want)
		}
		r.buf, r.at = r.buf[:want], off
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		k, err := r.store.ReadAt(ctx, r.name, r.buf, off)
		cancel()
		if r.buf = r.buf[:k]; k < int(want) {
			if err == nil || err == io.EOF {
				err = dfs.Transient(io.ErrUnexpectedEOF)
			}
			r.buf = nil
			return n, storeError{fmt.Errorf("read %s of %s: %w", r.name, r.store.Name(), err)}
		}
	}
	return n, nil
}

// open opens a segment for reading.
func (a *Archive) open(s *segment) (segmentReader, error) {
	if s.stored {
		return &storedReader{store: a.opts.Store, name: filepath.Base(s.path), size: s.size}, nil
	}
	return os.Open(s.path)
}

// addStored adds what the store holds to the segments of the folder. A segment that is
// in both is read from the folder, from which it goes once it is known to be stored.
func (a *Archive) addStored(ctx context.Context, list []segmentFile) ([]segmentFile, error) {
	if a.opts.Store == nil {
		return list, nil
	}
	all, err := a.opts.Store.List(ctx)
	if err != nil {
		return nil, storeError{fmt.Errorf("list %s: %w", a.opts.Store.Name(), err)}
	}
	for _, o := range all {
		if n, sealed, ok := parseSegmentName(o.Name); ok && sealed {
			list = append(list, segmentFile{name: o.Name, number: n, sealed: true, stored: true, size: o.Size})
		}
	}
	return list, nil
}

// ship moves the sealed segments that are in the folder to the store, the oldest first.
// What a process that ended in between has stored already is not stored again.
func (a *Archive) ship(ctx context.Context) error {
	if a.opts.Store == nil {
		return nil
	}
	a.mu.Lock()
	segs := a.segs
	a.mu.Unlock()
	for _, s := range segs {
		if !s.sealed || s.stored {
			continue
		}
		if err := a.shipOne(ctx, s); err != nil {
			return fmt.Errorf("archive %s: store %s in %s: %w", a.dir, filepath.Base(s.path), a.opts.Store.Name(), err)
		}
	}
	return nil
}

func (a *Archive) shipOne(ctx context.Context, s *segment) error {
	name := filepath.Base(s.path)
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err = a.opts.Store.Put(ctx, name, f, s.size); errors.Is(err, fs.ErrExist) {
		err = a.sameStored(ctx, s)
	}
	if err != nil {
		return err
	}
	stored := *s
	stored.stored = true
	a.mu.Lock()
	i := slices.Index(a.segs, s)
	a.segs = slices.Clone(a.segs)
	a.segs[i] = &stored
	a.mu.Unlock()
	// It has been stored, so what goes wrong with its file from here on loses nothing.
	if err := errors.Join(a.disk.Remove(s.path), a.disk.SyncDir(a.dir)); err != nil {
		a.log.Warn("a segment that is stored stays in the archive's folder", "file", s.path, "error", err)
	}
	return nil
}

// sameStored returns nil if the store holds the segment as it is here. Else another has
// continued the archive from elsewhere.
func (a *Archive) sameStored(ctx context.Context, s *segment) error {
	list, err := a.opts.Store.List(ctx)
	if err != nil {
		return err
	}
	name := filepath.Base(s.path)
	i := slices.IndexFunc(list, func(o StoredSegment) bool { return o.Name == name })
	var t segmentTail
	tail := make([]byte, tailLen)
	if i >= 0 && list[i].Size == s.size {
		if _, err := a.opts.Store.ReadAt(ctx, name, tail, s.size-tailLen); err != nil && err != io.EOF {
			return err
		}
		if t.decode(tail) && t.sum == s.sum {
			return nil
		}
	}
	a.broken = fmt.Errorf("archive %s: %w: %s holds another segment %s: it was continued from another folder; go on there, or with an empty folder here",
		a.dir, dfs.ErrConflict, a.opts.Store.Name(), name)
	return a.broken
}

// discard deletes a segment that is not to be kept.
func (a *Archive) discard(ctx context.Context, s *segment) error {
	if s.stored {
		return a.opts.Store.Delete(ctx, filepath.Base(s.path))
	}
	if err := a.disk.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
