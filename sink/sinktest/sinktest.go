// Package sinktest checks that a sink keeps the contract of [dfs.Sink]: whole
// transactions, in order, exactly once, with one writer at a time. Each
// implementation should pass [Run].
package sinktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A Target is an empty place that sinks write to. It has the table that Table
// describes, without rows, unless Rows is nil.
type Target struct {
	// Open opens a sink on the target. The suite calls it several times, for a
	// sink that is opened anew and for a second writer, and closes what has a
	// Close method.
	Open func(tb testing.TB) dfs.Sink

	// Rows returns what a reader of the target sees of the table, in order of
	// ID. If it is nil, only checkpoints are checked.
	Rows func(tb testing.TB) []Row
}

// A Row is a row of the suite's table.
type Row struct {
	ID   int64
	Name string
	N    int64
}

// SQL creates the suite's table, but for its schema's name.
const SQL = "items (id int NOT NULL PRIMARY KEY, name varchar(40) NOT NULL, n int NOT NULL)"

// Table describes the suite's table "items" in the given schema.
func Table(schema string) *dfs.Table {
	return &dfs.Table{Schema: schema, Name: "items", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"},
		{Name: "name", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_general_ci"},
		{Name: "n", Type: "int"},
	}}
}

// suite is one target under test.
type suite struct {
	*testing.T
	Target
	table *dfs.Table
}

// Run checks the sinks of a target. It calls open for a fresh one in each test;
// schema is what Table is to be called with.
func Run(t *testing.T, schema string, open func(t *testing.T) Target) {
	for name, test := range map[string]func(*suite){
		"a new target stands at the start":               (*suite).start,
		"rows and checkpoint arrive together":            (*suite).together,
		"an empty transaction moves the checkpoint":      (*suite).empty,
		"a sink opened anew stands where it stood":       (*suite).reopen,
		"state is stored with the position":              (*suite).state,
		"a gap or a repeat is refused":                   (*suite).gap,
		"changes of one row keep their order":            (*suite).hot,
		"parts are unseen until the last":                (*suite).parts,
		"parts without an end are dropped":               (*suite).dropped,
		"the second writer takes over from the first":    (*suite).takeover,
		"of two that fight each transaction lands once":  (*suite).fight,
		"what an interrupted Apply leaves is a prefix":   (*suite).prefix,
		"what is told as done of batches in a row is":    (*suite).overlap,
		"a batch of thousands is applied":                (*suite).large,
		"an ended context is an error, and nothing else": (*suite).ended,
	} {
		t.Run(name, func(t *testing.T) {
			test(&suite{t, open(t), Table(schema)})
		})
	}
}

func (s *suite) open() dfs.Sink {
	s.Helper()
	k := s.Open(s.T)
	if c, ok := k.(io.Closer); ok {
		s.Cleanup(func() { c.Close() })
	}
	return k
}

func (s *suite) row(id int64, name string, n int64) dfs.Row {
	return dfs.Row{dfs.IntValue(id), dfs.StringValue(name), dfs.IntValue(n)}
}

func (s *suite) insert(id int64, name string, n int64) dfs.Change {
	return dfs.Change{Op: dfs.Insert, Table: s.table, After: s.row(id, name, n)}
}

func (s *suite) update(id int64, name string, n, to int64) dfs.Change {
	return dfs.Change{Op: dfs.Update, Table: s.table, Before: s.row(id, name, n), After: s.row(id, name, to)}
}

func (s *suite) delete(id int64, name string, n int64) dfs.Change {
	return dfs.Change{Op: dfs.Delete, Table: s.table, Before: s.row(id, name, n)}
}

func position(seq uint64) dfs.Position {
	if seq == 0 {
		return ""
	}
	return dfs.Position(fmt.Sprintf("it's \\ %d", seq))
}

func tx(seq uint64, changes ...dfs.Change) *dfs.Transaction {
	return &dfs.Transaction{
		Checkpoint: dfs.Checkpoint{Seq: seq, Pos: position(seq)}, ID: fmt.Sprintf("id %d", seq),
		Committed: time.Unix(1.8e9, 0), Changes: changes,
	}
}

func part(seq uint64, changes ...dfs.Change) *dfs.Transaction {
	t := tx(seq, changes...)
	t.More = true
	return t
}

func (s *suite) apply(k dfs.Sink, batch ...*dfs.Transaction) {
	s.Helper()
	if err := k.Apply(s.Context(), batch); err != nil {
		s.Fatalf("Apply from %d: %v", batch[0].Seq, err)
	}
}

// stands checks where the sink says that it stands.
func (s *suite) stands(k dfs.Sink, seq uint64) {
	s.Helper()
	at, err := k.Checkpoint(s.Context())
	if err != nil {
		s.Fatalf("Checkpoint: %v", err)
	}
	if want := (dfs.Checkpoint{Seq: seq, Pos: position(seq)}); at != want {
		s.Fatalf("Checkpoint is %+v, want %+v", at, want)
	}
}

// holds checks what a reader sees.
func (s *suite) holds(want ...Row) {
	s.Helper()
	if s.Rows == nil {
		return
	}
	got := s.Rows(s.T)
	if len(got) != len(want) {
		s.Fatalf("%d rows, want %d: %.300v", len(got), len(want), got)
	}
	for i := range got {
		if got[i] != want[i] {
			s.Fatalf("row %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func (s *suite) start() {
	k := s.open()
	s.stands(k, 0)
	s.stands(k, 0)
	s.holds()
	s.apply(k) // an empty batch is nothing
	s.stands(k, 0)
}

func (s *suite) together() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1), s.insert(2, "b", 2)), tx(2, s.update(1, "a", 1, 5)))
	s.holds(Row{1, "a", 5}, Row{2, "b", 2})
	s.stands(k, 2)
	s.apply(k, tx(3, s.delete(2, "b", 2)))
	s.apply(k, tx(4, s.insert(3, "c", 3)))
	s.holds(Row{1, "a", 5}, Row{3, "c", 3})
	s.stands(k, 4)
}

func (s *suite) empty() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1))
	s.stands(k, 1)
	s.apply(k, tx(2), tx(3))
	s.stands(k, 3)
	s.holds()
}

func (s *suite) reopen() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1)))
	if c, ok := k.(io.Closer); ok {
		if err := c.Close(); err != nil {
			s.Fatal(err)
		}
	}
	k = s.open()
	s.stands(k, 1)
	s.apply(k, tx(2, s.insert(2, "b", 2)))
	s.stands(k, 2)
	s.holds(Row{1, "a", 1}, Row{2, "b", 2})
}

// stateful gives tx a State: all bytes, and n to tell one from another.
func stateful(tx *dfs.Transaction, n byte) *dfs.Transaction {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(i) + n
	}
	tx.State = string(b)
	return tx
}

// state checks that the latest State is kept by transactions without one, and
// that it never comes apart from the position.
func (s *suite) state() {
	k := s.open()
	at := func(want *dfs.Transaction, state string) {
		s.Helper()
		want.State = state
		got, err := k.Checkpoint(s.Context())
		if err != nil {
			s.Fatalf("Checkpoint: %v", err)
		}
		if got != want.Checkpoint {
			s.Fatalf("Checkpoint is %+v, want %+v", got, want.Checkpoint)
		}
	}
	s.stands(k, 0)
	one, two, three := stateful(tx(1), 1).State, stateful(tx(1), 2).State, stateful(tx(1), 3).State
	s.apply(k, stateful(tx(1, s.insert(1, "a", 1)), 1))
	at(tx(1), one)
	s.apply(k, tx(2, s.insert(2, "b", 2)))
	at(tx(2), one)
	// Only the last part has it, and it waits for the end like all of the parts.
	s.apply(k, stateful(tx(3), 2), tx(4), part(5, s.insert(3, "c", 3)))
	s.apply(k, part(6, s.insert(4, "d", 4)))
	at(tx(4), two)
	s.apply(k, part(5, s.insert(3, "c", 3)))
	s.apply(k, stateful(tx(6, s.insert(4, "d", 4)), 3), tx(7))
	at(tx(7), three)
	if err := k.Apply(s.Context(), []*dfs.Transaction{stateful(tx(9), 1)}); !errors.Is(err, dfs.ErrConflict) {
		s.Fatalf("Apply of transaction 9 after 7: %v, want ErrConflict", err)
	}
	at(tx(7), three)
	if c, ok := k.(io.Closer); ok {
		if err := c.Close(); err != nil {
			s.Fatal(err)
		}
	}
	k = s.open()
	at(tx(7), three)
	s.apply(k, tx(8))
	at(tx(8), three)
	s.holds(Row{1, "a", 1}, Row{2, "b", 2}, Row{3, "c", 3}, Row{4, "d", 4})
}

func (s *suite) gap() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1)))
	for _, seq := range []uint64{1, 3} {
		err := k.Apply(s.Context(), []*dfs.Transaction{tx(seq, s.insert(9, "x", 9))})
		if !errors.Is(err, dfs.ErrConflict) {
			s.Fatalf("Apply of transaction %d after 1: %v, want ErrConflict", seq, err)
		}
		s.stands(k, 1)
		s.holds(Row{1, "a", 1})
	}
}

func (s *suite) hot() {
	k := s.open()
	s.stands(k, 0)
	batch := []*dfs.Transaction{tx(1, s.insert(1, "a", 0))}
	for i := int64(0); i < 100; i++ {
		batch = append(batch, tx(uint64(i)+2, s.update(1, "a", i, i+1)))
	}
	batch = append(batch, tx(102, s.delete(1, "a", 100), s.insert(1, "b", 0)), tx(103, s.update(1, "b", 0, 7)),
		tx(104, s.delete(1, "b", 7)), tx(105, s.insert(1, "c", 1)))
	s.apply(k, batch...)
	s.holds(Row{1, "c", 1})
	s.stands(k, 105)
}

func (s *suite) parts() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1)), part(2, s.insert(2, "b", 2)))
	s.holds(Row{1, "a", 1})
	s.apply(k, part(3, s.insert(3, "c", 3)), part(4, s.update(2, "b", 2, 20)))
	s.holds(Row{1, "a", 1})
	s.apply(k, tx(5, s.delete(1, "a", 1)), tx(6, s.insert(4, "d", 4)))
	s.holds(Row{2, "b", 20}, Row{3, "c", 3}, Row{4, "d", 4})
	s.stands(k, 6)
}

func (s *suite) dropped() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1)), part(2, s.insert(2, "b", 2)))
	s.apply(k, part(3, s.delete(1, "a", 1)))
	s.stands(k, 1)
	s.holds(Row{1, "a", 1})
	s.apply(k, part(2, s.insert(2, "b", 2)))
	k = s.open() // without the end of the parts, nor of the first sink
	s.stands(k, 1)
	s.apply(k, part(2, s.insert(2, "b", 2)), tx(3, s.delete(1, "a", 1)))
	s.holds(Row{2, "b", 2})
	s.stands(k, 3)
}

func (s *suite) takeover() {
	first := s.open()
	s.stands(first, 0)
	s.apply(first, tx(1, s.insert(1, "a", 1)))
	second := s.open()
	s.stands(second, 1)
	err := first.Apply(s.Context(), []*dfs.Transaction{tx(2, s.insert(9, "x", 9))})
	if !errors.Is(err, dfs.ErrConflict) {
		s.Fatalf("Apply by the first writer: %v, want ErrConflict", err)
	}
	s.holds(Row{1, "a", 1})
	s.apply(second, tx(2, s.insert(2, "b", 2)))
	s.stands(second, 2)
	s.holds(Row{1, "a", 1}, Row{2, "b", 2})
}

func (s *suite) fight() {
	const last = 120
	var wg sync.WaitGroup
	ctx := s.Context()
	for range 2 {
		wg.Go(func() {
			for {
				k := s.Open(s.T)
				done := s.writer(ctx, k, last)
				if c, ok := k.(io.Closer); ok {
					c.Close()
				}
				if done {
					return
				}
			}
		})
	}
	wg.Wait()
	s.counted(last)
}

// writer applies until the last transaction, and reports whether it is done; it
// is not if another writer has taken its place.
func (s *suite) writer(ctx context.Context, k dfs.Sink, last uint64) bool {
	for {
		at, err := k.Checkpoint(ctx)
		for err == nil {
			if at.Seq == last {
				return true
			}
			err = k.Apply(ctx, []*dfs.Transaction{s.count(at.Seq + 1)})
			at.Seq++
		}
		switch {
		case errors.Is(err, dfs.ErrConflict):
			return false
		case errors.Is(err, dfs.ErrTransient):
		default:
			s.Errorf("of two writers one failed: %v", err)
			return true
		}
	}
}

// count returns transaction seq of a series in which none can be applied twice
// or left out without a trace: each adds one to row 0, and inserts a row.
func (s *suite) count(seq uint64) *dfs.Transaction {
	n := int64(seq)
	first := s.update(0, "count", n-1, n)
	if seq == 1 {
		first = s.insert(0, "count", 1)
	}
	return tx(seq, first, s.insert(n, "step", n))
}

// counted checks that the series was applied up to last.
func (s *suite) counted(last uint64) {
	s.Helper()
	k := s.open()
	s.stands(k, last)
	if last == 0 {
		s.holds()
		return
	}
	want := []Row{{0, "count", int64(last)}}
	for n := int64(1); n <= int64(last); n++ {
		want = append(want, Row{n, "step", n})
	}
	s.holds(want...)
}

func (s *suite) prefix() {
	rng := rand.New(rand.NewPCG(testseed.New(s), 0))
	patience := time.Microsecond
	k := s.open()
	s.stands(k, 0)
	at, rounds := uint64(0), 0
	defer func() { s.Logf("%d transactions in %d rounds", at, rounds) }()
	for ; at < 1000; rounds++ {
		n := 1 + rng.IntN(150)
		var batch []*dfs.Transaction
		for i := range n {
			batch = append(batch, s.count(at+1+uint64(i)))
		}
		ctx, cancel := context.WithTimeout(s.Context(), time.Duration(rng.IntN(20000))*patience)
		err := k.Apply(ctx, batch)
		cancel()
		got, e := k.Checkpoint(s.Context())
		if e != nil {
			s.Fatalf("Checkpoint after %v: %v", err, e)
		}
		if got.Seq < at || got.Seq > at+uint64(n) || err == nil && got.Seq != at+uint64(n) || got.Pos != position(got.Seq) {
			s.Fatalf("Apply of %d to %d returned %v and left the checkpoint %v", at+1, at+uint64(n), err, got)
		}
		if patience *= 2; got.Seq > at {
			patience = time.Microsecond
		}
		at = got.Seq
	}
	s.counted(at)
}

// overlap is prefix for a sink that takes batches before it is done with those before them.
func (s *suite) overlap() {
	sink := s.open()
	s.stands(sink, 0)
	k, ok := sink.(dfs.Overlapper)
	if !ok {
		return // then Apply is all it has
	}
	rng := rand.New(rand.NewPCG(testseed.New(s), 0))
	patience := time.Microsecond
	at, rounds := uint64(0), 0
	defer func() { s.Logf("%d transactions in %d rounds", at, rounds) }()
	for ; at < 1000; rounds++ {
		given, told, batches := at, at, 1+rng.IntN(8)
		ctx, cancel := context.WithTimeout(s.Context(), time.Duration(rng.IntN(40000))*patience)
		err := k.ApplyEach(ctx, func() (batch []*dfs.Transaction) {
			if batches--; batches < 0 {
				return nil
			}
			for range 1 + rng.IntN(100) {
				given++
				batch = append(batch, s.count(given))
			}
			return batch
		}, func(seq uint64) error {
			if seq <= told || seq > given {
				s.Errorf("%d is told as done after %d, and %d was given", seq, told, given)
			}
			told = seq
			return nil
		})
		cancel()
		got, e := k.Checkpoint(s.Context())
		if e != nil {
			s.Fatalf("Checkpoint after %v: %v", err, e)
		}
		if got.Seq < told || got.Seq > given || err == nil && (got.Seq != given || told != given) || got.Pos != position(got.Seq) {
			s.Fatalf("ApplyEach of %d to %d returned %v, told %d as done, and left the checkpoint %v", at+1, given, err, told, got)
		}
		if patience *= 2; got.Seq > at {
			patience = time.Microsecond
		}
		at = got.Seq
	}
	s.counted(at)
}

func (s *suite) large() {
	k := s.open()
	s.stands(k, 0)
	var batch []*dfs.Transaction
	for seq := uint64(1); seq <= 5000; seq++ {
		batch = append(batch, s.count(seq))
	}
	s.apply(k, batch...)
	s.counted(5000)
}

func (s *suite) ended() {
	k := s.open()
	s.stands(k, 0)
	s.apply(k, tx(1, s.insert(1, "a", 1)))
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if err := k.Apply(ctx, []*dfs.Transaction{tx(2, s.insert(2, "b", 2))}); err == nil {
		s.Fatal("Apply under an ended context succeeded")
	}
	s.stands(k, 1)
	s.apply(k, tx(2, s.insert(2, "b", 2)))
	s.holds(Row{1, "a", 1}, Row{2, "b", 2})
}
