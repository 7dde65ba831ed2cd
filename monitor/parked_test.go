package monitor

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/queue"
	"github.com/stretchr/testify/require"
)

// parked carries transactions of which the second is refused, the third depends on it,
// and the fifth does so too, by its second part.
func parked(t *testing.T, j *Journal, stages ...dfs.Stage) {
	tab := people(t)
	letters, err := queue.OpenLetters(filepath.Join(t.TempDir(), "letters"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, letters.Close()) })
	src := &dfstest.Source{Transactions: []dfs.Transaction{
		{ID: "a:1", Changes: []dfs.Change{dfstest.Insert(t, tab, 1, "Ann", "1")}},
		{ID: "a:2", Changes: []dfs.Change{dfstest.Insert(t, tab, 2, "bad", "555-1")}},
		{ID: "a:3", Changes: []dfs.Change{dfstest.Update(t, tab, 2, "bad", "555-1", 2, "Bo", "555-2"), dfstest.Insert(t, tab, 9, "Eve", nil)}},
		{ID: "a:4", Changes: []dfs.Change{dfstest.Insert(t, tab, 4, "Dan", nil)}},
		{ID: "a:5", More: true, Changes: []dfs.Change{dfstest.Insert(t, tab, 5, "Gil", nil)}},
		{ID: "a:5", Changes: []dfs.Change{dfstest.Delete(t, tab, 2, "Bo", "555-2")}},
		{ID: "a:6", Changes: []dfs.Change{dfstest.Insert(t, tab, 6, "Fay", nil)}},
	}}
	p := &dfs.Pipeline{Source: src, Sink: new(dfstest.Target).Open(), Stages: append(stages, refuses("bad")), Letters: letters, Logger: discardLog}
	require.NoError(t, j.Watch("shop", p))
	require.NoError(t, p.Run(t.Context()))
	require.Equal(t, 3, p.Stats().Letters.Parked)
}

// What depends on a dead letter is one too, and the journal tells so at each level; it
// was told as applied, without any changes.
func TestWhatDependsOnALetterIsToldAsParked(t *testing.T) {
	for _, level := range []JournalLevel{JournalErrors, JournalAll} {
		t.Run(string(level), func(t *testing.T) {
			find := func(q TraceQuery, j *Journal) (list []Traced) {
				tr := trace(t, j, q)
				require.Empty(t, tr.Gaps)
				return tr.Transactions
			}
			explained := 0
			path := filepath.Join(t.TempDir(), "journal")
			j := openJournal(t, path, &JournalOptions{Level: level, Mask: []string{"*.*.phone"}, Explain: func(context.Context, string, *dfs.Transaction) ([]string, error) {
				explained++
				return nil, nil
			}})
			parked(t, j)
			list := find(TraceQuery{Table: "shop.people", Key: []string{"2"}}, j)
			require.Len(t, list, 3)
			require.Zero(t, explained, "nothing of it was sent")
			last, third, second := list[0], list[1], list[2]
			require.Contains(t, second.Error, "bad may not pass")
			require.False(t, second.Parked)
			require.True(t, third.Parked)
			require.False(t, third.Skipped)
			require.Equal(t, "a:3", third.ID)
			require.Equal(t, "parked as dead letter 2, since it touches the same as letter 1", third.Error)
			require.Len(t, third.Steps, 1)
			require.Equal(t, []string{"update shop.people id=2>2 name=bad>Bo phone=•••>•••"}, told(third.Steps[0]))
			require.Equal(t, 1, third.Steps[0].Others)
			require.True(t, last.Parked)
			require.Equal(t, "parked as dead letter 3, since it touches the same as letters 1, 2", last.Error)
			require.Equal(t, []string{"delete shop.people id=2>- name=Bo>- phone=•••>-"}, told(last.Steps[0]))
			require.Len(t, find(TraceQuery{Table: "shop.people", Key: []string{"5"}}, j), 1, "the part before it")
			require.True(t, find(TraceQuery{Table: "shop.people", Key: []string{"5"}}, j)[0].Parked)
			require.Len(t, find(TraceQuery{Failed: true}, j), 4)
			whole := find(TraceQuery{Table: "shop.people", Key: []string{"4"}}, j)
			if level == JournalErrors {
				require.Empty(t, whole)
			} else {
				require.Len(t, whole, 1)
				require.Empty(t, whole[0].Error)
				require.False(t, whole[0].Parked)
				require.Len(t, find(TraceQuery{Seq: 7}, j), 1)
			}
			require.EqualValues(t, 4, j.Stats().Failed)
			notInFiles(t, path, "555-")
		})
	}
}
