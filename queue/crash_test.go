package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

var background = context.Background()

func init() {
	// write goes on from where the queue stands, in batches and parts of
	// varying length, while a reader trims, and prints each number it may rely
	// on.
	children["write"] = func(path string) {
		q, err := Open(path, &Options{Keep: 1 << 20, walBytes: 256 << 10})
		if err != nil {
			fmt.Println(err)
			return
		}
		at, err := q.Checkpoint(background)
		if err != nil {
			fmt.Println(err)
			return
		}
		s, err := q.Open(background, at)
		if err != nil {
			fmt.Println(err)
			return
		}
		go func() {
			for batch := make([]*dfs.Transaction, 100); ; {
				n, err := s.Next(background, batch)
				if err == nil {
					err = q.Trim(background, batch[n-1].Checkpoint)
				}
				if err != nil {
					fmt.Println(err)
				}
			}
		}()
		for n, seq := 1, at.Seq; ; n = n*7%1999 + 1 {
			batch := txs(seq+1, n, 300)
			for i, tx := range batch {
				tx.More = n%5 == 0 && i < n-1
			}
			if n%10 == 0 {
				if err := q.Apply(background, batch[:n/2]); err != nil {
					fmt.Println(err)
				}
				batch = batch[n/2:]
			}
			if err := q.Apply(background, batch); err != nil {
				fmt.Println(err)
			}
			seq += uint64(n)
			fmt.Println(seq)
		}
	}
}

// Invariant I8: what was acknowledged survives kill -9, and nothing else has
// appeared that cannot be read.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	var acked, kept uint64
	// On a busy machine a child may not come far, so there are more if need be.
	for round := 0; round < 25 || kept <= 1; round++ {
		require.Less(t, round, 250, "nothing is trimmed")
		child := startChild(t, "write", path)
		time.AfterFunc(time.Duration(50+rand.IntN(250)+20*max(0, round-25))*time.Millisecond, func() { child.cmd.Process.Kill() })
		for child.out.Scan() {
			var seq uint64
			_, err := fmt.Sscan(child.out.Text(), &seq)
			require.NoError(t, err, child.out.Text())
			acked = seq
		}
		child.cmd.Wait()

		q, err := Open(path, &Options{Keep: 1 << 20})
		require.NoError(t, err)
		s := q.Stats()
		require.GreaterOrEqual(t, s.Last, acked, "round %d", round)
		read(t, q, s.First, s.Last)
		require.NoError(t, q.Close())
		verify(t, path)
		kept, acked = s.First, s.Last
	}
	t.Logf("%d transactions", acked)
}

// acknowledged says how long the write-ahead log was when Apply returned.
type acknowledged struct {
	seq uint64
	log int64
}

// A power cut leaves any prefix of what was written to the log after the last
// fsync, or garbage in its place. What was acknowledged before must be there.
func TestTornLog(t *testing.T) {
	dir := memory(t)
	path := filepath.Join(dir, "queue")
	q := opened(t, path, &Options{walBytes: -1}) // all stays in the log
	var acks []acknowledged
	rng := rand.New(rand.NewPCG(1, 2))
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	for seq := uint64(0); seq < 4000; {
		n := rng.IntN(60) + 1
		apply(t, q, txs(seq+1, n, rng.IntN(2000))...)
		seq += uint64(n)
		info, err := os.Stat(path + "-wal")
		require.NoError(t, err)
		acks = append(acks, acknowledged{seq, info.Size()})
		if n%7 == 0 {
			follow(t, s, s.(*stream).seq+1, seq)
			require.NoError(t, q.Trim(t.Context(), at(seq/2)))
		}
	}
	file, log := contents(t, path), contents(t, path+"-wal")
	require.NoError(t, q.Close())

	cuts := []int64{0, 1, 31, 32, 33, int64(len(log)) - 1, int64(len(log))}
	for range lessUnderRace(220) {
		cuts = append(cuts, rng.Int64N(int64(len(log))))
	}
	for i, cut := range cuts {
		torn := append([]byte(nil), log[:cut]...)
		if i%2 == 1 { // what the disk had there before
			for range rng.IntN(50_000) {
				torn = append(torn, byte(rng.Uint32()))
			}
		}
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		require.NoError(t, os.WriteFile(copied, file, 0o600))
		require.NoError(t, os.WriteFile(copied+"-wal", torn, 0o600))
		var want uint64
		for _, a := range acks {
			if a.log <= cut {
				want = a.seq
			}
		}
		q, err := Open(copied, nil)
		require.NoError(t, err)
		st := q.Stats()
		require.GreaterOrEqual(t, st.Last, want, "cut at %d", cut)
		read(t, q, st.First, st.Last)
		require.NoError(t, q.Close())
		verify(t, copied)
		for _, name := range []string{"", "-wal", "-shm", ".lock"} {
			os.Remove(copied + name)
		}
	}
}

// A power cut while the log is moved into the file leaves any mixture of old and
// new pages there, and the whole log.
func TestTornFile(t *testing.T) {
	dir := memory(t)
	path := filepath.Join(dir, "queue")
	q := opened(t, path, &Options{walBytes: -1})
	apply(t, q, txs(1, 500, 1000)...)
	require.NoError(t, q.w.testMoveLog())
	read(t, q, 1, 500)
	require.NoError(t, q.Trim(t.Context(), at(400)))
	apply(t, q, txs(501, 500, 1000)...)
	eventually(t, q, "trimmed", func(Stats) bool { return !q.behind() })
	before, log := contents(t, path), contents(t, path+"-wal")
	require.NoError(t, q.w.testMoveLog())
	after := contents(t, path)
	require.NoError(t, q.Close())
	require.NotEqual(t, before, after)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 40 {
		mixed := append([]byte(nil), before...)
		for p := 0; p < len(after); p += 4096 {
			if rng.IntN(2) == 0 {
				if p >= len(mixed) {
					mixed = append(mixed, make([]byte, p-len(mixed)+4096)...)
				}
				copy(mixed[p:], after[p:p+4096])
			}
		}
		copied := filepath.Join(dir, fmt.Sprint("copy", i))
		require.NoError(t, os.WriteFile(copied, mixed, 0o600))
		require.NoError(t, os.WriteFile(copied+"-wal", log, 0o600))
		q, err := Open(copied, nil)
		require.NoError(t, err)
		require.EqualValues(t, 1000, q.Stats().Last)
		read(t, q, q.Stats().First, 1000)
		require.NoError(t, q.Close())
		verify(t, copied)
	}
}

// contents reads a file of an open queue. It must not close it again while the
// queue is open: see create.
func contents(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	require.NoError(t, err)
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	require.NoError(t, err)
	return b
}

// testMoveLog moves the write-ahead log into the file, as the writer does after
// the first of these jobs, and before the second.
func (w *writer) testMoveLog() error {
	limit := int64(0)
	do := func(*group) error {
		w.log, limit, w.q.opts.walBytes = 1<<40, w.q.opts.walBytes, limit
		return nil
	}
	return errors.Join(w.q.ask(background, do), w.q.ask(background, do))
}
