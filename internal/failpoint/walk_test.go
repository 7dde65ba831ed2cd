//go:build unix

package failpoint_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/failpoint"
	"github.com/dataflowsync/dfs/internal/testenv"
)

var (
	count = flag.Int("failpoints", 0, "walk each point with each line that may come to it, so often (make failpoints COUNT=3); 0: each point once")
	only  = flag.String("point", "", "walk this point only")
)

// A rig is two servers and the program, which has failpoints.
type rig struct {
	source, target *testenv.Server
	src, dst       *sql.DB
	binary, dir    string
	worlds         int

	t      *testing.T // lives as long as the servers
	pgConn *pgconn.PgConn
	pgDSN  string
}

func newRig(t *testing.T) *rig {
	r := &rig{dir: t.TempDir(), t: t}
	r.binary = filepath.Join(r.dir, "dfs")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", r.binary, "../../examples/basic")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// Without names of columns in the log the source has a State that statements change.
	r.source = testenv.Start(t, testenv.MySQL97, "--binlog-row-metadata=MINIMAL", "--group-concat-max-len=1000000")
	r.target = testenv.Start(t, testenv.MySQL97, "--group-concat-max-len=1000000")
	r.src, r.dst = r.source.DB(t), r.target.DB(t)
	return r
}

// A world is one pipeline, from its first start on.
type world struct {
	*rig
	t      *testing.T
	line   *line
	name   string // of the pipeline, and of its schema on both sides
	folder string // where the program runs
	file   string // its configuration
	steps  int    // of the workload, done on the source
	kills  int
}

// A line is a kind of pipeline, with the workload that brings it to its points.
type line struct {
	name   string
	both   string                    // statements that make its tables, on both sides; S is the schema
	extra  string                    // statements for the target only
	other  bool                      // it has nothing on the MySQL target
	copies bool                      // it begins with a copy of the rows that there are
	ready  func(w *world)            // is called once the program has made its tables
	ends   string                    // the rest of the configuration; DIR, PORT, POSTGRES, FREE and S are filled in
	step   func(w *world, n int)     // does the n-th part of the workload on the source
	pos    func(w *world) string     // the position of the target's checkpoint
	check  func(w *world)            // compares all, at rest
	points []string                  // those that are walked with it by default
	may    []string                  // what it may come to besides: names, or how they begin
	before map[string]func(w *world) // what a point needs before the program is started
}

func (r *rig) newWorld(t *testing.T, l *line) *world {
	r.worlds++
	w := &world{rig: r, t: t, line: l, name: fmt.Sprintf("%s_%d", l.name, r.worlds)}
	w.folder = filepath.Join(r.dir, w.name)
	require.NoError(t, os.Mkdir(w.folder, 0o700))
	w.source.Exec(t, w.statements("CREATE DATABASE S; USE S; "+l.both)...)
	if !l.other {
		w.target.Exec(t, w.statements("CREATE DATABASE S; USE S; "+l.both+"; "+l.extra)...)
	}
	w.file = filepath.Join(w.folder, "dfs.yaml")
	_, port, err := net.SplitHostPort(w.source.Addr())
	require.NoError(t, err)
	start := ""
	if !l.copies {
		start = ", start: now" // the target has the rows that the source has
	}
	text := fmt.Sprintf("name: S\nsource: {host: 127.0.0.1, port: %s, user: root, tables: S.*, snapshot: SNAPSHOT%s}\n%s", port, start, l.ends)
	require.NoError(t, os.WriteFile(w.file, []byte(w.fill(text)), 0o600))
	if !l.copies {
		require.False(t, w.until("")) // from here on the log is followed
	}
	if l.ready != nil {
		l.ready(w)
	}
	return w
}

func (w *world) fill(text string) string {
	_, port, err := net.SplitHostPort(w.target.Addr())
	require.NoError(w.t, err)
	snapshot := "false"
	if w.line.copies {
		snapshot = "{readers: 2, chunk_rows: 1000}"
	}
	if strings.Contains(text, "FREE") {
		address, err := testenv.FreeAddr()
		require.NoError(w.t, err)
		text = strings.ReplaceAll(text, "FREE", address)
	}
	if strings.Contains(text, "POSTGRES") {
		w.pg()
		text = strings.ReplaceAll(text, "POSTGRES", w.pgDSN)
	}
	for _, p := range [][2]string{{"SNAPSHOT", snapshot}, {"DIR", w.folder}, {"PORT", port}} {
		text = strings.ReplaceAll(text, p[0], p[1])
	}
	return named(text, w.name)
}

// named puts the schema's name in the place of the word S.
func named(text, schema string) string {
	var b strings.Builder
	word := func(c byte) bool {
		return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	for i := range len(text) {
		if text[i] == 'S' && (i == 0 || !word(text[i-1])) && (i == len(text)-1 || !word(text[i+1]) || text[i+1] == '_') {
			b.WriteString(schema)
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

func (w *world) statements(text string) (list []string) {
	for s := range strings.SplitSeq(named(text, w.name), ";") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// do runs statements on the source.
func (w *world) do(text string, args ...any) {
	w.t.Helper()
	w.source.Exec(w.t, w.statements(fmt.Sprintf(text, args...))...)
}

func (w *world) executed() (set string) {
	require.NoError(w.t, w.src.QueryRowContext(w.t.Context(), "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')").Scan(&set))
	return strings.ToLower(set)
}

// one returns the value of a query, or "" if there is none.
func (w *world) one(db *sql.DB, query string) string {
	var v sql.NullString
	if err := db.QueryRowContext(w.t.Context(), named(query, w.name)).Scan(&v); err != nil {
		return ""
	}
	return v.String
}

// A run is one process of the program.
type run struct {
	mu   sync.Mutex
	out  bytes.Buffer
	cmd  *exec.Cmd
	done chan struct{}
}

func (r *run) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *run) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// start starts the program, which is to die at a point, unless that is "".
func (w *world) start(point string) *run {
	r := &run{cmd: exec.Command(w.binary, "run", "-c", w.file, "-plain"), done: make(chan struct{})}
	r.cmd.Dir = w.folder
	r.cmd.Env = append(os.Environ(), "DFS_FAILPOINT="+point)
	r.cmd.Stdout, r.cmd.Stderr = r, r
	require.NoError(w.t, childproc.Start(r.cmd, func(error) { close(r.done) }))
	return r
}

// end ends the program by SIGKILL.
func (w *world) end(r *run) {
	r.cmd.Process.Kill()
	<-r.done
}

// until lets the program run until it dies at a point, or the target has come to
// where the source is, and reports whether it died. Any other end is a failure.
func (w *world) until(point string) (died bool) {
	w.t.Helper()
	r := w.start(point)
	defer w.end(r)
	ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer cancel()
	set := w.executed()
	for stopping := false; ; {
		select {
		case <-r.done:
			status := r.cmd.ProcessState.Sys().(syscall.WaitStatus)
			name, _, _ := strings.Cut(point, ":")
			if stopping && status.ExitStatus() == 0 {
				return false
			}
			require.True(w.t, status.Signaled() && status.Signal() == syscall.SIGKILL && strings.Contains(r.said(), "failpoint: dying at "+name),
				"%s, to die at %q, ended by itself: %v\n%s", w.name, point, r.cmd.ProcessState, r.said())
			w.kills++
			return true
		case <-ctx.Done():
			w.t.Fatalf("%s, to die at %q, does not come to %s: it is at %s\n%s", w.name, point, set, w.line.pos(w), r.said())
		case <-time.After(5 * time.Millisecond):
		}
		if !stopping && strings.Contains(w.line.pos(w), set) {
			if point == "" {
				return false
			}
			// It may be about to die: who reads may see what is on its way to the disk.
			stopping = true
			if err := r.cmd.Process.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
				require.NoError(w.t, err)
			}
		}
	}
}

// write does the next part of the workload.
func (w *world) write() {
	w.steps++
	w.line.step(w, w.steps)
}

// dieAt brings the program to a point where it dies, if the line comes there.
func (w *world) dieAt(point string, nth int) bool {
	w.t.Helper()
	if before := w.line.before[point]; before != nil {
		before(w)
	}
	w.write()
	if nth > 1 {
		point = fmt.Sprint(point, ":", nth)
	}
	return w.until(point)
}

// settle brings all to the target, and compares.
func (w *world) settle() {
	w.t.Helper()
	w.write()
	require.False(w.t, w.until(""))
	w.line.check(w)
}

// reaches reports whether the line may come to the point.
func (l *line) reaches(point string) bool {
	return slices.ContainsFunc(slices.Concat(l.points, l.may), func(p string) bool { return p == point || strings.HasSuffix(p, ".") && strings.HasPrefix(point, p) })
}

// The program is killed at each point, and goes on: all that the source has is on the
// target, once. By default each line is one pipeline, killed at one point after the
// other; with -failpoints each point is walked with each line that may come to it, in
// a pipeline of its own, and at later times than the first, too.
func TestTheProgramDiesAtEachPoint(t *testing.T) {
	r := newRig(t)
	walked := make(map[string]bool)
	want := func(p string) bool { return *only == "" || *only == p }
	kills := 0
	all := slices.Concat(lines, otherLines)
	for i := range all {
		l := &all[i]
		t.Run(l.name, func(t *testing.T) {
			if *count > 0 {
				for _, p := range failpoint.Points {
					if l.reaches(p.Name) && want(p.Name) {
						t.Run(p.Name, func(t *testing.T) { kills += r.often(t, l, p.Name, walked) })
					}
				}
				return
			}
			if !slices.ContainsFunc(l.points, want) {
				return
			}
			w := r.newWorld(t, l)
			for _, p := range l.points {
				if want(p) {
					require.True(t, w.dieAt(p, 1), "the line %s does not come to %s", l.name, p)
					walked[p] = true
				}
			}
			w.settle()
			kills += w.kills
		})
	}
	for _, p := range failpoint.Points {
		if want(p.Name) && !t.Failed() && !strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
			require.True(t, walked[p.Name], "no line comes to %s, where %s", p.Name, p.What)
		}
	}
	t.Logf("%d kills at %d points", kills, len(walked))
}

// often walks a point with a line, count times.
func (r *rig) often(t *testing.T, l *line, point string, walked map[string]bool) (kills int) {
	for n := range *count {
		w := r.newWorld(t, l)
		nth := 1
		if n > 0 {
			nth = 1 + rand.IntN(2*n) + n/2
		}
		for range 3 {
			if w.dieAt(point, nth) {
				walked[point] = true
				break
			}
			nth = 1
		}
		w.settle()
		kills += w.kills
		if w.kills == 0 {
			t.Logf("the line %s did not come to %s", l.name, point)
		}
	}
	return kills
}
