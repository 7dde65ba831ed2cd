//go:build !race

// The race detector allocates too.

package queue

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func TestApplyAndNextAllocateLittle(t *testing.T) {
	q := newQueue(t, nil)
	s, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	const n = 10_000
	batch, seq := rows(n), uint64(0)
	ptrs := make([]*dfs.Transaction, n)
	for i := range batch {
		ptrs[i] = &batch[i]
	}
	got := make([]*dfs.Transaction, 1000)
	per := testing.AllocsPerRun(3, func() {
		for i := range batch {
			seq++
			batch[i].Seq = seq
		}
		require.NoError(t, q.Apply(t.Context(), ptrs))
	}) / n
	require.Less(t, per, 0.1, "allocations for each transaction applied")
	read := 0
	per = testing.AllocsPerRun(3, func() {
		for k := 0; k < n; {
			n, err := s.Next(t.Context(), got)
			require.NoError(t, err)
			k += n
			read += n
		}
	}) / n
	require.Less(t, per, 0.2, "allocations for each transaction read")
}
