//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// Of each database, the query whose rows are the table orders as text that is the
// same everywhere, in the order of the key.
const (
	ordersOfMySQL = `SELECT CONCAT_WS('|', id, customer, status, amount, name, email, note, DATE_FORMAT(created, '%Y-%m-%d %H:%i:%s.%f'),
		DATE_FORMAT(updated, '%Y-%m-%d %H:%i:%s.%f')), score FROM sinks.orders ORDER BY id`
	ordersOfPostgres = `SELECT concat_ws('|', id, customer, status, amount, name, email, note, to_char(created, 'YYYY-MM-DD HH24:MI:SS.US'),
		to_char(updated AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')), score FROM sinks.orders ORDER BY id`
	ordersOfSQLite = `SELECT id || '|' || customer || '|' || status || '|' || amount || '|' || name || '|' || email || '|' || note || '|' || created || '|' || updated || '000',
		score FROM orders ORDER BY id`
)

// sameOrders compares the rows of two databases, each given as what returns the next
// row, and false at the end.
func sameOrders(source, target func() (text, score string, ok bool, err error)) error {
	for n := 1; ; n++ {
		want, wantScore, more, err := source()
		if err != nil {
			return err
		}
		got, gotScore, ok, err := target()
		if err != nil {
			return err
		}
		if more != ok {
			return fmt.Errorf("the target's rows end at the %dth, or the source's do", n)
		}
		if !more {
			return nil
		}
		// Each prints a DOUBLE in a way of its own.
		a, err1 := strconv.ParseFloat(wantScore, 64)
		b, err2 := strconv.ParseFloat(gotScore, 64)
		if want != got || a != b || errors.Join(err1, err2) != nil {
			return fmt.Errorf("row %d of the target is %s|%s, and that of the source %s|%s", n, got, gotScore, want, wantScore)
		}
	}
}

// rowsOf returns what sameOrders wants, of a query.
func rowsOf(rows *sql.Rows) func() (text, score string, ok bool, err error) {
	return func() (text, score string, ok bool, err error) {
		if !rows.Next() {
			return "", "", false, rows.Err()
		}
		err = rows.Scan(&text, &score)
		return text, score, true, err
	}
}

// compareOrders compares the source's rows with those that target returns.
func (x *trial) compareOrders(ctx context.Context, target func() (text, score string, ok bool, err error)) error {
	conn, err := x.source.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, "SET time_zone = '+00:00'"); err != nil {
		return err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SET time_zone = DEFAULT")
	rows, err := conn.QueryContext(ctx, ordersOfMySQL)
	if err != nil {
		return err
	}
	defer rows.Close()
	return sameOrders(rowsOf(rows), target)
}

// poll asks until seen says that the last row is there.
func poll(ctx context.Context, failed func() error, seen func() (bool, error)) error {
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	for i := 1; ; i++ {
		if ok, err := seen(); ok || err != nil {
			return err
		}
		if i%50 == 0 {
			if err := failed(); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// replayPostgres lets DFS carry the backlog into a server of PostgreSQL, with full
// durability and tables that DFS makes.
func replayPostgres(ctx context.Context, x *trial) (s sample, err error) {
	srv, err := testenv.LaunchPostgres(ctx, filepath.Join(x.dir, "postgres"), "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "shared_buffers=512MB",
		"-c", "max_wal_size=4GB")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, srv.Stop()) }()
	b, err := os.ReadFile(filepath.Join(srv.Dir(), "postmaster.pid"))
	if err != nil {
		return s, err
	}
	first, _, _ := bytes.Cut(b, []byte("\n"))
	pid, err := strconv.Atoi(string(first))
	if err != nil {
		return s, fmt.Errorf("read the process of PostgreSQL: %w", err)
	}
	conn, err := pgconn.Connect(ctx, srv.DSN())
	if err != nil {
		return s, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	s, err = x.measureDFS(ctx, fmt.Sprintf("{dsn: %q, create_tables: true}", srv.DSN()), pid, func(ctx context.Context, failed func() error) error {
		return poll(ctx, failed, func() (bool, error) {
			res := conn.ExecParams(ctx, "SELECT 1 FROM sinks.end_of_log", nil, nil, nil, nil).Read()
			return len(res.Rows) > 0, notYet(res.Err)
		})
	})
	if err != nil {
		return s, err
	}
	rows := conn.ExecParams(ctx, ordersOfPostgres, nil, nil, nil, nil)
	defer rows.Close()
	return s, x.compareOrders(ctx, func() (text, score string, ok bool, err error) {
		if !rows.NextRow() {
			_, err := rows.Close()
			return "", "", false, err
		}
		return string(rows.Values()[0]), string(rows.Values()[1]), true, nil
	})
}

// notYet takes that a table is missing for no error, as DFS makes it.
func notYet(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "42P01" || pg.Code == "3F000") || err != nil && strings.Contains(err.Error(), "no such table") {
		return nil
	}
	return err
}

// replaySQLite lets DFS carry the backlog into a file, which makes its commits durable.
func replaySQLite(ctx context.Context, x *trial) (s sample, err error) {
	file := x.path("target.db")
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		return s, err
	}
	defer db.Close()
	s, err = x.measureDFS(ctx, fmt.Sprintf("{file: %q, create_tables: true}", file), 0, func(ctx context.Context, failed func() error) error {
		return poll(ctx, failed, func() (bool, error) {
			// A reader would be in the way while DFS makes the file one that is
			// written and read at once.
			if _, err := os.Stat(file + "-wal"); errors.Is(err, os.ErrNotExist) {
				return false, nil
			}
			var one int
			err := db.QueryRowContext(ctx, "SELECT 1 FROM end_of_log").Scan(&one)
			if errors.Is(err, sql.ErrNoRows) {
				return false, nil
			}
			return err == nil, notYet(err)
		})
	})
	if err != nil {
		return s, err
	}
	rows, err := db.QueryContext(ctx, ordersOfSQLite)
	if err != nil {
		return s, err
	}
	defer rows.Close()
	return s, x.compareOrders(ctx, rowsOf(rows))
}
