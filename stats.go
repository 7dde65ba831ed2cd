package dfs

import (
	"cmp"
	"fmt"
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
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

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
	// age of the last transaction applied while later ones wait, or of the
	// first that waits if none was applied since Run began, and zero when none
	// waits. It grows while the sink is stuck. It compares the source's clock
	// with this host's, less ClockOffset.
	Lag time.Duration

	// ClockOffset is how far the source's clock is ahead of this host's. It is zero
	// if that is not known: see Clocked.
	ClockOffset time.Duration

	// Tables counts rows by "schema.table". Received and Rejected go by the
	// table as the source names it, Applied by the table that the Stages made
	// of it.
	Tables map[string]TableStats

	// Copies is how far the source is with the copies of tables, if it is a
	// Progresser and copies some.
	Copies []TableProgress

	StopAt *StopPoint // where the pipeline is to stop; nil if StopAt has set nothing
	Skip   []string   // names of transactions that are to be skipped and have not come yet

	Letters LetterStats // zero without a store of letters
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
	// Reject took, that were skipped, or that became letters. Rows of a letter that
	// is applied are received once more. They are zero while transactions travel
	// encoded.
	// Invariant I5: without Stages, Received is Applied and Rejected together.
	Received, Applied, Rejected uint64

	RejectedTransactions uint64
}

// TableStats counts the rows of one table.
type TableStats struct{ Received, Applied, Rejected uint64 }

// A Batch is what one Apply was given, or what an Overlapper has got done at a time.
type Batch struct {
	Leg          string // "capture" or "apply"
	From, To     Checkpoint
	Transactions int
	Rows         int           // zero while the transactions are encoded
	Bytes        int           // Size as they were read
	Committed    time.Time     // of the last
	Took         time.Duration // of Apply; of an Overlapper, since the last Batch or the beginning
	Err          error         // nil if all of it is applied
}

// Stats reports where the pipeline stands. It is cheap and safe at any time.
func (p *Pipeline) Stats() Stats {
	p.mu.Lock()
	running, paused := p.running, p.gate != nil
	s := Stats{Tables: make(map[string]TableStats), ClockOffset: p.clockOffset()}
	s.StopAt, s.Skip = p.control.pending()
	s.Letters = p.control.letters
	p.mu.Unlock()
	s.Capture = p.capture.snapshot(nil)
	s.Apply = p.apply.snapshot(s.Tables)
	if c, ok := p.Source.(Progresser); ok {
		s.Copies = c.Progress()
	}
	if paused && s.Apply.State == Running {
		s.Apply.State = Paused
	}
	if running {
		s.State = s.Apply.State
		if p.Queue != nil {
			s.State = worse(s.State, s.Capture.State)
		}
	}
	if max(s.Apply.Read, s.Capture.At.Seq) > s.Apply.At.Seq {
		since := s.Apply.Committed
		if since.IsZero() {
			since = p.apply.oldest()
		}
		if !since.IsZero() {
			s.Lag = max(time.Since(since)+s.ClockOffset, 0)
		}
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
	mu    sync.Mutex
	leg   Leg
	first time.Time // when the first transaction read was committed

	sessions uint64 // how many have begun
	tables   map[string]*TableStats
}

func (st *legStats) reset(s State) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.leg, st.first, st.tables = Leg{State: s}, time.Time{}, make(map[string]*TableStats)
}

// read notes that transactions were read, of which last is the last and first
// the time of the first.
func (st *legStats) read(last uint64, first time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.leg.Read = last
	if st.first.IsZero() {
		st.first = first
	}
}

func (st *legStats) oldest() time.Time {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.first
}

// name returns the name of the last transaction applied, if it is the given one.
func (st *legStats) name(seq uint64) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.leg.At.Seq != seq {
		return ""
	}
	return st.leg.ID
}

func (st *legStats) update(f func(*Leg)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.leg)
}

func (st *legStats) snapshot(tables map[string]TableStats) Leg {
	st.mu.Lock()
	defer st.mu.Unlock()
	if tables != nil {
		for name, t := range st.tables {
			tables[name] = *t
		}
	}
	return st.leg
}

// An entry of a ledger counts something of one transaction, or part.
type entry struct {
	seq   uint64
	table *Table // of rows
	what  counted
	n     int

	id        string // of the transaction, with its size
	committed time.Time
	parts     int // how many more entries were folded into this one
}

type counted uint8

const (
	size counted = iota // one for each transaction or part
	received
	applied
	carried // both, where no stage stands between
	rejected
	rejectedTransaction
)

func (c counted) isRows() bool { return c == received || c == applied || c == carried || c == rejected }

// countAll enters the rows of the chunk into its ledger, and returns their number.
func (c *chunk) countAll(what counted) (rows int) {
	for _, tx := range c.txs {
		rows += c.count(tx, what)
	}
	return rows
}

// count enters the rows of one transaction: one entry for each table, as rows of several
// tables may take turns a million times.
func (c *chunk) count(tx *Transaction, what counted) (rows int) {
	const few = 8
	from := len(c.ledger)
	open := -1            // the entry that the last row went to
	var of map[*Table]int // where more than a few are
	cells := 0
	for i := range tx.Changes {
		if tx.Changes[i].Op == DDL {
			continue
		}
		table := tx.Changes[i].Table
		cells += len(tx.Changes[i].Before) + len(tx.Changes[i].After)
		if open < 0 || c.ledger[open].table != table {
			open = -1
			if of != nil {
				if at, ok := of[table]; ok {
					open = at
				}
			} else {
				for at := from; at < len(c.ledger) && open < 0; at++ {
					if c.ledger[at].table == table {
						open = at
					}
				}
			}
			if open < 0 {
				open = len(c.ledger)
				c.ledger = append(c.ledger, entry{seq: tx.Seq, table: table, what: what})
				if of != nil {
					of[table] = open
				} else if open-from == few {
					of = make(map[*Table]int)
					for at := from; at <= open; at++ {
						of[c.ledger[at].table] = at
					}
				}
			}
		}
		c.ledger[open].n++
		rows++
	}
	if what == applied || what == carried {
		c.memory += rows*changeSize + cells*valueSize // texts are parts of what was read
	}
	return rows
}

// fold puts the entries after a Seq together, as many as there are for a table: they are of
// parts of one transaction, all of which are applied at once, or none.
// Invariant I6: a transaction has any number of parts.
func fold(ledger []entry, after uint64) []entry {
	type kind struct {
		table *Table
		what  counted
	}
	at := make(map[kind]int)
	out := ledger[:0]
	for _, e := range ledger {
		k := kind{e.table, e.what}
		i, ok := at[k]
		switch {
		case e.seq <= after:
		case ok:
			to := &out[i]
			to.n, to.parts = to.n+e.n, to.parts+1+e.parts
			to.id = cmp.Or(e.id, to.id)
			if !e.committed.IsZero() {
				to.committed = e.committed
			}
			continue
		default:
			at[k] = len(out)
		}
		out = append(out, e)
	}
	clear(ledger[len(out):])
	return out
}

// settle counts what the sink has applied, now that it stands at the given
// checkpoint, and keeps in the ledger what it has not.
func (l *leg) settle(at Checkpoint) {
	l.st.mu.Lock()
	defer l.st.mu.Unlock()
	leg := &l.st.leg
	leg.At = at
	now := time.Now().Add(l.p.clockOffset())
	var table *Table
	var t *TableStats
	rest := l.ledger[:0]
	for _, e := range l.ledger {
		if e.seq > at.Seq {
			rest = append(rest, e)
			continue
		}
		if e.what.isRows() && (t == nil || e.table != table) {
			table = e.table
			name := table.String()
			if t = l.st.tables[name]; t == nil {
				t = new(TableStats)
				l.st.tables[name] = t
			}
		}
		n := uint64(e.n)
		switch e.what {
		case size:
			leg.Transactions += 1 + uint64(e.parts)
			leg.Bytes += n
			leg.ID = cmp.Or(e.id, leg.ID)
			if !e.committed.IsZero() {
				leg.Committed, leg.Latency = e.committed, max(now.Sub(e.committed), 0)
			}
		case received:
			leg.Received += n
			t.Received += n
		case applied:
			leg.Applied += n
			t.Applied += n
		case carried:
			leg.Received, leg.Applied = leg.Received+n, leg.Applied+n
			t.Received, t.Applied = t.Received+n, t.Applied+n
		case rejected:
			leg.Rejected += n
			t.Rejected += n
		case rejectedTransaction:
			leg.RejectedTransactions += n
		}
	}
	l.ledger = rest
}
