package relmgr

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A plan is what is done to each row of one table.
type plan struct {
	table *dfs.Table
	out   *dfs.Table // as it is handed on: the same unless a column has another type
	cells []cell
	kept  []int
}

// A cell rewrites one column.
type cell struct {
	col   int
	kind  dfs.Kind // of the column as it is handed on
	space *space   // nil if it depends on the row
	args  []int    // the columns that hold the old key
	own   bool     // the ids are the table's own
	late  bool
	none  map[string]bool
	place string

	typeCol int               // of a polymorphic reference; else -1
	byType  map[string]*space // by its text; a nil space keeps the id
	docs    []document        // references in the JSON documents of the column
}

// A document is one reference in JSON.
type document struct {
	space *space
	path  []step
	late  bool
	none  map[string]bool
	place string
}

// maxPlans bounds what is kept of a source that makes ever new Tables.
const maxPlans = 10000

// plan returns what is done to rows of a table.
func (m *Manager) plan(t *dfs.Table) (*plan, error) {
	if t == m.last {
		return m.lastPlan, nil
	}
	p := m.plans[t]
	if p == nil {
		// A source may describe one table by ever new Tables.
		name := strings.ToLower(t.String())
		for _, old := range m.byName[name] {
			if sameTable(old.table, t) {
				p = old
			}
		}
		if p == nil {
			if known := m.tables[name]; known == nil || !sameTable(known, t) {
				if known == nil && m.opts.Unknown == UnknownError {
					return nil, &Error{Table: t.String(), Err: errors.New("the table is not one of Options.Tables, and Unknown is error: " +
						"start again, so that its keys and foreign keys are read")}
				}
				if known != nil && known.String() != t.String() {
					return nil, sameName(known, t)
				}
				m.setTable(t)
			}
			var err error
			if p, err = m.newPlan(t); err != nil {
				return nil, err
			}
			if err := m.see(p); err != nil {
				return nil, err
			}
			m.byName[name] = append(m.byName[name], p)
		}
		if len(m.plans) >= maxPlans {
			clear(m.plans)
			clear(m.byName)
		}
		m.plans[t] = p
	}
	m.last, m.lastPlan = t, p
	return p, nil
}

// setTable makes a table the one by its name that is known from now on. What
// refers to it may be rewritten in another way.
func (m *Manager) setTable(t *dfs.Table) {
	m.tables[strings.ToLower(t.String())] = t
	m.forgetPlans()
}

func (m *Manager) table(name string) *dfs.Table { return m.tables[strings.ToLower(name)] }

func sameTable(a, b *dfs.Table) bool {
	return a == b || a.Schema == b.Schema && a.Name == b.Name && slices.Equal(a.Key, b.Key) &&
		slices.EqualFunc(a.Columns, b.Columns, func(x, y dfs.Column) bool {
			return x.Name == y.Name && x.Type == y.Type && x.Charset == y.Charset && x.Collation == y.Collation &&
				x.Nullable == y.Nullable && slices.Equal(x.Members, y.Members)
		})
}

// newPlan finds out what becomes of a table, or returns all faults.
func (m *Manager) newPlan(t *dfs.Table) (*plan, error) {
	p := &plan{table: t, out: t}
	var errs []error
	for c := range t.Columns {
		to, err := (&resolver{m: m}).column(t, c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if to == nil {
			if slices.Contains(t.Key, c) {
				p.kept = append(p.kept, c)
			}
			continue
		}
		cl := cell{col: c, space: to.space, own: to.refs == nil, typeCol: -1}
		for _, a := range to.args {
			i := t.Column(a)
			if i < 0 {
				errs = append(errs, fault("", t, t.Columns[c].Name, "its new ids go by the column %s, which is not there", a))
			}
			cl.args = append(cl.args, i)
		}
		for _, ref := range to.refs {
			cl.take(ref)
		}
		p.cells = append(p.cells, cl)
		if err := p.retype(&p.cells[len(p.cells)-1], to.space); err != nil {
			errs = append(errs, err)
		}
	}
	for _, ref := range m.refs[strings.ToLower(t.String())] {
		if ref.TypeColumn == "" && ref.Path == "" {
			for _, c := range ref.Columns {
				if t.Column(c) < 0 && strings.HasPrefix(ref.place, "References") {
					errs = append(errs, m.missing(ref, t, c))
				}
			}
			continue
		}
		cl, err := m.special(t, ref, p)
		if err != nil {
			errs = append(errs, err)
		} else if cl != nil {
			p.cells = append(p.cells, *cl)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i := range p.cells {
		p.cells[i].kind = kindOf(p.out.Columns[p.cells[i].col].Type)
	}
	return p, nil
}

// missing is the fault of a column that is not there.
func (m *Manager) missing(ref *reference, t *dfs.Table, column string) error {
	return fault(ref.place, t, "", "there is no column %s; the columns are %s", column, joinNames(columnNames(t, allColumns(t))))
}

func allColumns(t *dfs.Table) (list []int) {
	for i := range t.Columns {
		list = append(list, i)
	}
	return list
}

// take takes over what a reference says besides what it refers to.
func (cl *cell) take(ref *reference) {
	cl.late = cl.late || ref.Late
	if cl.place == "" {
		cl.place = ref.place
	}
	if len(ref.none) > 0 {
		if cl.none == nil {
			cl.none = make(map[string]bool)
		}
		maps.Copy(cl.none, ref.none)
	}
}

// special makes the cell of a reference that is polymorphic or in JSON.
func (m *Manager) special(t *dfs.Table, ref *reference, p *plan) (*cell, error) {
	c := t.Column(ref.Columns[0])
	if c < 0 {
		return nil, m.missing(ref, t, ref.Columns[0])
	}
	name := t.Columns[c].Name
	if slices.ContainsFunc(p.cells, func(o cell) bool { return o.col == c && (o.docs == nil || ref.path == nil) }) {
		return nil, fault(ref.place, t, name, "the column is rewritten by another reference or policy already; leave one out")
	}
	cl := &cell{col: c, args: []int{c}, typeCol: -1}
	cl.take(ref)
	if isJSON := kindOf(t.Columns[c].Type) == dfs.JSON || isText(t.Columns[c].Type); ref.path != nil && !isJSON {
		return nil, fault(ref.place, t, name, "Path is for documents, and the column is a %s", t.Columns[c].Type)
	} else if ref.path == nil && kindOf(t.Columns[c].Type) == dfs.JSON {
		return nil, fault(ref.place, t, name, "the column holds documents; say by Path where in them the id is")
	}
	parents := map[string]string{"": ref.Parent}
	if ref.TypeColumn != "" {
		if cl.typeCol = t.Column(ref.TypeColumn); cl.typeCol < 0 {
			return nil, m.missing(ref, t, ref.TypeColumn)
		}
		parents, cl.byType = ref.Parents, make(map[string]*space)
		if col := &t.Columns[cl.typeCol]; len(col.Members) > 0 {
			for _, v := range slices.Sorted(maps.Keys(parents)) {
				if !slices.Contains(col.Members, v) {
					return nil, fault(ref.place, t, name, "Parents has the value %q, which %s cannot have; it has %s", v, col.Name, strings.Join(col.Members, ", "))
				}
			}
		}
	}
	for _, v := range slices.Sorted(maps.Keys(parents)) {
		parent := parents[v]
		if parent == "" {
			cl.byType[v] = nil
			continue
		}
		r := &resolver{m: m}
		cols, table, err := r.parent(t, name, ref, parent, ref.ParentColumns)
		if err != nil {
			return nil, err
		}
		var sp *space
		if cols != nil {
			to, err := r.key(table, parent, cols[0])
			if err != nil {
				return nil, err
			}
			if to != nil {
				sp = to.space
				if len(sp.key) > 1 {
					return nil, fault(ref.place, t, name, "the ids of %s go by the columns %s together, which one column cannot hold", parent, joinNames(sp.key))
				}
			}
		}
		switch {
		case cl.byType == nil && sp == nil:
			return nil, nil // the parent keeps its keys
		case cl.byType == nil:
			doc := document{sp, ref.path, ref.Late, ref.none, ref.place}
			for i := range p.cells { // another path in the same documents
				o := &p.cells[i]
				if o.col == c && slices.ContainsFunc(o.docs, func(d document) bool { return overlap(d.path, ref.path) }) {
					return nil, fault(ref.place, t, name, "the path %s leads to what another reference's leads to; leave one out", pathText(ref.path))
				}
				if o.col == c {
					o.docs = append(o.docs, doc)
					return nil, nil
				}
			}
			cl.docs = append(cl.docs, doc)
		default:
			cl.byType[v] = sp
		}
		if sp != nil && ref.path == nil {
			if err := p.retype(cl, sp); err != nil {
				return nil, err
			}
		}
	}
	return cl, nil
}

// retype makes sure that a column can hold the new ids of a space, and gives it
// their type if that is not what the source has.
func (p *plan) retype(cl *cell, sp *space) error {
	col := &p.out.Columns[cl.col]
	from, to := kindOf(col.Type), kindOf(sp.typ)
	if sp.retyped && sp.typ != col.Type {
		if p.out == p.table {
			out := *p.table
			out.Columns = slices.Clone(out.Columns)
			p.out = &out
		}
		col = &p.out.Columns[cl.col]
		col.Type, col.Members, col.Charset, col.Collation = sp.typ, nil, "", ""
		if to == dfs.String {
			col.Charset, col.Collation = "ascii", "ascii_general_ci"
		}
		return nil
	}
	number := to == dfs.Int64 || to == dfs.Uint64
	switch {
	case from == to, number && (from == dfs.Int64 || from == dfs.Uint64 && !isBits(col.Type) || from == dfs.Decimal || from == dfs.String):
		return nil
	}
	return fault(cl.place, p.table, col.Name, "a %s cannot hold the new ids of %s.%s, which are of the type %s", col.Type, sp.table, sp.column, sp.typ)
}

func isText(typ string) bool { return kindOf(typ) == dfs.String }

// A Rewrite says what becomes of one column of a table.
type Rewrite struct {
	Column string
	How    string // in words
	Type   string // the type that it gets, if it gets another
	Own    bool   // the ids are the table's own
}

// Rewrites returns what becomes of a table's columns, those that stay left out but
// for the primary key's. Its error joins all faults of the table, each a *Fault.
func (m *Manager) Rewrites(t *dfs.Table) ([]Rewrite, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.newPlan(t)
	if err != nil {
		return nil, err
	}
	var list []Rewrite
	for c := range t.Columns {
		if slices.Contains(p.kept, c) {
			list = append(list, Rewrite{Column: t.Columns[c].Name, How: "kept"})
		}
		for i := range p.cells {
			cl := &p.cells[i]
			if cl.col != c {
				continue
			}
			w := Rewrite{Column: t.Columns[c].Name, Own: cl.own}
			if typ := p.out.Columns[c].Type; typ != t.Columns[c].Type {
				w.Type = typ
			}
			switch {
			case cl.own:
				w.How = "new ids: " + string(cl.space.policy.IDs)
				if len(cl.args) > 1 {
					w.How += ", by " + joinNames(columnNames(t, cl.args))
				}
			case cl.docs != nil:
				var parts []string
				for _, d := range cl.docs {
					parts = append(parts, fmt.Sprintf("%s refers to %s.%s (%s)", pathText(d.path), d.space.table, d.space.column, d.place))
				}
				w.How = strings.Join(parts, ", ")
				list = append(list, w)
				continue
			case cl.typeCol >= 0:
				var parts []string
				for _, v := range slices.Sorted(maps.Keys(cl.byType)) {
					to := "kept"
					if sp := cl.byType[v]; sp != nil {
						to = sp.table + "." + sp.column
					}
					parts = append(parts, fmt.Sprintf("%q: %s", v, to))
				}
				w.How = "refers by " + t.Columns[cl.typeCol].Name + " to " + strings.Join(parts, ", ")
			default:
				w.How = "refers to " + cl.space.table + "." + cl.space.column
			}
			if cl.place != "" {
				w.How += " (" + cl.place + ")"
			}
			list = append(list, w)
		}
	}
	return list, nil
}

// Table returns the table as its rows are handed on.
func (m *Manager) Table(t *dfs.Table) (*dfs.Table, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, err := m.newPlan(t)
	if err != nil {
		return nil, err
	}
	return p.out, nil
}

// memberText returns the text of a value that tells a type.
func memberText(v dfs.Value, col *dfs.Column) string {
	if len(col.Members) > 0 && v.Kind() == dfs.Uint64 {
		return convert.Member(v.Uint(), col.Members, strings.HasPrefix(col.Type, "set"))
	}
	return v.String()
}
