package dpu

import (
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
)

// statement decides about a statement that alters a table, and reports whether
// it passes. What a unit makes of a table cannot be altered by the source's
// statement, so it must not reach the target.
func (s *Units) statement(tx *dfs.Transaction, c *dfs.Change) (keep bool, err error) {
	var by *unit
	switch {
	case c.Table == nil || c.Table.Name == "":
		// Which tables it is about is not known, or it is about a whole schema:
		// any unit may be concerned.
		if len(s.units) > 0 {
			by = s.units[0]
		}
	default:
		for _, u := range s.units {
			if _, ok := u.matches(c.Table); ok {
				by = u
				break
			}
		}
	}
	switch {
	case by == nil:
		return !s.opts.OnlyUnits, nil
	case slices.Contains(s.opts.DDLDone, tx.ID):
		return false, nil
	case s.opts.DDL == PolicyIgnore:
		s.opts.Logger.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "unit", by.name, "query", shorten(c.Query))
		return false, nil
	}
	what := c.Table.String()
	if c.Table == nil || c.Table.Name == "" {
		what = "tables that it does not tell"
	}
	return false, &Error{Unit: by.name, Table: what, Err: fmt.Errorf("transaction %s alters the table by %q, which cannot be "+
		"translated for what the unit makes of it: run what the target needs there, then name the transaction as done, "+
		"%q in DDLDone or ddl_done, and start again", tx.ID, shorten(c.Query), tx.ID)}
}

func shorten(query string) string {
	if len(query) > 400 {
		return query[:400] + "..."
	}
	return query
}
