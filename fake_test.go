package dfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
)

var discard = slog.New(slog.DiscardHandler)

// A memLog is a source, a queue and a sink in memory. It fails at random: a
// failed Apply may or may not have been applied, like a commit whose reply is
// lost. What is in txs is committed and complete; parts wait for their end.
type memLog struct {
	mu     sync.Mutex
	cond   *sync.Cond
	base   Checkpoint // what Reset or Trim left
	txs    []Transaction
	parts  []Transaction
	rng    *rand.Rand
	fail   float64
	closed bool // no more will come
	owner  bool // it made the States, and Open wants the one of its place
	trim   bool // Trim forgets
	mutant string
	long   bool // Next always fills its batch
	resets int
}

func newLog(seed uint64, fail float64) *memLog {
	l := &memLog{rng: rand.New(rand.NewPCG(seed, seed)), fail: fail}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (l *memLog) flaky() bool { return l.rng.Float64() < l.fail }

func (l *memLog) Checkpoint(ctx context.Context) (Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flaky() {
		return Checkpoint{}, Transient(errors.New("checkpoint"))
	}
	if l.mutant != "keeps parts" {
		l.parts = nil
	}
	return l.last(), nil
}

func (l *memLog) last() Checkpoint { return l.at(len(l.txs)) }

// at is where a sink stands that was given the first n transactions.
func (l *memLog) at(n int) Checkpoint {
	if n == 0 {
		return l.base
	}
	c := l.txs[n-1].Checkpoint
	for i := n; c.State == "" && l.mutant != "forgets state"; i-- {
		if i == 0 {
			c.State = l.base.State
			break
		}
		c.State = l.txs[i-1].State
	}
	return c
}

func (l *memLog) Apply(_ context.Context, batch []*Transaction) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.last().Seq
	if n := len(l.parts); n > 0 {
		at = l.parts[n-1].Seq
	}
	if at != batch[0].Seq-1 && l.mutant != "no compare-and-set" {
		return ErrConflict
	}
	fail := l.flaky()
	if fail && l.mutant != "checkpoint apart" { // having applied none, some or all of it
		batch = batch[:l.rng.IntN(len(batch)+1)]
	}
	for i, tx := range batch {
		c := *tx
		c.Changes = slices.Clone(tx.Changes)
		if l.mutant == "skips one" && l.rng.IntN(500) == 0 {
			c.Changes = nil
		}
		if l.mutant == "commits parts" {
			c.More = false
		}
		if fail && l.mutant == "checkpoint apart" {
			c.Checkpoint, c.More = l.last(), false
		}
		l.parts = append(l.parts, c)
		if !c.More {
			l.txs = append(l.txs, l.parts...)
			l.parts = l.parts[:0]
		}
		*batch[i] = Transaction{ID: "not yours any more"}
	}
	l.cond.Broadcast()
	if fail {
		return Transient(errors.New("apply"))
	}
	return nil
}

// overlapping is a sink that has several batches on their way, and commits some of what
// they hold at a time.
type overlapping struct{ *memLog }

func (o overlapping) intN(n int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rng.IntN(n)
}

func (o overlapping) ApplyEach(ctx context.Context, next func() []*Transaction, done func(seq uint64) error) error {
	var way []*Transaction
	for {
		for len(way) == 0 || o.intN(3) > 0 {
			batch := next()
			if len(batch) == 0 {
				break
			}
			way = append(way, batch...)
		}
		if len(way) == 0 {
			return nil
		}
		n := 1 + o.intN(len(way))
		for way[n-1].More {
			n++
		}
		last := way[n-1].Seq
		if o.mutant == "done too soon" {
			if err := done(way[len(way)-1].Seq); err != nil {
				return err
			}
		}
		if err := o.Apply(ctx, way[:n]); err != nil {
			return err
		}
		if way = way[n:]; len(way) == 0 || o.intN(3) > 0 {
			if err := done(last); err != nil {
				return err
			}
		}
	}
}

func (l *memLog) Reset(_ context.Context, at Checkpoint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flaky() {
		return Transient(errors.New("reset"))
	}
	l.base, l.txs, l.parts = at, nil, nil
	l.resets++
	return nil
}

func (l *memLog) Open(_ context.Context, from Checkpoint) (Stream, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flaky() {
		return nil, Transient(errors.New("open"))
	}
	if from.Seq < l.base.Seq || from.Seq > l.last().Seq {
		return nil, fmt.Errorf("%w: asked for %d, have %d to %d", ErrGap, from.Seq, l.base.Seq, l.last().Seq)
	}
	if n := from.Seq - l.base.Seq; n > 0 && l.txs[n-1].More {
		return nil, fmt.Errorf("transaction %d is not the last part", from.Seq)
	}
	if want := l.at(int(from.Seq - l.base.Seq)).State; l.owner && from.State != want {
		return nil, fmt.Errorf("opened at %d with state %q, want %q", from.Seq, from.State, want)
	}
	return &memStream{l, from.Seq}, nil
}

func (l *memLog) Trim(_ context.Context, upTo Checkpoint) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.trim {
		return nil
	}
	for len(l.txs) > 0 && l.txs[0].Seq <= upTo.Seq {
		l.base, l.txs = l.at(1), l.txs[1:]
	}
	return nil
}

// append adds a transaction to a log that serves as a source.
func (l *memLog) append(tx Transaction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tx.Seq = l.last().Seq + 1
	tx.Pos = Position(fmt.Sprint(tx.Seq))
	l.txs = append(l.txs, tx)
	l.cond.Broadcast()
}

func (l *memLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.txs)
}

type memStream struct {
	l  *memLog
	at uint64
}

func (s *memStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	l := s.l
	defer context.AfterFunc(ctx, func() { l.mu.Lock(); l.cond.Broadcast(); l.mu.Unlock() })()
	l.mu.Lock()
	defer l.mu.Unlock()
	for s.at == l.last().Seq {
		if l.closed {
			return 0, io.EOF
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		l.cond.Wait()
	}
	if l.flaky() {
		return 0, Transient(errors.New("read"))
	}
	n := 0
	for ; n < len(batch) && s.at < l.last().Seq; n++ {
		if s.at < l.base.Seq {
			return 0, ErrGap
		}
		c := l.txs[s.at-l.base.Seq]
		c.Changes = slices.Clone(c.Changes)
		for i := range c.Changes {
			c.Changes[i].After = slices.Clone(c.Changes[i].After)
		}
		if s.at++; l.mutant == "repeats one" && l.rng.IntN(500) == 0 {
			s.at--
			c.Seq = 0
		}
		batch[n] = &c
		if !l.long && l.rng.IntN(20) == 0 {
			return n + 1, nil
		}
	}
	return n, nil
}

func (s *memStream) Close() error { return nil }

// An encoded source hands its transactions on encoded.
type encoded struct{ *memLog }

func (e encoded) Open(ctx context.Context, from Checkpoint) (Stream, error) {
	s, err := e.memLog.Open(ctx, from)
	return encodedStream{s}, err
}

type encodedStream struct{ Stream }

func (s encodedStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	n, err := s.Stream.Next(ctx, batch)
	for _, tx := range batch[:n] {
		tx.Encoded, tx.Changes = AppendChanges(nil, tx.Changes), nil
	}
	return n, err
}

func (encoded) Decode(_ context.Context, batch []*Transaction) (err error) {
	for _, tx := range batch {
		if tx.Encoded == nil {
			continue
		}
		if tx.Changes, err = ParseChanges(tx.Encoded); err != nil {
			return err
		}
		tx.Encoded = nil
	}
	return nil
}

var numbers = &Table{Schema: "test", Name: "numbers", Columns: []Column{{Name: "n", Type: "bigint"}}}

func insert(n int64) []Change {
	return []Change{{Op: Insert, Table: numbers, After: Row{IntValue(n)}}}
}

// stateAt is the State of a transaction of filled.
func stateAt(seq int, more bool) string {
	if more || seq%7 != 0 && seq%7 != 1 {
		return ""
	}
	return fmt.Sprint("state ", seq)
}

// filled returns a source of n transactions, some of them in parts.
func filled(seed uint64, n int, fail float64) *memLog {
	l := newLog(seed, 0)
	l.owner = true
	for i := 1; i <= n; i++ {
		more := i < n && l.rng.IntN(5) == 0
		l.append(Transaction{Checkpoint: Checkpoint{State: stateAt(i, more)}, ID: fmt.Sprint("t", i),
			More: more, Changes: insert(int64(i))})
	}
	l.fail = fail
	return l
}

// double rewrites in place, which would show a transaction processed twice.
var double = StageFunc(func(_ context.Context, batch []*Transaction) error {
	for _, tx := range batch {
		for i := range tx.Changes {
			r := tx.Changes[i].After
			r[0] = IntValue(2 * r[0].Int())
		}
	}
	return nil
})

// verify says how dst differs from n transactions doubled.
func (l *memLog) verify(n int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := l.last().Seq; got != uint64(n) {
		return fmt.Errorf("applied up to %d, want %d", got, n)
	}
	if len(l.txs) != n {
		return fmt.Errorf("applied %d transactions, want %d", len(l.txs), n)
	}
	for i, tx := range l.txs {
		if want := (Checkpoint{uint64(i + 1), Position(fmt.Sprint(i + 1)), stateAt(i+1, tx.More)}); tx.Checkpoint != want {
			return fmt.Errorf("transaction %d has checkpoint %v", i+1, tx.Checkpoint)
		}
		if len(tx.Changes) != 1 {
			return fmt.Errorf("transaction %d has %d changes", i+1, len(tx.Changes))
		}
		if got, want := tx.Changes[0].After[0].Int(), int64(2*(i+1)); got != want {
			return fmt.Errorf("transaction %d holds %d, want %d", i+1, got, want)
		}
	}
	return nil
}
