package dpu

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A TableLookup is a Lookup in a table of a database, by one query for all keys
// of a batch. It sees what is committed there when it asks.
type TableLookup struct {
	// DB is the database. Its connections should use utf8mb4 and UTC.
	DB *sql.DB

	// Table is where to look: "geo.cities".
	Table string

	// Key lists the columns that Join.On is compared with, in the same order. They
	// must be unique together: two rows of one key are an error.
	Key []string

	// Find lists the columns to add, with their types. Text must be in utf8mb4.
	Find []dfs.Column
}

var _ Lookup = (*TableLookup)(nil)

// Columns returns Find.
func (l *TableLookup) Columns() []dfs.Column { return l.Find }

// Rows asks the database. Errors of the connection are marked as transient.
func (l *TableLookup) Rows(ctx context.Context, keys []dfs.Row) ([]dfs.Row, error) {
	found, err := l.query(ctx, keys)
	var network net.Error
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		err = dfs.Transient(err)
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", l.Table, err)
	}
	return found, nil
}

func (l *TableLookup) query(ctx context.Context, keys []dfs.Row) ([]dfs.Row, error) {
	// Each key is selected with its number, so that the database alone decides
	// which values are equal.
	var b strings.Builder
	var args []any
	b.WriteString("SELECT k.n")
	for _, c := range l.Find {
		b.WriteString(", t." + quoteName(c.Name))
	}
	b.WriteString(" FROM (")
	for n, key := range keys {
		if len(key) != len(l.Key) {
			return nil, fmt.Errorf("a key has %d values, and Key lists %d columns", len(key), len(l.Key))
		}
		if n == 0 {
			b.WriteString("SELECT 0 AS n")
			for i := range key {
				fmt.Fprintf(&b, ", ? AS k%d", i)
			}
		} else {
			fmt.Fprintf(&b, " UNION ALL SELECT %d", n)
			b.WriteString(strings.Repeat(", ?", len(key)))
		}
		for _, v := range key {
			args = append(args, argument(v))
		}
	}
	schema, name, _ := strings.Cut(l.Table, ".")
	table := quoteName(schema)
	if name != "" {
		table += "." + quoteName(name)
	}
	b.WriteString(") k JOIN " + table + " t ON ")
	for i, c := range l.Key {
		if i > 0 {
			b.WriteString(" AND ")
		}
		fmt.Fprintf(&b, "t.%s = k.k%d", quoteName(c), i)
	}
	rows, err := l.DB.QueryContext(ctx, b.String(), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make([]dfs.Row, len(keys))
	n, texts := 0, make([]sql.NullString, len(l.Find))
	to := []any{&n}
	for i := range texts {
		to = append(to, &texts[i])
	}
	for rows.Next() {
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		if n < 0 || n >= len(found) || found[n] != nil {
			return nil, fmt.Errorf("more than one row has the key %s", describe(keys[n], allOf(keys[n])))
		}
		row := make(dfs.Row, len(l.Find))
		for i, text := range texts {
			if !text.Valid {
				continue
			}
			if row[i], err = parseText(text.String, &l.Find[i]); err != nil {
				return nil, fmt.Errorf("column %s: %w", l.Find[i].Name, err)
			}
		}
		found[n] = row
	}
	return found, rows.Err()
}

func allOf(row dfs.Row) []int {
	list := make([]int, len(row))
	for i := range list {
		list[i] = i
	}
	return list
}

// parseText makes a value of its text, as drivers give it.
func parseText(text string, c *dfs.Column) (dfs.Value, error) {
	switch convert.KindOf(c) {
	case dfs.Bytes:
		return dfs.BytesValue([]byte(text)), nil
	case dfs.JSON:
		return dfs.JSONValue(text), nil
	}
	return convert.To(dfs.StringValue(text), c)
}

// argument returns a value as drivers take it.
func argument(v dfs.Value) any {
	switch v.Kind() {
	case dfs.Null, dfs.Absent:
		return nil
	case dfs.Int64:
		return v.Int()
	case dfs.Uint64:
		if v.Int() < 0 {
			return v.String() // not all drivers take the high bit
		}
		return v.Int()
	case dfs.Float32, dfs.Float64:
		return v.Float()
	case dfs.Bytes:
		return []byte(v.Text())
	}
	return v.String()
}
