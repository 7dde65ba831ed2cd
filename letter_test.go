package dfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A memLetters is a store in memory. What it gives and takes are copies. It fails
// at random, before or after it has written.
type memLetters struct {
	mu     sync.Mutex
	book   LetterBook
	parts  map[uint64][][]Change
	edited map[uint64][]Change
	most   int // letters that are not settled; 0: any number
	dies   *death
	mutant string
}

func newMemLetters() *memLetters {
	return &memLetters{book: LetterBook{Next: 1}, parts: map[uint64][][]Change{}, edited: map[uint64][]Change{}}
}

// A death ends a life after some steps: from then on nothing is done any more.
type death struct {
	mu    sync.Mutex
	steps int // until it; negative: never
	rng   *rand.Rand
	flaky float64
}

var errDead = errors.New("killed")

// step reports whether the step is done, and what its caller sees.
func (d *death) step() (done bool, err error) {
	if d == nil {
		return true, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.steps == 0:
		return false, errDead
	case d.steps > 0:
		if d.steps--; d.steps == 0 { // killed in the middle
			return d.rng.IntN(2) == 0, errDead
		}
	}
	if d.rng.Float64() < d.flaky {
		return d.rng.IntN(2) == 0, Transient(errors.New("flaky"))
	}
	return true, nil
}

func (m *memLetters) Book(context.Context) (*LetterBook, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if done, err := m.dies.step(); !done || err != nil {
		return nil, err
	}
	b := m.book
	b.Skip = slices.Clone(b.Skip)
	b.Letters = nil
	for _, l := range m.book.Letters {
		c := *l
		b.Letters = append(b.Letters, &c)
	}
	return &b, nil
}

func (m *memLetters) find(n uint64) int {
	return slices.IndexFunc(m.book.Letters, func(l *Letter) bool { return l.Number == n })
}

func (m *memLetters) Letter(_ context.Context, n uint64, _ int) (*Letter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.find(n)
	if i < 0 {
		return nil, ErrNoLetter
	}
	l := *m.book.Letters[i]
	l.Changes = cloneChanges(slices.Concat(m.parts[n]...))
	l.Edited = cloneChanges(m.edited[n])
	return &l, nil
}

func cloneChanges(list []Change) []Change {
	list = slices.Clone(list)
	for i := range list {
		list[i].Before, list[i].After = slices.Clone(list[i].Before), slices.Clone(list[i].After)
	}
	return list
}

func (m *memLetters) Write(_ context.Context, w *LetterWrite) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	done, err := m.dies.step()
	if !done {
		return err
	}
	switch m.mutant {
	case "forgets attempts":
		for _, l := range w.Put {
			if l.State == LetterWanted {
				l.At = 0
			}
		}
	case "loses letters":
		w.Put = slices.DeleteFunc(w.Put, func(l *Letter) bool { return l.Revision == 0 && l.Number%7 == 3 })
	case "forgets order":
		for _, l := range w.Put {
			if l.Revision == 0 && l.Number%5 == 2 {
				l.Changes = slices.Clone(l.Changes)
				slices.Reverse(l.Changes)
			}
		}
	}
	for _, l := range w.Put {
		i := m.find(l.Number)
		if l.Revision == 0 && i >= 0 || l.Revision > 0 && (i < 0 || m.book.Letters[i].Revision != l.Revision) {
			return ErrLetterChanged
		}
	}
	unsettled := 0
	for _, l := range append(slices.Clone(m.book.Letters), w.Put...) {
		if l.Unsettled() && (l.Revision > 0 || l.Parts == 1) {
			unsettled++
		}
	}
	if m.most > 0 && unsettled > m.most && slices.ContainsFunc(w.Put, func(l *Letter) bool { return l.Revision == 0 }) {
		return ErrLettersFull
	}
	for _, l := range w.Put {
		l.Revision++
		c := *l
		c.Changes, c.Edited = nil, nil
		if l.Changes != nil {
			m.parts[l.Number] = append(m.parts[l.Number][:l.Parts-1], cloneChanges(l.Changes))
		}
		if l.Edited != nil {
			m.edited[l.Number] = cloneChanges(l.Edited)
		}
		if i := m.find(l.Number); i >= 0 {
			m.book.Letters[i] = &c
		} else {
			m.book.Letters = append(m.book.Letters, &c)
		}
		m.book.Next = max(m.book.Next, l.Number+1)
	}
	for _, n := range w.Delete {
		m.book.Letters = slices.DeleteFunc(m.book.Letters, func(l *Letter) bool { return l.Number == n })
		delete(m.parts, n)
		delete(m.edited, n)
	}
	m.book.Skip = slices.DeleteFunc(append(m.book.Skip, w.Skip...), func(s string) bool { return slices.Contains(w.Unskip, s) })
	if w.Reached > 0 {
		m.book.Reached = w.Reached
	}
	if w.Keys != nil {
		m.book.Keys = w.Keys
	}
	return err
}

// numbers returns those of letters in a state.
func (m *memLetters) numbers(state LetterState) (list []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.book.Letters {
		if l.State == state {
			list = append(list, l.Number)
		}
	}
	return list
}

// A shop is a database of people, each with an address of its own, and of their
// orders.
type shop struct {
	people map[int64]string // address
	orders map[int64]int64  // person
}

func newShop() *shop { return &shop{map[int64]string{}, map[int64]int64{}} }

var (
	peopleTable = &Table{Schema: "shop", Name: "people", Key: []int{0}, Columns: []Column{{Name: "id", Type: "bigint"},
		{Name: "mail", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci"}}}
	ordersTable = &Table{Schema: "shop", Name: "orders", Key: []int{0}, Columns: []Column{{Name: "id", Type: "bigint"}, {Name: "person", Type: "bigint"}}}
	shopKeys    = []TableKeys{
		{Schema: "shop", Name: "people", Unique: []UniqueKey{{Columns: []string{"mail"}}}},
		{Schema: "shop", Name: "orders", References: []KeyReference{{[]string{"person"}, "shop", "people", []string{"id"}}}},
	}
)

func person(id int64, mail string) Row { return Row{IntValue(id), StringValue(mail)} }
func ordered(id, by int64) Row         { return Row{IntValue(id), IntValue(by)} }

// apply does one change, or says what forbids it.
func (s *shop) apply(c *Change) error {
	id := func(r Row) int64 { return r[0].Int() }
	if c.Table == numbers {
		return nil
	}
	if c.Table.Name == "orders" {
		if c.Before != nil {
			if by, ok := s.orders[id(c.Before)]; !ok || by != c.Before[1].Int() {
				return fmt.Errorf("order %d is not there", id(c.Before))
			}
			delete(s.orders, id(c.Before))
		}
		if c.After != nil {
			if _, ok := s.orders[id(c.After)]; ok {
				return fmt.Errorf("order %d is there", id(c.After))
			}
			if _, ok := s.people[c.After[1].Int()]; !ok {
				return fmt.Errorf("order %d is of nobody", id(c.After))
			}
			s.orders[id(c.After)] = c.After[1].Int()
		}
		return nil
	}
	if c.Before != nil {
		if mail, ok := s.people[id(c.Before)]; !ok || mail != c.Before[1].Text() {
			return fmt.Errorf("person %d is not there", id(c.Before))
		}
		delete(s.people, id(c.Before))
	}
	if c.After != nil {
		if _, ok := s.people[id(c.After)]; ok {
			return fmt.Errorf("person %d is there", id(c.After))
		}
		for _, mail := range s.people {
			if mail == c.After[1].Text() {
				return fmt.Errorf("mail %s is taken", mail)
			}
		}
		s.people[id(c.After)] = c.After[1].Text()
	}
	for _, by := range s.orders {
		if _, ok := s.people[by]; !ok {
			return fmt.Errorf("person %d has orders", by)
		}
	}
	return nil
}

func (s *shop) clone() *shop { return &shop{maps.Clone(s.people), maps.Clone(s.orders)} }

// change makes a random change that is possible, and does it.
func (s *shop) change(rng *rand.Rand) Change {
	for {
		p, o := int64(rng.IntN(8)), int64(rng.IntN(12))
		mail := fmt.Sprint("m", rng.IntN(10))
		var c Change
		switch rng.IntN(6) {
		case 0:
			c = Change{Op: Insert, Table: peopleTable, After: person(p, mail)}
		case 1:
			c = Change{Op: Update, Table: peopleTable, Before: person(p, s.people[p]), After: person(p, mail)}
		case 2:
			c = Change{Op: Delete, Table: peopleTable, Before: person(p, s.people[p])}
		case 3:
			c = Change{Op: Insert, Table: ordersTable, After: ordered(o, p)}
		case 4:
			c = Change{Op: Update, Table: ordersTable, Before: ordered(o, s.orders[o]), After: ordered(o, p)}
		case 5:
			c = Change{Op: Delete, Table: ordersTable, Before: ordered(o, s.orders[o])}
		}
		try := s.clone()
		if try.apply(&c) == nil {
			*s = *try
			return c
		}
	}
}

// A keyed source knows keys.
type keyedSource struct {
	*memLog
	keys []TableKeys
}

func (s keyedSource) Keys(context.Context) ([]TableKeys, error) { return s.keys, nil }

// bare is a source whose transactions the pipeline numbers.
type bare struct{ keyedSource }

func (bare) Unnumbered() {}

func (b bare) Open(ctx context.Context, from Checkpoint) (Stream, error) {
	b.mu.Lock()
	seq := uint64(0)
	if from.Pos != "" {
		_, _ = fmt.Sscan(string(from.Pos), &seq)
	}
	b.mu.Unlock()
	s, err := b.memLog.Open(ctx, Checkpoint{seq, from.Pos, from.State})
	return bareStream{s}, err
}

type bareStream struct{ Stream }

func (s bareStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	n, err := s.Stream.Next(ctx, batch)
	for _, tx := range batch[:n] {
		tx.Seq = 0
	}
	return n, err
}

// A shopSink is a database that refuses what cannot be, and rows with some ids.
type shopSink struct {
	mu    sync.Mutex
	at    Checkpoint
	shop  *shop
	open  *shop  // with the parts of a transaction
	seq   uint64 // of the last part
	bad   map[int64]bool
	dies  *death
	calls int
}

func (s *shopSink) Checkpoint(context.Context) (Checkpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.seq = nil, s.at.Seq
	_, err := s.dies.step()
	return s.at, err
}

func (s *shopSink) Apply(_ context.Context, batch []*Transaction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if batch[0].Seq != s.seq+1 {
		return ErrConflict
	}
	for _, tx := range batch {
		if s.open == nil {
			s.open = s.shop.clone()
		}
		for i := range tx.Changes {
			c := &tx.Changes[i]
			for _, r := range [2]Row{c.Before, c.After} {
				if r != nil && s.bad[r[0].Int()] {
					return fmt.Errorf("%s %d is refused", c.Table.Name, r[0].Int())
				}
			}
			if err := s.open.apply(c); err != nil {
				return err
			}
		}
		if s.seq = tx.Seq; tx.More {
			continue
		}
		done, err := s.dies.step()
		if done {
			s.shop, s.at = s.open, Checkpoint{tx.Seq, tx.Pos, ""}
		}
		if s.open = nil; err != nil {
			return err
		}
	}
	return nil
}

// trade fills a log with random transactions, and returns what comes of it.
func trade(log *memLog, n int) *shop {
	s := newShop()
	copied := false
	for i := 1; i <= n; i++ {
		var list []Change
		for range 1 + log.rng.IntN(3) {
			list = append(list, s.change(log.rng))
		}
		more := i < n && log.rng.IntN(6) == 0
		log.append(Transaction{ID: fmt.Sprint("t", i), More: more, Snapshot: copied, Changes: list})
		if !more {
			copied = log.rng.IntN(3) == 0
		}
	}
	return s
}

// TestLettersLeadToTheSourcesState is the proof of exactly once: random
// transactions of which the target refuses some rows, in lives that end at any
// step; then the cause is mended and all letters are applied.
func TestLettersLeadToTheSourcesState(t *testing.T) {
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) { require.NoError(t, lettersRun(t, seed, "")) })
	}
}

func lettersRun(t *testing.T, seed uint64, mutant string) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	log := newLog(seed, 0)
	want := trade(log, 60)
	log.closed = rng.IntN(2) == 0
	store := newMemLetters()
	store.mutant = mutant
	keys := shopKeys
	if mutant == "no keys" {
		keys = nil
	}
	sink := &shopSink{shop: newShop(), bad: map[int64]bool{int64(rng.IntN(8)): true, int64(rng.IntN(12)): true}}
	queue := newLog(seed+1, 0)
	numbered := rng.IntN(2) == 0
	queued := rng.IntN(2) == 0
	life := func(steps int, work func(p *Pipeline, done chan error) error) error {
		d := &death{steps: steps, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), flaky: 0.02 * float64(rng.IntN(3))}
		store.dies, sink.dies = d, d
		sink.open, sink.seq = nil, sink.at.Seq
		p := &Pipeline{Source: keyedSource{log, keys}, Sink: sink, Letters: store, MaxBatch: 1 + rng.IntN(20), Logger: discard}
		if !numbered {
			p.Source = bare{keyedSource{log, keys}}
			if rng.IntN(2) == 0 {
				p.Source = shifting{bare{keyedSource{log, keys}}}
			}
		}
		if queued {
			p.Queue = queue
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		err := work(p, done)
		cancel()
		<-done
		d.mu.Lock()
		d.steps = -1
		d.mu.Unlock()
		return err
	}
	dead := func(err error) bool { return errors.Is(err, errDead) }
	for range rng.IntN(8) {
		err := life(1+rng.IntN(60), func(p *Pipeline, done chan error) error {
			if list := store.numbers(LetterParked); rng.IntN(2) == 0 && len(list) > 0 {
				synctest.Wait()
				_ = p.RetryLetters(t.Context(), list...)
			}
			return settled(p, done)
		})
		if err != nil && !dead(err) {
			return err
		}
	}
	// The cause is mended.
	sink.bad, log.closed = nil, false
	err := life(-1, func(p *Pipeline, done chan error) error {
		for range 30 {
			if err := settled(p, done); err != nil {
				return err
			}
			list := store.numbers(LetterParked)
			if len(list) == 0 && len(store.numbers(LetterWanted)) == 0 {
				break
			}
			if len(list) > 0 {
				if err := p.RetryLetters(t.Context(), list...); err != nil && !errors.Is(err, ErrTransient) {
					return err
				}
			}
		}
		if s := p.Stats(); len(store.numbers(LetterParked))+len(store.numbers(LetterWanted)) > 0 || s.Letters.Parked+s.Letters.Retrying > 0 {
			return fmt.Errorf("letters are left: %v, %v; %+v", store.numbers(LetterParked), store.numbers(LetterWanted), s.Letters)
		}
		s := p.Stats()
		if s.Apply.Received != s.Apply.Applied+s.Apply.Rejected {
			return fmt.Errorf("received %d, applied %d, rejected %d", s.Apply.Received, s.Apply.Applied, s.Apply.Rejected)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("seed %d: %w", seed, err)
	}
	if !maps.Equal(sink.shop.people, want.people) || !maps.Equal(sink.shop.orders, want.orders) {
		return fmt.Errorf("seed %d: got %v, want %v", seed, sink.shop, want)
	}
	return nil
}

// settled waits until the pipeline has nothing more to do, or has ended.
func settled(p *Pipeline, done chan error) error {
	for range 200 {
		synctest.Wait()
		select {
		case err := <-done:
			done <- err
			return err
		default:
		}
		s := p.Stats()
		if s.State == Running && s.Letters.Retrying == 0 && s.Apply.At.Seq == s.Apply.Read && s.Apply.Read >= s.Capture.At.Seq {
			return nil
		}
		if k, ok := p.Source.(keyedSource); ok && s.Letters.Retrying > 0 {
			k.append(Transaction{}) // letters ride on what comes
		}
		sleep()
	}
	return fmt.Errorf("the pipeline does not come to rest: %+v", p.Stats())
}

func sleep() { time.Sleep(500 * time.Millisecond) }

// Mutants of what the engine relies on, or of what it does, must be found.
func TestTheProofOfLettersFindsMutants(t *testing.T) {
	for _, mutant := range []string{"forgets attempts", "loses letters", "no keys", "forgets order"} {
		found := 0
		for seed := uint64(0); seed < 60 && found == 0; seed++ {
			synctest.Test(t, func(t *testing.T) {
				if lettersRun(t, seed, mutant) != nil {
					found++
				}
			})
		}
		require.NotZero(t, found, mutant)
	}
}

// shopped returns a pipeline from a log of an own person for each transaction.
func shopped(n int64) (*memLog, *memLetters, *shopSink, *Pipeline) {
	log, store, sink := newLog(1, 0), newMemLetters(), &shopSink{shop: newShop(), bad: map[int64]bool{}}
	for i := range n {
		log.append(Transaction{ID: fmt.Sprint("t", i+1), Changes: []Change{{Op: Insert, Table: peopleTable, After: person(i+1, fmt.Sprint("m", i+1))}}})
	}
	return log, store, sink, &Pipeline{Source: bare{keyedSource{log, shopKeys}}, Sink: sink, Letters: store, Logger: discard}
}

// running runs the pipeline until the test ends.
func running(t *testing.T, p *Pipeline) chan error {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	require.NoError(t, settled(p, done))
	return done
}

func TestALetterTellsWhatHappened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(10)
		sink.bad[4] = true
		log.append(Transaction{ID: "t11", Changes: []Change{{Op: Update, Table: peopleTable, Before: person(4, "m4"), After: person(4, "m5x")}}})
		log.append(Transaction{ID: "t12", Changes: []Change{{Op: Insert, Table: ordersTable, After: ordered(1, 4)}}})
		log.append(Transaction{ID: "t13", Changes: []Change{{Op: Insert, Table: ordersTable, After: ordered(2, 5)}}})
		log.append(Transaction{ID: "t14", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(20, "M4 ")}}}) // the same under its collation
		running(t, p)
		require.Equal(t, []uint64{1, 2, 3, 4}, store.numbers(LetterParked))
		s := p.Stats()
		require.Equal(t, 4, s.Letters.Parked)
		require.EqualValues(t, 4, s.Apply.RejectedTransactions)
		require.EqualValues(t, 4, s.Apply.Rejected)
		require.EqualValues(t, 10, s.Apply.Applied)
		require.EqualValues(t, 14, s.Apply.Received)
		require.EqualValues(t, 14, s.Apply.At.Seq)
		first, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Equal(t, "sink", first.Part)
		require.Equal(t, "people 4 is refused", first.Err)
		require.Equal(t, "t4", first.ID)
		require.Equal(t, []Change{{Op: Insert, Table: peopleTable, After: person(4, "m4")}}, first.Changes)
		second, err := store.Letter(t.Context(), 2, 0)
		require.NoError(t, err)
		require.Equal(t, []uint64{1}, second.After)
		require.Zero(t, second.Attempts)

		require.ErrorContains(t, p.RetryLetters(t.Context(), 2), "letter 2 (transaction 11, t11) waits for letter 1, which touches the same: retry that with it, or skip it first")
		require.ErrorContains(t, p.RetryLetters(t.Context()), "no letter is named")
		require.ErrorIs(t, p.RetryLetters(t.Context(), 99), ErrNoLetter)
		require.ErrorContains(t, p.PurgeLetters(t.Context(), 1), "is not settled")

		// It is refused again, and all wait again.
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2, 3, 4))
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1, 2, 3, 4}, store.numbers(LetterParked))
		first, err = store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Equal(t, 2, first.Attempts)

		// It is edited so that it passes.
		require.ErrorContains(t, p.EditLetter(t.Context(), 1, func([]Change) ([]Change, error) {
			return []Change{{Op: Insert, Table: peopleTable, After: Row{IntValue(1)}}}, nil
		}), "has 1 values for 2 columns")
		delete(sink.bad, 4)
		require.NoError(t, p.EditLetter(t.Context(), 1, func(c []Change) ([]Change, error) {
			c[0].After = person(4, "m4")
			return append(c, Change{Op: Insert, Table: peopleTable, After: person(44, "m44")}), nil
		}))
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2, 3))
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1, 2, 3}, store.numbers(LetterApplied))
		require.Equal(t, "m44", sink.shop.people[44])
		require.Equal(t, "m5x", sink.shop.people[4])
		require.EqualValues(t, 4, sink.shop.orders[1])
		require.NoError(t, p.SkipLetters(t.Context(), "a test", 4))
		require.Equal(t, []uint64{4}, store.numbers(LetterSkipped))
		require.ErrorContains(t, p.RetryLetters(t.Context(), 4), "is skipped, and cannot be applied again")
		require.NoError(t, p.PurgeLetters(t.Context(), 1, 4))
		require.Zero(t, p.Stats().Letters)
		s = p.Stats()
		require.Equal(t, s.Apply.Received, s.Apply.Applied+s.Apply.Rejected, "edited rows are received as they are")
	})
}

func TestALetterInPartsIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		for i := int64(10); i < 14; i++ {
			log.append(Transaction{ID: "big", More: i < 13, Changes: []Change{{Op: Insert, Table: peopleTable, After: person(i, fmt.Sprint("m", i))}}})
		}
		for i := int64(20); i < 23; i++ { // only its last part depends on that
			c := Change{Op: Insert, Table: peopleTable, After: person(i, fmt.Sprint("m", i))}
			if i == 22 {
				c = Change{Op: Delete, Table: peopleTable, Before: person(10, "m10")}
			}
			log.append(Transaction{ID: "later", More: i < 22, Changes: []Change{c}})
		}
		sink.bad[12] = true
		running(t, p)
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked))
		require.Len(t, sink.shop.people, 3)
		big, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Len(t, big.Changes, 4)
		require.Equal(t, 4, big.Parts)
		require.EqualValues(t, 7, big.Seq)
		later, err := store.Letter(t.Context(), 2, 0)
		require.NoError(t, err)
		require.Len(t, later.Changes, 3)
		require.Equal(t, []uint64{1}, later.After)
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2))
		require.NoError(t, settled(p, make(chan error)))
		require.Len(t, sink.shop.people, 3+4-1+2)
	})
}

func TestTooManyLettersStopThePipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store, sink, p := shopped(20)
		for i := range int64(20) {
			sink.bad[i+1] = i%3 == 0
		}
		store.most = 4
		err := p.Run(t.Context())
		require.ErrorIs(t, err, ErrLettersFull)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, "letters", e.Part)
		require.Len(t, store.numbers(LetterParked), 4)
		require.EqualValues(t, 12, sink.at.Seq, "all before the fifth are applied")
		store.most = 0
		running(t, p)
		require.Len(t, store.numbers(LetterParked), 7)
	})
}

func TestASkipOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(5)
		require.NoError(t, p.Skip("t3"))
		require.NoError(t, p.Skip("t4"))
		require.NoError(t, p.Unskip("t4"))
		again := &Pipeline{Source: bare{keyedSource{log, shopKeys}}, Sink: sink, Letters: store, Logger: discard}
		running(t, again)
		require.Len(t, sink.shop.people, 4)
		require.Empty(t, store.book.Skip)
		require.Empty(t, again.Stats().Skip)
		require.Equal(t, []uint64{1}, store.numbers(LetterSkipped))
		l, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Equal(t, "t3", l.ID)
		require.Len(t, l.Changes, 1, "what was skipped is kept")
	})
}

// A statement about a table with letters waits behind them, and what follows it
// waits too.
func TestAStatementWaitsForLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		sink.bad[2] = true
		statement := Change{Op: DDL, Table: &Table{Schema: "shop", Name: "other"}, Query: "RENAME TABLE shop.other TO shop.o, Shop.`People` TO shop.p"}
		ran := 0
		p.Sink = ddlSink{sink, func() { ran++ }}
		log.append(Transaction{ID: "ddl", Changes: []Change{statement}})
		log.append(Transaction{ID: "t5", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(5, "m5")}}})
		log.append(Transaction{ID: "t6", Changes: []Change{{Op: Insert, Table: ordersTable, After: ordered(1, 1)}}})
		running(t, p)
		require.Equal(t, []uint64{1, 2, 3}, store.numbers(LetterParked))
		require.Zero(t, ran)
		require.Len(t, sink.shop.orders, 1)
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2, 3))
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, 1, ran)
		require.Len(t, sink.shop.people, 4)

		// One that the target refuses stops the pipeline.
		log.append(Transaction{ID: "ddl2", Changes: []Change{{Op: DDL, Table: peopleTable, Query: "refused"}}})
		require.ErrorContains(t, settled(p, errs(p)), "not this")
	})
}

// A letter behind a statement does not ride before it, though what comes could carry
// it and not the statement.
func TestALetterDoesNotOvertakeAStatement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		p.Source = keyedSource{log, shopKeys} // nothing can be put in
		sink.bad[2] = true
		ran := 0
		p.Sink = ddlSink{sink, func() { ran++ }}
		log.append(Transaction{ID: "ddl", Changes: []Change{{Op: DDL, Table: peopleTable, Query: "ALTER TABLE shop.people ADD x int"}}})
		log.append(Transaction{ID: "t5", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(5, "m5")}}})
		running(t, p)
		require.Equal(t, []uint64{1, 2, 3}, store.numbers(LetterParked))
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2, 3))
		for i := range int64(5) {
			log.append(Transaction{Changes: insert(i)})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []uint64{2, 3}, store.numbers(LetterWanted))
		require.Zero(t, ran)
		log.append(Transaction{})
		log.append(Transaction{Changes: insert(9)})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1, 2, 3}, store.numbers(LetterApplied))
		require.Equal(t, 1, ran)
	})
}

// A letter comes before what it rides on, which may be about the same row.
func TestALetterComesBeforeWhatItRidesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		p.Source = keyedSource{log, shopKeys}
		sink.bad[2] = true
		running(t, p)
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		log.append(Transaction{ID: "t4", Changes: []Change{{Op: Update, Table: peopleTable, Before: person(2, "m2"), After: person(2, "new")}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1}, store.numbers(LetterApplied))
		require.Empty(t, store.numbers(LetterParked), "what depends on it alone need not wait")
		require.Equal(t, "new", sink.shop.people[2])
		require.EqualValues(t, 4, sink.at.Seq)
	})
}

// errs returns the error that the leg to the sink stopped with, once it has.
func errs(p *Pipeline) chan error {
	c := make(chan error, 1)
	go func() {
		for p.Stats().State != Stopped {
			sleep()
		}
		c <- p.Stats().Apply.Err
	}()
	return c
}

// A ddlSink runs statements, each alone in its transaction.
type ddlSink struct {
	*shopSink
	ran func()
}

func (s ddlSink) Apply(ctx context.Context, batch []*Transaction) error {
	for n, tx := range batch {
		for _, c := range tx.Changes {
			switch {
			case c.Op != DDL:
			case c.Query == "refused":
				return errors.New("not this")
			case len(tx.Changes) > 1:
				return errors.New("a statement among rows")
			default:
				s.ran()
				tx.Changes = nil
			}
		}
		if err := s.shopSink.Apply(ctx, batch[n:n+1]); err != nil {
			return err
		}
	}
	return nil
}

func TestATargetThatWasPutBackGetsItsLettersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, store, sink, p := shopped(10)
		sink.bad[4], sink.bad[8] = true, true
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		require.NoError(t, settled(p, done))
		backup, at := sink.shop.clone(), sink.at
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1))
		require.NoError(t, settled(p, done))
		require.Len(t, sink.shop.people, 9)
		cancel()
		require.NoError(t, <-done)

		sink.shop, sink.at = backup, at
		running(t, p)
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked), "it is not applied any more")
		l, err := store.Letter(t.Context(), 1, 0)
		require.NoError(t, err)
		require.Contains(t, l.Err, "put back")
	})
}

// What cannot be read cannot be parked: nobody knows what depends on it.
func TestWhatCannotBeDecodedStops(t *testing.T) {
	log, store, sink, p := shopped(5)
	p.Source = unreadable{keyedSource{log, shopKeys}}
	err := p.Run(t.Context())
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, "decode", e.Part)
	require.EqualValues(t, 2, e.At.Seq)
	require.Empty(t, store.numbers(LetterParked))
	require.NoError(t, p.Skip("t3"))
	log.closed = true
	require.NoError(t, p.Run(t.Context()))
	require.Len(t, sink.shop.people, 4)
}

// An unreadable source cannot read transaction 3.
type unreadable struct{ keyedSource }

func (unreadable) Decode(_ context.Context, batch []*Transaction) error {
	for _, tx := range batch {
		if tx.Seq == 3 {
			return errors.New("damaged")
		}
	}
	return nil
}

func TestLettersAndRejectExcludeEachOther(t *testing.T) {
	_, _, _, p := shopped(1)
	p.Reject = func(context.Context, *Transaction, error) error { return nil }
	require.ErrorContains(t, p.Run(t.Context()), "Reject and Letters are both set")
	require.ErrorContains(t, new(Pipeline).RetryLetters(t.Context(), 1), "has no store of dead letters")
}

// A shifting source puts an empty transaction in front each time it is opened, as
// what was filtered may, so that the same transaction gets another number.
type shifting struct{ bare }

func (s shifting) Open(ctx context.Context, from Checkpoint) (Stream, error) {
	st, err := s.bare.Open(ctx, from)
	return &shiftingStream{Stream: st, pos: from.Pos}, err
}

type shiftingStream struct {
	Stream
	pos  Position
	done bool
}

func (s *shiftingStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	if !s.done && s.pos != "" {
		s.done = true
		batch[0] = &Transaction{Checkpoint: Checkpoint{Pos: s.pos}}
		return 1, nil
	}
	return s.Stream.Next(ctx, batch)
}

// What is refused is known by its name, and not by its number alone, which may be
// another's when it comes again.
func TestWhatIsRefusedIsTheOneToBlame(t *testing.T) {
	for _, letters := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			log, store, sink, p := shopped(20)
			log.append(Transaction{ID: "big", More: true, Changes: []Change{{Op: Insert, Table: peopleTable, After: person(30, "m30")}}})
			log.append(Transaction{ID: "big", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(31, "m31")}}})
			log.append(Transaction{ID: "end", Changes: []Change{{Op: Insert, Table: peopleTable, After: person(32, "m32")}}})
			log.closed = true
			sink.bad[4], sink.bad[11], sink.bad[31] = true, true, true
			p.Source, p.MaxBatch = shifting{bare{keyedSource{log, shopKeys}}}, 5
			var rejected []string
			if !letters {
				p.Letters = nil
				p.Reject = func(_ context.Context, tx *Transaction, _ error) error {
					rejected = append(rejected, tx.ID)
					return nil
				}
			}
			require.NoError(t, p.Run(t.Context()))
			if letters {
				for _, l := range store.book.Letters {
					rejected = append(rejected, l.ID)
				}
				require.Equal(t, []string{"t4", "t11", "big"}, rejected)
			} else {
				require.Equal(t, []string{"t4", "t11", "big", "big"}, rejected)
			}
			require.Len(t, sink.shop.people, 19)
		})
	}
}

// A large letter is not told by its rows. What depends on it waits all the same.
func TestWhatDependsOnALargeLetterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		var many []Change
		for i := range int64(2500) {
			many = append(many, Change{Op: Insert, Table: ordersTable, After: ordered(i+100, 2)})
		}
		log.append(Transaction{ID: "many", Changes: many})
		sink.bad[101] = true
		log.append(Transaction{ID: "parent", Changes: []Change{{Op: Delete, Table: peopleTable, Before: person(2, "m2")}}})
		log.append(Transaction{ID: "other", Changes: []Change{{Op: Update, Table: peopleTable, Before: person(1, "m1"), After: person(1, "m1x")}}})
		running(t, p)
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked))
		require.Equal(t, "m1x", sink.shop.people[1], "an update that keeps the key waits for none")
		again := &Pipeline{Source: p.Source, Sink: sink, Letters: store, Logger: discard}
		p.Stop()
		log.append(Transaction{ID: "late", Changes: []Change{{Op: Delete, Table: peopleTable, Before: person(3, "m3")}}})
		running(t, again)
		require.Equal(t, []uint64{1, 2, 3}, store.numbers(LetterParked), "also after a start; which parents it has is not known any more")
	})
}

func TestAnEditMayNameOtherTables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, p := shopped(3)
		sink.bad[3] = true
		running(t, p)
		require.Equal(t, []uint64{1}, store.numbers(LetterParked))
		require.NoError(t, p.EditLetter(t.Context(), 1, func(c []Change) ([]Change, error) {
			return append(c, Change{Op: Insert, Table: ordersTable, After: ordered(7, 1)}), nil
		}))
		log.append(Transaction{ID: "ddl", Changes: []Change{{Op: DDL, Table: ordersTable, Query: "TRUNCATE shop.orders"}}})
		require.NoError(t, settled(p, make(chan error)))
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked), "a statement waits for what was edited in")
	})
}

// A pipeline that reads the queue of another has its letters carried by what that
// one puts into the queue, though nothing comes from the source.
func TestAFanoutCarriesTheLettersOfItsPipelines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, store, sink, _ := shopped(5)
		queue, well := newLog(2, 0), &shopSink{shop: newShop()}
		sink.bad[2], sink.bad[4] = true, true
		p := &Pipeline{Source: memReader{queue, "a"}, Sink: sink, Letters: store, Logger: discard}
		f := &Fanout{Capture: &Pipeline{Source: bare{keyedSource{log, shopKeys}}, Sink: queue, Logger: discard},
			Pipelines: map[string]*Pipeline{"a": p, "b": {Source: memReader{queue, "b"}, Sink: well, Logger: discard}}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		require.NoError(t, settled(p, done))
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterParked))
		sink.bad = nil
		require.NoError(t, p.RetryLetters(t.Context(), 1, 2))
		require.NoError(t, settled(p, done))
		require.Equal(t, []uint64{1, 2}, store.numbers(LetterApplied))
		require.Len(t, sink.shop.people, 5)
		require.Len(t, well.shop.people, 5)
		cancel()
		require.NoError(t, <-done)
	})
}
