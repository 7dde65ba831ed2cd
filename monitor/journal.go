package monitor

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	ondisk "github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/match"
	_ "modernc.org/sqlite" // the file
)

// A JournalLevel says what a Journal keeps.
type JournalLevel string

const (
	// JournalErrors keeps the transactions that a stage or the sink refuses for
	// good. While all goes well it costs next to nothing.
	JournalErrors JournalLevel = "errors"

	// JournalSampled also keeps one transaction in so many.
	JournalSampled JournalLevel = "sampled"

	// JournalAll keeps all. The pipeline then goes no faster than the journal can
	// be written: "make monitorbench" tells what that costs. It is a history that can
	// be searched by row. As a backup it is poor, since nothing puts it back: for that
	// there is sink.OpenArchive.
	JournalAll JournalLevel = "all"
)

// JournalOptions of a Journal. The zero JournalOptions are the defaults.
type JournalOptions struct {
	Level  JournalLevel // default: JournalErrors
	Sample int          // of JournalSampled: one transaction in so many; default: 100

	// Keep is how large the journal may grow, in bytes as stored; the oldest goes
	// first. Default: 1 GiB. Negative: no bound but the disk.
	Keep int64

	// KeepFor is how long what is kept stays. Default: 7 days. Negative: for ever.
	KeepFor time.Duration

	// Mask names columns whose values are not to be written down, as patterns such
	// as "shop.users.phone" or "*.*.password", by the names that the table has
	// where its rows are looked at: at the source, behind each stage, at the sink.
	// What a stage hides (dfs.Hider), as units of package dpu do by Mask, Drop and
	// Select, is masked without being named, up to that stage.
	Mask []string

	// Secrets are texts that are never written down. Where an error has one, dots
	// stand in its place.
	Secrets []string

	// Buffer is how many bytes may wait to be written. Default: 16 MiB. What is on its
	// way through the pipeline takes besides about as much as the pipeline itself may
	// hold (ReadAhead), for each step that differs from the one before. A transaction
	// that travels in parts waits until its last has been applied: of one that takes more
	// than Buffer its first parts are dropped, which shows as a gap.
	Buffer int

	// Explain, if set, returns the statements by which the sink of a pipeline
	// writes a transaction, as it reached the sink: the Plan of sink.DryRun and
	// of sink.Teller can tell.
	// It is called when somebody traces a row, not on the way of the data, and by
	// one goroutine at a time.
	Explain func(ctx context.Context, pipeline string, tx *dfs.Transaction) ([]string, error)

	// ReadOnly opens a file that another process may be writing. It must exist.
	ReadOnly bool

	// Logger is told when the journal cannot be written. Default: slog.Default().
	Logger *slog.Logger

	stall time.Duration // how long a full Buffer is waited for; a second but in tests
	pages int           // most pages of the file; for tests
}

// A Journal is a file that tells what became of transactions: what was received,
// what each stage made of it, and what the sink has applied or refused. Watch puts
// it beside a pipeline, and Trace asks it. It is safe for concurrent use.
//
// An entry is written once its outcome is known, so what the file says has
// happened, and it may lack the last second before a crash. With JournalAll, what
// it lacks is told as a gap. A journal that cannot be written, as when its disk is
// full, never stops a pipeline: entries are dropped and counted, a warning is
// logged and shown, and writing goes on when it can.
//
// The file has rows of the source, so only its owner may read it.
type Journal struct {
	path  string
	opts  JournalOptions
	masks []columnPattern
	db    *sql.DB
	own   os.FileInfo // of the file that is open
	log   *slog.Logger

	redact func(string) string

	mu      sync.Mutex
	cond    sync.Cond // of what follows
	watched []*tapped // what Watch was given
	waiting []*entry  // to be written, in order
	size    int       // bytes of these, and of those being written
	flushes uint64    // asked for
	flushed uint64    // done
	taken   uint64    // counts what the writer has taken, so that who waits sees it move
	closed  bool
	failing error     // why the last write failed; nil if it did not
	told    time.Time // when that was logged last
	bytes   int64     // stored

	explaining sync.Mutex // held while Explain is called

	written, dropped, failed atomic.Uint64 // transactions
	lost                     atomic.Uint64 // of dropped, since the last line about it
	stopped                  chan struct{}
}

// A columnPattern is one of JournalOptions.Mask.
type columnPattern struct {
	table  match.Pattern
	column string
}

// The file. A block is a run of entries of one pipeline: what it holds is at
// blockBuilder. The column data stands last, so that looking at keys reads no data.
const (
	journalID      = 0x6466736a // "dfsj"
	journalVersion = 2
	journalSchema  = `CREATE TABLE block (
	id INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, level TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
	at INTEGER NOT NULL, failed INTEGER NOT NULL, size INTEGER NOT NULL, raw INTEGER NOT NULL, sum INTEGER NOT NULL,
	keys BLOB NOT NULL, data BLOB NOT NULL);
CREATE INDEX block_failed ON block (id) WHERE failed > 0;`
)

// OpenJournal opens the file at path, and makes it if it is missing. The error has
// all that is wrong with the options. A nil opts stands for the zero
// JournalOptions.
func OpenJournal(path string, opts *JournalOptions) (*Journal, error) {
	j := &Journal{path: path, stopped: make(chan struct{})}
	j.cond.L = &j.mu
	if opts != nil {
		j.opts = *opts
	}
	if err := j.check(); err != nil {
		return nil, err
	}
	j.redact = redactor(j.opts.Secrets, nil)
	if err := j.open(); err != nil {
		if j.db != nil {
			err = errors.Join(err, j.db.Close())
		}
		return nil, fmt.Errorf("monitor: the journal %s: %w", path, err)
	}
	if j.opts.ReadOnly {
		close(j.stopped)
	} else {
		go j.write()
	}
	return j, nil
}

func (j *Journal) check() error {
	o := &j.opts
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("monitor: the journal's "+format, args...))
		}
	}
	o.Level = cmp.Or(o.Level, JournalErrors)
	switch o.Level {
	case JournalErrors, JournalSampled, JournalAll:
	default:
		fault(true, "Level is %q; use %q, %q or %q", o.Level, JournalErrors, JournalSampled, JournalAll)
	}
	fault(o.Sample < 0, "Sample is %d; use 0 for the default", o.Sample)
	fault(o.Sample > 0 && o.Level != JournalSampled, "Sample is set, and Level is %q; set Level to %q", o.Level, JournalSampled)
	fault(o.Buffer < 0, "Buffer is %d; use 0 for the default", o.Buffer)
	for _, text := range o.Mask {
		i := strings.LastIndexByte(text, '.')
		table, err := match.Parse(text[:max(i, 0)])
		fault(err != nil || text[i+1:] == "", "Mask has %q; want schema.table.column, where * and ? may stand for other characters", text)
		j.masks = append(j.masks, columnPattern{table, strings.ToLower(text[i+1:])})
	}
	o.Sample = cmp.Or(o.Sample, 100)
	o.Keep = cmp.Or(o.Keep, 1<<30)
	o.KeepFor = cmp.Or(o.KeepFor, 7*24*time.Hour)
	o.Buffer = cmp.Or(o.Buffer, 16<<20)
	o.stall = cmp.Or(o.stall, time.Second)
	if j.log = o.Logger; j.log == nil {
		j.log = slog.Default()
	}
	return errors.Join(errs...)
}

func (j *Journal) open() error {
	_, err := os.Stat(j.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case fresh && j.opts.ReadOnly:
		return errors.New("it does not exist; run a pipeline with a journal first")
	case fresh:
		// SQLite gives the files beside it the same mode.
		f, err := os.OpenFile(j.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	abs, err := filepath.Abs(j.path)
	if err != nil {
		return err
	}
	name := filepath.ToSlash(abs)
	if !strings.HasPrefix(name, "/") {
		name = "/" + name // C:/journal
	}
	// A commit does not wait for the disk, since nothing is promised for a loss of power. So
	// the log that a process before has left is not written once more either, as those of the
	// queue and the map of ids are (internal/walrenew): where its sync had failed, the end of
	// the journal may be lost with the power, or what was there be damaged, which the
	// checksums of blocks and SQLite tell.
	params := "?mode=rw&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=journal_size_limit(16777216)"
	if fresh {
		params = "?_pragma=page_size(16384)&_pragma=auto_vacuum(INCREMENTAL)" + strings.Replace(params, "?", "&", 1)
	}
	if j.opts.ReadOnly {
		params = "?mode=ro&_pragma=busy_timeout(5000)"
	}
	if j.opts.pages > 0 {
		params += fmt.Sprintf("&_pragma=max_page_count(%d)", j.opts.pages)
	}
	if j.db, err = sql.Open("sqlite", (&url.URL{Scheme: "file", Path: name}).String()+params); err != nil {
		return err
	}
	j.db.SetMaxOpenConns(4)
	if j.own, err = os.Stat(j.path); err != nil {
		return err
	}
	var id, version int
	if err := j.db.QueryRow("PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := j.db.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	switch {
	case id == journalID && version > journalVersion:
		return fmt.Errorf("it is of version %d, and this program reads up to %d; use a newer one", version, journalVersion)
	case id == journalID && version > 0:
		if version < journalVersion && !j.opts.ReadOnly { // what is in it is as it would be written now
			if _, err := j.db.Exec(fmt.Sprintf("PRAGMA user_version = %d", journalVersion)); err != nil {
				return err
			}
		}
	case id != 0 || version != 0 || j.opts.ReadOnly:
		return errors.New("it is not a journal; name another file")
	default:
		var tables int
		if err := j.db.QueryRow("SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil {
			return err
		}
		if tables > 0 {
			return errors.New("it is not a journal; name another file")
		}
		if _, err := j.db.Exec(fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			journalSchema, journalID, journalVersion)); err != nil {
			return err
		}
	}
	return j.db.QueryRow("SELECT COALESCE(SUM(size), 0) FROM block").Scan(&j.bytes)
}

// Close writes what is known and closes the file. Entries whose outcome is not
// known are not written. End the pipelines before.
func (j *Journal) Close() error {
	j.settle()
	j.mu.Lock()
	again := j.closed
	j.closed = true
	j.cond.Broadcast()
	j.mu.Unlock()
	<-j.stopped
	if again {
		return nil
	}
	if err := j.db.Close(); err != nil {
		return fmt.Errorf("monitor: close the journal %s: %w", j.path, err)
	}
	return nil
}

// JournalStats says what a Journal has done since it was opened.
type JournalStats struct {
	Level   JournalLevel
	Written uint64 // transactions written, parts of large ones counted one by one
	Dropped uint64 // transactions that could not be written
	Failed  uint64 // of Written, those that were refused
	Bytes   int64  // the size of what is kept
	Err     error  // why it cannot be written now; nil if it can

	// Gone is set if the file is not at its path any more: it was deleted, moved or
	// replaced. What is written then ends with Close.
	Gone bool
}

// Stats returns what the Journal has done. It is cheap and safe at any time.
func (j *Journal) Stats() JournalStats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return JournalStats{Level: j.opts.Level, Written: j.written.Load(), Dropped: j.dropped.Load(), Failed: j.failed.Load(), Bytes: j.bytes, Err: j.failing,
		Gone: ondisk.Gone(j.path, j.own)}
}

var _ dfs.Measurer = (*Journal)(nil)

// Measures returns the numbers of Stats.
func (j *Journal) Measures() []dfs.Measure {
	s := j.Stats()
	return []dfs.Measure{
		{Name: "transactions", Help: "transactions written", Value: float64(s.Written), Counter: true},
		{Name: "dropped_transactions", Help: "transactions that could not be written", Value: float64(s.Dropped), Counter: true},
		{Name: "failed_transactions", Help: "transactions written that were refused", Value: float64(s.Failed), Counter: true},
		{Name: "bytes", Help: "size of what is kept", Value: float64(s.Bytes)},
		{Name: "failing", Help: "1 while the journal cannot be written", Value: is(s.Err != nil)},
		{Name: "gone", Help: "1 while the file is not at its path any more: what is written ends with the program", Value: is(s.Gone)},
	}
}

// masked reports whether the column of a table is not to be written down.
func (j *Journal) masked(t *dfs.Table, column string) bool {
	for _, m := range j.masks {
		if m.table.Match(t.Schema, t.Name) && match.Glob(m.column, strings.ToLower(column)) {
			return true
		}
	}
	return false
}
