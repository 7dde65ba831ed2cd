// Package same tells whether two database servers hold the same rows, by the
// servers' own bytes: text and binary columns by HEX, ENUM and SET by number and
// name, floating point by all of its digits, JSON by its text, and all else as
// the server prints it. It knows nothing of how the rows came there.
package same

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// Options say what to compare.
type Options struct {
	// Schemas are the source's schemas.
	Schemas []string

	// To names the target's schema for one of the source's. Default: the same.
	To map[string]string

	// Ignore leaves tables out, by "schema.table" of the source.
	Ignore []string

	// Structure compares how tables are made too, as SHOW CREATE TABLE tells
	// it. That is of use between servers of one version only.
	Structure bool

	// Most limits the differences that are returned. Default: 10.
	Most int
}

// A Result is what a comparison found.
type Result struct {
	Tables, Rows int // of the source
	Differences  []Difference
}

// A Difference is one value, row, column or table that is not the same on both
// sides.
type Difference struct {
	Table          string // "schema.table" of the source
	Key            string // of the row, as expressions of its columns; empty for a whole table
	Column         string // empty for a whole row
	Source, Target string // values, as the expressions of this package print them
}

// String tells the difference in a line.
func (d Difference) String() string {
	at := d.Table
	if d.Key != "" {
		at += " row " + d.Key
	}
	if d.Column != "" {
		at += " column " + d.Column
	}
	return fmt.Sprintf("%s: source has %.300s, target has %.300s", at, d.Source, d.Target)
}

// absent stands for a row or table that one side lacks.
const absent = "nothing"

// Compare reads all rows of the schemas on both sides, one table at a time, and
// compares them whatever their order. The servers must be at rest.
func Compare(ctx context.Context, source, target *sql.DB, o Options) (Result, error) {
	o.Most = cmp.Or(o.Most, 10)
	c := comparison{ctx: ctx, o: o}
	var err error
	if c.source, err = open(ctx, source); err != nil {
		return c.r, fmt.Errorf("same: source: %w", err)
	}
	defer c.source.Close()
	if c.target, err = open(ctx, target); err != nil {
		return c.r, fmt.Errorf("same: target: %w", err)
	}
	defer c.target.Close()
	for _, schema := range o.Schemas {
		to := cmp.Or(o.To[schema], schema)
		if err := c.schema(schema, to); err != nil {
			return c.r, fmt.Errorf("same: schema %s: %w", schema, err)
		}
	}
	return c.r, nil
}

// open returns a connection whose settings do not bear on what it reads.
func open(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, stmt := range []string{"SET NAMES utf8mb4", "SET SESSION time_zone='+00:00', sql_mode=''"} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

type comparison struct {
	ctx            context.Context
	o              Options
	source, target *sql.Conn
	r              Result
}

func (c *comparison) differ(d Difference) {
	if len(c.r.Differences) < c.o.Most {
		c.r.Differences = append(c.r.Differences, d)
	}
}

func (c *comparison) schema(schema, to string) error {
	a, err := tables(c.ctx, c.source, schema)
	if err != nil {
		return err
	}
	b, err := tables(c.ctx, c.target, to)
	if err != nil {
		return err
	}
	for _, name := range union(a, b) {
		full := schema + "." + name
		switch {
		case slices.Contains(c.o.Ignore, full):
		case !slices.Contains(a, name):
			c.differ(Difference{Table: full, Source: absent, Target: "a table"})
		case !slices.Contains(b, name):
			c.differ(Difference{Table: full, Source: "a table", Target: absent})
		default:
			if err := c.table(full, ident(schema)+"."+ident(name), ident(to)+"."+ident(name)); err != nil {
				return fmt.Errorf("table %s: %w", name, err)
			}
		}
	}
	return nil
}

// tables returns the names of what has rows of its own.
func tables(ctx context.Context, conn *sql.Conn, schema string) ([]string, error) {
	rows, err := query(ctx, conn, "SELECT table_name FROM information_schema.tables WHERE table_schema="+quote(schema)+
		" AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY 1")
	var names []string
	for _, r := range rows {
		names = append(names, r[0].String)
	}
	return names, err
}

func (c *comparison) table(full, from, to string) error {
	c.r.Tables++
	a, err := describe(c.ctx, c.source, from)
	if err != nil {
		return err
	}
	b, err := describe(c.ctx, c.target, to)
	if err != nil {
		return err
	}
	if c.o.Structure && a.created != b.created {
		c.differ(Difference{Table: full, Column: "structure", Source: a.created, Target: b.created})
		return nil
	}
	if !slices.Equal(a.names(), b.names()) {
		c.differ(Difference{Table: full, Column: "columns", Source: strings.Join(a.names(), ","), Target: strings.Join(b.names(), ",")})
		return nil
	}
	left, err := query(c.ctx, c.source, a.selects(from))
	if err != nil {
		return err
	}
	right, err := query(c.ctx, c.target, b.selects(to))
	if err != nil {
		return err
	}
	c.r.Rows += len(left)
	// JSON is a type of MySQL, which writes its text anew. Elsewhere it is text.
	for i := range a.columns {
		if (a.columns[i].kind == "json") != (b.columns[i].kind == "json") {
			plainJSON(left, i, a.columns[i].kind != "json")
			plainJSON(right, i, b.columns[i].kind != "json")
		}
	}
	c.rows(full, a, left, right)
	return nil
}

// rows compares the rows of a table as a bag, and pairs those with equal keys to
// tell which column differs.
func (c *comparison) rows(full string, t *table, left, right [][]sql.NullString) {
	key := t.key
	if key == nil {
		for i := range t.columns {
			key = append(key, i)
		}
	}
	byKey := func(x, y []sql.NullString) int {
		for _, i := range key {
			if n := compareNull(x[i], y[i]); n != 0 {
				return n
			}
		}
		return slices.CompareFunc(x, y, compareNull)
	}
	sameKey := func(x, y []sql.NullString) bool {
		return !slices.ContainsFunc(key, func(i int) bool { return x[i] != y[i] })
	}
	slices.SortFunc(left, byKey)
	slices.SortFunc(right, byKey)
	for i, k := 0, 0; i < len(left) || k < len(right); {
		switch {
		case k == len(right) || i < len(left) && !sameKey(left[i], right[k]) && byKey(left[i], right[k]) < 0:
			c.differ(Difference{Table: full, Key: t.describe(left[i], key), Source: t.describe(left[i], nil), Target: absent})
			i++
		case i == len(left) || !sameKey(left[i], right[k]):
			c.differ(Difference{Table: full, Key: t.describe(right[k], key), Source: absent, Target: t.describe(right[k], nil)})
			k++
		default:
			for n := range t.columns {
				if left[i][n] != right[k][n] {
					c.differ(Difference{full, t.describe(left[i], key), t.columns[n].name, text(left[i][n]), text(right[k][n])})
				}
			}
			i, k = i+1, k+1
		}
	}
}

func compareNull(x, y sql.NullString) int {
	if x.Valid != y.Valid {
		if y.Valid {
			return -1
		}
		return 1
	}
	return cmp.Compare(x.String, y.String)
}

func text(v sql.NullString) string {
	if !v.Valid {
		return "NULL"
	}
	return "'" + v.String + "'"
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// query returns all rows.
func query(ctx context.Context, conn *sql.Conn, q string) ([][]sql.NullString, error) {
	rows, err := conn.QueryContext(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("%.300s: %w", q, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var all [][]sql.NullString
	to := make([]any, len(names))
	for rows.Next() {
		row := make([]sql.NullString, len(names))
		for i := range row {
			to[i] = &row[i]
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

func ident(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quote returns a literal in a session whose sql_mode is empty.
func quote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}
