package monitor

import (
	"context"
	"fmt"

	"github.com/dataflowsync/dfs"
)

// A runner is Run at work. It is guarded by watched.mu.
type runner struct {
	start   chan struct{} // closed to start again; nil unless Run runs
	waiting bool          // Run waits for that
	asked   bool          // a person has told the pipeline to stop
	place   bool          // and to do so at a place, which outlives a start
	err     error         // why Run waits
}

// Run runs the named pipeline as Pipeline.Run does, until ctx ends. When the
// pipeline stops by an error, or because it was told to by way of the Handler,
// Run waits until it is told to start again, so that the page can show what
// happened. If ctx ends meanwhile, Run returns the error. It returns nil when the
// source has ended.
func (h *Handler) Run(ctx context.Context, name string) error {
	w := h.lines[name]
	if w == nil {
		return fmt.Errorf("monitor: there is no pipeline %q", name)
	}
	defer w.set(func(r *runner) { *r = runner{} })
	for {
		again := make(chan struct{})
		w.set(func(r *runner) { *r = runner{start: again, place: r.place} })
		err := w.p.Run(ctx)
		if ctx.Err() != nil {
			return err
		}
		held := false
		w.set(func(r *runner) {
			there := r.place && w.p.Stats().StopAt == nil // it is forgotten once it is reached
			held = err != nil || r.asked || there
			r.waiting, r.err, r.place = held, err, r.place && !there
		})
		h.look()
		if !held {
			return nil
		}
		if err != nil {
			h.opts.Logger.Error("stopped by an error; mend it, then start it again from the monitor", "pipeline", name, "err", err)
		} else {
			h.opts.Logger.Info("stopped, as asked; start it again from the monitor", "pipeline", name)
		}
		select {
		case <-again:
		case <-ctx.Done():
			return err
		}
	}
}

func (w *watched) set(f func(*runner)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.runner)
}

// can returns the actions that make sense now. w.mu is held.
func (w *watched) can(s dfs.Stats) []string {
	if s.State == dfs.Stopped {
		can := []string{"skip", "stop-at"}
		if w.runner.waiting {
			can = append(can, "start")
		}
		return can
	}
	var can []string
	if s.State != dfs.Paused {
		can = append(can, "pause")
	}
	if s.State != dfs.Running { // else it is not paused; while it retries, it may be
		can = append(can, "resume")
	}
	can = append(can, "stop", "stop-at", "skip")
	if w.p.Queue != nil {
		can = append(can, "drain")
	}
	return append(can, w.tableActions()...)
}
