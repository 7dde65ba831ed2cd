package cdc

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/dataflowsync/dfs/internal/ddl"
)

// A ForeignKey is one that the source declares on a followed table.
type ForeignKey struct {
	Name                 string
	Schema, Table        string   // whose rows refer to others, and may be changed with them
	Columns              []string // of Table
	ParentSchema, Parent string
	ParentColumns        []string
	OnDelete, OnUpdate   string // "CASCADE", "SET NULL", "RESTRICT" and so on
	ParentFollowed       bool
}

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
// now. Of files nothing is known, and the list is empty.
func (s *Source) ForeignKeys(ctx context.Context) ([]ForeignKey, error) {
	switch {
	case s.db == nil:
		return nil, nil
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
		for _, k := range ddl.ForeignKeys(d.SQL, ddl.Mode{MariaDB: true, Version: versionNumber(s.version)}) {
			key := ForeignKey{Name: k.Name, Schema: d.Table.Schema, Table: d.Table.Name, Columns: k.Columns,
				ParentSchema: cmp.Or(k.Parent.Schema, d.Table.Schema), Parent: k.Parent.Name, ParentColumns: k.ParentColumns,
				OnDelete: cmp.Or(k.OnDelete, "RESTRICT"), OnUpdate: cmp.Or(k.OnUpdate, "RESTRICT")}
			key.ParentFollowed = s.followed().follows(key.ParentSchema, key.Parent)
			keys = append(keys, key)
		}
	}
	return keys, nil
}
