package dfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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

	// Time: the next transaction was committed later than this. A source that is
	// idle has no next one, so the pipeline then waits for it.
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
	stop        *stopper           // nil unless StopAt was called
	skip        map[string]uint64  // by name; Seq once it was met, so that it can be forgotten when applied
}

// A stopper is a StopPoint together with its place, as the source reads it.
type stopper struct {
	StopPoint
	reached func(Position) (bool, error) // nil if Place is empty
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
// it stops where it is, but for an ID, which then never comes. A place that was
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
	p.change(func(c *control) { c.stop = s })
	return nil
}

// Skip makes the sink step over the transaction with the given name, whole,
// when it comes, also if that is in a later Run. The step is committed as that of
// a rejected transaction, counted as such, and logged; Reject is not asked. A
// transaction that was applied already stays so. What is to be skipped is
// forgotten when the process ends.
func (p *Pipeline) Skip(id string) error {
	if id == "" {
		return errors.New("skip: no transaction is named; give the source's name for it, such as its GTID")
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
func (p *Pipeline) Unskip(id string) { p.change(func(c *control) { delete(c.skip, id) }) }

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
	if !l.pausable {
		return ctx, func() {}, nil, nil
	}
	p := l.p
	ctx, again := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.control.again = again
	return ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.control.again = nil
		again()
	}, p.control.stop, maps.Clone(p.control.skip)
}

// met notes the number of a transaction that is to be skipped.
func (p *Pipeline) met(id string, seq uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.control.skip[id]; ok {
		p.control.skip[id] = seq
	}
}

// passed forgets what was skipped up to the given checkpoint.
func (p *Pipeline) passed(at uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.control.skip, func(_ string, seq uint64) bool { return seq != 0 && seq <= at })
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
	case s.Seq != 0 && at.Seq >= s.Seq, s.ID != "" && s.ID == id:
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
