package match

import (
	"errors"
	"fmt"
)

// A Route sends the tables that From matches to To, in which a * alone, on
// either side of the dot, keeps the table's own name.
type Route struct{ From, To Pattern }

// ParseRoute reads both ends of a route, and returns all their faults.
func ParseRoute(from, to string) (Route, error) {
	f, err := Parse(from)
	if err != nil {
		err = fmt.Errorf("route from: %w", err)
	}
	t, toErr := ParseTo(to)
	if toErr != nil {
		toErr = fmt.Errorf("route to: %w", toErr)
	}
	return Route{f, t}, errors.Join(err, toErr)
}

// ParseTo reads where a route leads.
func ParseTo(text string) (Pattern, error) {
	p, err := Parse(text)
	if err != nil {
		return p, err
	}
	for _, s := range [2]string{p.Schema, p.Table} {
		if s != "*" && Wild(s) {
			return p, fmt.Errorf("%q: a * must stand alone, for the source's own name, and a ? stands for nothing", text)
		}
	}
	return p, nil
}

// Target returns where a table goes: as the first route says that matches it, or
// by its own name.
func Target(routes []Route, schema, table string) (string, string) {
	for _, r := range routes {
		if !r.From.Match(schema, table) {
			continue
		}
		if r.To.Schema != "*" {
			schema = r.To.Schema
		}
		if r.To.Table != "*" {
			table = r.To.Table
		}
		break
	}
	return schema, table
}

// TargetSchema returns where the whole of a schema goes, and whether there is
// such a place: all its tables, also those to come, keep their names and go to
// one schema, to which no other schema goes.
func TargetSchema(routes []Route, schema string) (string, bool) {
	to, found := schema, false
	for _, r := range routes {
		if found || !Glob(r.From.Schema, schema) {
			continue
		}
		if r.From.Table != "*" || r.To.Table != "*" {
			return "", false
		}
		found = true
		if r.To.Schema != "*" {
			to = r.To.Schema
		}
	}
	for _, r := range routes {
		if r.To.Schema == to && !(found && r.From.Schema == schema) {
			return "", false
		}
	}
	return to, true
}

// Merges reports whether the route that sends the table on may send others to
// the same place.
func Merges(routes []Route, schema, table string) bool {
	toSchema, toTable := Target(routes, schema, table)
	for _, r := range routes {
		if r.To.Schema != "*" && r.To.Schema != toSchema || r.To.Table != "*" && r.To.Table != toTable {
			continue // it does not lead there
		}
		if r.From.Match(schema, table) {
			if r.To.Schema != "*" && Wild(r.From.Schema) || r.To.Table != "*" && Wild(r.From.Table) {
				return true
			}
			continue
		}
		// Another route that may lead there, by a table that it matches.
		if (r.To.Schema != "*" || Glob(r.From.Schema, toSchema)) && (r.To.Table != "*" || Glob(r.From.Table, toTable)) {
			return true
		}
	}
	return false
}
