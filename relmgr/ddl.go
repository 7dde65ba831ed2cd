package relmgr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// statement looks at a statement that alters tables. It is handed on as it is;
// what it means for ids that are given, or to come, is either known or an error.
func (m *Manager) statement(tx *dfs.Transaction, c *dfs.Change) error {
	if slices.Contains(m.opts.DDLDone, tx.ID) {
		return nil
	}
	stmt, mode := ddl.ParseChange(c)
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("transaction %s runs %q: %s. Or let it pass by naming the transaction, %q, in DDLDone",
			tx.ID, ddl.Short(c.Query), fmt.Sprintf(format, args...), tx.ID)
	}
	switch stmt.Kind {
	case ddl.DropTable, ddl.TruncateTable:
		for _, t := range stmt.Tables {
			if !stmt.Temporary {
				m.forget(t.String())
			}
		}
	case ddl.RenameTable, ddl.AlterTable:
		for i := 1; i < len(stmt.Refs); i++ {
			from, to := stmt.Refs[i-1], stmt.Refs[i]
			if from.Role != ddl.Target || to.Role != ddl.NewName {
				continue
			}
			if err := m.renamed(from.Table.String(), to.Table.String(), stmt); err != nil {
				return refuse("%v", err)
			}
		}
	}
	if stmt.Kind == ddl.AlterTable && len(stmt.Tables) > 0 {
		table := stmt.Tables[0].String()
		for _, column := range ddl.RenamedColumns(c.Query, mode) {
			if what := m.uses(table, column); what != "" {
				return refuse("it may rename the column %s of %s, which is %s: start again with options that have the new name, and name the transaction in DDLDone", column, table, what)
			}
		}
	}
	if stmt.Kind == ddl.AlterTable || stmt.Kind == ddl.CreateTable {
		for _, k := range ddl.ForeignKeys(c.Query, mode) {
			if len(stmt.Tables) == 0 {
				break
			}
			learn := ForeignKey{Name: k.Name, Schema: stmt.Tables[0].Schema, Table: stmt.Tables[0].Name, Columns: k.Columns,
				ParentSchema: k.Parent.Schema, Parent: k.Parent.Name, ParentColumns: k.ParentColumns}
			if learn.ParentSchema == "" {
				learn.ParentSchema = learn.Schema
			}
			if m.declares(learn) {
				continue
			}
			child := strings.ToLower(learn.Schema + "." + learn.Table)
			if stmt.Kind == ddl.AlterTable && m.seen[child] != nil && m.rewrites(learn) {
				return refuse("it makes %s refer to %s.%s, and rows of it have been handed on with the old ids there: "+
					"give the reference in Options.References from the beginning of the pipeline, or keep the ids of %[2]s.%[3]s",
					child+"."+joinNames(learn.Columns), learn.ParentSchema, learn.Parent)
			}
			m.addReference(declared(learn))
			m.newLearned = append(m.newLearned, learn)
			m.forgetPlans()
		}
	}
	return nil
}

// rewrites reports whether a foreign key would change what becomes of a column.
func (m *Manager) rewrites(k ForeignKey) bool {
	parent := m.table(k.ParentSchema + "." + k.Parent)
	if parent == nil {
		return !m.keeps(k.ParentSchema + "." + k.Parent)
	}
	columns := k.ParentColumns
	if columns == nil {
		columns = columnNames(parent, parent.Key)
	}
	for _, name := range columns {
		if i := parent.Column(name); i >= 0 {
			if to, err := (&resolver{m: m}).column(parent, i); err != nil || to != nil {
				return true
			}
		}
	}
	return false
}

// renamed refuses to let a table that has ids get another name, under which its
// rows would have other ids. A table that takes a name over has the ids of that name:
// so a copy that takes its table's place, as pt-online-schema-change and gh-ost make
// it, goes on with them if its key refers to that table by a Reference.
func (m *Manager) renamed(from, to string, stmt *ddl.Statement) error {
	// Another table takes the name in the same statement: this one is on its way out.
	for _, r := range stmt.Refs {
		if r.Role == ddl.NewName && strings.EqualFold(r.Table.String(), from) {
			return nil
		}
	}
	if strings.EqualFold(from, to) {
		return nil
	}
	t := m.table(from)
	if sp := m.spaceOf(from); sp != nil && sp.known > 0 && !(t != nil && t.Column(sp.column) >= 0 && m.aliased(to, sp)) {
		return fmt.Errorf("%s has ids, and as %s its rows would get other ids: add Reference{Table: %q, Columns: {%q}, Parent: %q}, "+
			"by which its ids stay those of %s, and start again", from, to, to, sp.column, from, from)
	}
	was := m.seen[strings.ToLower(from)]
	if was == nil || t == nil {
		return nil
	}
	other := *t
	other.Schema, other.Name, _ = strings.Cut(to, ".")
	p, err := m.newPlan(&other)
	if err != nil {
		return err
	}
	now := p.how()
	if c := was.unlike(now); c != "" {
		return fmt.Errorf("the target has rows of %s with %s as %s, and those of %s would get %s: give References by which both tables are alike from the beginning, "+
			"or keep the ids", from, c, inWords(was[c]), to, inWords(now[c]))
	}
	return nil
}

// aliased reports whether a reference says that the ids of a table are those of a
// space.
func (m *Manager) aliased(table string, sp *space) bool {
	for _, r := range m.refs[strings.ToLower(table)] {
		if strings.EqualFold(r.Parent, sp.table) && indexFold(r.Columns, sp.column) >= 0 {
			return true
		}
	}
	return false
}

// uses says what a column is needed for, in words; "" if it is not.
func (m *Manager) uses(table, column string) string {
	for _, r := range m.refs[strings.ToLower(table)] {
		if indexFold(r.Columns, column) >= 0 || strings.EqualFold(r.TypeColumn, column) {
			return "part of " + r.place
		}
	}
	for _, sp := range m.spaces {
		if strings.EqualFold(sp.table, table) && (strings.EqualFold(sp.column, column) || indexFold(sp.key, column) >= 0) {
			return "the column of its ids"
		}
	}
	return ""
}
