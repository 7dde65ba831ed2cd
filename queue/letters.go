package queue

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/walrenew"
)

// LettersOptions refine Letters. The zero value is ready to use.
type LettersOptions struct {
	// Pipeline is the name of the pipeline that the letters are of. A file that
	// was made for another is refused. Default: "", which goes with any.
	Pipeline string

	// MaxLetters limits how many letters wait to be settled. One more is refused
	// with dfs.ErrLettersFull, so that a target which takes nothing does not make
	// letters of all that comes: the pipeline then stops. Default: 1000. Negative:
	// no limit.
	MaxLetters int

	// MaxBytes limits what waits to be settled, in bytes as they are stored.
	// Default: 256 MiB. Negative: no limit.
	MaxBytes int64

	// KeepFor is how long letters are kept once they are settled. A target that is
	// put back from a backup older than that may lack what they did. Default: 30
	// days. Negative: for ever.
	KeepFor time.Duration

	// ReadOnly opens a file, which must exist, to look at letters, also while a
	// pipeline uses it. Write returns an error.
	ReadOnly bool
}

func (o *LettersOptions) validate() error {
	if o.Pipeline != "" && len(o.Pipeline) > 200 {
		return fmt.Errorf("the option Pipeline has %d bytes: use at most 200", len(o.Pipeline))
	}
	return nil
}

// Letters is a dfs.LetterStore in an SQLite file. It is safe for concurrent use.
type Letters struct {
	path string
	opts LettersOptions
	lock *sql.DB
	db   *sql.DB

	version int64       // of the file
	own     os.FileInfo // of the file that is open

	mu   sync.Mutex // held by Write; guards what follows
	dead error      // why nothing can be written any more
}

var _ dfs.LetterStore = (*Letters)(nil)

const (
	lettersID      = 0x6466736c // "dfsl"
	lettersVersion = 2
)

// The tables. A letter's info is its dfs.Letter as JSON. Its parts count from 1,
// and part 0 is what it was edited to be. A part is what dfs.AppendChanges writes,
// compressed.
const lettersSchema = `
CREATE TABLE letter (number INTEGER PRIMARY KEY, revision INTEGER NOT NULL, unsettled INTEGER NOT NULL,
	settled INTEGER NOT NULL, info TEXT NOT NULL, sum INTEGER);
CREATE TABLE part (number INTEGER NOT NULL, part INTEGER NOT NULL, size INTEGER NOT NULL, sum INTEGER NOT NULL,
	data BLOB NOT NULL, PRIMARY KEY (number, part));
CREATE TABLE skip (id TEXT PRIMARY KEY, sum INTEGER) WITHOUT ROWID;
CREATE TABLE memo (name TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER) WITHOUT ROWID;`

// OpenLetters opens the letters in the file at path, and creates it if it is
// missing, readable by its owner only: the rows of refused transactions are in it.
// The files with -wal, -shm and .lock added to the name belong to it. One process
// may write it. A nil opts stands for the zero LettersOptions.
func OpenLetters(path string, opts *LettersOptions) (*Letters, error) {
	l := &Letters{}
	if opts != nil {
		l.opts = *opts
	}
	if path == "" {
		return nil, errors.Join(errors.New("dead letters: no path: name a file"), l.opts.validate())
	}
	o := &l.opts
	if o.MaxLetters == 0 {
		o.MaxLetters = 1000
	}
	o.MaxBytes = orDefault(o.MaxBytes, 256<<20)
	if o.KeepFor == 0 {
		o.KeepFor = 30 * 24 * time.Hour
	}
	var err error
	if l.path, err = absolute(path); err != nil {
		return nil, fmt.Errorf("dead letters %s: its folder does not exist; make it first", path)
	}
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("dead letters %s: %w", path, err)
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Letters) open() error {
	// No mode creates a file: one that was deleted is not to be taken for a new one.
	mode := "?mode=ro&_query_only=1&_pragma=busy_timeout(5000)"
	if !l.opts.ReadOnly {
		var pid int
		var err error
		if l.lock, pid, err = tryLock(l.path); err != nil {
			return l.wrap("lock", err)
		}
		if l.lock == nil {
			return fmt.Errorf("dead letters %s: process %d is using the file: ask it, through its monitor, or stop it first", l.path, pid)
		}
		if err := create(l.path); err != nil {
			return l.wrap("create", err)
		}
		// The target may have gone beyond a letter once Book has told of it.
		if err := walrenew.Renew(context.Background(), l.path, slog.Default()); err != nil {
			return fmt.Errorf("dead letters %s: %w", l.path, err)
		}
		mode = "?mode=rw&_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	} else if _, err := os.Stat(l.path); err != nil {
		return fmt.Errorf("dead letters %s: there are none: %w", l.path, err)
	}
	var err error
	if l.db, err = sql.Open("sqlite", dataSource(l.path, mode)); err != nil {
		return l.wrap("open", err)
	}
	if l.own, err = os.Stat(l.path); err != nil {
		return l.wrap("open", err)
	}
	l.db.SetMaxIdleConns(2)
	var id, version, tables int64
	for query, v := range map[string]*int64{"PRAGMA application_id": &id, "PRAGMA user_version": &version, "SELECT count(*) FROM sqlite_schema": &tables} {
		err := l.db.QueryRow(query).Scan(v)
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_NOTADB {
			return fmt.Errorf("dead letters %s: this is a file of another kind; name another path", l.path)
		}
		if err != nil {
			return l.wrap("open", err)
		}
	}
	switch {
	case id == 0 && tables == 0 && l.opts.ReadOnly:
		return fmt.Errorf("dead letters %s: nothing was ever stored in it", l.path)
	case id == 0 && tables == 0:
		return l.begin()
	case id != lettersID:
		return fmt.Errorf("dead letters %s: this is another program's SQLite database, or a queue; name another path", l.path)
	case version < 1 || version > lettersVersion:
		return fmt.Errorf("dead letters %s: the file has version %d, this program reads up to %d; use the program that wrote it", l.path, version, lettersVersion)
	}
	if l.version = version; version < lettersVersion && !l.opts.ReadOnly {
		if err := l.upgrade(context.Background()); err != nil {
			return err
		}
	}
	name, err := l.memo(context.Background(), l.db, "pipeline")
	if err != nil {
		return err
	}
	if name != "" && l.opts.Pipeline != "" && name != l.opts.Pipeline {
		return fmt.Errorf("dead letters %s: they are of the pipeline %q, not of %q; give each pipeline a file of its own", l.path, name, l.opts.Pipeline)
	}
	if l.opts.ReadOnly {
		return nil
	}
	return l.forget(context.Background())
}

// begin makes the tables.
func (l *Letters) begin() error {
	tx, err := l.db.Begin()
	if err != nil {
		return l.wrap("create", err)
	}
	defer tx.Rollback()
	for _, s := range []string{lettersSchema, fmt.Sprintf("PRAGMA application_id = %d", lettersID), fmt.Sprintf("PRAGMA user_version = %d", lettersVersion)} {
		if _, err := tx.Exec(s); err != nil {
			return l.wrap("create", err)
		}
	}
	l.version = lettersVersion
	if err := setMemo(context.Background(), tx, "pipeline", l.opts.Pipeline); err != nil {
		return l.wrap("create", err)
	}
	if err := l.tally(context.Background(), tx); err != nil {
		return l.wrap("create", err)
	}
	return l.wrap("create", tx.Commit())
}

// forget deletes what was settled long ago.
func (l *Letters) forget(ctx context.Context) error {
	if l.opts.KeepFor < 0 {
		return nil
	}
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return l.wrap("clean", err)
	}
	defer tx.Rollback()
	before := time.Now().Add(-l.opts.KeepFor).Unix()
	for _, s := range []string{
		"DELETE FROM part WHERE number IN (SELECT number FROM letter WHERE unsettled = 0 AND settled < ?)",
		"DELETE FROM letter WHERE unsettled = 0 AND settled < ?",
	} {
		if _, err := tx.ExecContext(ctx, s, before); err != nil {
			return l.wrap("clean", err)
		}
	}
	if err := l.tally(ctx, tx); err != nil {
		return l.wrap("clean", err)
	}
	return l.wrap("clean", tx.Commit())
}

// Close closes the file.
func (l *Letters) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	if l.db != nil {
		errs = append(errs, l.db.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return l.wrap("close", errors.Join(errs...))
}

// wrap adds to an error of SQLite what was being done, and judges it as the
// queue's does.
func (l *Letters) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL:
			return dfs.Transient(fmt.Errorf("dead letters %s: %s: the disk is full: %w", l.path, doing, err))
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM:
			return dfs.Transient(fmt.Errorf("dead letters %s: %s: %w", l.path, doing, err))
		case sqlite3.SQLITE_IOERR:
			if unsure(err) {
				return fmt.Errorf("dead letters %s: %s: the disk did not confirm a write; restart once it is sound: %w", l.path, doing, err)
			}
			return dfs.Transient(fmt.Errorf("dead letters %s: %s: %w", l.path, doing, err))
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return l.damaged(fmt.Errorf("%s: %w", doing, err))
		}
	}
	return fmt.Errorf("dead letters %s: %s: %w", l.path, doing, err)
}

func (l *Letters) damaged(err error) error {
	return fmt.Errorf("dead letters %s: the file is damaged: %w; put back a copy of it, or move it away with those named -wal and -shm beside it: "+
		"the target then lacks what the letters in it did, which verify finds", l.path, err)
}

// Book returns what the file holds: see dfs.LetterStore.
func (l *Letters) Book(ctx context.Context) (*dfs.LetterBook, error) {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, l.wrap("read", err)
	}
	defer tx.Rollback()
	if err := l.whole(ctx, tx); err != nil {
		return nil, err
	}
	b := &dfs.LetterBook{}
	rows, err := tx.QueryContext(ctx, "SELECT number, revision, unsettled, settled, info, "+l.sum()+" FROM letter ORDER BY number")
	if err != nil {
		return nil, l.wrap("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		letter, err := l.scan(rows)
		if err != nil {
			return nil, err
		}
		b.Letters = append(b.Letters, letter)
	}
	if err := rows.Err(); err != nil {
		return nil, l.wrap("read", err)
	}
	skips, err := tx.QueryContext(ctx, "SELECT id, "+l.sum()+" FROM skip ORDER BY id")
	if err != nil {
		return nil, l.wrap("read", err)
	}
	defer skips.Close()
	for skips.Next() {
		var id string
		var sum sql.NullInt64
		if err := skips.Scan(&id, &sum); err != nil {
			return nil, l.wrap("read", err)
		}
		if err := l.fits(sum, rowSum(id), "a transaction to skip"); err != nil {
			return nil, err
		}
		b.Skip = append(b.Skip, id)
	}
	if err := skips.Err(); err != nil {
		return nil, l.wrap("read", err)
	}
	if b.Next, err = l.number(ctx, tx, "next"); err == nil {
		b.Reached, err = l.number(ctx, tx, "reached")
	}
	var keys string
	if err == nil {
		keys, err = l.memo(ctx, tx, "keys")
	}
	if keys != "" {
		b.Keys = []byte(keys)
	}
	b.Next = max(b.Next, 1)
	return b, err
}

func (l *Letters) scan(row interface{ Scan(...any) error }) (*dfs.Letter, error) {
	var letter dfs.Letter
	var n, revision, unsettled, settled int64
	var info []byte
	var sum sql.NullInt64
	if err := row.Scan(&n, &revision, &unsettled, &settled, &info, &sum); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		return nil, l.wrap("read", err)
	}
	if err := l.fits(sum, rowSum(string(info), n, revision, unsettled, settled), fmt.Sprint("letter ", n)); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(info, &letter); err != nil {
		return nil, l.damaged(fmt.Errorf("letter %d: %w", n, err))
	}
	letter.Number, letter.Revision = uint64(n), uint64(revision)
	return &letter, nil
}

// Letter returns one letter with its changes: see dfs.LetterStore.
func (l *Letters) Letter(ctx context.Context, n uint64, limit int) (*dfs.Letter, error) {
	tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, l.wrap("read", err)
	}
	defer tx.Rollback()
	letter, err := l.scan(tx.QueryRowContext(ctx, "SELECT number, revision, unsettled, settled, info, "+l.sum()+" FROM letter WHERE number = ?", int64(n)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: %d", dfs.ErrNoLetter, n)
	}
	if err != nil {
		return nil, err
	}
	for part, left := 0, limit; part <= letter.Parts; part++ {
		if part == 0 && letter.Edits == 0 {
			continue
		}
		if part > 1 && limit > 0 && left <= 0 {
			break
		}
		changes, err := l.part(ctx, tx, n, part)
		if err != nil {
			return nil, err
		}
		if part == 0 {
			letter.Edited = upTo(changes, limit)
			if letter.Edited == nil {
				letter.Edited = []dfs.Change{}
			}
			continue
		}
		if limit > 0 {
			changes = upTo(changes, left)
			left -= (&dfs.Transaction{Changes: changes}).Size()
		}
		letter.Changes = append(letter.Changes, changes...)
	}
	return letter, nil
}

// upTo returns as many of the changes as make up limit bytes, and one at least.
func upTo(changes []dfs.Change, limit int) []dfs.Change {
	if limit <= 0 {
		return changes
	}
	size := 0
	for i := range changes {
		if size += (&dfs.Transaction{Changes: changes[i : i+1]}).Size() - (&dfs.Transaction{}).Size(); size > limit && i > 0 {
			return changes[:i]
		}
	}
	return changes
}

// partSum returns the checksum of a part, which it cannot bear in another place.
func partSum(n uint64, part int, data []byte) uint32 {
	var head [16]byte
	binary.LittleEndian.PutUint64(head[:], n)
	binary.LittleEndian.PutUint64(head[8:], uint64(part))
	return crc32.Update(crc32.Update(0, castagnoli, head[:]), castagnoli, data)
}

func (l *Letters) part(ctx context.Context, q querier, n uint64, part int) ([]dfs.Change, error) {
	var sum uint32
	var data []byte
	err := q.QueryRowContext(ctx, "SELECT sum, data FROM part WHERE number = ? AND part = ?", int64(n), part).Scan(&sum, &data)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, l.damaged(fmt.Errorf("part %d of letter %d is missing", part, n))
	case err != nil:
		return nil, l.wrap("read", err)
	case sum != partSum(n, part, data):
		return nil, l.damaged(fmt.Errorf("the checksum of part %d of letter %d is wrong", part, n))
	}
	b, err := s2.Decode(nil, data)
	if err == nil {
		var changes []dfs.Change
		if changes, err = dfs.ParseChanges(b); err == nil {
			return changes, nil
		}
	}
	return nil, l.damaged(fmt.Errorf("part %d of letter %d: %w", part, n, err))
}

// Write writes all of w, or nothing: see dfs.LetterStore.
func (l *Letters) Write(ctx context.Context, w *dfs.LetterWrite) error {
	if l.opts.ReadOnly {
		return fmt.Errorf("dead letters %s: the file was opened with ReadOnly", l.path)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return l.dead
	}
	if l.Gone() {
		return l.save(ctx)
	}
	err := l.write(ctx, w)
	if unsure(err) {
		l.dead = err
	}
	if err == nil {
		for _, letter := range w.Put {
			letter.Revision++
		}
	}
	return err
}

// Gone reports whether the file is not at its path any more: it was deleted, moved or
// replaced. Letters can still be read, and Write returns an error.
func (l *Letters) Gone() bool { return files.Gone(l.path, l.own) }

// save saves what the file holds that is open and gone, and returns what to do. Letters
// that were stored in it now would end with the program, and the target would lack them.
func (l *Letters) save(ctx context.Context) error {
	const gone = "dead letters %s: the file is not there any more: it was deleted, moved or replaced while it was in use, so no more is written to it; "
	saved := l.path + ".saved"
	if _, err := l.db.ExecContext(ctx, "VACUUM INTO ?", saved); err != nil {
		return fmt.Errorf(gone+"what it held could not be saved in %s: %w; mend that and start again from the monitor, before the program is stopped", l.path, saved, err)
	}
	l.dead = fmt.Errorf(gone+"what it held is in %s now: stop the program, move that to where the file was, and start again", l.path, saved)
	return l.dead
}

func (l *Letters) write(ctx context.Context, w *dfs.LetterWrite) error {
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return l.wrap("write", err)
	}
	defer tx.Rollback()
	next, grows := uint64(0), false
	for _, letter := range w.Put {
		if err := l.put(ctx, tx, letter); err != nil {
			return err
		}
		next, grows = max(next, letter.Number+1), grows || letter.Changes != nil && letter.Unsettled()
	}
	if grows {
		if err := l.checkRoom(ctx, tx); err != nil {
			return err
		}
	}
	var steps []func() error
	exec := func(query string, args ...any) {
		steps = append(steps, func() error { _, err := tx.ExecContext(ctx, query, args...); return err })
	}
	for _, n := range w.Delete {
		exec("DELETE FROM letter WHERE number = ?", int64(n))
		exec("DELETE FROM part WHERE number = ?", int64(n))
	}
	for _, id := range w.Skip {
		exec("INSERT OR IGNORE INTO skip (id, sum) VALUES (?, ?)", id, rowSum(id))
	}
	for _, id := range w.Unskip {
		exec("DELETE FROM skip WHERE id = ?", id)
	}
	for name, value := range map[string]uint64{"next": next, "reached": w.Reached} {
		if value > 0 {
			steps = append(steps, func() error {
				if name == "next" {
					old, err := l.number(ctx, tx, name)
					if err != nil || old >= value {
						return err
					}
				}
				return setMemo(ctx, tx, name, strconv.FormatUint(value, 10))
			})
		}
	}
	if w.Keys != nil {
		steps = append(steps, func() error { return setMemo(ctx, tx, "keys", string(w.Keys)) })
	}
	steps = append(steps, func() error { return l.tally(ctx, tx) })
	for _, step := range steps {
		if err := step(); err != nil {
			return l.wrap("write", err)
		}
	}
	failpoint.Hit("letters.commit")
	err = tx.Commit()
	failpoint.Hit("letters.committed")
	return l.wrap("write", err)
}

// put stores one letter.
func (l *Letters) put(ctx context.Context, tx *sql.Tx, letter *dfs.Letter) error {
	var stored int64
	err := tx.QueryRowContext(ctx, "SELECT revision FROM letter WHERE number = ?", int64(letter.Number)).Scan(&stored)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err != nil {
		return l.wrap("write", err)
	}
	if uint64(stored) != letter.Revision {
		return fmt.Errorf("%w: letter %d", dfs.ErrLetterChanged, letter.Number)
	}
	bare := *letter
	bare.Changes, bare.Edited = nil, nil
	info, err := json.Marshal(&bare)
	if err != nil {
		return l.wrap("write", err)
	}
	unsettled, settled := int64(0), time.Now().Unix()
	if letter.Unsettled() {
		unsettled = 1
	}
	n, revision := int64(letter.Number), int64(letter.Revision+1)
	if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO letter (number, revision, unsettled, settled, info, sum) VALUES (?, ?, ?, ?, ?, ?)",
		n, revision, unsettled, settled, string(info), rowSum(string(info), n, revision, unsettled, settled)); err != nil {
		return l.wrap("write", err)
	}
	for part, changes := range map[int][]dfs.Change{letter.Parts: letter.Changes, 0: letter.Edited} {
		if changes == nil {
			continue
		}
		if part > 0 {
			if _, err := tx.ExecContext(ctx, "DELETE FROM part WHERE number = ? AND part > ?", int64(letter.Number), part); err != nil {
				return l.wrap("write", err)
			}
		}
		data := s2.Encode(nil, dfs.AppendChanges(nil, changes))
		if _, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO part (number, part, size, sum, data) VALUES (?, ?, ?, ?, ?)",
			int64(letter.Number), part, len(data), int64(partSum(letter.Number, part, data)), data); err != nil {
			return l.wrap("write", err)
		}
	}
	return nil
}

// checkRoom reports whether too much waits to be settled.
func (l *Letters) checkRoom(ctx context.Context, tx *sql.Tx) error {
	var count, bytes int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM letter WHERE unsettled = 1").Scan(&count); err != nil {
		return l.wrap("write", err)
	}
	if err := tx.QueryRowContext(ctx, "SELECT COALESCE(sum(size), 0) FROM part JOIN letter USING (number) WHERE unsettled = 1").Scan(&bytes); err != nil {
		return l.wrap("write", err)
	}
	why := ""
	switch {
	case l.opts.MaxLetters > 0 && count > int64(l.opts.MaxLetters):
		why = fmt.Sprintf("%d wait to be settled, which is what MaxLetters allows", l.opts.MaxLetters)
	case l.opts.MaxBytes > 0 && bytes > l.opts.MaxBytes:
		why = fmt.Sprintf("those that wait to be settled have the %d MiB that MaxBytes allows", l.opts.MaxBytes>>20)
	default:
		return nil
	}
	return fmt.Errorf("%w in %s: %s; mend what the first of them names, and retry or skip them, or raise the limit", dfs.ErrLettersFull, l.path, why)
}
