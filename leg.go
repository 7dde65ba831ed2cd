package dfs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A leg carries transactions from src to dst until its context ends. While it
// runs, three goroutines work at the same time: one reads ahead, one decodes and
// processes, one applies.
type leg struct {
	p        *Pipeline
	name     string // "capture" or "apply"
	from, to string // what errors call src and dst
	src      Source
	dst      Sink
	decoder  Decoder
	stages   []Stage
	st       *legStats
	pausable bool
	applied  func(at uint64)             // told of progress; may be nil
	ended    func(at uint64)             // told of the end of src; may be nil
	halted   func()                      // told that the place to stop at was reached; may be nil
	given    *holdback                   // told of what src gives; may be nil
	taken    *holdback                   // told of what dst has taken; may be nil
	first    func(context.Context) error // asked before anything is applied; may be nil
	suspect  suspect                     // written between sessions only
	accused  accused                     // written between sessions, and by an error that ends one

	// proven is the last transaction that the sink is known to have, once known is set.
	// moved says that the session found more than that: a COMMIT whose answer was lost.
	proven uint64
	known  bool
	moved  bool

	// ledger holds what the sink was given since its last known checkpoint. If
	// Apply fails, the next checkpoint tells how much of it was applied.
	ledger []entry

	// ledgers is memory for those of chunks.
	ledgers chan []entry
}

// run carries transactions, retrying, until ctx or src ends or an error stays.
func (l *leg) run(ctx context.Context) error {
	err := l.retry(ctx, func() (bool, error) {
		l.moved = false
		progress, err := l.session(ctx)
		return progress || l.moved, err
	})
	l.stopped(err)
	return err
}

func (l *leg) stopped(err error) { l.st.update(func(s *Leg) { s.State, s.Err = Stopped, err }) }

// retry calls f until it succeeds, ctx ends, or its error is not transient.
func (l *leg) retry(ctx context.Context, f func() (progress bool, err error)) error {
	wait := l.p.retryWait()
	for {
		l.st.update(func(s *Leg) { s.State = Starting })
		progress, err := f()
		if progress {
			wait = l.p.retryWait()
		}
		var b *blame
		switch {
		case err == nil:
			return nil
		case err == errAgain:
			continue
		case errors.As(err, &b):
			if l.suspect = l.suspect.next(b.suspect); l.suspect.missed > mostMissed {
				return b.error
			}
			continue
		case ctx.Err() != nil && (errors.Is(err, ErrTransient) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
			return nil // a stop that was asked for
		case !errors.Is(err, ErrTransient):
			return err
		}
		l.p.logger().Warn("retrying", "leg", l.name, "err", err, "wait", wait)
		woken := l.p.woken() // before others can see that it waits
		l.st.update(func(s *Leg) { s.State, s.Err = Retrying, err; s.Retries++ })
		select {
		case <-ctx.Done():
			return nil
		case <-woken:
			wait = l.p.retryWait()
		case <-time.After(wait):
			wait = min(2*wait, time.Minute)
		}
	}
}

// errAgain ends a session because something was asked of the pipeline.
var errAgain = errors.New("dfs: something else is asked")

// session goes on from the sink's checkpoint. Starting, reconnecting and
// recovering are all this. It returns nil when ctx or the stream has ended, or
// at the place to stop at.
func (l *leg) session(run context.Context) (progress bool, err error) {
	ctx, done, stop, skip := l.asked(run)
	defer done()
	finished := false // by the end of the stream, or at the place to stop at
	defer func() {
		cut := err == nil && !finished || errors.Is(err, ErrTransient) ||
			errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
		if b := (*blame)(nil); cut && ctx.Err() != nil && run.Err() == nil && !errors.As(err, &b) {
			err = errAgain
		}
	}()
	at, err := l.dst.Checkpoint(ctx)
	if err != nil {
		return false, &Error{Part: l.to, At: at, Err: err}
	}
	l.moved, l.proven, l.known = l.known && at.Seq > l.proven, at.Seq, true
	l.settle(at) // also for the name of the last transaction, which at has not
	box, err := l.letters(ctx, at)
	if err != nil {
		return false, &Error{Part: "letters", At: at, Err: err}
	}
	if box != nil {
		skip = l.p.skips()
	}
	there, err := stop.after(at, l.st.name(at.Seq))
	if err != nil {
		return false, &Error{Part: "stop", At: at, Err: err}
	}
	if there {
		finished = true
		l.halt(stop)
		return false, nil
	}
	if err := stop.late(at); err != nil {
		l.p.stoppedAt(stop) // or it would keep the next Run from its work too
		return false, &Error{Part: "stop", At: at, Err: fmt.Errorf("transaction %s: %w", stop.ID, err)}
	}
	if at.Seq == 0 && l.first != nil {
		if err := l.first(ctx); err != nil {
			return false, err
		}
	}
	stream, err := l.src.Open(ctx, at)
	if err != nil {
		if at.Seq == 0 && l.from == "queue" && errors.Is(err, ErrGap) {
			err = fmt.Errorf("%w: the target says that nothing was applied yet, and the queue has let go of what was: %w", ErrLost, err)
		}
		return false, &Error{Part: l.from, At: at, Err: err}
	}
	defer stream.Close()
	l.ledger = l.ledger[:0]
	if l.ledgers == nil {
		l.ledgers = make(chan []entry, 16) // about as many chunks as one Apply has
	}
	l.st.began(at.Seq)
	if l.applied != nil {
		l.applied(at.Seq)
	}
	l.given.begin(at.Seq)
	l.taken.applied(at.Seq, 0, 0)
	if len(skip) > 0 {
		if err := l.p.passed(ctx, at.Seq); err != nil {
			return false, &Error{Part: "letters", At: at, Err: err}
		}
		l.p.unmeet()
	}

	// Work in hand outlives ctx by StopTimeout, so that a stop does not cut a
	// batch short.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		t := time.AfterFunc(l.stopWait(), cancel)
		context.AfterFunc(work, func() { t.Stop() })
	})()

	// An error ends what comes before it on the way of the data. What comes
	// after finishes with what has passed already, so that all transactions
	// before the faulty one are applied.
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	processing, stopProcessing := context.WithCancel(ctx)
	defer stopProcessing()
	stageWork, stopStage := context.WithCancel(work)
	defer stopStage()
	space, unpacked := newRoom(l.p.readAhead()), newRoom(mostUnpacked*l.p.readAhead())
	r := &reader{leg: l, stream: stream, at: at, room: space, suspect: l.suspect, stop: stop, skip: skip, box: box}
	r.add = l.empties(at, box)
	defer l.carriers(box)()
	if stop != nil && !stop.Time.IsZero() {
		watch, done := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { l.untilTime(watch, stop) })
		defer watching.Wait()
		defer done()
	}
	read, ready := make(chan *chunk, 64), make(chan *chunk, 64)
	a := &applier{leg: l, in: ready, at: at, room: space, unpacked: unpacked, limit: min(firstBatch, l.p.maxBatch()), skips: len(skip) > 0}
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(read)
		errs[2] = r.run(reading, read)
	})
	wg.Go(func() {
		defer stopReading()
		defer close(ready)
		errs[1] = l.process(processing, stageWork, at, box, unpacked, read, ready)
	})
	wg.Go(func() {
		defer stopReading()
		defer stopProcessing()
		defer stopStage()
		errs[0] = a.run(ctx, work)
	})
	wg.Wait()
	l.proven = max(l.proven, a.at.Seq)
	l.suspect.met = l.suspect.met || r.blamed != 0
	if a.open {
		// Parts without their end would hold locks on the target until someone
		// asks it again. If this fails, the next session does the same.
		_, _ = l.dst.Checkpoint(work)
	}
	asked := ctx.Err() != nil && run.Err() == nil
	for i, err := range errs {
		if b := (*blame)(nil); err != nil && i > 0 && asked && !errors.As(err, &b) {
			// What comes before it may not have been applied. The next session
			// meets it again.
			return a.progress, errAgain
		}
		if err != nil {
			return a.progress, err
		}
	}
	if ctx.Err() != nil {
		return a.progress, nil
	}
	finished = r.eof || r.halted
	if l.ended != nil && r.eof {
		l.ended(a.at.Seq)
	}
	if r.halted {
		l.halt(stop)
	}
	return a.progress, nil
}

// halt notes that the leg has stopped where it was to stop.
func (l *leg) halt(at *stopper) {
	l.p.logger().Info("stopping at the place asked for", "place", at.String())
	l.p.stoppedAt(at)
	if l.halted != nil {
		l.halted()
	}
}

// stopWait is how long work in hand may take once a stop is asked for. Storing
// in a queue is not worth a wait: at a full one it could last until who reads it,
// and stops too, has made room.
func (l *leg) stopWait() time.Duration {
	if _, queue := l.dst.(Queue); !queue {
		return l.p.stopWait()
	}
	return min(l.p.stopWait(), time.Second)
}

// process decodes the chunks and runs them through the stages, those together that
// are ready: a stage that writes to a disk, or asks a server, does so once for many.
func (l *leg) process(ctx, work context.Context, at Checkpoint, box *letterBox, unpacked *room, from <-chan *chunk, to chan<- *chunk) error {
	var held *chunk // received, but not to go with those before it
	ratio := 0      // how many times more the last group took once it was decoded; 0: not known
	for open := true; ; {
		c := held
		if held = nil; c == nil {
			if !open {
				return nil
			}
			if c, open = <-from; !open {
				return nil
			}
		}
		if !unpacked.wait(ctx) {
			return nil
		}
		group := []*chunk{c}
		n, size := len(c.txs), c.size
	gather:
		for open && len(l.stages) > 0 && !c.alone && n < mostStaged && size < l.p.readAhead()/4 && ratio > 0 && size*ratio < l.p.readAhead() {
			var next *chunk
			select {
			case next, open = <-from:
			default:
				break gather
			}
			switch {
			case !open:
				break gather
			case next.alone:
				held = next
				break gather
			}
			group = append(group, next)
			n, size = n+len(next.txs), size+next.size
		}
		if err := l.processGroup(work, box, group, n); err != nil {
			if b := (*blame)(nil); errors.As(err.Err, &b) {
				return b
			}
			err := &Error{err.Part, at, c.id(), err.Err}
			if c.refused != nil {
				return err // of a Pass, and not about the transaction
			}
			return l.blame(work, c, group[len(group)-1].last().Seq, err)
		}
		memory := 0
		for _, c := range group {
			memory += c.memory
		}
		ratio = max(memory/max(size, 1), 1)
		for _, c := range group {
			at = c.last().Checkpoint
			unpacked.take(c.memory)
			select {
			case to <- c:
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// mostUnpacked is how many times ReadAhead rows may take once they are decoded. They mostly
// take about that, but ten times as much where a row has few bytes.
const mostUnpacked = 2

// mostStaged is about how many transactions a stage is given at once. They hold the
// sink up for as long as a stage takes for them, while there is nothing before them.
const mostStaged = 4096

// processGroup decodes n transactions and runs them through the stages. A chunk that
// goes alone is a group.
func (l *leg) processGroup(ctx context.Context, box *letterBox, group []*chunk, n int) *Error {
	batch := group[0].txs
	if len(group) > 1 {
		batch = make([]*Transaction, 0, n)
		for _, c := range group {
			batch = append(batch, c.txs...)
		}
	}
	err := l.decode(ctx, batch)
	if refused := group[0].refused; refused != nil && (box == nil || refused == ErrSkipped) {
		err = nil // Reject is given it as far as it could be decoded
	}
	if err != nil {
		return &Error{Part: "decode", Err: err}
	}
	if box != nil {
		tell := func(tx *Transaction, why error) error {
			for i, s := range l.stages {
				if p, ok := s.(Stepper); ok {
					if err := p.Step(ctx, tx, why); err != nil {
						return &Error{Part: fmt.Sprintf("stage %d", i+1), Err: err}
					}
				}
			}
			return nil
		}
		for _, c := range group {
			first, name, copied, err := box.take(ctx, c, tell)
			var e *Error
			switch {
			case errors.As(err, &e):
				return e
			case err == errDepends:
				return &Error{Part: "letters", Err: &blame{err, suspect{until: first, refused: first, name: name, copied: copied, err: err}}}
			case err != nil:
				return &Error{Part: "letters", Err: err}
			}
		}
	}
	if why := group[0].refused; why != nil {
		if list := group[0].letters; errors.Is(why, errDepends) && len(list) > 0 {
			why = &ParkedError{list[len(list)-1].Number, list[len(list)-1].After}
		}
		for i, s := range l.stages {
			var err error
			switch p := s.(type) {
			case Stepper:
				err = p.Step(ctx, batch[0], why)
			case Passer:
				err = p.Pass(ctx, batch[0].Checkpoint)
			}
			if err != nil {
				return &Error{Part: fmt.Sprintf("stage %d", i+1), Err: err}
			}
		}
		return nil
	}
	for _, c := range group {
		c.ddl = c.alone && slices.ContainsFunc(c.txs[0].Changes, func(c Change) bool { return c.Op == DDL })
		if len(l.stages) == 0 {
			c.rows = c.countAll(carried)
		} else {
			c.countAll(received)
		}
	}
	if len(l.stages) == 0 {
		return nil
	}
	for i, s := range l.stages {
		if err := s.Process(ctx, batch); err != nil {
			return &Error{Part: fmt.Sprintf("stage %d", i+1), Err: err}
		}
	}
	for _, c := range group {
		if len(group) > 1 {
			copy(c.txs, batch)
			batch = batch[len(c.txs):]
		}
		c.rows = c.countAll(applied)
	}
	return nil
}

// id names the transaction of a chunk that holds no other.
func (c *chunk) id() string {
	if !c.alone {
		return ""
	}
	return c.txs[0].ID
}

// decode decodes a batch, in parallel if it is large.
func (l *leg) decode(ctx context.Context, batch []*Transaction) error {
	if l.decoder == nil {
		return nil
	}
	workers := min(runtime.GOMAXPROCS(0), len(batch)/64)
	if workers < 2 {
		return l.decoder.Decode(ctx, batch)
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		part := batch[i*len(batch)/workers : (i+1)*len(batch)/workers]
		wg.Go(func() { errs[i] = l.decoder.Decode(ctx, part) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // the first in the order of the log
		}
	}
	return nil
}
