package ddl

import (
	"maps"
	"strings"

	"github.com/dataflowsync/dfs"
)

// A Catalog is what tables look like at one place of a log. Apply moves it past
// a statement. It holds what is known for certain and nothing else: a table that
// it does not know has to be asked for.
//
// The tables in it are never changed, so that who got one may keep it. The zero
// Catalog knows nothing. It is not safe for concurrent use.
type Catalog struct {
	// Fold says that letter case does not count in the names of schemas and
	// tables: the server has lower_case_table_names 1 or 2. If it does count,
	// a statement about one name makes the Catalog forget tables whose names
	// differ from it by case alone. So the zero value is safe for all servers.
	Fold bool

	schemas map[string]*schema
	absent  int // tables known not to exist
}

// A schema is what is known of one schema.
type schema struct {
	only      bool   // there are no tables but those in tables
	collation string // for tables that name none; empty if not known
	tables    map[string]tableEntry
}

// A tableEntry is what is known of one table.
type tableEntry struct {
	table     *dfs.Table // nil if it does not exist
	collation string     // for columns that name none; empty if not known
}

// maxAbsent is how many names of dropped tables are kept, since tools make tables
// under names that never come again.
const maxAbsent = 1000

// key returns a name as maps have it.
func (c *Catalog) key(name string) string {
	if c.Fold {
		return strings.ToLower(name)
	}
	return name
}

// Table returns a table, if anything is known of it. A known table that is nil
// does not exist.
func (c *Catalog) Table(schema, name string) (t *dfs.Table, known bool) {
	e, known := c.entry(Table{schema, name})
	return e.table, known
}

func (c *Catalog) entry(n Table) (e tableEntry, known bool) {
	s := c.schemas[c.key(n.Schema)]
	if s == nil {
		return e, false
	}
	e, known = s.tables[c.key(n.Name)]
	return e, known || s.only
}

// Tables returns the tables that are known to exist, in no order.
func (c *Catalog) Tables() (list []*dfs.Table) {
	for _, s := range c.schemas {
		for _, e := range s.tables {
			if e.table != nil {
				list = append(list, e.table)
			}
		}
	}
	return list
}

// Set says what a table looks like. Afterwards nothing may change t. The
// collation is the table's default, TABLE_COLLATION in information_schema.tables:
// if it is empty, a text column that is added to the table without a character
// set makes the Catalog forget the table.
func (c *Catalog) Set(t *dfs.Table, collation string) {
	c.set(Table{t.Schema, t.Name}, tableEntry{t, collation})
}

func (c *Catalog) set(n Table, e tableEntry) {
	s := c.schema(n.Schema)
	old, ok := s.tables[c.key(n.Name)]
	switch {
	case ok && old.table == nil && e.table != nil:
		c.absent--
	case (!ok || old.table != nil) && e.table == nil:
		if c.absent == maxAbsent {
			c.forgetAbsent()
		}
		c.absent++
	}
	s.tables[strings.Clone(c.key(n.Name))] = e
}

// drop notes that a table does not exist.
func (c *Catalog) drop(n Table) {
	if s := c.schemas[c.key(n.Schema)]; s != nil && s.only {
		c.remove(s, n.Name)
		return
	}
	c.set(n, tableEntry{})
}

// remove takes a table out of s.
func (c *Catalog) remove(s *schema, name string) {
	k := c.key(name)
	if e, ok := s.tables[k]; ok && e.table == nil {
		c.absent--
	}
	delete(s.tables, k)
}

// forgetAbsent drops the names of tables that do not exist.
func (c *Catalog) forgetAbsent() {
	for _, s := range c.schemas {
		maps.DeleteFunc(s.tables, func(_ string, e tableEntry) bool { return e.table == nil })
	}
	c.absent = 0
}

// SetSchema says which collation tables of the schema have that name none,
// DEFAULT_COLLATION_NAME in information_schema.schemata.
func (c *Catalog) SetSchema(name, collation string) { c.schema(name).collation = collation }

// schema returns what is known of a schema, to be added to.
func (c *Catalog) schema(name string) *schema {
	s := c.schemas[c.key(name)]
	if s == nil {
		s = &schema{tables: make(map[string]tableEntry)}
		if c.schemas == nil {
			c.schemas = make(map[string]*schema)
		}
		c.schemas[strings.Clone(c.key(name))] = s
	}
	return s
}

// Forget drops what is known of a table, or with an empty name of a schema and
// all its tables. Letter case does not count.
func (c *Catalog) Forget(schema, name string) {
	for k, s := range c.schemas {
		if !strings.EqualFold(k, schema) {
			continue
		}
		if name == "" {
			for table := range s.tables {
				c.remove(s, table)
			}
			delete(c.schemas, k)
			continue
		}
		s.only = false
		for table := range s.tables {
			if strings.EqualFold(table, name) {
				c.remove(s, table)
			}
		}
	}
}

// forgetOthers forgets the tables whose names may be n's or may be those of
// another table, as letter case tells.
func (c *Catalog) forgetOthers(n Table) {
	if c.Fold {
		return
	}
	for k, s := range c.schemas {
		if !strings.EqualFold(k, n.Schema) {
			continue
		}
		for table := range s.tables {
			if strings.EqualFold(table, n.Name) && (k != n.Schema || table != n.Name) {
				c.remove(s, table)
				s.only = false
			}
		}
	}
}

// ForgetAll drops everything that is known.
func (c *Catalog) ForgetAll() { c.schemas, c.absent = nil, 0 }

// Clone returns a copy, which shares the tables.
func (c *Catalog) Clone() *Catalog {
	n := &Catalog{Fold: c.Fold, absent: c.absent}
	if c.schemas != nil {
		n.schemas = make(map[string]*schema, len(c.schemas))
	}
	for k, s := range c.schemas {
		n.schemas[k] = &schema{s.only, s.collation, maps.Clone(s.tables)}
	}
	return n
}
