//go:build linux

package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// A contender is a way to bring a backlog from the source to somewhere.
type contender struct {
	name    string
	title   string
	applies bool // to a target, which is then compared
	slow    bool // so slow that one round has to do
	replay  func(ctx context.Context, x *trial) (sample, error)
}

func contenders() []*contender {
	return []*contender{
		{"dfs", "DFS, end to end", true, false, replayDFS},
		{"native", "MySQL's own replica, 4 workers", true, false, replayNative},
		{"mysqlbinlog", "mysqlbinlog | mysql", true, true, replayMysqlbinlog},
		{"capture", "DFS, capture to durable queue", false, false, replayChild("capture")},
		{"gomysql", "go-mysql BinlogSyncer, decode only", false, false, replayChild("gomysql")},
	}
}

func contenderNames() []string {
	var names []string
	for _, c := range contenders() {
		names = append(names, c.name)
	}
	for _, name := range copierNames() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// A trial is one replay of a backlog by one contender.
type trial struct {
	*lab
	*backlog
	dir     string    // for its files
	target  *database // empty; nil if the contender does not apply
	profile string    // file for a CPU profile; empty for none
	ids     string    // file of the map of ids; empty for none
}

func (x *trial) path(name string) string { return filepath.Join(x.dir, name) }

// await waits until the end of the backlog can be seen on the target.
func (x *trial) await(ctx context.Context, failed func() error) error {
	return x.target.awaitRow(ctx, "SELECT 1 FROM "+x.schema+".end_of_log", failed)
}

// build compiles the program that users run, if it will be measured.
func (l *lab) build(ctx context.Context) error {
	replays := slices.ContainsFunc(partNames(), func(name string) bool {
		return name != snapshotPart && name != archivePart && l.opts.wants(name, partNames())
	})
	if l.opts.profile != "" || !replays || !l.opts.wants("dfs", contenderNames()) {
		return nil
	}
	l.basic = filepath.Join(l.dir, "basic")
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", l.basic,
		"github.com/dataflowsync/dfs/examples/basic").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build examples/basic: %w\n%s", err, out)
	}
	return nil
}

// startDFS starts examples/basic on the backlog, or this program in its stead
// if it is to write a profile.
func (x *trial) startDFS() (*process, error) {
	tables := x.schema + ".*"
	if x.profile != "" {
		cmd, err := childCommand(&job{
			Do: "apply", Source: x.source.DSN(""), Target: x.target.DSN(""), Queue: x.path("queue"),
			Tables: []string{tables}, From: x.from, Profile: x.profile, IDs: x.ids,
		})
		if err != nil {
			return nil, err
		}
		return start(cmd, x.path("dfs.log"))
	}
	config := fmt.Sprintf(`
name: bench
source:
  dsn: %q
  tables: [%q]
  start: %q
queue:
  path: queue
target:
  dsn: %q
`, x.source.DSN(""), tables, "gtid:"+x.from, x.target.DSN(""))
	if x.ids != "" {
		config += fmt.Sprintf("relmgr: {path: %q, source: bench}\n", x.ids)
	}
	if err := os.WriteFile(x.path("dfs.yaml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	return start(exec.Command(x.basic, "run", "-c", x.path("dfs.yaml")), x.path("dfs.log"))
}

// stopDFS ends what startDFS started.
func stopDFS(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.stop(ctx)
}

// replayDFS measures from before the start of the process until the last row
// can be seen.
func replayDFS(ctx context.Context, x *trial) (s sample, err error) {
	m := startMeter(x.source.PID(), x.target.PID())
	p, err := x.startDFS()
	if err != nil {
		return s, err
	}
	if err := x.await(ctx, func() error { return p.gone() }); err != nil {
		p.kill()
		return s, err
	}
	s = m.stop()
	s.Self, s.RSS = p.cpu(), peakRSS(p.cmd.Process.Pid)
	return s, stopDFS(ctx, p)
}

// gone says that a process has ended which should not.
func (p *process) gone() error {
	select {
	case <-p.done:
		return errors.Join(p.failure(), fmt.Errorf("%s ended early; it wrote\n%s", filepath.Base(p.cmd.Path), tail(p.log)))
	default:
		return nil
	}
}

// startNative makes the target a replica of the source. All settings of
// replication are the server's defaults.
func (x *trial) startNative(ctx context.Context, started func()) error {
	host, port := "127.0.0.1", x.source.Addr()[len("127.0.0.1:"):]
	err := x.target.exec(ctx,
		"SET GLOBAL gtid_purged = '"+x.from+"'",
		fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%s, SOURCE_USER='root', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
			host, port))
	if err != nil {
		return err
	}
	started()
	return x.target.exec(ctx, "START REPLICA")
}

// replicaError says why the target's replication stopped, if it did.
func (x *trial) replicaError(ctx context.Context) error {
	rows, err := x.target.QueryContext(ctx, "SHOW REPLICA STATUS")
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		return errors.Join(err, rows.Err(), errors.New("the target is no replica"))
	}
	values := make([]any, len(columns))
	for i := range values {
		values[i] = new(sql.NullString)
	}
	if err := rows.Scan(values...); err != nil {
		return err
	}
	var errs []error
	for _, name := range []string{"Last_IO_Error", "Last_SQL_Error"} {
		if v := values[slices.Index(columns, name)].(*sql.NullString).String; v != "" {
			errs = append(errs, fmt.Errorf("replica: %s: %s", name, v))
		}
	}
	return errors.Join(errs...)
}

func replayNative(ctx context.Context, x *trial) (s sample, err error) {
	var m *meter
	if err := x.startNative(ctx, func() { m = startMeter(x.source.PID(), x.target.PID()) }); err != nil {
		return s, err
	}
	if err := x.await(ctx, func() error { return x.replicaError(ctx) }); err != nil {
		return s, err
	}
	s = m.stop()
	return s, x.target.exec(ctx, "STOP REPLICA")
}

func replayMysqlbinlog(ctx context.Context, x *trial) (s sample, err error) {
	dump := x.source.Command("mysqlbinlog", "--read-from-remote-server", "--to-last-log",
		fmt.Sprintf("--start-position=%d", x.pos), x.file)
	load := x.target.Command("mysql", "--binary-mode")
	r, w, err := os.Pipe()
	if err != nil {
		return s, err
	}
	defer r.Close()
	defer w.Close()
	dump.Stdout, load.Stdin = w, r

	m := startMeter(x.source.PID(), x.target.PID())
	reader, err := start(load, x.path("mysql.log"))
	if err != nil {
		return s, err
	}
	writer, err := start(dump, x.path("mysqlbinlog.log"))
	if err != nil {
		reader.kill()
		return s, err
	}
	// Theirs are the only ends now, so that each notices the other's end.
	r.Close()
	w.Close()
	failed := func() error { return errors.Join(writer.failure(), reader.failure()) }
	if err := x.await(ctx, failed); err != nil {
		writer.kill()
		reader.kill()
		return s, err
	}
	s = m.stop()
	err = errors.Join(writer.wait(ctx), reader.wait(ctx))
	s.Self = writer.cpu() + reader.cpu()
	return s, err
}

// childCommand returns a command that does a job.
func childCommand(j *job) (*exec.Cmd, error) {
	b, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	return cmd, nil
}

// replayChild measures a job that tells its outcome.
func replayChild(do string) func(ctx context.Context, x *trial) (sample, error) {
	return func(ctx context.Context, x *trial) (s sample, err error) {
		cmd, err := childCommand(&job{
			Do: do, Source: x.source.DSN(""), Queue: x.path("queue"), Tables: []string{x.schema + ".*"},
			From: x.from, Last: x.last, Addr: x.source.Addr(), File: x.file, Pos: x.pos, Rows: x.rows, Profile: x.profile,
		})
		if err != nil {
			return s, err
		}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return s, err
		}
		out, in, err := os.Pipe()
		if err != nil {
			return s, err
		}
		defer out.Close()
		cmd.Stdout = in
		p, err := start(cmd, x.path(do+".log"))
		in.Close()
		if err != nil {
			return s, err
		}
		// Closing the pipe ends the reads below, should ctx end first.
		stop := context.AfterFunc(ctx, func() { p.kill() })
		defer stop()

		lines := bufio.NewReader(out)
		if line, err := lines.ReadString('\n'); line != "ready\n" {
			return s, errors.Join(err, p.wait(ctx))
		}
		m := startMeter(x.source.PID(), 0)
		if _, err := stdin.Write([]byte("go\n")); err != nil {
			return s, errors.Join(err, p.wait(ctx))
		}
		var o outcome
		if err := json.NewDecoder(lines).Decode(&o); err != nil {
			return s, errors.Join(fmt.Errorf("read the outcome: %w", err), p.wait(ctx))
		}
		s = m.stop()
		s.Wall, s.Self, s.RSS = o.Wall, o.Self, o.RSS
		if o.Rows != x.rows {
			err = fmt.Errorf("%d rows came of %d", o.Rows, x.rows)
		}
		return s, errors.Join(err, p.wait(ctx))
	}
}
