package sink

import (
	"context"
	"fmt"
	"strconv"

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
// would find out. Tables without a primary key may have equal rows, and keep all,
// as do parts of rows, of which several have one key.
func once(list []item) []item {
	// No copy and no map for what nearly all transactions are.
	at, n := 0, 0
	for at < len(list) {
		if n = ofOne(list[at:]); deletes(list[at:at+n]) > 1 {
			break
		}
		at += n
	}
	out := list[:at]
	for ; at < len(list); at += n {
		if n = ofOne(list[at:]); deletes(list[at:at+n]) > 1 {
			out = appendOnce(out, list[at:at+n])
		} else {
			out = append(out, list[at:at+n]...)
		}
	}
	return out
}

// ofOne returns how many of the items, from the first, are of the same transaction.
func ofOne(list []item) int {
	n := 1
	for n < len(list) && list[n].tx.Seq == list[0].tx.Seq {
		n++
	}
	return n
}

// deletes counts the deletes of whole rows.
func deletes(list []item) (n int) {
	for i := range list {
		if deletesAlone(list[i].c) {
			n++
		}
	}
	return n
}

// appendOnce appends the items of one transaction, without deletes of rows that it has deleted
// already.
func appendOnce(out, list []item) []item {
	gone := make(map[string]map[string]bool) // by table
	for _, it := range list {
		out = append(out, it)
		c := it.c
		if c.Op == dfs.DDL || c.Table == nil || c.Table.Key == nil {
			continue
		}
		at := c.Table.String()
		keys := gone[at]
		if c.Op != dfs.Delete {
			row := c.After
			if c.Op == dfs.Update {
				row = overlay(c.Before, c.After)
			}
			if key, ok := keyText(c.Table, row); ok {
				delete(keys, key)
			} else {
				delete(gone, at) // it may be the key of any of them
			}
			continue
		}
		key, ok := keyText(c.Table, c.Before)
		switch {
		case !ok || !deletesAlone(c):
		case keys[key]:
			out = out[:len(out)-1]
		case keys == nil:
			gone[at] = map[string]bool{key: true}
		default:
			keys[key] = true
		}
	}
	return out
}

// deletesAlone reports whether c deletes a whole row of a table with a key, and
// nothing else.
func deletesAlone(c *dfs.Change) bool {
	return c.Op == dfs.Delete && c.NoForeignKeys && !c.Part && c.Table.Key != nil
}

// keyText returns the primary key of a row, and false if the row lacks a part of
// it. Keys of different values have different texts.
func keyText(t *dfs.Table, row dfs.Row) (string, bool) {
	var b []byte
	for _, i := range t.Key {
		if i >= len(row) || row[i].Kind() == dfs.Absent {
			return "", false
		}
		v := row[i].String()
		b = append(strconv.AppendInt(append(b, ' '), int64(len(v)), 10), ':')
		b = append(b, v...)
	}
	return string(b), true
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
