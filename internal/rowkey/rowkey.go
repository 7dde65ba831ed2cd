// Package rowkey names rows in errors.
package rowkey

import (
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
)

// Describe names a row by its primary key, or by its first three columns: "id=7",
// `code="a b"`. It is empty for a row that is none of the table's.
func Describe(t *dfs.Table, row dfs.Row) string {
	if len(row) != len(t.Columns) {
		return ""
	}
	key := t.Key
	if key == nil {
		for i := range min(len(row), 3) {
			key = append(key, i)
		}
	}
	var parts []string
	for _, i := range key {
		text := row[i].String()
		if len(text) > 40 {
			text = text[:40] + "..."
		}
		if k := row[i].Kind(); k == dfs.String || k == dfs.Bytes {
			text = fmt.Sprintf("%q", text)
		}
		parts = append(parts, t.Columns[i].Name+"="+text)
	}
	return strings.Join(parts, ",")
}
