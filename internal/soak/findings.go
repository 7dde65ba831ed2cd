//go:build unix

package main

import (
	"fmt"
	"sync"
)

// The instruments: each looks at another side of the promise.
const (
	byReader   = "reader"   // snapshots of the target during the run
	byLedger   = "ledger"   // triggers of the target
	byEquality = "equality" // all rows of both sides
	byPosition = "position" // the checkpoint against the source's log
	byProcess  = "process"  // DFS stopped, would not stop, or stood still
	byTrend    = "trend"    // what the process takes grows
)

// A violation is a promise that was seen broken.
type violation struct {
	Instrument string `json:"instrument"`
	What       string `json:"what"`
}

// findings gathers violations. A broken run can bring a flood of them: of each
// instrument the first few are kept, and all are counted.
type findings struct {
	mu    sync.Mutex
	count map[string]int
	first []violation
}

const mostFindings = 8

func (f *findings) add(instrument, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count = make(map[string]int)
	}
	if f.count[instrument]++; f.count[instrument] <= mostFindings {
		f.first = append(f.first, violation{instrument, fmt.Sprintf(format, args...)})
	}
}

// all returns the violations that were kept, and how many there were.
func (f *findings) all() ([]violation, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.count {
		n += c
	}
	return append([]violation{}, f.first...), n
}
