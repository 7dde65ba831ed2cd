package sink

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"
	"unsafe"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/tcp"
	"github.com/go-sql-driver/mysql"
)

// sqlMode makes values arrive as sent: zero dates and the number zero in an
// AUTO_INCREMENT column pass, and what does not fit is an error.
const (
	looseMode = "NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
	sqlMode   = looseMode + ",STRICT_ALL_TABLES"
)

// restoreSQL undoes what single groups of changes set for themselves.
const restoreSQL = "SET foreign_key_checks=1, sql_mode='" + sqlMode + "'"

// lockWait is how long a statement waits for a row lock before it fails with a
// transient error. The server's own default is 50 s.
const lockWait = 20

// sessionSQL prepares a connection. Nothing in it outlives the session, or
// needs a privilege.
//
// FOREIGN_KEY_CHECKS is turned off for single groups of changes (see write.go), and
// the strict mode for others (see loose.go).
// The others are named since the server may set them for all: SQL_AUTO_IS_NULL
// and SQL_SAFE_UPDATES change what a WHERE matches or refuse it, COMPLETION_TYPE
// can end the connection at each COMMIT, and SQL_SELECT_LIMIT, whose default is
// the value for all, cuts results short.
var sessionSQL = "SET NAMES utf8mb4, time_zone='+00:00', sql_mode='" + sqlMode + "', autocommit=1, " +
	"foreign_key_checks=1, unique_checks=1, sql_auto_is_null=0, sql_safe_updates=0, sql_select_limit=18446744073709551615, completion_type=0, " +
	fmt.Sprintf("innodb_lock_wait_timeout=%d; ", lockWait) +
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"

// server is what Open learned of the target.
type server struct {
	version     string
	mariadb     bool
	major       int
	minor       int
	maxPacket   int  // max_allowed_packet, in bytes
	lowerNames  bool // lower_case_table_names is not 0
	valuesRow   bool // VALUES ROW(...) makes a table: MySQL 8.0.19
	rowInRanges bool // (a,b) IN ((1,2)) uses an index: MySQL 5.7.3
	sqlCascades bool // foreign keys act in the SQL layer: see loadDepth
	seesKeys    bool // the account sees the foreign keys of all tables

	globalMode bool // errors of row events are passed over if slave_exec_mode says so

	sqlOnly string // why the row-event lane is closed; empty if it is open
}

// session is one connection, used by one goroutine at a time. After a lost
// connection or an ended context it is of no more use.
type session struct {
	conn driver.Conn
	id   uint64 // CONNECTION_ID()
	held string // the owner whose lock it holds; see hold
	srv  server

	server string    // tcp.ServerQuery
	opened time.Time // about when
	guard  *looker   // nil while it is made ready
}

// dialer opens connections to the target.
type dialer struct {
	driver.Connector
	login time.Duration // the most that connecting and logging in may take
	where string        // "host:3306 as user", for errors
	log   *slog.Logger
}

// connector parses dsn and sets what the sink depends on.
func connector(dsn string) (dialer, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		// Invariant I9: the driver's own words may quote a part of the password.
		return dialer{}, errors.New("the target's DSN cannot be read: write user:password@tcp(host:3306)/ or user:password@unix(/path/to/socket)/")
	}
	cfg.ClientFoundRows = true // an UPDATE counts the rows it found, not those that changed
	cfg.MultiStatements = true
	cfg.MaxAllowedPacket = 0 // ask the server
	cfg.ParseTime = false
	cfg.Loc = time.UTC
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	cfg.Logger = &mysql.NopLogger{} // what it would log is also returned
	tcp.Use(cfg)
	c, err := mysql.NewConnector(cfg)
	return dialer{Connector: c, login: cfg.Timeout, where: cfg.Addr + " as " + cfg.User}, err
}

// openSession connects and makes the session ready. A server whose host takes
// the connection, but which itself does not answer, is given up after c.login.
func openSession(ctx context.Context, c dialer, sqlOnly bool) (*session, error) {
	login, cancel := context.WithTimeout(ctx, c.login)
	defer cancel()
	fail := func(doing string, err error) error {
		switch {
		case ctx.Err() != nil: // the caller gave up
		case login.Err() != nil:
			err = dfs.Transient(fmt.Errorf("no answer within %v: %w", c.login, err))
		default:
			err = classify(err)
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	conn, err := c.Connect(login)
	if err != nil {
		return nil, unreached(fail("connecting to the target "+c.where, err))
	}
	s := &session{conn: conn, opened: time.Now()}
	err = s.prepare(login)
	if err == nil {
		err = s.useEvents(login, sqlOnly)
	}
	if err != nil {
		s.close()
		return nil, fail("preparing the session on the target", err)
	}
	s.guard = &looker{c.Connector, aliveAfter, c.login, cmp.Or(c.log, slog.Default())}
	return s, nil
}

// unreached adds to an error of connecting what to look at.
func unreached(err error) error {
	var network *net.OpError
	switch code := serverError(err); {
	case code == erAccessDenied || code == erNoPassword:
		return fmt.Errorf("%w (check the user and the password)", err)
	case code == erHostNotAllowed:
		return fmt.Errorf("%w (allow this host to connect, with CREATE USER or in the server's configuration)", err)
	case errors.As(err, &network):
		return fmt.Errorf("%w (check that the server runs and that its address is right)", err)
	}
	return err
}

func (s *session) prepare(ctx context.Context) error {
	if _, err := s.exec(ctx, []byte(sessionSQL)); err != nil {
		return err
	}
	rows, err := s.query(ctx, "SELECT CONNECTION_ID(), VERSION(), @@max_allowed_packet, @@lower_case_table_names, "+tcp.ServerQuery)
	if err != nil {
		return err
	}
	r := rows[0]
	s.id = r[0].uint()
	s.srv.version = r[1].text
	s.srv.maxPacket = int(r[2].uint())
	s.srv.lowerNames = r[3].text != "0"
	s.server = r[4].text
	s.srv.mariadb = strings.Contains(s.srv.version, "MariaDB")
	var patch int
	if _, err := fmt.Sscanf(s.srv.version, "%d.%d.%d", &s.srv.major, &s.srv.minor, &patch); err != nil {
		return fmt.Errorf("reading the server's version %q: %w", s.srv.version, err)
	}
	v := s.srv.major*10000 + s.srv.minor*100 + patch
	s.srv.valuesRow = !s.srv.mariadb && v >= 80019
	s.srv.rowInRanges = !s.srv.mariadb && v >= 50703
	if rows, err = s.query(ctx, "SHOW VARIABLES LIKE 'innodb_native_foreign_keys'"); err != nil {
		return err
	}
	s.srv.sqlCascades = len(rows) > 0 && rows[0][1].text == "OFF"
	if s.srv.sqlCascades {
		_, err = s.query(ctx, "SELECT 1 FROM information_schema.INNODB_FOREIGN LIMIT 0")
		if s.srv.seesKeys = err == nil; serverError(err) != erSpecificAccess {
			return err
		}
	}
	return nil
}

// exec runs statements separated by semicolons and returns how many rows each
// of them matched. The server has done the statements before one that fails.
func (s *session) exec(ctx context.Context, sql []byte) ([]int64, error) {
	// The driver copies the statement before ExecContext returns.
	q := unsafe.String(unsafe.SliceData(sql), len(sql))
	ctx, end := s.watched(ctx)
	r, err := s.conn.(driver.ExecerContext).ExecContext(ctx, q, nil)
	if err = end(err); err != nil {
		return nil, err
	}
	return r.(mysql.Result).AllRowsAffected(), nil
}

// cell is one column of a query's result.
type cell struct {
	text string
	null bool
}

func (c cell) uint() (n uint64) {
	for _, d := range []byte(c.text) {
		n = n*10 + uint64(d-'0')
	}
	return n
}

// query returns all rows of a small result.
func (s *session) query(ctx context.Context, sql string) (_ [][]cell, err error) {
	ctx, end := s.watched(ctx)
	defer func() { err = end(err) }()
	rows, err := s.conn.(driver.QueryerContext).QueryContext(ctx, sql, nil)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out [][]cell
	vals := make([]driver.Value, len(rows.Columns()))
	for {
		err := rows.Next(vals)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		r := make([]cell, len(vals))
		for i, v := range vals {
			switch v := v.(type) {
			case nil:
				r[i].null = true
			case []byte:
				r[i].text = string(v)
			default:
				r[i].text = fmt.Sprint(v)
			}
		}
		out = append(out, r)
	}
}

func (s *session) close() { s.conn.Close() }
