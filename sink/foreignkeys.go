package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A ForeignKey is one that the source declares on a table, as package cdc's
// SilentForeignKeys returns those that act on rows of it.
type ForeignKey = dfs.ForeignKey

// CheckForeignKeys reports, as one error, the foreign keys that the target must
// have because the source's log does not tell what they do, and has not: deletes
// of parents would leave rows on the target that the source has not any more. A
// table that the target lacks is for CheckTables to report. Where the policy is to
// apply statements, one that is on its way may yet add the foreign key, and what
// is missing is in notes.
func (m *MySQL) CheckForeignKeys(ctx context.Context, keys []ForeignKey) (notes []string, err error) {
	if m.sess == nil {
		s, err := openSession(ctx, m.connector, m.sqlOnly)
		if err != nil {
			return nil, err
		}
		m.use(s)
	}
	var errs []error
	for _, k := range keys {
		schema, name := match.Target(m.routes, k.Schema, k.Table)
		there, acts, err := m.sess.actsLike(ctx, k, schema, name, m.routes)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading the foreign keys of the target's table %s.%s: %w", schema, name, classify(err))
		case !there || acts && k.ParentFollowed:
			continue
		}
		what := fmt.Sprintf("foreign key %s of the source changes rows of %s.%s (ON DELETE %s ON UPDATE %s), which its log does not tell",
			k.Name, k.Schema, k.Table, k.OnDelete, k.OnUpdate)
		if !k.ParentFollowed {
			errs = append(errs, fmt.Errorf("%s, and %s.%s, whose rows it goes by, is not followed: follow that table too", what, k.ParentSchema, k.Parent))
			continue
		}
		what += ", and the target has no such foreign key: " + addKey(k, schema, name, m.routes)
		if m.mayAppear(&dfs.Table{Schema: k.Schema, Name: k.Table}, errors.New(what)) {
			notes = append(notes, what+"; unless a statement of the source does so first")
			continue
		}
		errs = append(errs, errors.New(what))
	}
	return notes, errors.Join(errs...)
}

// addKey returns the statement that makes k on the target.
func addKey(k ForeignKey, schema, name string, routes []match.Route) string {
	list := func(b []byte, columns []string) []byte {
		for i, c := range columns {
			b = appendIdent(append(b, ", "[:min(i, 1)*2]...), c)
		}
		return b
	}
	parentSchema, parent := match.Target(routes, k.ParentSchema, k.Parent)
	b := appendIdent(append(appendIdent([]byte("ALTER TABLE "), schema), '.'), name)
	b = append(appendIdent(append(b, " ADD CONSTRAINT "...), k.Name), " FOREIGN KEY ("...)
	b = append(list(b, k.Columns), ") REFERENCES "...)
	b = append(appendIdent(append(appendIdent(b, parentSchema), '.'), parent), " ("...)
	return fmt.Sprintf("%s) ON DELETE %s ON UPDATE %s", list(b, k.ParentColumns), k.OnDelete, k.OnUpdate)
}

// actsLike reports whether the target has the table schema.name, and on it a
// foreign key that does what k does.
func (s *session) actsLike(ctx context.Context, k ForeignKey, schema, name string, routes []match.Route) (there, acts bool, err error) {
	where := func(prefix string) string {
		b := appendQuoted([]byte(prefix+"TABLE_SCHEMA="), schema)
		return string(appendQuoted(append(b, " AND "+prefix+"TABLE_NAME="...), name))
	}
	rows, err := s.query(ctx, "SELECT 1 FROM information_schema.TABLES WHERE "+where(""))
	if err != nil || len(rows) == 0 {
		return false, false, err
	}
	rows, err = s.query(ctx, "SELECT k.CONSTRAINT_NAME, k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME, c.DELETE_RULE, c.UPDATE_RULE, "+
		"k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS c "+
		"ON c.CONSTRAINT_SCHEMA=k.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME=k.CONSTRAINT_NAME AND c.TABLE_NAME=k.TABLE_NAME WHERE "+
		where("k.")+" ORDER BY k.CONSTRAINT_NAME, k.ORDINAL_POSITION")
	if err != nil {
		return true, false, err
	}
	parentSchema, parent := match.Target(routes, k.ParentSchema, k.Parent)
	// The order of a foreign key's columns does not matter.
	columns := func(child, parent []string) (list []string) {
		for i := range child {
			list = append(list, strings.ToLower(child[i])+"\x00"+strings.ToLower(parent[i]))
		}
		slices.Sort(list)
		return list
	}
	// A rule that does nothing has two names.
	same := func(rule, other string) bool { return rule == other || passive(rule) && passive(other) }
	want := columns(k.Columns, k.ParentColumns)
	for i := 0; i < len(rows); {
		first := rows[i]
		var child, to []string
		for ; i < len(rows) && rows[i][0].text == first[0].text; i++ {
			child, to = append(child, rows[i][5].text), append(to, rows[i][6].text)
		}
		if s.tableKey(first[1].text, first[2].text) == s.tableKey(parentSchema, parent) && same(first[3].text, k.OnDelete) &&
			same(first[4].text, k.OnUpdate) && slices.Equal(columns(child, to), want) {
			return true, true, nil
		}
	}
	return true, false, nil
}

// passive reports whether a rule of a foreign key leaves child rows alone.
func passive(rule string) bool { return rule == "RESTRICT" || rule == "NO ACTION" }
