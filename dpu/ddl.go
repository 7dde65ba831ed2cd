package dpu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// statement decides about a statement that alters tables, and reports whether it
// passes. A statement about tables that units give no more than another name is
// translated. What else a unit makes of a table cannot be altered by the
// source's statement, so that must not reach the target.
func (s *Units) statement(tx *dfs.Transaction, c *dfs.Change) (keep bool, err error) {
	stmt := parseStatement(c)
	by, about, plain := s.concerned(c, stmt)
	switch {
	case by == nil:
		return !s.opts.OnlyUnits, nil
	case slices.Contains(s.opts.DDLDone, tx.ID):
		return false, nil
	}
	why := "its unit makes other columns or rows of the table"
	if plain {
		if err := s.translate(c, stmt); err == nil {
			return true, nil
		} else {
			why = err.Error()
		}
	}
	if s.opts.DDL == PolicyIgnore {
		s.opts.Logger.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "unit", by.name, "query", shorten(c.Query))
		return false, nil
	}
	return false, &Error{Unit: by.name, Table: about, Err: fmt.Errorf("transaction %s alters it by %q, which cannot be "+
		"translated for the target (%s): run what the target needs there, then name the transaction as done, "+
		"%q in DDLDone or ddl_done, and start again", tx.ID, shorten(c.Query), why, tx.ID)}
}

// parseStatement reads a statement as the source's session did.
func parseStatement(c *dfs.Change) *ddl.Statement {
	var mode ddl.Mode
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
	s := ddl.Parse(c.Query, schema, mode)
	return &s
}

// concerned returns the first unit that has to do with a statement, the table by
// which it has, and whether all such units give tables no more than a name.
func (s *Units) concerned(c *dfs.Change, stmt *ddl.Statement) (by *unit, about string, plain bool) {
	plain = stmt.Settled
	tables := slices.Clone(stmt.Tables)
	if c.Table != nil && c.Table.Name != "" {
		tables = append(tables, ddl.Table{Schema: c.Table.Schema, Name: c.Table.Name})
	}
	if !stmt.Settled && len(tables) == 0 {
		tables = []ddl.Table{{}} // it may be any
	}
	for _, t := range tables {
		for _, u := range s.units {
			if !u.mayTake(t) {
				continue
			}
			if by == nil {
				if by, about = u, t.String(); t.Name == "" {
					about = "tables that it does not name"
				}
			}
			plain = plain && t.Name != "" && u.names()
			break
		}
	}
	return by, about, plain
}

// mayTake reports whether the unit is for the table, or for one of the tables of
// the schema where there is no name.
func (u *unit) mayTake(t ddl.Table) bool {
	switch {
	case t.Schema == "" || u.Match != nil && t.Name == "":
		return true
	case t.Name == "":
		return match.Glob(u.pattern.Schema, t.Schema)
	}
	_, ok := u.matches(&dfs.Table{Schema: t.Schema, Name: t.Name})
	return ok
}

// names reports whether the unit gives tables no more than another name.
func (u *unit) names() bool {
	return !u.Also && len(u.joins)+len(u.Select)+len(u.Drop)+len(u.Columns)+len(u.Mask)+len(u.Cast)+len(u.Rename)+len(u.Key) == 0 &&
		u.SoftDelete == "" && !u.Part && u.Rows == nil && u.Func == nil
}

// translate gives the tables of a statement the names that their units give them.
// Refs of tables that have no unit keep theirs.
func (s *Units) translate(c *dfs.Change, stmt *ddl.Statement) error {
	var wrong error
	name := func(t ddl.Table) ddl.Table {
		for _, u := range s.units {
			if !u.mayTake(t) {
				continue
			}
			src := &dfs.Table{Schema: t.Schema, Name: t.Name}
			captures, _ := u.matches(src)
			schema, table, err := target(u.Into, src, captures)
			if err != nil {
				wrong = err
			}
			return ddl.Table{Schema: schema, Name: table}
		}
		return t
	}
	text, err := stmt.Rewrite(func(r ddl.Ref) ddl.Table {
		if r.Role == ddl.Schema || r.Role == ddl.Function {
			return r.Table
		}
		return name(r.Table)
	})
	if err == nil {
		err = wrong
	}
	if err != nil {
		return err
	}
	c.Query = text
	if c.Table != nil && c.Table.Name != "" {
		t := *c.Table // it may be shared
		to := name(ddl.Table{Schema: t.Schema, Name: t.Name})
		t.Schema, t.Name = to.Schema, to.Name
		c.Table = &t
		if c.Session != nil {
			session := *c.Session // all names have their schema, but the target may lack the source's
			session.Schema = to.Schema
			c.Session = &session
		}
	}
	return nil
}

func shorten(query string) string {
	if len(query) > 400 {
		return query[:400] + "..."
	}
	return query
}
