package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/relmgr"
)

// RelMgr says which keys get new ids, and what refers to them: it is
// relmgr.Options, as far as that is data.
type RelMgr struct {
	Path       string      `yaml:"path"`
	Source     string      `yaml:"source"`
	Default    string      `yaml:"default"`
	Policies   []IDPolicy  `yaml:"policies"`
	References []Reference `yaml:"references"`
	Unknown    string      `yaml:"unknown"`
	Alone      bool        `yaml:"alone"` // nobody else writes to the target, so no blocks are reserved there
	Adopt      bool        `yaml:"adopt"`
	Cache      Size        `yaml:"cache"`
}

// An IDPolicy says what becomes of the keys of some tables.
type IDPolicy struct {
	Table  string `yaml:"table"`
	Column string `yaml:"column"`
	IDs    string `yaml:"ids"`  // "allocate", "keep", "uuid" or "function"
	Func   string `yaml:"func"` // names a function of the program
	Type   string `yaml:"type"`
	Target string `yaml:"target"`
	First  int    `yaml:"first"`
}

// A Reference is one that the source does not declare.
type Reference struct {
	Table         string            `yaml:"table"`
	Columns       []string          `yaml:"columns"`
	Parent        string            `yaml:"parent"`
	ParentColumns []string          `yaml:"parent_columns"`
	TypeColumn    string            `yaml:"type_column"`
	Parents       map[string]string `yaml:"parents"`
	Path          string            `yaml:"path"`
	None          []string          `yaml:"none"`
	Late          bool              `yaml:"late"`
}

// set reports whether the file has the section.
func (r *RelMgr) set() bool {
	return r.Path != "" || r.Source != "" || r.Default != "" || r.Policies != nil || r.References != nil || r.Unknown != "" || r.Alone || r.Adopt || r.Cache != 0
}

// IDs returns the options of package relmgr, and nil if the file has no section
// relmgr. What is not data is left to the caller.
func (c *Config) IDs() *relmgr.Options {
	if c.RelMgr.Path == "" {
		return nil
	}
	r := &c.RelMgr
	o := &relmgr.Options{Source: r.Source, Default: relmgr.IDs(r.Default), Unknown: r.Unknown, Adopt: r.Adopt, CacheBytes: int(r.Cache), DDLDone: c.Target.DDLDone}
	for _, p := range r.Policies {
		o.Policies = append(o.Policies, relmgr.Policy{Table: p.Table, Column: p.Column, IDs: relmgr.IDs(p.IDs), Func: c.funcs.IDs[p.Func], Type: p.Type, Target: p.Target, First: uint64(p.First)})
	}
	for _, f := range r.References {
		o.References = append(o.References, relmgr.Reference{Table: f.Table, Columns: f.Columns, Parent: f.Parent, ParentColumns: f.ParentColumns,
			TypeColumn: f.TypeColumn, Parents: f.Parents, Path: f.Path, None: f.None, Late: f.Late})
	}
	return o
}

// checkRelMgr finds what is wrong with the section whatever the tables are.
func (c *Config) checkRelMgr(d *decoder) {
	r := &c.RelMgr
	if !r.set() {
		return
	}
	if r.Path == "" {
		if line := d.line("relmgr"); !d.faulty(line) {
			d.fault(line, "relmgr.path is missing; name the file that keeps the map of ids")
		}
		return
	}
	d.oneOf("relmgr.default", r.Default, "", "allocate", "keep")
	d.oneOf("relmgr.unknown", r.Unknown, "", "learn", "error")
	d.negative("relmgr.cache", r.Cache < 0)
	if n := len(d.faults); n > 0 && slices.ContainsFunc(d.faults, func(f Fault) bool { return strings.Contains(f.Text, "relmgr.") }) {
		return
	}
	for i, p := range r.Policies {
		path := fmt.Sprintf("relmgr.policies[%d]", i)
		d.negative(path+".first", p.First < 0)
		if p.IDs == "function" && p.Func == "" {
			d.fault(d.line(path+".ids"), "%s.ids is function, and func, which names one of the program's, is missing; or want allocate, keep or uuid", path)
			return
		}
	}
	for _, f := range IDFaults(relmgr.Check(c.IDs())) {
		path := IDPath(f)
		line := d.line(path)
		if d.faulty(line) {
			continue
		}
		text := f.Text
		for at, shown := range d.texts {
			// What the environment put into it may be secret.
			if strings.HasPrefix(at, path) && strings.Contains(shown, "${") {
				text = "is wrong; how is not shown, since it holds environment variables"
			}
		}
		d.fault(line, "%s: %s", path, text)
	}
}

// IDFaults returns the faults of package relmgr that err joins.
func IDFaults(err error) (list []*relmgr.Fault) {
	var fault *relmgr.Fault
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			list = append(list, IDFaults(err)...)
		}
	default:
		if f, ok := err.(*relmgr.Fault); ok {
			list = append(list, f)
		} else if errors.As(err, &fault) {
			list = IDFaults(errors.Unwrap(err))
		}
	}
	return list
}

// IDPath returns the path of what a fault is about: "relmgr.references[2]".
func IDPath(f *relmgr.Fault) string {
	if strings.HasPrefix(f.Place, "Policies[") || strings.HasPrefix(f.Place, "References[") {
		return "relmgr." + strings.ToLower(f.Place)
	}
	return "relmgr"
}
