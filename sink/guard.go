package sink

import (
	"strconv"

	"github.com/dataflowsync/dfs"
)

// A small run goes to the server in one packet, from BEGIN to COMMIT: one round trip
// where there would be two. But the statements of a packet are executed one after the
// other until one fails, and one that matches no row does not fail. So behind each
// statement that must match some number of rows stands another, which fails unless
// that was so. Then nothing is committed, and the run goes the ordinary way, with a
// COMMIT by itself, which tells what was wrong.
//
// Invariant I1: that holds for the compare-and-set of the checkpoint too. Whoever takes
// the checkpoint over while the packet is on its way, maybe after its connection was lost,
// comes before that statement, and then nothing is committed, or behind the COMMIT, as it locks the row.

// A check costs the server 20 to 35 µs (MySQL 9.7). More of them than these cost more than a
// round trip within a machine.
const (
	mostGuarded = 16 // changes of such a run
	mostChecks  = 3
)

// wants notes how many rows the statement just added must match, and adds what makes
// sure of it, if the writer is guarded. An INSERT writes its rows or fails.
func (w *writer) wants(n int64, op dfs.Op) {
	w.want = append(w.want, n)
	if !w.guarded || n == uncounted || op == dfs.Insert {
		return
	}
	if w.checks == mostChecks {
		w.guarded = false
		return
	}
	w.checks++
	if n == fence {
		n = 1
	}
	// DO would turn the error into a warning, and what the server can compute
	// beforehand it might.
	w.b = append(w.b, ";SET @dfs_check=EXP(IF(ROW_COUNT()="...)
	w.b = strconv.AppendInt(w.b, n, 10)
	w.b = append(w.b, ",0,1000))"...)
	w.want = append(w.want, uncounted)
}
