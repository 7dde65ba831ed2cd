package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dataflowsync/dfs"
)

const (
	applicationID = 0x64667371 // "dfsq", which tells file(1) and us what it is

	// The version of a file. It is raised when the first State is stored, so that
	// older programs read what has none, and say of others that they cannot.
	fileVersion  = 1 // has the tables of schema
	stateVersion = 2 // has that of stateSchema too, and blocks with flagState
)

// The tables. A block is described at the type of that name. A mark is a place
// between two blocks: the one named "" lies before the oldest, and each other
// bears the name of a reader and has only a seq.
const schema = `
CREATE TABLE block (
	id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, whole INTEGER NOT NULL,
	pos TEXT NOT NULL, at INTEGER NOT NULL, "end" INTEGER NOT NULL, format INTEGER NOT NULL,
	raw INTEGER NOT NULL, sum INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE mark (
	name TEXT PRIMARY KEY, seq INTEGER NOT NULL, pos TEXT NOT NULL DEFAULT '',
	block INTEGER NOT NULL DEFAULT 0, "end" INTEGER NOT NULL DEFAULT 0,
	part INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
INSERT INTO mark (name, seq) VALUES ('', 0);`

// A place is a boundary between two blocks, or between two transactions.
type place struct {
	seq   uint64 // of the transaction before it
	pos   dfs.Position
	block int64 // the block before it
	end   int64 // bytes stored up to it
	part  bool  // it lies within a transaction
}

func (p place) checkpoint() dfs.Checkpoint { return dfs.Checkpoint{Seq: p.seq, Pos: p.pos} }

// A state is what the file holds.
type state struct {
	base  place // before the oldest block
	whole place // after the last transaction that is whole
	last  place // after the last part; beyond whole if parts await their end
}

func (s *state) bytes() int64 { return s.last.end - s.base.end }

// dataSource returns the URI of the file at path, with params, which begin with
// "?" unless empty.
func dataSource(path, params string) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/queue
	}
	return (&url.URL{Scheme: "file", Path: p}).String() + params
}

// absolute returns the one name by which the file at path is known, so that two
// ways to it meet at the same lock.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		if info, err := os.Stat(real); err == nil && !info.Mode().IsRegular() {
			return "", fmt.Errorf("queue %s: it is a folder or a device: name a file", path)
		}
		return real, nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("queue %s: its folder does not exist; make it first: %w", path, err)
	}
	return filepath.Join(dir, filepath.Base(abs)), nil
}

// create makes an empty file that only its owner may read, since rows are in
// it. SQLite gives the files beside it the same mode. An existing file is never
// opened: closing it again would drop the locks that this process holds on it
// (POSIX fcntl, and SQLite's "How To Corrupt", section 2.2).
func create(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// lock makes sure that this is the only writer, for as long as the result is
// open. It is an SQLite database with nothing but the writer's process id, held
// by a transaction without end: SQLite's locks are right on every system, they
// hold within one process too, and end with it, also by kill -9.
func lock(path string) (*sql.DB, error) {
	db, pid, err := tryLock(path)
	if db == nil && err == nil {
		err = fmt.Errorf("queue %s: process %d is writing it; a queue has one writer: "+
			"stop that process, or open the queue with ReadOnly", path, pid)
	}
	return db, err
}

// tryLock returns no database but the holder's process id if another has the lock.
func tryLock(path string) (_ *sql.DB, pid int, err error) {
	name := path + ".lock"
	if err := create(name); err != nil {
		return nil, 0, fmt.Errorf("queue %s: %w", path, err)
	}
	// Synchronous, for a loss of power may else leave a file that is no database.
	db, err := sql.Open("sqlite", dataSource(name, "?_pragma=busy_timeout(0)&_pragma=synchronous(2)"))
	if err != nil {
		return nil, 0, fmt.Errorf("queue %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec(fmt.Sprintf("PRAGMA user_version = %d", os.Getpid()))
	if err == nil {
		_, err = db.Exec("BEGIN IMMEDIATE")
	}
	if err == nil {
		return db, 0, nil
	}
	defer db.Close()
	var e *sqlite.Error
	if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY {
		err = wrap(path, "lock "+name, err)
		var damage *CorruptError
		if errors.As(err, &damage) {
			err = fmt.Errorf("queue %s: its file %s, which holds nothing but a lock, is damaged: make sure that no process uses the queue, and remove that file only: %w",
				path, name, damage.Err)
		}
		return nil, 0, err
	}
	if err := db.QueryRow("PRAGMA user_version").Scan(&pid); err != nil {
		return nil, 0, wrap(path, "lock "+name, err)
	}
	return nil, pid, nil
}

// openWriter opens the file for writing, and creates what is missing. There is
// one such connection: two that write starve each other.
func openWriter(path string, opts *Options) (_ *sql.DB, _ *sql.Conn, err error) {
	if err := create(path); err != nil {
		return nil, nil, fmt.Errorf("queue %s: %w", path, err)
	}
	db, err := sql.Open(cmp.Or(opts.driver, "sqlite"), dataSource(path, "?_pragma=busy_timeout(5000)"))
	if err != nil {
		return nil, nil, fmt.Errorf("queue %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	var conn *sql.Conn
	defer func() {
		if err != nil {
			if conn != nil {
				conn.Close()
			}
			db.Close()
		}
	}()
	ctx := context.Background()
	if conn, err = db.Conn(ctx); err != nil {
		return nil, nil, wrap(path, "open", err)
	}
	fresh, err := identify(ctx, path, conn)
	if err != nil {
		return nil, nil, err
	}
	pragmas := []string{
		// The order matters: page_size has no effect once either of the next two
		// has written the first page. 16 KB pages carry large blocks fastest.
		"PRAGMA page_size = 16384",
		"PRAGMA auto_vacuum = INCREMENTAL",
		"PRAGMA journal_mode = WAL",
		// A commit returns after fsync of the log.
		"PRAGMA synchronous = FULL",
		// The writer moves the log into the file itself, after it has answered.
		"PRAGMA wal_autocheckpoint = 0",
		"PRAGMA journal_size_limit = 33554432",
		"PRAGMA secure_delete = OFF",
		"PRAGMA cache_size = -8192",
	}
	if opts.maxPages > 0 {
		pragmas = append(pragmas, fmt.Sprintf("PRAGMA max_page_count = %d", opts.maxPages))
	}
	for _, p := range pragmas {
		if _, err = conn.ExecContext(ctx, p); err != nil {
			return nil, nil, wrap(path, p, err)
		}
	}
	if !fresh {
		return db, conn, nil
	}
	for _, s := range []string{"BEGIN IMMEDIATE", schema,
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", fileVersion), "COMMIT"} {
		if _, err = conn.ExecContext(ctx, s); err != nil {
			return nil, nil, wrap(path, "create", err)
		}
	}
	return db, conn, nil
}

// A querier is a *sql.Conn, *sql.DB or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// identify makes sure that the file is a queue that this program can read, and
// reports whether it is still empty.
func identify(ctx context.Context, path string, c querier) (fresh bool, err error) {
	var id, version, tables int64
	for query, v := range map[string]*int64{
		"PRAGMA application_id":              &id,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		err := c.QueryRowContext(ctx, query).Scan(v)
		var e *sqlite.Error
		if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_NOTADB {
			return false, fmt.Errorf("queue %s: this is a file of another kind; name another path", path)
		}
		if err != nil {
			return false, wrap(path, "open", err)
		}
	}
	switch {
	case id == 0 && tables == 0:
		return true, nil
	case id != applicationID:
		return false, fmt.Errorf("queue %s: this is another program's SQLite database; name another path", path)
	case version != fileVersion && version != stateVersion:
		return false, fmt.Errorf("queue %s: the file has version %d, this program reads up to %d; "+
			"let the program that wrote it deliver what it holds, then remove it", path, version, stateVersion)
	}
	return false, nil
}

// blockColumns are the columns of a block in the order of scan.
const blockColumns = `id, first, last, whole, pos, at, "end", format, raw, sum, data`

// scan reads a row of blockColumns. The data is valid until the next row.
func (b *block) scan(row interface{ Scan(...any) error }) error {
	return row.Scan(&b.id, &b.first, &b.last, &b.whole, (*string)(&b.pos),
		&b.at, &b.end, &b.format, &b.raw, &b.sum, (*sql.RawBytes)(&b.data))
}

// readState reads what the file holds. All of it must come from one snapshot,
// so c is a transaction, or the only writer.
func readState(ctx context.Context, path string, c querier) (state, error) {
	var s state
	err := c.QueryRowContext(ctx, `SELECT seq, pos, block, "end", part FROM mark WHERE name = ''`).
		Scan(&s.base.seq, (*string)(&s.base.pos), &s.base.block, &s.base.end, &s.base.part)
	if err != nil {
		return s, wrap(path, "read where it begins", err)
	}
	s.whole, s.last = s.base, s.base
	last, err := readBlock(ctx, path, c, `ORDER BY id DESC LIMIT 1`)
	if err != nil || last == nil {
		return s, err
	}
	s.last = last.place()
	s.whole = s.last
	if last.whole < last.last {
		// Parts always begin a block unless a block of the same commit holds
		// their end, so the last whole transaction ends one.
		s.whole = s.base
		whole, err := readBlock(ctx, path, c, `WHERE last <= ? ORDER BY id DESC LIMIT 1`, last.whole)
		if err != nil {
			return s, err
		}
		if whole != nil {
			s.whole = whole.place()
		}
	}
	if s.whole.seq != last.whole {
		return s, &CorruptError{Path: path, Block: last.id, Seq: last.first,
			Err: fmt.Errorf("it says that transaction %d is there, but %d is the last", last.whole, s.whole.seq)}
	}
	return s, nil
}

// readBlock reads the block that the rest of the query selects, and checks it.
// It is nil if there is none.
func readBlock(ctx context.Context, path string, c querier, where string, args ...any) (*block, error) {
	rows, err := c.QueryContext(ctx, "SELECT "+blockColumns+" FROM block "+where, args...)
	if err != nil {
		return nil, wrap(path, "read", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, wrap(path, "read", rows.Err())
	}
	var b block
	if err := b.scan(rows); err != nil {
		return nil, wrap(path, "read", err)
	}
	if b.sum != b.check() {
		return nil, &CorruptError{Path: path, Block: b.id, Seq: b.first, Err: errors.New("its checksum is wrong")}
	}
	b.data = append([]byte(nil), b.data...)
	return &b, nil
}

// oneBlock reads the block of that number, which must be there.
func oneBlock(ctx context.Context, path string, c querier, id int64) (*block, error) {
	b, err := readBlock(ctx, path, c, "WHERE id = ?", id)
	if err == nil && b == nil {
		err = &CorruptError{Path: path, Block: id, Err: errors.New("it is missing")}
	}
	return b, err
}
