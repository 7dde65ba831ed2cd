package cdc

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"

	"github.com/dataflowsync/dfs"
)

// A schemas asks the server for what its table maps leave out, and remembers
// the answers until a statement alters the table. It is safe for concurrent use.
//
// The answer tells how the table is now, and the log may be older. A table that
// has other columns now than its map says is refused; but a column that has
// since got another name goes by the new one. Only binlog_row_metadata=FULL,
// from MySQL 8.0.1 and MariaDB 10.5, mends that.
type schemas struct {
	db *sql.DB

	mu    sync.Mutex
	known map[tableName]*schemaRecord
}

// A schemaRecord is what is known of one table.
type schemaRecord struct {
	body    []byte // of the table map that it was found to fit, without its id
	encoded []byte // content of a recSchema
}

// record returns the content of the recSchema for a table map.
func (s *schemas) record(ctx context.Context, schema, table string, e event, maria bool) ([]byte, error) {
	name := tableName{schema, table}
	body := e.body()[6:]
	s.mu.Lock()
	r := s.known[name]
	s.mu.Unlock()
	if r != nil && bytes.Equal(r.body, body) {
		return r.encoded, nil
	}
	t, err := readTable(ctx, s.db, schema, table)
	if err != nil {
		return nil, mark(err)
	}
	if t == nil {
		return nil, fmt.Errorf("cdc: the log has rows of %s, which is not there any more, and does not name its columns: "+
			"leave the table out with the pattern \"!%s\", and set binlog_row_metadata=FULL on the source", name, name)
	}
	m, err := parseTableMap(e, maria)
	if err != nil {
		return nil, err
	}
	if err := m.fits(t); err != nil {
		return nil, err
	}
	r = &schemaRecord{bytes.Clone(body), appendTable(nil, t)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[tableName]*schemaRecord)
	}
	s.known[name] = r
	return r.encoded, nil
}

func (n tableName) String() string { return n.schema + "." + n.name }

// forget drops what is known of a table, or of all tables of a schema.
func (s *schemas) forget(schema, table string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range s.known {
		if strings.EqualFold(n.schema, schema) && (table == "" || strings.EqualFold(n.name, table)) {
			delete(s.known, n)
		}
	}
}

// forgetAll drops what is known of all tables: a statement may have altered any of
// them.
func (s *schemas) forgetAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

// readTable returns a table as information_schema shows it, or nil if it is not
// there.
func readTable(ctx context.Context, db *sql.DB, schema, table string) (*dfs.Table, error) {
	fail := func(err error) error {
		return fmt.Errorf("cdc: read the columns of %s.%s: %w", schema, table, err)
	}
	rows, err := db.QueryContext(ctx, `SELECT column_name, column_type, data_type, is_nullable,
		COALESCE(character_set_name, ''), COALESCE(collation_name, '')
		FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position`, schema, table)
	if err != nil {
		return nil, fail(err)
	}
	defer rows.Close()
	t := &dfs.Table{Schema: schema, Name: table}
	for rows.Next() {
		var c dfs.Column
		var full, short, nullable string
		if err := rows.Scan(&c.Name, &full, &short, &nullable, &c.Charset, &c.Collation); err != nil {
			return nil, fail(err)
		}
		c.Nullable = nullable == "YES"
		switch short = strings.ToLower(short); short {
		case "enum", "set":
			c.Type, c.Members = short, members(full)
			c.Charset, c.Collation = "", ""
		default:
			c.Type = plainType(full)
		}
		t.Columns = append(t.Columns, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fail(err)
	}
	rows.Close()
	if len(t.Columns) == 0 {
		return nil, nil
	}
	keys, err := db.QueryContext(ctx, `SELECT column_name FROM information_schema.statistics
		WHERE table_schema = ? AND table_name = ? AND index_name = 'PRIMARY' ORDER BY seq_in_index`, schema, table)
	if err != nil {
		return nil, fail(err)
	}
	defer keys.Close()
	for keys.Next() {
		var name string
		if err := keys.Scan(&name); err != nil {
			return nil, fail(err)
		}
		if i := t.Column(name); i >= 0 {
			t.Key = append(t.Key, i)
		}
	}
	if err := keys.Err(); err != nil {
		return nil, fail(err)
	}
	return t, nil
}

// plainType cuts attributes off a column type, and the display width off an
// integer: "int(10) unsigned zerofill" is "int unsigned".
func plainType(s string) string {
	// MariaDB puts comments such as /* mariadb-5.3 */ behind old temporal types.
	if i := strings.Index(s, " /*"); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimSpace(strings.ReplaceAll(s, " zerofill", ""))
	name, rest, ok := strings.Cut(s, "(")
	switch name {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "year":
		if _, after, _ := strings.Cut(rest, ")"); ok {
			return name + after
		}
	}
	return s
}

// members reads the names in "enum('a','it”s')".
func members(s string) []string {
	var list []string
	_, s, _ = strings.Cut(s, "(")
	for strings.HasPrefix(s, "'") {
		var name strings.Builder
		i := 1
		for ; i < len(s); i++ {
			if s[i] == '\'' {
				if i+1 >= len(s) || s[i+1] != '\'' {
					break
				}
				i++
			}
			name.WriteByte(s[i])
		}
		list = append(list, name.String())
		if i+1 >= len(s) || s[i+1] != ',' {
			break
		}
		s = s[i+2:]
	}
	return list
}
