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
	Command      string            `json:"command"`
	Began        time.Time         `json:"began"`
	Standby      bool              `json:"standby"` // the source had one
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
	Again        map[string]spread `json:"again"`    // from the start, or the server's return, to the first apply
	Recovery     spread            `json:"recovery"` // of all that Again has,
	LostCommits  int               `json:"lost_commits"`
	Deadlocks    int               `json:"deadlocks"` // in which the target chose DFS
	Promotions   int               `json:"promotions"`
	Peak         sample            `json:"peak"`
	Trend        trend             `json:"trend"` // of the process that lived longest
	Violations   []violation       `json:"violations"`
	Violated     int               `json:"violated"` // all violations, also those not kept
	Replay       string            `json:"replay,omitempty"`
}

// report sums up what was done under a name.
func (s *soak) report(name string) *report {
	r := &report{Pair: name, Began: s.began, Standby: s.standby != nil, Seed: s.seed, Took: time.Since(s.began),
		Transactions: s.work.transactions.Load(), Rows: s.work.rows.Load(),
		RolledBack: s.work.rollbacks.Load(), Retried: s.work.retries.Load(),
		Snapshots: s.reader.snapshots.Load(), Settled: s.tally.settled, Compared: s.tally.compared, Ledgers: s.tally.ledgers,
		Faults: maps.Clone(s.tally.faults), Again: make(map[string]spread),
		LostCommits: s.tally.lostCommits, Deadlocks: s.tally.deadlocks, Promotions: s.tally.faults["promote"]}
	var all []time.Duration
	for after, d := range s.tally.waits {
		r.Again[after] = spreadOf(d)
		all = append(all, d...)
	}
	r.Recovery = spreadOf(all)
	s.takes.halt()
	r.Peak, r.Trend = s.takes.peak, trendOf(s.takes.longestLife())
	for _, what := range r.Trend.Grown {
		s.found.add(byTrend, "%s over %v", what, r.Trend.Lived.Round(time.Second))
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
	for _, f := range everyFault() {
		if n := r.Faults[f.name]; n > 0 {
			line(f.name, "%d times: %s", n, f.what)
		}
	}
	line("faults", "%d", r.faults())
	if r.LostCommits > 0 {
		line("COMMITs lost", "%d", r.LostCommits)
	}
	if r.Deadlocks > 0 {
		line("deadlocks", "%d in which the target gave up DFS's transaction", r.Deadlocks)
	}
	for _, after := range slices.Sorted(maps.Keys(r.Again)) {
		a := r.Again[after]
		line("applying again", "p50 %v, p99 %v, max %v (%d times, after: %s)", a.P50, a.P99, a.Max, a.N, after)
	}
	if r.Recovery.N > 0 {
		line("applying again", "p50 %v, p99 %v, max %v (%d times, after anything)", r.Recovery.P50, r.Recovery.P99, r.Recovery.Max, r.Recovery.N)
	}
	line("at most", "%d MiB of memory, %d MiB of heap, %d open files, %d goroutines", r.Peak.RSS>>20, r.Peak.Heap>>20, r.Peak.Files, r.Peak.Goroutines)
	if t := r.Trend; !t.Judged {
		line("over time", "%s", t.verdict())
	} else {
		line("over time", "%s: one process for %v; after the first %v, the earlier half against the later (%d and %d samples):", t.verdict(),
			t.Lived.Round(time.Second), t.WarmUp.Round(time.Second), t.Samples[0], t.Samples[1])
		for _, m := range measures {
			line("  "+m.name, "median %s -> %s, most %s -> %s", m.text(t.Before), m.text(t.After), m.text(t.MostBefore), m.text(t.MostAfter))
		}
		for _, what := range t.MostGrown {
			line("  at most", "%s", what)
		}
	}
	line("violations", "%d", r.Violated)
	for _, v := range r.Violations {
		fmt.Fprintf(w, "    %s: %s\n", v.Instrument, v.What)
	}
	if r.Replay != "" {
		fmt.Fprintf(w, "  again: %s\n", r.Replay)
	}
}

// name returns the servers of the soak.
func (r *report) name() string {
	if r.Standby {
		return r.Pair + ", with a standby"
	}
	return r.Pair
}

// faults returns how many there were.
func (r *report) faults() (n int) {
	for _, f := range r.Faults {
		n += f
	}
	return n
}

// everyFault returns all faults that there are.
func everyFault() []fault { return slices.Concat(allFaults, promotions) }

// sortedKeys returns all that reports have times of.
func sortedKeys(reports []*report) []string {
	all := make(map[string]bool)
	for _, r := range reports {
		for what := range r.Again {
			all[what] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
