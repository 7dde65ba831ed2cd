package dpu

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/rowkey"
)

// A RowFunc makes rows by a function over Go structs: see MapRows.
type RowFunc struct {
	in, out reflect.Type
	call    func(ctx context.Context, in any, emit func(out reflect.Value)) error
	alloc   func() any // a pointer to a new In
	errs    []error
}

// MapRows makes a RowFunc of f, which turns a row into the rows that stand for it
// on the target: none, one or several. That is all f has to know: where a row is
// updated, DFS calls f for the row as it was and as it is, and the difference of
// what it emits, by primary key, is what is inserted, updated and deleted. So f
// must emit the same for the same row.
//
// A field of In or Out is a column if it has a tag `db:"name"`; of Out, "name,key"
// makes it one of the primary key, and `type:"varchar(80)"` tells its type, where
// it is not that of a column of In with the same name and Go type. A column may
// be an integer, float, bool, string, []byte, time.Time, time.Duration or
// dfs.Value, or a pointer to one, which is nil for NULL. Whether the columns of
// In are there, whether its fields can hold them, and whether they may be NULL is
// checked when the unit first meets the table, which is in New if it is given the
// source's tables.
//
// In is valid until f returns.
func MapRows[In, Out any](f func(ctx context.Context, in *In, emit func(Out)) error) *RowFunc {
	r := &RowFunc{in: reflect.TypeFor[In](), out: reflect.TypeFor[Out](), alloc: func() any { return new(In) }}
	for _, t := range []reflect.Type{r.in, r.out} {
		if t.Kind() != reflect.Struct {
			r.errs = append(r.errs, fmt.Errorf("%v is no struct", t))
		}
	}
	r.call = func(ctx context.Context, in any, emit func(reflect.Value)) error {
		return f(ctx, in.(*In), func(out Out) { emit(reflect.ValueOf(&out).Elem()) })
	}
	return r
}

// rowPlan is a RowFunc for the columns of one table.
type rowPlan struct {
	f       *RowFunc
	reads   []field
	writes  []field
	in      any
	value   reflect.Value // what in points to
	columns []dfs.Column
	key     []int
	origins []string
}

// A field is a field of a struct that stands for a column.
type field struct {
	index  []int
	name   string
	key    bool
	typ    string
	column int // of the table; reads only
	def    dfs.Column
	goType reflect.Type // of the field, or what it points to
	null   bool         // the field can hold NULL
}

// fields returns the fields of a struct that have a db tag.
func fields(t reflect.Type) (list []field) {
	for _, f := range reflect.VisibleFields(t) {
		tag, ok := f.Tag.Lookup("db")
		if !ok || tag == "-" || !f.IsExported() {
			continue
		}
		name, rest, _ := strings.Cut(tag, ",")
		x := field{index: f.Index, name: name, key: rest == "key", typ: f.Tag.Get("type"), goType: f.Type}
		if f.Type.Kind() == reflect.Pointer {
			x.goType, x.null = f.Type.Elem(), true
		}
		x.null = x.null || x.goType == valueType
		list = append(list, x)
	}
	return list
}

// plan checks the structs against the columns of a table.
func (r *RowFunc) plan(in []dfs.Column) (*rowPlan, error) {
	errs := slices.Clone(r.errs)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p := &rowPlan{f: r, reads: fields(r.in), writes: fields(r.out), in: r.alloc()}
	p.value = reflect.ValueOf(p.in).Elem()
	for i := range p.reads {
		f := &p.reads[i]
		if f.column = indexOf(in, f.name); f.column < 0 {
			errs = append(errs, fmt.Errorf("%v has a field for the column %s, which the table does not have", r.in, f.name))
			continue
		}
		f.def = in[f.column]
		if err := f.readable(); err != nil {
			errs = append(errs, fmt.Errorf("%v, column %s: %w", r.in, f.name, err))
		}
	}
	if len(p.reads) == 0 {
		errs = append(errs, fmt.Errorf("%v has no field with a tag db", r.in))
	}
	if len(p.writes) == 0 {
		errs = append(errs, fmt.Errorf("%v has no field with a tag db", r.out))
	}
	for i := range p.writes {
		f := &p.writes[i]
		if indexOf(p.columns, f.name) >= 0 {
			errs = append(errs, fmt.Errorf("%v has two fields for the column %s", r.out, f.name))
		}
		if err := f.define(p.reads); err != nil {
			errs = append(errs, fmt.Errorf("%v, column %s: %w", r.out, f.name, err))
		}
		if f.key {
			p.key = append(p.key, i)
			f.def.Nullable = false
		}
		p.columns = append(p.columns, f.def)
		p.origins = append(p.origins, fmt.Sprintf("made by a function of %v", r.in))
	}
	return p, errors.Join(errs...)
}

// define chooses the column that a field of Out writes.
func (f *field) define(reads []field) error {
	typ := f.typ
	for i := range reads {
		if r := &reads[i]; typ == "" && strings.EqualFold(r.name, f.name) && r.goType == f.goType && r.def.Type != "" {
			f.def = r.def
			f.def.Name, f.def.Nullable = f.name, f.null && (f.goType != valueType || r.def.Nullable)
			return nil
		}
	}
	if typ == "" {
		typ = goColumnType(f.goType)
	}
	if typ == "" {
		return fmt.Errorf("a %v needs a tag type", f.goType)
	}
	if _, err := convert.Parse(typ); err != nil {
		return err
	}
	f.def = columnOf(f.name, typ)
	f.def.Nullable = f.null
	return nil
}

// run makes the rows that stand for one row. What it returns is valid until the
// next transaction.
func (p *rowPlan) run(ctx context.Context, s *Units, o *output, view []dfs.Value) ([]dfs.Row, error) {
	p.value.SetZero()
	for i := range p.reads {
		f := &p.reads[i]
		v := view[f.column]
		s.column = f.name
		if v.Kind() == dfs.Absent && f.goType != valueType {
			return nil, errImage(f.name)
		}
		if err := f.set(p.value.FieldByIndex(f.index), v); err != nil {
			return nil, err
		}
	}
	s.column = ""
	var rows []dfs.Row
	var wrong error
	count := s.emitter(o)
	err := s.outside(func() error {
		return p.f.call(ctx, p.in, func(out reflect.Value) {
			if !count.takes() {
				return
			}
			row := s.alloc(len(o.table.Columns))
			for i := range p.writes {
				f := &p.writes[i]
				v, err := f.get(out.FieldByIndex(f.index))
				if err != nil && wrong == nil {
					wrong = fmt.Errorf("column %s: %w", f.name, err)
				}
				row[i] = v
				count.bytes += len(v.Text())
			}
			if o.table.Key != nil && o.find(rows, row) >= 0 && wrong == nil {
				wrong = fmt.Errorf("the function made two rows with the key %s", rowkey.Describe(o.table, row))
			}
			rows = append(rows, row)
		})
	})
	if err != nil {
		return nil, err
	}
	return rows, wrong
}
