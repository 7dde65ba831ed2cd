package dpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dataflowsync/dfs"
)

// A Lookup finds rows by keys. Equal keys should find equal rows for as long as a
// row may be repeated after a crash; what is found later reaches the target only
// with a row's next update.
type Lookup interface {
	// Columns describes the rows that Rows returns.
	Columns() []dfs.Column

	// Rows returns a row for each key, in their order: nil if there is none.
	// All keys are different. An error that may pass is marked by
	// dfs.Transient, and the batch is then tried again.
	Rows(ctx context.Context, keys []dfs.Row) ([]dfs.Row, error)
}

// A Join adds the columns of a Lookup to the rows of a unit. All the keys of a
// batch are looked up together.
type Join struct {
	Lookup Lookup

	// On lists the columns of the source that make up the key. A key with a NULL
	// finds nothing.
	On []string

	// As gives the Lookup's columns other names: from its own to the unit's.
	As map[string]string

	// Required makes it an error if a row is not found. By default its columns
	// are NULL then.
	Required bool

	// Cache is how many rows are kept, if their text has no more than 32 MiB.
	// Default: 10000; negative: none.
	Cache int

	// CacheFor is how long a row is kept. Default: one minute.
	CacheFor time.Duration
}

const (
	lookupBatch  = 1000 // keys for one call of Rows
	defaultCache = 10000
	cacheBytes   = 32 << 20
)

// joined is a Join at work, for all tables of its unit.
type joined struct {
	Join
	columns []dfs.Column
	limit   int
	keep    time.Duration
	now     func() time.Time

	// The cache has two generations: when the young one is full, the old one
	// goes and the young one takes its place. So what is used stays.
	young, old map[string]cached
	size       int // bytes of text in young

	found   map[string]dfs.Row // of the batch at hand
	pending []dfs.Row
	names   []string // the keys of pending
	buf     []byte
}

type cached struct {
	row   dfs.Row
	until time.Time
}

func newJoined(j Join) *joined {
	n := &joined{Join: j, limit: j.Cache, keep: j.CacheFor, now: time.Now, found: make(map[string]dfs.Row)}
	if n.limit == 0 {
		n.limit = defaultCache
	}
	if n.keep == 0 {
		n.keep = time.Minute
	}
	for _, c := range j.Lookup.Columns() {
		if as, ok := j.As[c.Name]; ok {
			c.Name = as
		}
		c.Nullable = c.Nullable || !j.Required
		n.columns = append(n.columns, c)
	}
	return n
}

// key returns the key that the row has, or nil if one of its values is NULL or
// not known. The result is valid until the next call.
func (j *joined) key(view []dfs.Value, on []int) []byte {
	j.buf = j.buf[:0]
	for _, i := range on {
		v := view[i]
		if k := v.Kind(); k == dfs.Null || k == dfs.Absent {
			return nil
		}
		at := len(j.buf)
		j.buf = v.Append(j.buf)
		n := len(j.buf) - at
		j.buf = append(j.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24), byte(v.Kind()))
	}
	return j.buf
}

// want notes that the batch needs the row's key.
func (j *joined) want(view []dfs.Value, on []int) {
	key := j.key(view, on)
	if key == nil {
		return
	}
	if _, ok := j.found[string(key)]; ok {
		return
	}
	name := string(key)
	if e, ok := j.young[name]; ok && j.now().Before(e.until) {
		j.found[name] = e.row
		return
	}
	if e, ok := j.old[name]; ok && j.now().Before(e.until) {
		j.found[name] = e.row
		j.store(name, e)
		return
	}
	j.found[name] = nil
	row := make(dfs.Row, len(on))
	for k, i := range on {
		row[k] = view[i]
	}
	j.pending, j.names = append(j.pending, row), append(j.names, name)
}

func (j *joined) store(name string, e cached) {
	if j.limit < 0 {
		return
	}
	if j.young == nil || len(j.young) >= (j.limit+1)/2 || j.size >= cacheBytes/2 {
		j.old, j.young, j.size = j.young, make(map[string]cached), 0
	}
	j.size += len(name)
	for i := range e.row {
		j.size += len(e.row[i].Text())
	}
	j.young[name] = e
}

// fetch looks up what the batch needs.
func (j *joined) fetch(ctx context.Context, s *Units) error {
	until := j.now().Add(j.keep)
	for len(j.pending) > 0 {
		n := min(len(j.pending), lookupBatch)
		var rows []dfs.Row
		err := s.outside(func() (err error) {
			rows, err = j.Lookup.Rows(ctx, j.pending[:n])
			return err
		})
		if slow := (*slowError)(nil); errors.As(err, &slow) {
			err = dfs.Transient(err) // as where a database cannot be reached
		}
		if err != nil {
			return fmt.Errorf("looking up %d keys: %w", n, err)
		}
		if len(rows) != n {
			return fmt.Errorf("the lookup returned %d rows for %d keys", len(rows), n)
		}
		for i, row := range rows {
			if row != nil && len(row) != len(j.columns) {
				return fmt.Errorf("the lookup returned a row of %d columns, and has %d", len(row), len(j.columns))
			}
			j.found[j.names[i]] = row
			j.store(j.names[i], cached{row, until})
		}
		j.pending, j.names = j.pending[n:], j.names[n:]
	}
	return nil
}

// forget lets go of the batch.
func (j *joined) forget() {
	clear(j.found)
	j.pending, j.names = nil, nil
}

// append appends the looked-up columns to a row.
// They are Absent for an image that lacks its key.
func (j *joined) append(row []dfs.Value, on []int) ([]dfs.Value, error) {
	for _, i := range on {
		if row[i].Kind() == dfs.Absent {
			return j.absent(row), nil
		}
	}
	key := j.key(row, on)
	found := j.found[string(key)]
	if found != nil {
		return append(row, found...), nil
	}
	if j.Required {
		return nil, fmt.Errorf("nothing is found for the key %s, and the lookup is required", describe(row, on))
	}
	for range j.columns {
		row = append(row, dfs.NullValue())
	}
	return row, nil
}

func (j *joined) absent(row []dfs.Value) []dfs.Value {
	for range j.columns {
		row = append(row, dfs.AbsentValue())
	}
	return row
}

func describe(row []dfs.Value, on []int) string {
	var b []byte
	for k, i := range on {
		if k > 0 {
			b = append(b, ',')
		}
		b = row[i].Append(b)
	}
	return string(b)
}

// fetch looks up what the batch needs, all keys together.
func (s *Units) fetch(ctx context.Context, batch []*dfs.Transaction) error {
	some := slices.ContainsFunc(s.units, func(u *unit) bool { return len(u.joins) > 0 })
	if !some {
		return nil
	}
	for _, tx := range batch {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			if c.Op != dfs.Insert && c.Op != dfs.Update {
				continue
			}
			p, err := s.plan(c.Table)
			if err != nil {
				return dfs.Standing(err) // it is the same for each row of the table
			}
			if len(p.outs) == 0 {
				continue
			}
			if err := checkRows(c); err != nil {
				return err
			}
			view := s.overlay(c)
			for _, o := range p.outs {
				for k, j := range o.u.joins {
					j.want(view, o.on[k])
				}
			}
		}
	}
	for _, u := range s.units {
		for i, j := range u.joins {
			s.at, s.part = &output{u: u}, fmt.Sprintf("Lookups[%d]", i)
			if err := j.fetch(ctx, s); err != nil {
				return s.fail(err)
			}
			s.stand()
		}
	}
	return nil
}
