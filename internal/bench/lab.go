//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs/internal/testenv"
)

const bufferPool = "--innodb-buffer-pool-size=512M"

// sourceArgs make a source that is quick to fill. Its durability does not count
// where backlogs are replayed; for latency it is raised.
var sourceArgs = []string{
	bufferPool, "--innodb-flush-log-at-trx-commit=0", "--innodb-redo-log-capacity=1G",
	"--max-binlog-size=1G", "--max-allowed-packet=64M",
}

// targetArgs make a target as it would be in production. All contenders get the
// same.
var targetArgs = []string{
	bufferPool, "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1",
	"--innodb-doublewrite=ON", "--innodb-redo-log-capacity=1G", "--max-allowed-packet=64M",
}

// A lab holds what all measurements share.
type lab struct {
	opts     *options
	dir      string
	source   *database
	template string // data folder of an empty target that was stopped
	version  string
	basic    string // the built binary of examples/basic
}

// openLab starts the source and makes the template of the targets.
func openLab(ctx context.Context, dir string, o *options) (l *lab, err error) {
	l = &lab{opts: o, dir: dir}
	say("starting a source")
	if l.source, err = launch(ctx, filepath.Join(dir, "source"), sourceArgs); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if err = l.source.QueryRowContext(ctx, "SELECT @@version").Scan(&l.version); err != nil {
		return nil, err
	}
	// A set of GTIDs that is not empty is less to think about.
	if err = l.source.exec(ctx, "CREATE DATABASE beginning"); err != nil {
		return nil, err
	}
	l.template = filepath.Join(dir, "template")
	t, err := launch(ctx, l.template, targetArgs)
	if err != nil {
		return nil, err
	}
	for _, d := range []*database{l.source, t} {
		if err = l.prepare(ctx, d); err != nil {
			t.close()
			return nil, err
		}
	}
	t.DB.Close()
	if err = t.Stop(); err != nil {
		return nil, err
	}
	return l, l.build(ctx)
}

// prepare creates, unlogged, the tables of all parts that will run.
func (l *lab) prepare(ctx context.Context, d *database) error {
	db, err := open(d.Server, "sql_log_bin=0")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, w := range append(workloads(), latencyWorkload(l.opts.rounds)) {
		if !l.opts.wants(w.name, partNames()) && !l.opts.archives(w.name) {
			continue
		}
		stmts := append([]string{"CREATE DATABASE " + w.schema, "USE " + w.schema, createEnd}, w.create...)
		if w.fill != nil {
			stmts = append(stmts, w.fill(l.opts.scale)...)
		}
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		for _, s := range stmts {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%.100s: %w", s, err)
			}
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	return nil
}

// launchTarget starts a fresh target in dir.
func (l *lab) launchTarget(ctx context.Context, dir string) (*database, error) {
	if err := copyFolder(ctx, l.template, dir); err != nil {
		return nil, err
	}
	return launch(ctx, dir, targetArgs)
}

func (l *lab) close() error { return l.source.close() }

// A database is a running server with connections to it.
type database struct {
	*testenv.Server
	*sql.DB
}

func launch(ctx context.Context, dir string, args []string) (*database, error) {
	s, err := testenv.Launch(ctx, testenv.MySQL97, dir, args...)
	if err != nil {
		return nil, err
	}
	db, err := open(s, "")
	if err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return &database{s, db}, nil
}

// open returns connections that take many statements at once, with a session
// variable set.
func open(s *testenv.Server, variable string) (*sql.DB, error) {
	return sql.Open("mysql", s.DSN("")+"?multiStatements=true&maxAllowedPacket=0&"+variable)
}

// close ends the server as nobody needs its data any more.
func (d *database) close() error {
	return errors.Join(d.DB.Close(), d.Kill())
}

func (d *database) exec(ctx context.Context, stmts ...string) error {
	for _, s := range stmts {
		if _, err := d.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.200s: %w", s, err)
		}
	}
	return nil
}

// gtids returns the transactions that the server has executed.
func (d *database) gtids(ctx context.Context) (string, error) {
	var set string
	err := d.QueryRowContext(ctx, "SELECT @@gtid_executed").Scan(&set)
	return strings.ReplaceAll(set, "\n", ""), err
}

// checksums returns a checksum of each table's rows.
func (d *database) checksums(ctx context.Context, schema string, tables []string) (map[string]string, error) {
	sums := make(map[string]string)
	for _, t := range tables {
		var name string
		var sum sql.NullString
		if err := d.QueryRowContext(ctx, "CHECKSUM TABLE "+schema+"."+t).Scan(&name, &sum); err != nil {
			return nil, err
		}
		var n int64
		if err := d.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+schema+"."+t).Scan(&n); err != nil {
			return nil, err
		}
		if !sum.Valid {
			return nil, fmt.Errorf("table %s.%s does not exist", schema, t)
		}
		sums[t] = fmt.Sprintf("%d rows, checksum %s", n, sum.String)
	}
	return sums, nil
}

// compare reports tables whose rows are not those of the source.
func (d *database) compare(ctx context.Context, schema string, tables []string, want map[string]string) error {
	got, err := d.checksums(ctx, schema, tables)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tables {
		if got[t] != want[t] {
			errs = append(errs, fmt.Errorf("table %s.%s of the target has %s, and that of the source %s", schema, t, got[t], want[t]))
		}
	}
	return errors.Join(errs...)
}

// awaitRow polls until the query finds a row. It asks every few milliseconds
// whether failed tells of a reason to give up.
func (d *database) awaitRow(ctx context.Context, query string, failed func() error) error {
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	poll := time.NewTicker(4 * time.Millisecond)
	defer poll.Stop()
	for i := 1; ; i++ {
		var n int
		switch err := conn.QueryRowContext(ctx, query).Scan(&n); err {
		case nil:
			return nil
		case sql.ErrNoRows:
		default:
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
		case <-poll.C:
		}
	}
}

// init keeps the driver from logging what it also returns, such as that a
// connection was closed by an interrupt.
func init() { mysql.SetLogger(&mysql.NopLogger{}) }
