package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// late is one of several targets that could not be reached when the program started. It
// is opened, and its tables are looked at, when its pipeline asks for its checkpoint,
// which that does again and again while it cannot be reached.
type late struct {
	p      *parts
	c      *config.Config
	log    *slog.Logger
	change *cdc.FollowChange // what is new in the file

	mu     sync.Mutex
	target target      // nil until it is open
	stages []dfs.Stage // what rows pass before it
}

// wait lets a target that cannot be reached be opened later, if the queue knows it, and
// returns what keeps that from being done.
func (p *parts) wait(ctx context.Context, c *config.Config, log *slog.Logger, err error) error {
	var lost net.Error
	if c.Reader == "" || p.source == nil || p.queue == nil || ctx.Err() != nil || !errors.Is(err, dfs.ErrTransient) && !errors.As(err, &lost) ||
		c.Target.Kind() == config.ArchiveTarget {
		return err
	}
	for _, r := range p.queue.Stats().Readers {
		if r.Name != c.Reader {
			continue
		}
		if r.Seq == 0 {
			return fmt.Errorf("%w; at its first start each of several targets must be there, as its tables are looked at before rows are read", err)
		}
		change, bad := p.resume(ctx)
		if bad != nil {
			return errors.Join(err, bad)
		}
		p.late = &late{p: p, c: c, log: log, change: change}
		log.Warn("a target cannot be reached; the others start, and it is tried again", "err", err)
		return nil
	}
	return err
}

// open opens the target once.
func (l *late) open(ctx context.Context) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target != nil {
		return nil
	}
	p := l.p
	p.target, err = openSink(ctx, l.c, l.log)
	if err != nil {
		p.target = nil
		var lost net.Error
		if errors.As(err, &lost) {
			err = dfs.Transient(err)
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.target.Close(), p.ids.close(), p.finds.Close())
			p.target, p.ids, p.units = nil, nil, nil
		}
	}()
	at, err := p.target.Stored(ctx)
	if err != nil {
		return err
	}
	if at.Seq == 0 {
		return fmt.Errorf("the target %s has nothing of this pipeline yet, and at its first start each of several targets must be there, "+
			"as its tables are looked at before rows are read: start anew, now that it is there", l.c.Target.Address())
	}
	var errs []error
	p.openTables(ctx, l.c, l.log, l.change, func(part string, err error) {
		if err != nil {
			errs = append(errs, &partError{part, err})
		}
	})
	if err = errors.Join(errs...); err != nil {
		return err
	}
	l.stages = append([]dfs.Stage{p.only}, p.stages()...)
	l.target = p.target
	l.log.Info("the target is there", "address", l.c.Target.Address())
	return nil
}

// Checkpoint opens the target, if it is not open, and returns its checkpoint.
func (l *late) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	if err := l.open(ctx); err != nil {
		return dfs.Checkpoint{}, err
	}
	return l.target.Checkpoint(ctx)
}

// Apply is that of the target: a pipeline asks for the Checkpoint first.
func (l *late) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	return l.target.Apply(ctx, batch)
}

// ApplyEach is that of the target, or one Apply after the other where it has none.
func (l *late) ApplyEach(ctx context.Context, next func() []*dfs.Transaction, done func(seq uint64) error) error {
	if o, ok := l.target.(dfs.Overlapper); ok {
		return o.ApplyEach(ctx, next, done)
	}
	for batch := next(); len(batch) > 0; batch = next() {
		last := batch[len(batch)-1].Seq
		if err := l.target.Apply(ctx, batch); err != nil {
			return err
		}
		if err := done(last); err != nil {
			return err
		}
	}
	return nil
}

// Process is what the stages before the target do.
func (l *late) Process(ctx context.Context, batch []*dfs.Transaction) error {
	for _, s := range l.stages {
		if err := s.Process(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// Stats are those of the target, once it is open.
func (l *late) Stats() sink.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == nil {
		return sink.Stats{}
	}
	return l.target.Stats()
}
