package dfs

import (
	"fmt"
	"testing"
)

// BenchmarkDepends tells what it costs a row to be compared with the letters that
// wait. Without letters it costs nothing.
func BenchmarkDepends(b *testing.B) {
	for _, letters := range []int{1, 1000} {
		b.Run(fmt.Sprint(letters, " letters"), func(b *testing.B) {
			box := &letterBox{keys: newKeyer(shopKeys), index: newLetterIndex()}
			for i := range letters {
				l := &parked{Letter: &Letter{Number: uint64(i + 1), State: LetterParked, Tables: []string{"shop.people"}}}
				box.note(l, []Change{{Op: Insert, Table: peopleTable, After: person(int64(i), fmt.Sprint("letter", i))}})
				box.enter(l)
			}
			const rows = 100
			var tx []Change
			for i := range int64(rows) {
				tx = append(tx, Change{Op: Update, Table: peopleTable, Before: person(1e6+i, fmt.Sprint("a", i)), After: person(1e6+i, fmt.Sprint("b", i))})
			}
			b.ReportAllocs()
			for b.Loop() {
				if n := box.after(box.keys.touched(tx), tx); len(n) > 0 {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
