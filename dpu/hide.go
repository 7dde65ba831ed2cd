package dpu

import (
	"slices"

	"github.com/dataflowsync/dfs"
)

var _ dfs.Hider = (*Units)(nil)

// Hides returns the columns of the table that a unit masks, drops or does not
// select. A column that one unit hides and another passes is hidden too. What a
// Func or Rows leaves out is not known.
func (s *Units) Hides(t *dfs.Table) (hidden []string) {
	for _, u := range s.units {
		if _, ok := u.matches(t); !ok {
			continue
		}
		for i := range t.Columns {
			name := t.Columns[i].Name
			if hasFold(u.Mask, name) || containsFold(u.Drop, name) || len(u.Select) > 0 && !containsFold(u.Select, name) {
				if !slices.Contains(hidden, name) {
					hidden = append(hidden, name)
				}
			}
		}
		if !u.Also {
			break
		}
	}
	return hidden
}
