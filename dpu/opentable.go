package dpu

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// OpenTableLookup makes a TableLookup in a table of a MySQL or MariaDB server,
// "schema.table", and asks the server for the types of the columns find. All that
// is missing is told at once, also a unique key of the columns key. The database
// stays the caller's.
func OpenTableLookup(ctx context.Context, db *sql.DB, table string, key, find []string) (*TableLookup, error) {
	schema, name, ok := strings.Cut(table, ".")
	if !ok || schema == "" || name == "" {
		return nil, fmt.Errorf("the lookup's table %q names no table; write it as \"schema.table\"", table)
	}
	rows, err := db.QueryContext(ctx, "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, IS_NULLABLE='YES' FROM information_schema.COLUMNS "+
		"WHERE TABLE_SCHEMA=? AND TABLE_NAME=? ORDER BY ORDINAL_POSITION", schema, name)
	if err != nil {
		return nil, fmt.Errorf("asking for the columns of %s: %w", table, err)
	}
	defer rows.Close()
	var cols []dfs.Column
	for rows.Next() {
		var c dfs.Column
		var base string
		if err := rows.Scan(&c.Name, &c.Type, &base, &c.Nullable); err != nil {
			return nil, fmt.Errorf("asking for the columns of %s: %w", table, err)
		}
		if base == "enum" || base == "set" {
			c.Type = "varchar(255)" // what comes are names
		}
		if convert.KindOf(&c) == dfs.String {
			c.Charset = "utf8mb4" // as the connection has it
		}
		cols = append(cols, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("asking for the columns of %s: %w", table, err)
	}
	if len(cols) == 0 {
		return nil, fmt.Errorf("there is no table %s, or the account may not see it: GRANT SELECT ON it", table)
	}
	l := &TableLookup{DB: db, Table: table, Key: key}
	errs := lookupColumns(table, cols, key, find, &l.Find)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	unique, err := uniqueKey(ctx, db, schema, name, key)
	if err != nil {
		return nil, fmt.Errorf("asking for the keys of %s: %w", table, err)
	}
	if !unique {
		return nil, fmt.Errorf("no unique key of %s consists of the columns %s, or of some of them, so several rows might be found for one; "+
			"give it one, or use other columns", table, strings.Join(key, ", "))
	}
	return l, nil
}

// lookupColumns checks the names, and fills found with the columns find.
func lookupColumns(table string, cols []dfs.Column, key, find []string, found *[]dfs.Column) (errs []error) {
	b := &builder{}
	if len(key) == 0 {
		errs = append(errs, fmt.Errorf("the lookup in %s has no key; list the columns that the unit's are compared with", table))
	}
	if len(find) == 0 {
		errs = append(errs, fmt.Errorf("the lookup in %s finds nothing; list the columns to add", table))
	}
	for _, name := range slices.Concat(key, find) {
		if indexOf(cols, name) < 0 {
			errs = append(errs, fmt.Errorf("%s has no column %s%s", table, name, b.meant(name, cols)))
		}
	}
	if len(errs) > 0 {
		return errs
	}
	for _, name := range find {
		c := cols[indexOf(cols, name)]
		if convert.KindOf(&c) == dfs.Null {
			errs = append(errs, fmt.Errorf("the column %s of %s has the type %s, which a lookup does not read", name, table, c.Type))
		}
		*found = append(*found, c)
	}
	return errs
}

// uniqueKey reports whether the table has a unique key whose columns are all of
// the list.
func uniqueKey(ctx context.Context, db *sql.DB, schema, name string, columns []string) (bool, error) {
	rows, err := db.QueryContext(ctx, "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART IS NULL FROM information_schema.STATISTICS "+
		"WHERE NON_UNIQUE=0 AND TABLE_SCHEMA=? AND TABLE_NAME=?", schema, name)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	fits := make(map[string]bool)
	for rows.Next() {
		var index string
		var column sql.NullString // NULL for an expression
		var whole bool
		if err := rows.Scan(&index, &column, &whole); err != nil {
			return false, err
		}
		ok := column.Valid && whole && containsFold(columns, column.String)
		if was, seen := fits[index]; seen {
			ok = ok && was
		}
		fits[index] = ok
	}
	for _, ok := range fits {
		if ok {
			return true, rows.Err()
		}
	}
	return false, rows.Err()
}

// A FileLookup is a Lookup in a file of comma-separated values, which is held in
// memory.
type FileLookup struct {
	columns []dfs.Column
	rows    map[string]dfs.Row
	keys    int
}

var _ Lookup = (*FileLookup)(nil)

// maxFile is how large a file for a FileLookup may be.
const maxFile = 64 << 20

// OpenFileLookup reads a file, in UTF-8, whose first line names its columns. Key
// lists those that Join.On is compared with, as text; find those to add, with
// their types, of which text may be empty and an empty value of another is NULL.
// The file has at most 64 MiB, is read once, and two lines of one key are an error.
func OpenFileLookup(path string, key []string, find []dfs.Column) (*FileLookup, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a file for a lookup: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes, and a file for a lookup at most %d: put it into a table of a database", path, info.Size(), maxFile)
	}
	l := &FileLookup{rows: make(map[string]dfs.Row), keys: len(key)}
	r := csv.NewReader(io.LimitReader(f, maxFile))
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("reading the first line of %s, which names its columns: %w", path, err)
	}
	var cols []dfs.Column
	for _, name := range head {
		cols = append(cols, dfs.Column{Name: strings.TrimSpace(strings.TrimPrefix(name, "\ufeff")), Type: "longtext", Charset: "utf8mb4"})
	}
	var names []string
	var errs []error
	for _, c := range find {
		names = append(names, c.Name)
		if c.Type == "" {
			c.Type = "varchar(255)"
		}
		made := columnOf(c.Name, c.Type)
		if _, err := convert.Parse(c.Type); err != nil {
			errs = append(errs, err)
		}
		made.Nullable = convert.KindOf(&made) != dfs.String
		l.columns = append(l.columns, made)
	}
	var found []dfs.Column
	if errs = append(errs, lookupColumns(path, cols, key, names, &found)...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	at := func(list []string) (places []int) {
		for _, name := range list {
			places = append(places, indexOf(cols, name))
		}
		return places
	}
	return l, l.read(r, path, at(key), at(names))
}

func (l *FileLookup) read(r *csv.Reader, path string, key, find []int) error {
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		line, _ := r.FieldPos(0)
		var name []byte
		for _, i := range key {
			name = append(append(name, record[i]...), 0)
		}
		if _, ok := l.rows[string(name)]; ok {
			return fmt.Errorf("%s, line %d: a line before it has the same key", path, line)
		}
		row := make(dfs.Row, len(find))
		for k, i := range find {
			c := &l.columns[k]
			if record[i] == "" && c.Nullable {
				continue
			}
			if row[k], err = parseText(strings.Clone(record[i]), c); err != nil {
				return fmt.Errorf("%s, line %d, column %s: %w", path, line, c.Name, err)
			}
		}
		l.rows[string(name)] = row
	}
}

// Columns returns the columns that the file adds.
func (l *FileLookup) Columns() []dfs.Column { return l.columns }

// Rows finds rows by the text of their keys.
func (l *FileLookup) Rows(_ context.Context, keys []dfs.Row) ([]dfs.Row, error) {
	found := make([]dfs.Row, len(keys))
	var name []byte
	for n, key := range keys {
		if len(key) != l.keys {
			return nil, fmt.Errorf("a key has %d values, and the file's has %d", len(key), l.keys)
		}
		name = name[:0]
		for _, v := range key {
			name = append(v.Append(name), 0)
		}
		found[n] = l.rows[string(name)]
	}
	return found, nil
}
