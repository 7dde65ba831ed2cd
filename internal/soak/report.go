//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// A report is what a soak has done and found.
type report struct {
	Pair         string            `json:"pair"`
	Seed         uint64            `json:"seed"`
	Took         time.Duration     `json:"took_ns"`
	Transactions int64             `json:"transactions"` // of the workload, committed
	Rows         int64             `json:"rows"`         // that they changed
	RolledBack   int64             `json:"rolled_back"`
	Retried      int64             `json:"retried"`   // by the workload: deadlocks and lost connections
	Snapshots    int64             `json:"snapshots"` // of the target, judged during the run
	Settled      int               `json:"settled"`   // times that all rows were compared
	Compared     int               `json:"compared"`  // rows of the source
	Ledgers      int               `json:"ledgers"`   // times that the ledger was checked
	Faults       map[string]int    `json:"faults"`
	Again        map[string]spread `json:"again"` // from the start, or the server's return, to the first apply
	Violations   []violation       `json:"violations"`
	Violated     int               `json:"violated"` // all violations, also those not kept
	Replay       string            `json:"replay,omitempty"`
}

// report sums up what was done under a name.
func (s *soak) report(name string) *report {
	r := &report{Pair: name, Seed: s.seed, Took: time.Since(s.began),
		Transactions: s.work.transactions.Load(), Rows: s.work.rows.Load(),
		RolledBack: s.work.rollbacks.Load(), Retried: s.work.retries.Load(),
		Snapshots: s.reader.snapshots.Load(), Settled: s.tally.settled, Compared: s.tally.compared, Ledgers: s.tally.ledgers,
		Faults: maps.Clone(s.tally.faults), Again: make(map[string]spread)}
	for after, d := range s.tally.waits {
		r.Again[after] = spreadOf(d)
	}
	r.Violations, r.Violated = s.found.all()
	return r
}

// writeJSON writes the report for programs.
func (r *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeText writes the report for people.
func (r *report) writeText(w io.Writer) {
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "  %-22s %s\n", what, fmt.Sprintf(format, args...))
	}
	seconds := r.Took.Seconds()
	fmt.Fprintf(w, "soak %s, seed %d, %v\n", r.Pair, r.Seed, r.Took.Round(time.Second))
	line("transactions", "%d (%.0f/s), and %d rolled back", r.Transactions, float64(r.Transactions)/seconds, r.RolledBack)
	line("rows changed", "%d (%.0f/s)", r.Rows, float64(r.Rows)/seconds)
	line("snapshots judged", "%d", r.Snapshots)
	line("rows compared", "%d, in %d comparisons of all tables", r.Compared, r.Settled)
	line("ledgers checked", "%d", r.Ledgers)
	total := 0
	for _, f := range faults {
		if n := r.Faults[f.name]; n > 0 {
			line(f.name, "%d times: %s", n, f.what)
			total += n
		}
	}
	line("faults", "%d", total)
	for _, after := range slices.Sorted(maps.Keys(r.Again)) {
		a := r.Again[after]
		line("applying again", "p50 %v, p99 %v, max %v (%d times, after: %s)", a.P50, a.P99, a.Max, a.N, after)
	}
	line("violations", "%d", r.Violated)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "    %s: %s\n", v.Instrument, v.What)
	}
	if r.Replay != "" {
		fmt.Fprintf(w, "  again: %s\n", r.Replay)
	}
}
