package cdc

import (
	"time"

	"github.com/dataflowsync/dfs"
)

// counts are what a stream counts as it goes.
type counts struct {
	events, rows, rowsFiltered, transactions, filtered, statements, statementsFiltered uint64
}

// Stats is what a Source has done since Open.
type Stats struct {
	Connected          bool         // a stream is open
	Connections        uint64       // streams opened; all but the first are reconnects
	Events             uint64       // events read from the log
	RowEvents          uint64       // of these, row events, each of which holds one row or more
	RowEventsFiltered  uint64       // of these, of tables that are not followed
	Transactions       uint64       // handed on
	Filtered           uint64       // transactions without anything followed
	Statements         uint64       // DDL handed on
	StatementsFiltered uint64       // DDL about tables that are not followed, or no tables
	Bytes              uint64       // received
	Position           dfs.Position // after the last transaction that a stream has read
	LastCommit         time.Time    // time of the last transaction read, by the source's clock; zero if none

	// Silent is how long the server has sent nothing although it is waited for, if that is longer than
	// two heartbeats, and else zero.
	Silent time.Duration
}

// Stats returns what the Source has done. It is cheap, and some milliseconds
// behind a running stream.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{
		Connected: len(s.streams) > 0, Connections: s.opened,
		Events: s.total.events, RowEvents: s.total.rows, RowEventsFiltered: s.total.rowsFiltered,
		Transactions: s.total.transactions, Filtered: s.total.filtered,
		Statements: s.total.statements, StatementsFiltered: s.total.statementsFiltered,
		Bytes: s.bytes, Position: s.at,
	}
	if t := s.last.Load(); t != 0 {
		st.LastCommit = time.Unix(t, 0)
	}
	if t := s.waits.Load(); t != 0 && st.Connected {
		if d := time.Since(time.Unix(0, t)); d > 2*s.opts.Heartbeat {
			st.Silent = d
		}
	}
	return st
}

// add takes over what a stream has counted since the last time.
func (s *Source) add(from *Stream) {
	c := &from.asm.counted
	s.mu.Lock()
	t := &s.total
	t.events += c.events
	t.rows += c.rows
	t.rowsFiltered += c.rowsFiltered
	t.transactions += c.transactions
	t.filtered += c.filtered
	t.statements += c.statements
	t.statementsFiltered += c.statementsFiltered
	s.bytes += from.in.received()
	if from.n > 0 {
		s.at = from.batch[from.n-1].Pos
	}
	s.mu.Unlock()
	*c = counts{}
}
