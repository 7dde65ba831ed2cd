package dfs

import (
	"context"
	"time"
)

// stopMargin is how long after StopPoint.Time the source's clock must be before its
// silence counts: a transaction has the time at which its commit began.
const stopMargin = 2 * time.Second

// untilTime ends the session once the source's clock is past the time at which to
// stop, and the sink has all that the source's log has: then there is no later
// transaction to stop before. It returns when ctx ends, or if the source cannot be
// asked.
func (l *leg) untilTime(ctx context.Context, s *stopper) {
	var from Prober
	for _, part := range [...]any{l.p.Source, l.p.Decoder} {
		if pr, ok := part.(Prober); ok && from == nil {
			from = pr
		}
	}
	if from == nil {
		return
	}
	wait := time.Until(s.Time.Add(stopMargin))
	if probe, err := from.Probe(ctx, ""); err == nil {
		wait -= probe.ClockOffset
	}
	wait = max(wait, time.Second)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = time.Second
		st := l.p.Stats()
		at := st.Apply.At
		if max(st.Apply.Read, st.Capture.At.Seq) > at.Seq || at.Pos == "" {
			continue // more is to come
		}
		probe, err := from.Probe(ctx, at.Pos)
		if err != nil || probe.Unread != 0 && probe.UnreadBytes != 0 {
			continue
		}
		// The clock was read before the log's end.
		if probe.At.Add(probe.ClockOffset - probe.ClockError).Before(s.Time.Add(stopMargin)) {
			continue
		}
		s.idle.Store(true)
		l.p.change(func(*control) {})
		return
	}
}
