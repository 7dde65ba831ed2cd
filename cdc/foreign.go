package cdc

import (
	"cmp"
	"context"
	"database/sql"
	"regexp"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// A ForeignKey is one that the source declares on a followed table.
type ForeignKey = dfs.ForeignKey

// SilentForeignKeys returns the foreign keys that act on rows of followed tables
// of which the log does not tell: what ON DELETE and ON UPDATE do to child rows is
// logged by MySQL 9.6 and later only, unless innodb_native_foreign_keys is ON. So
// a target keeps such rows, as orphans, if it has not the same foreign keys. Of
// files nothing is known, and the list is empty.
func (s *Source) SilentForeignKeys(ctx context.Context) ([]ForeignKey, error) {
	if s.db == nil {
		return nil, nil
	}
	logged := false
	err := eachRow(ctx, s.db, "SHOW GLOBAL VARIABLES LIKE 'innodb_native_foreign_keys'",
		func(v []sql.NullString) { logged = v[1].String == "OFF" })
	if err != nil || logged {
		return nil, mark(err)
	}
	all, err := s.ForeignKeys(ctx)
	return slices.DeleteFunc(all, func(k ForeignKey) bool { return !acts(k.OnDelete) && !acts(k.OnUpdate) }), err
}

// acts reports whether a rule changes child rows.
func acts(rule string) bool { return rule != "RESTRICT" && rule != "NO ACTION" }

// ForeignKeys returns all foreign keys of followed tables, as the server has them
// now. Of files it returns those that Options.Schema declares; without that nothing is
// known of them, and the list is empty.
func (s *Source) ForeignKeys(ctx context.Context) ([]ForeignKey, error) {
	switch {
	case s.db == nil:
		return s.followed().writtenForeignKeys(s.opts.Schema, ddl.Mode{MariaDB: s.maria, Version: versionNumber(s.known().version)}), nil
	case s.maria:
		return s.definedForeignKeys(ctx)
	}
	var list []*ForeignKey
	type name struct{ schema, table, key string }
	at := make(map[name]*ForeignKey)
	err := eachRow(ctx, s.db, `SELECT constraint_schema, table_name, constraint_name, unique_constraint_schema, referenced_table_name, delete_rule, update_rule
		FROM information_schema.referential_constraints ORDER BY 1, 2, 3`,
		func(v []sql.NullString) {
			k := &ForeignKey{Schema: v[0].String, Table: v[1].String, Name: v[2].String, ParentSchema: v[3].String, Parent: v[4].String,
				OnDelete: v[5].String, OnUpdate: v[6].String}
			if s.followed().follows(k.Schema, k.Table) {
				k.ParentFollowed = s.followed().follows(k.ParentSchema, k.Parent)
				list = append(list, k)
				at[name{k.Schema, k.Table, k.Name}] = k
			}
		})
	if err != nil || len(list) == 0 {
		return nil, mark(err)
	}
	err = eachRow(ctx, s.db, `SELECT constraint_schema, table_name, constraint_name, column_name, referenced_column_name
		FROM information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL ORDER BY 1, 2, 3, ordinal_position`,
		func(v []sql.NullString) {
			if k := at[name{v[0].String, v[1].String, v[2].String}]; k != nil {
				k.Columns, k.ParentColumns = append(k.Columns, v[3].String), append(k.ParentColumns, v[4].String)
			}
		})
	var keys []ForeignKey
	for _, k := range list {
		keys = append(keys, *k)
	}
	return keys, mark(err)
}

// definedForeignKeys reads them out of the definitions of the tables: in its
// information_schema MariaDB hides them from an account that has no right on the
// tables but SELECT (seen with 10.11.18), as that of a replica need not have.
func (s *Source) definedForeignKeys(ctx context.Context) ([]ForeignKey, error) {
	definitions, err := s.Definitions(ctx)
	if err != nil {
		return nil, err
	}
	var keys []ForeignKey
	for _, d := range definitions {
		for _, k := range mariaForeignKeys(d.SQL, ddl.Mode{MariaDB: true, Version: versionNumber(s.known().version)}) {
			keys = append(keys, s.followed().foreignKey(d.Table.Schema, d.Table.Name, k))
		}
	}
	return keys, nil
}

func (f *filter) foreignKey(schema, table string, k ddl.ForeignKey) ForeignKey {
	key := ForeignKey{Name: k.Name, Schema: schema, Table: table, Columns: k.Columns,
		ParentSchema: cmp.Or(k.Parent.Schema, schema), Parent: k.Parent.Name, ParentColumns: k.ParentColumns,
		OnDelete: cmp.Or(k.OnDelete, "RESTRICT"), OnUpdate: cmp.Or(k.OnUpdate, "RESTRICT")}
	key.ParentFollowed = f.follows(key.ParentSchema, key.Parent)
	return key
}

// writtenForeignKeys returns those of followed tables that statements such as a dump's
// declare.
func (f *filter) writtenForeignKeys(text string, mode ddl.Mode) (keys []ForeignKey) {
	schema := ""
	for statement := range statements(text) {
		if name, ok := useOf(statement); ok {
			schema = name
			continue
		}
		s := ddl.Parse(statement, schema, mode)
		if s.Kind != ddl.CreateTable && s.Kind != ddl.AlterTable || len(s.Tables) == 0 || !f.follows(s.Tables[0].Schema, s.Tables[0].Name) {
			continue
		}
		t := s.Tables[0]
		if s.Kind == ddl.CreateTable {
			keys = slices.DeleteFunc(keys, func(k ForeignKey) bool { return k.Schema == t.Schema && k.Table == t.Name })
		}
		for _, k := range ddl.ForeignKeys(statement, mode) {
			keys = append(keys, f.foreignKey(t.Schema, t.Name, k))
		}
	}
	return keys
}

// mariaKey is a foreign key as SHOW CREATE TABLE of MariaDB has it, in a line. Names in
// it may have a backtick that is not written twice, other than in the rest of the text
// (seen with 10.11.18).
var mariaKey = regexp.MustCompile("^CONSTRAINT `(.*)` FOREIGN KEY \\(`(.*)`\\) REFERENCES `(.*)` \\(`(.*)`\\)((?: ON (?:DELETE|UPDATE) [A-Z ]+?)*)$")

// mariaForeignKeys reads the foreign keys out of a definition.
func mariaForeignKeys(text string, mode ddl.Mode) (keys []ddl.ForeignKey) {
	name := func(s string) string { return strings.ReplaceAll(s, "``", "`") }
	names := func(s string) (list []string) {
		for n := range strings.SplitSeq(s, "`, `") {
			list = append(list, name(n))
		}
		return list
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(strings.TrimSpace(line), ",")
		if !strings.HasPrefix(line, "CONSTRAINT ") || !strings.Contains(line, " FOREIGN KEY ") {
			continue
		}
		m := mariaKey.FindStringSubmatch(line)
		if m == nil {
			return ddl.ForeignKeys(text, mode) // written in another way
		}
		k := ddl.ForeignKey{Name: name(m[1]), Columns: names(m[2]), ParentColumns: names(m[4])}
		if schema, table, ok := strings.Cut(m[3], "`.`"); ok {
			k.Parent.Schema, k.Parent.Name = name(schema), name(table)
		} else {
			k.Parent.Name = name(m[3])
		}
		for part := range strings.SplitSeq(m[5], " ON ") {
			if rule, ok := strings.CutPrefix(part, "DELETE "); ok {
				k.OnDelete = rule
			} else if rule, ok := strings.CutPrefix(part, "UPDATE "); ok {
				k.OnUpdate = rule
			}
		}
		keys = append(keys, k)
	}
	return keys
}
