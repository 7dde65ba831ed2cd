// Package queue keeps transactions in a file between a source and a sink, so
// that each side runs at its own pace, and the source may forget its log once
// the queue holds it.
//
// A [Queue] is an SQLite database of blocks. A block is a run of transactions,
// compressed and with a checksum. Apply returns once its blocks are on the disk.
// A [Reader] is a name with a durable offset: what it has not passed stays. What
// all readers have passed is deleted, and its space used again.
//
// One process writes a queue. Others may read it meanwhile: see
// [Options.ReadOnly].
//
// # The way of a transaction
//
//  1. Apply cuts its batch into blocks of about 256 KB, and codes and compresses
//     one while the writer inserts the one before. Parts of a transaction whose
//     end is still to come get blocks of their own.
//  2. The writer, one goroutine with the only connection that writes, commits
//     all blocks of an Apply together with how far the readers have come and
//     with what can be deleted. SQLite's write-ahead log makes that one fsync.
//  3. The writer then wakes the Streams, which read blocks by queries of their
//     own, check and decompress them, and hand out transactions that alias them.
//  4. Trim notes the reader's offset in memory. The next commit stores it, or one
//     of its own soon after, and deletes blocks that every reader has passed.
//  5. When nothing else is to be done, the writer gives free pages back to the
//     file system, a few at a time.
//
// What is visible ends with the last block that completes a transaction, so that
// no row says where the queue stands, and none can contradict the blocks. Only
// the source's latest State (dfs.Checkpoint) is kept beside them, since it must
// outlive the block that it came in.
package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
)

// Options refine a Queue. The zero value is ready to use.
type Options struct {
	// Keep is how many bytes, compressed, stay readable after all readers have
	// passed them. They can be read again by a target that was put back from a
	// copy. They give way when MaxBytes is reached. Default: 0, none.
	Keep int64

	// KeepFor is how long transactions stay readable after they were stored,
	// also when all readers have passed them. It adds to Keep: what either of
	// them keeps stays. Default: 0, no time.
	KeepFor time.Duration

	// MaxBytes limits what the queue holds, in bytes as compressed. Once that
	// much waits for a reader, Apply waits too, until the slowest reader has
	// passed some of it or has been forgotten; so capture pauses, and the source
	// keeps its log instead. The limit may be passed by one batch, and by a
	// transaction that is larger than the limit. The file itself takes some
	// 10 to 60 MB more, for its write-ahead log and pages to be used again, and
	// keeps the size that it had when more waited until three quarters are free.
	// Default: 0, no limit but the disk's: when that is full but for 32 MB, Apply
	// returns an error that is dfs.ErrTransient, has stored nothing, and can be
	// called again.
	MaxBytes int64

	// ReadOnly opens a queue that another process may be writing. It must exist.
	// Apply and Reset return an error. Its readers hold nothing back, so they
	// see dfs.ErrGap when the writing process deletes what they come to, and
	// Trim does nothing. They notice new transactions within 20 ms. The options
	// above have no effect.
	ReadOnly bool

	// Readers names those who will read the queue, where there are several, so
	// that none of them loses to the others what it has not read: one that the
	// file does not know yet holds back all from transaction 1 on, before its
	// first Open too. If the queue no longer has transaction 1, it is registered
	// by its first Open, which says so if it comes too late. Readers that are
	// known and not named here stay: see Forget. Default: none.
	Readers []string

	// WarnBytes is how many bytes may wait for one reader until Logger is warned,
	// with its name and again whenever that has doubled: one whose target is gone
	// should not fill the disk unnoticed. Default: 1 GiB. Negative: never.
	WarnBytes int64

	// MaxReaderBytes is how many bytes may wait for one reader until it is
	// forgotten, so that it holds nothing back any more, and capture need not wait
	// for it. Logger is told. Once what it needs has been deleted, it gets an error
	// that is dfs.ErrGap; if it comes back before that, it goes on. The limit may
	// be passed by one batch. Default: 0, never.
	MaxReaderBytes int64

	// Logger is told of readers that are far behind. Default: slog.Default().
	Logger *slog.Logger

	maxPages  int64  // limits the file, to test a full disk; default: none
	freePages int64  // how many free pages are left alone; default: 1024
	walBytes  int64  // when the write-ahead log is moved into the file; default: 8 MB; negative: never
	driver    string // of database/sql, for the connection that writes, to test faults; default: sqlite

	// noted is given a value, if there is room, when what Stats say may have
	// changed, so that tests need not look again and again.
	noted chan struct{}
}

// validate returns all that is wrong with the options.
func (o *Options) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(o.Keep < 0, "Keep is %d: give a number of bytes, or 0 to keep nothing", o.Keep)
	fault(o.KeepFor < 0, "KeepFor is %v: give a span of time, or 0", o.KeepFor)
	fault(o.MaxBytes < 0, "MaxBytes is %d: give a number of bytes, or 0 for no limit", o.MaxBytes)
	fault(o.MaxBytes > 0 && o.Keep >= o.MaxBytes,
		"Keep is %d and MaxBytes %d: Keep must be less, or nothing is left for what is not read yet", o.Keep, o.MaxBytes)
	fault(o.MaxReaderBytes < 0, "MaxReaderBytes is %d: give a number of bytes, or 0 to forget no reader", o.MaxReaderBytes)
	fault(o.MaxReaderBytes > 0 && o.MaxBytes > 0 && o.MaxReaderBytes >= o.MaxBytes,
		"MaxReaderBytes is %d and MaxBytes %d: MaxReaderBytes must be less, or Apply waits before a reader is forgotten",
		o.MaxReaderBytes, o.MaxBytes)
	for i, name := range o.Readers {
		fault(name == "", "Readers[%d] has no name: give it one", i)
		fault(slices.Contains(o.Readers[:i], name), "Readers has the name %q twice: give each reader its own", name)
	}
	return errors.Join(faults...)
}

func (o *Options) logger() *slog.Logger {
	if o.Logger != nil {
		return o.Logger
	}
	return slog.Default()
}

// Limits that make no difference to what a caller sees.
const (
	pageSize  = 16384
	warnBytes = 1 << 30
	freePages = 1024     // 16 MB, about what a queue with its readers in step uses
	walBytes  = 8 << 20  // enough to write a page that changes often only once
	walMost   = 64 << 20 // then the writer waits for the readers to leave the log
	poll      = 20 * time.Millisecond
)

// A Queue is a durable, ordered log of transactions: a dfs.Queue. It is safe for
// concurrent use. As a dfs.Source and dfs.Trimmer it is its own reader of the
// name "default".
//
// A program must not itself open and close the queue's file while the Queue is
// open, for that drops the locks which SQLite holds on it.
type Queue struct {
	path string
	opts Options
	own  os.FileInfo // of the file that was opened, or nil if that is not known

	// turn holds a token. Who takes it may change where the queue ends: Apply,
	// Checkpoint when it drops parts, Reset, and Close for good. It is taken
	// before anything is sent to the writer, which never waits for it.
	turn    chan struct{}
	enc     chan *encoder // encoders not in use
	closing chan struct{} // closed by Close
	w       *writer       // nil if ReadOnly
	readDB  *sql.DB
	next    *sql.Stmt // of readDB: the blocks that follow
	lockDB  *sql.DB

	waiters atomic.Int32 // streams that have read all there is

	closeOnce sync.Once
	closeErr  error

	// mu is never held while waiting for anything. Only the writer changes st,
	// after a commit, so that st never says more than the file.
	mu      sync.Mutex
	st      state
	readers map[string]*offset
	changed chan struct{} // closed and replaced when st.whole or st.base moves
	fresh   fresh         // the newest blocks, if streams have waited for them
	waiting bool          // Apply waits for MaxBytes
	told    time.Time     // when the log was last told so
	fault   error         // why the last write did not succeed; nil if it did
	dead    error         // why nothing can be written any more
	count   counters
}

// An offset is how far a reader has come.
type offset struct {
	seq    uint64
	stored uint64 // what the file says, or unstored
	lost   bool   // it was forgotten at MaxReaderBytes, and holds nothing back
	end    int64  // bytes stored up to it, or less: see waits
	seen   uint64 // where it stood when that was found
	warned int64  // how much waited for it when the log was last warned
}

// waits returns how many bytes wait for the reader, or somewhat more while it
// moves.
func (o *offset) waits(st *state) int64 {
	if o.seq >= st.whole.seq {
		return 0
	}
	return st.last.end - max(o.end, st.base.end)
}

// unstored is the offset of a reader that the file does not know yet.
const unstored = ^uint64(0)

var (
	_ dfs.Queue   = (*Queue)(nil)
	_ dfs.Trimmer = (*Queue)(nil)
	_ dfs.Source  = (*Reader)(nil)
	_ dfs.Trimmer = (*Reader)(nil)
)

// Open opens the queue in the file at path, and creates it if it is missing,
// readable by its owner only. The files with -wal and -shm added to the name
// belong to it; the one with .lock shows that a process is writing it. To make
// a copy, close the queue first, or use VACUUM INTO of SQLite's own tool.
//
// Parts of a transaction whose end was never applied are dropped. A nil opts
// stands for the zero Options. The file must be on a local disk, not on a
// network file system.
func Open(path string, opts *Options) (*Queue, error) {
	if opts == nil {
		opts = &Options{}
	}
	if path == "" {
		return nil, errors.Join(errors.New("queue: no path: name a file"), opts.validate())
	}
	abs, err := absolute(path)
	if err = errors.Join(err, opts.validate()); err != nil {
		return nil, fmt.Errorf("open queue %s: %w", path, err)
	}
	q := &Queue{
		path: abs, opts: *opts,
		turn: make(chan struct{}, 1), enc: make(chan *encoder, 3),
		closing: make(chan struct{}), changed: make(chan struct{}),
		readers: make(map[string]*offset),
	}
	q.opts.WarnBytes = orDefault(q.opts.WarnBytes, warnBytes)
	q.opts.freePages = orDefault(q.opts.freePages, freePages)
	q.opts.walBytes = orDefault(q.opts.walBytes, walBytes)
	q.turn <- struct{}{}
	for range cap(q.enc) {
		q.enc <- new(encoder)
	}
	if opts.ReadOnly {
		err = q.openToRead()
	} else {
		err = q.openToWrite()
	}
	if err != nil {
		q.release()
		return nil, err
	}
	if q.own, err = os.Stat(abs); err != nil {
		q.Close()
		return nil, fmt.Errorf("open queue %s: %w", path, err)
	}
	return q, nil
}

// signal tells a test that Stats may have changed.
func (o *Options) signal() {
	select {
	case o.noted <- struct{}{}:
	default:
	}
}

// orDefault returns v, or d if v is zero.
func orDefault(v, d int64) int64 {
	if v == 0 {
		return d
	}
	return v
}

// openToWrite locks the file, and starts the writer before there are readers: it
// makes the tables, and recovers the write-ahead log of a process that died.
func (q *Queue) openToWrite() (err error) {
	if q.lockDB, err = lock(q.path); err != nil {
		return err
	}
	w, err := newWriter(q)
	if err != nil {
		return err
	}
	q.w = w
	go w.run()
	if err := q.openReaders(); err != nil {
		return err
	}
	if err := q.prepare(); err != nil {
		return err
	}
	return q.expect()
}

// expect registers the readers that are to come, while nothing has been deleted
// that they need.
func (q *Queue) expect() error {
	if q.state().base.seq > 0 {
		return nil
	}
	for _, name := range q.opts.Readers {
		q.mu.Lock()
		known := q.readers[name] != nil
		q.mu.Unlock()
		if known {
			continue
		}
		if err := q.register(context.Background(), name, 0); err != nil {
			return err
		}
	}
	return nil
}

// openToRead opens the file without a lock, a writer or a place among its
// readers.
func (q *Queue) openToRead() error {
	if err := q.openReaders(); err != nil {
		return err
	}
	ctx := context.Background()
	fresh, err := identify(ctx, q.path, q.readDB)
	if err != nil {
		return err
	}
	if fresh {
		return fmt.Errorf("queue %s: nothing was ever stored in it", q.path)
	}
	if err := q.prepare(); err != nil {
		return err
	}
	return q.refresh(ctx)
}

// openReaders opens the file for reading, by any number of connections.
func (q *Queue) openReaders() (err error) {
	const params = "?mode=ro&_query_only=1&_pragma=busy_timeout(5000)&_pragma=cache_size(-1024)"
	if q.readDB, err = sql.Open("sqlite", dataSource(q.path, params)); err != nil {
		return fmt.Errorf("queue %s: %w", q.path, err)
	}
	q.readDB.SetMaxIdleConns(4)
	return nil
}

// prepare prepares what is read often. The tables must be there.
func (q *Queue) prepare() (err error) {
	q.next, err = q.readDB.Prepare("SELECT " + blockColumns + " FROM block WHERE id > ? AND last <= ? ORDER BY id LIMIT 64")
	return wrap(q.path, "open", err)
}

// refresh reads anew what the file of a read-only queue holds.
func (q *Queue) refresh(ctx context.Context) error {
	return q.view(ctx, func(tx *sql.Tx) error { return q.reread(ctx, tx) })
}

// snapshot is Checkpoint for a read-only queue.
func (q *Queue) snapshot(ctx context.Context) (at dfs.Checkpoint, err error) {
	err = q.view(ctx, func(tx *sql.Tx) error {
		st, err := readState(ctx, q.path, tx)
		if err == nil {
			at = st.whole.checkpoint()
			at.State, err = readLatest(ctx, q.path, tx, at.Seq)
		}
		return err
	})
	return at, err
}

// view calls f with one snapshot of the file.
func (q *Queue) view(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := q.readDB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return q.readErr(ctx, "read", err)
	}
	defer tx.Rollback()
	return q.ended(ctx, f(tx))
}

// reread takes over what the file holds.
func (q *Queue) reread(ctx context.Context, tx *sql.Tx) error {
	st, err := readState(ctx, q.path, tx)
	if err != nil {
		return err
	}
	readers, err := readOffsets(ctx, q.path, tx)
	if err != nil {
		return err
	}
	for _, r := range readers {
		if r.end, err = endOf(ctx, q.path, tx, &st, r.seq); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.st, q.readers = st, readers
	return nil
}

// Close waits for an Apply in progress, and frees what the Queue holds. Its
// Streams, and an Apply that waits for MaxBytes, return ErrClosed.
func (q *Queue) Close() error {
	q.closeOnce.Do(func() {
		close(q.closing)
		if q.w != nil {
			<-q.turn // and never give it back
		}
		q.closeErr = q.release()
	})
	return q.closeErr
}

// release closes what is open. It closes the writer before the lock, so that whoever gets the lock next
// finds the file at rest.
func (q *Queue) release() error {
	var errs []error
	if q.next != nil {
		errs = append(errs, q.next.Close())
	}
	if q.readDB != nil {
		errs = append(errs, q.readDB.Close())
	}
	if q.w != nil {
		errs = append(errs, q.w.close())
	}
	if q.lockDB != nil {
		errs = append(errs, q.lockDB.Close())
	}
	return wrap(q.path, "close", errors.Join(errs...))
}

// writable returns why the queue cannot be written, if so.
func (q *Queue) writable() error {
	if q.opts.ReadOnly {
		return fmt.Errorf("queue %s: it was opened with ReadOnly", q.path)
	}
	select {
	case <-q.closing:
		return ErrClosed
	default:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dead
}

// take waits for the turn to apply. The caller gives it back by q.turn <-.
func (q *Queue) take(ctx context.Context) error {
	if err := q.writable(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-q.turn:
		return nil
	case <-q.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
