//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// snapshotPart names the measurement of a first copy.
const snapshotPart = "snapshot"

// copyThreads is how many threads each contender reads with, and how many it
// writes with.
const copyThreads = 4

// smallTables are copied beside the big one.
const smallTables = 20

// copySchema is what is copied: a big table with two plain indexes, and small ones.
const copySchema = "copies"

// A copier is a way to copy a schema into an empty target.
type copier struct {
	name, title string
	copy        func(ctx context.Context, x *trial) (sample, error)
}

func copiers() []*copier {
	return []*copier{
		{"dfs", fmt.Sprintf("DFS, %d readers and %[1]d loaders", copyThreads), copyDFS},
		{"mydumper", fmt.Sprintf("mydumper, then myloader, %d threads each", copyThreads), copyMydumper},
		{"mysqldump", "mysqldump | mysql", copyMysqldump},
	}
}

func copierNames() []string {
	var names []string
	for _, c := range copiers() {
		names = append(names, c.name)
	}
	return names
}

// measureSnapshot lets each contender copy the same schema, in turn.
func (l *lab) measureSnapshot(ctx context.Context, r *report) error {
	b, err := l.fillCopies(ctx)
	if err != nil {
		return err
	}
	res := newResult(b, strict)
	for round := range l.opts.rounds {
		for _, c := range copiers() {
			if !l.opts.wants(c.name, contenderNames()) || c.name == "mysqldump" && round > 0 { // which is slow
				continue
			}
			s, err := l.copy(ctx, c, b, round)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			res.add(&contender{name: c.name, title: c.title}, s)
			say("%s: %s: %s rows/s in %.2f s", snapshotPart, c.name, count(s.rate(b.rows)), s.Wall.Seconds())
		}
	}
	r.add(res)
	if !l.opts.wants("dfs", contenderNames()) {
		return nil
	}
	t, err := l.copyUnderLoad(ctx, b)
	if err != nil {
		return fmt.Errorf("under load: %w", err)
	}
	slices.Sort(t.took)
	ms := func(share float64) float64 { return quantile(t.took, share).Seconds() * 1000 }
	r.Copy = &copyResult{Writes: t.rate, Wall: t.Wall, Beats: len(t.took), P50: ms(0.5), P99: ms(0.99), Max: ms(1)}
	say("%s: dfs under %.0f writes/s: equal in %.1f s, lag p50 %v, p99 %v, at most %v", snapshotPart, t.rate, t.Wall.Seconds(),
		quantile(t.took, 0.5).Round(time.Millisecond), quantile(t.took, 0.99).Round(time.Millisecond), t.took[len(t.took)-1].Round(time.Millisecond))
	return nil
}

// A copyResult is a copy while the source is written to.
type copyResult struct {
	Writes float64       `json:"writes"` // a second
	Wall   time.Duration `json:"wall"`
	Beats  int           `json:"beats"`  // of which each tells a lag, from commit until seen:
	P50    float64       `json:"p50_ms"` // milliseconds
	P99    float64       `json:"p99_ms"`
	Max    float64       `json:"max_ms"`
}

// fillCopies makes the rows, unlogged.
func (l *lab) fillCopies(ctx context.Context) (*backlog, error) {
	begun := time.Now()
	db, err := open(l.source.Server, "sql_log_bin=0")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	b := &backlog{workload: &workload{name: snapshotPart, schema: copySchema}, site: l.sites[testenv.MySQL97]}
	fill := func(table string, n int) error {
		b.tables = append(b.tables, table)
		b.rows += n
		create := strings.Replace(orders, "TABLE orders", "TABLE "+table, 1)
		create = strings.Replace(create, "KEY (customer))", "KEY (customer), KEY created (created, status))", 1)
		stmts := []string{create}
		const step = 200_000
		for from := 0; from < n; from += step {
			stmts = append(stmts, fmt.Sprintf(`INSERT INTO %s WITH RECURSIVE n (i) AS (SELECT %d UNION ALL SELECT i + 1 FROM n WHERE i + 1 < %d)
				SELECT i, i * 7919 %% 1000003, 1 + i %% 4, i %% 99991 / 7, CONCAT('name ', i * 31 %% 65537), CONCAT(i, '@example.com'),
				REPEAT(CONCAT('note ', i, ' '), 1 + i %% 5), i / 3e0, '2026-01-01' + INTERVAL i * 7919 %% 10000019 SECOND, '2026-01-01 12:00:00.5' FROM n`,
				table, from, min(from+step, n)))
		}
		for _, s := range stmts {
			if _, err := conn.ExecContext(ctx, s); err != nil {
				return fmt.Errorf("%.60s: %w", s, err)
			}
		}
		return nil
	}
	for _, s := range []string{"CREATE DATABASE " + copySchema, "USE " + copySchema, "SET cte_max_recursion_depth=1000000",
		"CREATE TABLE beat (id BIGINT NOT NULL PRIMARY KEY, at DATETIME(6) NOT NULL)"} {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return nil, err
		}
	}
	b.tables = append(b.tables, "beat")
	err = fill("big", scaled(10_000_000, l.opts.scale))
	for i := 0; i < smallTables && err == nil; i++ {
		err = fill(fmt.Sprintf("small%d", i+1), scaled(20_000, l.opts.scale))
	}
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, "ANALYZE TABLE big"); err != nil {
		return nil, err
	}
	if err := conn.QueryRowContext(ctx, "SELECT SUM(data_length) FROM information_schema.tables WHERE table_schema='"+copySchema+"'").Scan(&b.bytes); err != nil {
		return nil, err
	}
	b.title = fmt.Sprintf("a first copy of %s rows in %d tables, with their indexes", count(float64(b.rows)), len(b.tables))
	if b.sums, err = l.source.checksums(ctx, b.schema, b.tables); err != nil {
		return nil, err
	}
	say("%s: %s rows, %d MB, written in %.0f s", snapshotPart, count(float64(b.rows)), b.bytes>>20, time.Since(begun).Seconds())
	return b, nil
}

// trial makes a trial of a copy.
func (l *lab) copyTrial(ctx context.Context, name string, b *backlog, round int) (x *trial, end func(), err error) {
	dir, err := os.MkdirTemp(l.dir, "copy-"+name+"-")
	if err != nil {
		return nil, nil, err
	}
	x = &trial{lab: l, source: l.source, workers: nativeWorkers, backlog: b, dir: dir}
	if l.opts.profile != "" {
		x.profile = filepath.Join(l.opts.profile, fmt.Sprintf("%s-%s-%d.cpu", snapshotPart, name, round+1))
	}
	if x.target, err = l.launchTarget(ctx, filepath.Join(dir, "target")); err != nil {
		return nil, nil, err
	}
	return x, func() {
		x.target.close()
		if !l.opts.keep {
			os.RemoveAll(dir)
		}
	}, nil
}

// copy lets c copy b into an empty target, and compares the outcome.
func (l *lab) copy(ctx context.Context, c *copier, b *backlog, round int) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Hour)
	defer cancel()
	x, end, err := l.copyTrial(ctx, c.name, b, round)
	if err != nil {
		return s, err
	}
	defer end()
	if s, err = c.copy(ctx, x); err != nil {
		return s, err
	}
	return s, x.same(ctx)
}

// same compares the rows and the definitions of all tables.
func (x *trial) same(ctx context.Context) error {
	if err := x.target.compare(ctx, x.schema, x.tables, x.sums); err != nil {
		return err
	}
	for _, t := range x.tables {
		var texts [2]string
		for i, d := range [2]*database{x.source, x.target} {
			var name string
			if err := d.QueryRowContext(ctx, "SHOW CREATE TABLE "+x.schema+"."+t).Scan(&name, &texts[i]); err != nil {
				return err
			}
			lines := strings.Split(strings.ReplaceAll(texts[i], ",\n", "\n"), "\n")
			slices.Sort(lines) // an index added later stands later
			texts[i] = strings.Join(lines, "\n")
		}
		if texts[0] != texts[1] {
			return fmt.Errorf("table %s.%s of the target is\n%s\nand that of the source\n%s", x.schema, t, texts[1], texts[0])
		}
	}
	return nil
}

// run measures programs, one step after the other; those of one step run together.
func (x *trial) run(ctx context.Context, steps ...[]*exec.Cmd) (s sample, err error) {
	m := startMeter(x.source.PID(), x.target.PID())
	var self time.Duration
	var rss int64
	for i, step := range steps {
		var running []*process
		for k, cmd := range step {
			p, err := start(cmd, x.path(fmt.Sprintf("step%d-%d.log", i, k)))
			if err != nil {
				return s, err
			}
			defer p.cmd.Process.Kill() // if another has failed
			running = append(running, p)
			// An end of a pipe that we keep would hide the end of its program.
			for _, f := range [2]any{cmd.Stdin, cmd.Stdout} {
				if f, ok := f.(*os.File); ok && f != nil {
					f.Close()
				}
			}
		}
		peak := make([]int64, len(running))
		look := time.NewTicker(50 * time.Millisecond)
		for k, p := range running {
			for ended := false; !ended; {
				for k, p := range running {
					peak[k] = max(peak[k], childproc.PeakRSS(p.cmd.Process.Pid))
				}
				select {
				case <-p.done:
					ended = true
				case <-look.C:
				case <-ctx.Done():
					return s, ctx.Err()
				}
			}
			if err := running[k].failure(); err != nil {
				return s, err
			}
		}
		look.Stop()
		sum := int64(0)
		for k, p := range running {
			self, sum = self+p.cpu(), sum+peak[k]
		}
		rss = max(rss, sum)
	}
	s = m.stop()
	s.Self, s.RSS = self, rss
	return s, nil
}

func copyMysqldump(ctx context.Context, x *trial) (s sample, err error) {
	dump := x.source.Command("mysqldump", "--single-transaction", "--set-gtid-purged=OFF", "--databases", x.schema)
	load := x.target.Command("mysql")
	r, w, err := os.Pipe()
	if err != nil {
		return s, err
	}
	dump.Stdout, load.Stdin = w, r
	return x.run(ctx, []*exec.Cmd{dump, load})
}

// dumper returns a program of mydumper's for a server.
func dumper(name string, d *database, args ...string) (*exec.Cmd, error) {
	cache := os.Getenv("DFS_SERVERS")
	if cache == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(base, "dfs-servers")
	}
	path := filepath.Join(cache, "mydumper", "bin", name)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: get it by scripts/servers.sh mydumper", err)
	}
	host, port, err := net.SplitHostPort(d.Addr())
	if err != nil {
		return nil, err
	}
	return exec.Command(path, append([]string{"--host=" + host, "--port=" + port, "--user=root", fmt.Sprintf("--threads=%d", copyThreads)}, args...)...), nil
}

func copyMydumper(ctx context.Context, x *trial) (s sample, err error) {
	dir := "--outputdir=" + x.path("dump")
	dump, err := dumper("mydumper", x.source, "--database="+x.schema, "--rows=200000", dir)
	if err != nil {
		return s, err
	}
	load, err := dumper("myloader", x.target, "--directory="+x.path("dump"), "--enable-binlog", "--queries-per-transaction=1")
	if err != nil {
		return s, err
	}
	return x.run(ctx, []*exec.Cmd{dump}, []*exec.Cmd{load})
}

// copyDFS measures the job "copy" in a process of its own.
func copyDFS(ctx context.Context, x *trial) (s sample, err error) {
	cmd, err := x.copyCommand(true)
	if err != nil {
		return s, err
	}
	return x.run(ctx, []*exec.Cmd{cmd})
}

// copyCommand returns the command that copies the schema, and then ends or goes on
// with what follows.
func (x *trial) copyCommand(only bool) (*exec.Cmd, error) {
	do, queue := "follow", x.path("queue")
	if only {
		do, queue = "copy", ""
	}
	return childCommand(&job{Do: do, Queue: queue, Source: x.source.DSN(""), Target: x.target.DSN(""), Tables: []string{x.schema + ".*"}, Profile: x.profile})
}

// copy copies the tables that are followed and creates them before. If only, it
// ends with the copy, when all indexes are there; else it goes on, and has a queue as
// those have that run for long.
func (j *job) copy(ctx context.Context, only bool) error {
	stop, err := j.startProfile()
	if err != nil {
		return err
	}
	src, err := cdc.Open(ctx, j.Source, &cdc.Options{Tables: j.Tables, Snapshot: &cdc.Snapshot{Readers: copyThreads, Only: only}})
	if err != nil {
		return err
	}
	dst, err := sink.OpenMySQL(ctx, j.Target, &sink.MySQLOptions{Loaders: copyThreads})
	if err != nil {
		return err
	}
	defs, err := src.Definitions(ctx)
	if err != nil {
		return err
	}
	if _, _, err := dst.CreateTables(ctx, defs, true); err != nil {
		return err
	}
	p := &dfs.Pipeline{Source: src, Sink: dst}
	if j.Queue != "" {
		q, err := queue.Open(j.Queue, nil)
		if err != nil {
			return err
		}
		defer q.Close()
		p.Queue = q
	}
	err = p.Run(ctx)
	if err == nil && only {
		err = dst.AddIndexes(ctx)
	}
	return errors.Join(err, dst.Close(), src.Close(), stop())
}

// copyUnderLoad copies while the source gets writes at an even pace: updates of the
// big table, and rows of the table beat, by which the lag is seen.
func (l *lab) copyUnderLoad(ctx context.Context, b *backlog) (*latencyRun, error) {
	x, end, err := l.copyTrial(ctx, "load", b, 0)
	if err != nil {
		return nil, err
	}
	defer end()
	x.profile = ""
	cmd, err := x.copyCommand(false)
	if err != nil {
		return nil, err
	}
	p, err := start(cmd, x.path("dfs.log"))
	if err != nil {
		return nil, err
	}
	defer p.kill()
	began := time.Now()
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var committed []time.Time // of each beat
	writes, written := 0, make(chan error, 1)
	go func() {
		var err error
		committed, writes, err = l.writeBeats(writing, scaled(10_000_000, l.opts.scale))
		written <- err
	}()
	defer func() { stop(); <-written }()
	t := &latencyRun{}
	seen, first, err := x.watchBeats(ctx, p, func() (int, error) {
		t.Wall = time.Since(began)
		stop()
		err := <-written
		written <- nil
		return len(committed), err
	})
	if err != nil {
		return nil, err
	}
	t.rate = float64(writes) / t.Wall.Seconds()
	for i := first; i < len(committed); i++ {
		t.took = append(t.took, max(0, seen[i].Sub(committed[i])))
	}
	// The last beat is the last transaction, so all of them are there.
	own := *b
	if own.sums, err = l.source.checksums(ctx, b.schema, b.tables); err != nil {
		return nil, err
	}
	x.backlog = &own
	if err := x.same(ctx); err != nil {
		return nil, err
	}
	return t, stopDFS(ctx, p)
}

// watchBeats notes when each beat can first be seen on the target. When all has been
// copied it calls copied, which returns how many beats there are, and it returns once
// all are seen. Those before first came with the copy.
func (x *trial) watchBeats(ctx context.Context, p *process, copied func() (int, error)) (seen []time.Time, first int, err error) {
	conn, err := x.target.Conn(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	first, total := -1, -1
	for checked := time.Now(); total < 0 || len(seen) < total; {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-look.C:
		}
		id := -1
		err := conn.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), -1) FROM "+copySchema+".beat").Scan(&id)
		if err != nil && first >= 0 {
			return nil, 0, err // before that, the table is not there
		}
		if id >= 0 && first < 0 {
			first = id + 1
		}
		for now := time.Now(); len(seen) <= id; {
			seen = append(seen, now)
		}
		if time.Since(checked) < 200*time.Millisecond {
			continue
		}
		checked = time.Now()
		if err := p.gone(); err != nil {
			return nil, 0, err
		}
		if total < 0 && first >= 0 && x.copyEnded(ctx) {
			if total, err = copied(); err != nil {
				return nil, 0, err
			}
		}
	}
	return seen, first, nil
}

// copyEnded reports whether all rows have been copied and all indexes added.
func (x *trial) copyEnded(ctx context.Context) bool {
	var left int
	var pos string
	err := x.target.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM dfs.dfs_index), pos FROM dfs.dfs_checkpoint").Scan(&left, &pos)
	if err != nil {
		// The table of indexes is made only where there are some.
		err = x.target.QueryRowContext(ctx, "SELECT 0, pos FROM dfs.dfs_checkpoint").Scan(&left, &pos)
	}
	return err == nil && left == 0 && pos != "" && !strings.Contains(pos, "copy:")
}

// writeBeats writes to the source at an even pace until ctx ends. It returns when
// each beat was committed, and how many transactions there were.
func (l *lab) writeBeats(ctx context.Context, rows int) (at []time.Time, n int, err error) {
	conn, err := l.source.Conn(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	r := rand.New(rand.NewPCG(1, 2))
	for begun := time.Now(); ; n++ {
		time.Sleep(time.Until(begun.Add(time.Duration(n) * time.Second / pace)))
		if ctx.Err() != nil && n%2 == 1 {
			return at, n, nil // after a beat
		}
		q := fmt.Sprintf("INSERT INTO %s.beat VALUES (%d, NOW(6))", copySchema, len(at))
		if n%2 == 1 {
			q = fmt.Sprintf("UPDATE %s.big SET amount = amount + 1, customer = customer + 1 WHERE id = %d", copySchema, r.IntN(rows))
		}
		if _, err := conn.ExecContext(context.WithoutCancel(ctx), q); err != nil {
			return nil, 0, err
		}
		if n%2 == 0 {
			at = append(at, time.Now())
		}
	}
}
