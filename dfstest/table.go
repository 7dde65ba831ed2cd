package dfstest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// Table makes a table of its definition:
//
//	shop.users (id bigint, name varchar(40), mail varchar(60) null, size enum('s','m'), key id)
//
// A column may be NULL only if it says so. Text is in utf8mb4, unless "charset
// latin1" follows the type. The key may have several columns, "key (a, b)", and
// may be left out. A definition with a mistake ends the test.
func Table(tb testing.TB, definition string) *dfs.Table {
	tb.Helper()
	t, err := parseTable(definition)
	if err != nil {
		tb.Fatalf("table %q: %v", definition, err)
	}
	return t
}

func parseTable(text string) (*dfs.Table, error) {
	name, list, ok := strings.Cut(text, "(")
	list, closed := strings.CutSuffix(strings.TrimSpace(list), ")")
	schema, table, dot := strings.Cut(strings.TrimSpace(name), ".")
	if !ok || !closed || !dot {
		return nil, fmt.Errorf("write it as schema.name (column type, ..., key column)")
	}
	t := &dfs.Table{Schema: schema, Name: table}
	for _, item := range splitTop(list) {
		name, rest, _ := strings.Cut(item, " ")
		rest = strings.TrimSpace(rest)
		if strings.EqualFold(name, "key") || strings.HasPrefix(strings.ToLower(name), "key(") {
			for _, k := range strings.Split(strings.Trim(strings.TrimSpace(item[3:]), "()"), ",") {
				i := t.Column(strings.TrimSpace(k))
				if i < 0 {
					return nil, fmt.Errorf("the key has the column %q, which is not there", k)
				}
				t.Key = append(t.Key, i)
			}
			continue
		}
		c, err := parseColumn(name, rest)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", name, err)
		}
		t.Columns = append(t.Columns, c)
	}
	if len(t.Columns) == 0 {
		return nil, fmt.Errorf("it has no columns")
	}
	return t, nil
}

func parseColumn(name, typ string) (dfs.Column, error) {
	c := dfs.Column{Name: name}
	typ, c.Nullable = strings.CutSuffix(typ, " null")
	typ, charset, _ := strings.Cut(typ, " charset ")
	c.Type, c.Charset = strings.TrimSpace(typ), strings.TrimSpace(charset)
	for _, kind := range []string{"enum", "set"} {
		if list, ok := strings.CutPrefix(c.Type, kind+"("); ok {
			c.Type = kind
			for _, m := range splitTop(strings.TrimSuffix(list, ")")) {
				c.Members = append(c.Members, strings.Trim(m, "'"))
			}
		}
	}
	_, err := convert.Parse(convert.TypeText(&c))
	if (convert.KindOf(&c) == dfs.String || len(c.Members) > 0) && c.Charset == "" {
		c.Charset, c.Collation = "utf8mb4", "utf8mb4_0900_ai_ci"
	}
	return c, err
}

// splitTop splits at commas that are in no parentheses and no quotes.
func splitTop(s string) (list []string) {
	depth, quote, from := 0, byte(0), 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			list = append(list, strings.TrimSpace(s[from:i]))
			from = i + 1
		}
	}
	if rest := strings.TrimSpace(s[from:]); rest != "" || len(list) > 0 {
		list = append(list, rest)
	}
	return list
}

// Row makes a row of a table, with a value for each column: nil, a string, a
// number, a bool, []byte, time.Time, or a dfs.Value, which is taken as it is.
// Others become what the column's type says; "2026-11-22" is a date in a date's
// place. What does not fit ends the test.
func Row(tb testing.TB, t *dfs.Table, values ...any) dfs.Row {
	tb.Helper()
	if len(values) != len(t.Columns) {
		tb.Fatalf("%d values for the %d columns of %s", len(values), len(t.Columns), t)
	}
	row := make(dfs.Row, len(values))
	for i, x := range values {
		v, err := convert.Of(x)
		if _, as := x.(dfs.Value); err == nil && !as {
			v, err = convert.To(v, &t.Columns[i])
		}
		if err != nil {
			tb.Fatalf("column %s of %s: %v", t.Columns[i].Name, t, err)
		}
		row[i] = v
	}
	return row
}

// Insert makes the insert of a row: see Row.
func Insert(tb testing.TB, t *dfs.Table, values ...any) dfs.Change {
	tb.Helper()
	return dfs.Change{Op: dfs.Insert, Table: t, After: Row(tb, t, values...)}
}

// Delete makes the delete of a row: see Row.
func Delete(tb testing.TB, t *dfs.Table, values ...any) dfs.Change {
	tb.Helper()
	return dfs.Change{Op: dfs.Delete, Table: t, Before: Row(tb, t, values...)}
}

// Update makes the update of a row: see Row. The values are those before and then
// those after.
func Update(tb testing.TB, t *dfs.Table, values ...any) dfs.Change {
	tb.Helper()
	n := len(t.Columns)
	if len(values) != 2*n {
		tb.Fatalf("%d values for an update of the %d columns of %s: give those before, then those after", len(values), n, t)
	}
	return dfs.Change{Op: dfs.Update, Table: t, Before: Row(tb, t, values[:n]...), After: Row(tb, t, values[n:]...)}
}

// clone copies a transaction, so that a stage may rewrite it.
func clone(tx dfs.Transaction) *dfs.Transaction {
	tx.Changes = slices.Clone(tx.Changes)
	for i := range tx.Changes {
		c := &tx.Changes[i]
		c.Before, c.After = slices.Clone(c.Before), slices.Clone(c.After)
	}
	return &tx
}
