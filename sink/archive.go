package sink

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/files"
)

// ArchiveOptions refine an Archive. The zero value of each field is the default.
type ArchiveOptions struct {
	// Key encrypts what is stored, with AES-256-GCM: 32 bytes, as ParseArchiveKey
	// reads them. Numbers and times of transactions and the sizes of blocks stay
	// readable. An archive is encrypted from its beginning or not at all; without
	// its key it is lost. Default: not encrypted.
	Key []byte

	// SegmentBytes is about how large a segment becomes before it is sealed and
	// another begins. A transaction is never divided between two. Default: 64 MiB.
	SegmentBytes int64

	// SegmentAge is after how long a segment is sealed that is not full, when the
	// next transaction comes. Default: 1 hour. Negative: never.
	SegmentAge time.Duration

	// KeepFor is for how long back it must be possible to restore, and KeepBytes how
	// large the archive may become. A segment is deleted once both that are set let
	// it go, and only together with all before it, and never one from which on the
	// last whole Baseline is restored. Without further baselines nothing is ever
	// deleted. Default: all is kept.
	KeepFor   time.Duration
	KeepBytes int64

	// Store gets each segment once it is sealed, and what is in it is read from there: a
	// bucket, such as package sink/s3 gives one. Then the folder holds but the segment that
	// is being written, and what the loss of its disk loses of the archive is that: at most
	// SegmentBytes, or SegmentAge. With an empty folder the archive goes on where the
	// store ends. While the store cannot be reached, Apply returns errors that may pass
	// as soon as a segment is full, and nothing is lost. With ReadOnly there need be no
	// folder (""). Default: all stays in the folder.
	Store ArchiveStore

	// ReadOnly opens an archive that another process may be writing. It must exist.
	// Apply, Reset and Baseline return an error, and Streams end with io.EOF.
	ReadOnly bool

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger

	now func() time.Time // to test ages; default: time.Now
}

func (o *ArchiveOptions) validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(len(o.Key) != 0 && len(o.Key) != keyBytes, "Key has %d bytes: give %d, as from ParseArchiveKey", len(o.Key), keyBytes)
	fault(o.SegmentBytes < 0, "SegmentBytes is %d: give a number of bytes, or 0 for the default", o.SegmentBytes)
	fault(o.SegmentBytes > 1<<40, "SegmentBytes is %d: give at most 1 TiB", o.SegmentBytes)
	fault(o.Store != nil && o.SegmentBytes > 1<<30, "SegmentBytes is %d: give at most 1 GiB with a Store", o.SegmentBytes)
	fault(o.KeepFor < 0, "KeepFor is %v: give a span of time, or 0 to keep all", o.KeepFor)
	fault(o.KeepBytes < 0, "KeepBytes is %d: give a number of bytes, or 0 to keep all", o.KeepBytes)
	return errors.Join(errs...)
}

const (
	// runBytes is where a block is cut, in bytes before compression. With blocks of
	// 256 KB an archive is a tenth larger.
	runBytes = 1 << 20

	// smallBlock is how many bytes, before compression, the blocks of a segment must
	// have on average, or it is written anew when it is sealed. What comes in ones and
	// twos takes up to ten times the space.
	smallBlock = 256 << 10
)

// An Archive keeps transactions in a folder, as a backup from which any state of a
// database since its first baseline can be restored. It is a dfs.Sink, and also a
// dfs.Queue, so that a pipeline without stages hands it over what the source has
// encoded as it is. Restore reads it back as a dfs.Source.
//
// A folder holds segments, the last of which is being written. Apply returns once
// what it was given is on the disk. Whatever ends the process, the archive is whole
// up to the last Apply, and the pipeline goes on from there.
//
// What can be restored begins with a copy of all rows: a pipeline into a new archive
// should have a source that copies them, as with cdc.Options.Snapshot, and Baseline
// should be told of how the tables are made. Later copies bound what a restore has
// to read, and what must be kept.
//
// One writer at a time may apply. As with MySQL, a second one takes over with its
// Checkpoint, and the first gets dfs.ErrConflict. Any number of readers, also in
// other processes, may read meanwhile. The folder must be on a local disk. An
// Archive is safe for concurrent use.
type Archive struct {
	disk  files.FS
	dir   string
	opts  ArchiveOptions
	log   *slog.Logger
	now   func() time.Time
	codec *codec
	lock  *os.File // locked while the archive is changed; its content names the owner
	token []byte   // of this owner

	encoders sync.Pool // of *txrun.Encoder

	// turn is held by who changes the archive or what is known of its end.
	turn    chan struct{}
	closing chan struct{}
	close   sync.Once

	// The writer's own, guarded by turn.
	claimed bool
	moved   bool           // segments that it knows may have been set aside
	w       *segmentWriter // nil if no segment is being written
	broken  error          // why nothing may be written any more

	mu      sync.Mutex // guards what follows; a leaf
	id      [16]byte
	segs    []*segment // in order; the last may not be sealed
	last    place      // the end, after parts that await their last
	whole   place      // the end that can be seen
	state   string     // the latest State
	chain   chainBody  // as of whole
	changed chan struct{}
	count   ArchiveStats
}

var (
	_ dfs.Queue   = (*Archive)(nil)
	_ dfs.Trimmer = (*Archive)(nil)
)

// ErrArchiveClosed is returned by the methods of a closed Archive, and of its streams.
var ErrArchiveClosed = errors.New("sink: archive closed")

// OpenArchive opens the archive in a folder, which it creates, readable by its owner
// only, if it is missing. A nil opts stands for the zero ArchiveOptions. What a
// crash has left unfinished at the end is cut when the first Checkpoint or Apply
// takes the archive over.
func OpenArchive(dir string, opts *ArchiveOptions) (*Archive, error) {
	return archiveIn(files.System{}, dir, opts)
}

// archiveIn is OpenArchive for a system of files. What is only read, and who holds the
// lock, is a matter of the operating system's.
func archiveIn(in files.FS, dir string, opts *ArchiveOptions) (*Archive, error) {
	if opts == nil {
		opts = &ArchiveOptions{}
	}
	if dir == "" && !(opts.ReadOnly && opts.Store != nil) {
		return nil, errors.Join(errors.New("archive: no folder: name one"), opts.validate())
	}
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("open archive %s: %w", dir, err)
	}
	abs, err := dir, error(nil)
	if dir != "" {
		if abs, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("open archive %s: %w", dir, err)
		}
	} else {
		dir = opts.Store.Name()
	}
	a := &Archive{disk: in, dir: abs, opts: *opts, log: opts.Logger, now: opts.now,
		turn: make(chan struct{}, 1), closing: make(chan struct{}), changed: make(chan struct{}), token: []byte(token(32))}
	a.opts.SegmentBytes = cmp.Or(opts.SegmentBytes, 64<<20)
	a.opts.SegmentAge = cmp.Or(opts.SegmentAge, time.Hour)
	if len(a.opts.Key) == 0 {
		a.opts.Key = nil
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.turn <- struct{}{}
	if a.codec, err = newCodec(); err != nil {
		return nil, err
	}
	if !opts.ReadOnly {
		if err = a.prepare(); err != nil {
			a.codec.close()
			return nil, fmt.Errorf("open archive %s: %w", dir, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	if err = a.load(ctx); err == nil && opts.ReadOnly && len(a.segs) == 0 {
		err = a.none()
	}
	if err != nil {
		a.Close()
		return nil, fmt.Errorf("open archive %s: %w", dir, err)
	}
	return a, nil
}

// prepare makes the folder, and opens the file that is locked.
func (a *Archive) prepare() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(a.dir, "owner"), os.O_RDWR|os.O_CREATE, 0o600)
	a.lock = f
	return err
}

// where says where the archive is.
func (a *Archive) where() string {
	if a.dir == "" && a.opts.Store != nil {
		return a.opts.Store.Name()
	}
	return a.dir
}

// none says that there is no archive.
func (a *Archive) none() error {
	if a.opts.Store != nil {
		return fmt.Errorf("there is none: no segment is in %s", a.opts.Store.Name())
	}
	return errors.New("there is none: no segment is in the folder")
}

// Dir returns the archive's folder.
func (a *Archive) Dir() string { return a.dir }

// Close waits for an Apply in progress and frees what the Archive holds. Its Streams
// return ErrArchiveClosed.
func (a *Archive) Close() (err error) {
	a.close.Do(func() {
		close(a.closing)
		<-a.turn // and never give it back
		if a.w != nil {
			err = a.w.f.Close()
		}
		if a.lock != nil {
			err = errors.Join(err, a.lock.Close())
		}
		a.codec.close()
	})
	return err
}

// take waits for the turn to change the archive, and for the lock. The caller gives
// both back by leave.
func (a *Archive) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if a.opts.ReadOnly {
		return fmt.Errorf("archive %s: it was opened with ReadOnly", a.dir)
	}
	select {
	case <-a.closing:
		return ErrArchiveClosed
	default:
	}
	select {
	case <-a.turn:
	case <-a.closing:
		return ErrArchiveClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if a.broken != nil {
		a.turn <- struct{}{}
		return a.broken
	}
	if err := lockFile(ctx, a.lock); err != nil {
		a.turn <- struct{}{}
		return fmt.Errorf("archive %s: lock it: %w", a.dir, err)
	}
	return nil
}

func (a *Archive) leave() {
	if err := unlockFile(a.lock); err != nil {
		a.broken = fmt.Errorf("archive %s: unlock it: %w", a.dir, err)
	}
	a.turn <- struct{}{}
}

// claim makes this the owner, once, and then sees to it that it still is.
func (a *Archive) claim(ctx context.Context) error {
	if !a.claimed {
		if _, err := a.lock.WriteAt(a.token, 0); err != nil {
			return fmt.Errorf("archive %s: take it over: %w", a.dir, err)
		}
		// Another may have written since it was opened.
		if err := a.load(ctx); err != nil {
			return fmt.Errorf("archive %s: %w", a.dir, err)
		}
		err := a.mend()
		a.claimed = err == nil // else what a crash has left is in the way of what comes
		return err
	}
	owner := make([]byte, len(a.token))
	if n, err := a.lock.ReadAt(owner, 0); err != nil && n < len(owner) {
		return fmt.Errorf("archive %s: read its owner: %w", a.dir, err)
	}
	if string(owner) != string(a.token) {
		return fmt.Errorf("archive %s: %w", a.dir, dfs.ErrConflict)
	}
	if !a.moved {
		return nil
	}
	if err := a.load(ctx); err != nil {
		return fmt.Errorf("archive %s: %w", a.dir, err)
	}
	err := a.mend()
	a.moved = err != nil
	return err
}

// Checkpoint reports the last transaction that is stored, drops parts of one whose
// end did not come, and makes this Archive the only one that may write. If another
// has taken its place since, it returns dfs.ErrConflict. Of an archive that was
// opened with ReadOnly it reports the last transaction only.
func (a *Archive) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if a.opts.ReadOnly {
		return a.End(), ctx.Err()
	}
	if err := a.take(ctx); err != nil {
		return dfs.Checkpoint{}, err
	}
	defer a.leave()
	if err := a.claim(ctx); err != nil {
		return dfs.Checkpoint{}, err
	}
	if err := a.dropParts(); err != nil {
		return dfs.Checkpoint{}, err
	}
	return a.End(), nil
}

// End is Checkpoint for a reader: where what can be read ends. It claims nothing.
func (a *Archive) End() dfs.Checkpoint {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := a.whole.Checkpoint
	at.State = a.state
	return at
}

// Apply stores the batch: see dfs.Sink. It returns once the batch is on the disk. On
// a full disk it stores nothing and returns an error that is dfs.ErrTransient.
func (a *Archive) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if len(batch) == 0 {
		return nil
	}
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.leave()
	if err := a.claim(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	at := a.last.Seq
	a.mu.Unlock()
	if batch[0].Seq != at+1 {
		return fmt.Errorf("archive %s: transaction %d came, and it ends with %d: %w", a.dir, batch[0].Seq, at, dfs.ErrConflict)
	}
	// Invariant I3: Seq is dense.
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("archive %s: transaction %d came after %d: %w", a.dir, tx.Seq, batch[i-1].Seq, dfs.ErrGap)
		}
	}
	return a.store(ctx, batch)
}

// Trim does nothing: what an archive keeps is said by KeepFor and KeepBytes.
func (a *Archive) Trim(ctx context.Context, _ dfs.Checkpoint) error { return ctx.Err() }

// Reset makes the archive stand at the given checkpoint, as if the transactions up to
// it had been applied. Nothing is deleted: the segments so far are moved to a folder
// within the archive's, named "aside-" and a number, which is an archive of its own.
func (a *Archive) Reset(ctx context.Context, at dfs.Checkpoint) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.leave()
	if err := a.claim(ctx); err != nil {
		return err
	}
	if err := a.setAside(ctx); err != nil {
		a.moved = true
		return fmt.Errorf("archive %s: set its segments aside: %w", a.dir, err)
	}
	a.mu.Lock()
	a.segs, a.chain, a.id = nil, chainBody{}, [16]byte{}
	a.whole = place{Checkpoint: at}
	a.state, a.whole.State = at.State, ""
	a.last = a.whole
	a.signal()
	a.mu.Unlock()
	if at.Seq == 0 && at.Pos == "" && at.State == "" {
		return nil
	}
	return a.begin()
}

// setAside moves all segments to a new folder, the last first: what a crash leaves is
// the beginning of the archive.
func (a *Archive) setAside(ctx context.Context) error {
	if a.w != nil {
		a.w.f.Close()
		a.w = nil
	}
	names, err := a.copies(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	taken, err := a.asides(ctx)
	if err != nil {
		return err
	}
	to, aside := "", ""
	for n := 1; ; n++ {
		aside = fmt.Sprintf("aside-%d", n)
		if taken[aside] {
			continue
		}
		to = filepath.Join(a.dir, aside)
		if err = os.Mkdir(to, 0o700); !errors.Is(err, os.ErrExist) {
			break
		}
	}
	for i := len(names) - 1; i >= 0 && err == nil; i-- {
		if names[i].stored {
			err = a.opts.Store.Move(ctx, names[i].name, aside+"/"+names[i].name)
			continue
		}
		err = a.disk.Rename(filepath.Join(a.dir, names[i].name), filepath.Join(to, names[i].name))
	}
	a.log.Warn("the archive begins anew; its segments were set aside", "archive", a.dir, "to", to)
	return errors.Join(err, a.disk.SyncDir(to), a.disk.SyncDir(a.dir))
}

// asides returns the names under which segments were set aside in the store.
func (a *Archive) asides(ctx context.Context) (map[string]bool, error) {
	taken := make(map[string]bool)
	if a.opts.Store == nil {
		return taken, nil
	}
	list, err := a.opts.Store.List(ctx)
	for _, o := range list {
		head, _, _ := strings.Cut(o.Name, "/")
		taken[head] = true
	}
	return taken, err
}

// Baseline notes that a copy of all rows of the tables begins after the last
// transaction, to which a restore can go back, and how the tables are made. Call it
// before a pipeline that copies them begins, as with cdc.Options.Snapshot, and then
// again before each new copy, as by cdc.Source.ResnapshotAll, of all tables. It is
// whole with the next transaction that has Copied set, once rows of each of the tables
// have come: the end of a copy of some tables, or of one that was under way before, does
// not count. A copy that did not become whole before the next one begins is of no use.
func (a *Archive) Baseline(ctx context.Context, tables []Definition) error {
	if err := a.take(ctx); err != nil {
		return err
	}
	defer a.leave()
	if err := a.claim(ctx); err != nil {
		return err
	}
	if a.last.Seq != a.whole.Seq {
		return fmt.Errorf("archive %s: a baseline cannot begin within a transaction", a.dir)
	}
	// It begins with a segment of its own, so that what is before it can be deleted.
	if err := a.sealSegment(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	b := baseline{After: a.whole.Seq, Again: a.whole.Seq > 0, Segment: a.nextNumber()}
	a.chain.Defined = tables
	if b.Again {
		b.Missing, b.Other = a.chain.names(), unfinished(a.whole.Pos)
	}
	list := a.chain.Baselines
	if n := len(list); n > 0 && list[n-1].Done == 0 && list[n-1].After == b.After {
		list = list[:n-1] // a process has ended before anything came of that one
	}
	a.chain.Baselines = append(slices.Clip(list), b)
	a.mu.Unlock()
	return a.begin()
}

// signal wakes the Streams. a.mu is held.
func (a *Archive) signal() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// newID makes a random identity for an archive.
func newID() (id [16]byte, err error) {
	_, err = rand.Read(id[:])
	return id, err
}

// ArchiveStats say how an archive is, and what Apply has stored since it was opened.
type ArchiveStats struct {
	First, Last  uint64 // the transactions that it holds, if First <= Last
	Segments     int
	Bytes        int64 // of all segments
	Transactions uint64
	Commits      uint64 // how often it was waited for the disk
	RawBytes     uint64 // stored, before compression
	StoredBytes  uint64
}

// Stats returns the state of the archive.
func (a *Archive) Stats() ArchiveStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.count
	s.First, s.Last, s.Segments = a.whole.Seq+1, a.whole.Seq, len(a.segs)
	if len(a.segs) > 0 {
		s.First = a.segs[0].head.base + 1
	}
	for _, g := range a.segs {
		s.Bytes += g.size
	}
	return s
}
