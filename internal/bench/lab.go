//go:build linux

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// sourceArgs make a source that is quick to fill. Its durability does not count
// where backlogs are replayed; for latency it is raised.
func (o *options) sourceArgs(kind testenv.Kind) []string {
	return append(o.serverArgs(kind), "--innodb-flush-log-at-trx-commit=0", "--max-binlog-size=1G")
}

// serverArgs are what all servers have in common. Below a scale at which figures mean
// nothing the servers are small, as a gigabyte of redo log would be copied each time.
func (o *options) serverArgs(kind testenv.Kind) []string {
	pool, redo := "512M", "1G"
	if o.scale < 0.005 {
		pool, redo = "64M", "64M"
	}
	option := "--innodb-redo-log-capacity="
	if kind == testenv.MariaDB {
		option = "--innodb-log-file-size="
	}
	return []string{"--innodb-buffer-pool-size=" + pool, option + redo, "--max-allowed-packet=64M"}
}

// A durability is what a target does before it says that a transaction is
// committed: "1/1" writes binary log and redo log to the disk, "0/2" leaves both to
// the system.
type durability string

const (
	strict  durability = "1/1"
	relaxed durability = "0/2"
)

// relaxedSuffix makes the name of a part of that of its workload.
const relaxedSuffix = "-relaxed"

// targetArgs make a target as it would be in production. All contenders get the
// same.
func (o *options) targetArgs(kind testenv.Kind, d durability) []string {
	args := append(o.serverArgs(kind), "--sync-binlog="+string(d[0]), "--innodb-flush-log-at-trx-commit="+string(d[2]), "--innodb-doublewrite=ON")
	if kind == testenv.MariaDB {
		args = append(args, "--log-slave-updates=ON") // MySQL's default
	}
	return args
}

// A lab holds what all measurements share.
type lab struct {
	opts    *options
	dir     string
	source  *database // of MySQL
	sites   map[testenv.Kind]*site
	version string
	basic   string // the built binary of examples/basic
}

// A site is a source, and what targets of its kind are made of.
type site struct {
	opts     *options
	kind     testenv.Kind
	source   *database
	template string // data folder of an empty target that was stopped
	version  string
}

// openLab starts the source of MySQL, unless nothing but MariaDB is measured, and
// makes the template of the targets.
func openLab(ctx context.Context, dir string, o *options) (*lab, error) {
	l := &lab{opts: o, dir: dir, sites: make(map[testenv.Kind]*site)}
	if o.needsMySQL() {
		s, err := l.site(ctx, testenv.MySQL97)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.source, l.version = s.source, s.version
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// site returns the source of a kind, which it starts the first time.
func (l *lab) site(ctx context.Context, kind testenv.Kind) (s *site, err error) {
	if s := l.sites[kind]; s != nil {
		return s, nil
	}
	say("starting a source, %s", kind)
	s = &site{opts: l.opts, kind: kind}
	if s.source, err = launch(ctx, kind, filepath.Join(l.dir, string(kind)+"-source"), l.opts.sourceArgs(kind)); err != nil {
		return nil, err
	}
	l.sites[kind] = s // so that it will be closed
	if err = s.source.QueryRowContext(ctx, "SELECT @@version").Scan(&s.version); err != nil {
		return nil, err
	}
	// A set of GTIDs that is not empty is less to think about.
	if err = s.source.exec(ctx, "CREATE DATABASE beginning"); err != nil {
		return nil, err
	}
	s.template = filepath.Join(l.dir, string(kind)+"-template")
	t, err := launch(ctx, kind, s.template, l.opts.targetArgs(kind, relaxed))
	if err != nil {
		return nil, err
	}
	for _, d := range []*database{s.source, t} {
		if err = l.prepare(ctx, d); err != nil {
			t.close()
			return nil, err
		}
	}
	t.DB.Close()
	return s, t.Stop()
}

// prepare creates, unlogged, the tables of all parts that will run.
func (l *lab) prepare(ctx context.Context, d *database) error {
	db, err := open(d.Server, "sql_log_bin=0")
	if err != nil {
		return err
	}
	defer db.Close()
	for _, w := range append(workloads(), latencyWorkload(l.opts.rounds)) {
		if w.kind != d.Kind() || !l.opts.uses(w) {
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

// launchTarget starts a fresh target of MySQL in dir, with full durability.
func (l *lab) launchTarget(ctx context.Context, dir string) (*database, error) {
	return l.sites[testenv.MySQL97].launchTarget(ctx, dir, strict)
}

// launchTarget starts a fresh target in dir.
func (s *site) launchTarget(ctx context.Context, dir string, d durability) (*database, error) {
	if err := copyFolder(ctx, s.template, dir); err != nil {
		return nil, err
	}
	db, err := launch(ctx, s.kind, dir, s.opts.targetArgs(s.kind, d))
	if err != nil {
		return nil, err
	}
	var got durability
	err = db.QueryRowContext(ctx, "SELECT CONCAT(@@sync_binlog, '/', @@innodb_flush_log_at_trx_commit)").Scan(&got)
	if err == nil && got != d {
		err = fmt.Errorf("the target's durability is %s, and should be %s", got, d)
	}
	if err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

func (l *lab) close() error {
	var errs []error
	for _, s := range l.sites {
		errs = append(errs, s.source.close())
	}
	return errors.Join(errs...)
}

// A database is a running server with connections to it.
type database struct {
	*testenv.Server
	*sql.DB
}

func launch(ctx context.Context, kind testenv.Kind, dir string, args []string) (*database, error) {
	s, err := testenv.Launch(ctx, kind, dir, args...)
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

// gtids returns the transactions that the server has executed, or of MariaDB the
// last one of each domain.
func (d *database) gtids(ctx context.Context) (string, error) {
	var set string
	query := "SELECT @@gtid_executed"
	if d.Kind() == testenv.MariaDB {
		query = "SELECT @@gtid_binlog_pos"
	}
	err := d.QueryRowContext(ctx, query).Scan(&set)
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
	return poll(ctx, failed, func() (bool, error) {
		var n int
		err := conn.QueryRowContext(ctx, query).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		return err == nil, err
	})
}

// init keeps the driver from logging what it also returns, such as that a
// connection was closed by an interrupt.
func init() { mysql.SetLogger(&mysql.NopLogger{}) }
