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
