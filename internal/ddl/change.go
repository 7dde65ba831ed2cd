package ddl

import (
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// ParseChange reads the statement of a change as the source's session did.
func ParseChange(c *dfs.Change) (*Statement, Mode) {
	var mode Mode
	schema := ""
	if c.Table != nil {
		schema = c.Table.Schema
	}
	if c.Session != nil {
		schema = c.Session.Schema
		for _, v := range c.Session.Vars {
			switch strings.ToLower(v.Name) {
			case "sql_mode":
				modes := strings.Split(strings.ToUpper(strings.Trim(v.Value, "'")), ",")
				mode.ANSIQuotes = slices.Contains(modes, "ANSI_QUOTES")
				mode.NoBackslashEscapes = slices.Contains(modes, "NO_BACKSLASH_ESCAPES")
			case "character_set_client":
				mode.Charset = strings.Trim(v.Value, "'")
			}
		}
	}
	s := Parse(c.Query, schema, mode)
	return &s, mode
}

// Short returns a statement for an error or a log: in one line, and its beginning if
// it is long.
func Short(query string) string {
	query = strings.Join(strings.Fields(query), " ")
	if r := []rune(query); len(r) > 400 {
		return string(r[:400]) + "..."
	}
	return query
}
