package cdc

import (
	"fmt"
	"slices"
	"strings"
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
		p := pattern{text: text}
		to := &f.include
		text, out := strings.CutPrefix(strings.TrimSpace(text), "!")
		if out {
			to = &f.exclude
		}
		var ok bool
		p.schema, p.table, ok = strings.Cut(text, ".")
		if !ok || p.schema == "" || p.table == "" {
			faults = append(faults, Fault{
				What: fmt.Sprintf("the table pattern %q names no table", p.text),
				Cure: `write it as "schema.table", where either may hold * and ?, such as "shop.*"`,
			})
			continue
		}
		*to = append(*to, p)
	}
	if len(f.include) == 0 {
		f.include = []pattern{{text: "*.*", schema: "*", table: "*"}}
	}
	return f, faults
}

// match reports whether the pattern matches the table.
func (p pattern) match(schema, table string) bool {
	if slices.Contains(systemSchemas, strings.ToLower(schema)) && strings.ContainsAny(p.schema, "*?") {
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

// glob reports whether s matches p, in which * stands for any text and ? for
// one character. Letter case does not matter: whether it does for a server
// depends on its file system, and two tables that differ by case alone are rare.
func glob(p, s string) bool {
	if p == "*" || p == s {
		return true
	}
	return globRunes([]rune(strings.ToLower(p)), []rune(strings.ToLower(s)))
}

// globRunes goes back no further than to the last *, so it takes no more than
// len(p)*len(s) steps.
func globRunes(p, s []rune) bool {
	i, star, from := 0, -1, 0
	for j := 0; j < len(s); {
		switch {
		case i < len(p) && p[i] == '*':
			star, from = i, j
			i++
		case i < len(p) && (p[i] == '?' || p[i] == s[j]):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
