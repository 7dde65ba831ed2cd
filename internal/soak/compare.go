//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// compareTables compares every row of every table, as bytes, and returns how
// many rows the source has.
func compareTables(ctx context.Context, schema string, src, dst *sql.DB, found *findings) (rows int, err error) {
	for _, t := range tables {
		want, n, err := readRows(ctx, src, schema+"."+t)
		if err != nil {
			return rows, fmt.Errorf("read %s of the source: %w", t, err)
		}
		have, _, err := readRows(ctx, dst, schema+"."+t)
		if err != nil {
			return rows, fmt.Errorf("read %s of the target: %w", t, err)
		}
		rows += n
		for _, row := range slices.Sorted(maps.Keys(want)) {
			if have[row] != want[row] {
				found.add(byEquality, "%s: the source has %d, and the target %d, of %.300s", t, want[row], have[row], row)
			}
		}
		for _, row := range slices.Sorted(maps.Keys(have)) {
			if want[row] == 0 {
				found.add(byEquality, "%s: only the target has %.300s", t, row)
			}
		}
	}
	return rows, nil
}

// readRows returns how often the table has each row, and how many rows it has.
// Order does not matter, for a table may have no key. Columns are compared as
// the bytes of their text; both sessions are in UTC and utf8mb4.
func readRows(ctx context.Context, db *sql.DB, table string) (map[string]int, int, error) {
	rows, err := db.QueryContext(ctx, "SELECT * FROM "+table)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, 0, err
	}
	cells := make([]sql.RawBytes, len(names))
	into := make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	all, n := make(map[string]int), 0
	var b strings.Builder
	for ; rows.Next(); n++ {
		if err := rows.Scan(into...); err != nil {
			return nil, 0, err
		}
		b.Reset()
		for i, cell := range cells {
			if cell == nil {
				fmt.Fprintf(&b, "%s=NULL ", names[i])
			} else {
				fmt.Fprintf(&b, "%s=%q ", names[i], []byte(cell))
			}
		}
		all[b.String()]++
	}
	return all, n, rows.Err()
}
