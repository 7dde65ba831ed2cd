//go:build unix

package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/jackc/pgx/v5/pgconn"
)

// PostgreSQL is the name that scripts/servers.sh gives PostgreSQL. It is a target
// only, so it is none of Kinds, and has a type of its own.
const PostgreSQL Kind = "postgresql-15"

// postgresOptions make a server that is small, and survives its own death but not
// the machine's.
var postgresOptions = []string{
	"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=100",
	"-c", "shared_buffers=64MB", "-c", "fsync=off", "-c", "autovacuum_naptime=10s", "-c", "log_timezone=GMT", "-c", "timezone=GMT",
	"-c", "dynamic_shared_memory_type=mmap",
}

// A Postgres is a running PostgreSQL server, whose user postgres has no password.
// Its methods may be called from any goroutine.
type Postgres struct {
	dir     string
	args    []string
	port    int
	schemas schemaNames

	mu      sync.Mutex
	process *process
}

// LaunchPostgres is [Launch] for PostgreSQL. The args are options of postgres. Root
// may not run it, so root runs it as another user, to whom dir then belongs.
func LaunchPostgres(ctx context.Context, dir string, args ...string) (*Postgres, error) {
	if _, err := os.Stat(PostgreSQL.program("postgres")); err != nil {
		return nil, fmt.Errorf("testenv: no %[1]s in %[2]s: run scripts/servers.sh %[1]s", PostgreSQL, filepath.Dir(PostgreSQL.folder()))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("testenv: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, fmt.Errorf("testenv: %w", err)
		}
		if out, err := exec.CommandContext(ctx, "cp", "-R", filepath.Join(PostgreSQL.folder(), "data"), dir).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("testenv: copy the empty data folder: %w\n%s", err, out)
		}
	}
	if err := give(dir); err != nil {
		return nil, fmt.Errorf("testenv: %w", err)
	}
	s := &Postgres{dir: dir, args: args}
	for range 5 { // another may take the port before the server does
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.start(ctx); err == nil {
			return s, nil
		}
		if !strings.Contains(s.Log(), "Address already in use") {
			break
		}
	}
	return nil, fmt.Errorf("testenv: start %s: %w", PostgreSQL, err)
}

// give makes a folder that of the user as whom bin/postgres runs when root starts it.
func give(folder string) error {
	if os.Geteuid() == 0 {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, 65534, 65534))
		})
		if err != nil {
			return fmt.Errorf("give the data folder to another user: %w", err)
		}
	}
	return os.Chmod(folder, 0o700)
}

func (s *Postgres) logFile() string { return s.dir + ".log" }

func (s *Postgres) start(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(PostgreSQL.program("postgres"), "-D", s.dir, "-p", strconv.Itoa(s.port))
	cmd.Args = append(append(cmd.Args, postgresOptions...), s.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	p := &process{done: make(chan struct{})}
	err = childproc.Start(cmd, func(err error) {
		p.err = err
		close(p.done)
	})
	if err != nil {
		return err
	}
	p.Process = cmd.Process
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the server ended at once: %w; its log ends with\n%s", p.err, s.Log())
		case <-ctx.Done():
			p.Kill()
			<-p.done
			return fmt.Errorf("wait for the server to answer: %w; its log ends with\n%s", errors.Join(ctx.Err(), err), s.Log())
		case <-tick.C:
		}
	}
}

// answers reports whether it is this server that answers on the port.
func (s *Postgres) answers(ctx context.Context) error {
	rows, err := s.query(ctx, "SELECT current_setting('data_directory')")
	if err == nil && filepath.Clean(rows[0][0]) != s.dir {
		return errors.New("another server answers")
	}
	return err
}

// query runs one connection's worth of SQL, and returns the last rows as text, NULL
// as "NULL".
func (s *Postgres) query(ctx context.Context, sql string) ([][]string, error) {
	return s.queryIn(ctx, "postgres", sql)
}

func (s *Postgres) queryIn(ctx context.Context, database, sql string) ([][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := pgconn.Connect(ctx, "postgres://postgres@"+s.Addr()+"/"+database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %.300s: %w", PostgreSQL, sql, err)
	}
	var out [][]string
	if n := len(results); n > 0 {
		for _, r := range results[n-1].Rows {
			row := make([]string, len(r))
			for i := range r {
				if row[i] = "NULL"; r[i] != nil {
					row[i] = string(r[i])
				}
			}
			out = append(out, row)
		}
	}
	return out, nil
}

// Addr returns the host and port, which stay the same for life.
func (s *Postgres) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// DSN returns the URL by which the user postgres connects to the database postgres.
func (s *Postgres) DSN() string { return "postgres://postgres@" + s.Addr() + "/postgres" }

// Dir returns the absolute path of the data folder.
func (s *Postgres) Dir() string { return s.dir }

// Log returns the end of what the server has logged.
func (s *Postgres) Log() string {
	f, err := os.Open(s.logFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 8 << 10
	from := int64(0)
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		from = max(0, end-most)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Postgres) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Kill ends the server as a crash of the machine's power would, but for what the
// kernel still writes: no process of it does anything more.
func (s *Postgres) Kill() error {
	p := s.current()
	err := p.signal(syscall.SIGKILL)
	if err == nil {
		<-p.done
	}
	return err
}

// Stop ends the server in good order, and its connections with it.
func (s *Postgres) Stop() error { return s.end(syscall.SIGINT) }

func (s *Postgres) end(sig syscall.Signal) error {
	p := s.current()
	if p.ended() {
		return nil
	}
	if err := errors.Join(p.signal(sig), p.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("testenv: %s did not stop within %v", PostgreSQL, stopTimeout), s.Kill())
	}
}

// Restart starts the server again, with the same port, folder and options. If it
// runs, it is stopped first.
func (s *Postgres) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	// What a killed server has left ends by itself, and must have before another
	// may begin.
	var err error
	for end := time.Now().Add(timeout); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if err = s.start(ctx); err == nil {
			return nil
		}
		if !strings.Contains(err.Error(), "shared memory block") {
			break
		}
	}
	return fmt.Errorf("testenv: restart %s: %w", PostgreSQL, err)
}

// discard ends a server of which nothing is wanted any more. Unlike a kill, this
// frees what the kernel holds for it.
func (s *Postgres) discard() error {
	if err := s.end(syscall.SIGQUIT); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(s.dir))
}

func startTempPostgres(args ...string) (*Postgres, error) {
	sweep()
	base, err := os.MkdirTemp("", tempPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s, err := LaunchPostgres(ctx, filepath.Join(base, "data"), args...)
	if err != nil {
		os.RemoveAll(base)
	}
	return s, err
}

// StartPostgres is [Start] for PostgreSQL.
func StartPostgres(tb testing.TB, args ...string) *Postgres {
	tb.Helper()
	s, err := startTempPostgres(args...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.discard(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// SharedPostgres is [Shared] for PostgreSQL.
func SharedPostgres(tb testing.TB) *Postgres {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.servers == nil {
		tb.Fatal("testenv: shared servers need func TestMain(m *testing.M) { testenv.Main(m) }")
	}
	if shared.postgres == nil {
		s, err := startTempPostgres()
		if err != nil {
			tb.Fatal(err)
		}
		shared.postgres = s
	}
	if shared.postgres.current().ended() {
		tb.Fatalf("testenv: the shared %s has ended; its log ends with\n%s", PostgreSQL, shared.postgres.Log())
	}
	return shared.postgres
}

// Exec executes statements, each by itself and on a connection of its own.
func (s *Postgres) Exec(tb testing.TB, stmts ...string) {
	tb.Helper()
	for _, stmt := range stmts {
		s.Query(tb, stmt)
	}
}

// Query returns the rows of a query as text, NULL as "NULL".
func (s *Postgres) Query(tb testing.TB, sql string) [][]string {
	tb.Helper()
	rows, err := s.query(context.Background(), sql)
	if err != nil {
		tb.Fatal(err)
	}
	return rows
}

// Run runs statements.
func (s *Postgres) Run(ctx context.Context, stmts string) error {
	_, err := s.query(ctx, stmts)
	return err
}

// Count returns the one value of a query in a database, or its error as text.
func (s *Postgres) Count(_ testing.TB, database, sql string) string {
	rows, err := s.queryIn(context.Background(), database, sql)
	if err != nil || len(rows) != 1 {
		return fmt.Sprint(err, len(rows))
	}
	return rows[0][0]
}

// Schema creates an empty schema and returns its name, which needs no quoting. It is
// dropped when the test has ended.
func (s *Postgres) Schema(tb testing.TB) string {
	tb.Helper()
	name := s.schemas.next(tb.Name())
	s.Exec(tb, "CREATE SCHEMA "+name)
	tb.Cleanup(func() {
		if s.current().ended() {
			return
		}
		// A transaction that the test left open must not hold us up.
		if _, err := s.query(context.Background(), "SET client_min_messages=warning; SET lock_timeout='20s'; DROP SCHEMA "+name+" CASCADE"); err != nil {
			tb.Error(err)
		}
	})
	return name
}
