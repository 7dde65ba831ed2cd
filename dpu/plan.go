package dpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/match"
)

// An output is what one unit makes of one table of the source.
type output struct {
	u     *unit
	src   *dfs.Table
	in    []dfs.Column // the source's columns, and those that are looked up
	on    [][]int      // by lookup: the columns of its key
	where *condition
	table *dfs.Table // what is made
	cells []cell     // by column of table; nil if Rows makes the rows
	plain bool       // a row is the source's row
	soft  int        // the SoftDelete column; -1 if there is none
	rows  *rowPlan
	emits []*dfs.Table

	tables map[string]*dfs.Table // made by Change.To

	origins []string // by column of table
	dropped []string
	notes   []string
}

// A cell makes one column's value: a copy of column from, converted, or what
// compute gives for the columns deps, or a constant.
type cell struct {
	from    int // -1 if it is not a copy
	convert convert.Func
	deps    []int
	compute func(ctx context.Context, v []dfs.Value) (dfs.Value, error)
	users   bool // compute is the user's function
	value   dfs.Value
}

// A condition decides about a row.
type condition struct {
	deps []int
	test func(ctx context.Context, v []dfs.Value) (bool, error)

	users bool // test is the user's function
}

// builder makes an output, and collects all that is wrong with it.
type builder struct {
	*output
	captures []string
	cols     []made
	errs     []error
}

// made is a column that is being made.
type made struct {
	def    dfs.Column
	cell   cell
	source string // its name before it is renamed
	origin string
}

func (b *builder) fault(field, format string, args ...any) {
	b.errs = append(b.errs, &Fault{Unit: b.u.index, Name: b.u.name, Field: field, Table: b.src.String(), Text: fmt.Sprintf(format, args...)})
}

// build makes what the unit makes of the table, or returns all faults.
func (u *unit) build(src *dfs.Table, captures []string) (*output, error) {
	o := &output{u: u, src: src, soft: -1, tables: make(map[string]*dfs.Table)}
	b := &builder{output: o, captures: captures}
	o.in = src.Columns
	for i, j := range u.joins {
		field := fmt.Sprintf("Lookups[%d]", i)
		o.on = append(o.on, b.columns(field+".On", j.On, src.Columns))
		for _, c := range j.columns {
			if indexOf(o.in, c.Name) >= 0 {
				b.fault(field, "its column %s has the name of another; give it one by As", c.Name)
			}
		}
		o.in = append(slices.Clip(o.in), j.columns...)
	}
	b.condition()
	schema, name, err := target(u.Into, src, captures)
	if err != nil {
		b.fault("Into", "%v", err)
	}
	o.table = &dfs.Table{Schema: schema, Name: name}
	if u.Rows != nil {
		o.rows, err = u.Rows.plan(o.in)
		if err != nil {
			b.fault("Rows", "%v", err)
		} else {
			o.table.Columns = slices.Clone(o.rows.columns)
			o.table.Key, o.origins = o.rows.key, o.rows.origins
			if u.SoftDelete != "" {
				b.softDelete()
			}
		}
	} else {
		b.kept()
		b.added()
		b.rename()
		b.finish()
	}
	b.partRules()
	if len(b.errs) > 0 {
		return nil, errors.Join(b.errs...)
	}
	for _, t := range u.Emits {
		o.emits = append(o.emits, t)
		o.tables[t.String()] = t
	}
	return o, nil
}

func indexOf(cols []dfs.Column, name string) int {
	t := dfs.Table{Columns: cols}
	return t.Column(name)
}

// columns returns the indexes of columns that must be there.
func (b *builder) columns(field string, names []string, in []dfs.Column) (list []int) {
	if len(names) == 0 && strings.HasSuffix(field, ".On") {
		b.fault(field, "is empty; list the columns that make up the key")
	}
	for _, name := range names {
		if i := indexOf(in, name); i >= 0 {
			list = append(list, i)
		} else {
			b.fault(field, "there is no column %s%s", name, b.meant(name, in))
		}
	}
	return list
}

// meant suggests the column that may have been meant.
func (b *builder) meant(name string, in []dfs.Column) string {
	best, distance := "", 1+max(1, min(len(name)/3, 3))
	for _, c := range in {
		if n := match.Distance(strings.ToLower(name), strings.ToLower(c.Name)); n < distance {
			best, distance = c.Name, n
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

func (b *builder) condition() {
	w := &b.u.Where
	switch {
	case w.Expr != "":
		e, err := compileExpr(w.Expr, b.src.Columns, true)
		if err != nil {
			b.fault("Where", "%v", err)
			return
		}
		b.where = &condition{deps: e.deps, test: func(_ context.Context, v []dfs.Value) (bool, error) { return e.test(v) }}
	case w.Func != nil:
		b.where = &condition{deps: b.columns("Where.From", w.From, b.src.Columns), test: w.Func, users: true}
	}
}

// kept makes the columns that the source has and that stay.
func (b *builder) kept() {
	u := b.u
	selected := b.columns("Select", u.Select, b.in)
	lenient := u.wild() // a unit of many tables may name columns that only some have
	for _, name := range u.Drop {
		if indexOf(b.in, name) < 0 && !lenient {
			b.fault("Drop", "there is no column %s%s", name, b.meant(name, b.in))
		}
	}
	for _, field := range []struct {
		name  string
		names []string
	}{{"Mask", keys(u.Mask)}, {"Cast", keys(u.Cast)}, {"Rename", keys(u.Rename)}} {
		for _, name := range field.names {
			switch {
			case indexOf(b.in, name) < 0 && !(field.name == "Rename" && u.makes(name)):
				if !lenient {
					b.fault(field.name, "there is no column %s%s", name, b.meant(name, b.in))
				}
			case containsFold(u.Drop, name):
				b.fault(field.name, "the column %s is in Drop too", name)
			}
		}
	}
	for i := range b.in {
		c := b.in[i]
		m := made{def: c, source: c.Name, origin: c.Name, cell: cell{from: i}}
		if i >= len(b.src.Columns) {
			m.origin += ", looked up"
		}
		if containsFold(u.Drop, c.Name) || len(u.Select) > 0 && !slices.Contains(selected, i) && !u.makes(c.Name) {
			b.dropped = append(b.dropped, c.Name)
			continue
		}
		if mask, ok := lookupFold(u.masks, c.Name); ok {
			def, f, err := mask.apply(m.def, u.opts.HashKey)
			if err != nil {
				b.fault("Mask", "column %s: %v", c.Name, err)
			}
			m.def, m.cell.convert = def, f
			m.origin += ", masked by " + mask.kind
			if slices.Contains(b.src.Key, i) && mask.kind != "hash" {
				b.fault("Mask", "the column %s is of the primary key, and the mask %s would make keys equal; use hash, or give the unit another Key", c.Name, mask.kind)
			}
		}
		if typ, ok := lookupFold(u.Cast, c.Name); ok {
			b.cast(&m, typ)
		}
		b.cols = append(b.cols, m)
	}
}

func (b *builder) cast(m *made, typ string) {
	to := columnOf(m.def.Name, typ)
	if convert.KindOf(&m.def) == dfs.String && convert.KindOf(&to) == dfs.String {
		to.Charset, to.Collation = m.def.Charset, m.def.Collation
	}
	to.Nullable = m.def.Nullable
	f, lossy, err := convert.New(&m.def, &to)
	if err != nil {
		b.fault("Cast", "column %s: %v", m.source, err)
		return
	}
	if lossy != "" {
		b.notes = append(b.notes, fmt.Sprintf("column %s, %s cast to %s: %s", m.source, m.def.Type, typ, lossy))
	}
	m.origin += ", cast from " + m.def.Type
	if first := m.cell.convert; first != nil && f != nil {
		second := f
		f = func(v dfs.Value) (dfs.Value, error) {
			v, err := first(v)
			if err != nil {
				return v, err
			}
			return second(v)
		}
	} else if f == nil {
		f = first
	}
	m.def, m.cell.convert = to, f
}

// columnOf returns a column of a type; text is in UTF-8.
func columnOf(name, typ string) dfs.Column {
	c := dfs.Column{Name: name, Type: strings.ToLower(typ)}
	if convert.KindOf(&c) == dfs.String {
		c.Charset = "utf8mb4"
	}
	return c
}

// added makes the columns that the unit makes.
func (b *builder) added() {
	for i := range b.u.Columns {
		c := &b.u.Columns[i]
		m, ok := b.makeColumn(c, fmt.Sprintf("Columns[%d]", i))
		if !ok {
			continue
		}
		at := slices.IndexFunc(b.cols, func(o made) bool { return strings.EqualFold(o.source, c.Name) })
		if at < 0 {
			b.cols = append(b.cols, m)
		} else {
			b.cols[at] = m
		}
	}
}

func (b *builder) makeColumn(c *Column, field string) (m made, ok bool) {
	m.source, m.cell.from = c.Name, -1
	typ := c.Type
	var constant any
	switch {
	case c.Expr != "":
		e, err := compileExpr(c.Expr, b.in, false)
		if err != nil {
			b.fault(field+".Expr", "%v", err)
			return m, false
		}
		if typ == "" {
			typ = e.typ
		}
		m.cell.deps, m.origin = e.deps, "= "+c.Expr
		precision, scale := 0, 0
		if t, err := convert.Parse(typ); err == nil { // else it is a fault below
			precision, scale = t.Decimal()
		}
		m.cell.compute = func(_ context.Context, v []dfs.Value) (dfs.Value, error) { return e.value(v, precision, scale) }
	case c.Func != nil:
		m.cell.deps, m.cell.compute, m.cell.users = b.columns(field+".From", c.From, b.in), c.Func, true
		m.origin = "a function of " + strings.Join(c.From, ", ")
	case c.Text != "":
		text, err := expand(c.Text, b.src, b.captures)
		if err != nil {
			b.fault(field+".Text", "%v", err)
			return m, false
		}
		constant, m.origin = text, fmt.Sprintf("the text %q", text)
		if typ == "" {
			typ = "varchar(64)"
		}
	default:
		constant, m.origin = c.Value, fmt.Sprintf("the constant %v", c.Value)
	}
	if m.cell.compute == nil {
		v, err := convert.Of(constant)
		if err != nil {
			b.fault(field+".Value", "%v", err)
			return m, false
		}
		if typ == "" {
			typ = typeOfConstant(v)
		}
		m.cell.value = v
	}
	if typ == "" {
		b.fault(field+".Type", "say which type the column has; nothing tells it")
		return m, false
	}
	if _, err := convert.Parse(typ); err != nil {
		b.fault(field+".Type", "%v", err)
		return m, false
	}
	m.def = columnOf(c.Name, typ)
	def := m.def
	if m.cell.compute == nil {
		v, err := convert.To(m.cell.value, &def)
		if err != nil {
			b.fault(field+".Value", "%v", err)
		}
		m.cell.value, m.def.Nullable = v, v.IsNull()
		return m, true
	}
	m.def.Nullable = true
	to, err := convert.NewTo(&def)
	if err != nil {
		b.fault(field+".Type", "%v", err)
	}
	m.cell.convert = to
	return m, true
}

func typeOfConstant(v dfs.Value) string {
	switch v.Kind() {
	case dfs.Int64:
		return "bigint"
	case dfs.Uint64:
		return "bigint unsigned"
	case dfs.Float32, dfs.Float64:
		return "double"
	case dfs.Decimal:
		return "decimal(65,30)"
	case dfs.String:
		if len(v.Text()) <= 64 {
			return "varchar(64)"
		}
		return "text"
	case dfs.Bytes:
		return "blob"
	case dfs.JSON:
		return "json"
	case dfs.Date:
		return "date"
	case dfs.DateTime:
		return "datetime(6)"
	case dfs.Timestamp:
		return "timestamp(6)"
	case dfs.Time:
		return "time(6)"
	}
	return ""
}

func (b *builder) rename() {
	for i := range b.cols {
		m := &b.cols[i]
		m.def.Name = m.source
		if to, ok := lookupFold(b.u.Rename, m.source); ok {
			m.def.Name = to
		}
	}
}

// finish makes the table of the columns.
func (b *builder) finish() {
	t := b.table
	for i, m := range b.cols {
		if j := indexOf(t.Columns, m.def.Name); j >= 0 {
			b.fault("", "two columns are called %s: %s, and %s; rename or drop one", m.def.Name, b.origins[j], m.origin)
			continue
		}
		t.Columns = append(t.Columns, m.def)
		b.cells = append(b.cells, b.cols[i].cell)
		b.origins = append(b.origins, m.origin)
	}
	if len(t.Columns) == 0 {
		b.fault("", "no column is left; a row needs one")
	}
	if len(b.u.Key) > 0 {
		t.Key = b.columns("Key", b.u.Key, t.Columns)
	} else {
		t.Key = b.sourceKey()
	}
	for _, k := range t.Key {
		if c := &b.cells[k]; c.from >= len(b.src.Columns) {
			b.fault("Key", "the column %s is looked up, so it is not known for rows as they were before", t.Columns[k].Name)
		}
		if len(b.u.Key) > 0 {
			t.Columns[k].Nullable = false
		}
	}
	if t.Key == nil && b.src.Key != nil {
		b.notes = append(b.notes, "there is no primary key, since not all columns of the source's are kept: set Key if the target has one")
	}
	if b.u.SoftDelete != "" {
		b.softDelete()
	}
	b.plain = len(b.cells) == len(b.src.Columns)
	for i := range b.cells {
		b.plain = b.plain && b.cells[i].from == i && b.cells[i].convert == nil
	}
}

// sourceKey returns where the source's primary key went, or nil if not all of it
// is kept.
func (b *builder) sourceKey() (key []int) {
	for _, k := range b.src.Key {
		at := slices.IndexFunc(b.cells, func(c cell) bool { return c.from == k })
		if at < 0 {
			return nil
		}
		key = append(key, at)
	}
	return key
}

func (b *builder) softDelete() {
	t := b.table
	if indexOf(t.Columns, b.u.SoftDelete) >= 0 {
		b.fault("SoftDelete", "the column %s is there already; use another name, or drop that one", b.u.SoftDelete)
		return
	}
	b.soft = len(t.Columns)
	t.Columns = append(t.Columns, dfs.Column{Name: b.u.SoftDelete, Type: "timestamp(6)", Nullable: true})
	b.origins = append(b.origins, "when the row was deleted")
	if b.rows == nil {
		b.cells = append(b.cells, cell{from: -1})
	}
}

// partRules checks and prepares what Part and SoftDelete need.
func (b *builder) partRules() {
	u, t := b.u, b.table
	if (u.Part || u.SoftDelete != "") && t.Key == nil && len(b.errs) == 0 {
		b.fault("Key", "rows of %s are found by a primary key, and none of the source is kept; set Key", t)
	}
	if !u.Part || len(b.errs) > 0 {
		return
	}
	never := false
	for i := range t.Columns {
		if !slices.Contains(t.Key, i) {
			never = never || !t.Columns[i].Nullable
			t.Columns[i].Nullable = true
		}
	}
	if !never {
		b.fault("Part", "each of its columns but the key's may be NULL, so a row of it could not be told from none; "+
			"add one that never is, such as Column{Name: %q, Value: true}", "has_"+b.src.Name)
	}
}
