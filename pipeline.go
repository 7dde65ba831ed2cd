package dfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"
)

// A Pipeline runs from its Source to its Sink. Set the fields, then call Run; do
// not copy the Pipeline or change its fields after that. It closes nothing that
// it did not open.
//
// If the Source is a Decoder, the pipeline decodes what it reads before the
// first Stage, after the Queue if there is one. Only if there are no Stages and
// the Sink is itself a Queue, transactions reach it still encoded; a pipeline
// that reads them back names the source as its Decoder.
type Pipeline struct {
	Source Source
	Stages []Stage // in order
	Sink   Sink

	// Decoder decodes what Source reads, where that is a queue which another
	// pipeline fills: it is the Source of that one. Default: Source, if it is a
	// Decoder.
	Decoder Decoder

	// Queue, if set, stands between Source and Stages, so that each side runs
	// and recovers at its own pace. Without it, the source's own log is the
	// only buffer.
	Queue Queue

	// MaxBatch limits the transactions given to one Apply. A pipeline begins
	// with fewer, and keeps an Apply to about a second. Default: 4096.
	MaxBatch int

	// ReadAhead limits the bytes of transactions that each side of the queue
	// holds in memory, by Transaction.Size as they were read; decoded rows may take
	// twice as much. Rows of a copy that come decoded count half. One
	// Apply is given up to half of it. It may be passed by what one Next returns.
	// Default: 6 MiB.
	ReadAhead int

	// StopTimeout limits how long Run finishes work in hand once its context
	// ends; what goes to a Queue has a second at most, since a full one may wait
	// for a reader that stops too. Default: 10 seconds. Negative: not at all.
	StopTimeout time.Duration

	// RetryWait is the first wait after a transient error; it doubles up to a
	// minute, and starts anew once a transaction has passed. Default: 100
	// milliseconds.
	RetryWait time.Duration

	// Reject is asked about a transaction that a Stage, the decoder or the Sink
	// refuses for good. If it returns nil, the sink steps over the transaction,
	// and that step is itself committed; if the sink refuses that too, Run stops. An
	// error of Reject stops Run, or is retried if it
	// is transient. The transaction is as it was before the Stages, decoded if
	// that can be done; for a large one Reject is called for each of its parts.
	// It may be called again for the same transaction after a crash.
	// Default: Run stops, with all transactions before the refused one applied.
	Reject func(ctx context.Context, tx *Transaction, err error) error

	// Letters, if set, keeps what Reject would be asked about, whole, and what later
	// touches the same rows, until a person settles it: see RetryLetters. A
	// transaction that cannot be decoded, that goes to a Queue encoded, or that is a
	// statement which the Sink refuses, stops Run all the same, since all that follows
	// may depend on it.
	// Default: none. Reject and Letters exclude each other.
	Letters LetterStore

	// Observe, if set, is told of each batch once it is stored or has failed. It
	// is called on the path of the data and should return at once.
	Observe func(Batch)

	// Logger. Default: slog.Default().
	Logger *slog.Logger

	mu             sync.Mutex // guards what follows
	running        bool
	gate           chan struct{} // closed by Resume; nil unless paused
	wake           chan struct{} // closed by Resume, when a leg waits to try again; nil unless one does
	control        control       // what others ask of it
	capture, apply legStats
}

// Run carries transactions until ctx ends, and then returns nil: a stop that was
// asked for is no error. It also returns nil when the source has a last
// transaction and the sink has applied it. A process may die at any time
// instead; it loses nothing.
//
// With a Queue, an error of the source that stays does not keep from the sink
// what the queue holds: the error is logged at once and is in Stats, and Run goes
// on until all of that is applied, the sink has an error that stays too, or ctx
// ends. It then returns what both sides had. An error of the sink, or that
// another writes to the queue, ends Run at once.
//
// Before anything else Run checks the fields and returns all that is wrong with
// them. A Pipeline may run again after Run has returned, but not twice at once.
func (p *Pipeline) Run(ctx context.Context) error {
	if err := p.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	capturing, stopCapture := context.WithCancel(ctx)
	defer stopCapture()
	if !p.start(cancel, stopCapture) {
		return errors.New("dfs: Pipeline is running already")
	}
	defer p.stop()

	out := &leg{p: p, name: "apply", from: "source", to: "sink", src: p.Source, dst: p.Sink,
		stages: p.Stages, st: &p.apply, pausable: true, first: p.checkCopy, taken: p.newHoldback()}
	d := p.Decoder
	if own, ok := p.Source.(Decoder); ok && d == nil {
		d = own
	}
	if d != nil {
		if _, queue := p.Sink.(Queue); !queue || len(p.Stages) > 0 {
			out.decoder = d
		}
	}
	if p.Queue == nil {
		out.given = out.taken
		return out.run(ctx)
	}
	out.from, out.src = "queue", p.Queue
	in := &leg{p: p, name: "capture", from: "source", to: "queue", src: p.Source, dst: p.Queue, st: &p.capture, given: out.taken}

	if err := p.align(ctx); err != nil || ctx.Err() != nil {
		in.stopped(err)
		out.stopped(err)
		return err
	}
	end := finish{done: cancel}
	out.applied, in.ended, out.halted = end.reached, end.set, cancel
	var wg sync.WaitGroup
	var errs [2]error
	wg.Go(func() {
		err := in.run(capturing)
		if ctx.Err() == nil && !errors.Is(err, ErrConflict) && (err != nil || capturing.Err() != nil) {
			// What the queue holds is still applied.
			if failed := p.drain(ctx, err, end.set); failed != nil {
				err = errors.Join(err, failed)
				cancel()
			}
		} else if err != nil {
			cancel()
		}
		errs[0] = err
	})
	wg.Go(func() {
		if errs[1] = out.run(ctx); errs[1] != nil {
			cancel()
		}
	})
	wg.Wait()
	return errors.Join(errs[:]...)
}

// checkCopy asks the sink whether the rows that the source is to copy may come. What
// stages make of tables only their user knows, so he has to ask by himself.
func (p *Pipeline) checkCopy(ctx context.Context) error {
	from, copies := p.Source.(Copier)
	to, checks := p.Sink.(CopyChecker)
	if !copies || !checks || len(p.Stages) > 0 {
		return nil
	}
	tables, err := from.Copies(ctx)
	if err != nil {
		return &Error{Part: "source", Err: err}
	}
	if len(tables) == 0 {
		return nil
	}
	if err := to.CheckCopy(ctx, tables); err != nil {
		return &Error{Part: "sink", Err: err}
	}
	return nil
}

// A finish ends a pipeline with a queue once its source has ended, or failed, and
// the sink has applied all that came from it. A queue itself has no end.
type finish struct {
	mu      sync.Mutex
	at, end uint64
	ended   bool
	done    func()
}

func (f *finish) reached(at uint64) { f.note(func() { f.at = at }) }
func (f *finish) set(end uint64)    { f.note(func() { f.end, f.ended = end, true }) }

func (f *finish) note(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	if f.ended && f.at >= f.end {
		f.done()
	}
}

// drain tells end how much the queue holds, once capture has failed for good or,
// if failed is nil, has been told to stop.
func (p *Pipeline) drain(ctx context.Context, failed error, end func(at uint64)) error {
	if failed != nil {
		p.logger().Error("capture has stopped; what is in the queue is still applied", "err", failed)
	} else {
		p.logger().Info("capture has stopped, as asked; what is in the queue is still applied")
	}
	// The leg that failed keeps its error in Stats; this one asks the queue only.
	l := &leg{p: p, name: "capture", st: new(legStats)}
	return l.retry(ctx, func() (progress bool, err error) {
		at, err := p.Queue.Checkpoint(ctx)
		if err != nil {
			return false, &Error{Part: "queue", At: at, Err: err}
		}
		end(at.Seq)
		return false, nil
	})
}

func (p *Pipeline) check() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("dfs: Pipeline."+format, args...))
		}
	}
	fault(p.Source == nil, "Source is nil; set where transactions come from")
	fault(p.Sink == nil, "Sink is nil; set where transactions go to")
	fault(p.Queue != nil && same(p.Queue, p.Sink), "Queue and Sink are the same; leave Queue nil to fill the queue only")
	fault(p.Reject != nil && p.Letters != nil, "Reject and Letters are both set; choose one of them to take what is refused")
	fault(p.MaxBatch < 0, "MaxBatch is %d; use 0 for the default", p.MaxBatch)
	fault(p.ReadAhead < 0, "ReadAhead is %d; use 0 for the default", p.ReadAhead)
	fault(p.RetryWait < 0, "RetryWait is %v; use 0 for the default", p.RetryWait)
	for i, s := range p.Stages {
		fault(s == nil, "Stages[%d] is nil; leave it out", i)
	}
	return errors.Join(errs...)
}

// same reports whether a and b are one and the same, as far as they can be
// compared.
func same(a, b any) bool { return reflect.ValueOf(a).Comparable() && a == b }

func (p *Pipeline) maxBatch() int            { return cmp.Or(p.MaxBatch, 4096) }
func (p *Pipeline) readAhead() int           { return cmp.Or(p.ReadAhead, 6<<20) }
func (p *Pipeline) retryWait() time.Duration { return cmp.Or(p.RetryWait, 100*time.Millisecond) }
func (p *Pipeline) stopWait() time.Duration  { return max(cmp.Or(p.StopTimeout, 10*time.Second), 0) }

func (p *Pipeline) logger() *slog.Logger {
	if p.Logger != nil {
		return p.Logger
	}
	return slog.Default()
}

// align resets a queue that stands before its sink, because it was lost or put
// back from an older copy, so that the source goes on from the sink's
// checkpoint. While the sink cannot be asked, a queue that holds something is
// used as it is: capture should not wait for the target. If it then turns out to
// be behind, reading it fails.
func (p *Pipeline) align(ctx context.Context) error {
	l := &leg{p: p, name: "start", st: &p.apply}
	return l.retry(ctx, func() (progress bool, err error) {
		q, err := p.Queue.Checkpoint(ctx)
		if err != nil {
			return false, &Error{Part: "queue", At: q, Err: err}
		}
		s, err := p.Sink.Checkpoint(ctx)
		if err != nil {
			if q.Seq > 0 && errors.Is(err, ErrTransient) {
				return false, nil
			}
			return false, &Error{Part: "sink", At: s, Err: err}
		}
		if q.Seq >= s.Seq {
			return false, nil
		}
		if q.Seq > 0 {
			p.logger().Warn("queue is older than the target; starting it anew", "queue", q.Seq, "target", s.Seq)
		}
		if err := p.Queue.Reset(ctx, s); err != nil {
			return false, &Error{Part: "queue", At: q, Err: err}
		}
		return false, nil
	})
}

func (p *Pipeline) start(cancel, stopCapture context.CancelFunc) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		return false
	}
	p.running = true
	p.control.cancel, p.control.stopCapture = cancel, nil
	if p.Queue != nil {
		p.control.stopCapture = stopCapture
	}
	p.apply.reset(Starting)
	if p.Queue != nil {
		p.capture.reset(Starting)
	} else {
		p.capture.reset(Stopped)
	}
	return true
}

func (p *Pipeline) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = false
	p.control.cancel, p.control.stopCapture = nil, nil
}

// Pause makes the sink hold still after the batch in hand. Capture into the
// queue goes on, if there is one. A paused pipeline still stops when its context
// ends. Pausing twice is the same as once, and a pause outlives Run.
func (p *Pipeline) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate == nil {
		p.gate = make(chan struct{})
	}
}

// Resume ends a Pause. What waits to try again after a transient error, which may be a
// minute, tries at once.
func (p *Pipeline) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// woken returns what the next Resume closes.
func (p *Pipeline) woken() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	return p.wake
}

func (p *Pipeline) paused() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gate
}
