package config

import (
	"regexp"
	"strings"
)

// Routed returns the name that a table of the source has on the target, as the
// first route that matches says.
func (c *Config) Routed(schema, table string) string {
	for _, r := range c.Target.Routes {
		if !globs(r.From, schema+"."+table) {
			continue
		}
		to := strings.SplitN(r.To, ".", 2)
		if to[0] != "*" {
			schema = to[0]
		}
		if to[1] != "*" {
			table = to[1]
		}
		break
	}
	return schema + "." + table
}

// globs reports whether pattern matches name, where * in the pattern stands for
// any characters but a dot.
func globs(pattern, name string) bool {
	expr := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^.]*`)
	return regexp.MustCompile("(?s)^" + expr + "$").MatchString(name)
}
