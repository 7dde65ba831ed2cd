package sink

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// A routed is a statement as the target is to run it.
type routed struct {
	kind   ddl.Kind
	text   string
	schema string // the default schema; empty if it has none of one name

	// tables are the tables of the target that it creates, alters or drops, by
	// the names in the statement and in its order. An empty Name stands for the
	// schema itself.
	tables []ddl.Table

	renames []rename // RENAME TABLE alone, in order
	fill    ddl.Fill // what it gives to rows that are there
	mariadb bool     // the target is MariaDB
}

type rename struct{ from, to ddl.Table }

// route makes of a source's statement the one for the target: without the tables
// that are not followed, and with each name as Routes say. The error tells why
// there is none.
func (m *MySQL) route(c *dfs.Change, s *ddl.Statement) (*routed, error) {
	s, err := m.cut(c, s)
	if err != nil {
		return nil, err
	}
	r := &routed{kind: s.Kind, fill: s.Fill()}
	var errs []error
	r.text, err = s.Rewrite(func(ref ddl.Ref) ddl.Table {
		to, err := m.routeRef(s.Kind, ref)
		errs = append(errs, err)
		return to
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	for _, ref := range s.Refs {
		if ref.Role == ddl.Target || ref.Role == ddl.NewName || ref.Role == ddl.Schema {
			to, _ := m.routeRef(s.Kind, ref)
			r.tables = append(r.tables, to)
		}
	}
	if s.Kind == ddl.RenameTable {
		for i := 0; i+1 < len(r.tables); i += 2 {
			r.renames = append(r.renames, rename{r.tables[i], r.tables[i+1]})
		}
	}
	if to, ok := match.TargetSchema(m.routes, schemaOf(c)); ok {
		r.schema = to
	}
	return r, nil
}

// routeRef returns the name on the target for a name in a statement.
func (m *MySQL) routeRef(kind ddl.Kind, ref ddl.Ref) (ddl.Table, error) {
	from := ref.Table
	alters := ref.Role == ddl.Target || ref.Role == ddl.NewName || ref.Role == ddl.Schema
	if ref.Role == ddl.Schema || from.Name == "" {
		to, ok := match.TargetSchema(m.routes, from.Schema)
		switch {
		case !ok:
			return from, fmt.Errorf("the routes send no other schema, and nothing but the whole of %s, to one place, so there is no schema of the target that stands for it", from.Schema)
		case kind == ddl.DropSchema && !m.followed.FollowsAll(from.Schema):
			return from, fmt.Errorf("not all tables of the schema %s are followed", from.Schema)
		case kind == ddl.DropSchema && strings.EqualFold(to, m.schema):
			return from, fmt.Errorf("the target's schema %s has the checkpoint", to)
		}
		return ddl.Table{Schema: to}, nil
	}
	if ref.Role == ddl.Function { // functions do not travel, but have their schema's routes
		if to, ok := match.TargetSchema(m.routes, from.Schema); ok {
			from.Schema = to
		}
		return from, nil
	}
	var to ddl.Table
	to.Schema, to.Name = match.Target(m.routes, from.Schema, from.Name)
	switch {
	case !alters:
	case match.Merges(m.routes, from.Schema, from.Name):
		return from, fmt.Errorf("the routes may send other tables than %s.%s to %s.%s", from.Schema, from.Name, to.Schema, to.Name)
	case m.owns(to.Schema, to.Name):
		return from, fmt.Errorf("%s.%s is the pipeline's own", to.Schema, to.Name)
	}
	return to, nil
}

// takes reports whether a statement of the kind is applied to the table.
func (m *rules) takes(kind ddl.Kind, t ddl.Table) bool {
	return m.followed.Follows(t.Schema, t.Name) && m.ddlPolicy(kind, t.Schema, t.Name) != PolicyIgnore
}

// cut returns the statement without the tables that it must not touch on the
// target: a DROP without those that are not followed, a RENAME without the
// tables that were not followed before it. It refuses a statement that puts into
// a followed table what was not followed.
func (m *rules) cut(c *dfs.Change, s *ddl.Statement) (*ddl.Statement, error) {
	var targets []ddl.Table
	for _, ref := range s.Refs {
		if (ref.Role == ddl.Target || ref.Role == ddl.NewName) && ref.Table.Name != "" {
			targets = append(targets, ref.Table)
		}
	}
	taken := func(t ddl.Table) bool { return m.takes(s.Kind, t) }
	unknown := func(t ddl.Table) error {
		return fmt.Errorf("it makes a followed table of %s.%s, which is not followed, so that what it holds is not known here: "+
			"follow that too, from its beginning", t.Schema, t.Name)
	}
	switch s.Kind {
	case ddl.DropTable, ddl.DropView:
		keep := slices.DeleteFunc(slices.Clone(targets), func(t ddl.Table) bool { return !taken(t) })
		if len(keep) == len(targets) {
			return s, nil
		}
		verb := "DROP TABLE "
		if s.Kind == ddl.DropView {
			verb = "DROP VIEW "
		}
		if s.IfExists {
			verb += "IF EXISTS "
		}
		return parse(c, verb+joinNames(keep, ", ")), nil
	case ddl.RenameTable:
		if len(targets)%2 != 0 {
			return nil, errUnsettled
		}
		// What a name stands for, by the name that this had before the statement.
		was := make(map[ddl.Table]ddl.Table)
		before := func(t ddl.Table) ddl.Table {
			if old, moved := was[t]; moved {
				return old
			}
			return t
		}
		var pairs []string
		for i := 0; i < len(targets); i += 2 {
			old := before(targets[i])
			delete(was, targets[i])
			was[targets[i+1]] = old
			if taken(old) {
				pairs = append(pairs, joinNames(targets[i:i+2], " TO "))
			}
		}
		for to, old := range was {
			if taken(to) && !taken(old) {
				return nil, unknown(old)
			}
		}
		if len(pairs) == len(targets)/2 {
			return s, nil
		}
		return parse(c, "RENAME TABLE "+strings.Join(pairs, ", ")), nil
	case ddl.CreateTable:
		// CREATE TABLE ... LIKE: its columns are those of another table.
		for _, ref := range s.Refs {
			if ref.Role == ddl.Source && !m.followed.Follows(ref.Table.Schema, ref.Table.Name) {
				return nil, unknown(ref.Table)
			}
		}
	case ddl.AlterTable:
		// RENAME TO a followed name, or EXCHANGE PARTITION.
		for _, t := range targets {
			if taken(t) || len(targets) == 1 {
				continue
			}
			if last := s.Refs[len(s.Refs)-1]; last.Role == ddl.NewName && last.Table == t {
				continue // it leaves what is followed
			}
			return nil, unknown(t)
		}
	}
	return s, nil
}

// joinNames writes names with their schemas.
func joinNames(list []ddl.Table, sep string) string {
	var b []byte
	for i, t := range list {
		if i > 0 {
			b = append(b, sep...)
		}
		b = appendIdent(append(appendIdent(b, t.Schema), '.'), t.Name)
	}
	return string(b)
}
