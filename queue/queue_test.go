package queue_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/queue/queuetest"
)

func TestQueueKeepsTheContract(t *testing.T) {
	queuetest.Run(t, func(t *testing.T, dir string) dfs.Queue {
		q, err := queue.Open(filepath.Join(dir, "queue"), nil)
		require.NoError(t, err)
		return q
	})
}
