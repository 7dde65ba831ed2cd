package relmgr_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/relmgr"
)

// BenchmarkProcess gives rows with a new key and two references to random rows their
// ids, over maps of as many keys: consecutive, so that most share a run, and
// scattered, so that each is one. open/ms is what Open takes then.
func BenchmarkProcess(b *testing.B) {
	table := &dfs.Table{Schema: "s", Name: "t", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "bigint"}, {Name: "a", Type: "bigint"}, {Name: "b", Type: "bigint"}}}
	opts := &relmgr.Options{Tables: []*dfs.Table{table}, ForeignKeys: []relmgr.ForeignKey{key("s.t.a s.t.id"), key("s.t.b s.t.id")}}
	for _, step := range []int64{1, 7919} {
		for _, size := range []int64{1e5, 1e6, 1e7} {
			if step > 1 && size > 1e6 {
				continue // minutes to fill
			}
			b.Run(fmt.Sprintf("step %d keys %d", step, size), func(b *testing.B) {
				path := filepath.Join(b.TempDir(), "map")
				m, err := relmgr.Open(path, opts)
				if err != nil {
					b.Fatal(err)
				}
				next, seq := int64(0), uint64(0)
				batch := func(n int, random bool) []*dfs.Transaction {
					tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq + 1}, Changes: make([]dfs.Change, n)}
					seq++
					for i := range tx.Changes {
						a, c := next, next
						if random {
							a, c = rand.Int64N(size), rand.Int64N(size)
						}
						tx.Changes[i] = dfs.Change{Op: dfs.Insert, Table: table, After: dfs.Row{dfs.IntValue(next * step), dfs.IntValue(a * step), dfs.IntValue(c * step)}}
						next++
					}
					return []*dfs.Transaction{tx}
				}
				for next < size {
					if err := m.Process(b.Context(), batch(5000, false)); err != nil {
						b.Fatal(err)
					}
				}
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
				begun := time.Now()
				if m, err = relmgr.Open(path, opts); err != nil {
					b.Fatal(err)
				}
				opened := time.Since(begun)
				for range 50 { // what is near is in memory again
					if err := m.Process(b.Context(), batch(1000, true)); err != nil {
						b.Fatal(err)
					}
				}
				b.ResetTimer()
				for range b.N {
					if err := m.Process(b.Context(), batch(1000, true)); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(1000*b.N), "ns/row")
				b.ReportMetric(float64(opened.Microseconds())/1000, "open/ms")
				if err := m.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
