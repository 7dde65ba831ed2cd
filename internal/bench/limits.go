//go:build linux

package main

import (
	_ "embed"
	"strings"
)

// limitsText says of goals why they cannot be reached, each under a heading that begins as
// the goal does. It is written by hand, and its figures are those of profiles, which a
// report does not have; what prints them stands beside them.
//
//go:embed limits.md
var limitsText string

// limits returns the sections about goals that were not met, and the text before the first.
func (r *report) limits() string {
	head, rest, _ := strings.Cut(limitsText, "\n### ")
	var b strings.Builder
	for _, section := range strings.Split(rest, "\n### ") {
		name, _, _ := strings.Cut(section, "\n")
		for _, g := range r.goals() {
			if !g.OK && strings.HasPrefix(g.What, name) {
				b.WriteString("\n### " + strings.TrimRight(section, "\n") + "\n")
				break
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return strings.TrimRight(head, "\n") + "\n" + b.String() + "\n"
}
