//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
)

// A contender is a way to bring a backlog from the source to somewhere.
type contender struct {
	name    string
	title   string
	applies bool // to a server of the source's kind
	replay  func(ctx context.Context, x *trial) (sample, error)
	compare func(ctx context.Context, x *trial) error // the target with the source; nil if replay does
}

func contenders() []*contender {
	return []*contender{
		{"dfs", "DFS, end to end", true, replayDFS, sameRows},
		{"transformed", "DFS, with a column renamed, one dropped, one computed", true, replayReshaped, sameReshaped},
		{"postgres", "DFS into PostgreSQL", false, replayPostgres, nil},
		{"sqlite", "DFS into a file of SQLite", false, replaySQLite, nil},
		{"native", fmt.Sprintf("native replica, %d workers", nativeWorkers), true, replayNative, sameRows},
		{"best", "native replica, its best count of workers", true, replayNative, sameRows},
		{"mysqlbinlog", "mysqlbinlog | mysql", true, replayMysqlbinlog, sameRows},
		{"canal", "go-mysql's canal, row by row", true, replayCanal, sameRows},
		{"capture", "DFS, capture to durable queue", false, replayChild("capture"), nil},
		{"gomysql", "go-mysql's BinlogSyncer, decode only", false, replayChild("gomysql"), nil},
	}
}

// sameRows compares all tables.
func sameRows(ctx context.Context, x *trial) error {
	return x.target.compare(ctx, x.schema, x.tables, x.sums)
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
	source  *database     // of the backlog
	dir     string        // for its files
	workers int           // of a replica
	beat    time.Duration // within which a replica must be done; 0 if it may take its time
	reshape bool          // by reshapeUnits
	target  *database     // empty; nil if the contender does not apply
	profile string        // file for a CPU profile; empty for none
	ids     string        // file of the map of ids; empty for none
}

func (x *trial) path(name string) string { return filepath.Join(x.dir, name) }

// await waits until the end of the backlog can be seen on the target.
func (x *trial) await(ctx context.Context, failed func() error) error {
	return x.target.awaitRow(ctx, "SELECT 1 FROM "+x.schema+".end_of_log", failed)
}

// build compiles the program that users run, if it will be measured.
func (l *lab) build(ctx context.Context) error {
	if !slices.ContainsFunc([]string{"dfs", "transformed", "postgres", "sqlite"}, func(name string) bool {
		return l.opts.wants(name, contenderNames())
	}) {
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
// if it is to write a profile, which it does of MySQL's targets. The target is what follows "target:" in the
// configuration; empty means the trial's server.
func (x *trial) startDFS(target string) (*process, error) {
	tables := x.schema + ".*"
	if x.profile != "" && target == "" {
		cmd, err := childCommand(&job{
			Do: "apply", Source: x.source.DSN(""), Target: x.target.DSN(""), Queue: x.path("queue"),
			Tables: []string{tables}, From: x.from, Profile: x.profile, IDs: x.ids, Reshape: x.reshape,
		})
		if err != nil {
			return nil, err
		}
		return start(cmd, x.path("dfs.log"))
	}
	if target == "" {
		target = fmt.Sprintf("{dsn: %q}", x.target.DSN(""))
	}
	config := fmt.Sprintf(`
name: bench
source:
  dsn: %q
  tables: [%q]
  start: %q
queue:
  path: queue
target: %s
`, x.source.DSN(""), tables, "gtid:"+x.from, target)
	if x.ids != "" {
		config += fmt.Sprintf("relmgr: {path: %q, source: bench}\n", x.ids)
	}
	if x.reshape {
		config += reshapeConfig
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
func replayDFS(ctx context.Context, x *trial) (sample, error) {
	return x.measureDFS(ctx, "", x.target.PID(), x.await)
}

// measureDFS lets DFS run until await finds the last row, and measures that. The
// process is the target's, if it is one.
func (x *trial) measureDFS(ctx context.Context, target string, pid int, await func(ctx context.Context, failed func() error) error) (s sample, err error) {
	m := startMeter(x.source.PID(), pid)
	p, err := x.startDFS(target)
	if err != nil {
		return s, err
	}
	if err := await(ctx, func() error { return p.gone() }); err != nil {
		p.kill()
		return s, err
	}
	s = m.stop()
	s.Self, s.RSS, s.Queue = p.cpu(), childproc.PeakRSS(p.cmd.Process.Pid), x.queueSize()
	return s, stopDFS(ctx, p)
}

// queueSize returns the bytes of the queue's files.
func (x *trial) queueSize() (n int64) {
	for _, suffix := range []string{"", "-wal"} {
		if info, err := os.Stat(x.path("queue" + suffix)); err == nil {
			n += info.Size()
		}
	}
	return n
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
			From: x.from, Last: x.last, Addr: x.source.Addr(), PID: x.source.PID(), File: x.file, Pos: x.pos, Rows: x.rows, Profile: x.profile,
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
		if _, err := stdin.Write([]byte("go\n")); err != nil {
			return s, errors.Join(err, p.wait(ctx))
		}
		var o outcome
		if err := json.NewDecoder(lines).Decode(&o); err != nil {
			return s, errors.Join(fmt.Errorf("read the outcome: %w", err), p.wait(ctx))
		}
		s = o.sample
		if o.Rows != x.rows {
			err = fmt.Errorf("%d rows came of %d", o.Rows, x.rows)
		}
		return s, errors.Join(err, p.wait(ctx))
	}
}
