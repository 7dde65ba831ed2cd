package queue

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A pipeline from a queue, through a queue, into a queue, stopped at random and
// with the one in the middle lost on the way: the last one gets all of the first,
// once and in order.
func TestPipelineOfQueues(t *testing.T) {
	dir := memory(t)
	src := opened(t, filepath.Join(dir, "source"), &Options{Keep: 1 << 30})
	dst := opened(t, filepath.Join(dir, "target"), nil)
	n := uint64(lessUnderRace(50_000))
	for seq := uint64(1); seq <= n; seq += 500 {
		batch := txs(seq, 500, 200)
		for i, tx := range batch {
			tx.More = i%10 != 9
		}
		apply(t, src, batch...)
	}
	rng := rand.New(rand.NewPCG(7, 8))
	stops := 0
	for dst.Stats().Last < n {
		name := []string{"kept", "other"}[rng.IntN(2)] // each is older than the target when its turn comes
		mid := opened(t, filepath.Join(dir, name), &Options{MaxBytes: 100_000})
		// On a busy machine nothing may get done in so little time, so it grows.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(25)+5+stops/10)*time.Millisecond)
		// What is in hand at the stop cannot be finished while mid is full.
		p := &dfs.Pipeline{Source: src, Queue: mid, Sink: dst, StopTimeout: 20 * time.Millisecond,
			Logger: slog.New(slog.DiscardHandler)}
		require.NoError(t, p.Run(ctx))
		cancel()
		require.NoError(t, mid.Close())
		stops++
		require.Less(t, stops, 1000)
	}
	read(t, dst, 1, n)
	t.Logf("stopped %d times", stops)
}
