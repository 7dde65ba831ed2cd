package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// rows returns n transactions of one row each, 350 bytes encoded: what a source
// logs alike for every row of a table, and text of random digits.
func rows(n int) []dfs.Transaction {
	rng := rand.New(rand.NewPCG(1, 2))
	txs := make([]dfs.Transaction, n)
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i := range txs {
		b := make([]byte, 350)
		for j := range b {
			b[j] = byte(j)
			if j >= 150 {
				b[j] = "0123456789abcdef"[rng.IntN(16)]
			}
		}
		txs[i] = dfs.Transaction{
			Checkpoint: dfs.Checkpoint{Pos: dfs.Position(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d", i+1))},
			ID:         fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", i+1),
			Committed:  start.Add(time.Duration(i) * time.Millisecond), Encoded: b,
		}
	}
	return txs
}

// BenchmarkApply stores transactions of one row, at full durability, while a
// reader in step reads and trims them.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10000} {
		b.Run(fmt.Sprint("batch=", n), func(b *testing.B) { benchmarkApply(b, n, true) })
	}
	b.Run("unread/batch=10000", func(b *testing.B) { benchmarkApply(b, 10000, false) })
}

func benchmarkApply(b *testing.B, n int, read bool) {
	path := filepath.Join(b.TempDir(), "queue")
	q, err := Open(path, nil)
	require.NoError(b, err)
	defer q.Close()
	txs := rows(n)
	batch := make([]*dfs.Transaction, n)
	for i := range txs {
		batch[i] = &txs[i]
	}
	var stored atomic.Uint64 // set once no more will come
	var wg sync.WaitGroup
	if read {
		s, err := q.Open(b.Context(), dfs.Checkpoint{})
		require.NoError(b, err)
		wg.Go(func() {
			got := make([]*dfs.Transaction, 4096)
			for at := uint64(0); at == 0 || at != stored.Load(); {
				k, err := s.Next(b.Context(), got)
				if err != nil {
					b.Error(err)
					break
				}
				at = got[k-1].Seq
				if err := q.Trim(b.Context(), got[k-1].Checkpoint); err != nil {
					b.Error(err)
				}
			}
		})
	}
	b.ReportAllocs()
	b.SetBytes(350 * int64(n))
	seq, before := uint64(0), cpu(b)
	for b.Loop() {
		for j := range txs {
			seq++
			txs[j].Seq = seq
		}
		if err := q.Apply(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	used := cpu(b) - before
	s := q.Stats()
	total := float64(seq)
	b.ReportMetric(total/b.Elapsed().Seconds(), "tx/s")
	b.ReportMetric(float64(used)/total, "cpu-ns/tx")
	b.ReportMetric(float64(s.StoredBytes)/total, "stored-B/tx")
	b.ReportMetric(float64(s.FileBytes)/1e6, "file-MB")
	if read {
		b.ReportMetric(float64(s.Readers[0].Lag), "lag")
	}
	stored.Store(seq + 1)
	seq++
	txs[0].Seq = seq
	require.NoError(b, q.Apply(b.Context(), batch[:1])) // wakes the reader
	wg.Wait()
}

// cpu returns the processor time that this process has used, which the other
// work of a machine changes less than it does the time that passes.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHandOver measures from Apply to the other side of Next, one
// transaction at a time.
func BenchmarkHandOver(b *testing.B) {
	q := newQueue(b, nil)
	s, err := q.Open(b.Context(), dfs.Checkpoint{})
	require.NoError(b, err)
	arrived := make(chan error)
	ctx, cancel := context.WithCancel(b.Context())
	go func() {
		for batch := make([]*dfs.Transaction, 10); ; {
			n, err := s.Next(ctx, batch)
			if ctx.Err() != nil {
				close(arrived)
				return
			}
			if err == nil {
				err = q.Trim(ctx, batch[n-1].Checkpoint)
			}
			arrived <- err
		}
	}()
	batch := []*dfs.Transaction{&rows(1)[0]}
	var took []time.Duration
	for b.Loop() {
		batch[0].Seq++
		start := time.Now()
		require.NoError(b, q.Apply(b.Context(), batch))
		require.NoError(b, <-arrived)
		took = append(took, time.Since(start))
	}
	cancel()
	<-arrived
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
}

// BenchmarkRead reads transactions of one row that wait in the queue.
func BenchmarkRead(b *testing.B) {
	q := newQueue(b, nil)
	txs := rows(50_000)
	batch := make([]*dfs.Transaction, len(txs))
	for i := range txs {
		txs[i].Seq, batch[i] = uint64(i+1), &txs[i]
	}
	require.NoError(b, q.Apply(b.Context(), batch))
	got := make([]*dfs.Transaction, 4096)
	b.ReportAllocs()
	total, before := 0, cpu(b)
	for b.Loop() {
		s, err := q.Open(b.Context(), dfs.Checkpoint{})
		require.NoError(b, err)
		for n := 0; n < len(txs); {
			k, err := s.Next(b.Context(), got)
			if err != nil {
				b.Fatal(err)
			}
			n += k
		}
		total += len(txs)
		require.NoError(b, s.Close())
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(total), "cpu-ns/tx")
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "tx/s")
}
