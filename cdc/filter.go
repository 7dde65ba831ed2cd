package cdc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/match"
)

// systemSchemas are never followed unless a pattern names them without wildcard.
var systemSchemas = []string{"mysql", "sys", "information_schema", "performance_schema"}

// A filter says which tables are followed. It is safe for concurrent use.
type filter struct {
	include, exclude []pattern
}

// A pattern is one of Options.Tables: two globs with a dot between them.
type pattern struct {
	text          string
	schema, table string
}

// newFilter parses patterns. It returns all faults it finds.
func newFilter(tables []string) (*filter, []Fault) {
	f := new(filter)
	var faults []Fault
	for _, text := range tables {
		parsed, out, err := match.ParseFollowed(text)
		if err != nil {
			faults = append(faults, Fault{
				What: fmt.Sprintf("the table pattern %q names no table", text),
				Cure: `write it as "schema.table", where either may hold * and ?, such as "shop.*"`,
			})
			continue
		}
		to := &f.include
		if out {
			to = &f.exclude
		}
		*to = append(*to, pattern{text, parsed.Schema, parsed.Table})
	}
	if len(f.include) == 0 {
		f.include = []pattern{{text: "*.*", schema: "*", table: "*"}}
	}
	return f, faults
}

// match reports whether the pattern matches the table.
func (p pattern) match(schema, table string) bool {
	if slices.Contains(systemSchemas, strings.ToLower(schema)) && match.Wild(p.schema) {
		return false
	}
	return glob(p.schema, schema) && glob(p.table, table)
}

// A table is followed if a pattern matches it and none that leaves out does. So
// the order in which patterns are given means nothing.
//
// follows reports whether the table is followed. An empty table asks whether
// any table of the schema may be.
func (f *filter) follows(schema, table string) bool {
	in := func(p pattern) bool {
		if table == "" {
			p.table = ""
		}
		return p.match(schema, table)
	}
	out := func(p pattern) bool {
		if table == "" {
			return p.table == "*" && p.match(schema, "")
		}
		return p.match(schema, table)
	}
	return slices.ContainsFunc(f.include, in) && !slices.ContainsFunc(f.exclude, out)
}

// glob reports whether s matches one side of a pattern.
func glob(p, s string) bool { return match.Glob(p, s) }
