package monitor

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
)

// A TraceQuery says what to look for in a Journal: a row by its table and primary
// key, a transaction by its Seq or ID, or what was refused. What is set must all
// hold.
type TraceQuery struct {
	Pipeline string // default: all

	// Table is "schema.table", by the name at the source or at the target; letter
	// case does not matter. Key has the values of its primary key, in key order, as
	// the server prints them; without a Key, all rows of the table are meant.
	Table string
	Key   []string

	Seq    uint64
	ID     string
	Failed bool // only what was refused, skipped or parked

	Limit int // transactions, newest first; default: 50
}

// A Trace is what a Journal knows of what was asked for.
type Trace struct {
	Transactions []Traced `json:"transactions"` // newest first
	More         bool     `json:"more"`         // there are older ones beyond Limit

	Level JournalLevel `json:"level"` // what the journal keeps now
	Since *time.Time   `json:"since"` // the oldest that it has is of this time; nil: it is empty
	Gaps  []Gap        `json:"gaps"`  // of JournalAll: what it lacks, newest first; at most 100
}

// A Gap is a run of transactions that a Journal lacks although it kept those before
// and after it: the process was killed, or the journal was full or off.
type Gap struct {
	Pipeline string `json:"pipeline"`
	First    uint64 `json:"first"` // Seq
	Last     uint64 `json:"last"`
}

// A Traced is one transaction, or part of a large one.
type Traced struct {
	Pipeline  string     `json:"pipeline"`
	Seq       uint64     `json:"seq"`
	ID        string     `json:"id"`
	Position  string     `json:"position"` // behind it in the source's log
	Committed *time.Time `json:"committed"`
	Read      time.Time  `json:"read"` // when it came to the first stage
	At        time.Time  `json:"at"`   // when it was applied or refused
	Part      bool       `json:"part"` // it goes on in the next Seq
	Snapshot  bool       `json:"snapshot"`
	Error     string     `json:"error"`   // why it was refused, or that it was skipped or parked; empty: it was applied
	Skipped   bool       `json:"skipped"` // as somebody asked
	Parked    bool       `json:"parked"`  // it depends on a dead letter, and became one itself; Error says which, and what it waits for

	// Steps are what it was: "received", and then behind each stage, by its type;
	// the last is what the sink was given. What was parked came no further than the first.
	Steps []TraceStep `json:"steps"`

	// Statements are how the sink writes what is in the last step, by itself, or
	// why that cannot be told. A sink may merge it with others or send it in
	// another form.
	Statements []string `json:"statements"`
}

// A TraceStep is what a transaction was at one place of its way.
type TraceStep struct {
	Name    string         `json:"name"`
	Same    bool           `json:"same"` // as in the step before; Changes is then empty
	Changes []TracedChange `json:"changes"`
	Others  int            `json:"others"` // changes that are not shown
}

// A TracedChange is a dfs.Change as people read it.
type TracedChange struct {
	Op      string         `json:"op"`
	Table   string         `json:"table"`
	Query   string         `json:"query"` // of a statement that alters tables
	Columns []TracedColumn `json:"columns"`
}

// A TracedColumn is a column of a row.
type TracedColumn struct {
	Name   string       `json:"name"`
	Key    bool         `json:"key"`
	Before *TracedValue `json:"before"` // nil: not logged, or an insert
	After  *TracedValue `json:"after"`  // nil: not logged, or a delete
}

// A TracedValue is a value as text: of kind "null", "masked", "bytes" (in
// hexadecimal) or "text".
type TracedValue struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
}

const (
	mostChanges = 50   // of a step that are shown
	mostText    = 4096 // bytes of a value that are shown
	mostGaps    = 100
	mostFound   = 1000
)

// Trace looks for what was asked for. It may read all of the file.
func (j *Journal) Trace(ctx context.Context, q TraceQuery) (*Trace, error) {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("trace: "+format, args...))
		}
	}
	schema, table, dotted := strings.Cut(q.Table, ".")
	fault(q.Table != "" && (!dotted || schema == "" || table == ""), "the table is %q; write it as schema.table", clip(q.Table, 200))
	fault(q.Table == "" && len(q.Key) > 0, "there is a key and no table; name the table as schema.table")
	fault(q.Table == "" && q.Seq == 0 && q.ID == "" && !q.Failed, "nothing is asked for; name a table and a key, or a transaction")
	fault(q.Limit < 0 || q.Limit > mostFound, "the limit is %d; use 1 to %d", q.Limit, mostFound)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if q.Limit == 0 {
		q.Limit = 50
	}
	j.flush()
	out := &Trace{Transactions: []Traced{}, Gaps: []Gap{}, Level: j.opts.Level}
	f := &finder{j: j, q: q, schema: schema, table: table, out: out}
	if err := f.find(ctx); err != nil {
		return nil, fmt.Errorf("trace in the journal %s: %w", j.path, err)
	}
	return out, nil
}

// A finder looks for what is asked for.
type finder struct {
	j             *Journal
	q             TraceQuery
	schema, table string
	out           *Trace
}

func (f *finder) find(ctx context.Context) error {
	where, args := []string{"1"}, []any{}
	if f.q.Pipeline != "" {
		where, args = append(where, "pipeline = ?"), append(args, f.q.Pipeline)
	}
	// Blocks that do not match are passed over by what stands before their data.
	rows, err := f.j.db.QueryContext(ctx, "SELECT id, pipeline, level, first, last, at, failed, keys FROM block WHERE "+strings.Join(where, " AND ")+" ORDER BY id DESC", args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	kept := make(map[string][]Gap) // what blocks of JournalAll span, by pipeline
	enough := false
	for rows.Next() {
		var s stored
		var id, first, last, at int64
		var level string
		var keys sql.RawBytes
		if err := rows.Scan(&id, &s.pipeline, &level, &first, &last, &at, &s.failed, &keys); err != nil {
			return err
		}
		s.level, s.first, s.last = JournalLevel(level), uint64(first), uint64(last)
		oldest := time.UnixMicro(at).UTC()
		f.out.Since = &oldest
		if s.level == JournalAll {
			kept[s.pipeline] = append(kept[s.pipeline], Gap{s.pipeline, s.first, s.last})
		}
		if enough || !f.mayMatch(&s, keys) {
			continue
		}
		if enough, err = f.look(ctx, id); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		f.out.Gaps = append(f.out.Gaps, between(kept[name])...)
	}
	f.out.Gaps = f.out.Gaps[:min(len(f.out.Gaps), mostGaps)]
	return rows.Err()
}

// between returns what is in none of the spans, but between two of them, the last first.
// They need not be in order: what is refused by a stage is written before it is known
// what has become of those before.
func between(spans []Gap) (gaps []Gap) {
	slices.SortFunc(spans, func(a, b Gap) int { return cmp.Compare(b.Last, a.Last) })
	for i, from := 0, uint64(math.MaxUint64); i < len(spans); i++ {
		if s := spans[i]; i > 0 && from > s.Last+1 {
			gaps = append(gaps, Gap{s.Pipeline, s.Last + 1, from - 1})
		}
		from = min(from, spans[i].First)
	}
	return gaps
}

// mayMatch reports whether a block may hold what is asked for.
func (f *finder) mayMatch(s *stored, keys []byte) bool {
	switch {
	case f.q.Failed && s.failed == 0,
		f.q.Seq != 0 && (f.q.Seq < s.first || f.q.Seq > s.last),
		f.q.ID != "" && !mayHave(keys, hashID(f.q.ID)),
		len(f.q.Key) > 0 && !mayHave(keys, hashKey(f.schema, f.table, f.q.Key)):
		return false
	}
	return true
}

// look looks into a block. It reports whether no more need be found.
func (f *finder) look(ctx context.Context, id int64) (enough bool, err error) {
	var s stored
	var first, last int64
	var level string
	err = f.j.db.QueryRowContext(ctx, "SELECT pipeline, level, first, last, sum, keys, data FROM block WHERE id = ?", id).
		Scan(&s.pipeline, &level, &first, &last, &s.sum, &s.filter, &s.data)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil // it has become too old meanwhile
	}
	if err != nil {
		return false, err
	}
	s.level, s.first, s.last = JournalLevel(level), uint64(first), uint64(last)
	list, err := s.entries()
	if err != nil {
		return false, fmt.Errorf("block %d: %w", id, err)
	}
	for _, e := range slices.Backward(list) {
		if f.q.Failed && e.lacking() == 0 {
			continue
		}
		steps := make([][][]dfs.Change, len(e.steps))
		for i := range e.steps {
			if e.steps[i].same {
				steps[i] = steps[i-1]
			} else if steps[i], err = e.steps[i].changes(); err != nil {
				return false, fmt.Errorf("block %d: %w", id, err)
			}
		}
		for i := len(e.txs) - 1; i >= 0; i-- {
			t := &e.txs[i]
			if t.seq > e.last || f.q.Failed && e.err == "" && t.parked == "" || f.q.Seq != 0 && t.seq != f.q.Seq || f.q.ID != "" && t.id != f.q.ID {
				continue
			}
			of := make([][]dfs.Change, len(steps))
			for n := range steps {
				of[n] = steps[n][i]
			}
			shown, ok := f.pick(of)
			if !ok {
				continue
			}
			if len(f.out.Transactions) == f.q.Limit {
				f.out.More = true
				return true, nil
			}
			f.out.Transactions = append(f.out.Transactions, f.traced(ctx, e, i, of, shown))
		}
	}
	return false, nil
}

// pick chooses the changes to be shown of each step, by index. A row that is asked
// for is known by its key; what the stages made of it stands, where each change led
// to one, at the same place; else all of the transaction is shown.
func (f *finder) pick(steps [][]dfs.Change) (shown [][]int, ok bool) {
	shown = make([][]int, len(steps))
	if f.q.Table == "" {
		for n, list := range steps {
			for i := range list {
				shown[n] = append(shown[n], i)
			}
		}
		return shown, true
	}
	found := -1
	for n, list := range steps {
		for i := range list {
			if f.match(&list[i]) {
				shown[n] = append(shown[n], i)
			}
		}
		if found < 0 && len(shown[n]) > 0 {
			found = n
		}
	}
	if found < 0 {
		return nil, false
	}
	for n := range steps {
		switch {
		case n == found:
		case len(steps[n]) == len(steps[found]):
			shown[n] = shown[found]
		case len(shown[n]) > 0:
		default:
			for i := range steps[n] {
				shown[n] = append(shown[n], i)
			}
		}
	}
	return shown, true
}

// match reports whether the change is of the row that is asked for.
func (f *finder) match(c *dfs.Change) bool {
	if c.Table == nil || !strings.EqualFold(c.Table.Schema, f.schema) || !strings.EqualFold(c.Table.Name, f.table) {
		return false
	}
	if len(f.q.Key) == 0 {
		return true
	}
	for _, r := range [2]dfs.Row{c.Before, c.After} {
		if len(c.Table.Key) != len(f.q.Key) || len(r) < len(c.Table.Columns) {
			continue
		}
		same := true
		for k, i := range c.Table.Key {
			same = same && r[i].Kind() != dfs.Absent && r[i].String() == f.q.Key[k]
		}
		if same {
			return true
		}
	}
	return false
}

func (f *finder) traced(ctx context.Context, e *entry, i int, steps [][]dfs.Change, shown [][]int) Traced {
	t := &e.txs[i]
	out := Traced{Pipeline: e.pipeline, Seq: t.seq, ID: t.id, Position: t.pos, Read: e.read.UTC(), At: e.at.UTC(), Part: t.more, Snapshot: t.snapshot,
		Error: e.err, Skipped: e.err == skippedText, Parked: t.parked != "" && e.err == "", Steps: []TraceStep{}, Statements: []string{}}
	if !t.committed.IsZero() {
		at := t.committed.UTC()
		out.Committed = &at
	}
	if out.Parked {
		out.Error, steps = t.parked, steps[:min(len(steps), 1)]
	}
	for n := range steps {
		s := TraceStep{Name: e.names[n], Same: e.steps[n].same, Changes: []TracedChange{}}
		if !s.Same {
			for _, k := range shown[n][:min(len(shown[n]), mostChanges)] {
				s.Changes = append(s.Changes, tracedChange(&steps[n][k]))
			}
			s.Others = len(steps[n]) - len(s.Changes)
		}
		out.Steps = append(out.Steps, s)
	}
	end := len(steps) - 1
	if f.j.opts.Explain == nil || end < 0 || !e.whole || out.Skipped || out.Parked {
		return out
	}
	tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: t.seq, Pos: dfs.Position(t.pos)}, ID: t.id, Committed: t.committed, Snapshot: t.snapshot}
	for _, k := range shown[end][:min(len(shown[end]), mostChanges)] {
		tx.Changes = append(tx.Changes, steps[end][k])
	}
	if len(tx.Changes) == 0 {
		return out
	}
	f.j.explaining.Lock()
	defer f.j.explaining.Unlock()
	list, err := f.j.opts.Explain(ctx, e.pipeline, tx)
	if err != nil {
		list = append(list, "-- "+strings.ReplaceAll(err.Error(), "\n", "\n-- "))
	}
	for _, s := range list {
		out.Statements = append(out.Statements, clip(s, 16*mostText))
	}
	return out
}

func tracedChange(c *dfs.Change) TracedChange {
	out := TracedChange{Op: c.Op.String(), Table: c.Table.String(), Query: clip(printable(c.Query), mostText), Columns: []TracedColumn{}}
	if c.Table == nil || c.Op == dfs.DDL {
		return out
	}
	for i := range c.Table.Columns {
		col := TracedColumn{Name: c.Table.Columns[i].Name, Key: slices.Contains(c.Table.Key, i)}
		if i < len(c.Before) {
			col.Before = tracedValue(&c.Table.Columns[i], c.Before[i])
		}
		if i < len(c.After) {
			col.After = tracedValue(&c.Table.Columns[i], c.After[i])
		}
		out.Columns = append(out.Columns, col)
	}
	return out
}

func tracedValue(c *dfs.Column, v dfs.Value) *TracedValue {
	text := v.String()
	switch {
	case v.Kind() == dfs.Absent:
		return nil
	case v.IsNull():
		return &TracedValue{"null", ""}
	case v.Kind() == dfs.String && text == maskedText && c.Type == "varchar(64)":
		return &TracedValue{"masked", text}
	case v.Kind() == dfs.Uint64 && len(c.Members) > 0:
		return &TracedValue{"text", clip(convert.Member(v.Uint(), c.Members, strings.HasPrefix(c.Type, "set")), mostText)}
	case v.Kind() == dfs.Bytes || !utf8.ValidString(text):
		return &TracedValue{"bytes", clip(fmt.Sprintf("%x", text[:min(len(text), mostText)]), mostText)}
	}
	return &TracedValue{"text", clip(text, mostText)}
}

// printable makes a text of a statement, which may be in another character set.
func printable(s string) string { return strings.ToValidUTF8(s, "�") }
