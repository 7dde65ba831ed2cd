package relmgr

import (
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

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/walrenew"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	applicationID = 0x64667372 // "dfsr", which tells file(1) and us what it is
	fileVersion   = 3
)

// The tables of the file.
//
// A space is the ids of one column: which key of the source they stand for, and
// what is left of the block of new ids that was reserved last. In run a row maps
// span consecutive whole numbers, old to new and so on; no run crosses a multiple
// of 1024. Of its two strings of bits, the first byte's lowest bit first, known
// tells which of the numbers have been met and came which were met as the key of
// a row. In entry a row maps one key of any kind: old is its values as text, with a zero
// byte between two. The view map is for people: one line for each key that was
// met.
const schema = `
CREATE TABLE meta (source TEXT NOT NULL, head INTEGER NOT NULL);
CREATE TABLE space (
	id INTEGER PRIMARY KEY, "table" TEXT NOT NULL, "column" TEXT NOT NULL, key TEXT NOT NULL,
	linear INTEGER NOT NULL, type TEXT NOT NULL, next INTEGER NOT NULL, "end" INTEGER NOT NULL, asked INTEGER NOT NULL,
	known INTEGER NOT NULL, came INTEGER NOT NULL, sum INTEGER, UNIQUE ("table", "column"));
CREATE TABLE run (
	space INTEGER NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL, span INTEGER NOT NULL,
	known BLOB NOT NULL, came BLOB NOT NULL, sum INTEGER, PRIMARY KEY (space, old)) WITHOUT ROWID;
CREATE UNIQUE INDEX run_new ON run (space, new);
CREATE TABLE entry (
	space INTEGER NOT NULL, old BLOB NOT NULL, new NOT NULL, came INTEGER NOT NULL, sum INTEGER,
	PRIMARY KEY (space, old)) WITHOUT ROWID;
CREATE UNIQUE INDEX entry_new ON entry (space, new);
CREATE TABLE seen ("table" TEXT PRIMARY KEY, how TEXT NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE learned (
	seq INTEGER NOT NULL, name TEXT NOT NULL, "table" TEXT NOT NULL, columns TEXT NOT NULL,
	parent TEXT NOT NULL, parent_columns TEXT NOT NULL, sum INTEGER, UNIQUE ("table", columns, parent, parent_columns));
CREATE TABLE number (n INTEGER PRIMARY KEY, byte BLOB NOT NULL);
INSERT INTO number
	WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n+1 FROM c WHERE n < 1023)
	SELECT n, CASE WHEN n < 256 THEN unhex(printf('%02x', n)) ELSE x'' END FROM c;
CREATE VIEW map ("table", "column", old, new, came) AS
	SELECT s."table", s."column",
		CASE WHEN s.type LIKE '%unsigned%' AND r.old + n.n < 0 THEN printf('%llu', r.old + n.n) ELSE r.old + n.n END,
		r.new + n.n, (c.n >> (n.n & 7)) & 1
	FROM space s JOIN run r ON r.space = s.id JOIN number n ON n.n < r.span
		JOIN number k ON k.byte = substr(r.known, n.n / 8 + 1, 1) AND (k.n >> (n.n & 7)) & 1
		JOIN number c ON c.byte = substr(r.came, n.n / 8 + 1, 1)
	UNION ALL
	SELECT s."table", s."column", replace(CAST(e.old AS TEXT), char(0), ','), e.new, e.came
	FROM space s JOIN entry e ON e.space = s.id;
CREATE INDEX number_byte ON number (byte) WHERE byte <> x'';
` + since2

// What files of version 1 lack: promises are found without looking at all else.
const since2 = `
CREATE INDEX run_promised ON run (space, old) WHERE known <> came;
CREATE INDEX entry_promised ON entry (space, old) WHERE came = 0;`

// What files of versions 1 and 2 lack: checksums, see sum.go.
const since3 = `
ALTER TABLE space ADD COLUMN sum INTEGER;
ALTER TABLE run ADD COLUMN sum INTEGER;
ALTER TABLE entry ADD COLUMN sum INTEGER;
ALTER TABLE seen ADD COLUMN sum INTEGER;
ALTER TABLE learned ADD COLUMN sum INTEGER;`

// A store is the file. The connection that writes is used under the Manager's
// lock; reads of people go by connections of their own.
type store struct {
	path  string
	own   os.FileInfo // of the file that is open
	dead  error       // what to do since the file is gone, once its content is saved
	temp  bool
	lock  *sql.DB // held for as long as the file is open
	db    *sql.DB
	conn  *sql.Conn
	reads *sql.DB

	readOnly bool
	version  int64  // of what memory has been read from, if readOnly: PRAGMA data_version
	shape    string // see shapeOf

	begin, commit, rollback     *sql.Stmt
	runs, putRun                *sql.Stmt
	manyRuns, manyEntries       *sql.Stmt
	entry, putEntry, newTaken   *sql.Stmt
	putSpace, addSpace, setHead *sql.Stmt
	runOfNew, entryOfNew        *sql.Stmt
	saw, unsee, learn           *sql.Stmt
	stmts                       []*sql.Stmt
	sums                        summer // for the connection that writes
}

func dataSource(path, params string) string {
	p := filepath.ToSlash(path)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/map
	}
	return (&url.URL{Scheme: "file", Path: p}).String() + params
}

// copyOf copies the map at path, as it is between two commits, into a file of its own.
func copyOf(path, to string) error {
	if _, err := os.Stat(path); path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if path, err := filepath.Abs(path); err == nil {
		db, err := sql.Open("sqlite", dataSource(path, "?mode=ro&_pragma=busy_timeout(5000)"))
		if err != nil {
			return err
		}
		defer db.Close()
		if _, err := db.Exec("VACUUM INTO ?", to); err != nil {
			return fmt.Errorf("map of ids %s: copy: %w", path, err)
		}
	}
	return nil
}

// openStore opens the file at path and creates it if need be; an empty path is a
// temporary file, and so is a copy.
func openStore(path string, copied, readOnly bool, log *slog.Logger) (_ *store, err error) {
	s := &store{path: path}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if path == "" || copied {
		dir, err := os.MkdirTemp("", "dfs-relmgr-")
		if err != nil {
			return nil, err
		}
		s.path, s.temp = filepath.Join(dir, "map"), true
		if err := copyOf(path, s.path); err != nil {
			return nil, err
		}
	} else if s.path, err = filepath.Abs(path); err != nil {
		return nil, err
	} else if real, err := filepath.EvalSymlinks(s.path); err == nil {
		s.path = real // two ways to one file meet at one lock
	}
	if readOnly {
		return s, s.openReadOnly()
	}
	for _, name := range []string{s.path + ".lock", s.path} {
		// It has keys of rows in it, so only its owner may read it.
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			err = f.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("map of ids %s: %w", s.path, err)
		}
	}
	ctx := context.Background()
	// A transaction without end in a file beside the map keeps other writers out:
	// it ends with the process, also by kill -9.
	if s.lock, err = sql.Open("sqlite", dataSource(s.path+".lock", "?_pragma=busy_timeout(0)")); err != nil {
		return nil, err
	}
	s.lock.SetMaxOpenConns(1)
	if _, err = s.lock.ExecContext(ctx, "BEGIN EXCLUSIVE"); err != nil {
		if code(err) == sqlite3.SQLITE_BUSY {
			return nil, fmt.Errorf("map of ids %s: another process or pipeline is using it; a map belongs to one pipeline: "+
				"stop the other, or name another path", s.path)
		}
		return nil, s.wrap("lock", err)
	}
	// Invariant: a new id is durable before a row with it leaves the stage, whoever gave it.
	if err = walrenew.Renew(ctx, s.path, log); err != nil {
		return nil, fmt.Errorf("map of ids %s: %w", s.path, err)
	}
	if s.db, err = sql.Open("sqlite", dataSource(s.path, "?mode=rw&_pragma=busy_timeout(5000)")); err != nil {
		return nil, err
	}
	if s.own, err = os.Stat(s.path); err != nil {
		return nil, s.wrap("open", err)
	}
	s.db.SetMaxOpenConns(1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return nil, s.wrap("open", err)
	}
	if err = s.prepare(ctx); err != nil {
		return nil, err
	}
	s.reads, err = sql.Open("sqlite", dataSource(s.path, "?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)"))
	return s, err
}

// openReadOnly opens a map that a pipeline may be using.
func (s *store) openReadOnly() (err error) {
	if _, err := os.Stat(s.path); err != nil {
		return fmt.Errorf("map of ids %s: there is none: let the pipeline run first: %w", s.path, err)
	}
	s.readOnly = true
	if s.db, err = sql.Open("sqlite", dataSource(s.path, "?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)")); err != nil {
		return err
	}
	s.reads = s.db
	s.db.SetMaxOpenConns(4) // s.conn, and those who list or look at the whole file
	if s.conn, err = s.db.Conn(context.Background()); err != nil {
		return s.wrap("open", err)
	}
	return s.prepare(context.Background())
}

func (s *store) prepare(ctx context.Context) error {
	var id, version, tables int64
	for _, q := range []struct {
		query string
		to    *int64
	}{{"PRAGMA application_id", &id}, {"PRAGMA user_version", &version}, {"SELECT count(*) FROM sqlite_schema", &tables}} {
		err := s.conn.QueryRowContext(ctx, q.query).Scan(q.to)
		if code(err) == sqlite3.SQLITE_NOTADB {
			return fmt.Errorf("map of ids %s: this is a file of another kind; name another path", s.path)
		}
		if err != nil {
			return s.wrap("open", err)
		}
	}
	fresh := id == 0 && tables == 0
	switch {
	case s.readOnly && fresh:
		return fmt.Errorf("map of ids %s: nothing is in it yet: let the pipeline run first", s.path)
	case s.readOnly && id == applicationID && version >= 1 && version < fileVersion:
		return fmt.Errorf("map of ids %s: an older program has written it: let the pipeline run first", s.path)
	case fresh:
	case id != applicationID:
		return fmt.Errorf("map of ids %s: this is another program's SQLite database; name another path", s.path)
	case version < 1 || version > fileVersion:
		return fmt.Errorf("map of ids %s: the file has version %d, and this program reads up to version %d; use the program that wrote it",
			s.path, version, fileVersion)
	}
	exec := []string{
		"PRAGMA page_size = 8192", "PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = FULL", // a commit returns after fsync of the log
		"PRAGMA cache_size = -16384", "PRAGMA journal_size_limit = 33554432",
	}
	if fresh {
		exec = append(exec, "BEGIN IMMEDIATE", schema, fmt.Sprintf("PRAGMA application_id = %d", applicationID),
			fmt.Sprintf("PRAGMA user_version = %d", fileVersion), "COMMIT")
	}
	if !fresh && version < fileVersion {
		exec = append(exec, "BEGIN IMMEDIATE")
		if version == 1 {
			exec = append(exec, since2)
		}
		exec = append(exec, since3, fmt.Sprintf("PRAGMA user_version = %d", fileVersion), "COMMIT")
	}
	if s.readOnly {
		exec = nil
	}
	for _, q := range exec {
		if _, err := s.conn.ExecContext(ctx, q); err != nil {
			return s.wrap("open", err)
		}
	}
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.begin, "BEGIN IMMEDIATE"}, {&s.commit, "COMMIT"}, {&s.rollback, "ROLLBACK"},
		{&s.runs, "SELECT old, new, span, known, came, sum FROM run WHERE space = ? AND old BETWEEN ? AND ? ORDER BY old"},
		{&s.manyRuns, "SELECT r.old, r.new, r.span, r.known, r.came, r.sum FROM json_each(?1) j " +
			"CROSS JOIN run r ON r.space = ?2 AND r.old BETWEEN j.value * 1024 AND j.value * 1024 + 1023"},
		{&s.manyEntries, "SELECT e.old, e.new, e.came, e.sum FROM json_each(?1) j CROSS JOIN entry e ON e.space = ?2 AND e.old = unhex(j.value)"},
		{&s.putRun, "INSERT INTO run (space, old, new, span, known, came, sum) VALUES (?,?,?,?,?,?,?) " +
			"ON CONFLICT (space, old) DO UPDATE SET known = excluded.known, came = excluded.came, sum = excluded.sum"},
		{&s.entry, "SELECT new, came, sum FROM entry WHERE space = ? AND old = ?"},
		{&s.putEntry, "INSERT INTO entry (space, old, new, came, sum) VALUES (?,?,?,?,?) ON CONFLICT (space, old) DO UPDATE SET came = excluded.came, sum = excluded.sum"},
		{&s.newTaken, "SELECT count(*) FROM entry WHERE space = ? AND new = ?"},
		{&s.runOfNew, "SELECT old, new, span, known FROM run WHERE space = ? AND new <= ? ORDER BY new DESC LIMIT 1"},
		{&s.entryOfNew, "SELECT old FROM entry WHERE space = ? AND new = ?"},
		{&s.addSpace, `INSERT INTO space ("table", "column", key, linear, type, next, "end", asked, known, came) VALUES (?,?,?,?,?,?,?,0,0,0)`},
		{&s.putSpace, `UPDATE space SET next = ?, "end" = ?, asked = ?, known = ?, came = ?, sum = ? WHERE id = ?`},
		{&s.setHead, "UPDATE meta SET head = max(head, ?)"},
		{&s.saw, "INSERT OR REPLACE INTO seen VALUES (?,?,?)"}, {&s.unsee, `DELETE FROM seen WHERE "table" = ?`},
		{&s.learn, "INSERT OR IGNORE INTO learned VALUES (?,?,?,?,?,?,?)"},
	} {
		stmt, err := s.conn.PrepareContext(ctx, p.query)
		if err != nil {
			return s.wrap("open", err)
		}
		*p.stmt = stmt
		s.stmts = append(s.stmts, stmt)
	}
	return nil
}

// gone reports whether the file is not at its path any more: see save.
func (s *store) gone() bool { return !s.temp && files.Gone(s.path, s.own) }

// save saves what the file holds that is open and gone, and returns what to do. New ids in
// it would end with the program, and nobody would know which row of the target is which.
func (s *store) save(ctx context.Context) error {
	const gone = "map of ids %s: the file is not there any more: it was deleted, moved or replaced while it was in use, so no more ids are given; "
	saved := s.path + ".saved"
	if _, err := s.conn.ExecContext(ctx, "VACUUM INTO ?", saved); err != nil {
		return fmt.Errorf(gone+"what it held could not be saved in %s: %w; mend that and start again from the monitor, before the program is stopped", s.path, saved, err)
	}
	s.dead = fmt.Errorf(gone+"what it held is in %s now: stop the program, move that to where the map was, and start again", s.path, saved)
	return s.dead
}

func (s *store) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	// The one that writes last, for only that can move the write-ahead log into the file.
	for _, db := range []*sql.DB{s.reads, s.db, s.lock} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.temp {
		errs = append(errs, os.RemoveAll(filepath.Dir(s.path)))
	}
	return errors.Join(errs...)
}

// code returns SQLite's primary result code, and 0 if err is not of SQLite.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// wrap says what was done. What may pass is marked as transient: a full disk, a reader
// that holds a lock, and an access that failed, but for a failed fsync.
func (s *store) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("map of ids %s: %s: %w", s.path, doing, err)
	switch code(err) {
	case sqlite3.SQLITE_FULL:
		return dfs.Transient(fmt.Errorf("map of ids %s: %s: the disk is full: %w", s.path, doing, err))
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM:
		return dfs.Transient(wrapped)
	case sqlite3.SQLITE_IOERR:
		var e *sqlite.Error
		if errors.As(err, &e) && (e.Code() == sqlite3.SQLITE_IOERR_FSYNC || e.Code() == sqlite3.SQLITE_IOERR_DIR_FSYNC) {
			// Linux takes the pages for clean, and the next fsync succeeds without them.
			return fmt.Errorf("map of ids %s: %s: the disk did not confirm a write; restart once it is sound: %w", s.path, doing, err)
		}
		return dfs.Transient(wrapped)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w; put back a backup of the map no older than the target, as no other copy of it exists", wrapped)
	}
	return wrapped
}
