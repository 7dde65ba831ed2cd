package queue

import (
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// A stream that waits gets blocks from memory, and those that were too large to be
// kept there from the file.
func TestAWaitingStreamGetsLargeBlocksToo(t *testing.T) {
	q := newQueue(t, nil)
	st, err := q.Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer st.Close()
	seq := uint64(0)
	for _, size := range []int{10, 5 * blockBytes, 10, freshBytes, freshBytes - 200, 3 * blockBytes, 10} {
		next := make(chan error, 1)
		batch := make([]*dfs.Transaction, 4)
		n := 0
		go func() {
			var err error
			n, err = st.Next(t.Context(), batch)
			next <- err
		}()
		require.Eventually(t, func() bool { return q.waiters.Load() > 0 }, time.Minute, time.Millisecond)
		seq++
		want := tx(seq, size)
		require.NoError(t, q.Apply(t.Context(), []*dfs.Transaction{tx(seq, size)}))
		require.NoError(t, <-next, "after one of %d bytes", size)
		require.Equal(t, 1, n)
		require.Equal(t, want.Seq, batch[0].Seq)
		require.Equal(t, want.Encoded, batch[0].Encoded)
	}
}
