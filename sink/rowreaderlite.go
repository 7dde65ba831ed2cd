package sink

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
)

// liteKeys is how many arguments a statement has that finds rows by their keys.
// SQLite takes 32766.
const liteKeys = 1000

func (r *RowReader) findLite(ctx context.Context, to *dfs.Table, h *heldTable, keys []dfs.Row, each func(dfs.Row) error) error {
	n := len(to.Key)
	var on []string
	for k, j := range to.Key {
		on = append(on, "t."+quoteName(to.Columns[j].Name)+"=v.column"+strconv.Itoa(k+1))
	}
	one := "(" + strings.TrimSuffix(strings.Repeat("?,", n), ",") + ")"
	for len(keys) > 0 {
		some := keys[:min(len(keys), max(liteKeys/n, 1))]
		keys = keys[len(some):]
		args := make([]any, 0, n*len(some))
		for _, key := range some {
			for _, v := range key {
				args = append(args, r.arg(v))
			}
		}
		// CROSS JOIN keeps SQLite from reading all of the table for each key.
		text := "SELECT " + h.columns + " FROM (VALUES " + strings.TrimSuffix(strings.Repeat(one+",", len(some)), ",") +
			") v CROSS JOIN " + r.lite.ident(h.t) + " t ON " + strings.Join(on, " AND ")
		if err := r.rows(ctx, to, h, false, text, args, each); err != nil {
			return err
		}
	}
	return nil
}

func (r *RowReader) rowsLite(ctx context.Context, n int, text string, args []any, take func(func(int) any) error) error {
	rows, err := r.lite.conn.QueryContext(ctx, text, args...)
	if err != nil {
		return liteClassify(err)
	}
	defer rows.Close()
	values, into := make([]any, n), make([]any, n)
	for j := range values {
		into[j] = &values[j]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return liteClassify(err)
		}
		if err := take(func(j int) any { return values[j] }); err != nil {
			return err
		}
	}
	return liteClassify(rows.Err())
}

// liteStored returns what makes the form of a value, as it is bound or as it is stored:
// what the column's affinity makes of it (datatype3.html, 3).
func liteStored(tc *targetColumn, mark *formMark) func(v any) dfs.Value {
	numeric := tc.base == "INTEGER" || tc.base == "NUMERIC" || tc.base == "REAL" || tc.base == "ROWID"
	number := func(f float64) dfs.Value {
		if *mark&markDecimal != 0 {
			// SQLite reads decimals with an error in the last of a double's digits.
			f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', 15, 64), 64)
		}
		// It keeps a REAL that is whole as an integer, and has no -0.
		if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
			return dfs.IntValue(int64(f))
		}
		return dfs.FloatValue(f)
	}
	return func(v any) dfs.Value {
		switch v := v.(type) {
		case int64:
			switch tc.base {
			case "TEXT":
				return dfs.StringValue(strconv.FormatInt(v, 10))
			case "REAL":
				return number(float64(v))
			}
			if *mark&markDecimal != 0 {
				return number(float64(v))
			}
			return dfs.IntValue(v)
		case float64:
			return number(v)
		case []byte:
			return dfs.BytesValue(v)
		case string:
			if numeric && v != "" && strings.Trim(v, "+-.0123456789eE") == "" {
				if f, err := strconv.ParseFloat(v, 64); err == nil {
					return number(f)
				}
			}
			if *mark&markJSON != 0 {
				return dfs.StringValue(jsonForm(v, true))
			}
			return dfs.StringValue(v)
		}
		return dfs.NullValue()
	}
}
