package verify

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/go-sql-driver/mysql"
)

// A side is one of the two servers.
type side struct {
	name    string // "source" or "target"
	db      *sql.DB
	addr    string
	maria   bool
	version int // 80022 for 8.0.22
	gtid    bool
	uuid    string // server_uuid, or MariaDB's server_id
	share   string // how a statement locks the rows that it reads
}

// sessionSQL are the settings of all sessions, none of which needs a privilege:
// moments in UTC, values as they are stored, and results in the bytes of their
// columns. The isolation is that in which a locking read of a key that is not there
// keeps it from being inserted.
const sessionSQL = "SET SESSION time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', " +
	"character_set_results=NULL, autocommit=1, sql_select_limit=18446744073709551615, completion_type=0, sql_safe_updates=0, " +
	"foreign_key_checks=0, innodb_lock_wait_timeout=1, lock_wait_timeout=10, net_write_timeout=600; " +
	"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"

// openSide connects to a server and asks what it is.
func openSide(ctx context.Context, name, dsn string) (*side, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// Invariant I9: the driver's own words may quote a part of the password.
		return nil, fmt.Errorf("the %s's data source name cannot be read: write user:password@tcp(host:3306)/ or user:password@unix(/path/to/socket)/", name)
	}
	cfg.DBName, cfg.ParseTime, cfg.Loc, cfg.Logger = "", false, time.UTC, &mysql.NopLogger{}
	cfg.MultiStatements = true
	cfg.ClientFoundRows = true // an UPDATE counts the rows it found, not those that changed
	cfg.MaxAllowedPacket = 0
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if err := cfg.Apply(mysql.Charset("utf8mb4", "")); err != nil {
		return nil, err
	}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("the %s's data source name: %w", name, err)
	}
	s := &side{name: name, db: sql.OpenDB(prepared{c}), addr: cfg.Addr}
	s.db.SetMaxIdleConns(4)
	if err := s.ask(ctx); err != nil {
		s.db.Close()
		return nil, fmt.Errorf("the %s (%s as %s): %w", name, cfg.Addr, cfg.User, err)
	}
	return s, nil
}

func (s *side) ask(ctx context.Context) error {
	rows, err := query(ctx, s.db, "SELECT VERSION()")
	if err != nil {
		return err
	}
	version := rows[0][0].text
	s.maria = strings.Contains(strings.ToLower(version), "mariadb")
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		return fmt.Errorf("its version %q cannot be read: %w", version, err)
	}
	s.version = major*10000 + minor*100 + patch
	s.share = " LOCK IN SHARE MODE"
	if !s.maria && s.version >= 80022 {
		s.share = " FOR SHARE" // which needs no more than SELECT
	}
	if rows, err = query(ctx, s.db, "SELECT SHA2('',224)"); err != nil {
		return err
	}
	if rows[0][0].null {
		// A checksum of it would be the same for all rows.
		return errors.New("it has no SHA2, as it was built without SSL: verify needs a server with it")
	}
	id := "@@global.server_id"
	if !s.maria {
		id = "@@global.server_uuid"
		if rows, err = query(ctx, s.db, "SELECT @@global.gtid_mode"); err != nil {
			return err
		}
		s.gtid = rows[0][0].text == "ON"
	}
	if rows, err = query(ctx, s.db, "SELECT "+id); err != nil {
		return err
	}
	s.uuid = rows[0][0].text
	return nil
}

// A cell is a value of a result, or one that stages made.
type cell struct {
	text    string
	null    bool
	absent  bool     // stages made no value: the target may have any
	kind    dfs.Kind // of a form of TargetRows; 0 for all else
	literal string   // what stores a value that stages made
}

// is reports whether two cells mean the same.
func (c cell) is(d cell) bool {
	return c.absent || d.absent || c.null == d.null && c.kind == d.kind && c.text == d.text
}

// A querier is a pool, a connection or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// query returns all rows of a result that is known to be small.
func query(ctx context.Context, q querier, text string) ([][]cell, error) {
	var all [][]cell
	err := each(ctx, q, text, func(row []cell) error {
		all = append(all, append([]cell(nil), row...))
		return nil
	})
	return all, err
}

// each calls f with each row of a result. The slice is used again for the next.
func each(ctx context.Context, q querier, text string, f func([]cell) error) error {
	rows, err := q.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	raw := make([]sql.RawBytes, len(names))
	dest := make([]any, len(names))
	for i := range raw {
		dest[i] = &raw[i]
	}
	row := make([]cell, len(names))
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		for i, b := range raw {
			row[i] = cell{text: string(b), null: b == nil}
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// serverError returns the number of a server's error, or 0.
func serverError(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// Errors of servers.
const (
	erTableAccess = 1142
	erNoSuchTable = 1146
	erBadDB       = 1049
	erLockWait    = 1205
	erDeadlock    = 1213
	erDupEntry    = 1062
)

// ident quotes a name.
func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quote returns a literal of text in UTF-8, whatever the sql_mode is.
func quote(s string) string { return "_utf8mb4 x'" + hex.EncodeToString([]byte(s)) + "'" }
