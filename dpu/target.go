package dpu

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A Target is what a unit makes of a table of the source.
type Target struct {
	Unit   string // empty if no unit takes the table
	Source *dfs.Table
	Table  *dfs.Table // nil if its rows go nowhere
	Part   bool       // other units write other columns of its rows

	// Origins says for each column of Table what it is made of.
	Origins []string
	Dropped []string // columns of the source that go nowhere
	Notes   []string // how values may lose something
	Emits   []*dfs.Table
	Unknown bool // a Func may emit other tables than these

	// Missing names columns of Table that the target's table lacks, for String to mark.
	// It is for who has looked there.
	Missing []string
}

// Targets returns what the units make of a table of the source, before its first
// row has come. The error joins all faults, each a *Fault.
func (s *Units) Targets(src *dfs.Table) ([]Target, error) {
	p, err := s.plan(src)
	if err != nil {
		return nil, err
	}
	if len(p.outs) == 0 {
		t := Target{Source: src}
		if p.keep {
			t.Table = src
			for i := range src.Columns {
				t.Origins = append(t.Origins, src.Columns[i].Name)
			}
		}
		return []Target{t}, nil
	}
	var list []Target
	for _, o := range p.outs {
		list = append(list, Target{
			Unit: o.u.name, Source: src, Table: o.table, Part: o.u.Part, Origins: o.origins, Dropped: o.dropped,
			Notes: o.notes, Emits: o.emits, Unknown: o.u.Func != nil && o.emits == nil,
		})
	}
	return list, nil
}

// Tables returns the tables that rows arrive as: what the unit's Func emits in place
// of its rows, if it has one. There may be others if Unknown is set.
func (t Target) Tables() []*dfs.Table {
	switch {
	case t.Unknown || t.Table == nil:
		return nil
	case t.Emits != nil:
		return t.Emits
	}
	return []*dfs.Table{t.Table}
}

// String shows the target column by column, a line each.
func (t Target) String() string {
	var b strings.Builder
	if t.Table == nil {
		return fmt.Sprintf("%s -> nothing\n", t.Source)
	}
	fmt.Fprintf(&b, "%s -> %s", t.Source, t.Table)
	if t.Unit != "" {
		fmt.Fprintf(&b, ", unit %q", t.Unit)
	}
	if t.Part {
		b.WriteString(", part of its rows")
	}
	b.WriteByte('\n')
	wide := 0
	for _, c := range t.Table.Columns {
		wide = max(wide, len(c.Name)+1+len(c.Type))
	}
	for i, c := range t.Table.Columns {
		key := ""
		if slices.Contains(t.Table.Key, i) {
			key = " (key)"
		}
		if containsFold(t.Missing, c.Name) {
			key += "  MISSING on the target"
		}
		fmt.Fprintf(&b, "  %-*s <- %s%s\n", wide, c.Name+" "+c.Type, t.Origins[i], key)
	}
	for _, name := range t.Dropped {
		fmt.Fprintf(&b, "  dropped: %s\n", name)
	}
	for _, e := range t.Emits {
		fmt.Fprintf(&b, "  emits: %s\n", e)
	}
	if t.Unknown {
		b.WriteString("  a function makes of these what only the rows will tell\n")
	}
	for _, note := range t.Notes {
		fmt.Fprintf(&b, "  note: %s\n", note)
	}
	return b.String()
}

// CreateTables returns statements that create the targets' tables, one for each,
// in the order of the targets. Parts of rows come together in one table. What
// dfs.Table does not tell, such as indexes, defaults and AUTO_INCREMENT, is not
// there.
func CreateTables(targets ...Target) []string {
	var order []string
	tables := make(map[string]*dfs.Table)
	add := func(t *dfs.Table) {
		if t == nil {
			return
		}
		old := tables[t.String()]
		if old == nil {
			order = append(order, t.String())
			c := *t
			c.Columns = slices.Clone(t.Columns)
			tables[t.String()] = &c
			return
		}
		for _, c := range t.Columns {
			if old.Column(c.Name) < 0 {
				old.Columns = append(old.Columns, c)
			}
		}
	}
	for _, t := range targets {
		for _, made := range t.Tables() {
			add(made)
		}
	}
	var list []string
	for _, name := range order {
		list = append(list, createTable(tables[name]))
	}
	return list
}

func createTable(t *dfs.Table) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s.%s (\n", quoteName(t.Schema), quoteName(t.Name))
	for i, c := range t.Columns {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, "  %s %s", quoteName(c.Name), columnType(&c))
		switch {
		case !c.Nullable || slices.Contains(t.Key, i):
			b.WriteString(" NOT NULL")
		case strings.HasPrefix(c.Type, "timestamp"):
			b.WriteString(" NULL") // else some servers add NOT NULL and a default
		}
	}
	for k, i := range t.Key {
		if k == 0 {
			b.WriteString(",\n  PRIMARY KEY (")
		} else {
			b.WriteString(", ")
		}
		b.WriteString(quoteName(t.Columns[i].Name))
	}
	if t.Key != nil {
		b.WriteByte(')')
	}
	b.WriteString("\n)")
	return b.String()
}

func columnType(c *dfs.Column) string {
	typ := c.Type
	if len(c.Members) > 0 && !strings.Contains(typ, "(") {
		var names []string
		for _, m := range c.Members {
			names = append(names, "'"+strings.NewReplacer("'", "''", `\`, `\\`).Replace(m)+"'")
		}
		typ += "(" + strings.Join(names, ",") + ")"
	}
	if convert.KindOf(c) == dfs.String || len(c.Members) > 0 {
		if c.Charset != "" {
			typ += " CHARACTER SET " + c.Charset
		}
		if c.Collation != "" {
			typ += " COLLATE " + c.Collation
		}
	}
	return typ
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// tryPlan is newPlan, and makes a fault of a Match that panics.
func (s *Units) tryPlan(t *dfs.Table) (_ *plan, err error) {
	defer func() {
		if u := s.choosing; u != nil {
			err = &Fault{Unit: u.index, Name: u.name, Field: "Match", Table: t.String(), Text: fmt.Sprintf("the function panicked: %v", recover())}
		}
	}()
	return s.newPlan(t)
}

// checkTables finds the faults of the units that show with the source's tables.
func (s *Units) checkTables() error {
	var errs []error
	used := make(map[*unit]bool)
	writers := make(map[string][]*output)
	var order []string
	for _, t := range s.opts.Tables {
		p, err := s.tryPlan(t)
		if err != nil {
			errs = append(errs, err)
			if s.choosing != nil {
				return errors.Join(errs...)
			}
			for _, u := range s.units {
				if _, ok := u.matches(t); ok {
					used[u] = true
				}
			}
			continue
		}
		s.plans[t] = p
		s.byName[t.String()] = append(s.byName[t.String()], p)
		for _, o := range p.outs {
			used[o.u] = true
			name := strings.ToLower(o.table.String())
			if writers[name] == nil {
				order = append(order, name)
			}
			writers[name] = append(writers[name], o)
		}
	}
	for _, u := range s.units {
		if !used[u] {
			errs = append(errs, &Fault{Unit: u.index, Name: u.name, Field: "From", Text: "no table of the source comes to it: " +
				"the pattern is wrong, or a unit before it takes them all; that one may need Also"})
			continue
		}
		errs = append(errs, u.unusedNames(s.opts.Tables)...)
	}
	for _, name := range order {
		errs = append(errs, sharedTarget(writers[name])...)
	}
	return errors.Join(errs...)
}

// unusedNames finds the names of a unit of many tables that none of those has.
func (u *unit) unusedNames(tables []*dfs.Table) (errs []error) {
	if !u.wild() {
		return nil // its names have been checked
	}
	for _, f := range []struct {
		field string
		names []string
	}{{"Drop", u.Drop}, {"Mask", keys(u.Mask)}, {"Cast", keys(u.Cast)}, {"Rename", keys(u.Rename)}} {
		for _, name := range f.names {
			found := f.field == "Rename" && u.makes(name)
			for _, t := range tables {
				if _, ok := u.matches(t); ok {
					found = found || t.Column(name) >= 0
				}
			}
			if !found {
				errs = append(errs, &Fault{Unit: u.index, Name: u.name, Field: f.field, Text: fmt.Sprintf("none of its tables has a column %s", name)})
			}
		}
	}
	return errs
}

// sharedTarget finds what is wrong with outputs that write one table.
func sharedTarget(outs []*output) (errs []error) {
	for i, o := range outs {
		for _, p := range outs[:i] {
			fault := func(field, format string, args ...any) {
				errs = append(errs, &Fault{Unit: o.u.index, Name: o.u.name, Field: field, Table: o.src.String(), Text: fmt.Sprintf(format, args...)})
			}
			if o.u.Func != nil || p.u.Func != nil {
				continue
			}
			switch {
			case o.u.Part != p.u.Part:
				fault("Part", "%s is also written by unit %q; either both are Part or none", o.table, p.u.name)
			case o.u.Part:
				if !sameKeys(o.table, p.table) {
					fault("Key", "the key of %s differs from that of unit %q", o.table, p.u.name)
				}
				for k, c := range o.table.Columns {
					if !slices.Contains(o.table.Key, k) && p.table.Column(c.Name) >= 0 && o.u != p.u {
						fault("", "its column %s of %s is also written by unit %q; only one can", c.Name, o.table, p.u.name)
					}
				}
			case o.src == p.src:
				fault("Into", "each row of %s would be written to %s twice, also by unit %q; give one of them another table, or another Where and Key", o.src, o.table, p.u.name)
			case o.rows == nil && p.rows == nil && o.table.Key != nil && !o.tagged(p):
				o.notes = append(o.notes, fmt.Sprintf("rows of %s and %s come together in %s: their keys must not meet; "+
					"a column of Text \"{schema}\" in Key keeps them apart", p.src, o.src, o.table))
			}
		}
	}
	return errs
}

// tagged reports whether a constant in the key keeps the rows of two outputs
// apart.
func (o *output) tagged(p *output) bool {
	for _, k := range o.table.Key {
		c := &o.cells[k]
		if c.from >= 0 || c.compute != nil {
			continue
		}
		if i := p.table.Column(o.table.Columns[k].Name); i >= 0 && p.cells[i].from < 0 && p.cells[i].compute == nil && p.cells[i].value != c.value {
			return true
		}
	}
	return false
}

func sameKeys(a, b *dfs.Table) bool {
	return slices.EqualFunc(a.Key, b.Key, func(i, j int) bool { return strings.EqualFold(a.Columns[i].Name, b.Columns[j].Name) })
}
