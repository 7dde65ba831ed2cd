package relmgr

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/stretchr/testify/require"
)

// Lookups alone, without a batch between, keep to the bound too.
func TestLookupsKeepToTheirMemory(t *testing.T) {
	table := dfstest.Table(t, "s.t (id bigint, key id)")
	m, err := Open("", &Options{Tables: []*dfs.Table{table}, CacheBytes: 1 << 20})
	require.NoError(t, err)
	defer m.Close()
	for i := range 20000 {
		_, ok, err := m.New(t.Context(), "s.t", i*5000)
		require.NoError(t, err)
		require.False(t, ok)
		require.LessOrEqual(t, m.cache.size, 1<<20)
	}
	require.LessOrEqual(t, len(m.spaces[0].pages)+len(m.spaces[0].oldPages), 1<<20/160)
}
