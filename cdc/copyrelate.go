package cdc

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// An effect is that deletes of a table, and updates of columns of it, change rows of
// another in silence.
type effect struct {
	columns []string
	on      *copyTable
}

// relate asks for the foreign keys, which order the tables. The source is asked as it
// is now, which may be later than the place that the log was read to.
func (c *copier) relate(ctx context.Context) error {
	r, err := c.src.readRelations(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Those of before stay until the copy begins anew: a statement that drops one may
	// be one that the log has yet to come to.
	if c.children == nil {
		c.circles, c.children = make(map[tableName]bool), make(map[tableName][]effect)
	}
	for _, t := range c.tables {
		if t.state != dfs.CopyWaiting && t.after != nil {
			continue
		}
		t.after = nil
		if c.byName[c.fold(t.tableName)] != t {
			continue
		}
		if r.reaches(t.tableName, t.tableName) {
			c.circles[c.fold(t.tableName)] = true
		}
		for _, p := range r.parents[t.tableName] {
			if of := c.byName[c.fold(p)]; of != nil && !r.reaches(p, t.tableName) {
				t.after = append(t.after, of)
			}
		}
		// What acts on a parent acts through it.
		seen := map[tableName]bool{t.tableName: true}
		for next := []tableName{t.tableName}; len(next) > 0; next = next[1:] {
			for _, p := range r.acting[next[0]] {
				parent := c.fold(p.parent)
				if e := (effect{p.columns, t}); !slices.ContainsFunc(c.children[parent], e.equals) {
					c.children[parent] = append(c.children[parent], e)
				}
				if !seen[p.parent] {
					seen[p.parent] = true
					next = append(next, p.parent)
				}
			}
		}
	}
	return nil
}

func (a effect) equals(b effect) bool { return a.on == b.on && slices.Equal(a.columns, b.columns) }

// order numbers tables in the order in which they are copied, parents before their
// children, so that a position can name those that are copied as one range.
func (c *copier) order() {
	var list []*copyTable
	seen := make(map[*copyTable]bool)
	var add func(t *copyTable)
	add = func(t *copyTable) {
		if seen[t] {
			return
		}
		seen[t] = true
		for _, p := range t.after {
			add(p)
		}
		list = append(list, t)
	}
	for _, t := range c.tables {
		add(t)
	}
	for i, t := range list {
		t.index = i
	}
	c.tables = list
}

// moved gives tables of which nothing is copied yet the names that a statement gives
// them. It reports whether there are none but such among those that it names.
func (c *copier) moved(s *ddl.Statement, names func(*copyTable) bool) bool {
	if !s.Settled {
		return false
	}
	at := make(map[tableName]*copyTable)
	for _, t := range c.tables {
		if t.state == dfs.Copied || t.gone || !names(t) {
			continue
		}
		if t.state != dfs.CopyWaiting {
			return false
		}
		at[c.fold(t.tableName)] = t
	}
	var old tableName
	for _, r := range s.Refs {
		switch n := (tableName{r.Table.Schema, r.Table.Name}); r.Role {
		case ddl.Target:
			old = n
		case ddl.NewName:
			t := at[c.fold(old)]
			if t == nil {
				continue
			}
			delete(at, c.fold(old))
			at[c.fold(n)] = t
			if c.byName[c.fold(t.tableName)] == t {
				delete(c.byName, c.fold(t.tableName))
			}
			t.tableName = tableName{strings.Clone(n.schema), strings.Clone(n.name)}
		}
	}
	for _, t := range at {
		c.byName[c.fold(t.tableName)] = t
		t.altered = time.Now()
		c.discard(t) // who asks for it asks anew
		if !c.st.asm.filter().follows(t.schema, t.name) {
			c.copied(t) // what it has now is of no interest
			c.st.asm.at.copy = c.word()
		}
	}
	c.stateDue = true // which has the names
	return true
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

// statement takes notice of a statement that may alter tables of the copy.
func (c *copier) statement(ch *dfs.Change) {
	mode := ddl.Mode{MariaDB: c.src.maria}
	schema := ""
	if ch.Session != nil {
		mode = modeOf(ch.Session, c.src.maria, c.src.known().version)
		schema = ch.Session.Schema
	}
	s := ddl.Parse(ch.Query, schema, mode)
	renames := s.Kind == ddl.RenameTable || s.Kind == ddl.AlterTable && len(s.Tables) > 1
	names := func(t *copyTable) bool {
		return slices.ContainsFunc(s.Tables, func(n ddl.Table) bool {
			return c.fold(tableName{n.Schema, n.Name}) == c.fold(t.tableName) || n.Name == "" && c.fold(tableName{n.Schema, ""}).schema == c.fold(t.tableName).schema
		})
	}
	if !s.Settled || renames || strings.Contains(strings.ToUpper(s.Text), "REFERENCES") {
		c.related = false
	}
	if renames && c.moved(&s, names) {
		return
	}
	mixed := false
	for _, t := range c.tables {
		if t.state == dfs.Copied {
			continue
		}
		named := names(t)
		if t.state == dfs.CopyFailed && !(named && s.Settled && (s.Kind == ddl.DropTable || s.Kind == ddl.DropSchema)) {
			continue
		}
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

// A relations has the parents of each table by foreign keys.
type relations struct {
	parents map[tableName][]tableName
	acting  map[tableName][]acting // those that change rows of the table without a word in the log
}

// An acting is a parent whose deletes, and updates of columns of it, change rows of
// a table.
type acting struct {
	parent  tableName
	columns []string
}

// readRelations returns the foreign keys between tables.
func (s *Source) readRelations(ctx context.Context) (*relations, error) {
	r := &relations{make(map[tableName][]tableName), make(map[tableName][]acting)}
	err := eachRow(ctx, s.db, `SELECT constraint_schema, table_name, unique_constraint_schema, referenced_table_name
		FROM information_schema.referential_constraints`, func(v []sql.NullString) {
		r.add(tableName{v[0].String, v[1].String}, tableName{v[2].String, v[3].String})
	})
	if err != nil {
		return nil, mark(err)
	}
	// MariaDB may not show there what those of followed tables are.
	all, err := s.ForeignKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		r.add(tableName{k.Schema, k.Table}, tableName{k.ParentSchema, k.Parent})
	}
	silent, err := s.SilentForeignKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range silent {
		child := tableName{k.Schema, k.Table}
		r.acting[child] = append(r.acting[child], acting{tableName{k.ParentSchema, k.Parent}, k.ParentColumns})
	}
	return r, nil
}

func (r *relations) add(child, parent tableName) {
	if !slices.Contains(r.parents[child], parent) {
		r.parents[child] = append(r.parents[child], parent)
	}
}

// reaches reports whether one leads from a table to another, from child to parent.
func (r *relations) reaches(from, to tableName) bool {
	seen := make(map[tableName]bool)
	next := []tableName{from}
	for len(next) > 0 {
		t := next[len(next)-1]
		next = next[:len(next)-1]
		for _, p := range r.parents[t] {
			if p == to {
				return true
			}
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	return false
}
