//go:build linux

package main

import "os"

// A report is made of tables, which are as readable in a terminal as in
// Markdown.
func Example() {
	t := &table{
		title: "batch: transactions of 100 rows", note: "25,001 rows",
		head: []string{"", "rows/s", "x native"},
		rows: [][]string{{"DFS, end to end", "56,415", "1.98"}, {"MySQL's own replica", "28,558", "1"}},
	}
	t.text(os.Stdout)
	// Output:
	// batch: transactions of 100 rows
	// (25,001 rows)
	//                         rows/s   x native
	//   DFS, end to end       56,415       1.98
	//   MySQL's own replica   28,558          1
}
