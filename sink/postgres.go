package sink

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/tcp"
	"github.com/jackc/pgx/v5/pgconn"
)

// Postgres applies transactions to a PostgreSQL server. It is a dfs.Sink. But for
// Stats, its methods must be called by one goroutine at a time.
type Postgres struct {
	core
	pg pgBackend
}

var _ dfs.Sink = (*Postgres)(nil)

// PostgresOptions refine a PostgreSQL sink. The zero value of each field is the
// default. Those that MySQLOptions has too mean the same.
type PostgresOptions struct {
	Name      string         // key of the pipeline's checkpoint, at most 64 characters. Default: "dfs"
	Schema    string         // where the table dfs_checkpoint is; both are created if missing. Default: "dfs"
	Routes    []Route        // which table gets the rows of which; a schema of the source is one of the target
	Conflicts []ConflictRule // Default: PolicyError
	DDL       Policy         // Default: PolicyError. What PolicyApply does says the documentation of the package
	DDLRules  []DDLRule
	DDLDone   []string
	Tables    []string                             // the tables that the source follows. Default: all
	Followed  func(state string) ([]string, error) // what they are at a State of the source: see MySQLOptions. Default: they stay the same

	// Unfit says what becomes of values that PostgreSQL cannot hold.
	Unfit Unfit

	// MaxRows is the most rows that an UPDATE or DELETE finds. Default: 5000.
	MaxRows int

	// MaxBytes is how much goes to the server at once. Default: 1 MiB.
	MaxBytes int

	// Replace lets rows that were there already (dfs.Transaction.Snapshot) take the
	// place of rows with the same primary key. Default: such a row is a conflict.
	Replace bool

	// Append lets rows be copied into tables that have some. Default: that is an error.
	Append bool

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger
}

// Unfit says what becomes of values that a target cannot hold. Each names a policy;
// the zero value is UnfitStop. Two values of a key may become one by another
// policy, and are then a conflict.
type Unfit struct {
	ZeroDates   UnfitPolicy // 0000-00-00, and days and months that are 0: UnfitStop, UnfitNull or UnfitInfinity
	NULs        UnfitPolicy // the character U+0000 in text and in JSON: UnfitStop, UnfitReplace or UnfitRemove
	InvalidText UnfitPolicy // bytes that are no text in their character set: UnfitStop or UnfitReplace
	Times       UnfitPolicy // a TIME below 0 or above 24 hours, for a column time: UnfitStop or UnfitNull
}

// An UnfitPolicy says what becomes of a value that a target cannot hold.
type UnfitPolicy string

const (
	UnfitStop     UnfitPolicy = "error"    // stop, with an UnfitError that names the row
	UnfitNull     UnfitPolicy = "null"     // store NULL
	UnfitInfinity UnfitPolicy = "infinity" // store -infinity, which is before all dates
	UnfitReplace  UnfitPolicy = "replace"  // store U+FFFD for each character or byte
	UnfitRemove   UnfitPolicy = "remove"   // leave the character out
)

func (u *Unfit) check() (errs []error) {
	for _, f := range []struct {
		name  string
		value *UnfitPolicy
		also  []UnfitPolicy
	}{
		{"ZeroDates", &u.ZeroDates, []UnfitPolicy{UnfitNull, UnfitInfinity}},
		{"NULs", &u.NULs, []UnfitPolicy{UnfitReplace, UnfitRemove}},
		{"InvalidText", &u.InvalidText, []UnfitPolicy{UnfitReplace}},
		{"Times", &u.Times, []UnfitPolicy{UnfitNull}},
	} {
		if *f.value == "" {
			*f.value = UnfitStop
		}
		if *f.value != UnfitStop && !slices.Contains(f.also, *f.value) {
			errs = append(errs, fmt.Errorf("unfit: %s is %q: use error or one of %v", f.name, *f.value, f.also))
		}
	}
	return errs
}

// OpenPostgres connects to the database that dsn names, "postgres://user:password@
// host:5432/database?sslmode=require" or "host=... user=...", as libpq reads it with
// its environment variables, and makes sure of the checkpoint table. It returns all
// faults in the options at once. The database must have the encoding UTF8.
//
// A schema of the source is a schema of the target, and all tables are in the one
// database. What the target says of a table is read when its first row comes, and
// again when a statement fails; what is said of OpenMySQL about triggers holds here
// too. Values become what docs/TYPES.md says.
//
// Rows whose foreign keys the source did not check, or whose source logs what its
// foreign keys do, are written with session_replication_role=replica where the
// target's table has foreign keys. That needs a superuser or, since PostgreSQL 15,
// GRANT SET ON PARAMETER session_replication_role.
func OpenPostgres(ctx context.Context, dsn string, opts *PostgresOptions) (*Postgres, error) {
	p, err := newPostgres(dsn, opts)
	if err != nil {
		return nil, err
	}
	if err := p.pg.connect(ctx); err != nil {
		return nil, err
	}
	if err := p.pg.setUp(ctx); err != nil {
		p.pg.drop()
		return nil, err
	}
	return p, nil
}

// newPostgres checks the options, and does not connect yet.
func newPostgres(dsn string, opts *PostgresOptions) (*Postgres, error) {
	if opts == nil {
		opts = &PostgresOptions{}
	}
	p := &Postgres{}
	p.rules = rules{name: opts.Name, schema: opts.Schema, ddl: opts.DDL, ddlDone: opts.DDLDone, followedBy: opts.Followed, log: opts.Logger}
	p.replace, p.mixes = opts.Replace, opts.Append || opts.Replace
	var errs []error
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// Invariant I9: the driver's own words may quote a part of the password.
		errs = append(errs, errors.New("the target's DSN cannot be read: write postgres://user:password@host:5432/database"))
	}
	errs = append(errs, p.set(opts.Routes, opts.Conflicts, opts.DDLRules, opts.Tables)...)
	p.pg = pgBackend{core: &p.core, cfg: cfg, unfit: opts.Unfit, maxRows: opts.MaxRows, maxBytes: opts.MaxBytes}
	errs = append(errs, p.pg.unfit.check()...)
	if p.pg.maxRows == 0 {
		p.pg.maxRows = 5000
	}
	if p.pg.maxBytes == 0 {
		p.pg.maxBytes = 1 << 20
	}
	if p.pg.maxRows < 0 || p.pg.maxRows > 1e6 {
		errs = append(errs, fmt.Errorf("MaxRows %d: use 1 to 1000000", opts.MaxRows))
	}
	if p.pg.maxBytes < 1024 || p.pg.maxBytes > 64<<20 {
		errs = append(errs, fmt.Errorf("MaxBytes %d: use 1 KiB to 64 MiB", opts.MaxBytes))
	}
	if len(p.schema) > pgNameMax {
		errs = append(errs, fmt.Errorf("schema %q: PostgreSQL cuts names after %d bytes", p.schema, pgNameMax))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("opening the PostgreSQL sink: %w", errors.Join(errs...))
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { p.log.Debug("notice of the target", "text", n.Message) }
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	cfg.DialFunc = tcp.Dial
	p.merger = newMerger()
	p.init(&p.pg)
	lane := "COPY, and arrays"
	p.stats.lane.Store(&lane)
	return p, nil
}

// Checkpoint reports the last transaction applied, drops parts of one whose end did
// not come, and makes this sink the only one that may write under its name. If
// another has taken its place since, it returns dfs.ErrConflict.
func (p *Postgres) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) { return p.checkpoint(ctx) }

// Apply applies the batch: see dfs.Sink. After an error, call Checkpoint. An error
// marked as transient may leave the outcome open, as when the connection is lost
// during a COMMIT; then too Checkpoint tells.
func (p *Postgres) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	return p.take(ctx, batch)
}

// Stats returns the counts so far. It may be called at any time, from any goroutine.
func (p *Postgres) Stats() Stats { return p.stats.all() }

// Close ends the connection. What was not committed is undone.
func (p *Postgres) Close() error {
	p.pg.drop()
	p.open = false
	return nil
}

// pgNameMax is how many bytes of a name PostgreSQL keeps: NAMEDATALEN - 1.
const pgNameMax = 63

// pgBackend is the connection to a PostgreSQL server.
type pgBackend struct {
	core     *core
	cfg      *pgconn.Config
	unfit    Unfit
	maxRows  int
	maxBytes int

	conn    *pgconn.PgConn
	replica bool // foreign keys are off
	mayOff  bool // the account may turn them off

	copy []byte // rows on their way to COPY
}

func (p *pgBackend) connected() bool { return p.conn != nil && !p.conn.IsClosed() }

func (p *pgBackend) drop() {
	if p.conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		p.conn.Close(ctx)
		cancel()
		p.conn = nil
	}
	p.replica = false
}

// pgSession prepares a connection. A commit that is not on disk would leave the
// checkpoint behind what the queue has trimmed; JIT costs more than it gives for
// statements of one table; a timeout for idle transactions would end large ones.
const pgSession = "SET client_encoding='UTF8'; SET TimeZone='GMT'; SET DateStyle='ISO,MDY'; SET IntervalStyle='postgres'; " +
	"SET standard_conforming_strings=on; SET statement_timeout=0; SET lock_timeout='20s'; SET idle_in_transaction_session_timeout=0; " +
	"SET default_transaction_isolation='read committed'; SET default_transaction_deferrable=off; SET bytea_output='hex'; " +
	"SELECT set_config('jit','off',false) FROM pg_catalog.pg_settings WHERE name='jit'; " +
	"SELECT set_config('synchronous_commit','on',false) WHERE current_setting('synchronous_commit')='off'; " +
	"SELECT current_setting('server_encoding'), current_setting('is_superuser'), current_setting('server_version_num')"

func (p *pgBackend) connect(ctx context.Context) error {
	if p.connected() {
		return nil
	}
	p.drop()
	login, cancel := context.WithTimeout(ctx, p.cfg.ConnectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(login, p.cfg)
	if err != nil {
		if ctx.Err() == nil && login.Err() != nil {
			return dfs.Transient(fmt.Errorf("connecting to the target: no answer within %v", p.cfg.ConnectTimeout))
		}
		return fmt.Errorf("connecting to the target: %w", pgClassify(pgHidden(err, p.cfg)))
	}
	p.conn = conn
	rows, err := p.simple(login, pgSession)
	if err == nil && rows[0][0].text != "UTF8" {
		err = fmt.Errorf("its database %s has the encoding %s: make one by CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0", p.cfg.Database, rows[0][0].text)
	}
	if err == nil {
		p.mayOff = rows[0][1].text == "on"
		if version := rows[0][2].uint(); !p.mayOff && version >= 150000 {
			rows, err = p.simple(login, "SELECT has_parameter_privilege('session_replication_role','SET')")
			p.mayOff = err == nil && rows[0][0].text == "t"
		}
	}
	if err != nil {
		p.drop()
		return fmt.Errorf("preparing the session on the target: %w", err)
	}
	return nil
}

// pgHidden returns an error without the password, which a driver's words might have.
func pgHidden(err error, cfg *pgconn.Config) error {
	if cfg.Password == "" || !strings.Contains(err.Error(), cfg.Password) {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), cfg.Password, "xxxxx"))
}

// setUp makes sure of the checkpoint table and of the pipeline's row in it.
func (p *pgBackend) setUp(ctx context.Context) error {
	table := p.checkpointTable()
	schema, create := p.createSQL()
	err := p.trySetUp(ctx, schema, create)
	for range 10 {
		// IF NOT EXISTS does not see what another is about to create, waits for it, and then
		// finds one of several rows of the catalogue there: 42710 is that of a table's type.
		if code := pgCode(err); code != "23505" && code != "42P06" && code != "42P07" && code != "42710" {
			break
		}
		err = p.trySetUp(ctx, schema, create)
	}
	switch pgCode(err) {
	case "42501", "3F000":
		return fmt.Errorf("preparing the checkpoint table: %w; as an administrator of the database run: %s; %s; GRANT USAGE ON SCHEMA %s TO the account; "+
			"GRANT SELECT, INSERT, UPDATE ON %s TO the account", err, schema, create, quoteName(p.core.schema), table)
	}
	if err != nil {
		return fmt.Errorf("preparing the checkpoint table: %w", err)
	}
	return nil
}

func (p *pgBackend) createSQL() (schema, table string) {
	return "CREATE SCHEMA IF NOT EXISTS " + quoteName(p.core.schema),
		"CREATE TABLE IF NOT EXISTS " + p.checkpointTable() + " (name text PRIMARY KEY, seq bigint NOT NULL, pos text NOT NULL, id text NOT NULL, " +
			"committed timestamp NULL, owner text NOT NULL, updated timestamp NOT NULL, state bytea NULL)"
}

func (p *pgBackend) createCheckpointSQL() string {
	schema, table := p.createSQL()
	return schema + "; " + table
}

func (p *pgBackend) bytesLiteral(s string) string { return `'\x` + hex.EncodeToString([]byte(s)) + "'" }

func (p *pgBackend) noTable(err error) bool { return pgCode(err) == "42P01" || pgCode(err) == "3F000" }

// trySetUp creates what is missing, so that an account needs no right to do so where
// nothing is.
func (p *pgBackend) trySetUp(ctx context.Context, schema, create string) error {
	rows, err := p.query(ctx, "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL", quoteName(p.core.schema), p.checkpointTable())
	if err == nil && rows[0][0].text != "t" {
		_, err = p.simple(ctx, schema)
	}
	if err == nil && rows[0][1].text != "t" {
		_, err = p.simple(ctx, create)
	}
	if err == nil {
		err = p.core.setUp(ctx)
	}
	return err
}

func (p *pgBackend) checkpointTable() string {
	return quoteName(p.core.schema) + "." + quoteName(checkpointTable)
}

// hold names the session after the owner, by which killHolder finds it.
func (p *pgBackend) hold(ctx context.Context, owner string) {
	_, _ = p.query(ctx, "SELECT set_config('application_name',$1,false)", "dfs "+owner)
}

// killHolder ends the session of an owner. A connection whose network died keeps its
// transaction, and with it the lock of the checkpoint's row, until the server
// notices. Everyone may end sessions of his own account. Failing is no harm: then
// the claim waits.
func (p *pgBackend) killHolder(ctx context.Context, owner string) {
	if owner != "" {
		_, _ = p.query(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name=$1 AND pid<>pg_backend_pid()", "dfs "+owner)
	}
}

func (p *pgBackend) patience(ctx context.Context, claiming bool) error {
	wait := "20s"
	if claiming {
		wait = "1s"
	}
	_, err := p.simple(ctx, "SET lock_timeout='"+wait+"'")
	return err
}

func (p *pgBackend) isLockWait(err error) bool { return pgCode(err) == "55P03" }

// begin opens a transaction. Constraints that are checked at its end would fail where
// nobody can tell the row any more.
func (p *pgBackend) begin() []stmt {
	return []stmt{{sql: "BEGIN", want: uncounted}, {sql: "SET CONSTRAINTS ALL IMMEDIATE", want: uncounted}}
}

func (p *pgBackend) place(n int) string { return fmt.Sprintf("$%d", n) }

// simple runs statements, and returns the rows of the last.
func (p *pgBackend) simple(ctx context.Context, sql string) ([][]cell, error) {
	if !p.connected() {
		return nil, errPGLost
	}
	results, err := p.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, pgClassify(err)
	}
	for i := len(results) - 1; i >= 0; i-- {
		if len(results[i].FieldDescriptions) > 0 {
			return cells(results[i].Rows), nil
		}
	}
	return nil, nil
}

func cells(rows [][][]byte) [][]cell {
	out := make([][]cell, len(rows))
	for i, r := range rows {
		for _, v := range r {
			out[i] = append(out[i], cell{string(v), v == nil})
		}
	}
	return out
}

var errPGLost = dfs.Transient(errors.New("the connection to the target is lost"))

// params turns arguments into the text of parameters.
func params(args []any) ([][]byte, error) {
	list := make([][]byte, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case nil:
		case []byte:
			list[i] = a
		case string:
			list[i] = []byte(a)
		case binaryArg:
			list[i] = hex.AppendEncode([]byte(`\x`), a)
		case int64:
			list[i] = fmt.Appendf(nil, "%d", a)
		default:
			return nil, fmt.Errorf("argument %d is a %T", i+1, a)
		}
	}
	return list, nil
}

func (p *pgBackend) query(ctx context.Context, sql string, args ...any) ([][]cell, error) {
	if !p.connected() {
		return nil, errPGLost
	}
	list, err := params(args)
	if err != nil {
		return nil, err
	}
	r := p.conn.ExecParams(ctx, sql, list, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, pgClassify(r.Err)
	}
	out := cells(r.Rows)
	for k, f := range r.FieldDescriptions {
		if f.DataTypeOID == 17 { // bytea
			for i := range out {
				out[i][k].text = unhexed(out[i][k].text)
			}
		}
	}
	return out, nil
}

func (p *pgBackend) exec(ctx context.Context, s stmt) (int64, error) {
	if !p.connected() {
		return 0, errPGLost
	}
	if strings.HasPrefix(s.sql, "ROLLBACK") {
		p.replica = false // it was set within what is undone
	}
	if s.args == nil {
		answer := p.conn.Exec(ctx, s.sql) // it is sent
		if s.sql == "COMMIT" {
			failpoint.Hit("core.commit.sent")
		}
		results, err := answer.ReadAll()
		if err != nil {
			return 0, pgClassify(err)
		}
		if s.sql == "COMMIT" && results[0].CommandTag.String() != "COMMIT" {
			// A transaction that has failed ends in ROLLBACK, and says no more of it.
			return 0, errors.New("the server has undone the transaction instead of committing it")
		}
		return results[len(results)-1].CommandTag.RowsAffected(), nil
	}
	list, err := params(s.args)
	if err != nil {
		return 0, err
	}
	p.core.stats.statements.Add(1)
	r := p.conn.ExecParams(ctx, s.sql, list, nil, nil, nil).Read()
	return r.CommandTag.RowsAffected(), pgClassify(r.Err)
}

// pgCode returns the SQLSTATE of a server's error, or "".
func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// serverError reports whether the server has refused a statement.
func (p *pgBackend) serverError(err error) bool { return pgCode(err) != "" }

func (p *pgBackend) constraint(err error) (broken, duplicate bool) {
	switch pgCode(err) {
	case "23505", "23P01": // unique_violation, exclusion_violation
		return true, true
	case "23503", "23001": // foreign_key_violation, restrict_violation
		return true, false
	}
	return false, false
}

func (p *pgBackend) explain(err error, t *table) error {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return err
	}
	at := ""
	if e.ColumnName != "" {
		at = " (column " + e.ColumnName + ")"
	}
	switch e.Code {
	case "42501":
		return fmt.Errorf("%w: GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO the account of the DSN, and USAGE on its schema", err, p.ident(t))
	case "22001", "22003", "22008":
		return fmt.Errorf("%w%s: the target's column is narrower than the source's: ALTER TABLE %s ALTER COLUMN ... TYPE one that takes it", err, at, p.ident(t))
	case "54000":
		return fmt.Errorf("%w: an index of PostgreSQL ends at 2704 bytes of key: DROP the one that has this column of the table %s, or make it one of a hash of the column", err, p.ident(t))
	case "23502":
		return fmt.Errorf("%w: give the column a default, or DROP NOT NULL, or let what cannot be held become something else than NULL", err)
	}
	return err
}

// stands reports whether the server has refused more than a row: SQLSTATE as in
// PostgreSQL's appendix A. A trigger's function may miss a table or function too.
func (p *pgBackend) stands(err error) bool {
	switch pgCode(err) {
	case "42501", "42P01", "42703", "42883", "3F000", "42704", "55000", "428C9":
		// insufficient_privilege, undefined table, column, function, schema, object;
		// object_not_in_prerequisite_state, as a view that takes no rows; generated_always
		return true
	}
	return false
}

// pgTransient reports whether a server's error may pass by itself: SQLSTATE as in
// PostgreSQL's appendix A.
func pgTransient(code string) bool {
	switch code {
	case "40001", "40P01", "40002", "40003", // serialization, deadlock, what is unknown
		"55P03", "55006", "57014", // lock timeout, object in use, canceled
		"57P01", "57P02", "57P03", "57P05", "25P03", "25P04", // shutdown, crash, starting, timeouts of idle sessions
		"25006", // read only: a standby that is to be the primary
		"72000", "58030", "F0001":
		return true
	}
	switch {
	case strings.HasPrefix(code, "08"), strings.HasPrefix(code, "53"): // connections; no disk, memory, connections left
		return true
	}
	return false
}

// pgClassify marks err with dfs.Transient if it may pass.
func pgClassify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if code := pgCode(err); code != "" {
		if pgTransient(code) {
			return dfs.Transient(err)
		}
		return err
	}
	var op *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &op):
		return dfs.Transient(err)
	case errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &network), errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrDeadlineExceeded), pgconn.SafeToRetry(err),
		pgLost(err):
		return dfs.Transient(err)
	}
	return err
}

// pgLost reports whether the driver says that the connection was cut.
func pgLost(err error) bool {
	for _, s := range []string{"unexpected EOF", "EOF", "conn closed", "closed network connection", "connection reset"} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

func (p *pgBackend) ident(t *table) string { return quoteName(t.schema) + "." + quoteName(t.name) }

func (p *pgBackend) tableKey(schema, name string) string { return schema + "." + name }

// oneOf returns what finds one row of those that where does.
func (p *pgBackend) oneOf(t *table, where string) string {
	id := "ctid"
	if t.partitioned {
		id = "(tableoid,ctid)"
	}
	return id + "=(SELECT " + strings.Trim(id, "()") + " FROM " + p.ident(t) + " WHERE " + where + " LIMIT 1)"
}

func (p *pgBackend) equal(m *mapping, i int, place string) string {
	name := quoteName(m.columns[i].name)
	tc := &m.to.columns[m.columns[i].to]
	switch {
	case tc.base == "json" || tc.base == "xml" || tc.base == "point", tc.base == "citext" && m.key == nil:
		return name + "::text=" + place
	case tc.base == "jsonb" && m.key == nil:
		return name + "::text=" + place + "::jsonb::text" // 1 and 1.0 are equal as jsonb
	case tc.collates:
		if m.key == nil {
			return name + ` COLLATE "C"=` + place // or it would find rows that are only like it
		}
	}
	return name + "=" + place
}

func (p *pgBackend) arg(m *mapping, i int, v dfs.Value) (any, error) {
	if v.IsNull() {
		return nil, nil
	}
	b, err := m.text[i](make([]byte, 0, 24), v)
	if b == nil || err != nil {
		return nil, err
	}
	return b, nil
}

// foreignKeys turns foreign keys off for rows of a table that has some, or on.
func (p *pgBackend) foreignKeys(ctx context.Context, t *table, off bool) error {
	s, err := p.role(t, off)
	if err != nil || s == "" {
		return err
	}
	_, err = p.exec(ctx, stmt{sql: s, want: uncounted})
	return err
}

// role returns the statement that turns foreign keys off or on, or "".
func (p *pgBackend) role(t *table, off bool) (string, error) {
	off = off && t != nil && (len(t.parents) > 0 || len(t.children) > 0)
	switch {
	case off == p.replica:
		return "", nil
	case off && !p.mayOff:
		return "", fmt.Errorf("the source has not checked foreign keys for this row, or logs what they do, and the target's table %s has foreign keys: "+
			"drop them there, or GRANT SET ON PARAMETER session_replication_role TO the account (PostgreSQL 15 and later)", t.key)
	case off && t.userTrigger != "":
		return "", fmt.Errorf("the source has not checked foreign keys for this row, or logs what they do, and the target's table %s has foreign keys and the trigger %s, "+
			"which does not run where foreign keys are off: drop the foreign keys there, or ALTER TABLE %s ENABLE ALWAYS TRIGGER %s",
			t.key, t.userTrigger, p.ident(t), quoteName(t.userTrigger))
	}
	p.replica = off
	if off {
		return "SET LOCAL session_replication_role=replica", nil
	}
	return "SET LOCAL session_replication_role=origin", nil
}

// unhexed returns the bytes of a bytea's text.
func unhexed(s string) string {
	s, ok := strings.CutPrefix(s, `\x`)
	if !ok {
		return s
	}
	var b bytes.Buffer
	for ; len(s) > 1; s = s[2:] {
		var c byte
		for _, d := range []byte(s[:2]) {
			switch {
			case d >= 'a':
				d -= 'a' - 10
			default:
				d -= '0'
			}
			c = c<<4 | d
		}
		b.WriteByte(c)
	}
	return b.String()
}
