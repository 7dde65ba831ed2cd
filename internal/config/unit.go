package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/dpu"
)

// A Unit says what becomes of the rows of some tables: it is a dpu.Unit, as far as
// that is data.
type Unit struct {
	Name       string            `yaml:"name"`
	From       string            `yaml:"from"`
	Also       bool              `yaml:"also"`
	Where      Where             `yaml:"where"`
	Lookups    []Lookup          `yaml:"lookups"`
	Select     []string          `yaml:"select"`
	Drop       []string          `yaml:"drop"`
	Columns    []Column          `yaml:"columns"`
	Mask       map[string]string `yaml:"mask"`
	Cast       map[string]string `yaml:"cast"`
	Rename     map[string]string `yaml:"rename"`
	Into       string            `yaml:"into"`
	Key        []string          `yaml:"key"`
	SoftDelete string            `yaml:"soft_delete"`
	Part       bool              `yaml:"part"`
	Rows       string            `yaml:"rows"` // names a dpu.RowFunc of the program
	Func       string            `yaml:"func"` // names a dpu.Func of the program
}

// Where selects rows: by an expression alone, or by a function of the program.
type Where struct {
	Expr string   `yaml:",scalar"`
	Func string   `yaml:"func"`
	From []string `yaml:"from"` // the columns whose values it is given
}

// A Column is a column that a unit makes.
type Column struct {
	Name  string `yaml:"name"`
	Type  string `yaml:"type"`
	Value string `yaml:"value"` // a constant, read as the type says; none of the three is NULL
	Text  string `yaml:"text"`  // a constant made of the table's name
	Expr  string `yaml:"expr"`
	Func  string `yaml:"func"` // names a function of the program

	From []string `yaml:"from"` // the columns whose values it is given
}

// A Lookup adds columns that are found in a table of a server, in a file, or by
// what the program has.
type Lookup struct {
	Func     string            `yaml:"func"`  // names a dpu.Lookup of the program, instead of what follows up to On
	In       string            `yaml:"in"`    // "source" or "target"
	Table    string            `yaml:"table"` // there
	File     string            `yaml:"file"`  // of comma-separated values, instead of both
	On       []string          `yaml:"on"`    // columns of the unit's rows
	Key      []string          `yaml:"key"`   // what they are compared with; default: the same names
	Find     []string          `yaml:"find"`  // columns to add
	Types    map[string]string `yaml:"types"` // of a file's; default: varchar(255)
	As       map[string]string `yaml:"as"`    // from their names to other ones
	Required bool              `yaml:"required"`
	Cache    int               `yaml:"cache"`
	CacheFor time.Duration     `yaml:"cache_for"`
}

// KeyColumns returns the columns that On is compared with.
func (l *Lookup) KeyColumns() []string {
	if len(l.Key) > 0 {
		return l.Key
	}
	return l.On
}

func (l *Lookup) check(c *Config, d *decoder, path, dir string) {
	bad := func(key string, is bool, format string, args ...any) {
		line := d.lines[path+"."+key]
		if line == 0 {
			line = d.line(path)
		}
		if is && !d.faulty(line) {
			d.fault(line, path+"."+key+" "+format, args...)
		}
	}
	if l.Func != "" {
		bad("func", l.In != "" || l.Table != "" || l.File != "" || len(l.Key) > 0 || len(l.Find) > 0 || len(l.Types) > 0,
			"finds rows by itself; leave out in, table, file, key, find and types")
		bad("on", len(l.On) == 0, "is missing; list the columns of the unit's rows that make up the key")
		d.negative(path+".cache_for", l.CacheFor < 0)
		return
	}
	if l.File != "" {
		bad("file", l.In != "" || l.Table != "", "is set, and so is a table; a lookup is in one of them")
		l.File = resolve(dir, l.File)
	} else {
		bad("in", l.In != "source" && l.In != "target", "must be source or target, the server that has the table; or name a file")
		bad("in", l.In == "source" && len(c.Source.Files) > 0, "is source, which is files here, and no server to ask")
		schema, table, ok := strings.Cut(l.Table, ".")
		bad("table", !ok || schema == "" || table == "", "must be written as schema.table")
		bad("types", len(l.Types) > 0, "is for files; a table has its types")
	}
	bad("on", len(l.On) == 0, "is missing; list the columns of the unit's rows that make up the key")
	bad("key", len(l.Key) > 0 && len(l.Key) != len(l.On), "must have as many columns as on")
	bad("find", len(l.Find) == 0, "is missing; list the columns to add")
	for _, name := range slices.Sorted(maps.Keys(l.As)) {
		bad("as", !slices.Contains(l.Find, name), "renames %s, which find does not list", name)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Types)) {
		bad("types", !slices.Contains(l.Find, name), "names %s, which find does not list", name)
	}
	d.negative(path+".cache_for", l.CacheFor < 0)
}

// DPU returns the units as package dpu has them, with the program's functions, but for
// their lookups, which have to be opened.
func (c *Config) DPU() []dpu.Unit {
	var list []dpu.Unit
	for _, u := range c.Units {
		to := dpu.Unit{
			Name: u.Name, From: u.From, Also: u.Also, Where: dpu.Where{Expr: u.Where.Expr, From: u.Where.From, Func: c.funcs.Where[u.Where.Func]}, Select: u.Select, Drop: u.Drop,
			Cast: u.Cast, Rename: u.Rename, Into: u.Into, Key: u.Key, SoftDelete: u.SoftDelete, Part: u.Part,
			Rows: c.funcs.Rows[u.Rows], Func: c.funcs.Units[u.Func], Emits: c.funcs.Emits[u.Func],
		}
		for _, col := range u.Columns {
			made := dpu.Column{Name: col.Name, Type: col.Type, Text: col.Text, Expr: col.Expr, From: col.From, Func: c.funcs.Columns[col.Func]}
			if col.Value != "" {
				made.Value = col.Value
			}
			to.Columns = append(to.Columns, made)
		}
		if u.Mask != nil {
			to.Mask = make(map[string]dpu.Mask)
			for name, m := range u.Mask {
				to.Mask[name] = dpu.Mask(m)
			}
		}
		list = append(list, to)
	}
	return list
}

// checkUnits finds what is wrong with units whatever the tables are.
func (c *Config) checkUnits(d *decoder, dir string) {
	if len(c.Units) == 0 {
		if c.OnlyUnits && !d.faulty(d.lines["only_units"]) {
			d.fault(d.lines["only_units"], "only_units drops every row, since there are no units")
		}
		return
	}
	for i := range c.Units {
		for k := range c.Units[i].Lookups {
			c.Units[i].Lookups[k].check(c, d, fmt.Sprintf("units[%d].lookups[%d]", i, k), dir)
		}
	}
	_, err := dpu.New(c.DPU(), &dpu.Options{HashKey: []byte(c.HashKey)})
	if n := len(c.HashKey); n > 0 && n < 16 {
		d.fault(d.lines["hash_key"], "hash_key is too short; use 16 bytes or more")
	}
	for _, f := range UnitFaults(err) {
		path := UnitPath(f)
		line := d.line(path)
		if d.faulty(line) {
			continue
		}
		text := f.Text
		for at, shown := range d.texts {
			// What the environment put into a unit may be secret.
			if strings.HasPrefix(at, fmt.Sprintf("units[%d].", f.Unit)) && strings.Contains(shown, "${") {
				text = "is wrong; how is not shown, since the unit holds environment variables"
			}
		}
		d.fault(line, "%s: %s", path, text)
	}
}

// UnitFaults returns the faults of units that err joins.
func UnitFaults(err error) (list []*dpu.Fault) {
	var fault *dpu.Fault
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			list = append(list, UnitFaults(err)...)
		}
	default:
		if f, ok := err.(*dpu.Fault); ok {
			list = append(list, f)
		} else if errors.As(err, &fault) {
			list = UnitFaults(errors.Unwrap(err))
		}
	}
	return list
}

var upper = regexp.MustCompile("[a-z][A-Z]")

// UnitPath returns the path of what a fault is about: "units[0].columns[1].expr".
func UnitPath(f *dpu.Fault) string {
	path := fmt.Sprintf("units[%d]", f.Unit)
	if f.Field != "" {
		path += "." + strings.ToLower(upper.ReplaceAllStringFunc(f.Field, func(s string) string { return s[:1] + "_" + s[1:] }))
	}
	return path
}
