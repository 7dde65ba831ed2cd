package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/dataflowsync/dfs"
)

// A Definition is how a followed table is defined on the source's server now.
type Definition = dfs.Definition

// Definitions returns the definitions of all followed tables, but not of views.
// It needs the right to SELECT from them. Of files it is an error.
func (s *Source) Definitions(ctx context.Context) ([]Definition, error) {
	if s.db == nil {
		return nil, errors.New("cdc: log files do not tell how tables were defined: create the target's tables by hand")
	}
	tables, err := s.Tables(ctx)
	if err != nil {
		return nil, err
	}
	return s.definitionsOf(ctx, tables)
}

// Describe returns the definitions of tables of the source, "schema.table" each,
// whether they are followed or not. It is an error if one is not there.
func (s *Source) Describe(ctx context.Context, tables []string) ([]Definition, error) {
	if s.db == nil {
		return nil, errors.New("cdc: log files do not tell how tables were defined: create the target's tables by hand")
	}
	names, err := s.names("describe", tables)
	if err != nil {
		return nil, err
	}
	var list []*dfs.Table
	for _, n := range names {
		t, err := readTable(ctx, s.db, n.schema, n.name)
		if err != nil {
			return nil, mark(err)
		}
		if t == nil {
			return nil, fmt.Errorf("cdc: the source has no table %s, or does not show it to the account: create it, or GRANT SELECT ON it", n)
		}
		list = append(list, t)
	}
	return s.definitionsOf(ctx, list)
}

// definitionsOf returns the definitions of tables. Those that have been dropped
// meanwhile are left out.
func (s *Source) definitionsOf(ctx context.Context, tables []*dfs.Table) ([]Definition, error) {
	sizes := make(map[tableName]uint64)
	schemas := make([]any, 0, len(tables))
	for _, t := range tables {
		if !slices.Contains(schemas, any(t.Schema)) {
			schemas = append(schemas, t.Schema)
		}
	}
	rows, err := s.db.QueryContext(ctx, "SELECT table_schema, table_name, COALESCE(data_length, 0) FROM information_schema.tables WHERE table_schema IN (''"+
		strings.Repeat(", ?", len(schemas))+")", schemas...)
	if err != nil {
		return nil, mark(fmt.Errorf("cdc: read the sizes of all tables: %w", err))
	}
	defer rows.Close()
	for rows.Next() {
		var n tableName
		var size uint64
		if err := rows.Scan(&n.schema, &n.name, &size); err != nil {
			return nil, mark(err)
		}
		sizes[n] = size
	}
	if err := rows.Err(); err != nil {
		return nil, mark(err)
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, mark(err)
	}
	defer conn.Close()
	// The modes of the session say how names are quoted and what is left out.
	var mode string
	if err := conn.QueryRowContext(ctx, "SELECT @@sql_mode").Scan(&mode); err != nil {
		return nil, mark(err)
	}
	if _, err := conn.ExecContext(ctx, "SET sql_mode='', sql_quote_show_create=1"); err != nil {
		return nil, mark(err)
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SET sql_mode=?", mode)
	list := make([]Definition, 0, len(tables))
	for _, t := range tables {
		d := Definition{Table: t, MariaDB: s.maria, Bytes: sizes[tableName{t.Schema, t.Name}]}
		var name string
		err := conn.QueryRowContext(ctx, "SHOW CREATE TABLE "+quoteName(t.Schema)+"."+quoteName(t.Name)).Scan(&name, &d.SQL)
		var server *mysql.MySQLError
		switch {
		case errors.As(err, &server) && server.Number == 1146, errors.Is(err, sql.ErrNoRows):
			continue // it has been dropped meanwhile
		case err != nil:
			return nil, mark(fmt.Errorf("cdc: read the definition of %s: %w", t, err))
		}
		list = append(list, d)
	}
	return list, nil
}
