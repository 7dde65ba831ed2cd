package sink

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/walrenew"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite applies transactions to a file of SQLite. It is a dfs.Sink. But for Stats,
// its methods must be called by one goroutine at a time.
type SQLite struct {
	core
	lite  liteBackend
	bound bool // parts that were set aside have rows, which tell of foreign keys
}

var _ dfs.Sink = (*SQLite)(nil)

// SQLiteOptions refine a SQLite sink. The zero value of each field is the default.
// Those that MySQLOptions has too mean the same.
type SQLiteOptions struct {
	Name      string         // key of the pipeline's checkpoint, at most 64 characters. Default: "dfs"
	Routes    []Route        // which table gets the rows of which; of To only the table's name counts
	Conflicts []ConflictRule // by "schema.table", as Routes give it. Default: PolicyError
	DDL       Policy         // Default: PolicyError. What PolicyApply does says the documentation of the package
	DDLRules  []DDLRule
	DDLDone   []string
	Tables    []string                             // the tables that the source follows. Default: all
	Followed  func(state string) ([]string, error) // what they are at a State of the source: see MySQLOptions. Default: they stay the same

	// Unfit says what becomes of texts that are none in their character set, where that
	// is not UTF-8; the file holds all else as it is.
	Unfit Unfit

	// Replace lets rows that were there already (dfs.Transaction.Snapshot) take the
	// place of rows with the same primary key. Default: such a row is a conflict.
	Replace bool

	// Append lets rows be copied into tables that have some. Default: that is an error.
	Append bool

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger
}

// OpenSQLite opens the file at path, and makes it if it is missing. It returns all
// faults in the options at once. A file has no schemas: the table "shop.users" of
// the source is the file's table users, so tables of one name in two schemas need
// routes that give them two names, or one if their rows are to come together.
//
// The file is in WAL mode, and a commit returns when it is on the disk. Others may
// read it at any time; while the sink commits, those that write wait. Parts of a
// large transaction are set aside in a file beside it until the last has come.
// Values become what docs/TYPES.md says.
//
// SQLite turns foreign keys on and off between two transactions only. Rows whose
// foreign keys the source did not check are therefore refused where the same
// transaction has others, and the file's tables have foreign keys.
func OpenSQLite(ctx context.Context, path string, opts *SQLiteOptions) (*SQLite, error) {
	s, err := newSQLite(path, opts)
	if err != nil {
		return nil, err
	}
	if err := s.lite.connect(ctx); err != nil {
		return nil, err
	}
	if err := s.lite.setUp(ctx); err != nil {
		s.lite.drop()
		return nil, fmt.Errorf("preparing the checkpoint table of %s: %w", s.lite.path, err)
	}
	return s, nil
}

// newSQLite checks the options, and opens nothing yet.
func newSQLite(path string, opts *SQLiteOptions) (*SQLite, error) {
	if opts == nil {
		opts = &SQLiteOptions{}
	}
	s := &SQLite{}
	s.rules = rules{name: opts.Name, ddl: opts.DDL, ddlDone: opts.DDLDone, followedBy: opts.Followed, log: opts.Logger}
	s.replace, s.mixes = opts.Replace, opts.Append || opts.Replace
	var errs []error
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "file:") {
		errs = append(errs, fmt.Errorf("path %q: name a file, such as shop.db", path))
	}
	errs = append(errs, s.set(opts.Routes, opts.Conflicts, opts.DDLRules, opts.Tables)...)
	s.lite = liteBackend{core: &s.core, path: path, unfit: opts.Unfit}
	errs = append(errs, s.lite.unfit.check()...)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("opening the SQLite sink: %w", err)
	}
	if abs, err := filepath.Abs(path); err == nil {
		s.lite.path = abs
	}
	dir := filepath.Dir(s.lite.path)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening the SQLite sink: the folder %s does not exist: make it first", dir)
	}
	if info, err := os.Stat(s.lite.path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("opening the SQLite sink: %s is a folder: name a file in it, such as shop.db", s.lite.path)
	}
	s.spool = newSpool(dir)
	s.init(&s.lite)
	lane := "statements in the process"
	s.stats.lane.Store(&lane)
	return s, nil
}

// Checkpoint reports the last transaction applied, drops parts of one whose end did
// not come, and makes this sink the only one that may write under its name. If
// another has taken its place since, it returns dfs.ErrConflict.
func (s *SQLite) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if err := s.lite.still(); err != nil {
		return dfs.Checkpoint{}, err
	}
	return s.checkpoint(ctx)
}

// Apply applies the batch: see dfs.Sink. After an error, call Checkpoint.
func (s *SQLite) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if err := s.lite.still(); err != nil {
		return err
	}
	for len(batch) > 0 {
		// Foreign keys are on or off for a transaction of the file.
		first := 0
		for first+1 < len(batch) && len(batch[first].Changes) == 0 && batch[first].More {
			first++
		}
		off := unchecked(batch[first])
		bound := s.spool.holds() && s.bound
		if bound {
			off = s.lite.fkOff
		}
		n := 1
		for n < len(batch) && (batch[n-1].More || unchecked(batch[n]) == off || len(batch[n].Changes) == 0) {
			n++
		}
		s.lite.fkOff = off
		if err := s.take(ctx, batch[:n]); err != nil {
			return err
		}
		parts := batch[len(wholeOnes(batch[:n])):n]
		s.bound = bound && len(parts) == n || slices.ContainsFunc(parts, func(tx *dfs.Transaction) bool { return len(tx.Changes) > 0 })
		batch = batch[n:]
	}
	return nil
}

// unchecked reports whether foreign keys are to be off for all rows of a transaction.
func unchecked(tx *dfs.Transaction) bool {
	for i := range tx.Changes {
		if c := &tx.Changes[i]; c.Op != dfs.DDL && !c.NoForeignKeys {
			return false
		}
	}
	return len(tx.Changes) > 0
}

// Stats returns the counts so far. It may be called at any time, from any goroutine.
func (s *SQLite) Stats() Stats { return s.stats.all() }

// Close closes the file. What was not committed is undone.
func (s *SQLite) Close() error {
	s.spool.reset()
	s.lite.drop()
	s.open = false
	return nil
}

// liteBackend is the connection to a file.
type liteBackend struct {
	core  *core
	path  string
	unfit Unfit
	fkOff bool // of the next transaction
	reads bool // and does not write
	mends bool // though it reads: see RowMender

	// A sync has failed over this connection, so what lies in the write-ahead log may be
	// on no disk, also of others that write to the file and wait for none.
	unsure bool

	own os.FileInfo // of the file, since it was first opened to be written

	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	names map[string]string // what a table stands for, by its name
}

// maxStmts bounds the statements that are kept prepared.
const maxStmts = 500

func (l *liteBackend) connected() bool { return l.conn != nil }

func (l *liteBackend) drop() {
	l.forgetStmts()
	if l.conn != nil {
		if l.unsure {
			// The last connection moves the log into the file when it closes. If this
			// fails, the next connection does it; if another holds the lock, this one
			// is not the last.
			l.renew(context.Background(), 1)
		}
		l.conn.Close()
		l.db.Close()
		l.conn, l.db, l.unsure = nil, nil, false
	}
}

func (l *liteBackend) forgetStmts() {
	for _, s := range l.stmts {
		s.Close()
	}
	l.stmts = make(map[string]*sql.Stmt)
}

// still returns an error if the file is not at its path any more. What is then applied
// would end with the program, and a file that a new connection makes there is another.
func (l *liteBackend) still() error {
	if files.Gone(l.path, l.own) {
		return fmt.Errorf("%w, with the rows: the target's file %s is not there any more: it was deleted, moved or replaced while it was in use; "+
			"put it back, or a backup of it with the files -wal and -shm that belong to it, then start the program anew", dfs.ErrLost, l.path)
	}
	return nil
}

func (l *liteBackend) connect(ctx context.Context) error {
	if l.connected() {
		return nil
	}
	if err := l.still(); err != nil {
		return err
	}
	slashed := filepath.ToSlash(l.path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/shop.db
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: slashed}).String()+l.params())
	if err != nil {
		return fmt.Errorf("opening %s: %w", l.path, err)
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return fmt.Errorf("opening %s: %w", l.path, liteClassify(err))
	}
	l.db, l.conn = db, conn
	l.forgetStmts()
	l.names = make(map[string]string)
	if l.reads && !l.mends {
		return nil
	}
	if l.own == nil && !l.mends {
		if l.own, err = os.Stat(l.path); err != nil { // made by now, also if it is empty
			l.drop()
			return fmt.Errorf("opening %s: %w", l.path, err)
		}
	}
	pragmas := []string{"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA cache_size=-16384", "PRAGMA foreign_keys=ON"}
	if l.mends {
		pragmas = pragmas[1:2] // the rest is the pipeline's
	}
	for _, p := range pragmas {
		_, err := conn.ExecContext(ctx, p)
		// SQLite does not wait, whatever busy_timeout is, for another that is going
		// over to the write-ahead log at this moment.
		for begun := time.Now(); l.isLockWait(err) && time.Since(begun) < 10*time.Second && ctx.Err() == nil; {
			time.Sleep(5 * time.Millisecond)
			_, err = conn.ExecContext(ctx, p)
		}
		if err != nil {
			l.drop()
			if liteCode(err)&0xff == sqlite3.SQLITE_NOTADB {
				return fmt.Errorf("opening %s: it is no file of SQLite: name another path, or move it away: %w", l.path, err)
			}
			return fmt.Errorf("opening %s: %s: %w", l.path, p, liteClassify(err))
		}
	}
	// Invariant: what Checkpoint tells outlasts a loss of power. The queue lets go of it.
	if err := l.renew(ctx, 30); err != nil {
		l.drop()
		return fmt.Errorf("opening %s: %w", l.path, err)
	}
	return nil
}

// renew makes sure that what the file's write-ahead log has is on the disk: see
// walrenew. It holds the right to write meanwhile, as others may write to the file too,
// and tries so many times to get it.
func (l *liteBackend) renew(ctx context.Context, tries int) error {
	background := context.Background() // none of this is to be interrupted
	_, err := l.conn.ExecContext(background, "BEGIN IMMEDIATE")
	for try := 1; l.isLockWait(err) && try < tries && ctx.Err() == nil; try++ {
		_, err = l.conn.ExecContext(background, "BEGIN IMMEDIATE")
	}
	if err != nil {
		return liteClassify(err)
	}
	var path string // with no symbolic link in it
	err = l.conn.QueryRowContext(background, "SELECT file FROM pragma_database_list WHERE name='main'").Scan(&path)
	if err != nil {
		err = liteClassify(err)
	} else if err = walrenew.Renew(ctx, path, l.core.log); errors.Is(err, syscall.EIO) {
		err = dfs.Transient(err) // each try writes all of it
	}
	if _, e := l.conn.ExecContext(background, "ROLLBACK"); e != nil {
		err = errors.Join(err, liteClassify(e))
	}
	return err
}

func (l *liteBackend) params() string {
	switch {
	case l.mends:
		return "?mode=rw&_pragma=busy_timeout(10000)" // and makes none
	case l.reads:
		return "?mode=ro&_pragma=busy_timeout(10000)"
	}
	return "?_pragma=busy_timeout(10000)"
}

func (l *liteBackend) setUp(ctx context.Context) error {
	_, err := l.conn.ExecContext(ctx, l.createCheckpointSQL())
	if err != nil {
		return liteClassify(err)
	}
	return l.core.setUp(ctx)
}

func (l *liteBackend) createCheckpointSQL() string {
	return "CREATE TABLE IF NOT EXISTS " + checkpointTable + " (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, pos TEXT NOT NULL, " +
		"id TEXT NOT NULL, committed TEXT, owner TEXT NOT NULL, updated TEXT NOT NULL, state BLOB) WITHOUT ROWID"
}

func (l *liteBackend) bytesLiteral(s string) string {
	return "X'" + hex.EncodeToString([]byte(s)) + "'"
}

func (l *liteBackend) noTable(err error) bool { return strings.Contains(err.Error(), "no such table") }

func (l *liteBackend) checkpointTable() string              { return checkpointTable }
func (l *liteBackend) hold(context.Context, string)         {}
func (l *liteBackend) killHolder(context.Context, string)   {}
func (l *liteBackend) isLockWait(err error) bool            { return liteCode(err)&0xff == sqlite3.SQLITE_BUSY }
func (l *liteBackend) patience(context.Context, bool) error { return nil }
func (l *liteBackend) place(n int) string                   { return fmt.Sprintf("?%d", n) }
func (l *liteBackend) ident(t *table) string                { return quoteName(t.name) }
func (l *liteBackend) tableKey(_, name string) string       { return strings.ToLower(name) }
func (l *liteBackend) explain(err error, _ *table) error    { return err }
func (l *liteBackend) oneOf(t *table, where string) string {
	return t.rowid + "=(SELECT " + t.rowid + " FROM " + l.ident(t) + " WHERE " + where + " LIMIT 1)"
}

func (l *liteBackend) equal(m *mapping, i int, place string) string {
	name := quoteName(m.columns[i].name)
	if m.key == nil {
		name += " COLLATE BINARY"
	}
	return name + "=" + place
}

// begin opens a transaction with the right to write, so that none of its statements
// has to wait for it.
func (l *liteBackend) begin() []stmt {
	on := "PRAGMA foreign_keys=ON"
	if l.fkOff {
		on = "PRAGMA foreign_keys=OFF"
	}
	return []stmt{{sql: on, want: uncounted}, {sql: "BEGIN IMMEDIATE", want: uncounted}}
}

func (l *liteBackend) write(ctx context.Context, before []stmt, _ []group) error {
	for _, s := range before {
		n, err := l.exec(ctx, s)
		if err != nil {
			return err
		}
		if s.want == fence && n != 1 {
			return errFence
		}
	}
	return nil
}

var errLiteClosed = dfs.Transient(errors.New("the target's file is closed"))

// exec executes a statement. It is short, and not interrupted: a context that ends
// costs more than that.
func (l *liteBackend) exec(ctx context.Context, s stmt) (int64, error) {
	if !l.connected() {
		return 0, errLiteClosed
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	background := context.Background()
	p := l.stmts[s.sql]
	if p == nil {
		if len(l.stmts) >= maxStmts {
			l.forgetStmts()
		}
		var err error
		if p, err = l.conn.PrepareContext(background, s.sql); err != nil {
			return 0, liteClassify(err)
		}
		l.stmts[s.sql] = p
	}
	l.core.stats.statements.Add(1)
	r, err := p.ExecContext(background, s.args...)
	if err != nil {
		l.unsure = l.unsure || unsynced(err)
		return 0, liteClassify(err)
	}
	return r.RowsAffected()
}

func (l *liteBackend) query(ctx context.Context, text string, args ...any) ([][]cell, error) {
	if !l.connected() {
		return nil, errLiteClosed
	}
	rows, err := l.conn.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, liteClassify(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, liteClassify(err)
	}
	var out [][]cell
	for rows.Next() {
		raw := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range raw {
			into[i] = &raw[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, liteClassify(err)
		}
		row := make([]cell, len(names))
		for i, v := range raw {
			row[i] = cell{v.String, !v.Valid}
		}
		out = append(out, row)
	}
	return out, liteClassify(rows.Err())
}

// foreignKeys finds out whether foreign keys are as they must be for a row of t. They
// stay so until the transaction ends, whatever is asked for without a table.
func (l *liteBackend) foreignKeys(_ context.Context, t *table, off bool) error {
	if t == nil || off == l.fkOff || len(t.parents) == 0 && len(t.children) == 0 {
		return nil
	}
	return fmt.Errorf("the source has checked foreign keys for some rows of this transaction and not for others, and the file's table %s has foreign keys, "+
		"which SQLite turns on or off for the whole of a transaction: make the table without them", t.name)
}

func liteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func (l *liteBackend) serverError(err error) bool { return liteCode(err) != 0 }

func (l *liteBackend) constraint(err error) (broken, duplicate bool) {
	switch liteCode(err) {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return true, true
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return true, false
	}
	return false, false
}

// stands reports whether the file as a whole, or a table of it, is at fault.
// SQLITE_ERROR is all that is wrong with a statement, such as a table or column that
// is gone, also of a trigger.
func (l *liteBackend) stands(err error) bool {
	switch liteCode(err) & 0xff {
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA:
		return liteCode(err) != 0
	}
	return false
}

// unsynced reports whether a sync has failed.
func unsynced(err error) bool {
	code := liteCode(err)
	return code == sqlite3.SQLITE_IOERR_FSYNC || code == sqlite3.SQLITE_IOERR_DIR_FSYNC
}

// liteClassify marks err with dfs.Transient if it may pass: a lock of another, a full
// disk, a failed write.
func liteClassify(err error) error {
	switch liteCode(err) & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL, sqlite3.SQLITE_NOMEM:
		return dfs.Transient(err)
	case sqlite3.SQLITE_IOERR:
		// After a failed fsync no later success can be trusted until the file was
		// opened anew (LWN, "PostgreSQL's fsync() surprise").
		if !unsynced(err) {
			return dfs.Transient(err)
		}
		return fmt.Errorf("the disk did not confirm a write; restart once it is sound: %w", err)
	}
	return err
}
