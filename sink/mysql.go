package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/dataflowsync/dfs"
)

// MySQLOptions refine a MySQL sink. The zero value of each field is the default.
type MySQLOptions struct {
	// Name tells apart the pipelines that write to one server: it is the key of
	// the pipeline's checkpoint. At most 64 characters. Default: "dfs".
	Name string

	// Schema is the target's schema for the table dfs_checkpoint, both of which
	// are created if missing. Default: "dfs".
	Schema string

	// Routes say which table of the target gets the rows of which table of the
	// source; the first that matches counts. Default: the same name.
	Routes []Route

	// Conflicts set policies for conflicts by the target's table; the first
	// that matches counts. Default: PolicyError.
	Conflicts []ConflictRule

	// DDL says what to do with statements that alter tables: PolicyApply runs
	// them on the target, PolicyTry passes over those that fail there, PolicyIgnore
	// counts and logs them, and PolicyError stops, but at statements about views
	// and at CREATE and ALTER DATABASE only where a rule names these kinds.
	// Default: PolicyError, since the tables of the target need not be only those
	// of the source, and a DROP cannot be taken back.
	DDL Policy

	// DDLRules set policies for some kinds of statement and some tables; the
	// first that covers a statement counts, and DDL for what none covers.
	DDLRules []DDLRule

	// DDLDone names transactions, by their ID, whose statement may pass without
	// being applied, because what the target needs of it has been run there by
	// hand. The error tells the ID. Names that never come do no harm.
	DDLDone []string

	// Tables are the tables that the source follows, as in package cdc's Options,
	// by the names with which they reach the sink. A statement is applied without
	// its other tables, of which the sink knows nothing, and passed over if it has
	// none. Where a stage before the sink gives tables other names, such as a unit
	// of package dpu by Into, these must be in the list. Default: all.
	Tables []string

	// Followed, if set, returns what Tables is to be at a State of the source (see
	// dfs.Checkpoint), for a source of which the tables change while it is read: with
	// package cdc a call of cdc.Followed. The sink asks when it begins at a checkpoint,
	// and behind each transaction that has State. Default: it stays as Tables says.
	Followed func(state string) ([]string, error)

	// MaxRows is the most rows that a statement writes. Default: 1000.
	MaxRows int

	// MaxBytes is how much SQL goes to the server at once, and half of which
	// the sink holds in memory; a row that needs more goes alone. It is cut to
	// the server's max_allowed_packet. Default: 1 MiB.
	MaxBytes int

	// SQLOnly applies rows by SQL alone. By default large groups of rows go as
	// row events in BINLOG statements, which is faster, where the account has
	// REPLICATION_APPLIER (MySQL 8.0 and later), SUPER (before), or BINLOG REPLAY
	// (MariaDB). Stats tells which it is, and why. Set it for a MySQL before 8.0 or a
	// MariaDB before 10.11 that is started with replicate-rewrite-db: that renames the
	// schemas of these events too, and nothing tells.
	SQLOnly bool

	// Append lets rows that were there already (dfs.Transaction.Snapshot) be copied
	// into tables that have rows of their own, as where several sources come together.
	// A row with the same primary key is a conflict. Default: a pipeline that copies
	// rows does not begin before such tables are empty. See CheckCopy.
	Append bool

	// Replace is Append, but rows that were there already take the place of the
	// target's rows with the same primary key. Rows of tables without a key are then
	// an error. A row that has one of their other unique values is a conflict: the
	// policy overwrite deletes it, and it comes again if a later part of the copy has
	// it. Default: see Append.
	Replace bool

	// Loaders is how many connections more load rows that were there already
	// (dfs.Transaction.Snapshot), at the same time. They need the right to DELETE
	// from the table dfs_load beside the checkpoint. Default: 4. Negative: none, and
	// such rows are written as others are.
	Loaders int

	// Writers is how many connections apply large batches: they take turns with runs of
	// transactions, which are committed in order, each with its checkpoint. At most 16.
	// Default: 2. Negative, or 1: all goes by one.
	Writers int

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger
}

// MySQL applies transactions to a MySQL or MariaDB server. It is a dfs.Sink.
// But for Stats, its methods must be called by one goroutine at a time.
type MySQL struct {
	rules
	connector dialer
	cpTable   string // quoted
	ddlTable  string // quoted
	ddlWait   int    // seconds that a statement waits for locks of its tables
	maxRows   int
	maxBytes  int
	sqlOnly   bool
	replace   bool
	mixes     bool // rows may be copied into tables that have some

	instance string // begins each owner token of this sink
	owner    string // the token in the checkpoint's row; see checkpoint.go
	loads    bool   // there the loadsMark follows it
	claimed  bool   // Checkpoint has succeeded once
	patience int    // seconds that a claim waits before it ends who holds the row

	// The connection, nil if it is lost. Then Checkpoint makes a new one.
	sess   *session
	stands stand
	at     uint64 // number of the last transaction or part written
	open   bool   // a transaction of the target holds parts

	intent *intent              // of a statement that may have been run; see ddlrun.go
	failed map[*dfs.Change]bool // statements that PolicyTry has passed over, until they are counted

	tables   map[string]*table    // by key
	tableIDs uint64               // the greatest of a table's number
	forgets  uint64               // counts how often tables were forgotten
	known    uint64               // of a worker: the forgets of its sink that it knows of
	runs     map[string]*tableRun // by key of the table
	maps     map[*dfs.Table]*mapping

	merger *merger
	writer writer
	loader loader
	crew   crew
	adder  adder
	copied bool // the run at hand ends the copy of rows
	stats  stats
}

var (
	_ dfs.Sink        = (*MySQL)(nil)
	_ dfs.CopyChecker = (*MySQL)(nil)
)

// OpenMySQL connects to the server that dsn names, in the form of
// github.com/go-sql-driver/mysql, "user:password@tcp(host:3306)/", and makes
// sure of the checkpoint table. It returns all faults in the options at once.
//
// What the target says of a table is read when its first row comes, and again
// when a statement fails over it or CheckTables asks. A trigger, or a foreign
// key that acts on other rows, makes no statement fail: if it is added to the
// target later, changes may move across it, so stop the pipeline before, and
// open the sink anew after.
//
// Connecting and logging in takes at most the DSN's timeout, 10 seconds by
// default. A host that is dead for 30 seconds is noticed, also during a
// statement. A server that is halted while its host lives is not told from one
// that is busy, and is waited for until the context ends, unless the DSN sets
// readTimeout, which must be longer than any statement and lock wait may take.
func OpenMySQL(ctx context.Context, dsn string, opts *MySQLOptions) (*MySQL, error) {
	m, err := newMySQL(dsn, opts)
	if err != nil {
		return nil, err
	}
	s, err := openSession(ctx, m.connector, m.sqlOnly)
	if err != nil {
		return nil, err
	}
	err = m.setUp(ctx, s)
	if err == nil {
		err = m.setUpIntents(ctx, s)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	m.use(s)
	return m, nil
}

// newMySQL returns a sink that has no connection yet, or all faults in the options.
func newMySQL(dsn string, opts *MySQLOptions) (*MySQL, error) {
	if opts == nil {
		opts = &MySQLOptions{}
	}
	loaders := cmp.Or(opts.Loaders, defaultLoaders)
	m := &MySQL{
		rules:   rules{name: opts.Name, schema: opts.Schema, ddl: opts.DDL, ddlDone: opts.DDLDone, followedBy: opts.Followed, log: opts.Logger},
		maxRows: opts.MaxRows, maxBytes: opts.MaxBytes, sqlOnly: opts.SQLOnly, replace: opts.Replace, mixes: opts.Append || opts.Replace,
		instance: token(12) + "-", patience: 1, merger: newMerger(), runs: make(map[string]*tableRun),
		failed: make(map[*dfs.Change]bool), ddlWait: defaultDDLWait,
	}
	var errs []error
	var err error
	if m.connector, err = connector(dsn); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, m.options(opts)...)
	m.connector.log = m.log
	if len(errs) > 0 {
		return nil, fmt.Errorf("opening the MySQL sink: %w", errors.Join(errs...))
	}
	m.writer.minEvents, m.writer.eventRows = 16, &m.stats.eventRows
	m.cpTable = string(appendIdent(append(appendIdent(nil, m.schema), '.'), checkpointTable))
	m.ddlTable = string(appendIdent(append(appendIdent(nil, m.schema), '.'), ddlTable))
	m.forget()
	m.adder.table = string(appendIdent(append(appendIdent(nil, m.schema), '.'), indexTable))
	m.loader.table = string(appendIdent(append(appendIdent(nil, m.schema), '.'), loadTable))
	for range max(loaders, 0) {
		m.loader.helpers = append(m.loader.helpers, m.newHelper())
	}
	if writers := cmp.Or(opts.Writers, defaultWriters); writers > 1 {
		for range writers {
			m.crew.workers = append(m.crew.workers, m.newHelper())
		}
	}
	return m, nil
}

func (m *MySQL) options(opts *MySQLOptions) (errs []error) {
	errs = m.set(opts.Routes, opts.Conflicts, opts.DDLRules, opts.Tables)
	if m.maxRows == 0 {
		m.maxRows = 1000
	}
	if m.maxBytes == 0 {
		m.maxBytes = 1 << 20
	}
	if m.maxRows < 0 || m.maxRows > 65535 {
		errs = append(errs, fmt.Errorf("MaxRows %d: use 1 to 65535", m.maxRows))
	}
	if m.maxBytes < 1024 || m.maxBytes > 64<<20 {
		errs = append(errs, fmt.Errorf("MaxBytes %d: use 1 KiB to 64 MiB", m.maxBytes))
	}
	if opts.Loaders > maxLoaders {
		errs = append(errs, fmt.Errorf("use at most %d Loaders, not %d", maxLoaders, opts.Loaders))
	}
	if opts.Writers > maxWriters {
		errs = append(errs, fmt.Errorf("use at most %d Writers, not %d", maxWriters, opts.Writers))
	}
	return errs
}

// use makes s the connection.
func (m *MySQL) use(s *session) {
	m.sess = s
	m.useLane()
	m.writer.maxRows = m.maxRows
	m.writer.maxBytes = min(m.maxBytes, s.srv.maxPacket-1024)
}

// drop gives the connection up. The server then undoes what is not committed.
func (m *MySQL) drop() {
	if m.sess != nil {
		m.sess.close()
		m.sess = nil
	}
	m.open = false
}

// Close ends the connection. What was not committed is undone.
func (m *MySQL) Close() error {
	m.stopAdding()
	m.drop()
	for _, h := range m.loader.helpers {
		h.drop()
	}
	m.disband()
	return nil
}

// forget makes the sink read anew what the target says of its tables.
func (m *MySQL) forget() {
	m.forgets++
	m.tables = make(map[string]*table)
	m.maps = make(map[*dfs.Table]*mapping)
}

// Checkpoint reports the last transaction applied, drops parts of one whose end
// did not come, and makes this sink the only one that may write under its name.
// If another has taken its place since, it returns dfs.ErrConflict.
func (m *MySQL) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if m.sess != nil {
		if _, err := m.sess.exec(ctx, []byte("ROLLBACK; "+restoreSQL)); err != nil {
			m.drop()
		}
	}
	m.open = false
	clear(m.failed)
	if m.sess == nil {
		s, err := openSession(ctx, m.connector, m.sqlOnly)
		if err != nil {
			return dfs.Checkpoint{}, reopened(err)
		}
		m.use(s)
	}
	at, err := m.claim(ctx, m.sess)
	if err != nil {
		err = m.lost(ctx, classify(err))
		m.drop()
		return dfs.Checkpoint{}, fmt.Errorf("taking over the checkpoint %q: %w", m.name, err)
	}
	m.stands.read(at)
	m.at = at.Seq
	err = m.unload(ctx)
	if err == nil {
		err = m.follow(at.State)
	}
	if err == nil {
		err = m.resumeIndexes(ctx)
	}
	if err != nil {
		m.drop()
		return dfs.Checkpoint{}, err
	}
	return at, nil
}

// Apply applies the batch: see dfs.Sink. After an error, call Checkpoint. An
// error marked as transient may leave the outcome open, as when the connection
// is lost during a COMMIT; then too Checkpoint tells.
func (m *MySQL) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	if len(batch) == 0 {
		return nil
	}
	if m.sess == nil || m.owner == "" {
		if _, err := m.Checkpoint(ctx); err != nil {
			return err
		}
	}
	if batch[0].Seq != m.at+1 {
		return m.conflict(fmt.Sprintf("transaction %d came, and the target stands at %d", batch[0].Seq, m.at))
	}
	for i, tx := range batch {
		if tx.Seq != batch[0].Seq+uint64(i) {
			return fmt.Errorf("transaction %d came after %d: %w", tx.Seq, batch[i-1].Seq, dfs.ErrGap)
		}
	}
	if m.replace {
		replace(batch)
	}
	return m.lost(ctx, m.stands.tried(m.byState(batch, func(batch []*dfs.Transaction) error { return m.applyAll(ctx, batch) })))
}

// applyAll applies a batch in which no statement depends on State.
func (m *MySQL) applyAll(ctx context.Context, batch []*dfs.Transaction) error {
	for len(batch) > 0 {
		n := m.nextDDL(ctx, batch)
		if n == len(batch) {
			return m.applyRows(ctx, batch)
		}
		tx := batch[n]
		if n > 0 && batch[n-1].More || n == 0 && m.open {
			// It is in a later part of a transaction, behind rows. What came before
			// that is applied, whole transactions only.
			if err := m.applyRows(ctx, wholeOnes(batch[:n])); err != nil {
				return err
			}
			return &DDLError{tx.Seq, tx.ID, statementOf(tx), errBehindRows}
		}
		if err := m.applyRows(ctx, batch[:n]); err != nil {
			return err
		}
		if err := m.statements(ctx, tx); err != nil {
			return err
		}
		// What is left of the transaction moves the checkpoint.
		end := n + 1
		for end < len(batch) && batch[end-1].More {
			end++
		}
		if more := m.nextDDL(ctx, batch[n+1:end]); more < end-n-1 {
			tx := batch[n+1+more]
			return &DDLError{tx.Seq, tx.ID, statementOf(tx), errBehindRows}
		}
		if err := m.applyRows(ctx, batch[n:end]); err != nil {
			return err
		}
		batch = batch[end:]
	}
	return nil
}

// applyRows applies the rows of a batch, and moves the checkpoint past its whole
// transactions.
func (m *MySQL) applyRows(ctx context.Context, batch []*dfs.Transaction) error {
	for len(batch) > 0 {
		n, rest := m.loadable(batch)
		var err error
		if n > 0 {
			err = m.load(ctx, batch[:n])
		} else {
			n = rest
			err = m.applyRun(ctx, batch[:n])
		}
		if err != nil {
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// applyRun applies rows by the one connection.
func (m *MySQL) applyRun(ctx context.Context, batch []*dfs.Transaction) error {
	whole := len(wholeOnes(batch))
	done, err := m.inTurns(ctx, batch[:whole])
	if err != nil {
		return m.fail(ctx, batch[done:], false, err)
	}
	batch, whole = batch[done:], whole-done
	err = m.apply(ctx, batch[:whole], true)
	if err == nil && whole < len(batch) {
		err = m.apply(ctx, batch[whole:], false)
	}
	return err
}

// wholeOnes returns the batch without the parts at its end whose last is yet to
// come.
func wholeOnes(batch []*dfs.Transaction) []*dfs.Transaction {
	for len(batch) > 0 && batch[len(batch)-1].More {
		batch = batch[:len(batch)-1]
	}
	return batch
}
