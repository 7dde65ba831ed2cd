package dfs

import (
	"maps"
	"sync"
	"time"
)

// State is what a pipeline, or one leg of it, is doing.
type State uint8

const (
	Stopped  State = iota // Run has not been called, or has returned
	Starting              // asking the sink where it stands, and opening the source
	Running               // carrying transactions, or waiting for one
	Paused                // by Pause
	Retrying              // waiting after a transient error
)

var stateNames = [...]string{"stopped", "starting", "running", "paused", "retrying"}

// String returns the state's name in lower case.
func (s State) String() string { return stateNames[s] }

// MarshalText returns the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Stats is a moment in a pipeline's life. Counters count from the start of Run.
type Stats struct {
	State State // the worst of both legs: Retrying, Starting, Paused, Running, Stopped

	// Capture leads from the source to the queue. Without a queue it is zero.
	Capture Leg

	// Apply leads to the sink, from the queue or else from the source.
	Apply Leg

	// Lag is how far the sink is behind what has been read from the source: the
	// age of the last transaction applied while later ones wait, and zero when
	// none does. It grows while the sink is stuck. It compares the source's
	// clock with this host's.
	Lag time.Duration

	// Tables counts rows by "schema.table". Received and Rejected go by the
	// table as the source names it, Applied by the table that the Stages made
	// of it.
	Tables map[string]TableStats
}

// A Leg is one side of a pipeline.
type Leg struct {
	State     State
	Err       error      // why it is Retrying, or why it Stopped
	Read      uint64     // Seq of the last transaction read
	At        Checkpoint // of the last transaction stored or applied
	ID        string     // its name at the source
	Committed time.Time  // when the source committed it

	Latency      time.Duration // from its commit at the source until it was stored here
	Transactions uint64        // stored or applied, parts counted one by one
	Bytes        uint64        // their Size as they were read
	Retries      uint64        // waits after transient errors

	// Received counts rows after decoding and before the Stages, Applied those
	// that the Stages made of them, and Rejected those of transactions that
	// Reject took. They are zero while transactions travel encoded.
	// Invariant I5: without Stages, Received is Applied and Rejected together.
	Received, Applied, Rejected uint64

	RejectedTransactions uint64
}

// TableStats counts the rows of one table.
type TableStats struct{ Received, Applied, Rejected uint64 }

// A Batch is what one Apply was given.
type Batch struct {
	Leg          string // "capture" or "apply"
	From, To     Checkpoint
	Transactions int
	Rows         int           // zero while the transactions are encoded
	Bytes        int           // Size as they were read
	Committed    time.Time     // of the last
	Took         time.Duration // of Apply
	Err          error         // nil if all of it is applied
}

// Stats reports where the pipeline stands. It is cheap and safe at any time.
func (p *Pipeline) Stats() Stats {
	p.mu.Lock()
	running, paused := p.running, p.gate != nil
	p.mu.Unlock()
	s := Stats{Tables: make(map[string]TableStats)}
	s.Capture = p.capture.snapshot(nil)
	s.Apply = p.apply.snapshot(s.Tables)
	if paused && s.Apply.State == Running {
		s.Apply.State = Paused
	}
	if running {
		s.State = s.Apply.State
		if p.Queue != nil {
			s.State = worse(s.State, s.Capture.State)
		}
	}
	if max(s.Apply.Read, s.Capture.At.Seq) > s.Apply.At.Seq && !s.Apply.Committed.IsZero() {
		s.Lag = max(time.Since(s.Apply.Committed), 0)
	}
	return s
}

func worse(a, b State) State {
	for _, s := range [...]State{Retrying, Starting, Paused, Running} {
		if a == s || b == s {
			return s
		}
	}
	return Stopped
}

// legStats is a Leg that is being written. Batches update it, rows never do.
type legStats struct {
	mu     sync.Mutex
	leg    Leg
	tables map[string]TableStats
}

func (st *legStats) reset() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.leg, st.tables = Leg{State: Starting}, make(map[string]TableStats)
}

func (st *legStats) update(f func(*Leg)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.leg)
}

// count adds what an applied chunk counted.
func (st *legStats) count(c *chunk) {
	st.mu.Lock()
	defer st.mu.Unlock()
	add := func(counts []tableCount, field func(*TableStats) *uint64, total *uint64) {
		for _, n := range counts {
			name := n.table.String()
			t := st.tables[name]
			*field(&t) += n.rows
			st.tables[name] = t
			*total += n.rows
		}
	}
	add(c.received, func(t *TableStats) *uint64 { return &t.Received }, &st.leg.Received)
	add(c.applied, func(t *TableStats) *uint64 { return &t.Applied }, &st.leg.Applied)
	add(c.rejected, func(t *TableStats) *uint64 { return &t.Rejected }, &st.leg.Rejected)
	st.leg.Transactions += uint64(len(c.txs))
	st.leg.Bytes += uint64(c.size)
}

func (st *legStats) snapshot(tables map[string]TableStats) Leg {
	st.mu.Lock()
	defer st.mu.Unlock()
	if tables != nil {
		maps.Copy(tables, st.tables)
	}
	return st.leg
}

// A tableCount counts rows of a table.
type tableCount struct {
	table *Table
	rows  uint64
}

// countRows counts the rows of batch by table.
func countRows(batch []*Transaction) []tableCount {
	var counts []tableCount
	last := -1
	for _, tx := range batch {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			if c.Op == DDL {
				continue
			}
			if last < 0 || counts[last].table != c.Table {
				last = -1
				for j := range counts {
					if counts[j].table == c.Table {
						last = j
						break
					}
				}
				if last < 0 {
					counts = append(counts, tableCount{table: c.Table})
					last = len(counts) - 1
				}
			}
			counts[last].rows++
		}
	}
	return counts
}

func sum(counts []tableCount) int {
	n := uint64(0)
	for _, c := range counts {
		n += c.rows
	}
	return int(n)
}
