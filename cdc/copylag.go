package cdc

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// lag is how much earlier than its view a statement's window begins, where the
// server does not tell which transactions all can see: MySQL without GTIDs writes
// them to the log first.
func (c *copier) lag() time.Duration {
	switch {
	case c.src.maria && c.xa.Load():
		// An XA COMMIT is in the log before others see what it commits, and the view
		// that opens between is said to be behind it.
		return commitWait
	case c.src.maria || c.src.known().gtid:
		return 0
	}
	return commitWait + c.src.known().ackWait
}

// since returns where in the window the changes of the last while begin.
func (t *copyTable) since(wait time.Duration) int {
	from := time.Now().Add(-wait)
	i, _ := slices.BinarySearchFunc(t.log, from, func(ch change, at time.Time) int { return ch.at.Compare(at) })
	return t.base + i
}

// early returns how long it takes until a statement can begin, where lag is not 0:
// until what the log had before the window is old enough. mu is held.
func (c *copier) early(t *copyTable) time.Duration {
	wait := c.lag()
	if wait == 0 {
		return 0
	}
	from := later(c.began, t.altered)
	switch {
	case t.shape == nil:
	case t.key == nil:
		from = later(from, t.changed) // it has no window
	default:
		from = later(from, t.unnoted)
	}
	return time.Until(from.Add(wait))
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// restWait is how long a table is waited for to be left alone for a moment, where lag
// asks for that.
const restWait = 5 * time.Minute

var errRestless = fmt.Errorf("it is changed all the time, and without GTIDs a table without a key can be read only once it has been left alone for a moment, for which %v were not enough", restWait)

// settled waits until what a statement reads from now on has all that the log has
// had up to where it was handed on.
func (c *copier) settled(ctx context.Context, t *copyTable) error {
	for began := time.Now(); ; {
		c.mu.Lock()
		left := c.early(t)
		c.mu.Unlock()
		if left <= 0 {
			break
		}
		if time.Since(began) > restWait {
			return errRestless
		}
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if c.lag() > 0 {
		return nil
	}
	if c.src.maria {
		return nil // its view tells its place
	}
	c.mu.Lock()
	pos := c.pos
	c.mu.Unlock()
	p, err := parsePosition(pos)
	if err != nil {
		return err
	}
	set := p.set.String()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var seen bool
		var name string
		if err := c.src.db.QueryRowContext(ctx, "SELECT GTID_SUBSET(?, @@global.gtid_executed), @@server_uuid", set).Scan(&seen, &name); err != nil {
			return mark(fmt.Errorf("cdc: ask what was committed: %w", err))
		}
		if err := c.sameServer(name); err != nil {
			return err
		}
		if seen {
			return nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
