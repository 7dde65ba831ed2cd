package cdc

import (
	"context"

	"github.com/dataflowsync/dfs"
)

var (
	_ dfs.Keyer      = (*Source)(nil)
	_ dfs.Unnumbered = (*Source)(nil)
)

// Unnumbered marks a Source whose transactions the pipeline numbers.
func (s *Source) Unnumbered() {}

// Keys returns the unique keys and the foreign keys of all followed tables, as the
// server has them now. Of files nothing is known, and the list is empty.
func (s *Source) Keys(ctx context.Context) ([]dfs.TableKeys, error) {
	if s.db == nil {
		return nil, nil
	}
	var list []*dfs.TableKeys
	at := make(map[tableName]*dfs.TableKeys)
	table := func(schema, name string) *dfs.TableKeys {
		t := at[tableName{schema, name}]
		if t == nil && s.filter.follows(schema, name) {
			t = &dfs.TableKeys{Schema: schema, Name: name}
			at[tableName{schema, name}] = t
			list = append(list, t)
		}
		return t
	}
	var last string
	where, args := s.filter.condition()
	// A part of a key that is an expression has no column. An ignored index of
	// MariaDB and an invisible one of MySQL forbid what any other does.
	rows, err := s.db.QueryContext(ctx, `SELECT table_schema, table_name, index_name, COALESCE(column_name, ''), sub_part IS NOT NULL
		FROM information_schema.statistics WHERE non_unique = 0 AND index_name <> 'PRIMARY' AND `+where+`
		ORDER BY table_schema, table_name, index_name, seq_in_index`, args...)
	if err != nil {
		return nil, mark(err)
	}
	defer rows.Close()
	for rows.Next() {
		var schema, name, index, column string
		var prefix bool
		if err := rows.Scan(&schema, &name, &index, &column, &prefix); err != nil {
			return nil, mark(err)
		}
		t := table(schema, name)
		if t == nil {
			continue
		}
		if this := schema + "\x00" + name + "\x00" + index; this != last {
			last = this
			t.Unique = append(t.Unique, dfs.UniqueKey{})
		}
		u := &t.Unique[len(t.Unique)-1]
		u.Columns, u.Vague = append(u.Columns, column), u.Vague || prefix || column == ""
	}
	if err := rows.Err(); err != nil {
		return nil, mark(err)
	}
	foreign, err := s.ForeignKeys(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range foreign {
		if t := table(k.Schema, k.Table); t != nil {
			t.References = append(t.References, dfs.KeyReference{Columns: k.Columns, ParentSchema: k.ParentSchema, Parent: k.Parent, ParentColumns: k.ParentColumns})
		}
	}
	out := make([]dfs.TableKeys, len(list))
	for i, t := range list {
		out[i] = *t
	}
	return out, nil
}
