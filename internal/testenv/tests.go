//go:build unix

package testenv

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// timeout bounds what tests wait for a server to start or to drop a schema. A
// busy machine may need a hundred times what an idle one does.
const timeout = 2 * time.Minute

// Start is [Launch] for a test: the server has a temporary folder, and both are
// gone when the test has ended.
func Start(tb testing.TB, kind Kind, args ...string) *Server {
	tb.Helper()
	s, err := startTemp(kind, args...)
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

func startTemp(kind Kind, args ...string) (*Server, error) {
	sweep()
	base, err := os.MkdirTemp("", tempPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	s, err := Launch(ctx, kind, filepath.Join(base, "data"), args...)
	if err != nil {
		os.RemoveAll(base)
	}
	return s, err
}

// discard ends a server of startTemp. Nothing of it is wanted any more, so it
// need not stop in good order, which takes seconds.
func (s *Server) discard() error {
	if err := s.Kill(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(s.dir))
}

const tempPrefix = "dfs-testenv-" // followed by the owner's process id

// sweep removes, once, the folders of processes that ended without cleanup.
// Their servers ended with them.
var sweep = sync.OnceFunc(func() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	for _, dir := range dirs {
		id, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), tempPrefix), "-")
		if pid, err := strconv.Atoi(id); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.RemoveAll(dir)
		}
	}
})

var shared struct {
	sync.Mutex
	servers  map[Kind]*Server // nil while Main does not run
	postgres *Postgres
}

// Main runs the tests of a package that uses [Shared], and then stops the
// servers that they shared. It is for TestMain.
func Main(m *testing.M) {
	shared.Lock()
	shared.servers = make(map[Kind]*Server)
	shared.Unlock()
	defer func() {
		shared.Lock()
		defer shared.Unlock()
		for _, s := range shared.servers {
			if err := s.discard(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
		shared.servers = nil
		if shared.postgres != nil {
			if err := shared.postgres.discard(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
			shared.postgres = nil
		}
	}()
	m.Run() // its result becomes the exit code when TestMain returns
}

// Shared returns the server of the kind that all tests of the package share. It
// runs from the first call until the end of [Main]. A test keeps to schemas of
// its own, leaves global settings alone and does not halt the server; the
// binary log has the changes of all tests.
func Shared(tb testing.TB, kind Kind) *Server {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.servers == nil {
		tb.Fatal("testenv: shared servers need func TestMain(m *testing.M) { testenv.Main(m) }")
	}
	s := shared.servers[kind]
	if s == nil {
		var err error
		if s, err = startTemp(kind); err != nil {
			tb.Fatal(err)
		}
		shared.servers[kind] = s
	}
	if s.current().ended() {
		tb.Fatalf("testenv: the shared %s has ended; its log ends with\n%s", kind, s.Log())
	}
	return s
}

// DB returns connections to the server, to no schema in particular. They are
// closed when the test has ended.
func (s *Server) DB(tb testing.TB) *sql.DB {
	db := s.open()
	tb.Cleanup(func() { db.Close() })
	return db
}

// Exec executes the statements in turn, on one connection.
func (s *Server) Exec(tb testing.TB, stmts ...string) {
	tb.Helper()
	if err := s.exec(context.Background(), stmts...); err != nil {
		tb.Fatal(err)
	}
}

func (s *Server) exec(ctx context.Context, stmts ...string) error {
	db := s.open()
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, stmt := range stmts {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%s: %.200s: %w", s.kind, stmt, err)
		}
	}
	return nil
}

// schemaNames gives out names that no other test uses.
type schemaNames struct{ n atomic.Int64 }

// next returns a name that tells what test it is for, in small letters: the
// same on servers that fold them and on those that do not.
func (s *schemaNames) next(test string) string {
	test = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return fmt.Sprintf("t%d_%.50s", s.n.Add(1), strings.TrimPrefix(test, "test"))
}

// Schema creates an empty schema and returns its name, which needs no quoting.
// The schema is dropped when the test has ended.
func (s *Server) Schema(tb testing.TB) string {
	tb.Helper()
	name := s.schemas.next(tb.Name())
	s.Exec(tb, "CREATE DATABASE "+name)
	tb.Cleanup(func() {
		if s.current().ended() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		// A transaction that the test left open must not hold us up for long.
		if err := s.exec(ctx, "SET lock_wait_timeout = 20", "DROP DATABASE "+name); err != nil {
			tb.Error(err)
		}
	})
	return name
}
