package sink

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a sink of this package has done since it was opened. What is of
// row events, several connections and later indexes is zero but for MySQL.
type Stats struct {
	Commits      uint64 // transactions of the target
	Transactions uint64 // transactions of the source, applied
	Statements   uint64 // statements of merged runs, sent to the target

	Inserts, Updates, Deletes uint64 // rows of the source, applied
	EventRows                 uint64 // rows sent as row events, after merging
	IndexesLeft               int64  // indexes still to be added: see CreateTables
	Loaded                    uint64 // of Inserts, those that several connections wrote at the same time
	Unloaded                  uint64 // rows so written that a crash or error left without the checkpoint, and that were deleted to come again

	// Fallbacks counts the runs, and pieces of runs, that the target refused
	// when merged. If it grows as fast as Commits, merging does not pay: look
	// for keys that the target compares other than the source does, and for
	// conflicts.
	Fallbacks uint64
	Turns     uint64 // of Commits, those of runs that went by several connections (Writers)
	Serial    uint64 // changes applied one by one because of that

	// Lane says how rows are written: "row events", or "SQL: " and why. Where the account
	// may not see all foreign keys, it says that deletes, and updates of indexed columns, go by SQL.
	Lane string

	// BySQL are the tables written so far whose rows go by SQL though Lane says
	// otherwise, and why. So do groups of few rows, of any table.
	BySQL []TableLane

	IgnoredDDL uint64     // statements passed over, by PolicyIgnore, DDLDone or their kind
	DDL        []DDLCount // statements that alter tables, by kind and outcome
	Running    *Running   // the statement that is running now; nil if none is

	Conflicts []ConflictCount // by table and policy
}

// TableLane says why rows of a table go by SQL.
type TableLane struct {
	Table string // the target's, "schema.name"
	Why   string
}

// ConflictCount says how often a policy was needed.
type ConflictCount struct {
	Table  string // the target's, "schema.name"
	Policy Policy
	Count  uint64
}

// DDLCount says how often statements of a kind came to an outcome.
type DDLCount struct {
	Kind    string // one of DDLKinds; "statement" where no rule asks for it
	Outcome Outcome
	Count   uint64
}

// Outcome is what became of a statement.
type Outcome string

const (
	Applied Outcome = "applied" // the target has what it does
	Ignored Outcome = "ignored" // it was passed over
	Failed  Outcome = "failed"  // the target refused it, and PolicyTry passed over it
)

// Running is a statement that the target is at, which may take hours.
type Running struct {
	Query string // as the target runs it
	Since time.Time
}

type stats struct {
	commits, transactions, statements atomic.Uint64
	inserts, updates, deletes         atomic.Uint64
	fallbacks, serial, ignoredDDL     atomic.Uint64
	eventRows, loaded, unloaded       atomic.Uint64
	turns                             atomic.Uint64

	lane    atomic.Pointer[string]
	running atomic.Pointer[Running]

	mu        sync.Mutex
	conflicts map[ConflictCount]uint64 // with Count zero
	ddl       map[DDLCount]uint64      // with Count zero
	bySQL     map[string]string        // why, by the target's table
}

// lanes notes why rows of a table go by SQL; an empty string says that they do not.
func (s *stats) lanes(table, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why == "" {
		delete(s.bySQL, table)
		return
	}
	if s.bySQL == nil {
		s.bySQL = make(map[string]string)
	}
	s.bySQL[table] = why
}

func (s *stats) countDDL(c DDLCount) {
	if c.Outcome == Ignored {
		s.ignoredDDL.Add(1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ddl == nil {
		s.ddl = make(map[DDLCount]uint64)
	}
	s.ddl[c]++
}

func (s *stats) conflict(table string, p Policy) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conflicts == nil {
		s.conflicts = make(map[ConflictCount]uint64)
	}
	s.conflicts[ConflictCount{Table: table, Policy: p}]++
}

// Stats returns the counts so far. It may be called at any time, from any
// goroutine.
func (m *MySQL) Stats() Stats {
	out := m.stats.all()
	out.IndexesLeft = m.adder.left.Load()
	return out
}

// all returns the counts so far.
func (s *stats) all() Stats {
	out := Stats{
		Commits: s.commits.Load(), Transactions: s.transactions.Load(), Statements: s.statements.Load(),
		Inserts: s.inserts.Load(), Updates: s.updates.Load(), Deletes: s.deletes.Load(), EventRows: s.eventRows.Load(), Loaded: s.loaded.Load(), Unloaded: s.unloaded.Load(),
		Fallbacks: s.fallbacks.Load(), Turns: s.turns.Load(), Serial: s.serial.Load(), IgnoredDDL: s.ignoredDDL.Load(), Running: s.running.Load(),
	}
	if lane := s.lane.Load(); lane != nil {
		out.Lane = *lane
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, n := range s.conflicts {
		c.Count = n
		out.Conflicts = append(out.Conflicts, c)
	}
	slices.SortFunc(out.Conflicts, func(a, b ConflictCount) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Policy, b.Policy))
	})
	for table, why := range s.bySQL {
		out.BySQL = append(out.BySQL, TableLane{table, why})
	}
	slices.SortFunc(out.BySQL, func(a, b TableLane) int { return cmp.Compare(a.Table, b.Table) })
	for c, n := range s.ddl {
		c.Count = n
		out.DDL = append(out.DDL, c)
	}
	slices.SortFunc(out.DDL, func(a, b DDLCount) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Outcome, b.Outcome))
	})
	return out
}
