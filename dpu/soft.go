package dpu

import (
	"time"

	"github.com/dataflowsync/dfs"
)

// softly adds a change of a table whose deleted rows stay.
func (s *Units) softly(o *output, made dfs.Change) {
	when := s.committed
	if when.IsZero() { // which would stand for MySQL's zero timestamp
		when = time.Unix(1, 0)
	}
	deleted := func(row dfs.Row) dfs.Change {
		c := made
		c.Op, c.Part = dfs.Update, false
		c.Before = row
		c.Before[o.soft] = dfs.NullValue()
		c.After = s.alloc(len(row))
		copy(c.After, row)
		c.After[o.soft] = dfs.TimestampValue(when, 6)
		return c
	}
	// A row that was deleted may be in the place of one that comes, so that one
	// is put over it.
	put := func(row dfs.Row) dfs.Change {
		c := made
		c.Op, c.Part, c.Before, c.After = dfs.Insert, true, nil, row
		c.After[o.soft] = dfs.NullValue()
		return c
	}
	switch made.Op {
	case dfs.Insert:
		s.out = append(s.out, put(made.After))
	case dfs.Delete:
		s.out = append(s.out, deleted(made.Before))
	default:
		if sameKey(o.table, made.Before, made.After) {
			made.Before[o.soft], made.After[o.soft] = dfs.NullValue(), dfs.NullValue()
			s.out = append(s.out, made)
			return
		}
		whole := s.alloc(len(made.After))
		for i, v := range made.After {
			if v.Kind() == dfs.Absent {
				v = made.Before[i]
			}
			whole[i] = v
		}
		s.out = append(s.out, deleted(made.Before), put(whole))
	}
}

// sameKey reports whether an update leaves the row its key.
func sameKey(t *dfs.Table, before, after dfs.Row) bool {
	for _, k := range t.Key {
		if after[k] != before[k] && after[k].Kind() != dfs.Absent {
			return false
		}
	}
	return true
}
