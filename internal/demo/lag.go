//go:build unix

package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A probe measures how long a commit on the source takes to be seen on the
// target: it counts up the row in heartbeat, and reads the target until the
// count is there.
type probe struct {
	source, target *sql.DB

	mu      sync.Mutex
	n       uint64
	seen    time.Time // when the last count was seen
	samples []sample
}

// A sample is one measurement.
type sample struct {
	at  time.Time // of the commit
	lag time.Duration
}

// run measures twenty times a second, until ctx ends.
func (p *probe) run(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s, err := p.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
		p.mu.Lock()
		p.samples = append(p.samples, s)
		p.seen = s.at.Add(s.lag)
		p.mu.Unlock()
	}
}

// once commits a count on the source and waits until it is on the target.
func (p *probe) once(ctx context.Context) (sample, error) {
	p.n++
	if _, err := p.source.ExecContext(ctx, "UPDATE shop.heartbeat SET n = ?, at = UTC_TIMESTAMP(6) WHERE id = 1", p.n); err != nil {
		return sample{}, err
	}
	committed := time.Now()
	for {
		var n uint64
		err := p.target.QueryRowContext(ctx, "SELECT COALESCE(MAX(n), 0) FROM shop.heartbeat").Scan(&n)
		if err != nil {
			return sample{}, err
		}
		if n >= p.n {
			return sample{committed, time.Since(committed)}, nil
		}
		select {
		case <-ctx.Done():
			return sample{}, ctx.Err()
		case <-time.After(500 * time.Microsecond):
		}
	}
}

// last returns the latest measurement.
func (p *probe) last() sample {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == 0 {
		return sample{}
	}
	return p.samples[len(p.samples)-1]
}

// steady returns the measurements that do not touch the time between from and
// to, least first.
func (p *probe) steady(from, to time.Time) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lags []time.Duration
	for _, s := range p.samples {
		if s.at.Add(s.lag).Before(from) || s.at.After(to) {
			lags = append(lags, s.lag)
		}
	}
	slices.Sort(lags)
	return lags
}

// quantile returns the value below which the share q of the sorted list lies.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
