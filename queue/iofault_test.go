package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A keeper uses a queue as an engine and a service manager do: what fails and may
// pass is done again, and after any other error the queue is opened anew.
type keeper struct {
	t     *testing.T
	path  string
	q     *Queue
	last  uint64 // stored, as the queue has said
	tries int
	errs  []error
}

func (k *keeper) try(do func(q *Queue) error) {
	k.t.Helper()
	for tries := 0; ; tries++ {
		err := k.once(do)
		if err == nil {
			return
		}
		k.errs = append(k.errs, err)
		var corrupt *CorruptError
		require.False(k.t, errors.As(err, &corrupt), "a failed access is no damage: %v", err)
		require.Less(k.t, tries, k.tries, "it does not go on: %v", err)
		if !errors.Is(err, dfs.ErrTransient) {
			k.close()
		}
	}
}

func (k *keeper) once(do func(q *Queue) error) (err error) {
	if k.q == nil {
		q, err := Open(k.path, &Options{walBytes: 128 << 10, freePages: 8, noted: make(chan struct{}, 1)})
		if err != nil {
			return err
		}
		k.q = q
		at, err := q.Checkpoint(background)
		if err != nil {
			return err
		}
		require.GreaterOrEqual(k.t, at.Seq, k.last, "it has lost what it had confirmed")
	}
	return do(k.q)
}

func (k *keeper) close() {
	if k.q != nil {
		// It may fail; what counts is what is in the file then.
		if err := k.q.Close(); err != nil {
			k.errs = append(k.errs, err)
		}
	}
	k.q = nil
}

// store applies transactions up to last, n at a time, from where the queue says it
// stands: so a batch whose Apply failed may have been stored.
func (k *keeper) store(last uint64, n, size int) {
	k.t.Helper()
	k.try(func(q *Queue) error {
		for {
			at, err := q.Checkpoint(background)
			if err != nil {
				return err
			}
			require.GreaterOrEqual(k.t, at.Seq, k.last, "it has lost what it had confirmed")
			if k.last = at.Seq; at.Seq == last {
				return nil
			}
			require.Less(k.t, at.Seq, last)
			batch := txs(at.Seq+1, min(n, int(last-at.Seq)), size)
			for i, tx := range batch {
				tx.More = i < len(batch)-1 && n == 3 // in parts
				if tx.Seq%10 == 0 && !tx.More {
					tx.State = stateAt(tx.Seq)
				}
			}
			if err := q.Apply(background, batch); err != nil {
				return err
			}
			k.last = batch[len(batch)-1].Seq
		}
	})
}

// read reads all from from on, and compares it.
func (k *keeper) read(from, upTo uint64) {
	k.t.Helper()
	k.try(func(q *Queue) error {
		s, err := q.Open(background, dfs.Checkpoint{Seq: from - 1})
		if err != nil {
			return err
		}
		defer s.Close()
		for seq := from; seq <= upTo; {
			batch := make([]*dfs.Transaction, 50)
			n, err := s.Next(background, batch)
			if err != nil {
				return err
			}
			for _, got := range batch[:n] {
				want := tx(seq, len(got.Encoded))
				want.More = got.More
				if got.State != "" {
					want.State = stateAt(seq)
				}
				require.Equal(k.t, want, got)
				seq++
			}
		}
		return nil
	})
}

// life is all that a queue does.
func (k *keeper) life() {
	k.store(90, 10, 40_000)
	k.read(81, 90)
	k.try(func(q *Queue) error { return q.Trim(background, at(85)) })
	k.store(96, 3, 1000) // in parts
	k.try(func(q *Queue) error {
		parts := txs(97, 2, 1000)
		parts[0].More, parts[1].More = true, true
		at, err := q.Checkpoint(background) // as each session begins
		if err == nil {
			err = q.Apply(background, parts)
		}
		if err != nil {
			return err
		}
		at, err = q.Checkpoint(background) // which drops them
		require.True(k.t, err != nil || at.Seq == 96, "%v", at)
		return err
	})
	k.store(130, 1, 2000)
	k.read(86, 130)
	k.try(func(q *Queue) error { return q.Trim(background, at(130)) })
	k.try(func(q *Queue) error {
		_, err := q.Reader("other").Open(background, at(130))
		return err
	})
	again := false
	k.try(func(q *Queue) error {
		err := q.Forget(background, "other")
		if again && err != nil && strings.Contains(err.Error(), "there is none") {
			return nil // it was done, though its fsync had failed
		}
		again = true
		return err
	})
	k.close()
	k.store(140, 5, 2000)
	k.read(131, 140)
	k.try(func(q *Queue) error {
		err := q.Reset(background, at(200))
		if err == nil {
			k.last = 200
		}
		return err
	})
	k.store(210, 5, 2000)
	k.read(201, 210)
	k.close()
}

// Whichever access to the disk fails, once or a few times: it is told, nothing that
// was confirmed is lost, nothing comes twice, and the queue goes on, by itself or once
// it has been opened anew.
func TestEveryAccessFails(t *testing.T) {
	dir := memory(t)
	full := filepath.Join(dir, "full")
	q := opened(t, full, nil)
	fill(t, q, 80, 2000)
	require.NoError(t, q.Close())
	file, err := os.ReadFile(full)
	require.NoError(t, err)
	disk := faultvfs.Install(t, dir)
	path := filepath.Join(dir, "queue")
	told := 0
	run := func(tries int) func() {
		return func() {
			for _, name := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
				os.Remove(path + name)
			}
			require.NoError(t, os.WriteFile(path, file, 0o600))
			k := &keeper{t: t, path: path, last: 80, tries: tries}
			k.life()
			failed := disk.Stop()
			verify(t, path)
			told += min(len(k.errs), len(failed))
		}
	}
	sync, write := []faultvfs.Op{faultvfs.Sync}, []faultvfs.Op{faultvfs.Write}
	for _, m := range []faultvfs.Mode{
		{Runs: 25},
		{Runs: 8, Times: 3},
		{Runs: 8, Ops: write, Code: faultvfs.Full},
		{Runs: 8, Ops: sync},
	} {
		require.Positive(t, disk.Sweep(t, m, run(m.Times+1)))
	}
	if !raceEnabled { // there are few then, and not all of them matter
		require.Positive(t, told)
	}
}

// On a full disk capture waits and what is there can be read; when there is room
// again, the queue goes on within 5 seconds, by itself, as the engine asks again.
func TestFullDiskGoesOn(t *testing.T) {
	dir := memory(t)
	disk := faultvfs.Install(t, dir)
	q := opened(t, filepath.Join(dir, "queue"), nil)
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	fill(t, q, 20, 20_000)
	disk.SetFull(true)
	seq := q.Stats().Last
	for err := error(nil); err == nil; {
		if err = q.Apply(t.Context(), txs(seq+1, 5, 50_000)); err == nil {
			seq += 5
			continue
		}
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.ErrorContains(t, err, "the disk is full")
	}
	require.ErrorIs(t, q.Stats().Err, dfs.ErrTransient)
	at, err := q.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, seq, at.Seq)
	follow(t, s, 1, seq)
	disk.SetFull(false)
	begun := time.Now()
	require.NoError(t, q.Apply(t.Context(), txs(seq+1, 5, 50_000)))
	require.Less(t, time.Since(begun), 30*time.Second, "it waits for no more than the disk")
	require.NoError(t, q.Stats().Err)
	follow(t, s, seq+1, seq+5)
}

// The power fails at any moment, and of what was not yet synced any sectors may be
// there. What Apply has confirmed is there, whole, and the file is sound.
func TestPowerLoss(t *testing.T) {
	dir := memory(t)
	live := filepath.Join(dir, "live")
	require.NoError(t, os.Mkdir(live, 0o700))
	disk := faultvfs.Install(t, dir)
	rec := disk.Record()
	q, err := Open(filepath.Join(live, "queue"), &Options{walBytes: 256 << 10, freePages: 4})
	require.NoError(t, err)
	rec.Mark(0)
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	reader, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	for seq := uint64(0); seq < 600; {
		n := rng.IntN(20) + 1
		batch := txs(seq+1, n, rng.IntN(20_000))
		for i, tx := range batch {
			tx.More = n%5 == 0 && i < n-1
		}
		apply(t, q, batch...)
		seq += uint64(n)
		rec.Mark(int(seq))
		if n%4 == 0 {
			follow(t, reader, reader.(*stream).seq+1, seq)
			require.NoError(t, q.Trim(t.Context(), at(seq/2)))
		}
	}
	require.NoError(t, q.Close())
	disk.StopRecording()

	total := rec.Len()
	first, step := faultvfs.Sample(rng, total, 25)
	runs := 0
	for n := first; n <= total; n += step {
		for _, loss := range faultvfs.Losses {
			after := filepath.Join(dir, fmt.Sprint("after", runs))
			require.NoError(t, os.MkdirAll(filepath.Join(after, "live"), 0o700))
			acked := rec.Crash(t, n, loss, rng, after)
			path := filepath.Join(after, "live", "queue")
			q, err := Open(path, nil)
			require.NoError(t, err, "after %d of %d events, lost: %v", n, total, loss)
			s := q.Stats()
			require.GreaterOrEqual(t, int(s.Last), acked, "after %d of %d events, lost: %v", n, total, loss)
			if s.Last >= s.First {
				read(t, q, s.First, s.Last)
			}
			apply(t, q, txs(s.Last+1, 3, 1000)...)
			require.NoError(t, q.Close())
			verify(t, path)
			require.NoError(t, os.RemoveAll(after))
			runs++
		}
	}
	t.Logf("the power was cut %d times, among %d events", runs, total)
}
