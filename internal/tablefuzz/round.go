//go:build unix

package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/same"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// patience is how long a target may take to have what a round wrote.
const patience = 2 * time.Minute

// A round is random tables, random changes of them through a pipeline of random
// options, and a comparison.
type round struct {
	p              pair
	seed           uint64
	r              *rand.Rand
	source, target *server
	dir            string // for the queue
	schema         string

	conn    *sql.Conn // to the source
	script  bytes.Buffer
	tables  []*table
	refused int // statements that the source refused
	took    int // and those that it took

	start   string
	opts    sink.MySQLOptions
	part    int
	queued  bool
	applied chan struct{}
	done    chan error // nil unless the pipeline runs
	stop    context.CancelFunc
	log     bytes.Buffer
}

var roundNumber atomic.Int64

// run returns what was compared, and an error that tells a difference or why
// the pipeline stopped.
func (d *round) run(ctx context.Context) (res same.Result, err error) {
	d.r = rand.New(rand.NewPCG(d.seed, uint64(len(d.p.name))<<32+uint64(d.p.name[0])))
	number := roundNumber.Add(1)
	d.schema = fmt.Sprintf("fuzz%d", number)
	for _, s := range []*server{d.source, d.target} {
		if err := s.exec(ctx, "CREATE DATABASE "+d.schema+" CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"); err != nil {
			return res, err
		}
		defer func() { err = errors.Join(err, s.exec(context.WithoutCancel(ctx), "DROP DATABASE "+d.schema)) }()
	}
	if d.conn, err = d.source.session(ctx, d.schema); err != nil {
		return res, err
	}
	defer func() { d.conn.Close() }()
	if err := d.design(ctx); err != nil {
		return res, err
	}
	if d.start, err = d.source.position(ctx); err != nil {
		return res, err
	}
	defer func() {
		if d.done != nil {
			d.stop()
			<-d.done
		}
	}()
	if err := d.write(ctx, number); err != nil {
		return res, err
	}
	if err := d.await(ctx, fmt.Sprintf("%d end", number)); err != nil {
		return res, err
	}
	if err := d.halt(); err != nil {
		return res, err
	}
	res, err = same.Compare(ctx, d.source.db, d.target.db, same.Options{Schemas: []string{d.schema}, Most: 3})
	if err == nil && len(res.Differences) > 0 {
		var all []error
		for _, x := range res.Differences {
			all = append(all, errors.New(x.String()))
		}
		err = errors.Join(all...)
	}
	return res, err
}

// mayRefuse reports whether err is one that the sink's documentation promises: of
// text that is none, where a row event could not bring it.
func (d *round) mayRefuse(err error) bool {
	var text *sink.TextError
	if !errors.As(err, &text) {
		return false
	}
	if d.opts.SQLOnly || d.target.Kind() == testenv.MariaDB || text.Op == dfs.Update {
		return true
	}
	for _, t := range d.tables {
		if d.schema+"."+strings.ReplaceAll(strings.Trim(t.name, "`"), "``", "`") == text.Table {
			return !t.byEvents()
		}
	}
	return false
}

// design makes the tables on both sides, and chooses the pipeline's options.
func (d *round) design(ctx context.Context) error {
	to, err := d.target.session(ctx, d.schema)
	if err != nil {
		return err
	}
	defer to.Close()
	maker := &designer{d.r, d.p}
	for n := range 1 + d.r.IntN(5) {
		t := maker.table(n, d.tables)
		if _, err := d.conn.ExecContext(ctx, t.create()); err != nil {
			d.refused++ // such as a key that is too long
			continue
		}
		if _, err := to.ExecContext(ctx, t.create()); err != nil {
			if _, err := d.conn.ExecContext(ctx, "DROP TABLE "+t.name); err != nil {
				return err
			}
			d.refused++
			continue
		}
		fmt.Fprintf(&d.script, "%s;\n", t.create())
		d.tables = append(d.tables, t)
	}
	if len(d.tables) == 0 {
		t := &table{name: "t", columns: []column{{columnType: integers("INT", 32), name: "id"}}}
		d.tables = append(d.tables, t)
		for _, conn := range []*sql.Conn{d.conn, to} {
			if _, err := conn.ExecContext(ctx, t.create()); err != nil {
				return err
			}
		}
	}
	d.opts = sink.MySQLOptions{SQLOnly: d.r.IntN(3) == 0, MaxRows: []int{0, 0, 1, 7}[d.r.IntN(4)]}
	d.part = []int{0, 0, 4096}[d.r.IntN(3)]
	d.queued = d.r.IntN(2) == 0
	return nil
}

// write runs the workload, while the pipeline starts and stops at random places.
func (d *round) write(ctx context.Context, number int64) error {
	w := &workload{r: d.r, p: d.p, tables: d.tables}
	running := d.r.IntN(2) == 0
	if running {
		if err := d.launch(ctx); err != nil {
			return err
		}
	}
	for n := range 10 + d.r.IntN(60) {
		var list []string
		if n == 0 || d.r.IntN(10) == 0 {
			list = w.settings()
		}
		for _, stmt := range append(list, w.transaction()...) {
			fmt.Fprintf(&d.script, "%s;\n", strings.ReplaceAll(stmt, "\n", "\\n"))
			switch _, err := d.conn.ExecContext(ctx, stmt); {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, sql.ErrConnDone):
				return fmt.Errorf("the source ended the session at %.300s: %w", stmt, err)
			case err != nil:
				d.refused++
			default:
				d.took++
			}
		}
		if d.r.IntN(20) == 0 {
			if running = !running; running {
				err := d.launch(ctx)
				if err != nil {
					return err
				}
			} else if err := d.halt(); err != nil {
				return err
			}
		}
	}
	return nil
}

// launch starts the pipeline where its checkpoint is.
func (d *round) launch(ctx context.Context) error {
	if d.done != nil {
		return nil
	}
	logger := slog.New(slog.NewTextHandler(&d.log, nil))
	src, err := cdc.Open(ctx, d.source.DSN(""), &cdc.Options{
		Tables: []string{d.schema + ".*", marks}, Start: d.start, MaxPart: d.part, Logger: logger})
	if err != nil {
		return err
	}
	closers := []func() error{src.Close}
	finish := func(err error) error {
		errs := []error{err}
		for _, f := range closers {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	o := d.opts
	o.Name, o.Logger = d.p.name+" "+d.schema, logger
	dst, err := sink.OpenMySQL(ctx, d.target.DSN(""), &o)
	if err != nil {
		return finish(err)
	}
	closers = append(closers, dst.Close)
	p := &dfs.Pipeline{Source: src, Sink: dst, Logger: logger}
	if d.queued {
		q, err := queue.Open(filepath.Join(d.dir, d.schema+".queue"), nil)
		if err != nil {
			return finish(err)
		}
		p.Queue = q
		closers = append(closers, q.Close)
	}
	applied, done := make(chan struct{}, 1), make(chan error, 1)
	p.Observe = func(dfs.Batch) {
		select {
		case applied <- struct{}{}:
		default: // one is enough
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	d.applied, d.done, d.stop = applied, done, cancel
	go func() { done <- finish(p.Run(ctx)) }()
	return nil
}

// halt stops the pipeline.
func (d *round) halt() error {
	if d.done == nil {
		return nil
	}
	d.stop()
	err := <-d.done
	d.done = nil
	return err
}

// await waits until the target has a row that the source gets now.
func (d *round) await(ctx context.Context, mark string) error {
	if err := d.launch(ctx); err != nil {
		return err
	}
	mark = d.p.name + " " + mark
	if err := d.source.exec(ctx, "INSERT INTO "+marks+" VALUES ('"+mark+"')"); err != nil {
		return err
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		var n int
		if err := d.target.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+marks+" WHERE id='"+mark+"'").Scan(&n); err != nil || n == 1 {
			return err
		}
		select {
		case <-d.applied:
		case err := <-d.done:
			d.done = nil
			return fmt.Errorf("the pipeline stopped: %w", err)
		case <-timeout.C:
			return fmt.Errorf("the target is not there after %v", patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// save writes what reproduces the round on the source.
func (d *round) save(file string, cause error) error {
	head := fmt.Sprintf("-- %s\n-- go run ./internal/tablefuzz -pairs %s -seed %d -rounds 1\n", strings.ReplaceAll(cause.Error(), "\n", "\n-- "), d.p.name, d.seed)
	head += fmt.Sprintf("-- sink options: %+v; MaxPart %d; queue %v\n", d.opts, d.part, d.queued)
	return os.WriteFile(file, append([]byte(head), d.script.Bytes()...), 0o644)
}

// marks is the table whose rows tell how far the target is.
const marks = "fuzz_marks.marks"

// A server is a source or a target.
type server struct {
	*testenv.Server
	db *sql.DB
}

func (s *server) exec(ctx context.Context, stmts ...string) error {
	for _, stmt := range stmts {
		if _, err := s.db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s: %.300s: %w", s.Kind(), stmt, err)
		}
	}
	return nil
}

// session returns a connection with the schema as its default, whose settings are
// those of the workload's first transaction at most.
func (s *server) session(ctx context.Context, schema string) (*sql.Conn, error) {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, stmt := range []string{"USE " + schema, "SET NAMES utf8mb4", "SET SESSION sql_mode='', innodb_lock_wait_timeout=5"} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// position returns the end of the log, as cdc.Options.Start takes it.
func (s *server) position(ctx context.Context) (string, error) {
	query := "SELECT REPLACE(@@global.gtid_executed, '\n', '')"
	if s.Kind() == testenv.MariaDB {
		query = "SELECT @@global.gtid_binlog_pos"
	}
	var set string
	err := s.db.QueryRowContext(ctx, query).Scan(&set)
	return "gtid:" + set, err
}
