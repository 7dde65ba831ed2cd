package dfs

import (
	"context"
	"sync"
)

// A room bounds the bytes between one who takes and one who gives back.
type room struct {
	mu   sync.Mutex
	free int
	wake chan struct{}
}

func newRoom(n int) *room { return &room{free: n, wake: make(chan struct{}, 1)} }

// wait waits until there is some room. It is false if ctx ends.
func (r *room) wait(ctx context.Context) bool {
	for {
		r.mu.Lock()
		free := r.free
		r.mu.Unlock()
		if free > 0 {
			return ctx.Err() == nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return false
		}
	}
}

func (r *room) take(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free -= n
}

func (r *room) give(n int) {
	r.mu.Lock()
	r.free += n
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
