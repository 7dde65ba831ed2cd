//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
)

// troubles are what other users of a server, and people, do to DFS.
var troubles = []fault{
	{"deadlock", 1, "a client of the target that locks the same rows in another order, for some seconds", (*soak).deadlock},
	{"lock-wait", 1, "a row locked on the target for up to 25 seconds", func(s *soak, ctx context.Context) error {
		return s.locked(ctx, "BEGIN", "SELECT * FROM S.audit WHERE id = 0 FOR UPDATE", "ROLLBACK", "row lock")
	}},
	{"lock-tables", 1, "LOCK TABLES on the target for up to 25 seconds", func(s *soak, ctx context.Context) error {
		return s.locked(ctx, "", "LOCK TABLES S.accounts WRITE, S.orders READ", "UNLOCK TABLES", "table lock")
	}},
	{"too-many", 1, "the target has too many connections for DFS, for some seconds", (*soak).tooMany},
	{"read-only", 1, "the target is read-only for some seconds", (*soak).readOnly},
	{"password", 1, "DFS's password is another one for some seconds, at one server", (*soak).password},
	{"hang", 1, "a server halted for up to 25 seconds", (*soak).hang},
}

// The account of DFS. It has what the documentation asks for and no more, so that it
// meets what is not for administrators.
const (
	account  = "dfs_soak"
	passcode = "Kept-2-itself" // is looked for in what DFS says
)

// grants creates the account.
func grants(kind testenv.Kind, target bool) []string {
	user := "'" + account + "'@'%'"
	rights := "SELECT, REPLICATION SLAVE, REPLICATION CLIENT"
	if target {
		rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, TRIGGER"
	}
	stmts := []string{"CREATE USER " + user + " IDENTIFIED BY '" + passcode + "'", "GRANT " + rights + " ON *.* TO " + user}
	if target && kind == testenv.MySQL97 {
		stmts = append(stmts, "GRANT REPLICATION_APPLIER ON *.* TO "+user)
	}
	return stmts
}

// identify is the statement that gives the account a password.
func identify(kind testenv.Kind, password string) string {
	if kind == testenv.MySQL56 {
		return "SET PASSWORD FOR '" + account + "'@'%' = PASSWORD('" + password + "')"
	}
	return "ALTER USER '" + account + "'@'%' IDENTIFIED BY '" + password + "'"
}

// expel ends all sessions of DFS at a server, of which there is at least one, if not at
// every moment.
func expel(ctx context.Context, conn *sql.Conn) error {
	for {
		ids, err := sessions(ctx, conn)
		if err != nil {
			return err
		}
		killed := false
		for _, id := range ids {
			_, err := conn.ExecContext(ctx, fmt.Sprintf("KILL %d", id))
			var server *mysql.MySQLError
			if err != nil && !(errors.As(err, &server) && server.Number == 1094) { // it has gone by itself
				return err
			}
			killed = killed || err == nil
		}
		if killed {
			return nil
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// sessions returns the ids of those of DFS. The table of them in information_schema
// fails over statements of others that are not all text.
func sessions(ctx context.Context, conn *sql.Conn) (ids []uint64, err error) {
	rows, err := conn.QueryContext(ctx, "SHOW PROCESSLIST")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var id uint64
	var user sql.NullString
	row := make([]any, len(columns))
	for i := range row {
		row[i] = new(sql.RawBytes)
	}
	row[0], row[1] = &id, &user
	for rows.Next() {
		if err := rows.Scan(row...); err != nil {
			return nil, err
		}
		if user.String == account {
			ids = append(ids, id)
		}
	}
	return ids, rows.Err()
}

// during does something to a server over a connection of its own, waits for up to a
// time by chance, and takes it back, whatever happens.
func (s *soak) during(ctx context.Context, db *sql.DB, most time.Duration, begin, end func(context.Context, *sql.Conn) error) (err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer func() {
		back, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, end(back, conn))
	}()
	if err := begin(ctx, conn); err != nil {
		return err
	}
	s.last(ctx, most)
	return nil
}

// run returns a step of during that executes statements.
func (s *soak) run(stmts ...string) func(context.Context, *sql.Conn) error {
	return func(ctx context.Context, conn *sql.Conn) error {
		for _, stmt := range stmts {
			if stmt == "" {
				continue
			}
			if _, err := conn.ExecContext(ctx, named(s.schema, stmt)); err != nil {
				return fmt.Errorf("%s: %w", stmt, err)
			}
		}
		return nil
	}
}

// then runs one step after the other.
func then(steps ...func(context.Context, *sql.Conn) error) func(context.Context, *sql.Conn) error {
	return func(ctx context.Context, conn *sql.Conn) error {
		for _, step := range steps {
			if err := step(ctx, conn); err != nil {
				return err
			}
		}
		return nil
	}
}

// reports makes sure that DFS says that it tries again, from what it has said since
// its log had this many bytes.
func (s *soak) reports(from int64, what string) error {
	b, err := os.ReadFile(s.dfs.log)
	if err != nil {
		return err
	}
	if from = min(from, int64(len(b))); !strings.Contains(string(b[from:]), "retrying") {
		s.found.add(byProcess, "DFS did not say that it tries again while %s; it said last:\n%s", what, s.dfs.tail())
	}
	return nil
}

// said returns how many bytes DFS has said.
func (s *soak) said() (int64, error) {
	info, err := os.Stat(s.dfs.log)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (s *soak) locked(ctx context.Context, begin, lock, end, what string) error {
	if err := s.during(ctx, s.dst, 25*time.Second, s.run(begin, lock), s.run(end)); err != nil {
		return err
	}
	return s.goesOn(ctx, "target", what, time.Now())
}

func (s *soak) tooMany(ctx context.Context) error {
	from, err := s.said()
	if err != nil {
		return err
	}
	err = s.during(ctx, s.dst, 5*time.Second, then(s.run("SET GLOBAL max_connections = 1"), expel), s.run("SET GLOBAL max_connections = 100"))
	if err != nil {
		return err
	}
	since := time.Now()
	if err := s.goesOn(ctx, "target", "too many connections", since); err != nil {
		return err
	}
	return s.reports(from, "the target had too many connections")
}

func (s *soak) readOnly(ctx context.Context) error {
	from, err := s.said()
	if err != nil {
		return err
	}
	on, off := "SET GLOBAL super_read_only = ON", "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF"
	if s.target.Kind() == testenv.MariaDB {
		on, off = "SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF"
	}
	if err := s.during(ctx, s.dst, 5*time.Second, s.run(on), s.run(off)); err != nil {
		return err
	}
	if err := s.goesOn(ctx, "target", "read-only target", time.Now()); err != nil {
		return err
	}
	return s.reports(from, "the target was read-only")
}

func (s *soak) password(ctx context.Context) error {
	from, err := s.said()
	if err != nil {
		return err
	}
	server, db, which := s.source, s.src, "source"
	if s.rnd.IntN(2) == 0 {
		server, db, which = s.target, s.dst, "target"
	}
	err = s.during(ctx, db, 5*time.Second, then(s.run(identify(server.Kind(), "another")), expel), s.run(identify(server.Kind(), passcode)))
	if err != nil {
		return err
	}
	if err := s.goesOn(ctx, which, which+" password", time.Now()); err != nil {
		return err
	}
	return s.reports(from, "its password was wrong")
}

func (s *soak) hang(ctx context.Context) error {
	server, which := s.source, "source"
	if s.rnd.IntN(2) == 0 {
		server, which = s.target, "target"
	}
	if err := server.Pause(); err != nil {
		return err
	}
	s.last(ctx, 25*time.Second)
	if err := server.Resume(); err != nil {
		return err
	}
	return s.goesOn(ctx, which, which+" halted", time.Now())
}

// deadlock locks rows on the target in an order that is not DFS's, in transactions
// that have changed many rows, so that the server chooses DFS's to give up.
func (s *soak) deadlock(ctx context.Context) error {
	for _, stmt := range []string{"CREATE DATABASE IF NOT EXISTS S_heavy", "CREATE TABLE IF NOT EXISTS S_heavy.rows_ (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB",
		"INSERT IGNORE INTO S_heavy.rows_ SELECT id, 0 FROM S.bulk"} {
		if _, err := s.dst.ExecContext(ctx, named(s.schema, stmt)); err != nil {
			return err
		}
	}
	conn, err := s.dst.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	before, err := deadlocks(ctx, s.target.Kind(), conn)
	if err != nil {
		return err
	}
	ours, lasts := 0, 3*time.Second
	if s.brief {
		lasts /= 8
	}
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		err := s.run("BEGIN", "UPDATE S_heavy.rows_ SET n = n + 1")(ctx, conn)
		for id := counters - 1; id >= 0 && err == nil; id -= 1 + s.rnd.IntN(3) {
			err = s.run(fmt.Sprintf("SELECT n FROM S.audit WHERE id = %d FOR UPDATE", id))(ctx, conn)
			sleep(ctx, time.Millisecond)
		}
		for id := accounts - 1; id >= 0 && err == nil; id -= 1 + s.rnd.IntN(20) {
			err = s.run(fmt.Sprintf("SELECT balance FROM S.accounts WHERE id = %d FOR UPDATE", id))(ctx, conn)
		}
		var server *mysql.MySQLError
		if errors.As(err, &server) && passing[server.Number] {
			if server.Number == 1213 {
				ours++
			}
			err = nil
		}
		if err := errors.Join(err, s.run("ROLLBACK")(context.WithoutCancel(ctx), conn)); err != nil {
			return err
		}
	}
	since := time.Now()
	after, err := deadlocks(ctx, s.target.Kind(), conn)
	if err != nil {
		return err
	}
	s.tally.deadlocks += max(0, after-before-ours)
	return s.goesOn(ctx, "target", "deadlocks", since)
}

// deadlocks returns how many the server has resolved since it began, or 0 if it does
// not tell.
func deadlocks(ctx context.Context, kind testenv.Kind, conn *sql.Conn) (n int, err error) {
	query := "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
	if kind == testenv.MariaDB {
		query = "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'"
	}
	err = conn.QueryRowContext(ctx, query).Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return n, err
}
