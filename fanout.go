package dfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// A Fanout carries the transactions of one source, which is read once, to several
// sinks: Capture fills a queue, and each of Pipelines reads it under a name of its
// own. Each has its own Stages, checkpoint, pace and failures. One that fails or
// stands still keeps no other waiting, but the queue holds what it has not read;
// the queue says what becomes of that when it is too much.
type Fanout struct {
	// Capture leads from the source to the queue: its Sink is a Queue.
	Capture *Pipeline

	// Pipelines lead from the queue to the sinks, by names. The Source of each is
	// a reader of Capture's queue that no other has. Where Decoder is nil, Run sets
	// it to the source of Capture, if that is one.
	Pipelines map[string]*Pipeline

	// Each runs one of the pipelines, and returns when that has ended for good. The
	// name is empty for Capture. Default: Pipeline.Run.
	Each func(ctx context.Context, name string, p *Pipeline) error
}

// Run runs all pipelines until ctx ends, and then returns nil. When the source has
// ended, Capture was stopped or drained, or has an error that stays, the others
// apply all that the queue holds, and Run returns. An error that stays of one of
// them is logged at once, and the others go on; Run returns it in the end. Run
// also ends when none of them is left.
//
// Before anything else Run checks the fields, and that the queue has what the
// sinks need: one that was lost begins anew where the sinks stand, if all stand at
// the same place. Else Run returns an error that is ErrGap.
func (f *Fanout) Run(ctx context.Context) error {
	if err := f.check(); err != nil {
		return err
	}
	if d, ok := f.Capture.Source.(Decoder); ok {
		for _, p := range f.Pipelines {
			if p.Decoder == nil {
				p.Decoder = d
			}
		}
	}
	if err := f.align(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	each := f.Each
	if each == nil {
		each = func(ctx context.Context, _ string, p *Pipeline) error { return p.Run(ctx) }
	}
	capturing, stopCapture := context.WithCancel(ctx)
	defer stopCapture()
	var all, out sync.WaitGroup
	names := slices.Sorted(maps.Keys(f.Pipelines))
	errs := make([]error, 1+len(names))
	for i, name := range names {
		p := f.Pipelines[name]
		p.mu.Lock()
		p.control.carrier = f.Capture
		p.mu.Unlock()
		out.Go(func() {
			err := each(ctx, name, p)
			if err == nil {
				return
			}
			errs[1+i] = fmt.Errorf("pipeline %s: %w", name, err)
			if ctx.Err() == nil {
				p.logger().Error("a pipeline has stopped; the others go on, and the queue holds what it has not read", "pipeline", name, "err", err)
			}
		})
	}
	all.Go(func() {
		err := each(capturing, "", f.Capture)
		if err != nil {
			errs[0] = fmt.Errorf("capture: %w", err)
		}
		if capturing.Err() == nil {
			if failed := f.drain(ctx, err); failed != nil {
				errs[0] = errors.Join(errs[0], failed)
			}
		}
	})
	out.Wait()
	stopCapture() // nobody is left to read
	all.Wait()
	return errors.Join(errs...)
}

func (f *Fanout) check() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("dfs: Fanout."+format, args...))
		}
	}
	fault(f.Capture == nil, "Capture is nil; set the pipeline that fills the queue")
	if f.Capture != nil {
		_, ok := f.Capture.Sink.(Queue)
		fault(!ok, "Capture.Sink is not a Queue; set the queue that all read")
		fault(f.Capture.Queue != nil, "Capture.Queue is set; the queue is its Sink here")
		if ok {
			errs = append(errs, f.Capture.check())
		}
	}
	fault(len(f.Pipelines) == 0, "Pipelines is empty; set one for each sink")
	names := slices.Sorted(maps.Keys(f.Pipelines))
	for i, name := range names {
		p := f.Pipelines[name]
		if p == nil {
			fault(true, "Pipelines[%q] is nil; leave it out", name)
			continue
		}
		fault(p.Queue != nil, "Pipelines[%q].Queue is set; its Source is a reader of the queue", name)
		fault(f.Capture != nil && p.Source != nil && same(p.Source, f.Capture.Source),
			"Pipelines[%q].Source is the source itself; give it a reader of the queue", name)
		for _, other := range names[:i] {
			o := f.Pipelines[other]
			if o == nil {
				continue
			}
			fault(p.Source != nil && o.Source != nil && sameReader(p.Source, o.Source),
				"Pipelines[%q] and [%q] have the same Source; give each a reader with a name of its own", other, name)
			fault(p.Sink != nil && o.Sink != nil && same(p.Sink, o.Sink), "Pipelines[%q] and [%q] have the same Sink; give each its own", other, name)
		}
		if err := p.check(); err != nil {
			errs = append(errs, fmt.Errorf("pipeline %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// sameReader reports whether a and b read under the same name, as far as they say.
func sameReader(a, b Source) bool {
	if same(a, b) {
		return true
	}
	x, ok := a.(interface{ SameReader(Source) bool })
	return ok && x.SameReader(b)
}

// align compares the queue with the sinks before anything is read. One that was
// lost, or put back from an older copy, would number the source's transactions
// otherwise than the sinks have them. A sink that cannot be asked keeps the others
// waiting only if the queue is empty; if the queue turns out not to have what it
// needs, reading it fails.
func (f *Fanout) align(ctx context.Context) error {
	queue := f.Capture.Sink.(Queue)
	l := &leg{p: f.Capture, name: "start", st: &f.Capture.apply}
	err := l.retry(ctx, func() (progress bool, err error) {
		q, err := queue.Checkpoint(ctx)
		if err != nil {
			return false, &Error{Part: "queue", At: q, Err: err}
		}
		var high Checkpoint
		var places []string
		equal, first := true, true
		for _, name := range slices.Sorted(maps.Keys(f.Pipelines)) {
			s, err := f.Pipelines[name].Sink.Checkpoint(ctx)
			switch {
			case err != nil && (q.Seq == 0 || ctx.Err() != nil):
				return false, fmt.Errorf("pipeline %s: %w", name, &Error{Part: "sink", At: s, Err: err})
			case err != nil:
				equal = false
				places = append(places, name+": not known")
				continue
			}
			equal = equal && (first || s.Seq == high.Seq && s.Pos == high.Pos)
			first = false
			if s.Seq > high.Seq {
				high = s
			}
			places = append(places, fmt.Sprintf("%s: %d", name, s.Seq))
		}
		switch {
		case q.Seq >= high.Seq:
			return false, nil
		case !equal:
			return false, &Error{Part: "queue", At: q, Err: fmt.Errorf("%w: the queue was lost or is an older copy, and the targets "+
				"stand at different transactions (%s); run each as a pipeline of its own, which reads the source's log from where its "+
				"target stands, or those that stand at the same one together", ErrGap, strings.Join(places, ", "))}
		}
		if q.Seq > 0 {
			f.Capture.logger().Warn("queue is older than the targets; starting it anew", "queue", q.Seq, "targets", high.Seq)
		}
		if err := queue.Reset(ctx, high); err != nil {
			return false, &Error{Part: "queue", At: q, Err: err}
		}
		return false, nil
	})
	if err != nil || ctx.Err() != nil {
		l.stopped(err)
	}
	return err
}

// drain makes all pipelines stop once they have applied what the queue holds.
func (f *Fanout) drain(ctx context.Context, failed error) error {
	log := f.Capture.logger()
	if failed != nil {
		log.Error("capture has stopped; what is in the queue is still applied", "err", failed)
	} else {
		log.Info("capture has ended; what is in the queue is still applied")
	}
	l := &leg{p: f.Capture, name: "capture", st: new(legStats)}
	return l.retry(ctx, func() (progress bool, err error) {
		at, err := f.Capture.Sink.Checkpoint(ctx)
		if err != nil {
			return false, &Error{Part: "queue", At: at, Err: err}
		}
		for _, p := range f.Pipelines {
			if s := p.Stats().StopAt; s != nil && s.Seq != 0 && s.Seq <= at.Seq {
				continue // it is to stop before that
			}
			if err := p.StopAt(StopPoint{Seq: at.Seq}); err != nil {
				return false, err
			}
		}
		return false, nil
	})
}
