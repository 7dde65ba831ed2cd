package config

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/match"
	"github.com/dataflowsync/dfs/relmgr"
)

// Funcs are what a program has besides the file, for the file to name. Each map is
// by such names.
type Funcs struct {
	Units   map[string]dpu.Func                                                     // units[].func
	Emits   map[string][]*dfs.Table                                                 // of those, by their names
	Rows    map[string]*dpu.RowFunc                                                 // units[].rows
	Where   map[string]func(ctx context.Context, v []dfs.Value) (bool, error)       // units[].where.func
	Columns map[string]func(ctx context.Context, v []dfs.Value) (dfs.Value, error)  // units[].columns[].func
	Lookups map[string]dpu.Lookup                                                   // units[].lookups[].func
	IDs     map[string]func(ctx context.Context, key relmgr.Key) (dfs.Value, error) // relmgr.policies[].func
}

// Lookup returns the lookup of the program that the file names; nil if it names none.
func (c *Config) Lookup(l *Lookup) dpu.Lookup { return c.funcs.Lookups[l.Func] }

// checkFuncs finds the names for which the program has nothing.
func (c *Config) checkFuncs(d *decoder) {
	for i := range c.Units {
		u, path := &c.Units[i], fmt.Sprintf("units[%d]", i)
		named(d, path+".func", u.Func, c.funcs.Units)
		named(d, path+".rows", u.Rows, c.funcs.Rows)
		named(d, path+".where.func", u.Where.Func, c.funcs.Where)
		forFunc(d, path+".where.from", u.Where.Func, u.Where.From)
		for k := range u.Columns {
			column := fmt.Sprintf("%s.columns[%d]", path, k)
			named(d, column+".func", u.Columns[k].Func, c.funcs.Columns)
			forFunc(d, column+".from", u.Columns[k].Func, u.Columns[k].From)
		}
		for k := range u.Lookups {
			named(d, fmt.Sprintf("%s.lookups[%d].func", path, k), u.Lookups[k].Func, c.funcs.Lookups)
		}
	}
	for i, p := range c.RelMgr.Policies {
		named(d, fmt.Sprintf("relmgr.policies[%d].func", i), p.Func, c.funcs.IDs)
	}
}

// forFunc reports columns for a function where none is named.
func forFunc(d *decoder, path, name string, from []string) {
	if name == "" && len(from) > 0 && !d.faulty(d.line(path)) {
		d.fault(d.line(path), "%s lists what a function is given, and func, which names one of the program's, is missing", path)
	}
}

// named reports a name that the program's functions lack.
func named[F any](d *decoder, path, name string, funcs map[string]F) {
	if _, ok := funcs[name]; ok || name == "" || d.faulty(d.line(path)) {
		return
	}
	shown := d.texts[path] // the environment may have put something secret in its place
	names := slices.Sorted(maps.Keys(funcs))
	if len(names) == 0 {
		d.fault(d.line(path), "%s names %q, and this program has no functions to be named there: one that has them calls cli.Main with them in its Options", path, shown)
		return
	}
	best, distance := "", 1+max(1, min(len(name)/3, 3))
	for _, k := range names {
		if n := match.Distance(normal(name), normal(k)); n < distance {
			best, distance = k, n
		}
	}
	if best != "" {
		best = "; did you mean " + best + "?"
	}
	d.fault(d.line(path), "%s names %q, which is none of the program's: %s%s", path, shown, strings.Join(names, ", "), best)
}
