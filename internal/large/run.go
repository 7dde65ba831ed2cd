//go:build linux

package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A job is what the command line asks for.
type job struct {
	cases  []large
	ways   []string
	scale  float64
	binary string
	keep   bool
	log    io.Writer
}

// schema holds the tables of a case, and those of them that are followed begin with t.
const schema = "large"

// serverArgs make servers that take large things, and are quick to fill. How durable
// they are does not count here, as nobody kills them.
func serverArgs(k testenv.Kind) []string {
	args := []string{"--innodb-buffer-pool-size=512M", "--max-allowed-packet=1G", "--max-binlog-size=1G",
		"--innodb-flush-log-at-trx-commit=0", "--default-storage-engine=InnoDB"}
	if k == testenv.MySQL97 {
		return append(args, "--innodb-redo-log-capacity=1G", "--table-open-cache=4000")
	}
	return append(args, "--innodb-log-file-size=1G")
}

// run runs the cases one after the other. Its error means that they could not be
// carried out.
func (j *job) run(ctx context.Context) (results []result, err error) {
	dir, err := os.MkdirTemp("", "dfs-large-")
	if err != nil {
		return nil, err
	}
	if j.keep {
		fmt.Fprintf(os.Stderr, "large: all files are in %s\n", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	if j.binary == "" {
		j.binary = filepath.Join(dir, "dfs")
		out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", j.binary,
			"github.com/dataflowsync/dfs/examples/basic").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("build the program under test: %w\n%s", err, out)
		}
	}
	var l lab
	defer func() { err = errors.Join(err, l.close()) }()
	for i := range j.cases {
		if err := l.ready(ctx, &j.cases[i], dir); err != nil {
			return results, err
		}
		of := filepath.Join(dir, j.cases[i].name)
		rs, err := j.one(ctx, &j.cases[i], l.source, l.target, of)
		results = append(results, rs...)
		if err != nil {
			return results, fmt.Errorf("%s: %w", j.cases[i].name, err)
		}
		if !j.keep {
			if err := os.RemoveAll(of); err != nil {
				return results, err
			}
		}
	}
	return results, nil
}

func (j *job) say(format string, args ...any) {
	if j.log != nil {
		fmt.Fprintf(j.log, "%s large: %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
	}
}

// A lab is a source and a target, which cases use one after the other.
type lab struct {
	kind           testenv.Kind
	args           string
	source, target *database
}

func (l *lab) close() error {
	var errs []error
	for _, d := range []*database{l.source, l.target} {
		if d != nil {
			errs = append(errs, d.close())
		}
	}
	*l = lab{}
	return errors.Join(errs...)
}

// ready makes the servers those of a case, with nothing in them and in the log.
func (l *lab) ready(ctx context.Context, c *large, dir string) (err error) {
	kind := c.kind
	if kind == "" {
		kind = testenv.MySQL97
	}
	if args := strings.Join(c.source, " "); l.source == nil || l.kind != kind || l.args != args {
		if err := l.close(); err != nil {
			return err
		}
		l.kind, l.args = kind, args
		in := filepath.Join(dir, "servers-"+c.name)
		if l.source, err = launch(ctx, kind, filepath.Join(in, "source"), append(serverArgs(kind), c.source...)); err != nil {
			return err
		}
		l.target, err = launch(ctx, kind, filepath.Join(in, "target"), append(serverArgs(kind), "--skip-log-bin"))
		return err
	}
	reset := "RESET MASTER"
	if kind == testenv.MySQL97 {
		reset = "RESET BINARY LOGS AND GTIDS"
		if err := l.source.exec(ctx, "SET GLOBAL binlog_row_metadata=FULL"); err != nil {
			return err
		}
	}
	return errors.Join(l.source.exec(ctx, "SET sql_log_bin=0", "DROP DATABASE "+schema, reset),
		l.target.exec(ctx, "DROP DATABASE "+schema, "DROP DATABASE IF EXISTS "+schema+"_dfs"))
}

// one runs one case in each of the ways. The source is filled once.
func (j *job) one(ctx context.Context, c *large, source, target *database, dir string) (results []result, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	f := &fill{database: source, scale: j.scale}
	if c.whole {
		f.scale = 1
	}
	create := append(c.create(f), "CREATE TABLE t_end (id INT PRIMARY KEY)")
	done := make(chan error, 1)
	go func() {
		done <- target.exec(ctx, append([]string{"CREATE DATABASE " + schema, "USE " + schema}, create...)...)
	}()
	err = source.exec(ctx, append([]string{"SET sql_log_bin=0", "CREATE DATABASE " + schema, "USE " + schema,
		numbers, fillNumbers, procedure, turnsProcedure}, create...)...)
	if err = errors.Join(err, <-done); err != nil {
		return nil, err
	}
	if c.wide > 0 {
		if err := source.exec(ctx, "SET sql_log_bin=0", "USE "+schema, createWide(f.of(c.wide, 1100))); err != nil {
			return nil, err
		}
	}
	if c.prepare != nil {
		if err := c.prepare(ctx, f); err != nil {
			return nil, err
		}
	}
	// So that the set of GTIDs to begin at is not empty.
	if err := source.exec(ctx, "CREATE DATABASE IF NOT EXISTS beginning"); err != nil {
		return nil, err
	}
	r := run{job: j, c: c, source: source, target: target}
	if r.start, err = source.end(ctx); err != nil {
		return nil, err
	}
	before, err := source.logged(ctx)
	if err != nil {
		return nil, err
	}
	j.say("%s: filling the source", c.name)
	began := time.Now()
	if r.size, r.changes, err = c.write(ctx, f); err != nil {
		return nil, fmt.Errorf("fill the source: %w", err)
	}
	after, err := source.logged(ctx)
	if err != nil {
		return nil, err
	}
	r.bytes = after - before
	if err := f.exec(ctx, "INSERT INTO t_end VALUES (1)"); err != nil {
		return nil, err
	}
	j.say("%s: %s, %d MiB of log, in %.1f s", c.name, r.size, r.bytes>>20, time.Since(began).Seconds())
	if r.want, err = source.checksums(ctx); err != nil {
		return nil, err
	}
	if c.wide > 0 {
		delete(r.want, "t")
	}
	for i, way := range j.ways {
		if i > 0 {
			if err := target.exec(ctx, append([]string{"DROP DATABASE " + schema, "DROP DATABASE IF EXISTS " + schema + "_dfs",
				"CREATE DATABASE " + schema, "USE " + schema}, create...)...); err != nil {
				return results, err
			}
		}
		one := r
		one.dir = filepath.Join(dir, way)
		one.result = result{Case: c.name, Way: way, Size: r.size}
		if err := os.Mkdir(one.dir, 0o755); err != nil {
			return results, err
		}
		if err := one.carry(ctx); err != nil {
			return results, fmt.Errorf("%s: %w", way, err)
		}
		write(j.progress(), []result{one.result})
		results = append(results, one.result)
	}
	return results, nil
}

func (j *job) progress() io.Writer {
	if j.log == nil {
		return io.Discard
	}
	return j.log
}

// A run carries what a source was filled with to its target.
type run struct {
	*job
	c              *large
	source, target *database
	start          string // where the source's log begins, as the configuration has it
	size           string
	changes        int
	bytes          int64 // of log
	want           map[string]string
	dir            string
	result
}

// A moment is when to kill the program.
type moment struct {
	queue bool // there is none without a queue
	come  func(ctx context.Context, r *run) (bool, error)
}

// stored is when the queue has a part of what the source has logged.
func stored(part float64) moment {
	return moment{queue: true, come: func(_ context.Context, r *run) (bool, error) {
		return float64(r.queueSize()) >= part*float64(r.bytes), nil
	}}
}

// applying is when the target has done a part of the changes, and none is committed.
func applying(part float64) moment {
	return moment{come: func(ctx context.Context, r *run) (bool, error) {
		var n int64
		err := r.target.QueryRowContext(ctx, "SELECT COALESCE(MAX(trx_rows_modified), 0) FROM information_schema.innodb_trx").Scan(&n)
		return float64(n) >= part*float64(r.changes), err
	}}
}

// moved is when the target has that many transactions.
func moved(seq int64) moment {
	return moment{come: func(ctx context.Context, r *run) (bool, error) {
		at, err := r.checkpoint(ctx)
		return at.seq >= seq, err
	}}
}

type checkpoint struct{ seq, pos, state int64 }

// checkpoint returns the target's, with the lengths of its texts.
func (r *run) checkpoint(ctx context.Context) (at checkpoint, err error) {
	err = r.target.QueryRowContext(ctx, "SELECT seq, LENGTH(pos), COALESCE(LENGTH(state), 0) FROM "+schema+"_dfs.dfs_checkpoint").
		Scan(&at.seq, &at.pos, &at.state)
	if err == sql.ErrNoRows || err != nil && (strings.Contains(err.Error(), "doesn't exist") || strings.Contains(err.Error(), "Unknown database")) {
		return checkpoint{}, nil
	}
	return at, err
}

func (r *run) queueSize() (n int64) {
	for _, name := range []string{"queue", "queue-wal"} {
		if info, err := os.Stat(filepath.Join(r.dir, name)); err == nil {
			n += info.Size()
		}
	}
	return n
}

// carry has the program carry all, killing it on the way, and compares.
func (r *run) carry(ctx context.Context) error {
	config := fmt.Sprintf("name: large\nsource:\n  dsn: %q\n  tables: [%q]\n  start: %q\ntarget:\n  dsn: %q\n  checkpoint_schema: %s\n",
		r.source.DSN(""), schema+".t*", r.start, r.target.DSN(""), schema+"_dfs")
	if r.Way == "queue" {
		config += "queue:\n  path: queue\n"
	}
	if r.c.wide > 0 {
		config += wideUnits((&fill{scale: r.scale}).of(r.c.wide, 1100))
	}
	file := filepath.Join(r.dir, "dfs.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	applied := false
	for _, m := range r.c.kills {
		if applied || m.queue && r.Way != "queue" {
			continue
		}
		p, err := r.launch(file)
		if err != nil {
			return err
		}
		began := time.Now()
		come, err := r.until(ctx, p, m.come)
		if applied = err == nil && !come; applied {
			r.say("%s, %s: all was applied before it could be killed", r.Case, r.Way)
			r.Took, r.CPU = time.Since(began), childproc.CPUTime(p.cmd.Process.Pid)
			if err := p.end(ctx, syscall.SIGTERM); err != nil {
				return err
			}
			continue
		}
		if err = errors.Join(err, p.end(ctx, syscall.SIGKILL)); err != nil {
			return err
		}
		r.Kills++
		r.say("%s, %s: killed", r.Case, r.Way)
		if err := r.nothingOrAll(ctx); err != nil {
			return err
		}
	}
	if !applied {
		p, err := r.launch(file)
		if err != nil {
			return err
		}
		began := time.Now()
		_, err = r.until(ctx, p, func(context.Context, *run) (bool, error) { return false, nil })
		r.Took, r.CPU = time.Since(began), childproc.CPUTime(p.cmd.Process.Pid)
		if err = errors.Join(err, p.end(ctx, syscall.SIGTERM)); err != nil {
			return err
		}
	}
	got, err := r.target.checksums(ctx)
	if err != nil {
		return err
	}
	for table, want := range r.want {
		if got[table] != want {
			r.Faults = append(r.Faults, fmt.Sprintf("%s has the checksum %s on the target, and %s on the source", table, got[table], want))
		}
	}
	if len(got) != len(r.want) {
		r.Faults = append(r.Faults, fmt.Sprintf("the target has %d tables, and the source %d", len(got), len(r.want)))
	}
	if r.Rows, err = r.target.rows(ctx); err != nil {
		return err
	}
	at, err := r.checkpoint(ctx)
	r.State, r.Pos = at.state, at.pos
	most := int64(limit)
	if r.c.over > 0 {
		most += int64(float64(r.c.over) * min(r.scale, 1))
	}
	if r.RSS > most {
		r.Faults = append(r.Faults, fmt.Sprintf("it had %d MiB resident, and may have %d", r.RSS>>20, most>>20))
	}
	return err
}

// until waits until come says so, or all is applied, and then returns false. It notes
// what the program takes meanwhile.
func (r *run) until(ctx context.Context, p *process, come func(context.Context, *run) (bool, error)) (bool, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// In this order, as what is killed once all is applied proves nothing.
		yes, err := come(ctx, r)
		if err != nil {
			return false, err
		}
		r.RSS = max(r.RSS, childproc.PeakRSS(p.cmd.Process.Pid))
		r.Queue = max(r.Queue, r.queueSize())
		var end int
		err = r.target.QueryRowContext(ctx, "SELECT 1 FROM "+schema+".t_end").Scan(&end)
		if err != sql.ErrNoRows || yes {
			if err == sql.ErrNoRows {
				err = nil
			}
			return yes && end == 0, err
		}
		select {
		case <-p.done:
			return false, fmt.Errorf("the program has ended by itself: %v\n%s", p.err, p.tail())
		case <-ctx.Done():
			return false, fmt.Errorf("%w; the program's log ends with\n%s", ctx.Err(), p.tail())
		case <-tick.C:
		}
	}
}

// nothingOrAll looks, after a kill, whether the target has a part of what is one
// transaction.
func (r *run) nothingOrAll(ctx context.Context) error {
	if !r.c.one {
		return nil
	}
	var some bool
	if err := r.target.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+schema+".t)").Scan(&some); err != nil || !some {
		return err
	}
	got, err := r.target.checksums(ctx)
	if err == nil && got["t"] != r.want["t"] {
		r.Faults = append(r.Faults, "a part of a transaction was left behind by a kill")
	}
	return err
}

// A process is the program under test.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

func (r *run) launch(config string) (*process, error) {
	p := &process{cmd: exec.Command(r.binary, "run", "-c", config, "-plain"), log: filepath.Join(r.dir, "log"), done: make(chan struct{})}
	return p, p.start()
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
	db, err := sql.Open("mysql", s.DSN("")+"?maxAllowedPacket=0")
	if err != nil {
		return nil, errors.Join(err, s.Kill())
	}
	return &database{s, db}, nil
}

// close ends the server as nobody needs its data any more.
func (d *database) close() error { return errors.Join(d.DB.Close(), d.Kill()) }

// exec executes statements over one connection.
func (d *database) exec(ctx context.Context, stmts ...string) error {
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, s := range stmts {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.200s: %w", s, err)
		}
	}
	// With the variables of its session nobody else must get it.
	if err := conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(err, driver.ErrBadConn) {
		return err
	}
	return nil
}

// end returns the place where the log ends, as the option start has it.
func (d *database) end(ctx context.Context) (string, error) {
	if d.Kind() == testenv.MySQL97 {
		var mode, set string
		err := d.QueryRowContext(ctx, "SELECT @@gtid_mode, @@gtid_executed").Scan(&mode, &set)
		if err != nil || mode == "ON" {
			return "gtid:" + strings.ReplaceAll(set, "\n", ""), err
		}
	}
	logs, err := d.logs(ctx)
	if err != nil {
		return "", err
	}
	last := logs[len(logs)-1]
	return fmt.Sprintf("file:%s:%d", last.name, last.size), nil
}

type logFile struct {
	name string
	size int64
}

func (d *database) logs(ctx context.Context) (list []logFile, err error) {
	rows, err := d.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	for err == nil && rows.Next() {
		var l logFile
		var encrypted string
		err = rows.Scan([]any{&l.name, &l.size, &encrypted}[:len(columns)]...)
		list = append(list, l)
	}
	return list, errors.Join(err, rows.Err())
}

// logged returns how many bytes the log has.
func (d *database) logged(ctx context.Context) (n int64, err error) {
	logs, err := d.logs(ctx)
	for _, l := range logs {
		n += l.size
	}
	return n, err
}

// followed returns the names of the tables that are followed.
func (d *database) followed(ctx context.Context) (names []string, err error) {
	rows, err := d.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema=? AND table_name LIKE 't%'", schema)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// checksums returns a checksum of each table's rows, whatever their order.
func (d *database) checksums(ctx context.Context) (map[string]string, error) {
	names, err := d.followed(ctx)
	if err != nil {
		return nil, err
	}
	sums := make(map[string]string)
	for some := range slices.Chunk(names, 200) {
		err := func() error {
			rows, err := d.QueryContext(ctx, "CHECKSUM TABLE "+schema+"."+strings.Join(some, ","+schema+"."))
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var name, sum string
				if err := rows.Scan(&name, &sum); err != nil {
					return err
				}
				sums[strings.TrimPrefix(name, schema+".")] = sum
			}
			return rows.Err()
		}()
		if err != nil {
			return nil, err
		}
	}
	return sums, nil
}

// rows counts the rows of all tables that are followed.
func (d *database) rows(ctx context.Context) (n int64, err error) {
	names, err := d.followed(ctx)
	if err != nil {
		return 0, err
	}
	for some := range slices.Chunk(names, 200) {
		var m int64
		err := d.QueryRowContext(ctx, "SELECT (SELECT COUNT(*) FROM "+schema+"."+strings.Join(some, ")+(SELECT COUNT(*) FROM "+schema+".")+")").Scan(&m)
		if err != nil {
			return 0, err
		}
		n += m
	}
	return n, nil
}
