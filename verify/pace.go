package verify

import (
	"context"
	"sync"
	"time"
)

// A pace holds back what reads faster than so many rows a second; 0 is no limit.
type pace struct {
	rows int

	mu   sync.Mutex
	free time.Time // when the rows that were read are paid for
}

// spend waits until n rows more may have been read.
func (p *pace) spend(ctx context.Context, n uint64) {
	if p.rows == 0 {
		return
	}
	p.mu.Lock()
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(float64(n) / float64(p.rows) * float64(time.Second)))
	until := p.free
	p.mu.Unlock()
	wait(ctx, time.Until(until))
}

// limit returns how many rows a chunk may have, so that no chunk is more than a
// second's worth.
func (p *pace) limit(n int) int {
	if p.rows > 0 {
		return max(min(n, p.rows), 1)
	}
	return n
}
