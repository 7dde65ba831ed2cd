package match

import (
	"errors"
	"slices"
	"strings"
)

// A List is a list of tables to follow: those that one of its patterns matches,
// and none that begins with !. The zero List follows all.
type List struct{ in, out []Pattern }

// systemSchemas are never followed unless a pattern names them without wildcard.
var systemSchemas = []string{"mysql", "sys", "information_schema", "performance_schema"}

// ParseList reads patterns, and returns all their faults.
func ParseList(patterns []string) (List, error) {
	var l List
	var errs []error
	for _, text := range patterns {
		p, out, err := ParseFollowed(text)
		switch {
		case err != nil:
			errs = append(errs, err)
		case out:
			l.out = append(l.out, p)
		default:
			l.in = append(l.in, p)
		}
	}
	return l, errors.Join(errs...)
}

// Follows reports whether the list has the table.
func (l List) Follows(schema, table string) bool {
	match := func(p Pattern) bool { return !(Wild(p.Schema) && isSystem(schema)) && p.Match(schema, table) }
	in := len(l.in) == 0 && !isSystem(schema) || slices.ContainsFunc(l.in, match)
	return in && !slices.ContainsFunc(l.out, match)
}

// FollowsAll reports whether the list has every table that the schema has, or
// may yet have.
func (l List) FollowsAll(schema string) bool {
	all := func(p Pattern) bool {
		return p.Table == "*" && !(Wild(p.Schema) && isSystem(schema)) && Glob(p.Schema, schema)
	}
	in := len(l.in) == 0 && !isSystem(schema) || slices.ContainsFunc(l.in, all)
	return in && !slices.ContainsFunc(l.out, func(p Pattern) bool { return Glob(p.Schema, schema) })
}

func isSystem(schema string) bool { return slices.Contains(systemSchemas, strings.ToLower(schema)) }

// FollowsSome reports whether there may be tables of the schema that are followed.
func (l List) FollowsSome(schema string) bool {
	some := func(p Pattern) bool { return !(Wild(p.Schema) && isSystem(schema)) && Glob(p.Schema, schema) }
	none := func(p Pattern) bool { return p.Table == "*" && Glob(p.Schema, schema) }
	return (len(l.in) == 0 && !isSystem(schema) || slices.ContainsFunc(l.in, some)) && !slices.ContainsFunc(l.out, none)
}
