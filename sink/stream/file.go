package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/files"
)

// FileOptions refine a File. The zero value of each field is the default.
type FileOptions struct {
	Options

	// Checkpoint is the path of the file that says how far the messages go. Default:
	// the path of the messages with .checkpoint added.
	Checkpoint string

	// MaxBytes and MaxAge begin a new file, between two transactions, when the
	// current one has that many bytes, or was begun that long ago and something is
	// to be written. The files then have a number in their names: changes.ndjson
	// becomes changes-000001.ndjson. Default: all goes to one file.
	MaxBytes int64
	MaxAge   time.Duration

	// Keep is how many files are kept besides the current one; those before are
	// deleted. Default: all.
	Keep int
}

// Validate returns all that is wrong with the options.
func (o *FileOptions) Validate() error {
	errs := []error{o.Options.Validate()}
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("stream: "+format, args...))
		}
	}
	fault(o.MaxBytes < 0, "MaxBytes is %d: give a number of bytes, or 0 for one file", o.MaxBytes)
	fault(o.MaxAge < 0, "MaxAge is %v: give a span of time, or 0 for one file", o.MaxAge)
	fault(o.Keep < 0, "Keep is %d: give a number of files, or 0 to keep all", o.Keep)
	fault(o.Keep > 0 && o.MaxBytes == 0 && o.MaxAge == 0, "Keep is set, and there is one file only: set MaxBytes or MaxAge")
	return errors.Join(errs...)
}

// A File is a sink that writes messages to a file, one a line: their values, without
// keys, headers and tombstones.
//
// Guarantee: exactly once. How many bytes belong to the last transaction is stored,
// with its checkpoint, in a file beside, once the messages are on the disk; what is
// beyond, of a process that died, is cut off by the next. So who reads a file after
// that finds each transaction once, whole and in order. Who reads along while it is
// written takes a transaction for done when its last message has come (commit, END),
// and may see a line again after a crash.
type File struct {
	files files.FS
	path  string
	opts  FileOptions
	enc   *Encoder
	mark  *checkfile.File

	f    files.File
	rec  checkfile.Record // what is stored
	now  checkfile.Record // File and Opened of f, of which nothing may be stored yet
	seq  uint64           // of the last part written
	end  int64            // how far the file is written
	buf  bytes.Buffer
	held bool // Checkpoint has been asked since the last error

	messages, bytes atomic.Uint64
}

var _ dfs.Sink = (*File)(nil)

// OpenFile returns a sink that writes to the file at path. The first Checkpoint
// opens it. A nil o stands for the zero FileOptions.
func OpenFile(path string, o *FileOptions) (*File, error) { return openFile(files.System{}, path, o) }

func openFile(in files.FS, path string, o *FileOptions) (*File, error) {
	if o == nil {
		o = &FileOptions{}
	}
	f := &File{files: in, path: path, opts: *o}
	if path == "" {
		return nil, errors.Join(errors.New("stream: no path: name a file"), o.Validate())
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if f.opts.Checkpoint == "" {
		f.opts.Checkpoint = path + ".checkpoint"
	}
	var err error
	if f.enc, err = NewEncoder(&f.opts.Options); err != nil {
		return nil, err
	}
	f.mark, err = checkfile.OpenIn(in, f.opts.Checkpoint)
	return f, err
}

// Close frees the file. What parts were given without their end are cut off by the
// next writer.
func (f *File) Close() error {
	errs := []error{f.mark.Close()}
	if f.f != nil {
		errs = append(errs, f.f.Close())
	}
	return errors.Join(errs...)
}

// rotates reports whether there are several files.
func (f *File) rotates() bool { return f.opts.MaxBytes > 0 || f.opts.MaxAge > 0 }

// name returns the path of the file of that number.
func (f *File) name(n int) string {
	if !f.rotates() {
		return f.path
	}
	ext := filepath.Ext(f.path)
	return fmt.Sprintf("%s-%06d%s", strings.TrimSuffix(f.path, ext), n, ext)
}

// Checkpoint implements dfs.Sink. It takes the file from any other writer, and cuts
// off what belongs to no transaction that is whole.
func (f *File) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return dfs.Checkpoint{}, err
	}
	f.held = false
	rec, at, unlock, err := f.mark.Take()
	if err != nil {
		return dfs.Checkpoint{}, err
	}
	defer unlock()
	if f.rotates() && rec.File == 0 {
		if rec.Seq > 0 {
			return at, fmt.Errorf("%s was written as one file; leave MaxBytes and MaxAge out, or name another file", f.path)
		}
		rec.File = 1
	}
	if !f.rotates() && rec.File > 0 {
		return at, fmt.Errorf("%s was written as files with numbers; set MaxBytes or MaxAge, or name another file", f.path)
	}
	if err := f.cut(rec); err != nil {
		return at, err
	}
	if rec.Written.IsZero() {
		// From now on what is in the file is ours.
		if err := f.mark.Save(rec, at); err != nil {
			return at, err
		}
	}
	f.enc.Reset()
	f.rec, f.now, f.seq, f.end, f.held = rec, rec, rec.Seq, rec.Offset, true
	return at, nil
}

// cut opens the current file, and cuts off what is not stored.
func (f *File) cut(rec checkfile.Record) error {
	if f.f != nil {
		f.f.Close()
		f.f = nil
	}
	if f.rotates() {
		later, err := f.numbers()
		if err != nil {
			return err
		}
		for _, n := range later {
			if n > rec.File {
				if rec.Written.IsZero() {
					return fmt.Errorf("%s is there already, and has no checkpoint: name another file, or move it away", f.name(n))
				}
				if err := f.files.Remove(f.name(n)); err != nil {
					return fmt.Errorf("remove what was not finished: %w", err)
				}
			}
		}
	}
	name := f.name(rec.File)
	w, err := f.files.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	// Its name must be on the disk before a checkpoint counts what is in it. One that is
	// there may be of a process that died before it was.
	if err := f.files.SyncDir(filepath.Dir(f.path)); err != nil {
		w.Close()
		return err
	}
	info, err := w.Stat()
	switch {
	case err != nil:
	case info.Size() < rec.Offset:
		err = fmt.Errorf("%s has %d bytes, and its checkpoint %s says %d: it was cut or removed; put it back, or move both away to begin anew",
			name, info.Size(), f.opts.Checkpoint, rec.Offset)
	case rec.Written.IsZero() && info.Size() > 0:
		err = fmt.Errorf("%s has %d bytes already, and no checkpoint %s: name another file, or move it away", name, info.Size(), f.opts.Checkpoint)
	case info.Size() > rec.Offset:
		if err = w.Truncate(rec.Offset); err == nil {
			err = w.Sync()
		}
	}
	if err != nil {
		w.Close()
		return err
	}
	f.f = w
	return nil
}

// numbers returns those of the files that are there.
func (f *File) numbers() (list []int, err error) {
	ext := filepath.Ext(f.path)
	base := strings.TrimSuffix(filepath.Base(f.path), ext)
	match := regexp.MustCompile("^" + regexp.QuoteMeta(base) + `-(\d{6,})` + regexp.QuoteMeta(ext) + "$")
	entries, err := os.ReadDir(filepath.Dir(f.path))
	for _, e := range entries {
		if m := match.FindStringSubmatch(e.Name()); m != nil {
			n, _ := strconv.Atoi(m[1])
			list = append(list, n)
		}
	}
	return list, err
}

// Apply implements dfs.Sink.
func (f *File) Apply(ctx context.Context, batch []*dfs.Transaction) (err error) {
	if err := ctx.Err(); err != nil || len(batch) == 0 {
		return err
	}
	if !f.held {
		return errors.New("stream: Checkpoint was not asked before Apply")
	}
	unlock, err := f.mark.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if batch[0].Seq != f.seq+1 {
		return fmt.Errorf("%w: %s ends with transaction %d, transaction %d was to follow", dfs.ErrConflict, f.path, f.seq, batch[0].Seq)
	}
	defer func() { f.held = err == nil }()
	if whole := f.seq == f.rec.Seq; whole && f.due(f.rec) {
		if err := f.next(); err != nil {
			return err
		}
	}
	if f.now.Opened.IsZero() {
		f.now.Opened = time.Now().UTC()
	}
	// A transaction that came in parts may have begun the file, in an Apply before.
	rec := f.rec
	rec.File, rec.Opened = f.now.File, f.now.Opened
	// Invariant I1: the messages are on the disk before the checkpoint says so, and
	// what it does not say does not count.
	var at dfs.Checkpoint
	whole, end, n := 0, f.end, uint64(0)
	f.buf.Reset()
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("%w: transaction %d was given after %d", dfs.ErrGap, tx.Seq, batch[0].Seq+uint64(i)-1)
		}
		err := f.enc.Encode(tx, func(m Message) error {
			if m.Value != nil {
				f.buf.Write(m.Value)
				f.buf.WriteByte('\n')
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
		if f.buf.Len() > 1<<20 {
			if end, err = f.flush(end); err != nil {
				return err
			}
		}
		if tx.More {
			continue
		}
		whole = i + 1
		rec.Offset, rec.ID, rec.Committed = end+int64(f.buf.Len()), tx.ID, tx.Committed
		if tx.State != "" {
			at.State = tx.State
		}
		at.Seq, at.Pos = tx.Seq, tx.Pos
	}
	if end, err = f.flush(end); err != nil {
		return err
	}
	failpoint.Hit("file.write")
	if whole > 0 {
		if end > f.end || rec.File != f.rec.File {
			if err := f.f.Sync(); err != nil {
				return fmt.Errorf("%s: the disk did not confirm a write: %w", f.f.Name(), err)
			}
		}
		failpoint.Hit("file.synced")
		if err := f.mark.Save(rec, at); err != nil {
			return err
		}
		f.rec = rec
		f.rec.Seq = at.Seq
	}
	f.bytes.Add(uint64(end - f.end))
	f.messages.Add(n)
	f.end, f.seq = end, batch[len(batch)-1].Seq
	f.prune()
	return nil
}

// flush writes what is buffered at the given offset.
func (f *File) flush(end int64) (int64, error) {
	n, err := f.f.WriteAt(f.buf.Bytes(), end)
	f.buf.Reset()
	if err != nil {
		return end, checkfile.Judge(fmt.Errorf("write messages: %w", err))
	}
	return end + int64(n), nil
}

// due reports whether a new file is to begin.
func (f *File) due(rec checkfile.Record) bool {
	return f.rotates() && rec.Offset > 0 && (f.opts.MaxBytes > 0 && rec.Offset >= f.opts.MaxBytes ||
		f.opts.MaxAge > 0 && !rec.Opened.IsZero() && time.Since(rec.Opened) >= f.opts.MaxAge)
}

// next begins a new file. It counts once something in it is stored.
func (f *File) next() error {
	number := f.now.File + 1
	w, err := f.files.OpenFile(f.name(number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return checkfile.Judge(err)
	}
	failpoint.Hit("file.next")
	f.f.Close()
	f.f, f.end = w, 0
	f.now.File, f.now.Opened = number, time.Now().UTC()
	return f.files.SyncDir(filepath.Dir(f.path))
}

// prune deletes files that are not to be kept.
func (f *File) prune() {
	if f.opts.Keep == 0 || f.rec.File <= f.opts.Keep+1 {
		return
	}
	for n := f.rec.File - f.opts.Keep - 1; n > 0; n-- {
		if err := f.files.Remove(f.name(n)); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

// Stats say how a sink of messages is.
type Stats struct {
	Guarantee string // ExactlyOnce or AtLeastOnce
	Messages  uint64 // written since it was opened
	Bytes     uint64
}

// Stats returns what was written.
func (f *File) Stats() Stats {
	return Stats{Guarantee: ExactlyOnce, Messages: f.messages.Load(), Bytes: f.bytes.Load()}
}

// Guarantee says in words what the target may be relied on for.
func (f *File) Guarantee() string {
	return "exactly once: what a crash leaves behind is cut off before anything else is written"
}
