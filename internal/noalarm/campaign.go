//go:build unix

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// A campaign is a source that is written to, a pipeline, and a target that is
// verified.
type campaign struct {
	source, target testenv.Kind
	writers, rate  int
	seed           uint64
	duration       time.Duration
	plantEvery     int         // rounds
	enough         func() bool // if set, it goes on beyond duration until this is so, for five minutes at most

	from, to *sql.DB
	src, dst *testenv.Server
	pg       *testenv.Postgres // the target, if it is PostgreSQL
	file     string            // of SQLite

	written  atomic.Int64
	rounds   int
	rows     uint64
	looked   uint64
	planted  int
	slowest  time.Duration
	began    time.Time
	failures []string
}

// tables are created on both sides. Rows of hot from 1000 on are left alone by the
// workload, so that faults can be planted there which do not stop the pipeline.
var tables = []string{
	"hot (id int PRIMARY KEY, flag int, text varchar(40), n int)",
	"logs (id int AUTO_INCREMENT PRIMARY KEY, a int)",
	"moves (id varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n int)",
	"bag (a int, b int)",
}

// work are the transactions of the workload, in which # is a key that is one
// writer's own.
var work = [][]string{
	{"UPDATE a.hot SET flag=1-flag WHERE id=#"},
	{"DELETE FROM a.hot WHERE id=#"},
	{"INSERT IGNORE INTO a.hot VALUES (#,0,'x',0)"},
	{"BEGIN", "DELETE FROM a.hot WHERE id=#", "INSERT INTO a.hot VALUES (#,1,'y',1)", "COMMIT"},
	{"UPDATE a.hot SET n=n+1, text=RAND() WHERE id<200"},
	{"INSERT INTO a.logs (a) VALUES (#)"},
	{"DELETE FROM a.logs WHERE a=# ORDER BY id DESC LIMIT 3"},
	{"UPDATE IGNORE a.moves SET id='m#' WHERE id='M#'", "UPDATE IGNORE a.moves SET id='M#' WHERE n=#+1"},
	{"UPDATE a.bag SET a=1-a LIMIT 2"},
}

// faults are what is planted on the target.
var faults = []string{
	"UPDATE b.hot SET n=-1 WHERE id=1500",
	"DELETE FROM b.hot WHERE id=1600",
	"INSERT INTO b.hot VALUES (5000,1,'',1)",
}

// sqliteFile is the kind of a target that is a file.
const sqliteFile testenv.Kind = "sqlite"

// run returns what went wrong with the verification, and an error if the campaign
// itself did not come about.
func (c *campaign) run(ctx context.Context) ([]string, error) {
	dir, err := os.MkdirTemp("", "dfs-noalarm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if c.src, err = testenv.Launch(ctx, c.source, filepath.Join(dir, "source")); err != nil {
		return nil, err
	}
	defer c.src.Kill()
	switch c.target {
	case testenv.PostgreSQL:
		if c.pg, err = testenv.LaunchPostgres(ctx, filepath.Join(dir, "target")); err != nil {
			return nil, err
		}
		defer c.pg.Kill()
	case sqliteFile:
		c.file = filepath.Join(dir, "target.db")
	default:
		if c.dst, err = testenv.Launch(ctx, c.target, filepath.Join(dir, "target")); err != nil {
			return nil, err
		}
		defer c.dst.Kill()
	}
	if c.from, err = sql.Open("mysql", c.src.DSN("")); err != nil {
		return nil, err
	}
	defer c.from.Close()
	switch {
	case c.dst != nil:
		c.to, err = sql.Open("mysql", c.dst.DSN(""))
	case c.file != "":
		c.to, err = sql.Open("sqlite", "file:"+c.file+"?_pragma=busy_timeout(60000)")
	}
	if err != nil {
		return nil, err
	}
	if c.to != nil {
		defer c.to.Close()
	}
	if err := c.create(ctx); err != nil {
		return nil, err
	}
	halt, err := c.pipeline(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.fill(ctx); err != nil {
		return nil, errors.Join(err, halt())
	}
	rest, cancel := context.WithCancel(ctx)
	ended := c.load(rest)
	err = c.verify(ctx)
	cancel()
	return c.failures, errors.Join(err, ended(), halt())
}

func (c *campaign) create(ctx context.Context) error {
	if _, err := c.from.ExecContext(ctx, "CREATE DATABASE a"); err != nil {
		return err
	}
	if c.file == "" {
		word := "DATABASE"
		if c.pg != nil {
			word = "SCHEMA"
		}
		if err := c.change(ctx, "CREATE "+word+" b"); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if _, err := c.from.ExecContext(ctx, "CREATE TABLE a."+t); err != nil {
			return err
		}
		if c.dst == nil {
			t = strings.NewReplacer(" AUTO_INCREMENT", "", " CHARACTER SET utf8mb4", "", " COLLATE utf8mb4_general_ci", "").Replace(t)
		}
		if err := c.change(ctx, "CREATE TABLE b."+t); err != nil {
			return err
		}
	}
	return nil
}

// change runs a statement on the target, whose schema is b if it has any.
func (c *campaign) change(ctx context.Context, stmt string) error {
	if c.pg != nil {
		return c.pg.Run(ctx, stmt)
	}
	if c.file != "" {
		stmt = strings.ReplaceAll(stmt, " b.", " ")
	}
	_, err := c.to.ExecContext(ctx, stmt)
	return err
}

// openSink opens the target to write to it.
func (c *campaign) openSink(ctx context.Context) (interface {
	dfs.Sink
	Close() error
}, error) {
	routes := []sink.Route{{From: "a.*", To: "b.*"}}
	switch {
	case c.pg != nil:
		return sink.OpenPostgres(ctx, c.pg.DSN(), &sink.PostgresOptions{Routes: routes})
	case c.file != "":
		return sink.OpenSQLite(ctx, c.file, &sink.SQLiteOptions{Routes: routes})
	}
	return sink.OpenMySQL(ctx, c.dst.DSN(""), &sink.MySQLOptions{Routes: routes})
}

// aim tells a verifier what its target is.
func (c *campaign) aim(ctx context.Context, v *verify.Verifier) (done func() error, err error) {
	var r *sink.RowMender
	switch {
	case c.pg != nil:
		r, err = sink.MendPostgres(ctx, c.pg.DSN(), nil)
	case c.file != "":
		r, err = sink.MendSQLite(ctx, c.file, nil)
	default:
		v.Target = c.dst.DSN("")
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	v.TargetRows = r
	return r.Close, nil
}

// pipeline starts what carries the changes, and returns what ends it.
func (c *campaign) pipeline(ctx context.Context) (func() error, error) {
	src, err := cdc.Open(ctx, c.src.DSN(""), &cdc.Options{Tables: []string{"a.*"}, Heartbeat: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	dst, err := c.openSink(ctx)
	if err != nil {
		src.Close()
		return nil, err
	}
	started := make(chan struct{})
	var once sync.Once
	p := &dfs.Pipeline{Source: src, Sink: dst, Observe: func(dfs.Batch) { once.Do(func() { close(started) }) }}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- p.Run(inner) }()
	halt := func() error {
		cancel()
		return errors.Join(<-ended, src.Close(), dst.Close())
	}
	select {
	case <-started:
		return halt, nil
	case err := <-ended:
		ended <- err
		return nil, errors.Join(errors.New("the pipeline ended"), halt())
	}
}

func (c *campaign) fill(ctx context.Context) error {
	list := func(from, to int, format string) string {
		var all []string
		for i := from; i < to; i++ {
			all = append(all, strings.ReplaceAll(format, "#", fmt.Sprint(i)))
		}
		return strings.Join(all, ",")
	}
	for _, stmt := range []string{
		"INSERT INTO a.hot VALUES " + list(0, 3000, "(#,0,'x',#)"),
		"INSERT INTO a.moves VALUES " + list(0, 100, "('M#',#)"),
		"INSERT INTO a.bag VALUES (0,0),(1,1),(0,0)",
	} {
		if _, err := c.from.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	return nil
}

// load writes to the source until ctx ends. What is returned waits for the
// writers.
func (c *campaign) load(ctx context.Context) func() error {
	var all sync.WaitGroup
	errs := make([]error, c.writers)
	for w := range c.writers {
		all.Go(func() { errs[w] = c.write(ctx, w) })
	}
	return func() error {
		all.Wait()
		return errors.Join(errs...)
	}
}

func (c *campaign) write(ctx context.Context, w int) error {
	conn, err := c.from.Conn(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	r := rand.New(rand.NewPCG(c.seed, uint64(w)))
	tick := time.NewTicker(max(time.Duration(float64(time.Second)*float64(c.writers)/float64(c.rate)), time.Microsecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		k := r.IntN(20)*c.writers + w
		for _, stmt := range work[r.IntN(len(work))] {
			_, err := conn.ExecContext(context.WithoutCancel(ctx), strings.ReplaceAll(stmt, "#", fmt.Sprint(k)))
			var e *mysql.MySQLError
			if errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205) {
				continue // it lost to another writer
			}
			if err != nil && !(errors.As(err, &e) && e.Number == 1062) {
				return fmt.Errorf("%s: %w", stmt, err)
			}
		}
		c.written.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// verify does one round after the other until the time is over.
func (c *campaign) verify(ctx context.Context) error {
	v := &verify.Verifier{Source: c.src.DSN(""), Tables: []string{"a.*"}, Routes: []verify.Route{{From: "a.*", To: "b.*"}}, LockTime: 5 * time.Second}
	done, err := c.aim(ctx, v)
	if err != nil {
		return err
	}
	defer done()
	c.began = time.Now()
	for {
		took := time.Since(c.began)
		over := took > c.duration && (c.enough == nil || c.enough() || took > c.duration+5*time.Minute)
		if over || ctx.Err() != nil {
			return nil
		}
		want, plant := 0, c.rounds%c.plantEvery == c.plantEvery-1
		if plant {
			for _, f := range faults {
				if err := c.change(ctx, f); err != nil {
					return err
				}
			}
			want = len(faults)
			c.planted += want
		}
		v.Repair = plant
		r, err := v.Run(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		c.rounds++
		c.slowest = max(c.slowest, r.Ended.Sub(r.Began))
		found, mended := 0, 0
		for _, t := range r.Tables {
			c.rows += t.Rows
			c.looked += t.Looked
			found += len(t.Findings)
			mended += t.Repaired
			for _, why := range t.Untold {
				c.fail("round %d: nothing could be told of %s: %s", c.rounds, t.Source, why)
			}
		}
		if found != want || mended != want {
			c.fail("round %d: %d faults were planted, %d rows found and %d mended:\n%s", c.rounds, want, found, mended, r)
		}
		if len(c.failures) >= 10 {
			return nil
		}
	}
}

func (c *campaign) fail(format string, args ...any) {
	c.failures = append(c.failures, fmt.Sprintf(format, args...))
}

func (c *campaign) summary() string {
	d := time.Since(c.began)
	return fmt.Sprintf("noalarm: %s to %s, %s: %d transactions written (%.0f a second), %d rounds, %d rows compared, %d looked at again, "+
		"%d faults planted, slowest round %s, %d failures", c.source, c.target, d.Round(time.Second), c.written.Load(),
		float64(c.written.Load())/max(d.Seconds(), 1), c.rounds, c.rows, c.looked, c.planted, c.slowest.Round(time.Millisecond), len(c.failures))
}
