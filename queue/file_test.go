package queue

import (
	"bufio"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func TestOpenReportsAllFaultsAtOnce(t *testing.T) {
	_, err := Open("", &Options{Keep: -1, KeepFor: -1, MaxBytes: -1})
	require.ErrorContains(t, err, "no path: name a file")
	for _, name := range []string{"Keep is -1: give", "KeepFor is -1ns: give", "MaxBytes is -1: give"} {
		require.ErrorContains(t, err, name)
	}
	_, err = Open(filepath.Join(t.TempDir(), "no", "queue"), &Options{Keep: 10, MaxBytes: 10})
	require.ErrorContains(t, err, "folder does not exist; make it first")
	require.ErrorContains(t, err, "Keep must be less")
}

func TestOpenRefusesWhatIsNoQueue(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("not a database at all\n", 100)), 0o600))
	_, err := Open(text, nil)
	require.ErrorContains(t, err, "a file of another kind; name another path")
	_, err = Open(filepath.Join(dir, "."), nil)
	require.ErrorContains(t, err, "it is a folder or a device: name a file")
	require.NoFileExists(t, dir+".lock", "nothing is made beside it")

	other := filepath.Join(dir, "other")
	exec := func(path string, stmts ...string) {
		db, err := sql.Open("sqlite", dataSource(path, ""))
		require.NoError(t, err)
		for _, s := range stmts {
			_, err = db.Exec(s)
			require.NoError(t, err)
		}
		require.NoError(t, db.Close())
	}
	exec(other, "CREATE TABLE t (c)")
	_, err = Open(other, nil)
	require.ErrorContains(t, err, "another program's SQLite database")
	_, err = Open(other, &Options{ReadOnly: true})
	require.ErrorContains(t, err, "another program's SQLite database")

	newer := filepath.Join(dir, "newer")
	q, err := Open(newer, nil)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	exec(newer, "PRAGMA user_version = 3")
	for _, opts := range []*Options{nil, {ReadOnly: true}} {
		_, err = Open(newer, opts)
		require.ErrorContains(t, err, "the file has version 3, this program reads up to 2")
	}
	_, err = Open(filepath.Join(dir, "missing"), &Options{ReadOnly: true})
	require.Error(t, err)
	require.NoFileExists(t, filepath.Join(dir, "missing"))
	_, err = Open(dir, nil)
	require.Error(t, err)
}

// A crash while the file is made leaves a database without tables.
func TestOpenGoesOnWithAnUnfinishedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	db, err := sql.Open("sqlite", dataSource(path, ""))
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	for _, s := range []string{"PRAGMA page_size = 16384", "PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA journal_mode = WAL"} {
		_, err = db.Exec(s)
		require.NoError(t, err)
	}
	require.NoError(t, db.Close())
	q := opened(t, path, nil)
	fill(t, q, 3, 100)
	require.NoError(t, q.Close())
	q = opened(t, path, nil)
	read(t, q, 1, 3)
}

func TestFileIsMadeAsMeant(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 1, 100)
	require.NoError(t, q.Close())
	for _, name := range []string{q.path, q.path + ".lock"} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	require.NoFileExists(t, q.path+"-wal")
	db, err := sql.Open("sqlite", dataSource(q.path, ""))
	require.NoError(t, err)
	defer db.Close()
	for pragma, want := range map[string]string{
		"page_size": "16384", "auto_vacuum": "2", "journal_mode": "wal",
		"application_id": fmt.Sprint(applicationID), "user_version": "1",
	} {
		var got string
		require.NoError(t, db.QueryRow("PRAGMA "+pragma).Scan(&got))
		require.Equal(t, want, got, pragma)
	}
}

func TestPathMayHoldAnyCharacter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c=d&e#f%20g;h'\"é")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "?mode=memory#q%41")
	q := opened(t, path, nil)
	fill(t, q, 3, 100)
	require.NoError(t, q.Close())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2, "the file and its lock, under their own names")
	require.FileExists(t, path)
	q = opened(t, path, nil)
	read(t, q, 1, 3)
}

func TestSecondWriterIsRefused(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 1, 100)
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(q.path, link))
	for _, path := range []string{q.path, link} {
		_, err := Open(path, nil)
		require.ErrorContains(t, err, fmt.Sprintf("process %d is writing it", os.Getpid()))
		require.ErrorContains(t, err, "ReadOnly")
	}
	fill(t, q, 1, 100) // the attempt took nothing from the first
	_, err := Open(q.path, nil)
	require.Error(t, err)
	require.NoError(t, q.Close())

	child := startChild(t, "hold", q.path)
	child.line(t) // it has opened
	_, err = Open(q.path, nil)
	require.ErrorContains(t, err, fmt.Sprintf("process %d is writing it", child.cmd.Process.Pid))
	child.kill()
	q = opened(t, q.path, nil)
	read(t, q, 1, 2)
}

func init() {
	children["hold"] = func(path string) {
		q, err := Open(path, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("opened", q.Stats().Last)
		select {}
	}
	children["follow"] = func(path string) {
		q, err := Open(path, &Options{ReadOnly: true})
		if err != nil {
			fmt.Println(err)
			return
		}
		s, err := q.Reader("follower").Open(background, dfs.Checkpoint{})
		for batch := make([]*dfs.Transaction, 10); err == nil; {
			var n int
			n, err = s.Next(background, batch)
			for _, tx := range batch[:n] {
				fmt.Println(tx.Seq, tx.Pos, len(tx.Encoded))
			}
		}
		fmt.Println(err)
	}
}

// A child is this program as another process.
type child struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startChild(t *testing.T, do, path string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), "QUEUE_TEST_CHILD="+do, "QUEUE_TEST_PATH="+path)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.out = bufio.NewScanner(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(c.kill)
	return c
}

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	require.True(t, c.out.Scan(), "the child has ended: %v", c.out.Err())
	return c.out.Text()
}

// kill is kill -9.
func (c *child) kill() {
	c.cmd.Process.Kill()
	for c.out.Scan() { // what it had said
	}
	c.cmd.Wait()
}

func TestAnotherProcessReadsWhileThisOneWrites(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 5, 1000)
	child := startChild(t, "follow", q.path)
	for seq := uint64(1); seq <= 300; seq++ {
		if seq > 5 {
			apply(t, q, tx(seq, 1000))
		}
		if seq%50 == 0 {
			require.NoError(t, q.w.testMoveLog())
		}
	}
	for seq := 1; seq <= 300; seq++ {
		require.Equal(t, fmt.Sprintf("%d pos %d %d", seq, seq, len(tx(uint64(seq), 1000).Encoded)), child.line(t))
	}
	require.Empty(t, q.Stats().Readers, "it holds nothing back")

	// Trimmed before it has read them: it is told, and does not skip.
	child.cmd.Process.Signal(sigstop)
	fill(t, q, 10, 1000)
	require.NoError(t, q.Trim(t.Context(), at(305)))
	eventually(t, q, "trimmed", func(s Stats) bool { return s.First == 306 })
	child.cmd.Process.Signal(sigcont)
	line := child.line(t)
	for seq := 301; strings.HasPrefix(line, fmt.Sprint(seq, " ")); seq++ {
		line = child.line(t) // it was quicker
	}
	require.Contains(t, line, dfs.ErrGap.Error())
}

func TestReadOnly(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 5, 100)
	part := tx(6, 100)
	part.More = true
	apply(t, q, part)
	ro := opened(t, q.path, &Options{ReadOnly: true})
	ctx := t.Context()
	require.ErrorContains(t, ro.Apply(ctx, txs(6, 1, 1)), "opened with ReadOnly")
	require.ErrorContains(t, ro.Reset(ctx, at(1)), "opened with ReadOnly")
	require.ErrorContains(t, ro.Forget(ctx, "default"), "opened with ReadOnly")
	require.NoError(t, ro.Trim(ctx, at(5)))
	c, err := ro.Checkpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, at(5), c)
	s, err := ro.Open(ctx, dfs.Checkpoint{})
	require.NoError(t, err)
	follow(t, s, 1, 5)
	apply(t, q, txs(7, 3, 100)...)
	follow(t, s, 6, 9) // the part was not dropped
	require.NoError(t, q.Trim(ctx, at(4)))
	eventually(t, q, "seen by the other", func(Stats) bool {
		s := ro.Stats()
		return s.First == 5 && s.Last == 9 && len(s.Readers) == 1 && places(s.Readers)[0] == ReaderInfo{Name: "default", Seq: 4, Lag: 5} && s.Err == nil
	})
	infos, err := ro.Readers(ctx)
	require.NoError(t, err)
	require.Len(t, infos, 1)
	_, err = ro.Open(ctx, dfs.Checkpoint{})
	require.ErrorIs(t, err, dfs.ErrGap)

	// A reader that waits sees the end of an empty queue, and of a reset one.
	require.NoError(t, q.Reset(ctx, at(50)))
	_, err = s.Next(ctx, make([]*dfs.Transaction, 1))
	require.ErrorIs(t, err, dfs.ErrGap)
	s, err = ro.Open(ctx, at(50))
	require.NoError(t, err)
	fill(t, q, 3, 100)
	follow(t, s, 51, 53)
}

// The writer was killed and nobody has opened the queue since.
func TestReadOnlyAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	child := startChild(t, "write", path)
	acked := 0
	for acked < 500 {
		_, err := fmt.Sscan(child.line(t), &acked)
		require.NoError(t, err)
	}
	child.kill()
	require.FileExists(t, path+"-wal")
	ro := opened(t, path, &Options{ReadOnly: true})
	s := ro.Stats()
	require.NoError(t, s.Err)
	require.GreaterOrEqual(t, s.Last, uint64(500))
	read(t, ro, s.First, s.Last)
	require.NoError(t, ro.Close())
	q := opened(t, path, nil)
	require.Equal(t, s.Last, q.Stats().Last)
}

func TestStatsCount(t *testing.T) {
	q := newQueue(t, nil)
	apply(t, q, txs(1, 1000, 2000)...)
	s := q.Stats()
	require.EqualValues(t, 1000, s.Transactions)
	require.EqualValues(t, 1, s.Commits)
	require.Equal(t, s.Bytes, int64(s.StoredBytes))
	require.Greater(t, s.RawBytes, uint64(2_000_000))
	require.EqualValues(t, 8, s.Blocks)
	require.Greater(t, s.FileBytes, int64(1_000_000))
	used := cpuUsed(t)
	for range 1000 {
		q.Stats()
	}
	require.Less(t, cpuUsed(t)-used, 5*time.Second, "it is asked often")
}
