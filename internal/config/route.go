package config

import "github.com/dataflowsync/dfs/internal/match"

// Routed returns the name that a table of the source has on the target, as the
// first route that matches says. Routes with faults do not match.
func (c *Config) Routed(schema, table string) string {
	schema, table = c.Target.routed(schema, table)
	return schema + "." + table
}

// RoutedSchema returns the schema of that name.
func (c *Config) RoutedSchema(schema, table string) string {
	schema, _ = c.Target.routed(schema, table)
	return schema
}

func (t *Target) routed(schema, table string) (string, string) {
	var routes []match.Route
	for _, r := range t.Routes {
		if parsed, err := match.ParseRoute(r.From, r.To); err == nil {
			routes = append(routes, parsed)
		}
	}
	return match.Target(routes, schema, table)
}
