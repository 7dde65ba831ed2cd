package relmgr

import "github.com/dataflowsync/dfs"

var _ dfs.Measurer = (*Manager)(nil)

// Measures returns the numbers of Stats, added up, as of the last batch that was stored,
// and how often the target was asked for a block of ids.
func (m *Manager) Measures() []dfs.Measure {
	gone := 0.0
	if m.store.gone() {
		gone = 1
	}
	return []dfs.Measure{
		{Name: "gone", Help: "1 while the file is not at its path any more: no more ids are given", Value: gone},
		{Name: "keys", Help: "old keys that have a new id", Value: float64(m.keys.Load())},
		{Name: "promised", Help: "those of them whose row has not come", Value: float64(m.promised.Load())},
		{Name: "blocks", Help: "blocks of ids that were reserved on the target", Value: float64(m.reserved.Load()), Counter: true},
	}
}

// measure takes the numbers, when nothing is newer than the file.
func (m *Manager) measure() {
	var keys, came int64
	for _, sp := range m.spaces {
		keys, came = keys+sp.known, came+sp.came
	}
	m.keys.Store(keys)
	m.promised.Store(keys - came)
}
