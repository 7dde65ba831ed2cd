package dpu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// expand fills the placeholders of a template.
func expand(template string, t *dfs.Table, captures []string) (string, error) {
	var b strings.Builder
	rest := template
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return "", fmt.Errorf("%q lacks a }", template)
		}
		n, err := strconv.Atoi(name)
		switch {
		case name == "schema":
			b.WriteString(t.Schema)
		case name == "table":
			b.WriteString(t.Name)
		case err != nil:
			return "", fmt.Errorf("%q has {%s}; there are {schema}, {table}, and {1}, {2} and so on for the wildcards of From", template, name)
		case n < 1 || n > len(captures):
			return "", fmt.Errorf("%q has {%d}, and From has %d wildcards", template, n, len(captures))
		default:
			b.WriteString(captures[n-1])
		}
		rest = tail
	}
}

// target returns the table that Into names.
func target(into string, t *dfs.Table, captures []string) (schema, name string, err error) {
	if into == "" {
		return t.Schema, t.Name, nil
	}
	p, err := match.Parse(into)
	if err != nil {
		return "", "", err
	}
	sides := [2]string{p.Schema, p.Table}
	for i, own := range [2]string{t.Schema, t.Name} {
		if sides[i] == "*" {
			sides[i] = own
			continue
		}
		if match.Wild(sides[i]) {
			return "", "", fmt.Errorf("%q: a * must stand alone, for the source's own name; what a wildcard of From matches is {1}, {2} and so on", into)
		}
		if sides[i], err = expand(sides[i], t, captures); err != nil {
			return "", "", err
		}
		if sides[i] == "" {
			return "", "", fmt.Errorf("%q gives %s an empty name", into, t)
		}
	}
	return sides[0], sides[1], nil
}
