package config

import "github.com/dataflowsync/dfs/internal/match"

// Routed returns the name that a table of the source has on the target, as the
// first route that matches says. Routes with faults do not match.
func (c *Config) Routed(schema, table string) string {
	var routes []match.Route
	for _, r := range c.Target.Routes {
		if parsed, err := match.ParseRoute(r.From, r.To); err == nil {
			routes = append(routes, parsed)
		}
	}
	schema, table = match.Target(routes, schema, table)
	return schema + "." + table
}
