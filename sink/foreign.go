package sink

import (
	"context"
	"fmt"

	"github.com/dataflowsync/dfs"
)

// once returns list without the deletes of rows that their transaction has
// deleted already.
//
// A MySQL that logs what its foreign keys do (9.6 and later) logs a row twice
// where a cycle of ON DELETE CASCADE comes back to the row that a statement
// deletes: once as the child, and again at the end (seen with 9.7.4). No row can
// be deleted twice without an insert, or an update to its key, in between; so
// this does not hide that the target lacks the row, which the first of the two
// would find out. Tables without a primary key may have equal rows, and keep all.
func once(list []item) []item {
	type place struct {
		seq uint64
		key string
	}
	gone := make(map[place]bool)
	var b []byte
	name := func(it item, row dfs.Row) (place, bool) {
		b = append(b[:0], it.c.Table.String()...)
		for _, i := range it.c.Table.Key {
			if i >= len(row) || row[i].Kind() == dfs.Absent {
				return place{}, false
			}
			v := row[i].String()
			b = fmt.Appendf(b, " %d:%s", len(v), v)
		}
		return place{it.tx.Seq, string(b)}, true
	}
	deletes := 0
	for i := range list {
		if c := list[i].c; c.NoForeignKeys && c.Op == dfs.Delete && c.Table.Key != nil {
			deletes++
		}
	}
	if deletes < 2 {
		return list
	}
	out := list[:0]
	for _, it := range list {
		row := it.c.After
		if it.c.Op == dfs.Delete {
			row = it.c.Before
		}
		if at, ok := name(it, row); ok && it.c.Table.Key != nil {
			if it.c.Op != dfs.Delete {
				delete(gone, at)
			} else if it.c.NoForeignKeys {
				if gone[at] {
					continue
				}
				gone[at] = true
			}
		}
		out = append(out, it)
	}
	return out
}

// loadDepth finds out whether a delete of t's rows goes on over three foreign
// keys or more, where the server is one that loses rows of such.
//
// MySQL 9.6 and later cascades in its SQL layer unless innodb_native_foreign_keys
// is ON. Version 9.7.4 then forgets, of several children, the grandchildren of all
// but the first, if these have children of their own, and says nothing. Where
// the source logs what its foreign keys do, as such a server does itself, nothing
// depends on it.
func (s *session) loadDepth(ctx context.Context, t *table) error {
	if !s.srv.sqlCascades || !t.cascades() {
		return nil
	}
	b := []byte("SELECT 1 FROM information_schema.REFERENTIAL_CONSTRAINTS a " +
		"JOIN information_schema.REFERENTIAL_CONSTRAINTS b ON b.UNIQUE_CONSTRAINT_SCHEMA=a.CONSTRAINT_SCHEMA AND b.REFERENCED_TABLE_NAME=a.TABLE_NAME " +
		"JOIN information_schema.REFERENTIAL_CONSTRAINTS c ON c.UNIQUE_CONSTRAINT_SCHEMA=b.CONSTRAINT_SCHEMA AND c.REFERENCED_TABLE_NAME=b.TABLE_NAME " +
		"WHERE a.DELETE_RULE='CASCADE' AND b.DELETE_RULE='CASCADE' AND c.DELETE_RULE IN ('CASCADE', 'SET NULL') AND a.UNIQUE_CONSTRAINT_SCHEMA=")
	b = appendQuoted(b, t.schema)
	b = appendQuoted(append(b, " AND a.REFERENCED_TABLE_NAME="...), t.name)
	rows, err := s.query(ctx, string(b)+" LIMIT 1")
	t.deep = len(rows) > 0
	return err
}

// deepDelete refuses a delete that the target would carry out only in part.
func (m *mapping) deepDelete(c *dfs.Change) error {
	if !m.to.deep || c.Op != dfs.Delete || c.NoForeignKeys {
		return nil
	}
	return fmt.Errorf("a delete from %s goes on over three foreign keys or more, of which this version of MySQL loses rows, "+
		"and the source does not log them: start the target with innodb_native_foreign_keys=ON", m.to.key)
}
