//go:build unix

// Package testenv runs real database servers for tests and benchmarks.
//
// The servers are those that scripts/servers.sh has put into a folder of the
// user's cache. Each gets a data folder and a loopback port of its own, listens
// on 127.0.0.1 only and knows the user root, who has no password. On Linux none
// outlives the process that started it, however that process ends.
//
// A test that needs a server to itself, to kill it or to give it options, calls
// [Start]. All others share one per kind and work in a schema of their own:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestX(t *testing.T) {
//		s := testenv.Shared(t, testenv.MySQL97)
//		db, err := sql.Open("mysql", s.DSN(s.Schema(t)))
//		...
//
// A server that is absent fails the test; it is never skipped.
package testenv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A Kind is a server program, by the name that scripts/servers.sh gives it.
type Kind string

const (
	MySQL97 Kind = "mysql-9.7"     // the newest: full row metadata, GTIDs
	MySQL56 Kind = "mysql-5.6"     // no row metadata, no JSON: the logs of 5.6 and 5.7
	MariaDB Kind = "mariadb-10.11" // full row metadata, GTIDs of its own form
)

// Kinds returns all kinds.
func Kinds() []Kind { return []Kind{MySQL97, MySQL56, MariaDB} }

// options returns the options that every server of the kind starts with. They
// make servers that are small and quick to start, log rows, and survive their
// own death but not the machine's.
func (k Kind) options() []string {
	all := []string{
		"--bind-address=127.0.0.1",
		"--socket=mysql.sock", // within the data folder, however long its path is
		"--pid-file=mysql.pid",
		"--character-set-server=utf8mb4",
		"--local-infile=OFF",
		"--max-connections=100",
		"--performance-schema=OFF",
		"--log-bin=binlog",
		"--sync-binlog=0",
		"--innodb-buffer-pool-size=64M",
		"--innodb-doublewrite=OFF",
		"--innodb-flush-log-at-trx-commit=2",
	}
	switch k {
	case MySQL97:
		return append(all, "--binlog-row-metadata=FULL", "--gtid-mode=ON",
			"--enforce-gtid-consistency=ON", "--innodb-redo-log-capacity=256M", "--mysqlx=OFF")
	case MySQL56:
		return append(all, "--binlog-format=ROW", "--gtid-mode=ON",
			"--enforce-gtid-consistency", "--log-slave-updates")
	default:
		return append(all, "--binlog-format=ROW", "--binlog-row-metadata=FULL")
	}
}

// folder is where scripts/servers.sh has put the kind.
func (k Kind) folder() string {
	cache := os.Getenv("DFS_SERVERS")
	if cache == "" {
		base := os.Getenv("XDG_CACHE_HOME")
		if base == "" {
			base = filepath.Join(os.Getenv("HOME"), ".cache")
		}
		cache = filepath.Join(base, "dfs-servers")
	}
	return filepath.Join(cache, string(k))
}

func (k Kind) program(name string) string { return filepath.Join(k.folder(), "bin", name) }

// A Server is a running server. Its methods may be called from any goroutine.
type Server struct {
	kind    Kind
	dir     string
	args    []string
	port    int
	schemas schemaNames

	mu      sync.Mutex
	process *process // the last one started, running or not
	logFrom int64    // where in the log it began
}

// Launch starts a server in dir and waits until it answers. If dir is absent or
// empty it becomes the data folder of a new server; else it must be that of one
// launched before. The args are options of mysqld and prevail over ours. The
// caller stops the server, and owns dir.
func Launch(ctx context.Context, kind Kind, dir string, args ...string) (*Server, error) {
	dir, err := prepare(ctx, kind, dir)
	if err != nil {
		return nil, fmt.Errorf("testenv: %w", err)
	}
	s := &Server{kind: kind, dir: dir, args: args}
	// Between our look at the port and the server's bind, another may take it.
	for range 5 {
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
	return nil, fmt.Errorf("testenv: start %s: %w", kind, err)
}

// prepare returns the absolute path of dir, which is the data folder of a
// server of the kind: a copy of the empty one, if it was not one before.
func prepare(ctx context.Context, kind Kind, dir string) (string, error) {
	if _, err := os.Stat(kind.program("mysqld")); err != nil {
		return "", fmt.Errorf("no %[1]s in %[2]s: run scripts/servers.sh %[1]s", kind, filepath.Dir(kind.folder()))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// As the server will name it.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if os.Remove(dir) != nil {
		return dir, nil // not empty
	}
	// A copy that is cut short must not pass for a data folder. Unlike
	// os.CopyFS, cp keeps the holes, which are most of it.
	half := dir + ".new"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "cp", "-R", filepath.Join(kind.folder(), "data"), half).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("copy the empty data folder: %w\n%s", err, out)
	}
	return dir, os.Rename(half, dir)
}

// FreeAddr returns a loopback address on which no one listens, for a program that is
// told where to listen and may be ended and started again. Its port is none that the
// kernel would give away meanwhile.
func FreeAddr() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", fmt.Errorf("testenv: %w", err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), nil
}

// freePort returns a loopback port on which no one listens. It lies below the
// range from which kernels take ports for outgoing connections: one of those
// could occupy the port while its server is down, and a client that dials the
// port in vain could even connect to itself.
func freePort() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(32768-10000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port between 10000 and 32767")
}

// start starts the process and waits until it answers.
func (s *Server) start(ctx context.Context) error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	port := strconv.Itoa(s.port)
	cmd := exec.Command(s.kind.program("mysqld"), s.kind.options()...)
	cmd.Args = append(cmd.Args, "--datadir="+s.dir, "--tmpdir="+s.dir, "--port="+port, "--server-id="+port)
	cmd.Args = append(cmd.Args, s.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.process, s.logFrom = p, from
	s.mu.Unlock()

	if err := s.await(ctx, p); err != nil {
		p.Kill()
		<-p.done
		return fmt.Errorf("%w; its log ends with\n%s", err, s.Log())
	}
	return nil
}

// await waits until the process answers on its port.
func (s *Server) await(ctx context.Context, p *process) error {
	db := s.open()
	defer db.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// It may be another server that answers, while ours has yet to see
		// that the port is taken.
		var dir string
		err := db.QueryRowContext(ctx, "SELECT @@datadir").Scan(&dir)
		if err == nil && filepath.Clean(dir) == s.dir {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("the server ended at once: %w", p.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server to answer: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

// open returns a pool of connections that does not log what it also returns.
func (s *Server) open() *sql.DB {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "tcp", s.Addr()
	cfg.Timeout = 10 * time.Second
	cfg.Logger = &mysql.NopLogger{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		panic(err) // nothing in cfg comes from outside
	}
	return sql.OpenDB(c)
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Kind returns what the server is.
func (s *Server) Kind() Kind { return s.kind }

// Dir returns the absolute path of the data folder. The binary log is there, in
// binlog.000001 and so on.
func (s *Server) Dir() string { return s.dir }

// Addr returns the host and port, which stay the same for life.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// DSN returns the data source name, for the driver "mysql", by which root
// connects to the schema, or to none if it is empty. Options may be appended
// after a question mark.
func (s *Server) DSN(schema string) string {
	return fmt.Sprintf("root@tcp(%s)/%s", s.Addr(), schema)
}

// PID returns the id of the process that was started last.
func (s *Server) PID() int { return s.current().Pid }

// Log returns the end of what the server has logged since it was last started.
func (s *Server) Log() string {
	s.mu.Lock()
	from := s.logFrom
	s.mu.Unlock()
	f, err := os.Open(s.logFile())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 8 << 10
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		from = max(from, end-most)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "error.log") }

// Command returns the client program of that name, one of mysql, mysqladmin,
// mysqlbinlog and mysqldump, told how to reach the server. MySQL 5.6 comes
// without any and is served by MariaDB's, of which mysqldump fails there.
func (s *Server) Command(name string, args ...string) *exec.Cmd {
	kind := s.kind
	if kind == MySQL56 {
		kind = MariaDB
	}
	cmd := exec.Command(kind.program(name), "--host=127.0.0.1", "--port="+strconv.Itoa(s.port), "--user=root")
	cmd.Args = append(cmd.Args, args...)
	return cmd
}

// Kill ends the process as a crash would, and waits for its end. It does
// nothing if there is none.
func (s *Server) Kill() error {
	p := s.current()
	err := p.signal(syscall.SIGKILL)
	if err == nil {
		<-p.done
	}
	return err
}

// stopTimeout is how long a server may take to stop in good order.
const stopTimeout = time.Minute

// Stop ends the process in good order, and waits for its end: one second or two,
// and two more if clients are connected. One that takes longer than a minute is
// killed, which is an error. Stop does nothing if there is none.
func (s *Server) Stop() error {
	p := s.current()
	if p.ended() {
		return nil
	}
	// The order counts: a paused process notices the first only by the second.
	if err := errors.Join(p.signal(syscall.SIGTERM), p.signal(syscall.SIGCONT)); err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("testenv: %s did not stop within %v", s.kind, stopTimeout), s.Kill())
	}
}

// Restart starts the server again, with the same port, folder and options, and
// waits until it answers. If it runs, it is stopped first.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return fmt.Errorf("testenv: restart %s: %w", s.kind, err)
	}
	return nil
}

// Pause halts the process, so that it keeps its connections but is silent.
func (s *Server) Pause() error { return s.current().signal(syscall.SIGSTOP) }

// Resume ends a pause.
func (s *Server) Resume() error { return s.current().signal(syscall.SIGCONT) }
