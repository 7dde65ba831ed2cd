package cdc

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/coltype"
)

// A schemas asks the server for what its table maps leave out, and remembers
// the answers until a statement alters the table. It is safe for concurrent use.
//
// The answer tells how the table is now, and the log may be older. A table that
// has other columns now than its map says is refused, and so is one that was
// created or altered after the rows were logged: columns may have had other
// names. That is told by CREATE_TIME in information_schema.tables, which each
// ALTER TABLE sets anew, OPTIMIZE too and TRUNCATE not. Its limits, as seen on
// MySQL 5.6 and 9.7 and MariaDB 10.11:
//   - It has whole seconds. Rows of the second in which the table was altered
//     pass, on whichever side they are.
//   - In MySQL 8.0 and later it is when the ALTER began. Rows that others wrote
//     while it ran or waited for its lock pass.
//   - Before MySQL 8.0, and in MariaDB, a MyISAM table keeps it when no more
//     than names change, and a partitioned table of 5.6 has none.
//   - An ALTER of a session with sql_log_bin=0 is not seen before the next time
//     that the server is asked.
//
// Only binlog_row_metadata=FULL, from MySQL 8.0.1 and MariaDB 10.5, leaves
// nothing to guess.
type schemas struct {
	db *sql.DB

	mu    sync.Mutex
	known map[tableName]*schemaRecord
}

// A schemaRecord is what is known of one table.
type schemaRecord struct {
	body    []byte // of the table map that it was found to fit, without its id
	encoded []byte // content of a recSchema
	created int64  // when it was created or altered, in seconds since 1970; 0 if not known
}

// record returns what is known of the table of a table map.
func (s *schemas) record(ctx context.Context, schema, table string, e event, maria bool) (*schemaRecord, error) {
	name := tableName{schema, table}
	body := e.body()[6:]
	s.mu.Lock()
	r := s.known[name]
	s.mu.Unlock()
	if r != nil && bytes.Equal(r.body, body) {
		return r, nil
	}
	created, t, err := s.ask(ctx, schema, table)
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
	r = &schemaRecord{bytes.Clone(body), appendTable(nil, t), created}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = make(map[tableName]*schemaRecord)
	}
	s.known[name] = r
	return r, nil
}

// ask returns a table as it is now, and since when.
func (s *schemas) ask(ctx context.Context, schema, table string) (created int64, t *dfs.Table, err error) {
	for {
		before, err := createTime(ctx, s.db, schema, table)
		if err != nil {
			return 0, nil, err
		}
		if t, err = readTable(ctx, s.db, schema, table); err != nil {
			return 0, nil, err
		}
		if created, err = createTime(ctx, s.db, schema, table); err != nil {
			return 0, nil, err
		}
		if created == before {
			return created, t, nil
		}
		// It was altered between the questions.
	}
}

// createTime returns when a table was created or altered, in seconds since 1970,
// and 0 if the server does not know. The session's time zone is UTC: see Open.
func createTime(ctx context.Context, db *sql.DB, schema, table string) (int64, error) {
	var t sql.NullInt64
	err := db.QueryRowContext(ctx, `SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', create_time)
		FROM information_schema.tables WHERE table_schema = ? AND table_name = ?`, schema, table).Scan(&t)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("cdc: read the age of %s.%s: %w", schema, table, err)
	}
	return t.Int64, nil
}

// A tableName is the name of a table as the server has it, or with an empty name
// a schema.
type tableName struct{ schema, name string }

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
			c.Type, c.Members = short, coltype.Members(full)
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
