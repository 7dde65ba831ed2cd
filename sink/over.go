package sink

import (
	"fmt"

	"github.com/dataflowsync/dfs"
)

// An insert that overwrites is a DELETE of the row with its key, which need not
// be there, and an INSERT. MySQL's REPLACE and INSERT ... ON DUPLICATE KEY UPDATE
// would also take away or write over a row that another unique key finds. Here
// that makes the INSERT fail, and is a conflict.

// addOver puts an insert that overwrites into the run.
func (g *merger) addOver(c *dfs.Change, m *mapping) error {
	steps, err := m.splitOver(c)
	for i := 0; err == nil && i < len(steps); i++ {
		err = g.add(&steps[i], m)
	}
	return err
}

// splitOver returns what an insert that overwrites is. The first is marked by
// Overwrite as a delete of what may not be there.
func (m *mapping) splitOver(c *dfs.Change) ([]dfs.Change, error) {
	if m.key == nil {
		return nil, fmt.Errorf("rows of %s cannot take the place of others, since the target's table %s has no key that finds them: "+
			"add a primary key there, or empty the table", c.Table, m.to.key)
	}
	gone, put := *c, *c
	gone.Op, gone.Before, gone.After = dfs.Delete, c.After, nil
	put.Overwrite = false
	return []dfs.Change{gone, put}, nil
}

// wants returns how many rows a statement of the group that names n must match.
func (g *group) wants(n int) int64 {
	if g.spare {
		return uncounted
	}
	return int64(n)
}
