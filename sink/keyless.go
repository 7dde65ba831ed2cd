package sink

import (
	"strings"

	"github.com/dataflowsync/dfs"
)

// appendWholeRow appends a comparison of every column with the row, for a table
// in which nothing else tells rows apart. With its LIMIT 1 it finds one of the
// rows that are equal in everything, and it does not matter which.
func (m *mapping) appendWholeRow(b []byte, row dfs.Row, raw bool) []byte {
	first := true
	for i := range m.columns {
		c := &m.columns[i]
		if c.to < 0 || row[i].Kind() == dfs.Absent {
			continue
		}
		if !first {
			b = append(b, " AND "...)
		}
		first = false
		if raw {
			var done bool
			if b, done = c.appendRaw(b, row[i]); done {
				continue
			}
		}
		b = c.appendEqual(b, &m.to.columns[c.to], row[i])
	}
	if first {
		b = append(b, "TRUE"...)
	}
	return append(m.appendOrder(b, row), " LIMIT 1"...)
}

// appendOrder appends an order in which the rows come first whose documents have
// the very text of those in row. To the server, 1 and 1.0 in them are equal.
func (m *mapping) appendOrder(b []byte, row dfs.Row) []byte {
	sep := " ORDER BY "
	for i := range m.columns {
		c := &m.columns[i]
		if c.to < 0 || !c.isJSON || row[i].Kind() != dfs.JSON {
			continue
		}
		b = appendIdent(append(append(b, sep...), "BINARY("...), c.name)
		b = appendQuoted(append(b, ")=_binary"...), row[i].Text())
		b = append(b, " DESC"...)
		sep = ","
	}
	return b
}

// appendEqual appends a comparison that holds for no value but v.
func (c *column) appendEqual(b []byte, tc *targetColumn, v dfs.Value) []byte {
	switch {
	case v.IsNull():
		return append(appendIdent(b, c.name), " IS NULL"...)
	case v.Kind() == dfs.String && tc.charset != "":
		// The first comparison can use an index; the second tells apart what
		// the collation does not, such as case and trailing spaces.
		b = c.appendKey(append(appendIdent(b, c.name), '='), v)
		b = append(appendIdent(append(b, " AND CAST("...), c.name), " AS BINARY)=CAST(CONVERT("...)
		b = append(c.appendKey(b, v), " USING "...)
		return append(append(b, tc.charset...), ") AS BINARY)"...)
	case c.isJSON && c.notes(v) != nil:
		return c.appendValue(append(appendIdent(b, c.name), '='), v)
	case c.isJSON:
		b = append(appendIdent(b, c.name), "=CAST("...)
		return append(c.appendValue(b, v), " AS JSON)"...)
	case isSpatial(tc.typ) || strings.HasPrefix(tc.typ, "vector"):
		// These have no = of their own, or one that means something else.
		b = append(appendIdent(append(b, "HEX("...), c.name), ")=HEX("...)
		return append(c.appendValue(b, v), ')')
	}
	return c.appendKey(append(appendIdent(b, c.name), '='), v)
}
