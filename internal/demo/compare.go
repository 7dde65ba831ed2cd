//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"hash"
)

// A comparison is the outcome for one table.
type comparison struct {
	table     string
	rows      int    // on the source
	different int    // rows that are on one side only, or not the same
	example   string // one of them
	digest    string // of the source's rows
}

// compare reads the table on both servers in the order of its key, and compares
// every column of every row, byte by byte, as the server sends it.
func compare(ctx context.Context, source, target *sql.DB, table string) (comparison, error) {
	c := comparison{table: table}
	sum := sha256.New()
	a, err := openRows(ctx, source, table)
	if err != nil {
		return c, fmt.Errorf("read %s from the source: %w", table, err)
	}
	defer a.Close()
	b, err := openRows(ctx, target, table)
	if err != nil {
		return c, fmt.Errorf("read %s from the target: %w", table, err)
	}
	defer b.Close()
	differ := func(what string, row []sql.RawBytes) {
		if c.different++; c.example == "" {
			c.example = fmt.Sprintf("%s: %s", what, row)
		}
	}
	for {
		// With a row on one side only all rows after it differ as well. That is
		// plain enough for a verdict.
		left, right := a.next(), b.next()
		switch {
		case left == nil && right == nil:
			c.digest = fmt.Sprintf("%x", sum.Sum(nil)[:6])
			if err := a.Err(); err != nil {
				return c, fmt.Errorf("read %s from the source: %w", table, err)
			}
			if err := b.Err(); err != nil {
				return c, fmt.Errorf("read %s from the target: %w", table, err)
			}
			return c, nil
		case right == nil:
			differ("only on the source", left)
		case left == nil:
			differ("only on the target", right)
		case !equal(left, right):
			differ(fmt.Sprintf("target has %s, source", right), left)
		}
		if left != nil {
			c.rows++
			digest(sum, left)
		}
	}
}

type rows struct {
	*sql.Rows
	row  []sql.RawBytes
	dest []any
}

func openRows(ctx context.Context, db *sql.DB, table string) (*rows, error) {
	r, err := db.QueryContext(ctx, "SELECT * FROM shop."+table+" ORDER BY "+keyOf(table))
	if err != nil {
		return nil, err
	}
	columns, err := r.Columns()
	if err != nil {
		r.Close()
		return nil, err
	}
	out := &rows{Rows: r, row: make([]sql.RawBytes, len(columns))}
	for i := range out.row {
		out.dest = append(out.dest, &out.row[i])
	}
	return out, nil
}

// next returns the next row, or nil at the end or on an error, which Err tells.
func (r *rows) next() []sql.RawBytes {
	if !r.Next() || r.Scan(r.dest...) != nil {
		return nil
	}
	return r.row
}

func equal(a, b []sql.RawBytes) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) || !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func digest(sum hash.Hash, row []sql.RawBytes) {
	for _, v := range row {
		if v == nil {
			sum.Write([]byte{0xff})
			continue
		}
		fmt.Fprintf(sum, "%d:", len(v))
		sum.Write(v)
	}
}
