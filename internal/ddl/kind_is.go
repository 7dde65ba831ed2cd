package ddl

import (
	"strings"

	"github.com/dataflowsync/dfs/internal/match"
)

// Is reports whether a pattern, in which * stands for any text and ? for one
// character, names the kind: "drop *". A schema is a database too.
func (k Kind) Is(pattern string) bool {
	name := k.String()
	return match.Glob(pattern, name) || match.Glob(pattern, strings.Replace(name, "schema", "database", 1))
}
