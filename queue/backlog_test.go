package queue

import (
	"context"
	"database/sql"
	"flag"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

var backlogLength = flag.Int("backlog", 0, "how many transactions wait in TestALongBacklogCostsNoMore; by default few, and only what is plain to see is judged")

// A longQueue is a queue with a backlog, of which it is measured what it costs to add
// to its end and to read from its beginning.
type longQueue struct {
	*Queue
	path   string
	length int
	txs    []dfs.Transaction
	batch  []*dfs.Transaction
	stream dfs.Stream
	seq    uint64
	read   uint64
	least  time.Duration // processor time of a round
	fast   time.Duration // the time of the fastest
}

func (q *longQueue) fill(t *testing.T, n int) {
	for n > 0 {
		k := min(n, len(q.batch))
		for i := range k {
			q.seq++
			q.txs[i].Seq = q.seq
		}
		if err := q.Apply(t.Context(), q.batch[:k]); err != nil {
			t.Fatal(err)
		}
		n -= k
	}
}

func (q *longQueue) drain(ctx context.Context, n int) error {
	got := make([]*dfs.Transaction, 4096)
	for n > 0 {
		k, err := q.stream.Next(ctx, got[:min(n, len(got))])
		if err != nil {
			return err
		}
		q.read, n = got[k-1].Seq, n-k
		if err := q.Trim(ctx, got[k-1].Checkpoint); err != nil {
			return err
		}
	}
	return nil
}

// round adds n transactions while as many are read.
func (q *longQueue) round(t *testing.T, n int) {
	start, used := time.Now(), cpuUsed(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := q.drain(t.Context(), n); err != nil {
			t.Error(err)
		}
	})
	q.fill(t, n)
	wg.Wait()
	used = cpuUsed(t) - used
	if q.least == 0 || used < q.least {
		q.least = used
	}
	if took := time.Since(start); q.fast == 0 || took < q.fast {
		q.fast = took
	}
}

func cpuUsed(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestALongBacklogCostsNoMore compares a queue in which many transactions wait with one
// in which few do: what is added and read costs the same, and so do opening the file
// and memory; and what has been read leaves the file. "make backlog" does so with 20
// million transactions.
func TestALongBacklogCostsNoMore(t *testing.T) {
	long, rounds, n, most := *backlogLength, 7, 100_000, 1.05
	if long == 0 {
		long, rounds, n, most = 150_000, 3, 10_000, 1.6
	}
	queues := make([]*longQueue, 2)
	for i, length := range []int{long / 200, long} {
		q := &longQueue{path: filepath.Join(t.TempDir(), "queue"), length: length, txs: rows(4096)}
		for j := range q.txs {
			q.batch = append(q.batch, &q.txs[j])
		}
		var err error
		q.Queue, err = Open(q.path, &Options{WarnBytes: -1})
		require.NoError(t, err)
		q.stream, err = q.Open(t.Context(), dfs.Checkpoint{})
		require.NoError(t, err)
		start, used := time.Now(), cpuUsed(t)
		q.fill(t, max(length, n))
		t.Logf("%d transactions stored: %.0f a second, %d ns of processor time each", length,
			float64(q.seq)/time.Since(start).Seconds(), int(cpuUsed(t)-used)/int(q.seq))
		queues[i] = q
	}
	var before runtime.MemStats
	ratio := math.Inf(1)
	// Other work on the machine makes one or the other look dear: the least of as many
	// rounds as it takes tells what they cost.
	for round := 0; round < rounds || ratio >= most && round < 5*rounds; round++ {
		for _, q := range queues {
			if round%2 == 1 {
				q = queues[len(queues)-1-slices.Index(queues, q)]
			}
			q.round(t, n)
		}
		ratio = float64(queues[1].least) / float64(queues[0].least)
	}
	for _, q := range queues {
		s := q.Stats()
		t.Logf("backlog of %d: stored and read at the same time, %d ns of processor time and %d ns for each; %d blocks, %d MB",
			q.length, int(q.least)/n, int(q.fast)/n, s.Blocks, s.FileBytes>>20)
	}
	t.Logf("the long one takes %.3f times the processor time, and %.3f times the time", ratio,
		float64(queues[1].fast)/float64(queues[0].fast))
	require.Less(t, ratio, most)

	heap := make([]uint64, 2)
	for i, q := range queues {
		require.NoError(t, q.Close())
		runtime.GC()
		runtime.ReadMemStats(&before)
		start := time.Now()
		var err error
		q.Queue, err = Open(q.path, &Options{WarnBytes: -1})
		require.NoError(t, err)
		q.stream, err = q.Open(t.Context(), dfs.Checkpoint{Seq: q.read})
		require.NoError(t, err)
		took := time.Since(start)
		var after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&after)
		heap[i] = after.HeapAlloc - min(before.HeapAlloc, after.HeapAlloc)
		t.Logf("backlog of %d: opened in %v, %d KB of memory", q.length, took, heap[i]>>10)
	}
	require.Less(t, heap[1], heap[0]+1<<20)

	q := queues[1]
	start, left := time.Now(), int(q.seq-q.read)
	require.NoError(t, q.drain(t.Context(), left))
	t.Logf("%d transactions read: %.0f a second", left, float64(left)/time.Since(start).Seconds())
	size := q.Stats().FileBytes
	require.Eventually(t, func() bool {
		s := q.Stats()
		return s.Blocks == 0 && s.FileBytes < 128<<20
	}, 2*time.Minute, 10*time.Millisecond, "what was read leaves the file")
	t.Logf("the file went from %d MB to %d MB within %v", size>>20, q.Stats().FileBytes>>20, time.Since(start))
	for _, q := range queues {
		require.NoError(t, q.Close())
	}
}

// What trimming looks at is what was read, and not what waits behind it.
func TestTrimmingLooksOnlyAtWhatWasRead(t *testing.T) {
	took := func(blocks int) time.Duration {
		path := filepath.Join(t.TempDir(), "queue")
		q, err := Open(path, nil)
		require.NoError(t, err)
		require.NoError(t, q.Close())
		db, err := sql.Open("sqlite", dataSource(path, ""))
		require.NoError(t, err)
		_, err = db.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO block (`+blockColumns+`) SELECT i, i, i, i, '', 0, 100 * i, 1, 0, 0, x'' FROM n`, blocks-1)
		require.NoError(t, err)
		txs := rows(1)
		txs[0].Seq = uint64(blocks)
		b := seal(t, txs)
		b.id, b.end, b.whole = int64(blocks), int64(100*blocks), uint64(blocks)
		_, err = db.Exec("INSERT INTO block ("+blockColumns+") VALUES (?,?,?,?,?,?,?,?,?,?,?)", b.id, b.first, b.last, b.whole, string(b.pos),
			b.at, b.end, b.format, b.raw, int64(b.check()), b.data)
		require.NoError(t, err)
		require.NoError(t, db.Close())

		q, err = Open(path, nil)
		require.NoError(t, err)
		defer q.Close()
		runtime.GC() // of what has filled the file
		least := time.Hour
		for range 10 {
			used := cpuUsed(t)
			for range 10 {
				require.NoError(t, q.ask(t.Context(), func(g *group) error {
					cut, err := g.cut(3)
					require.Equal(t, int64(3), cut.block)
					return err
				}))
			}
			least = min(least, cpuUsed(t)-used)
		}
		return least
	}
	few, many := took(100), took(100_000)
	require.Less(t, many, 10*few, "%v for few, %v for many", few, many)
}
