package dpu

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

type noLookup struct{}

func (noLookup) Columns() []dfs.Column                              { return nil }
func (noLookup) Rows(context.Context, []dfs.Row) ([]dfs.Row, error) { return nil, nil }

func TestWhatALookupKeepsIsBoundedInBytes(t *testing.T) {
	j := newJoined(Join{Lookup: noLookup{}})
	for i := range 100 {
		j.store(string(rune('a'+i)), cached{dfs.Row{dfs.StringValue(strings.Repeat("x", 1<<20))}, time.Time{}})
		require.LessOrEqual(t, len(j.young)+len(j.old), cacheBytes>>20)
	}
	require.NotEmpty(t, j.old)
}
