package relmgr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A target is what becomes of one column: its space, and the columns of the table
// that hold the old key.
type target struct {
	space *space
	args  []string
	refs  []*reference // nil for the ids of the table itself
}

func (a *target) same(b *target) bool {
	return a.space == b.space && slices.EqualFunc(a.args, b.args, strings.EqualFold)
}

// A resolver finds out what becomes of columns.
type resolver struct {
	m    *Manager
	path []string // columns that are being resolved, as "schema.table.column"
}

func fault(place string, t *dfs.Table, column, format string, args ...any) error {
	return &Fault{Place: place, Table: t.String(), Column: column, Text: fmt.Sprintf(format, args...)}
}

// column finds out what becomes of column c of t; nil if it stays.
func (r *resolver) column(t *dfs.Table, c int) (*target, error) {
	name := t.Columns[c].Name
	at := strings.ToLower(t.String() + "." + name)
	if i := slices.Index(r.path, at); i >= 0 {
		return nil, fault("", t, name, "the keys of these columns refer to each other in a ring: %s; "+
			"give one of them a Policy with its Column, and it gets the ids", strings.Join(r.path[i:], ", "))
	}
	r.path = append(r.path, at)
	defer func() { r.path = r.path[:len(r.path)-1] }()

	pol, explicit, err := r.m.policyOf(t, c)
	if err != nil {
		return nil, err
	}
	var found *target
	var kept *reference // one by which the column holds keys that stay
	if !(explicit && pol.Column != "") || !r.inRing(t, c) {
		for _, ref := range r.m.refs[strings.ToLower(t.String())] {
			if ref.TypeColumn != "" || ref.Path != "" {
				continue
			}
			to, keeps, err := r.reference(t, c, ref)
			if err != nil {
				return nil, err
			}
			if keeps {
				kept = ref
			}
			switch {
			case to == nil:
			case found == nil:
				found = to
			case !found.same(to):
				return nil, fault(ref.place, t, name, "it holds ids of %s.%s, and by %s also of %s.%s, which are not the same: "+
					"leave one of the references out, or let the key of one of these tables refer to the other's",
					to.space.table, to.space.column, found.refs[0].place, found.space.table, found.space.column)
			default:
				found.refs = append(found.refs, to.refs...)
			}
		}
	}
	if found != nil && kept != nil {
		return nil, fault(kept.place, t, name, "it holds keys of %s, which stay, and by %s also those of %s.%s, which get new ids: "+
			"leave one of the references out, or give both tables the same policy and let the key of one refer to the other's",
			kept.Parent, found.refs[0].place, found.space.table, found.space.column)
	}
	if found != nil {
		if explicit && !match.Wild(pol.Table) {
			return nil, fault(fmt.Sprintf("Policies[%d]", pol.index), t, name, "the column holds ids of %s.%s, by %s, so it cannot have ids of its own: "+
				"leave the policy out, or set that of %[1]s", found.space.table, found.space.column, found.refs[0].place)
		}
		return found, nil
	}
	return r.own(t, c, pol, explicit)
}

// inRing reports whether the references of a column lead back to it.
func (r *resolver) inRing(t *dfs.Table, c int) bool {
	seen := make(map[string]bool)
	start := strings.ToLower(t.String() + "." + t.Columns[c].Name)
	var walk func(table, column string) bool
	walk = func(table, column string) bool {
		k := strings.ToLower(table + "." + column)
		if seen[k] {
			return k == start
		}
		seen[k] = true
		for _, ref := range r.m.refs[strings.ToLower(table)] {
			i := indexFold(ref.Columns, column)
			if i < 0 || ref.TypeColumn != "" || ref.Path != "" {
				continue
			}
			cols := ref.ParentColumns
			if p := r.m.table(ref.Parent); cols == nil && p != nil && len(p.Key) == len(ref.Columns) {
				cols = columnNames(p, p.Key)
			}
			if i < len(cols) && !(strings.EqualFold(ref.Parent, table) && strings.EqualFold(cols[i], column)) && walk(ref.Parent, cols[i]) {
				return true
			}
		}
		return false
	}
	return walk(t.String(), t.Columns[c].Name)
}

// reference finds out what becomes of column c of t by one reference. keeps says
// that it holds keys which stay as they are.
func (r *resolver) reference(t *dfs.Table, c int, ref *reference) (to *target, keeps bool, err error) {
	name := t.Columns[c].Name
	i := indexFold(ref.Columns, name)
	if i < 0 {
		return nil, false, nil
	}
	cols, parent, err := r.parent(t, name, ref, ref.Parent, ref.ParentColumns)
	if err != nil || cols == nil {
		return nil, err == nil, err
	}
	if strings.EqualFold(ref.Parent, t.String()) && strings.EqualFold(cols[i], name) {
		return nil, false, nil // a key that refers to itself says nothing
	}
	of, err := r.key(parent, ref.Parent, cols[i])
	if err != nil || of == nil {
		return nil, err == nil, err
	}
	out := &target{space: of.space, refs: []*reference{ref}}
	for _, a := range of.args {
		k := indexFold(cols, a)
		if k < 0 {
			return nil, false, fault(ref.place, t, name, "it holds %s.%s, whose new ids go by the columns %s together, and the reference lacks %s: "+
				"add it to Columns and ParentColumns", ref.Parent, cols[i], joinNames(of.args), a)
		}
		out.args = append(out.args, ref.Columns[k])
	}
	return out, false, nil
}

// parent returns the columns of the parent that a reference is to, and its table,
// which is nil if only the map knows of it. Without columns the parent keeps its
// keys.
func (r *resolver) parent(t *dfs.Table, name string, ref *reference, parent string, columns []string) ([]string, *dfs.Table, error) {
	p := r.m.table(parent)
	if columns == nil && p != nil {
		columns = columnNames(p, p.Key)
	}
	if p == nil {
		for _, sp := range r.m.spaces {
			if strings.EqualFold(sp.table, parent) {
				if columns == nil {
					columns = sp.key
				}
				break
			}
		}
	}
	if p == nil && columns != nil && r.m.spaceOf(parent) == nil || columns == nil && p == nil {
		if r.m.keeps(parent) {
			return nil, nil, nil
		}
		return nil, nil, fault(ref.place, t, name, "it refers to %s, of whose ids nothing is known: follow that table too, "+
			"or say that its keys stay as they are by a Policy with IDs keep", parent)
	}
	if len(columns) != len(ref.Columns) {
		return nil, nil, fault(ref.place, t, name, "it has %d columns, and the key of %s has %d (%s): name as many, in ParentColumns too",
			len(ref.Columns), parent, len(columns), joinNames(columns))
	}
	return columns, p, nil
}

// key finds out what becomes of a column that is referred to.
func (r *resolver) key(p *dfs.Table, table, column string) (*target, error) {
	if p == nil { // the table is gone, and its ids are known
		for _, sp := range r.m.spaces {
			if strings.EqualFold(sp.table, table) && strings.EqualFold(sp.column, column) {
				return &target{space: sp, args: sp.key}, nil
			}
		}
		return nil, nil
	}
	i := p.Column(column)
	if i < 0 {
		return nil, fmt.Errorf("the table %s has no column %s, which is referred to", p, column)
	}
	return r.column(p, i)
}

// own finds the space of a column's own ids; nil if it has none.
func (r *resolver) own(t *dfs.Table, c int, pol *policy, explicit bool) (*target, error) {
	col := &t.Columns[c]
	inKey := slices.Contains(t.Key, c)
	if !explicit {
		k := kindOf(col.Type)
		if len(t.Key) != 1 || t.Key[0] != c || k != dfs.Int64 && k != dfs.Uint64 || isBits(col.Type) || r.m.opts.Default == Keep {
			return nil, nil
		}
		pol = nil
	} else {
		if pol.IDs == Keep {
			return nil, nil
		}
		if pol.Column == "" && !inKey {
			return nil, nil
		}
	}
	key := []string{col.Name}
	if inKey {
		key = columnNames(t, t.Key)
	}
	typ := col.Type
	ids := Allocate
	if explicit {
		ids = pol.IDs
		if pol.Type != "" {
			typ = pol.Type
		} else if k := kindOf(typ); ids == UUID && k != dfs.String && k != dfs.Bytes {
			typ = "char(36)"
		}
	}
	switch k := kindOf(typ); {
	case ids == Allocate && k != dfs.Int64 && k != dfs.Uint64:
		return nil, fault(fmt.Sprintf("Policies[%d]", pol.index), t, col.Name, "ids from blocks are whole numbers, and the column is a %s: "+
			"set Type, or use IDs uuid or function", typ)
	case ids == UUID && !holdsUUID(typ):
		return nil, fault(fmt.Sprintf("Policies[%d]", pol.index), t, col.Name, "a %s does not hold a UUID: set Type to char(36) or binary(16)", typ)
	}
	for _, k := range key {
		if i := t.Column(k); inexact(t.Columns[i].Type) {
			return nil, fault("", t, k, "a %s is no key that can be looked up exactly; keep it", t.Columns[i].Type)
		}
	}
	sp, err := r.m.openSpace(t, c, key, typ, ids, pol)
	if err != nil {
		return nil, err
	}
	return &target{space: sp, args: key}, nil
}

// openSpace returns the space of a column, and makes it if it is new.
func (m *Manager) openSpace(t *dfs.Table, c int, key []string, typ string, ids IDs, pol *policy) (*space, error) {
	col := t.Columns[c]
	kind := kindOf(col.Type)
	linear := ids == Allocate && len(key) == 1 && (kind == dfs.Int64 || kind == dfs.Uint64)
	var sp *space
	renamed := false
	for _, s := range m.spaces {
		if !strings.EqualFold(s.table, t.String()) {
			continue
		}
		if strings.EqualFold(s.column, col.Name) {
			sp, renamed = s, false
			break
		}
		// The key of one column that is no longer there has got this name.
		if len(s.key) == 1 && len(t.Key) == 1 && t.Key[0] == c && strings.EqualFold(s.key[0], s.column) && t.Column(s.column) < 0 {
			sp, renamed = s, true
		}
	}
	switch {
	case sp == nil:
		sp = &space{table: t.String(), column: col.Name, key: key, linear: linear, empty: true}
		m.spaces = append(m.spaces, sp)
	case sp.linear != linear || !renamed && !slices.EqualFunc(sp.key, key, strings.EqualFold):
		return nil, fault("", t, col.Name, "its new ids go by the columns %s, as the map has it, and now they would go by %s: "+
			"the primary key or the policy has changed, and ids that are given stay; put back what it was, or set IDs keep for the table",
			joinNames(sp.key), joinNames(key))
	}
	sp.typ, sp.policy, sp.now = typ, pol, col.Name
	if pol == nil {
		sp.policy = &policy{Policy: Policy{IDs: Allocate}}
	}
	sp.retyped = typ != col.Type
	sp.unsigned = kind == dfs.Uint64
	sp.columns = nil
	for _, k := range key {
		sp.columns = append(sp.columns, t.Columns[t.Column(k)])
	}
	return sp, nil
}

// policyOf returns the policy for the ids of a column, and whether it names the
// column, by itself or as that of the primary key.
func (m *Manager) policyOf(t *dfs.Table, c int) (*policy, bool, error) {
	for _, p := range m.policies {
		if !p.pattern.Match(t.Schema, t.Name) {
			continue
		}
		if p.Column != "" {
			if strings.EqualFold(p.Column, t.Columns[c].Name) {
				return p, true, nil
			}
			continue
		}
		if !slices.Contains(t.Key, c) {
			return p, false, nil
		}
		if len(t.Key) == 1 {
			return p, true, nil
		}
		// Of several columns, the one that refers to nothing.
		var free []int
		for _, k := range t.Key {
			if !m.refers(t, t.Columns[k].Name) {
				free = append(free, k)
			}
		}
		if p.IDs == Keep {
			return p, slices.Contains(free, c), nil
		}
		if len(free) != 1 {
			return nil, false, fault(fmt.Sprintf("Policies[%d]", p.index), t, "", "the primary key has the columns %s, and %d of them refer to no other table: "+
				"name the Column that gets new ids", joinNames(columnNames(t, t.Key)), len(free))
		}
		return p, free[0] == c, nil
	}
	return nil, false, nil
}

// refers reports whether a column is part of a reference.
func (m *Manager) refers(t *dfs.Table, column string) bool {
	for _, ref := range m.refs[strings.ToLower(t.String())] {
		if ref.Path == "" && indexFold(ref.Columns, column) >= 0 {
			return true
		}
	}
	return false
}

// keeps reports whether a policy says that the keys of a table stay.
func (m *Manager) keeps(table string) bool {
	schema, name, _ := strings.Cut(table, ".")
	for _, p := range m.policies {
		if p.pattern.Match(schema, name) {
			return p.IDs == Keep
		}
	}
	return m.opts.Default == Keep
}

func (m *Manager) spaceOf(table string) *space {
	for _, sp := range m.spaces {
		if strings.EqualFold(sp.table, table) {
			return sp
		}
	}
	return nil
}

func indexFold(list []string, name string) int {
	return slices.IndexFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

func columnNames(t *dfs.Table, columns []int) (names []string) {
	for _, c := range columns {
		names = append(names, t.Columns[c].Name)
	}
	return names
}

// joinNames writes names of columns so that they can be read again.
func joinNames(names []string) string { return strings.Join(names, ",") }
