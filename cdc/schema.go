package cdc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/coltype"
)

// An asked is what a server tells of a table.
//
// That is how the table is now, and the log may be older: see ahead. When it was
// created or altered is CREATE_TIME in information_schema.tables, which each ALTER
// TABLE sets anew, OPTIMIZE too and TRUNCATE not. That proves little, as seen on
// MySQL 5.6 and 9.7 and MariaDB 10.11:
//   - It has whole seconds.
//   - In MySQL 8.0 and later it is when the ALTER began, and RENAME TABLE keeps it.
//   - Before MySQL 8.0, and in MariaDB, a MyISAM table keeps it when no more
//     than names change, and a partitioned table of 5.6 has none.
//
// So it only serves to notice what is not in the log.
type asked struct {
	table     *dfs.Table // nil if it is not there
	collation string     // of columns that name none
	created   int64      // when it was created or altered, in seconds since 1970; 0 if not known
	asked     int64      // the latest time at which a statement can have begun that this shows
}

// askTable returns a table as it is now, and since when.
func askTable(ctx context.Context, db *sql.DB, schema, table string) (a asked, err error) {
	for {
		if err := a.readAge(ctx, db, schema, table); err != nil {
			return a, err
		}
		before := a.created
		if a.table, err = readTable(ctx, db, schema, table); err != nil {
			return a, err
		}
		if err := a.readAge(ctx, db, schema, table); err != nil {
			return a, err
		}
		if a.created == before {
			return a, nil
		}
		// It was altered between the questions.
	}
}

// readAge reads when a table was created or altered. The session's time zone is
// UTC: see Open.
func (a *asked) readAge(ctx context.Context, db *sql.DB, schema, table string) error {
	var created sql.NullInt64
	var collation sql.NullString
	err := db.QueryRowContext(ctx, `SELECT TIMESTAMPDIFF(SECOND, '1970-01-01', create_time), UNIX_TIMESTAMP(), table_collation
		FROM information_schema.tables WHERE table_schema = ? AND table_name = ?`, schema, table).Scan(&created, &a.asked, &collation)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("cdc: read the age of %s.%s: %w", schema, table, err)
	}
	if a.created, a.collation = created.Int64, collation.String; a.created > 0 {
		a.asked = a.created
	}
	return nil
}

// A tableName is the name of a table as the server has it, or with an empty name
// a schema.
type tableName struct{ schema, name string }

func (n tableName) String() string { return n.schema + "." + n.name }

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
		setType(&c, full, short, nullable)
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

// setType sets the type of a column as information_schema.columns has it.
func setType(c *dfs.Column, full, short, nullable string) {
	c.Nullable = nullable == "YES"
	switch short = strings.ToLower(short); short {
	case "enum", "set":
		c.Type, c.Members = short, coltype.Members(full)
		c.Charset, c.Collation = "", ""
	default:
		c.Type = plainType(full)
	}
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
