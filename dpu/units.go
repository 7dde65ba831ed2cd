package dpu

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/match"
)

// Units is a dfs.Stage that gives each change to the units that match its table.
// But for Stats, its methods must be called by one goroutine at a time.
type Units struct {
	units []*unit
	opts  Options

	plans  map[*dfs.Table]*plan
	byName map[string][]*plan
	mapped map[string]bool // tables whose notes were logged
	guard  guard
	exec
}

var _ dfs.Stage = (*Units)(nil)

// unit is a Unit that was found to be right.
type unit struct {
	Unit
	index   int
	name    string
	opts    *Options
	pattern match.Pattern
	masks   map[string]masker
	joins   []*joined

	in, out atomic.Uint64
}

// New checks the units and returns them as a stage. The error joins all faults,
// each a *Fault. With Options.Tables they include those that only show with the
// tables.
func New(units []Unit, opts *Options) (*Units, error) {
	s := &Units{plans: make(map[*dfs.Table]*plan), byName: make(map[string][]*plan), mapped: make(map[string]bool)}
	if opts != nil {
		s.opts = *opts
	}
	if s.opts.Logger == nil {
		s.opts.Logger = slog.Default()
	}
	var errs []error
	switch s.opts.DDL {
	case "":
		s.opts.DDL = PolicyError
	case PolicyError, PolicyIgnore:
	default:
		errs = append(errs, fmt.Errorf("DDL policy %q: use error or ignore", s.opts.DDL))
	}
	if n := len(s.opts.HashKey); n > 0 && n < 16 {
		errs = append(errs, fmt.Errorf("HashKey has %d bytes; use 16 or more", n))
	}
	if s.opts.CallTimeout == 0 {
		s.opts.CallTimeout = defaultCallTimeout
	}
	if s.opts.MaxRows == 0 {
		s.opts.MaxRows = defaultMaxRows
	} else if s.opts.MaxRows < 0 {
		errs = append(errs, fmt.Errorf("MaxRows is %d; use 1 or more, or 0 for %d", s.opts.MaxRows, defaultMaxRows))
	}
	if s.opts.CallTimeout > 0 && slices.ContainsFunc(units, Unit.calls) {
		s.guard.limit = s.opts.CallTimeout
	}
	for i := range units {
		u, err := newUnit(i, units[i], &s.opts)
		s.units = append(s.units, u)
		errs = append(errs, err)
	}
	if len(s.opts.Tables) > 0 && errors.Join(errs...) == nil {
		errs = append(errs, s.checkTables())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("making units: %w", err)
	}
	return s, nil
}

// calls reports whether the unit calls code of the user's for rows.
func (u Unit) calls() bool {
	return u.Where.Func != nil || len(u.Lookups) > 0 || u.Rows != nil || u.Func != nil ||
		slices.ContainsFunc(u.Columns, func(c Column) bool { return c.Func != nil })
}

// newUnit checks what can be checked without a table.
func newUnit(index int, spec Unit, opts *Options) (*unit, error) {
	u := &unit{Unit: spec, index: index, name: spec.Name, opts: opts, masks: make(map[string]masker)}
	if u.name == "" {
		if u.name = spec.From; u.name == "" {
			u.name = fmt.Sprintf("unit %d", index+1)
		}
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, &Fault{Unit: index, Name: u.name, Field: field, Text: fmt.Sprintf(format, args...)})
	}
	var err error
	switch {
	case spec.From == "" && spec.Match == nil:
		fault("From", `is empty; name the tables, such as "shop.users" or "shop.*"`)
	case spec.From != "" && spec.Match != nil:
		fault("Match", "is set, and so is From; use one of the two")
	case spec.From != "":
		if u.pattern, err = match.Parse(spec.From); err != nil {
			fault("From", "%v", err)
		}
	}
	if spec.Where.Expr != "" && spec.Where.Func != nil {
		fault("Where", "has Expr and Func; use one of the two")
	}
	if spec.Where.Expr != "" {
		if err := parseExpr(spec.Where.Expr); err != nil {
			fault("Where", "%v", err)
		}
	}
	u.checkColumns(fault)
	for _, name := range keys(spec.Mask) {
		if u.masks[name], err = parseMask(spec.Mask[name]); err != nil {
			fault("Mask", "column %s: %v", name, err)
		}
	}
	for _, name := range keys(spec.Cast) {
		if _, err := convert.Parse(spec.Cast[name]); err != nil {
			fault("Cast", "column %s: %v", name, err)
		}
	}
	sample := &dfs.Table{Schema: "schema", Name: "table"}
	if _, _, err := target(spec.Into, sample, make([]string, u.pattern.Wildcards())); err != nil && !strings.Contains(err.Error(), "empty name") {
		fault("Into", "%v", err)
	}
	if spec.Part && spec.SoftDelete != "" {
		fault("SoftDelete", "a part of a row cannot be kept when the row goes; use one of Part and SoftDelete")
	}
	for _, name := range spec.Select {
		if containsFold(spec.Drop, name) {
			fault("Drop", "the column %s is in Select too", name)
		}
	}
	if spec.Rows != nil && (len(spec.Lookups)+len(spec.Select)+len(spec.Drop)+len(spec.Columns)+len(spec.Mask)+len(spec.Cast)+len(spec.Rename)+len(spec.Key) > 0) {
		fault("Rows", "makes all columns; leave out Lookups, Select, Drop, Columns, Mask, Cast, Rename and Key")
	}
	for i, j := range spec.Lookups {
		switch {
		case j.Lookup == nil:
			fault(fmt.Sprintf("Lookups[%d].Lookup", i), "is nil; say where to look")
		default:
			u.joins = append(u.joins, newJoined(j))
		}
	}
	return u, errors.Join(errs...)
}

func (u *unit) checkColumns(fault func(field, format string, args ...any)) {
	for i := range u.Columns {
		c := &u.Columns[i]
		field := fmt.Sprintf("Columns[%d]", i)
		ways := 0
		for _, set := range []bool{c.Value != nil, c.Text != "", c.Expr != "", c.Func != nil} {
			if set {
				ways++
			}
		}
		switch {
		case c.Name == "":
			fault(field+".Name", "is empty; say what the column is called")
		case ways > 1:
			fault(field, "column %s has more than one of Value, Text, Expr and Func", c.Name)
		case slices.ContainsFunc(u.Columns[:i], func(o Column) bool { return strings.EqualFold(o.Name, c.Name) }):
			fault(field, "column %s is made twice", c.Name)
		case containsFold(u.Drop, c.Name):
			fault(field, "column %s is in Drop too", c.Name)
		}
		if c.Expr != "" {
			if err := parseExpr(c.Expr); err != nil {
				fault(field+".Expr", "%v", err)
			}
		}
		if c.Type != "" {
			if _, err := convert.Parse(c.Type); err != nil {
				fault(field+".Type", "%v", err)
			}
		} else if c.Func != nil {
			fault(field+".Type", "say which type the column has, such as varchar(40)")
		}
		for _, m := range []struct {
			name string
			has  bool
		}{{"Mask", hasFold(u.Mask, c.Name)}, {"Cast", hasFold(u.Cast, c.Name)}} {
			if m.has {
				fault(m.name, "the column %s is made by the unit; make it as it is to be", c.Name)
			}
		}
	}
}

// matches reports whether the unit takes the table, and what its wildcards stand
// for.
func (u *unit) matches(t *dfs.Table) ([]string, bool) {
	if u.Match != nil {
		return nil, u.Match(t)
	}
	return u.pattern.Capture(t.Schema, t.Name)
}

// wild reports whether the unit may be for many tables.
func (u *unit) wild() bool { return u.Match != nil || u.pattern.Wildcards() > 0 }

// makes reports whether the unit makes a column of that name.
func (u *unit) makes(name string) bool {
	return slices.ContainsFunc(u.Columns, func(c Column) bool { return strings.EqualFold(c.Name, name) })
}

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func containsFold(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, name) })
}

func lookupFold[V any](m map[string]V, name string) (v V, ok bool) {
	if v, ok = m[name]; ok {
		return v, true
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return v, false
}

func hasFold[V any](m map[string]V, name string) bool {
	_, ok := lookupFold(m, name)
	return ok
}

// UnitStats counts the rows of one unit. A row changed once is one.
type UnitStats struct {
	Name    string
	In, Out uint64
}

// Stats returns what each unit has done since New. A batch that is repeated
// after an error counts again.
func (s *Units) Stats() []UnitStats {
	list := make([]UnitStats, len(s.units))
	for i, u := range s.units {
		list[i] = UnitStats{u.name, u.in.Load(), u.out.Load()}
	}
	return list
}
