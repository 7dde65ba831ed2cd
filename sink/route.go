package sink

import (
	"fmt"
	"strings"
)

// A Route sends tables of the source to tables of the target.
type Route struct {
	// From names tables of the source as "schema.table". A * stands for any
	// characters, also none, on its side of the dot.
	From string

	// To names the target's table. A * for the schema or for the table keeps
	// the source's: "crm.*" moves tables to another schema.
	To string
}

// A Policy says what to do where the target cannot take a change as it is.
type Policy string

const (
	// PolicyError stops. It is the default.
	PolicyError Policy = "error"

	// PolicyOverwrite makes the row what the source has: an insert of a row
	// that is there updates it, an update of a row that is missing inserts it,
	// a delete of a row that is missing is done. Other rows that hold one of
	// its unique values are deleted, where the whole of the columns is unique
	// and the source has them all. A row that is in the way by a unique key over
	// the first characters of a column, over an expression or over a column that
	// the source lacks, stays, and the change is a ConflictError.
	PolicyOverwrite Policy = "overwrite"

	// PolicyIgnore leaves the target as it is, and goes on.
	PolicyIgnore Policy = "ignore"
)

// A ConflictRule sets the policy for conflicts of some tables.
type ConflictRule struct {
	Tables string // tables of the target, as in Route.From
	Policy Policy
}

// pattern is a parsed "schema.table" with wildcards.
type pattern struct{ schema, name string }

func parsePattern(s string) (pattern, error) {
	schema, name, ok := strings.Cut(s, ".")
	if !ok || schema == "" || name == "" {
		return pattern{}, fmt.Errorf("%q is no table: write schema.table, where * stands for any characters", s)
	}
	return pattern{schema, name}, nil
}

func (p pattern) match(schema, name string) bool { return glob(p.schema, schema) && glob(p.name, name) }

// glob reports whether s matches pat, in which * stands for any characters.
func glob(pat, s string) bool {
	head, tail, star := strings.Cut(pat, "*")
	if !star {
		return pat == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		mid, rest, more := strings.Cut(tail, "*")
		if !more {
			return strings.HasSuffix(s, tail)
		}
		i := strings.Index(s, mid)
		if i < 0 {
			return false
		}
		s, tail = s[i+len(mid):], rest
	}
}

type route struct{ from, to pattern }

func parseRoute(r Route) (route, error) {
	from, err := parsePattern(r.From)
	if err != nil {
		return route{}, fmt.Errorf("route from: %w", err)
	}
	to, err := parsePattern(r.To)
	if err != nil {
		return route{}, fmt.Errorf("route to: %w", err)
	}
	for _, s := range [2]string{to.schema, to.name} {
		if s != "*" && strings.Contains(s, "*") {
			return route{}, fmt.Errorf("route to %q: a * must stand alone, for the source's own name", r.To)
		}
	}
	return route{from, to}, nil
}

// target returns where rows of a source's table go. The first match wins;
// without one the table keeps its name.
func target(routes []route, schema, name string) (string, string) {
	for _, r := range routes {
		if !r.from.match(schema, name) {
			continue
		}
		if r.to.schema != "*" {
			schema = r.to.schema
		}
		if r.to.name != "*" {
			name = r.to.name
		}
		break
	}
	return schema, name
}
