package verify_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// child, if set, is what the test program does instead of tests where its environment
// says so.
var child func(job string) int

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if job := os.Getenv("DFS_VERIFY_CHILD"); job != "" && child != nil {
		os.Exit(child(job))
	}
	testenv.Main(m)
}

const (
	my97  = testenv.MySQL97
	my56  = testenv.MySQL56
	maria = testenv.MariaDB
)

// A lab is a source and a target with a pipeline between them, and schemas of
// different names, so that every comparison goes through a route.
type lab struct {
	t        testing.TB
	src, dst *testenv.Server
	from, to *sql.DB
	schema   string // of the source; the target's ends in _to
	name     string // of the pipeline
	stages   []dfs.Stage
	routes   []sink.Route

	stop  func()
	ended chan error
}

func newLab(t *testing.T, from, to testenv.Kind) *lab {
	l := &lab{t: t, src: testenv.Shared(t, from)}
	if from == to {
		l.dst = testenv.Start(t, to)
	} else {
		l.dst = testenv.Shared(t, to)
	}
	l.from, l.to = l.src.DB(t), l.dst.DB(t)
	l.schema = l.src.Schema(t)
	l.name = strings.ReplaceAll(fmt.Sprintf("%s %s %.30s", from, to, l.schema), ".", "")
	l.exec(l.to, "CREATE DATABASE "+l.target())
	t.Cleanup(func() { l.dst.Exec(t, "DROP DATABASE "+l.target()) })
	l.routes = []sink.Route{{From: l.schema + ".*", To: l.target() + ".*"}}
	return l
}

func (l *lab) target() string { return l.schema + "_to" }

// exec runs statements, in which S. and T. stand for the schemas.
func (l *lab) exec(db *sql.DB, stmts ...string) {
	l.t.Helper()
	for _, s := range stmts {
		if _, err := db.ExecContext(l.t.Context(), l.sql(s)); err != nil {
			l.t.Fatalf("%.200s: %v", s, err)
		}
	}
}

// run starts the pipeline, and waits until it has begun.
func (l *lab) run() {
	l.t.Helper()
	src, err := cdc.Open(l.t.Context(), l.src.DSN(""), &cdc.Options{Tables: []string{l.schema + ".*"}, Heartbeat: 50 * time.Millisecond})
	require.NoError(l.t, err)
	dst, err := sink.OpenMySQL(l.t.Context(), l.dst.DSN(""), &sink.MySQLOptions{Name: l.name, Routes: l.routes})
	require.NoError(l.t, err)
	started := make(chan struct{})
	var once sync.Once
	p := &dfs.Pipeline{Source: src, Sink: dst, Stages: l.stages, Observe: func(dfs.Batch) { once.Do(func() { close(started) }) }}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	l.ended = ended
	go func() { ended <- p.Run(ctx) }()
	select {
	case <-started:
	case err := <-ended:
		l.t.Fatal(err)
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			l.t.Errorf("the pipeline: %v", err)
		}
		src.Close()
		dst.Close()
	})
	l.t.Cleanup(l.stop)
}

func (l *lab) verifier() *verify.Verifier {
	v := &verify.Verifier{Source: l.src.DSN(""), Target: l.dst.DSN(""), Tables: []string{l.schema + ".*"}, Name: l.name,
		Patience: 2 * time.Minute, LockTime: 5 * time.Second}
	for _, r := range l.routes {
		v.Routes = append(v.Routes, verify.Route(r))
	}
	return v
}

func (l *lab) verify(v *verify.Verifier) *verify.Report {
	l.t.Helper()
	r, err := v.Run(l.t.Context())
	require.NoError(l.t, err)
	return r
}

// passed waits until the target has all that the source has, by a row of its own.
func (l *lab) passed() {
	l.t.Helper()
	l.exec(l.from, "INSERT INTO S.zz_end VALUES (NULL)")
	var want, got int
	require.NoError(l.t, l.from.QueryRow("SELECT MAX(id) FROM "+l.schema+".zz_end").Scan(&want))
	require.Eventually(l.t, func() bool {
		select {
		case err := <-l.ended:
			l.ended <- err
			l.t.Fatalf("the pipeline ended: %v", err)
		default:
		}
		return l.to.QueryRow("SELECT IFNULL(MAX(id),0) FROM "+l.target()+".zz_end").Scan(&got) == nil && got >= want
	}, 3*time.Minute, 2*time.Millisecond)
}

func (l *lab) both(stmts ...string) {
	l.t.Helper()
	for _, s := range stmts {
		l.exec(l.from, s)
		l.exec(l.to, replace(s, "S.", "T."))
	}
}

// table returns what was found of a table of the source.
func table(t *testing.T, r *verify.Report, name string) verify.TableReport {
	t.Helper()
	for _, x := range r.Tables {
		if x.Source == name {
			return x
		}
	}
	t.Fatalf("the report has no table %s:\n%s", name, r)
	return verify.TableReport{}
}

// rows returns the values of many rows, in which # is a number.
func rows(from, to int, format string) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, replace(format, "#", strconv.Itoa(i)))
	}
	return strings.Join(all, ",")
}
