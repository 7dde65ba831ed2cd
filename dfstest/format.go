package dfstest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// Format writes transactions as text, a line for each change:
//
//	insert crm.people id=1, email="ann@x"
//	update crm.people id=1, email="ann@x" -> id=1, email=NULL
//	commit
//
// Before a change that is a Part stands "part", before one with NoForeignKeys
// "nofk". A transaction that goes on in the next one ends with "more".
func Format(txs ...*dfs.Transaction) string {
	var b strings.Builder
	for _, tx := range txs {
		for i := range tx.Changes {
			b.WriteString(FormatChange(&tx.Changes[i]))
			b.WriteByte('\n')
		}
		end := "commit"
		if tx.More {
			end = "more"
		}
		fmt.Fprintln(&b, strings.TrimSpace(end+" "+tx.ID))
	}
	return b.String()
}

// FormatChange writes one change as Format does.
func FormatChange(c *dfs.Change) string {
	var b []byte
	if c.Part {
		b = append(b, "part "...)
	}
	if c.NoForeignKeys {
		b = append(b, "nofk "...)
	}
	b = fmt.Appendf(b, "%s %s ", c.Op, c.Table)
	if c.Op == dfs.DDL {
		return string(b) + c.Query
	}
	if c.Before != nil {
		b = appendRow(b, c.Table, c.Before)
	}
	if c.Before != nil && c.After != nil {
		b = append(b, " -> "...)
	}
	if c.After != nil {
		b = appendRow(b, c.Table, c.After)
	}
	return string(b)
}

// FormatRow writes a row as Format does: id=1, email="ann@x".
func FormatRow(t *dfs.Table, row dfs.Row) string { return string(appendRow(nil, t, row)) }

func appendRow(b []byte, t *dfs.Table, row dfs.Row) []byte {
	for i, v := range row {
		if i > 0 {
			b = append(b, ", "...)
		}
		var c dfs.Column
		if i < len(t.Columns) {
			c = t.Columns[i]
		}
		b = append(append(b, c.Name...), '=')
		switch v.Kind() {
		case dfs.String, dfs.JSON:
			b = strconv.AppendQuote(b, v.Text())
		case dfs.Bytes:
			b = fmt.Appendf(b, "0x%x", v.Text())
		case dfs.Date, dfs.Time, dfs.DateTime, dfs.Timestamp:
			b = append(v.Append(append(b, '"')), '"')
		case dfs.Uint64:
			if len(c.Members) > 0 {
				b = strconv.AppendQuote(b, convert.Member(v.Uint(), c.Members, strings.HasPrefix(c.Type, "set")))
				continue
			}
			b = v.Append(b)
		default:
			b = v.Append(b)
		}
	}
	return b
}
