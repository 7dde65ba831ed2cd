// Package match finds tables by patterns, and new names for them. All of the
// module that takes patterns of tables takes these.
package match

import (
	"fmt"
	"strings"
)

// A Pattern names tables. On each side of the dot * stands for any text, also
// none, and ? for one character. Letter case does not matter: whether it does
// for a server depends on its file system, and two tables that differ by case
// alone are rare.
type Pattern struct{ Schema, Table string }

// Parse reads "schema.table". What follows the first dot is the table's.
func Parse(text string) (Pattern, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "!") {
		return Pattern{}, fmt.Errorf("%q leaves tables out, which only a list of tables to follow can: "+
			"put another rule for them before the one that must not have them", text)
	}
	schema, table, ok := strings.Cut(strings.TrimSpace(text), ".")
	if !ok || schema == "" || table == "" {
		return Pattern{}, fmt.Errorf(`%q names no table: write it as "schema.table", where either may hold * and ?, such as "shop.*"`, text)
	}
	return Pattern{schema, table}, nil
}

// ParseFollowed reads a pattern of a list of tables to follow. One that begins
// with ! leaves out what it matches; the order of the list means nothing.
func ParseFollowed(text string) (p Pattern, out bool, err error) {
	rest, out := strings.CutPrefix(strings.TrimSpace(text), "!")
	p, err = Parse(rest)
	return p, out, err
}

// Match reports whether the pattern matches the table.
func (p Pattern) Match(schema, table string) bool {
	return Glob(p.Schema, schema) && Glob(p.Table, table)
}

// Wild reports whether one side of a pattern has wildcards.
func Wild(glob string) bool { return strings.ContainsAny(glob, "*?") }

// Glob reports whether s matches one side of a pattern.
func Glob(glob, s string) bool {
	if glob == "*" || glob == s {
		return true
	}
	return globRunes([]rune(strings.ToLower(glob)), []rune(strings.ToLower(s)))
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
