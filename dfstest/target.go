package dfstest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dataflowsync/dfs"
)

// A Target is a database in memory. It takes any table as it comes, and is strict
// about rows: an insert of a key that is there, or an update or delete of a row
// that is not, is an error. Rows of tables without a primary key are found by all
// their values. Foreign keys and collations it does not know: keys are equal if
// their values are. The zero Target is empty and ready to use.
type Target struct {
	// Fault makes its sinks fail. Default: never.
	Fault Fault

	mu     sync.Mutex
	at     dfs.Checkpoint
	writer *Sink // the sink that asked for the checkpoint last
	txs    []*dfs.Transaction
	tables map[string][]stored // by "schema.name"
}

// stored is a row, by the names of its columns in lower case.
type stored map[string]dfs.Value

// Open returns a sink that writes to the target. The one that asked for its
// checkpoint last may write, others get dfs.ErrConflict.
func (t *Target) Open() *Sink { return &Sink{t: t} }

// Transactions returns what was applied, in order, as it was given.
func (t *Target) Transactions() []*dfs.Transaction {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.txs)
}

// Rows returns the rows of a table, "schema.name", each as the columns that are
// asked for, "1|ann|NULL", sorted as text.
func (t *Target) Rows(table string, columns ...string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []string
	for _, r := range t.tables[strings.ToLower(table)] {
		var parts []string
		for _, c := range columns {
			parts = append(parts, r[strings.ToLower(c)].String())
		}
		list = append(list, strings.Join(parts, "|"))
	}
	slices.Sort(list)
	return list
}

// A Sink writes to a Target. It is a dfs.Sink.
type Sink struct {
	t    *Target
	open *draft // parts of a transaction without its end
}

var _ dfs.Sink = (*Sink)(nil)

// A draft is what the target will be when a transaction is committed. Rows are
// never written to, so the tables of a draft and its target may share them.
type draft struct {
	at     dfs.Checkpoint
	txs    []*dfs.Transaction
	tables map[string][]stored
	own    map[string]bool // tables that are the draft's own copy
}

// draft begins a transaction. Drafts share the memory behind txs, since there is
// one at a time, and the target's own is never written to.
func (t *Target) draft() *draft {
	return &draft{at: t.at, txs: t.txs, tables: maps.Clone(t.tables), own: make(map[string]bool)}
}

func (t *Target) take(d *draft) { t.at, t.txs, t.tables = d.at, d.txs, d.tables }

// Checkpoint returns the last transaction applied.
func (s *Sink) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return dfs.Checkpoint{}, err
	}
	s.open = nil
	if err := s.t.Fault.at("sink checkpoint"); err != nil {
		return dfs.Checkpoint{}, err
	}
	s.t.writer = s
	return s.t.at, nil
}

// Apply applies the batch, each whole transaction by itself.
func (s *Sink) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.Fault.at("sink apply"); err != nil {
		s.open = nil
		return err
	}
	d := s.open
	if d == nil {
		d = t.draft()
	}
	s.open = nil
	if t.writer != s || len(batch) > 0 && batch[0].Seq != d.at.Seq+1 {
		return fmt.Errorf("%w: the target stands at %d", dfs.ErrConflict, t.at.Seq)
	}
	for _, tx := range batch {
		if tx.Seq != d.at.Seq+1 {
			return fmt.Errorf("%w: transaction %d came after %d", dfs.ErrGap, tx.Seq, d.at.Seq)
		}
		if tx.Encoded != nil {
			return fmt.Errorf("transaction %d is encoded, which this sink does not read", tx.Seq)
		}
		for i := range tx.Changes {
			if err := d.change(&tx.Changes[i]); err != nil {
				return fmt.Errorf("transaction %d, change %d: %w", tx.Seq, i+1, err)
			}
		}
		state := d.at.State
		d.at = tx.Checkpoint
		if d.at.State == "" {
			d.at.State = state // it is only there when it has changed
		}
		d.txs = append(d.txs, tx)
		if !tx.More {
			t.take(d)
			d = t.draft()
			if err := t.Fault.at("sink part"); err != nil {
				return err
			}
		}
	}
	if d.at != t.at {
		s.open = d
	}
	return t.Fault.at("sink reply")
}

func (d *draft) change(c *dfs.Change) error {
	if c.Op == dfs.DDL {
		return nil
	}
	if c.Table == nil {
		return fmt.Errorf("it names no table")
	}
	n := len(c.Table.Columns)
	if c.Op < dfs.Insert || c.Op > dfs.Delete || c.Op != dfs.Insert && len(c.Before) != n || c.Op != dfs.Delete && len(c.After) != n {
		return fmt.Errorf("a %s of %s does not have the %d columns of its table", c.Op, c.Table, n)
	}
	name := strings.ToLower(c.Table.String())
	if !d.own[name] {
		if d.tables == nil {
			d.tables = make(map[string][]stored)
		}
		d.own[name], d.tables[name] = true, slices.Clone(d.tables[name])
	}
	at := -1
	if c.Op != dfs.Insert {
		at = d.find(name, c.Table, c.Before)
	}
	switch {
	case c.Part && c.Table.Key == nil:
		return fmt.Errorf("a part of a row of %s has no key", c.Table)
	case c.Part:
		d.part(name, c, at)
		return nil
	case c.Op != dfs.Insert && at < 0:
		return fmt.Errorf("the %s of %s (%s) finds no such row", c.Op, c.Table, FormatRow(c.Table, c.Before))
	case c.Op == dfs.Delete:
		d.tables[name] = slices.Delete(d.tables[name], at, at+1)
		return nil
	}
	row := stored{}
	if at >= 0 {
		row = maps.Clone(d.tables[name][at])
	}
	row.set(c.Table, c.After)
	if taken := d.findKey(name, c.Table, row); taken >= 0 && taken != at && c.Table.Key != nil {
		return fmt.Errorf("the %s of %s (%s) finds its key taken", c.Op, c.Table, FormatRow(c.Table, c.After))
	}
	if at >= 0 {
		d.tables[name][at] = row
	} else {
		d.tables[name] = append(d.tables[name], row)
	}
	return nil
}

// part applies a change that is a Part, of the row at.
func (d *draft) part(name string, c *dfs.Change, at int) {
	if c.Op == dfs.Delete || c.Op == dfs.Update && !equalKeys(c.Before, overlay(c), c.Table.Key) {
		if at >= 0 {
			row, left := maps.Clone(d.tables[name][at]), false
			key := make(map[string]bool)
			for _, k := range c.Table.Key {
				key[strings.ToLower(c.Table.Columns[k].Name)] = true
			}
			for _, col := range c.Table.Columns {
				if lower := strings.ToLower(col.Name); !key[lower] {
					row[lower] = dfs.NullValue()
				}
			}
			for col, v := range row {
				left = left || !key[col] && !v.IsNull()
			}
			d.tables[name][at] = row
			if !left {
				d.tables[name] = slices.Delete(d.tables[name], at, at+1)
			}
		}
	}
	if c.Op == dfs.Delete {
		return
	}
	after := overlay(c)
	row := stored{}
	if at = d.find(name, c.Table, after); at >= 0 {
		row = maps.Clone(d.tables[name][at])
	}
	row.set(c.Table, after)
	if at >= 0 {
		d.tables[name][at] = row
	} else {
		d.tables[name] = append(d.tables[name], row)
	}
}

// overlay returns the row after a change, with what was before where the change
// leaves it out.
func overlay(c *dfs.Change) dfs.Row {
	row := slices.Clone(c.After)
	for i := range row {
		if row[i].Kind() == dfs.Absent && c.Before != nil {
			row[i] = c.Before[i]
		}
	}
	return row
}

func (r stored) set(t *dfs.Table, row dfs.Row) {
	for i, v := range row {
		if v.Kind() != dfs.Absent {
			r[strings.ToLower(t.Columns[i].Name)] = v
		}
	}
}

// find returns the index of the row with the key, or of one with all the values
// where there is no key; -1 if there is none.
func (d *draft) find(name string, t *dfs.Table, row dfs.Row) int {
	want := stored{}
	want.set(t, row)
	return d.findKey(name, t, want)
}

func (d *draft) findKey(name string, t *dfs.Table, want stored) int {
	return slices.IndexFunc(d.tables[name], func(r stored) bool {
		for _, k := range t.Key {
			if col := strings.ToLower(t.Columns[k].Name); r[col] != want[col] {
				return false
			}
		}
		if t.Key == nil {
			for col, v := range want {
				if r[col] != v {
					return false
				}
			}
		}
		return true
	})
}
