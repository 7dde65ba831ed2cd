package dpu

import (
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// statement decides about a statement that alters tables, and reports whether it
// passes. A statement about tables that units give no more than another name, each
// its own, is translated. What else a unit makes of a table cannot be altered by the
// source's statement, so that must not reach the target.
func (s *Units) statement(tx *dfs.Transaction, c *dfs.Change) (keep bool, err error) {
	stmt, _ := ddl.ParseChange(c)
	by, about, why := s.concerned(c, stmt)
	switch {
	case by == nil:
		return !s.opts.OnlyUnits, nil
	case slices.Contains(s.opts.DDLDone, tx.ID):
		return false, nil
	}
	if why == "" {
		err := s.translate(c, stmt)
		if err == nil {
			return true, nil
		}
		why = err.Error()
	}
	if s.opts.DDL == PolicyIgnore {
		s.opts.Logger.Warn("statement skipped", "seq", tx.Seq, "id", tx.ID, "unit", by.name, "query", ddl.Short(c.Query))
		return false, nil
	}
	return false, &Error{Unit: by.name, Table: about, Err: fmt.Errorf("transaction %s alters it by %q, which cannot be "+
		"translated for the target (%s): run what the target needs there, then name the transaction as done, "+
		"%q in DDLDone or ddl_done, and start again", tx.ID, ddl.Short(c.Query), why, tx.ID)}
}

// concerned returns the first unit that has to do with a statement, the table by
// which it has, and why the statement cannot be translated, "" if it can: all
// its tables get no more than another name, which no other table has.
func (s *Units) concerned(c *dfs.Change, stmt *ddl.Statement) (by *unit, about, why string) {
	tables := slices.Clone(stmt.Tables)
	if c.Table != nil && c.Table.Name != "" {
		tables = append(tables, ddl.Table{Schema: c.Table.Schema, Name: c.Table.Name})
	}
	if !stmt.Settled {
		why = "what it alters cannot be read from it"
		if len(tables) == 0 {
			tables = []ddl.Table{{}} // it may be any
		}
	}
	concerns := func(u *unit, t ddl.Table, reason string) {
		if by == nil {
			if by, about = u, t.String(); t.Name == "" {
				about = "tables that it does not name"
			}
		}
		if why == "" {
			why = reason
		}
	}
	var left ddl.Table // one that no unit is for, where such have no place on the target
	for _, t := range tables {
		i := slices.IndexFunc(s.units, func(u *unit) bool { return u.mayTake(t) })
		switch {
		case i >= 0:
			concerns(s.units[i], t, s.reason(s.units[i], t))
		case s.opts.OnlyUnits:
			left = t
		case t.Name == "" && stmt.Kind == ddl.DropSchema:
			if i := slices.IndexFunc(s.units, func(u *unit) bool { return u.leads(t.Schema) }); i >= 0 {
				concerns(s.units[i], t, "units send tables of other schemas to "+t.Schema)
			}
		case t.Name != "":
			if found, u := s.other(t, t); found != "" {
				concerns(u, t, meets(found, t))
			}
		}
	}
	if why == "" && left != (ddl.Table{}) {
		why = "no unit is for " + left.String()
	}
	return by, about, why
}

// reason returns why a statement about t, which u takes, cannot be translated.
func (s *Units) reason(u *unit, t ddl.Table) string {
	switch {
	case t.Schema == "" || t.Name == "":
		return "it does not name the tables"
	case !u.names():
		return "its unit makes other columns or rows of the table"
	}
	to, err := u.target(t)
	if err != nil {
		return err.Error()
	}
	if found, _ := s.other(t, to); found != "" {
		return meets(found, to)
	}
	return ""
}

func meets(other string, to ddl.Table) string {
	return fmt.Sprintf("%s of the target may also have rows of %s", to, other)
}

// target returns the name that the unit gives a table.
func (u *unit) target(t ddl.Table) (ddl.Table, error) {
	src := &dfs.Table{Schema: t.Schema, Name: t.Name}
	captures, _ := u.matches(src)
	schema, table, err := target(u.Into, src, captures)
	return ddl.Table{Schema: schema, Name: table}, err
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

// names reports whether the unit gives tables no more than another name. With a
// condition it does not: a TRUNCATE would take the place of deletes of some rows,
// and an ALTER may drop what the condition reads.
func (u *unit) names() bool {
	return !u.Also && u.Where.Expr == "" && u.Where.Func == nil && len(u.joins)+len(u.Select)+len(u.Drop)+len(u.Columns)+len(u.Mask)+len(u.Cast)+len(u.Rename)+len(u.Key) == 0 &&
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
			to, err := u.target(t)
			if err != nil {
				wrong = err
			}
			return to
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
