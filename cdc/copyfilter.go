package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// pass leaves out of the log's transactions what chunks that are yet to come will
// have, and keeps it in windows. It returns how many of them are to be handed on.
func (c *copier) pass(ctx context.Context, txs []*dfs.Transaction) (n int, err error) {
	for _, tx := range txs {
		if tx.Encoded == nil || !c.concerns(tx.Encoded) {
			continue
		}
		if err := c.src.Decode(ctx, []*dfs.Transaction{tx}); err != nil {
			return 0, err
		}
	}
	var keys map[rowID]rowKey
	for keys == nil {
		c.mu.Lock()
		keyed := c.keyed
		c.mu.Unlock()
		if keys, err = c.keysOf(ctx, txs); err != nil {
			return 0, err
		}
		if c.mu.Lock(); c.keyed != keyed {
			keys = nil // a reader has found out the key of one more table
			c.mu.Unlock()
		}
	}
	defer c.mu.Unlock()
	word := c.st.asm.at.copy
	for _, tx := range txs {
		if tx.Changes != nil {
			if err := c.filter(tx, keys); err != nil {
				return n, err
			}
		}
		if !tx.More {
			if c.st.asm.at.copy != word {
				// A statement of this batch has ended the copy of a table.
				p, err := parsePosition(tx.Pos)
				if err != nil {
					return n, err
				}
				p.copy = c.st.asm.at.copy
				tx.Pos = dfs.Position(p.String())
			}
			switch {
			case tx.State != "":
				tx.State = joinState(c.items(), tx.State)
			case c.stateDue:
				tx.State = joinState(c.items(), c.st.asm.catalog.state())
			}
			if tx.State != "" {
				c.stateDue = false
			}
			c.pos = tx.Pos
		}
		c.inside = tx.More
		n++
	}
	c.reached()
	c.cond.Broadcast()
	return n, nil
}

// items returns the tables of the copy, as a State has them.
func (c *copier) items() []copyItem {
	var list []copyItem
	for _, t := range c.tables {
		list = append(list, t.copyItem)
	}
	return list
}

// concerns reports whether a container has something of tables that are copied, or
// a statement.
func (c *copier) concerns(b []byte) bool {
	r, _, err := openContainer(b)
	for err == nil && len(r.b) > 0 && !r.bad {
		kind, data := r.record()
		switch {
		case kind == recChanges:
			return true
		case kind == recEvent && len(data) >= headerLen && event(data).kind() == evTableMap:
			schema, name, err := tableNames(event(data))
			if err != nil {
				return true
			}
			n := tableName{alias(schema), alias(name)}
			c.mu.Lock()
			t := c.byName[c.fold(n)]
			yes := t != nil && t.state != dfs.Copied || len(c.children[c.fold(n)]) > 0 || c.circles[c.fold(n)]
			c.mu.Unlock()
			if yes {
				return true
			}
		}
	}
	return err != nil || r.bad
}

// A rowKey is the key of a row of the log.
type rowKey struct{ exact, order string }

// A rowID is an image of a change.
type rowID struct {
	c     *dfs.Change
	after bool
}

// keysOf returns the keys of all rows of which it matters whether they are copied.
// The server is asked once for each table whose key is text.
func (c *copier) keysOf(ctx context.Context, txs []*dfs.Transaction) (map[rowID]rowKey, error) {
	type asked struct {
		key  *copyKey
		ids  []rowID
		rows []dfs.Row
	}
	tables := make(map[*copyTable]*asked)
	columns := make(map[*dfs.Table][]int)
	keys := make(map[rowID]rowKey)
	for _, tx := range txs {
		for i := range tx.Changes {
			ch := &tx.Changes[i]
			t, key := c.keyOf(ch)
			if key == nil {
				continue
			}
			at, ok := columns[ch.Table]
			if !ok {
				at = key.in(ch.Table)
				columns[ch.Table] = at
			}
			if at == nil {
				continue // a statement before or after it alters the key
			}
			a := tables[t]
			if a == nil {
				a = &asked{key: key}
				tables[t] = a
			}
			var before dfs.Row
			for _, after := range [2]bool{false, true} {
				row := ch.Before
				if after {
					row = ch.After
				}
				if row == nil {
					continue
				}
				k := make(dfs.Row, len(at))
				for j, i := range at {
					if k[j] = row[i]; k[j].Kind() == dfs.Absent && before != nil {
						k[j] = before[j] // what did not change
					}
				}
				before = k
				if slices.ContainsFunc(k, dfs.Value.IsNull) {
					continue // a key has no NULL: it is from before it was one
				}
				a.ids, a.rows = append(a.ids, rowID{ch, after}), append(a.rows, k)
			}
		}
	}
	for _, a := range tables {
		orders, err := c.src.orders(ctx, a.key, a.rows)
		if err != nil {
			return nil, err
		}
		for i, id := range a.ids {
			k := rowKey{order: orders[i]}
			if k.exact = k.order; a.key.text {
				var b []byte
				for _, v := range a.rows[i] {
					if b, err = appendOrder(b, v, "", true); err != nil {
						return nil, err
					}
				}
				k.exact = string(b)
			}
			keys[id] = k
		}
	}
	return keys, nil
}

// keyOf returns the table of a change, and its key if the key matters.
func (c *copier) keyOf(ch *dfs.Change) (*copyTable, *copyKey) {
	if ch.Op == dfs.DDL || ch.Table == nil {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.byName[c.fold(tableName{ch.Table.Schema, ch.Table.Name})]
	if t == nil || t.state != dfs.Copying {
		return nil, nil
	}
	return t, t.key
}

// in returns where a table of the log has the columns of the key, or nil if it
// lacks one or has it in another character set.
func (k *copyKey) in(t *dfs.Table) []int {
	at := make([]int, len(k.columns))
	for i, column := range k.columns {
		c := &k.table.Columns[column]
		if at[i] = t.Column(c.Name); at[i] < 0 || t.Columns[at[i]].Charset != c.Charset {
			return nil
		}
	}
	return at
}

// copied reports whether the chunk of a key was handed on.
func (t *copyTable) copied(order string) bool {
	if t.hash == "" {
		return false
	}
	for _, r := range t.left {
		if r.has(order) {
			return false
		}
	}
	return true
}

// filter leaves out of a transaction that is decoded what chunks will have, and
// encodes it again.
func (c *copier) filter(tx *dfs.Transaction, keys map[rowID]rowKey) error {
	kept := make([]dfs.Change, 0, len(tx.Changes))
	for i := range tx.Changes {
		ch := &tx.Changes[i]
		if ch.Op == dfs.DDL {
			c.statement(ch)
			kept = append(kept, *ch)
			continue
		}
		name := c.fold(tableName{ch.Table.Schema, ch.Table.Name})
		if ch.Op == dfs.Delete || ch.Op == dfs.Update {
			for _, a := range c.children[name] {
				// What that does to rows of the other table is not in the log.
				if a.on.state == dfs.Copying && a.by(ch) {
					a.on.altered = time.Now()
					c.discard(a.on)
				}
			}
		}
		t := c.byName[name]
		circle := c.circles[name] && !c.ended
		if t == nil || t.state == dfs.Copied {
			kept = append(kept, c.unchecked(*ch, circle))
			continue
		}
		t.changed = time.Now()
		if t.state == dfs.CopyFailed || t.state == dfs.CopyWaiting {
			if t.again && t.state == dfs.CopyWaiting {
				kept = append(kept, *ch)
			}
			continue
		}
		if t.key == nil {
			if len(t.flights) > 0 {
				c.discard(t) // the rows that were read are not those of here
			}
			if t.again {
				kept = append(kept, *ch)
			}
			continue
		}
		pass, err := c.row(t, ch, keys)
		if err != nil {
			return err
		}
		if t.again {
			kept = append(kept, *ch)
		} else {
			for _, ch := range pass {
				kept = append(kept, c.unchecked(ch, circle))
			}
		}
	}
	tx.Changes = nil
	if len(kept) > 0 {
		tx.Encoded = appendRecord(appendContainer(nil, c.src.maria), recChanges, dfs.AppendChanges(nil, kept))
	}
	return nil
}

// by reports whether a change has other tables changed.
func (a *effect) by(ch *dfs.Change) bool {
	return ch.Op == dfs.Delete || slices.ContainsFunc(a.columns, func(name string) bool {
		i := ch.Table.Column(name)
		if i < 0 || i >= len(ch.Before) || i >= len(ch.After) {
			return true
		}
		return ch.After[i].Kind() != dfs.Absent && ch.Before[i].String() != ch.After[i].String()
	})
}

// unchecked sets NoForeignKeys for a row of a table in a circle of foreign keys,
// as rows that it references may be yet to come. Deletes and new keys are left
// alone: on a target, foreign keys may have to act on them.
func (c *copier) unchecked(ch dfs.Change, circle bool) dfs.Change {
	if circle && ch.Op == dfs.Insert {
		ch.NoForeignKeys = true
	}
	return ch
}

// row returns what is left of a change of a table that is being copied, and keeps
// the rest in the table's window.
func (c *copier) row(t *copyTable, ch *dfs.Change, keys map[rowID]rowKey) ([]dfs.Change, error) {
	before, was := keys[rowID{ch, false}]
	after, is := keys[rowID{ch, true}]
	if (ch.Before != nil && !was || ch.After != nil && !is) && t.hash == "" {
		// The key was asked for after a statement that the log has yet to come to.
		t.altered = t.changed
		c.discard(t)
		return nil, nil
	}
	if ch.Before != nil && !was || ch.After != nil && !is {
		c.fail(t, errors.New("a row of the log lacks a column of its key"), cureCopyAgain)
		return nil, nil
	}
	old, new := was && t.copied(before.order), is && t.copied(after.order)
	var pass []dfs.Change
	switch {
	case (!was || old) && (!is || new):
		pass = []dfs.Change{*ch}
	case was && old: // an update, to a key that is yet to come
		pass = []dfs.Change{{Op: dfs.Delete, Table: ch.Table, Before: ch.Before, NoForeignKeys: true}}
	case is && new: // an update, of a key that is yet to come
		if slices.ContainsFunc(ch.After, func(v dfs.Value) bool { return v.Kind() == dfs.Absent }) {
			return nil, fmt.Errorf("cdc: copy table %s: a row gets a new key, and the log has not all of its columns: "+
				"set binlog_row_image=FULL on the source, for running sessions too, and make a new copy of the data", t)
		}
		pass = []dfs.Change{{Op: dfs.Insert, Table: ch.Table, After: ch.After, NoForeignKeys: true}}
	}
	if len(t.flights) == 0 && c.lag() == 0 {
		return pass, nil
	}
	note := change{at: t.changed, size: 160}
	if was && (!old || t.again) {
		note.before, note.beforeOrder = before.exact, before.order
	}
	if is && (!new || t.again) {
		note.after, note.afterOrder = after.exact, after.order
		if slices.ContainsFunc(ch.After, func(v dfs.Value) bool { return v.Kind() == dfs.Absent }) ||
			len(ch.After) != len(t.key.table.Columns) {
			t.unnoted = t.changed
			c.discard(t) // only the source has the row
			return pass, nil
		}
		note.row = ownRow(ch.After)
		for _, v := range note.row {
			note.size += 32 + len(v.Text())
		}
	}
	if note.before != "" || note.after != "" {
		note.size += 2 * (len(note.before) + len(note.after))
		t.log = append(t.log, note)
		c.window += note.size
		if c.lag() > 0 {
			c.trim(t)
		}
	}
	return pass, nil
}

// statement takes notice of a statement that may alter tables of the copy.
func (c *copier) statement(ch *dfs.Change) {
	mode := ddl.Mode{MariaDB: c.src.maria}
	schema := ""
	if ch.Session != nil {
		mode = modeOf(ch.Session, c.src.maria, c.src.version)
		schema = ch.Session.Schema
	}
	s := ddl.Parse(ch.Query, schema, mode)
	renames := s.Kind == ddl.RenameTable || s.Kind == ddl.AlterTable && len(s.Tables) > 1
	names := func(t *copyTable) bool {
		return slices.ContainsFunc(s.Tables, func(n ddl.Table) bool {
			return c.fold(tableName{n.Schema, n.Name}) == c.fold(t.tableName) || n.Name == "" && c.fold(tableName{n.Schema, ""}).schema == c.fold(t.tableName).schema
		})
	}
	mixed := false
	for _, t := range c.tables {
		if t.state == dfs.Copied || t.state == dfs.CopyFailed {
			continue
		}
		named := names(t)
		if !named && s.Settled {
			continue
		}
		t.altered = time.Now()
		switch {
		case named && (s.Kind == ddl.DropTable || s.Kind == ddl.DropSchema):
			// All that follows about a table of that name is in the log.
			c.copied(t)
			c.st.asm.at.copy = c.word()
		case named && renames:
			c.fail(t, fmt.Errorf("it was renamed while it was copied: %.80q", s.Text), "have the table copied again by its new name")
			c.st.asm.at.copy = c.word()
		case t.state == dfs.Copying:
			c.discard(t)
		}
		mixed = mixed || named && t.state == dfs.CopyFailed
	}
	for _, t := range c.tables {
		// Rows that were yet to be copied may now be in a table that was copied.
		if mixed && t.state == dfs.Copied && names(t) {
			c.fail(t, fmt.Errorf("it took part in this while another table of it was copied: %.80q", s.Text), cureCopyAgain)
			c.st.asm.at.copy = c.word()
		}
	}
}
