package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/dataflowsync/dfs/dpu"
)

// A Unit says what becomes of the rows of some tables: it is a dpu.Unit, as far as
// that is data.
type Unit struct {
	Name       string            `yaml:"name"`
	From       string            `yaml:"from"`
	Also       bool              `yaml:"also"`
	Where      string            `yaml:"where"` // an expression
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
}

// A Column is a column that a unit makes.
type Column struct {
	Name  string `yaml:"name"`
	Type  string `yaml:"type"`
	Value string `yaml:"value"` // a constant, read as the type says; none of the three is NULL
	Text  string `yaml:"text"`  // a constant made of the table's name
	Expr  string `yaml:"expr"`
}

// DPU returns the units as package dpu has them.
func (c *Config) DPU() []dpu.Unit {
	var list []dpu.Unit
	for _, u := range c.Units {
		to := dpu.Unit{
			Name: u.Name, From: u.From, Also: u.Also, Where: dpu.Where{Expr: u.Where}, Select: u.Select, Drop: u.Drop,
			Cast: u.Cast, Rename: u.Rename, Into: u.Into, Key: u.Key, SoftDelete: u.SoftDelete, Part: u.Part,
		}
		for _, col := range u.Columns {
			made := dpu.Column{Name: col.Name, Type: col.Type, Text: col.Text, Expr: col.Expr}
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
func (c *Config) checkUnits(d *decoder) {
	if len(c.Units) == 0 {
		if c.OnlyUnits && !d.faulty(d.lines["only_units"]) {
			d.fault(d.lines["only_units"], "only_units drops every row, since there are no units")
		}
		return
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
