//go:build unix

package restore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/childproc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// A job is what this program does as another process, which is killed.
type job struct {
	Restore          bool // or archive
	DSN, Schema, Dir string
	To, Name         string
}

const jobEnv = "DFS_RESTORE_JOB"

// child does a job, if there is one.
func child() bool {
	text := os.Getenv(jobEnv)
	if text == "" {
		return false
	}
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		fmt.Println("begun")
		err = j.do(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

var options = sink.ArchiveOptions{SegmentBytes: 8 << 10, Key: []byte("01234567890123456789012345678901"), Logger: quiet}

func (j *job) do(ctx context.Context) error {
	o := options
	o.ReadOnly = j.Restore
	a, err := sink.OpenArchive(j.Dir, &o)
	if err != nil {
		return err
	}
	if j.Restore {
		return restoreTo(ctx, a, j.DSN, j.Name, j.Schema, j.To, dfs.StopPoint{}, false)
	}
	src, err := cdc.Open(ctx, j.DSN, &cdc.Options{Tables: []string{j.Schema + ".*"}, Snapshot: &cdc.Snapshot{ChunkRows: 5}, Logger: quiet})
	if err != nil {
		return err
	}
	if a.End().Seq == 0 {
		defs, err := definitions(ctx, src)
		if err == nil {
			err = a.Baseline(ctx, defs)
		}
		if err != nil {
			return err
		}
	}
	return archive(ctx, src, a)
}

// A process is a job that runs.
type process struct {
	cmd  *exec.Cmd
	done chan error
}

func (j *job) start(t *testing.T) *process {
	t.Helper()
	text, err := json.Marshal(j)
	require.NoError(t, err)
	p := &process{cmd: exec.Command(os.Args[0]), done: make(chan error, 1)}
	p.cmd.Env, p.cmd.Stderr = append(os.Environ(), jobEnv+"="+string(text)), os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, childproc.Start(p.cmd, func(err error) { p.done <- err }))
	t.Cleanup(func() { p.cmd.Process.Kill() })
	line := bufio.NewScanner(out)
	require.True(t, line.Scan())
	return p
}

// kill kills the process within some time, unless it ends before, and reports
// whether it was killed.
func (p *process) kill(t *testing.T, within time.Duration) bool {
	t.Helper()
	select {
	case err := <-p.done:
		require.NoError(t, err)
		return false
	case <-time.After(time.Duration(rand.Int64N(int64(within)))):
	}
	p.cmd.Process.Kill()
	var exit *exec.ExitError
	if err := <-p.done; err != nil {
		require.True(t, errors.As(err, &exit), err)
		return true
	}
	return false
}

// Whatever moment it is killed at, the archive has each transaction once, and a
// restore ends where the source was.
func TestArchiveAndRestoreSurviveKill(t *testing.T) {
	ctx, rng := t.Context(), random(t)
	srv := testenv.Shared(t, testenv.MySQL97)
	s := newShop(t, srv, rng)
	target, look := srv.Schema(t), srv.DB(t)
	keep := &job{DSN: srv.DSN(""), Schema: s.schema, Dir: t.TempDir()}
	for range *kills {
		p := keep.start(t)
		for range 1 + rng.IntN(8) {
			s.rows()
		}
		p.kill(t, 500*time.Millisecond)
		s.rows()
	}
	p := keep.start(t)
	last := s.states[len(s.states)-1]
	o := options
	o.ReadOnly = true
	var a *sink.Archive
	require.Eventually(t, func() bool {
		if a != nil {
			a.Close()
		}
		var err error
		if a, err = sink.OpenArchive(keep.Dir, &o); err != nil {
			a = nil
			return false
		}
		_, bases := a.List()
		return len(bases) > 0 && bases[0].Done > 0 && covers(a.End().Pos, last.id[strings.LastIndex(last.id, ":")+1:])
	}, 3*time.Minute, 20*time.Millisecond)
	p.kill(t, time.Millisecond)
	defer a.Close()
	seen, seq := make(map[string]int), uint64(0)
	require.NoError(t, a.Each(ctx, dfs.StopPoint{}, dfs.StopPoint{}, nil, func(tx *dfs.Transaction) error {
		seq++
		require.Equal(t, seq, tx.Seq)
		if tx.Encoded != nil && !tx.Snapshot {
			seen[tx.ID]++
		}
		return nil
	}))
	for id, n := range seen {
		require.Equal(t, 1, n, id)
	}
	r, err := sink.VerifyArchive(ctx, keep.Dir, &sink.VerifyArchiveOptions{Key: options.Key, Decode: new(cdc.Source).Decode})
	require.NoError(t, err)
	require.Empty(t, r.Faults)

	killed := 0
	for n := 0; n < *kills; n++ {
		back := *keep
		back.Restore, back.To, back.Name = true, target, fmt.Sprint(target, n)
		srv.Exec(t, "DROP DATABASE "+target, "CREATE DATABASE "+target)
		for back.start(t).kill(t, time.Duration(200+300*rng.IntN(5))*time.Millisecond) {
			if killed++; killed%3 == 0 {
				p := back.start(t)
				require.NoError(t, <-p.done)
				break
			}
		}
		require.Equal(t, last.hash, hash(t, look, target), "restore %d", n)
	}
	t.Logf("%d transactions, %d segments; the archive was killed %d times, restores %d times", seq, r.Segments, *kills, killed)
}
