package queue

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A sync fails once, as on Linux: the pages are taken for clean, reads give what was
// written, and later syncs succeed without it. The process is killed, the next one goes
// on, and then the power goes. What was confirmed is there, whichever sync it was.
func TestASyncFailsOnce(t *testing.T) {
	dir := memory(t)
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	runs, failures := 0, 0
	n, step := faultvfs.Sample(rng, 50, 8) // of more than so many
	for failed := true; failed; n += step {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			cuts := syncFails(t, filepath.Join(dir, fmt.Sprint("run", n)), rng, n)
			failed, runs = cuts > 0, runs+cuts
		})
		if failed {
			failures++
		}
	}
	if !t.Failed() {
		require.Positive(t, runs)
	}
	t.Logf("%d syncs failed, and the power was cut %d times", failures, runs)
}

// syncFails lets the n-th sync fail and the power go after that, and returns how often it
// did, which is never if there are less syncs.
func syncFails(t *testing.T, root string, rng *rand.Rand, n int) (cuts int) {
	live := filepath.Join(root, "live")
	require.NoError(t, os.MkdirAll(live, 0o700))
	disk := faultvfs.Install(t, root)
	rec := disk.Record()
	path := filepath.Join(live, "queue")
	opts := func() *Options {
		return &Options{walBytes: 32 << 10, freePages: 4, renewed: func(off int64, b []byte) { disk.Wrote(path+"-wal", off, b) }}
	}
	// grow stores transactions up to last, or until there is an error.
	grow := func(q *Queue, last uint64) error {
		for {
			at, err := q.Checkpoint(background)
			if err != nil {
				return err
			}
			rec.Mark(int(at.Seq)) // a source may let go of what it covers
			if at.Seq >= last {
				return nil
			}
			if err := q.Apply(background, txs(at.Seq+1, 4, 2000)); err != nil {
				return err
			}
		}
	}
	disk.FailAt(n, 1, faultvfs.Failed, faultvfs.Sync)
	q, err := Open(path, opts())
	if err == nil {
		err = grow(q, 60)
	}
	failed := len(disk.Stop()) > 0
	died := rec.Len()
	if q != nil {
		disk.FailAt(1, 1<<30, faultvfs.Full) // nothing more is done: the process is dead
		q.Close()
		disk.Stop()
	}
	if !failed {
		require.NoError(t, err)
		return 0
	}
	q, err = Open(path, opts())
	require.NoError(t, err)
	require.NoError(t, grow(q, uint64(q.Stats().Last+12)))
	disk.StopRecording()
	require.NoError(t, q.Close())
	total := rec.Len()
	first, step := faultvfs.Sample(rng, total-died, 5)
	for at := died + first; at <= total; at += step {
		for _, loss := range []faultvfs.Loss{faultvfs.All, faultvfs.Some} {
			after := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(after, "live"), 0o700))
			acked := rec.Crash(t, at, loss, rng, after)
			why := fmt.Sprintf("sync %d had failed, after event %d of %d; the power went after event %d, lost: %v", n, died, total, at, loss)
			path := filepath.Join(after, "live", "queue")
			q, err := Open(path, nil)
			require.NoError(t, err, why)
			s := q.Stats()
			require.GreaterOrEqual(t, int(s.Last), acked, why)
			if s.Last >= s.First {
				read(t, q, s.First, s.Last)
			}
			apply(t, q, txs(s.Last+1, 3, 1000)...)
			require.NoError(t, q.Close())
			verify(t, path)
			cuts++
		}
	}
	return cuts
}
