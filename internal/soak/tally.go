//go:build unix

package main

import (
	"slices"
	"time"
)

// A tally counts what a soak has done. It is written by one goroutine.
type tally struct {
	faults      map[string]int
	waits       map[string][]time.Duration // until DFS applied again, by what had happened
	compared    int                        // rows
	settled     int                        // times that all rows were compared
	ledgers     int                        // times that the ledger was checked
	lostCommits int
	deadlocks   int // in which the target gave up a transaction of DFS
}

func (t *tally) fault(name string) {
	if t.faults == nil {
		t.faults = make(map[string]int)
	}
	t.faults[name]++
}

func (t *tally) recovered(after string, took time.Duration) {
	if t.waits == nil {
		t.waits = make(map[string][]time.Duration)
	}
	t.waits[after] = append(t.waits[after], took)
}

// spread is how long something took: half the times less than P50, and so on.
type spread struct {
	N   int           `json:"n"`
	P50 time.Duration `json:"p50_ns"`
	P99 time.Duration `json:"p99_ns"`
	Max time.Duration `json:"max_ns"`
}

func spreadOf(d []time.Duration) spread {
	if len(d) == 0 {
		return spread{}
	}
	d = slices.Sorted(slices.Values(d))
	at := func(p int) time.Duration { return d[(len(d)*p+99)/100-1].Round(time.Millisecond) }
	return spread{N: len(d), P50: at(50), P99: at(99), Max: at(100)}
}
