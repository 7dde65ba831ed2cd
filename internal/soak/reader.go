//go:build unix

package main

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"time"
)

// A reader is a client of the target that watches it during the run. Whatever
// it reads must be a state that the source has had, and no older than what it
// read before. It also tells how far the target is behind.
type reader struct {
	src, dst *sql.DB
	schema   string
	found    *findings
	work     *workload

	snapshots atomic.Int64
	missed    atomic.Int64 // for want of a server

	stop context.CancelFunc
	wg   sync.WaitGroup
	last *state
}

// most is how many transactions the target may be behind before the workload
// waits. So the drain at the end has an end.
const most = 1500

func (r *reader) start(ctx context.Context) {
	ctx, r.stop = context.WithCancel(ctx)
	r.wg.Go(func() {
		for i := 0; sleep(ctx, 20*time.Millisecond); i++ {
			r.look(ctx, i%8 == 0)
		}
	})
}

func (r *reader) halt() {
	if r.stop != nil {
		r.stop()
		r.wg.Wait()
		r.stop = nil
	}
}

// look takes one snapshot and judges it. A server that is away, or goes, says
// nothing about what it holds.
func (r *reader) look(ctx context.Context, withBulk bool) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	now, err := readState(ctx, r.dst, r.schema, withBulk)
	if err != nil {
		if ctx.Err() == nil {
			r.missed.Add(1)
		}
		return
	}
	r.snapshots.Add(1)
	for _, f := range now.faults() {
		r.found.add(byReader, "the target, with %d transactions: %s", now.transactions(), f)
	}
	if r.last != nil {
		for _, f := range now.backward(r.last) {
			r.found.add(byReader, "the target: %s", f)
		}
	}
	r.last = now
	source, err := readProgress(ctx, r.src, r.schema)
	// A server that does not sync its log at each commit sends a transaction to
	// its replicas before it shows it to others, though it is certain by then.
	for end := time.Now().Add(2 * time.Second); err == nil && len(now.ahead(source)) > 0 && time.Now().Before(end); {
		sleep(ctx, 20*time.Millisecond)
		source, err = readProgress(ctx, r.src, r.schema)
	}
	if err != nil {
		return
	}
	for _, f := range now.ahead(source) {
		r.found.add(byReader, "the target is ahead of the source: %s", f)
	}
	r.work.held.Store(source.transactions()-now.transactions() > most)
}
