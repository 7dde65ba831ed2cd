package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/fsize"
)

// applyUntilFull applies until the disk is full, and returns the last number
// that was stored.
func applyUntilFull(t *testing.T, q *Queue, seq uint64) uint64 {
	t.Helper()
	for ; seq < 100_000; seq += 10 {
		err := q.Apply(t.Context(), txs(seq+1, 10, 5000))
		if err == nil {
			continue
		}
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.ErrorIs(t, q.Stats().Err, dfs.ErrTransient)
		c, err := q.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, at(seq), c, "nothing of the batch is stored")
		return seq
	}
	t.Fatal("the disk is never full")
	return 0
}

// fullDisk fills the disk, empties it by reading, and goes on, three times. It
// returns the queue as opened again.
func fullDisk(t *testing.T, q *Queue) *Queue {
	seq, next := uint64(0), uint64(1) // to read
	for range 3 {
		seq = applyUntilFull(t, q, seq)
		read(t, q, next, seq)
		first := q.Stats().First
		next = seq - 19
		require.NoError(t, q.Trim(t.Context(), at(seq-20)))
		eventually(t, q, "trimmed on a full disk", func(s Stats) bool { return s.First > first })
		eventually(t, q, "it goes on by itself", func(Stats) bool {
			err := q.Apply(t.Context(), txs(seq+1, 10, 5000))
			if err != nil {
				require.ErrorIs(t, err, dfs.ErrTransient)
			}
			return err == nil
		})
		seq += 10
		require.NoError(t, q.Stats().Err)
	}
	read(t, q, next, seq)
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	require.Equal(t, seq, q.Stats().Last)
	read(t, q, next, seq)
	return q
}

func TestFullFile(t *testing.T) {
	q := newQueue(t, &Options{maxPages: 100})
	_, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	fullDisk(t, q)
}

// The same with a file system that the write-ahead log fills too, and that
// another program fills to the last byte.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", dir).CombinedOutput(); err != nil {
		// It takes a privilege that only a CI machine is sure to have. The test
		// above needs none.
		require.Empty(t, os.Getenv("CI"), "mount: %v: %s", err, bytes.TrimSpace(out))
		return
	}
	t.Cleanup(func() { require.NoError(t, exec.Command("umount", dir).Run()) })
	q := opened(t, filepath.Join(dir, "queue"), nil)
	_, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	q = fullDisk(t, q)

	other, err := os.Create(filepath.Join(dir, "other"))
	require.NoError(t, err)
	for err == nil {
		_, err = other.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	seq := q.Stats().Last
	err = q.Apply(t.Context(), txs(seq+1, 10, 100_000))
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "the disk is full")
	read(t, q, seq, seq)
	require.NoError(t, errors.Join(other.Close(), os.Remove(other.Name())))
	apply(t, q, txs(seq+1, 10, 100_000)...)
	read(t, q, seq+1, seq+10)
}

// Every write beyond a length fails, as on a disk with a fault.
func TestFailedWrite(t *testing.T) {
	if !fsize.Alone(t) {
		return
	}
	q := newQueue(t, nil)
	fill(t, q, 10, 1000)
	info, err := os.Stat(q.path + "-wal")
	require.NoError(t, err)
	failed := 0
	for limit := info.Size(); ; limit += 10_000 { // at each page of what is written
		fsize.Limit(t, limit, func() { err = q.Apply(t.Context(), txs(11, 10, 40_000)) })
		if err == nil {
			break
		}
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.ErrorContains(t, err, "disk I/O error")
		require.ErrorIs(t, q.Stats().Err, dfs.ErrTransient)
		c, err := q.Checkpoint(t.Context())
		require.NoError(t, err)
		require.Equal(t, at(10), c)
		failed++
	}
	require.Greater(t, failed, 10)
	require.NoError(t, q.Stats().Err)
	read(t, q, 1, 20)
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	read(t, q, 1, 20)
}

// After a failed fsync nobody knows what is on the disk, and later successes do
// not tell: the queue takes nothing more until it has been opened anew.
func TestFailedFsyncEndsWriting(t *testing.T) {
	q := newQueue(t, nil)
	fill(t, q, 3, 100)
	e := new(sqlite.Error)
	code := reflect.ValueOf(e).Elem().FieldByName("code")
	*(*int)(code.Addr().UnsafePointer()) = sqlite3.SQLITE_IOERR_FSYNC
	failing := func(*group) error { return wrap(q.path, "write", e) }
	require.Error(t, q.ask(t.Context(), failing))

	err := q.Apply(t.Context(), txs(4, 1, 100))
	require.ErrorContains(t, err, "the disk did not confirm a write; restart")
	require.NotErrorIs(t, err, dfs.ErrTransient)
	_, err = q.Checkpoint(t.Context())
	require.ErrorContains(t, err, "did not confirm")
	require.ErrorContains(t, q.Reset(t.Context(), at(9)), "did not confirm")
	require.ErrorContains(t, q.Stats().Err, "did not confirm")
	require.NoError(t, q.Close())
	q = opened(t, q.path, nil)
	fill(t, q, 1, 100)
	read(t, q, 1, 4)
}

// A batch that cannot be stored must not be the end of the queue either.
func TestBadBatch(t *testing.T) {
	q := newQueue(t, nil)
	for range 5 {
		batch := txs(1, 20, 100_000)
		batch[19].Changes = make([]dfs.Change, 1)
		err := q.Apply(t.Context(), batch)
		require.ErrorContains(t, err, "transaction 20 has both Encoded and Changes")
		batch = txs(1, 20, 100)
		batch[10].Seq++
		require.ErrorIs(t, q.Apply(t.Context(), batch), dfs.ErrGap)
	}
	c, err := q.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Zero(t, c)
	apply(t, q, txs(1, 20, 100_000)...)
	read(t, q, 1, 20)
}

// alter changes the file beside the queue, as no program should.
func alter(t *testing.T, q *Queue, query string, args ...any) {
	t.Helper()
	db, conn, err := openWriter(q.path, new(Options))
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), query, args...)
	require.NoError(t, err)
	require.NoError(t, errors.Join(conn.Close(), db.Close()))
}

func TestDamagedBlockIsNeverDecoded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	q, err := Open(path, nil)
	require.NoError(t, err)
	defer q.Close()
	fill(t, q, 10, 500)
	alter(t, q, "UPDATE block SET data = CAST(substr(data, 1, 100) || x'00' || substr(data, 102) AS BLOB) WHERE id = 7")

	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	follow(t, s, 1, 6) // what stands before it is good
	for range 2 {
		_, err = s.Next(t.Context(), make([]*dfs.Transaction, 10))
		var corrupt *CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.Equal(t, []any{path, int64(7), uint64(7)}, []any{corrupt.Path, corrupt.Block, corrupt.Seq})
		require.ErrorContains(t, err, "its checksum is wrong")
		require.ErrorContains(t, err, "remove the file")
		require.NotErrorIs(t, err, dfs.ErrTransient)
	}

	// The last block says where the queue stands, so it is checked at once.
	alter(t, q, "UPDATE block SET last = 11 WHERE id = 10")
	require.NoError(t, q.Close())
	_, err = Open(path, nil)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.EqualValues(t, 10, corrupt.Block)
}

func TestMissingBlockIsNoticed(t *testing.T) {
	q, err := Open(filepath.Join(t.TempDir(), "queue"), nil)
	require.NoError(t, err)
	defer q.Close()
	fill(t, q, 10, 500)
	alter(t, q, "DELETE FROM block WHERE id = 7")
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	follow(t, s, 1, 6)
	_, err = s.Next(t.Context(), make([]*dfs.Transaction, 10))
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	_, err = q.Open(t.Context(), at(6))
	require.ErrorAs(t, err, &corrupt)
}

// Whatever byte of the file is changed: either all is as it was, or there is an
// error. Never is anything wrong or missing without one.
func TestDamagedFileNeverGivesWrongRows(t *testing.T) {
	dir := memory(t)
	path := filepath.Join(dir, "queue")
	q := opened(t, path, nil)
	fill(t, q, 20, 100)
	fill(t, q, 10, 30_000)
	apply(t, q, txs(31, 500, 100)...)
	require.NoError(t, q.Close())
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(5, 6))
	noticed := 0
	for i := range 150 {
		damaged := append([]byte(nil), file...)
		at := rng.IntN(len(file))
		if i%3 == 0 { // where the structure is
			at = at/pageSize*pageSize + rng.IntN(64)
		}
		damaged[at] ^= 1 << rng.IntN(8)
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		require.NoError(t, os.WriteFile(copied, damaged, 0o600))
		err := readAll(t, copied, 530)
		if err != nil {
			noticed++
		}
		for _, name := range []string{"", "-wal", "-shm", ".lock"} {
			os.Remove(copied + name)
		}
	}
	require.Greater(t, noticed, 50)
	t.Logf("%d of 150 changes were noticed, the others harmless", noticed)
}

// readAll fails the test if what can be read differs from what tx makes.
func readAll(t *testing.T, path string, n uint64) error {
	q, err := Open(path, nil)
	if err != nil {
		return err
	}
	defer q.Close()
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for seq := uint64(1); seq <= n; {
		if q.Stats().Last < seq {
			return errors.New("it says that there is no more")
		}
		batch := make([]*dfs.Transaction, 100)
		k, err := s.Next(ctx, batch)
		if err != nil {
			return err
		}
		for _, got := range batch[:k] {
			require.Equal(t, tx(seq, len(got.Encoded)), got)
			seq++
		}
	}
	return nil
}

// A file that is deleted or replaced while it is in use is noticed: nothing else would
// tell, as it goes on to work until the program ends.
func TestAQueueWhoseFileIsGoneSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	q := opened(t, path, nil)
	require.NoError(t, q.Apply(t.Context(), txs(1, 3, 10)))
	require.False(t, q.Stats().Gone)
	require.NoError(t, os.Rename(path, path+".away"))
	require.True(t, q.Stats().Gone)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.True(t, q.Stats().Gone, "another file")
	require.NoError(t, os.Rename(path+".away", path))
	require.False(t, q.Stats().Gone)
}
