package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
)

// pass leaves out of the log's transactions what chunks that are yet to come will
// have, and keeps it in windows. It returns how many of them are to be handed on.
func (c *copier) pass(ctx context.Context, txs []*dfs.Transaction) (n int, err error) {
	// Until the end of txs is published as passed, nobody may begin to read beside it.
	c.mu.Lock()
	c.passing = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.passing = false
		if err == nil {
			c.reached()
		}
		c.cond.Broadcast()
	}()
	for n < len(txs) {
		// What is behind a statement depends on what it has done.
		end := n + 1 + slices.IndexFunc(txs[n:], func(tx *dfs.Transaction) bool { return !tx.More && hasStatement(tx.Encoded) })
		if end == n {
			end = len(txs)
		}
		var some int
		some, err = c.passSome(ctx, txs[n:end])
		if n += some; err != nil {
			return n, err
		}
		if !c.related {
			if err = c.relate(ctx); err != nil {
				return n, err
			}
			c.related = true
		}
	}
	return n, nil
}

// hasStatement reports whether a container has a statement.
func hasStatement(b []byte) bool {
	r, _, err := openContainer(b)
	for b != nil && err == nil && len(r.b) > 0 && !r.bad {
		if kind, _ := r.record(); kind == recChanges {
			return true
		}
	}
	return false
}

// passSome is pass for transactions of which none but the last has a statement.
func (c *copier) passSome(ctx context.Context, txs []*dfs.Transaction) (n int, err error) {
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
	if c.st.xa && !c.xa.Load() {
		c.xa.Store(true)
		if c.lag() > 0 {
			c.began = time.Now() // windows have nothing of before
		}
	}
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
				tx.State = joinState(c.items(), c.st.asm.state())
			}
			if tx.State != "" {
				c.stateDue = false
			}
			c.pos = tx.Pos
		}
		c.inside = tx.More
		n++
	}
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
	at := placeOf(tx.Pos)
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
					c.void(a.on, at, fmt.Errorf("deletes and new keys of %s change its rows in silence, by a foreign key", ch.Table),
						"hold those back while it is copied, or let smaller chunks be read (Snapshot.ChunkTime), and have it copied again")
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
			if len(t.flights) > 0 { // the rows that were read are not those of here
				c.void(t, at, errors.New("it has no key that rows can be found by, and is changed again and again while it is read"),
					"add a primary key, or hold back what writes to it, and have it copied again")
			}
			if t.state == dfs.CopyFailed {
				continue
			}
			if t.again {
				kept = append(kept, *ch)
			}
			continue
		}
		pass, err := c.row(t, ch, at, keys)
		if err != nil {
			return err
		}
		if t.state == dfs.CopyFailed {
			c.st.asm.at.copy = c.word()
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

// placeOf returns the place of a position in the server's files. That of a part of a
// transaction is before the transaction.
func placeOf(pos dfs.Position) place {
	s := string(pos[strings.LastIndexByte(string(pos), ' ')+1:])
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return place{}
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 64)
	if p, e := parsePosition(pos); err != nil || e == nil && p.file != s[:i] {
		if e != nil {
			return place{}
		}
		return place{p.file, p.pos} // the name of the file has a space
	}
	return place{s[:i], n}
}

// mostVoid is how often in a row what is read of a table may be of no use; a table
// without a key is read whole each time.
const mostVoid, mostVoidWhole = 30, 10

// void discards what is on its way of a table, as a change that the log has at a place
// makes it worthless, and gives the table up if that was so too often in a row: else
// one that is written to all the time is read without end. Changes that the log had
// before the statement began do not count: reading it is still behind.
func (c *copier) void(t *copyTable, at place, why error, cure string) {
	if slices.ContainsFunc(t.flights, func(f *flight) bool { return f.start.file != "" && f.start.before(at) }) {
		t.void++
		t.limit = min(t.limit, max(t.limit/2, 100)) // what is read sooner has better chances
	}
	if t.void <= mostVoid && t.key != nil || t.void <= mostVoidWhole {
		c.discard(t)
		return
	}
	c.fail(t, fmt.Errorf("%w: it was read %d times in vain", why, t.void), cure)
	c.st.asm.at.copy = c.word()
}

// row returns what is left of a change of a table that is being copied, and keeps
// the rest in the table's window.
func (c *copier) row(t *copyTable, ch *dfs.Change, at place, keys map[rowID]rowKey) ([]dfs.Change, error) {
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
	if ch.After != nil && len(ch.After) != len(t.key.table.Columns) && t.described.file != "" && t.described.before(at) {
		// No statement between has given it another shape: that would have it described anew.
		c.fail(t, fmt.Errorf("its rows have %d columns in the log, and the server shows %d", len(ch.After), len(t.key.table.Columns)),
			"if it has a generated invisible primary key, SET GLOBAL show_gipk_in_create_table_and_information_schema = ON; then have it copied again")
		return nil, nil
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
