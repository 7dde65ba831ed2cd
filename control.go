package dfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrSkipped is why a transaction that Pipeline.Skip names is stepped over.
var ErrSkipped = errors.New("dfs: skipped as asked")

// A Locator is a Source that can tell whether its positions have come to a place
// which a person names.
type Locator interface {
	// Locate reads the name of a place and returns a function that reports
	// whether a position is there or after it.
	Locate(place string) (reached func(Position) (bool, error), err error)
}

// A StopPoint says where a pipeline is to stop. It stops between two
// transactions, at the first such place of which one field that is set holds.
type StopPoint struct {
	Seq   uint64 // this transaction has been applied
	ID    string // the transaction that the source calls so has been applied
	Place string // the source's log has been applied up to here; see Locator

	// Time: the next transaction was committed later than this or, if the Source is
	// a Prober, its clock is later, and it has no next one. Else a pipeline whose
	// source is idle waits for the next transaction.
	Time time.Time
}

// IsZero reports whether no field is set.
func (s StopPoint) IsZero() bool {
	return s.Seq == 0 && s.ID == "" && s.Place == "" && s.Time.IsZero()
}

// String names what is set, for people.
func (s StopPoint) String() string {
	switch {
	case s.Seq != 0:
		return fmt.Sprintf("transaction %d", s.Seq)
	case s.ID != "":
		return "transaction " + s.ID
	case s.Place != "":
		return s.Place
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339Nano)
	}
	return "none"
}

// control is what others have asked of a pipeline. It is guarded by Pipeline.mu.
type control struct {
	cancel      context.CancelFunc // ends Run; nil while it is not running
	stopCapture context.CancelFunc // ends capture into the queue; nil without one
	again       context.CancelFunc // ends the session of the leg to the sink, so that another begins
	recapture   context.CancelFunc // ends that of the leg into the queue
	add         int                // empty transactions to be put behind what was read from the source
	letters     LetterStats
	carrier     *Pipeline         // that fills the queue which is read; nil if it is not known
	stop        *stopper          // nil unless StopAt was called
	skip        map[string]uint64 // by name; Seq once it was met, so that it can be forgotten when applied
}

// A stopper is a StopPoint together with its place, as the source reads it.
type stopper struct {
	StopPoint
	reached func(Position) (bool, error) // nil if Place is empty
	passed  func(Position) (bool, error) // whether ID lies behind; nil if nobody knows
	idle    atomic.Bool                  // the source has nothing more up to Time
}

// named returns what tells whether the transaction of that name lies behind a
// position, or nil. Only names that are GTIDs are known to sources.
func (p *Pipeline) named(id string) func(Position) (bool, error) {
	l, ok := p.Source.(Locator)
	if !ok {
		l, ok = p.Decoder.(Locator)
	}
	if !ok {
		return nil
	}
	passed, err := l.Locate("gtid:" + id)
	if err != nil {
		return nil
	}
	return passed
}

// late returns an error if the transaction to stop at has been applied, and is not
// the last.
func (s *stopper) late(at Checkpoint) error {
	if s == nil || s.passed == nil || at.Pos == "" {
		return nil
	}
	if passed, err := s.passed(at.Pos); err != nil || !passed {
		return nil // another kind of name
	}
	return fmt.Errorf("it has been applied already, so it does not come any more; the sink stands at %s", at.Pos)
}

// Stop makes Run finish the work in hand and return nil, as the end of its
// context does. If Run is not running, it does nothing.
func (p *Pipeline) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.control.cancel != nil {
		p.control.cancel()
	}
}

// Drain makes Run stop reading from the source, apply all that the queue holds,
// and return nil. Without a queue it is Stop: what was not applied is still in
// the source's log.
func (p *Pipeline) Drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.control.stopCapture != nil:
		p.control.stopCapture()
	case p.control.cancel != nil:
		p.control.cancel()
	}
}

// StopAt makes Run return nil when the sink has come to the given place, with
// exactly the transactions up to there applied. If it is past the place already,
// it stops where it is, but for an ID, which then never comes: that is an error,
// here or of Run, if the ID is a GTID. A place that was
// set before is replaced; the zero StopPoint takes it back. Once Run has stopped
// there, or has been called after the place was reached, the place is forgotten.
// The error is about a Place that the Source, or else the Decoder, cannot read.
func (p *Pipeline) StopAt(at StopPoint) error {
	s := &stopper{StopPoint: at}
	if at.Place != "" {
		l, ok := p.Source.(Locator)
		if !ok {
			l, ok = p.Decoder.(Locator) // whose positions they are
		}
		if !ok {
			return fmt.Errorf("stop at %q: this kind of source has no places by name; name a transaction or a time", at.Place)
		}
		var err error
		if s.reached, err = l.Locate(at.Place); err != nil {
			return fmt.Errorf("stop at %q: %w", at.Place, err)
		}
	}
	if at.IsZero() {
		s = nil
	}
	if s != nil && s.ID != "" {
		s.passed = p.named(s.ID)
		p.apply.mu.Lock()
		now := p.apply.leg.At
		p.apply.mu.Unlock()
		if err := s.late(now); err != nil {
			return fmt.Errorf("stop at transaction %s: %w", s.ID, err)
		}
	}
	p.change(func(c *control) { c.stop = s })
	return nil
}

// Skip makes the sink step over the transaction with the given name, whole,
// when it comes, also if that is in a later Run. The step is committed as that of
// a rejected transaction, counted as such, and logged; Reject is not asked. A
// transaction that was applied already stays so, and rows of a copy, of which many
// have one name, are not skipped. What is to be skipped is
// forgotten when the process ends, unless there is a store of letters: that keeps
// it, and also what was skipped.
func (p *Pipeline) Skip(id string) error {
	if id == "" {
		return errors.New("skip: no transaction is named; give the source's name for it, such as its GTID")
	}
	if err := p.keepSkip(&LetterWrite{Skip: []string{id}}); err != nil {
		return fmt.Errorf("skip %s: %w", id, err)
	}
	p.change(func(c *control) {
		if c.skip == nil {
			c.skip = make(map[string]uint64)
		}
		c.skip[id] = 0
	})
	return nil
}

// Unskip takes back a Skip, unless the transaction has been stepped over.
func (p *Pipeline) Unskip(id string) error {
	if err := p.keepSkip(&LetterWrite{Unskip: []string{id}}); err != nil {
		return fmt.Errorf("skip no more %s: %w", id, err)
	}
	p.change(func(c *control) { delete(c.skip, id) })
	return nil
}

// keepSkip writes to the store of letters, if there is one.
func (p *Pipeline) keepSkip(w *LetterWrite) error {
	if p.Letters == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return p.Letters.Write(ctx, w)
}

// Nudge puts an empty transaction behind what has been read from the source, on
// which what waits for one can go on: a letter that is to be applied does so by
// itself, but in a pipeline that reads from the queue of another, it is that one
// which has to be nudged. It does nothing while Run is not at work, or if the
// Source is not Unnumbered.
func (p *Pipeline) Nudge() { p.nudge(1) }

func (p *Pipeline) nudge(n int) {
	p.mu.Lock()
	if c := p.control.carrier; c != nil {
		p.mu.Unlock()
		c.nudge(n)
		return
	}
	defer p.mu.Unlock()
	again := p.control.again
	if p.Queue != nil {
		again = p.control.recapture
	}
	if _, ok := p.Source.(Unnumbered); ok && again != nil {
		p.control.add = n
		again()
	}
}

// empties returns how many empty transactions the session is to put before what
// it reads.
func (l *leg) empties(at Checkpoint, box *letterBox) int {
	if l.from != "source" {
		return 0
	}
	l.p.mu.Lock()
	n := l.p.control.add
	l.p.control.add = 0
	l.p.mu.Unlock()
	if box.wants() {
		n = max(n, int(box.wanted.Load()))
	}
	if _, ok := l.p.Source.(Unnumbered); !ok || at.Pos == "" {
		return 0
	}
	return n
}

// carriers sees to it that letters which are to be applied find transactions to
// ride on, also if the source is idle.
func (l *leg) carriers(box *letterBox) (stop func()) {
	l.p.mu.Lock()
	far := l.p.Queue != nil || l.p.control.carrier != nil
	l.p.mu.Unlock()
	if !box.wants() || !far {
		return func() {}
	}
	wait := time.Second
	var t *time.Timer
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(wait, func() {
		mu.Lock()
		defer mu.Unlock()
		if n := box.wanted.Load(); n > 0 && t != nil {
			l.p.nudge(int(n))
			wait = min(2*wait, time.Minute)
			t.Reset(wait)
		}
	})
	return func() {
		mu.Lock()
		defer mu.Unlock()
		t.Stop()
		t = nil
	}
}

// next returns what is read: first the empty transactions that are to be added.
func (r *reader) next(ctx context.Context, buf []*Transaction) (int, error) {
	if r.add == 0 {
		return r.stream.Next(ctx, buf)
	}
	n := min(r.add, len(buf))
	r.add -= n
	for i := range n {
		buf[i] = &Transaction{Checkpoint: Checkpoint{Seq: r.at.Seq + 1 + uint64(i), Pos: r.at.Pos}}
	}
	return n, nil
}

// change changes what is asked. A session that runs has read on by what was asked
// before; so it ends, and another begins at the sink's checkpoint.
func (p *Pipeline) change(f func(*control)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.control)
	if p.control.again != nil {
		p.control.again()
	}
}

// asked returns what the session that now begins must know, and a context for it
// that ends when something else is asked.
func (l *leg) asked(ctx context.Context) (_ context.Context, done func(), stop *stopper, skip map[string]uint64) {
	p := l.p
	ctx, again := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := &p.control.recapture
	if l.pausable {
		mine, stop, skip = &p.control.again, p.control.stop, maps.Clone(p.control.skip)
	}
	*mine = again
	return ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		*mine = nil
		again()
	}, stop, skip
}

// skips returns what is to be skipped, by now.
func (p *Pipeline) skips() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.control.skip)
}

// met notes the number of a transaction that is to be skipped.
func (p *Pipeline) met(id string, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.control.skip[id]; ok {
		p.control.skip[id] = seq
	}
}

// unmeet forgets the numbers of what is to be skipped, as a session begins: it may get
// others when it comes again.
func (p *Pipeline) unmeet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.control.skip {
		p.control.skip[id] = 0
	}
}

// passed forgets what was skipped up to the given checkpoint.
func (p *Pipeline) passed(ctx context.Context, at uint64) error {
	var w LetterWrite
	p.mu.Lock()
	maps.DeleteFunc(p.control.skip, func(id string, seq uint64) bool {
		gone := seq != 0 && seq <= at
		if gone {
			w.Unskip = append(w.Unskip, id)
		}
		return gone
	})
	p.mu.Unlock()
	if p.Letters == nil || len(w.Unskip) == 0 {
		return nil
	}
	return p.Letters.Write(ctx, &w)
}

// stopped forgets the place at which the pipeline has stopped, unless there is
// another by now.
func (p *Pipeline) stoppedAt(s *stopper) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.control.stop == s {
		p.control.stop = nil
	}
}

// pending returns the place to stop at, or nil, and the names to skip.
func (c *control) pending() (*StopPoint, []string) {
	var at *StopPoint
	if c.stop != nil {
		s := c.stop.StopPoint
		at = &s
	}
	return at, slices.Sorted(maps.Keys(c.skip))
}

// after reports whether a pipeline that has applied the transaction with the
// given name and checkpoint stands where it is to stop.
func (s *stopper) after(at Checkpoint, id string) (bool, error) {
	switch {
	case s == nil:
		return false, nil
	case s.Seq != 0 && at.Seq >= s.Seq, s.ID != "" && s.ID == id, s.idle.Load():
		return true, nil
	case s.reached != nil && at.Pos != "":
		return s.reached(at.Pos)
	}
	return false, nil
}

// before reports whether the pipeline is to stop before the transaction.
func (s *stopper) before(tx *Transaction) bool {
	return s != nil && !s.Time.IsZero() && tx.Committed.After(s.Time)
}
