package sink

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// BenchmarkArchiveApply stores transactions of one row each, of 160 bytes of which a third
// is random, 4096 at a time, as a pipeline does that is behind.
func BenchmarkArchiveApply(b *testing.B) {
	a, err := OpenArchive(b.TempDir(), &ArchiveOptions{Logger: quiet})
	require.NoError(b, err)
	defer a.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 4096
	batch := make([]*dfs.Transaction, n)
	seq := uint64(0)
	for i := range batch {
		body := make([]byte, 160)
		for k := range body {
			if body[k] = byte(k); k%3 == 0 {
				body[k] = byte(rng.Uint32())
			}
		}
		batch[i] = &dfs.Transaction{Committed: time.Unix(1.7e9, 0), Encoded: body}
	}
	rows := 0
	b.ReportAllocs()
	for b.Loop() {
		for _, tx := range batch {
			seq++
			tx.Seq, tx.Pos, tx.ID = seq, dfs.Position(fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-%d", seq)), fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa9429562:%d", seq)
		}
		require.NoError(b, a.Apply(b.Context(), batch))
		rows += n
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
