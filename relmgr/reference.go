package relmgr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/match"
)

// A ForeignKey is one that the source declares, as package cdc has it.
type ForeignKey struct {
	Name                 string
	Schema, Table        string
	Columns              []string // of Table
	ParentSchema, Parent string
	ParentColumns        []string
	OnDelete, OnUpdate   string
	ParentFollowed       bool
}

// A Reference says that columns hold keys of another table, where the source
// declares no foreign key that says so.
type Reference struct {
	// Table is whose column it is: "shop.orders".
	Table string

	// Columns hold the key. Most keys have one column.
	Columns []string

	// Parent is the table whose key it is, and ParentColumns the columns that make
	// it up, in the order of Columns. Default: the primary key.
	Parent        string
	ParentColumns []string

	// TypeColumn makes the reference polymorphic, in place of Parent: another
	// column of the row says which table the id is of. Parents gives the table for
	// each of its values, as text; "" stands for a value with which the id stays as
	// it is. Other values are errors.
	TypeColumn string
	Parents    map[string]string

	// Path makes it a reference within JSON documents in the column: "$.customer",
	// "$.items[*].product", `$."odd name"[0]`. What is not there, or null, is no
	// reference.
	Path string

	// None lists values, as text, that refer to no row and stay as they are, such
	// as "0". NULL always does.
	None []string

	// Late says that a row may be there before the row that it refers to. It is
	// then applied without the target's foreign keys. By default the target's
	// foreign key, if it has one, refuses the row.
	Late bool
}

// A reference is one that was found to be right in itself.
type reference struct {
	Reference
	place string // such as "References[2]" or "foreign key orders_ibfk_1"
	path  []step // of JSON
	none  map[string]bool
}

func parseReferences(list []Reference, keys []ForeignKey) (parsed []*reference, errs []error) {
	for i, spec := range list {
		r := &reference{Reference: spec, place: fmt.Sprintf("References[%d]", i)}
		fault := func(format string, args ...any) {
			errs = append(errs, &Fault{Place: r.place, Table: spec.Table, Text: fmt.Sprintf(format, args...)})
		}
		if !strings.Contains(spec.Table, ".") {
			fault(`Table: write it as "schema.table"`)
		}
		if len(spec.Columns) == 0 {
			fault("Columns is empty; name the columns that hold the key")
		}
		poly := spec.TypeColumn != ""
		switch {
		case poly && (spec.Parent != "" || spec.ParentColumns != nil):
			fault("TypeColumn and Parent are both set; list the tables in Parents, and leave out Parent and ParentColumns")
		case poly && len(spec.Parents) == 0:
			fault("Parents is empty; say which table the id is of for each value of %s", spec.TypeColumn)
		case !poly && spec.Parents != nil:
			fault("Parents is set and TypeColumn is not; name the column that tells which table the id is of")
		case !poly && !strings.Contains(spec.Parent, "."):
			fault(`Parent: write it as "schema.table"`)
		}
		if (poly || spec.Path != "") && len(spec.Columns) > 1 {
			fault("a reference with TypeColumn or Path has one column")
		}
		if poly && spec.Path != "" {
			fault("TypeColumn and Path are both set; a reference has either")
		}
		if spec.ParentColumns != nil && len(spec.ParentColumns) != len(spec.Columns) {
			fault("it has %d Columns and %d ParentColumns; there must be as many of both", len(spec.Columns), len(spec.ParentColumns))
		}
		if spec.Path != "" {
			var err error
			if r.path, err = parsePath(spec.Path); err != nil {
				fault("Path %q: %v", spec.Path, err)
			}
		}
		r.none = make(map[string]bool)
		for _, v := range spec.None {
			r.none[v] = true
		}
		parsed = append(parsed, r)
	}
	for _, k := range keys {
		parsed = append(parsed, declared(k))
	}
	return parsed, errs
}

// declared makes a reference of a foreign key.
func declared(k ForeignKey) *reference {
	return &reference{place: "foreign key " + k.Name, Reference: Reference{
		Table: k.Schema + "." + k.Table, Columns: k.Columns, Parent: k.ParentSchema + "." + k.Parent, ParentColumns: k.ParentColumns,
	}}
}

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
			"or say that its keys stay as they are by a Policy with Ids keep", parent)
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
		if pol.Ids == Keep {
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
		ids = pol.Ids
		if pol.Type != "" {
			typ = pol.Type
		} else if k := kindOf(typ); ids == UUID && k != dfs.String && k != dfs.Bytes {
			typ = "char(36)"
		}
	}
	switch k := kindOf(typ); {
	case ids == Allocate && k != dfs.Int64 && k != dfs.Uint64:
		return nil, fault(fmt.Sprintf("Policies[%d]", pol.index), t, col.Name, "ids from blocks are whole numbers, and the column is a %s: "+
			"set Type, or use Ids uuid or function", typ)
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
func (m *Manager) openSpace(t *dfs.Table, c int, key []string, typ string, ids Ids, pol *policy) (*space, error) {
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
			"the primary key or the policy has changed, and ids that are given stay; put back what it was, or set Ids keep for the table",
			joinNames(sp.key), joinNames(key))
	}
	sp.typ, sp.policy, sp.now = typ, pol, col.Name
	if pol == nil {
		sp.policy = &policy{Policy: Policy{Ids: Allocate}}
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
		if p.Ids == Keep {
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
			return p.Ids == Keep
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

func isBits(typ string) bool {
	name, _, _ := strings.Cut(typ, "(")
	switch name {
	case "bit", "enum", "set", "year":
		return true
	}
	return false
}

// lengthOf returns how many characters or bytes a type holds; 0 if it does not say.
func lengthOf(typ string) int {
	t, err := convert.Parse(typ)
	if err != nil || len(t.Args) == 0 {
		return 0
	}
	return t.Args[0]
}

func inexact(typ string) bool {
	k := kindOf(typ)
	return k == dfs.Float32 || k == dfs.Float64 || k == dfs.JSON
}

func holdsUUID(typ string) bool {
	switch k := kindOf(typ); k {
	case dfs.String:
		return lengthOf(typ) == 0 || lengthOf(typ) >= 36
	case dfs.Bytes:
		return lengthOf(typ) == 0 || lengthOf(typ) >= 16
	}
	return false
}

// Declared returns the foreign keys that package cdc's Source.ForeignKeys told.
func Declared[K ~struct {
	Name                 string
	Schema, Table        string
	Columns              []string
	ParentSchema, Parent string
	ParentColumns        []string
	OnDelete, OnUpdate   string
	ParentFollowed       bool
}](keys []K) []ForeignKey {
	var list []ForeignKey
	for _, k := range keys {
		list = append(list, ForeignKey(k))
	}
	return list
}
