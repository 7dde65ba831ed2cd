package monitor

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dataflowsync/dfs"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Health is a pipeline's state in a word.
type Health string

const (
	Good    Health = "good"    // runs, and has all or is catching up
	Warned  Health = "warned"  // the same, but Warnings says what to look at
	Behind  Health = "behind"  // runs, but is further behind than Options.MaxLag, or stands still
	Waiting Health = "waiting" // starting, or trying again after an error
	Held    Health = "held"    // paused, or stopped as asked
	Failed  Health = "failed"  // stopped by an error: it needs a person
)

// A State is what the API and the page show of a pipeline.
type State struct {
	Name   string `json:"name"`
	Health Health `json:"health"`
	State  string `json:"state"`
	Text   string `json:"text"` // the state, for people

	// LagSeconds is Stats.Lag, so less what the clocks differ, and not less than the time since the source was
	// last heard; so it does not read zero while the source is away.
	LagSeconds     float64  `json:"lag_seconds"`
	CatchUpSeconds *float64 `json:"catch_up_seconds"` // null: it does not come nearer
	Waiting        uint64   `json:"waiting"`          // transactions read and not applied

	RowsPerSecond         float64 `json:"rows_per_second"`
	TransactionsPerSecond float64 `json:"transactions_per_second"`
	BytesPerSecond        float64 `json:"bytes_per_second"`

	Rows                 uint64 `json:"rows"`
	Transactions         uint64 `json:"transactions"`
	RejectedRows         uint64 `json:"rejected_rows"`
	RejectedTransactions uint64 `json:"rejected_transactions"`
	Retries              uint64 `json:"retries"`
	Tables               int    `json:"tables"`

	Copying    int `json:"copying"`     // tables of which rows are yet to be copied
	CopyFailed int `json:"copy_failed"` // tables whose copy has failed, and whose changes are left out

	Error    *Trouble `json:"error"`    // null if there is none
	Warnings []string `json:"warnings"` // what to look at although it runs
	Source   *Source  `json:"source"`   // null if the source cannot be asked about itself
	Parts    []Part   `json:"parts"`    // in the order of the data
	Legs     []Leg    `json:"legs"`

	StopAt string   `json:"stop_at"`
	Skip   []string `json:"skip"`
	Can    []string `json:"can"` // the actions that make sense now

	Letters LetterCount `json:"letters"`
}

// A LetterCount counts dead letters.
type LetterCount struct {
	On       bool       `json:"on"` // there is a store of them
	Parked   int        `json:"parked"`
	Retrying int        `json:"retrying"`
	Oldest   *time.Time `json:"oldest"` // of both
}

// A Trouble is an error and what to do about it.
type Trouble struct {
	Part        string `json:"part"`        // where
	Text        string `json:"text"`        // what
	Remedy      string `json:"remedy"`      // what to do
	Transaction string `json:"transaction"` // the one to blame, if one is
	Skippable   bool   `json:"skippable"`   // the fault is that transaction's own, so to skip it would help
	Passing     bool   `json:"passing"`     // it is tried again by itself
}

// A Part is the source, the queue, a stage or the sink.
type Part struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"` // its Go type
	State    string    `json:"state"`
	Measures []Measure `json:"measures"`
}

// A Measure is a dfs.Measure.
type Measure struct {
	Name    string  `json:"name"`
	Help    string  `json:"help"`
	Value   float64 `json:"value"`
	Counter bool    `json:"counter"`
}

// A Leg is a dfs.Leg.
type Leg struct {
	Name           string     `json:"name"`
	State          string     `json:"state"`
	Seq            uint64     `json:"seq"`
	ID             string     `json:"id"`
	Position       string     `json:"position"`
	Committed      *time.Time `json:"committed"`
	LatencySeconds float64    `json:"latency_seconds"`
	Transactions   uint64     `json:"transactions"`
	Bytes          uint64     `json:"bytes"`
	Retries        uint64     `json:"retries"`
	Error          string     `json:"error"`
}

// stateOf puts together what Stats says with what was seen before. w.mu is held.
func (w *watched) stateOf(now time.Time, s dfs.Stats, from dfs.Leg, parts []Part) State {
	lag := s.Lag
	lag = max(lag, now.Sub(w.heard))
	st := State{
		Name: w.name, State: s.State.String(), LagSeconds: lag.Seconds(), CatchUpSeconds: w.catchUp(), Waiting: w.last.waits,
		RowsPerSecond:         w.rate(rateLooks, func(l look) uint64 { return l.rows }),
		TransactionsPerSecond: w.rate(rateLooks, func(l look) uint64 { return l.txs }),
		BytesPerSecond:        w.rate(rateLooks, func(l look) uint64 { return l.bytes }),
		Rows:                  s.Apply.Applied, Transactions: s.Apply.Transactions,
		RejectedRows: s.Apply.Rejected, RejectedTransactions: s.Apply.RejectedTransactions,
		Retries: s.Apply.Retries + s.Capture.Retries, Tables: len(s.Tables),
		Skip: append([]string{}, s.Skip...), Parts: parts, Can: []string{},
		Letters: LetterCount{w.p.Letters != nil, s.Letters.Parked, s.Letters.Retrying, moment(s.Letters.Oldest)},
	}
	st.Copying, st.CopyFailed = copies(s.Copies)
	if s.StopAt != nil {
		st.StopAt = s.StopAt.String()
	}
	legs := []struct {
		name string
		leg  dfs.Leg
	}{{"capture", s.Capture}, {"apply", s.Apply}}
	if w.p.Queue == nil {
		legs = legs[1:]
	}
	for _, l := range legs {
		st.Legs = append(st.Legs, w.h.leg(l.name, l.leg))
	}
	still, silent := now.Sub(w.moved), now.Sub(w.heard)
	partStates(st.Parts, s, w.p.Queue != nil)
	// What is waited for is shown so where it is.
	if s.Apply.State == dfs.Running && still > unmoved {
		st.Parts[len(st.Parts)-1].State = "waiting"
	}
	if from.State == dfs.Running && silent > unmoved {
		st.Parts[0].State = "waiting"
	}
	// The sink's error comes first: what is behind it waits for it.
	for _, l := range []dfs.Leg{s.Apply, s.Capture} {
		if st.Error == nil && l.Err != nil && (l.State == dfs.Retrying || l.State == dfs.Starting || l.State == dfs.Stopped) {
			st.Error = w.h.trouble(l.Err, l.State != dfs.Stopped)
		}
	}
	if err := w.runner.err; err != nil && s.State == dfs.Stopped && st.Error == nil {
		st.Error = w.h.trouble(err, false)
	}
	st.Source, st.Warnings = w.source(), w.warnings(st.CatchUpSeconds)
	switch n := s.Letters.Parked; {
	case n == 1:
		st.Warnings = append(st.Warnings, "One dead letter waits: a transaction that the target lacks. Look at it under Dead letters.")
	case n > 1:
		st.Warnings = append(st.Warnings, fmt.Sprintf("%d dead letters wait: transactions that the target lacks. Look at them under Dead letters.", n))
	}
	for _, p := range parts {
		if p.Name == "queue" && p.measure("gone") != 0 {
			st.Warnings = append(st.Warnings, "The queue's file is not at its path any more: it was deleted, moved or replaced. What it holds is lost once the program ends. "+
				"Let the target take all that waits before (Stop…, when the queue is empty), then start the program anew.")
		}
		if p.Kind == "relmgr.Manager" && p.measure("gone") != 0 {
			st.Warnings = append(st.Warnings, "The file of the map of ids is not at its path any more: it was deleted, moved or replaced. The pipeline stops before it gives another new id. "+
				"Do not end the program before the error tells where what the map held was saved: without it nobody knows which row of the target is which.")
		}
	}
	if f, ok := w.p.Letters.(interface{ Gone() bool }); ok && f.Gone() {
		st.Warnings = append(st.Warnings, "The file of dead letters is not at its path any more: it was deleted, moved or replaced. What waits in it can still be looked at. "+
			"The pipeline stops before it writes another letter, and the error tells where what the file held was saved. Do not end the program before, as the target lacks what is in it.")
	}
	if s.Apply.State == dfs.Running && still > unmoved {
		st.Warnings = append(st.Warnings, "The target takes its time with what it was given. A large transaction does so, a lock that another session holds, and a server that does not answer: "+
			"look at what runs on the target (SHOW PROCESSLIST, pg_stat_activity). Nothing is lost.")
	}
	st.Health, st.Text = w.health(now, s, &st, lag)
	if st.Health == Good && len(st.Warnings) > 0 {
		st.Health = Warned
	}
	st.Can = w.can(s)
	return st
}

// unmoved is how long a side may stand still before people are told. A batch takes less, but
// for a large transaction.
const unmoved = 3500 * time.Millisecond

// health says how the pipeline is, in a word and in a sentence.
func (w *watched) health(now time.Time, s dfs.Stats, st *State, lag time.Duration) (Health, string) {
	still, silent := now.Sub(w.moved), now.Sub(w.heard)
	maxLag := w.h.opts.MaxLag
	behind := maxLag > 0 && lag > maxLag
	switch {
	case st.Error != nil && !st.Error.Passing && s.State == dfs.Stopped:
		return Failed, "Stopped by an error. It needs you."
	case st.Error != nil && !st.Error.Passing:
		return Failed, "The source has failed. What the queue holds is still applied."
	case s.State == dfs.Stopped && w.runner.waiting:
		return Held, "Stopped, as asked. Start it to go on from here."
	case s.State == dfs.Stopped:
		return Held, "Not running."
	case s.State == dfs.Retrying && behind:
		return Behind, "Trying again after an error, for too long."
	case s.State == dfs.Retrying:
		return Waiting, "Trying again after an error."
	case s.State == dfs.Starting && behind:
		return Behind, "Starting, for too long."
	case s.State == dfs.Starting:
		return Waiting, "Starting."
	case s.State == dfs.Paused && behind:
		return Behind, "Paused, for long. What is read meanwhile waits."
	case s.State == dfs.Paused:
		return Held, "Paused. What is read meanwhile waits."
	case maxLag > 0 && still > maxLag:
		return Behind, "The target has not moved for " + still.Round(time.Second).String() + ", though transactions wait."
	case behind:
		return Behind, "Further behind than it should be."
	case st.CopyFailed > 0:
		return Behind, fmt.Sprintf("The copy of %d of the tables has failed, and their changes are left out. Copy them anew.", st.CopyFailed)
	case silent > unmoved:
		return Waiting, "Nothing has come from the source for " + silent.Round(time.Second).String() + ", not even a sign of life."
	case still > unmoved:
		return Waiting, fmt.Sprintf("The target has not moved for %v, and %d transactions wait.", still.Round(time.Second), st.Waiting)
	case st.Copying > 0:
		return Good, fmt.Sprintf("Copying rows: %d of %d tables to go.", st.Copying, len(s.Copies))
	case st.Waiting > 0 && lag > 5*time.Second:
		return Good, "Catching up."
	case st.Letters.Parked+st.Letters.Retrying == 1:
		return Good, "In step with the source, but for one dead letter."
	case st.Letters.Parked+st.Letters.Retrying > 1:
		return Good, fmt.Sprintf("In step with the source, but for %d dead letters.", st.Letters.Parked+st.Letters.Retrying)
	}
	return Good, "In step with the source."
}

// ready reports whether the pipeline runs and keeps up. What has only just stopped to move
// may be at a large transaction.
func (s *State) ready() bool {
	return s.Health == Good || s.Health == Warned || s.Health == Waiting && s.State == dfs.Running.String() || s.Health == Held && s.State == dfs.Paused.String()
}

func (h *Handler) leg(name string, l dfs.Leg) Leg {
	out := Leg{Name: name, State: l.State.String(), Seq: l.At.Seq, ID: l.ID, Position: string(l.At.Pos), LatencySeconds: l.Latency.Seconds(),
		Transactions: l.Transactions, Bytes: l.Bytes, Retries: l.Retries}
	if !l.Committed.IsZero() {
		at := l.Committed.UTC()
		out.Committed = &at
	}
	if l.Err != nil {
		out.Error = h.redact(l.Err.Error())
	}
	return out
}

// trouble says what an error means to people.
func (h *Handler) trouble(err error, passing bool) *Trouble {
	t := &Trouble{Text: h.redact(err.Error()), Passing: passing}
	var e *dfs.Error
	if errors.As(err, &e) {
		t.Part, t.Transaction = e.Part, e.ID
	}
	if h.opts.Remedy != nil {
		t.Remedy = h.redact(h.opts.Remedy(err))
	}
	if t.Remedy == "" {
		t.Remedy, t.Skippable = remedy(err, e, passing)
	}
	return t
}

// remedy says what to do about an error, and whether to skip the transaction that it names
// is one of the ways.
func remedy(err error, e *dfs.Error, passing bool) (text string, skippable bool) {
	if text = general(err, passing); text != "" || e == nil || e.ID == "" {
		return cmp.Or(text, "Mend what the message names and start again. Nothing is lost meanwhile, as long as the source keeps its log."), false
	}
	return "Mend what the message names and start again. Or skip this one transaction, if the target can do without it.", true
}

// general says what to do about an error that is not the fault of one transaction, or
// nothing if it may be.
func general(err error, passing bool) string {
	switch {
	case errors.Is(err, dfs.ErrLost):
		return "Put the checkpoint back as the message says, then start again. Nothing is lost by that, as long as the source keeps its log. " +
			"To begin without it would leave out what came meanwhile, or bring rows twice."
	case errors.Is(err, dfs.ErrConflict):
		return "Another process writes under this pipeline's name. Stop that one, then start this one again."
	case errors.Is(err, dfs.ErrGap):
		return "The log no longer holds what comes next. Put the missing part back, or copy the tables anew."
	case fullDisk(err):
		return "A disk is full. Make room on it" + then(passing) + "Nothing is lost, as long as the source keeps its log."
	case says(err, "command denied", "permission denied for", "you need (at least"), says(err, "access denied") && says(err, "grant ", "to database"):
		return "The account lacks a right. Grant what the message names" + then(passing) + "Nothing is lost, as long as the source keeps its log."
	case says(err, "access denied for user", "authentication failed"):
		return "The server refuses the account: its password is another now, or it is locked or gone. Put that right on the server, or start the program anew with the right password. Nothing is lost, as long as the source keeps its log."
	case says(err, "read-only option", "read-only transaction", "readonly database", "read only transaction"):
		return "What is written to is read-only now. Lift that, or lead the pipeline to the server that takes writes" + then(passing) + "Nothing is lost, as long as the source keeps its log."
	case passing && away(err):
		return "No server answers at that address. See that it runs, and that it can be reached from this host. It is tried again by itself, and nothing is lost."
	case passing:
		return "Nothing to do at once: it is tried again by itself, and nothing is lost. If it lasts, see that the server runs and can be reached."
	case errors.Is(err, dfs.ErrStanding):
		return "Mend what the message names, then start again. It is about a table, a column or a right, and others would meet it too, " +
			"so to skip this transaction would not help. Nothing is lost, as long as the source keeps its log."
	}
	return ""
}

// fullDisk reports whether the error says so: of a system call, of SQLite, or in the words
// of a server.
func fullDisk(err error) bool {
	var s *sqlite.Error
	if errors.Is(err, syscall.ENOSPC) || errors.As(err, &s) && s.Code()&0xff == sqlite3.SQLITE_FULL {
		return true
	}
	if says(err, "no space left on device", "disk is full", "disk full", "could not extend file") {
		return true
	}
	_, rest, ok := strings.Cut(strings.ToLower(err.Error()), "the table '") // error 1114 of MySQL and MariaDB
	return ok && strings.Contains(rest, "' is full")
}

// says reports whether the error has one of the texts, which are in lower case: servers
// of several kinds, and their drivers, have no other way of telling in common.
func says(err error, texts ...string) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(text, s) })
}

// then says what follows once a cause is mended.
func then(passing bool) string {
	if passing {
		return ", and it goes on by itself. "
	}
	return ", then start again. "
}

// away reports whether the error is that of a connection that could not be made.
func away(err error) bool {
	var dns *net.DNSError
	var op *net.OpError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// parts returns the parts of the pipeline with their numbers.
func (w *watched) parts() []Part {
	list := []Part{part("source", w.p.Source)}
	if w.p.Queue != nil {
		list = append(list, part("queue", w.p.Queue))
	}
	for i, s := range w.p.Stages {
		if s = untapped(s); s == nil {
			continue // it only tells a journal
		}
		name := "stage"
		if len(w.p.Stages) > 1 {
			name = fmt.Sprintf("stage %d", i+1)
		}
		list = append(list, part(name, s))
	}
	return append(list, part("sink", w.p.Sink))
}

func part(name string, p any) Part {
	out := Part{Name: name, Kind: kindOf(p), Measures: []Measure{}}
	if m, ok := p.(dfs.Measurer); ok {
		for _, v := range m.Measures() {
			if !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) { // which are no numbers to JSON
				out.Measures = append(out.Measures, Measure(v))
			}
		}
	}
	return out
}

// partStates gives each part the state of the leg that it belongs to; of the two
// ends of a leg, the one that its error names has it.
func partStates(parts []Part, s dfs.Stats, queue bool) {
	in := s.Apply
	if queue {
		in = s.Capture
	}
	for i := range parts {
		p := &parts[i]
		leg := s.Apply
		if p.Name == "source" || p.Name == "queue" && partOf(in.Err) == "queue" && (in.State == dfs.Retrying || in.State == dfs.Stopped) {
			leg = in // which cannot write to the queue
		}
		p.State = leg.State.String()
		if leg.State == dfs.Retrying || leg.State == dfs.Stopped && leg.Err != nil {
			switch where := partOf(leg.Err); {
			case where == "":
			case where == p.Name || where == "decode" && p.Name == "source" || strings.HasPrefix(where, "stage") && strings.HasPrefix(p.Name, "stage"):
				if leg.State == dfs.Stopped {
					p.State = "failed"
				}
			case leg.State == dfs.Retrying:
				p.State = "running"
			}
		}
	}
}

// partOf returns the part that an error names, if it does.
func partOf(err error) string {
	var e *dfs.Error
	if errors.As(err, &e) {
		return e.Part
	}
	return ""
}
