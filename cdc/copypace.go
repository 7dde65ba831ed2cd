package cdc

import (
	"context"
	"database/sql"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Hold implements dfs.Holder: chunks that are read are not handed on. What is read
// ahead of that is bounded, so that readers soon wait too.
func (s *Source) Hold(on bool) {
	if s.held.Swap(on) == on || on {
		return
	}
	s.mu.Lock()
	c := s.copier
	s.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake != nil {
		c.wake()
	}
	c.cond.Broadcast()
}

// holds reports whether no chunk is to be handed on. Where the log waits for one it
// is, as what the log has must not wait. mu is held.
func (c *copier) holds() bool { return c.src.held.Load() && c.frozen == nil && c.window < windowSize }

// A pace keeps readers to the bounds of a Snapshot. It is safe for concurrent use.
type pace struct {
	opts              *Snapshot
	maxRows, maxBytes *atomic.Int64 // per second, of the Source

	mu      sync.Mutex
	free    time.Time // when the next rows may be read
	asked   time.Time // when the source was asked for its load
	running int       // and what it was
}

func newPace(o *Snapshot, s *Source) *pace {
	return &pace{opts: o, maxRows: &s.maxRows, maxBytes: &s.maxBytes}
}

// LimitCopies sets how many rows and how many bytes of tables that are copied are read
// per second from now on: see Snapshot.MaxRows and MaxBytes. Zero is no bound. The
// options count again when a Source is opened.
func (s *Source) LimitCopies(rows, bytes int) {
	s.maxRows.Store(int64(max(rows, 0)))
	s.maxBytes.Store(int64(max(bytes, 0)))
}

// loadEvery is how often the source is asked for its load.
const loadEvery = 500 * time.Millisecond

// wait waits while no rows are to be read.
func (p *pace) wait(ctx context.Context, s *Source) error {
	for {
		busy, err := p.busy(ctx, s)
		if err != nil || !busy {
			return err
		}
		if err := sleep(ctx, loadEvery); err != nil {
			return err
		}
	}
}

// busy reports whether the source, or what Hold watches, has too much to do.
func (p *pace) busy(ctx context.Context, s *Source) (bool, error) {
	if p.opts.Hold != nil && p.opts.Hold() || s.replicas.behind(ctx) {
		return true, nil
	}
	if p.opts.MaxThreadsRunning == 0 {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.asked) >= loadEvery {
		err := eachRow(ctx, s.db, "SHOW GLOBAL STATUS LIKE 'Threads_running'", func(v []sql.NullString) {
			p.running, _ = strconv.Atoi(v[1].String)
		})
		if err != nil {
			return false, mark(err)
		}
		p.asked = time.Now()
	}
	return p.running > p.opts.MaxThreadsRunning, nil
}

// took waits as long as rows that were read take by the bounds. Readers share them.
func (p *pace) took(ctx context.Context, rows, bytes int) error {
	var d time.Duration
	if n := p.maxRows.Load(); n > 0 {
		d = time.Duration(rows) * time.Second / time.Duration(n)
	}
	if n := p.maxBytes.Load(); n > 0 {
		d = max(d, time.Duration(bytes)*time.Second/time.Duration(n))
	}
	if d == 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(d)
	left := p.free.Sub(now)
	p.mu.Unlock()
	return sleep(ctx, left)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
