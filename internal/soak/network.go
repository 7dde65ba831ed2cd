//go:build unix

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dataflowsync/dfs/internal/faults"
)

// netFaults break the network between DFS and its servers, which goes through two
// proxies.
var netFaults = []fault{
	{"net-rst", 2, "all connections of DFS to one server reset", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "reset", func(p *faults.Proxy) { p.Reset() }, nil, 0)
	}},
	{"net-fin", 1, "all connections of DFS to one server closed", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "closed", func(p *faults.Proxy) { p.End() }, nil, 0)
	}},
	{"net-blackhole", 1, "all connections of DFS to one server silent for good, with nobody told", (*soak).blackhole},
	{"net-drip", 1, "1 KB a second between DFS and one server for some seconds", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "drip", func(p *faults.Proxy) { p.Rate(1 << 10) }, (*faults.Proxy).Heal, 8*time.Second)
	}},
	{"net-delay", 1, "100 ms between DFS and one server for some seconds", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "delay", func(p *faults.Proxy) { p.Delay(100 * time.Millisecond) }, (*faults.Proxy).Heal, 8*time.Second)
	}},
	{"net-partition", 1, "nothing gets through between DFS and one server for up to 30 seconds", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "partition", func(p *faults.Proxy) { p.Partition(true) }, (*faults.Proxy).Heal, 30*time.Second)
	}},
	{"net-refuse", 1, "one server refuses DFS's connections for some seconds", func(s *soak, ctx context.Context) error {
		return s.network(ctx, "refused", func(p *faults.Proxy) { p.Refuse(true); p.Reset() }, (*faults.Proxy).Heal, 5*time.Second)
	}},
	{"net-flip", 1, "bits of the source's log turned over on the way, for some seconds", func(s *soak, ctx context.Context) error {
		return s.flip(ctx)
	}},
	{"lost-commit", 3, "COMMITs to the target whose answer is lost, or which are lost themselves", (*soak).lostCommit},
}

// side chooses a server by chance, and returns the proxy before it and its name.
func (s *soak) side() (p *faults.Proxy, which string) {
	if s.rnd.IntN(2) == 0 {
		return s.near, "source"
	}
	return s.far, "target"
}

// last waits for up to a time by chance.
func (s *soak) last(ctx context.Context, most time.Duration) {
	if s.brief {
		most /= 8
	}
	sleep(ctx, most/8+time.Duration(s.rnd.Int64N(int64(most*7/8))))
}

// network breaks the network to one server, for up to a time by chance if it is to
// be mended, and waits until DFS applies again.
func (s *soak) network(ctx context.Context, what string, broken, mend func(*faults.Proxy), most time.Duration) error {
	p, which := s.side()
	broken(p)
	if mend != nil {
		s.last(ctx, most)
		mend(p)
	}
	return s.goesOn(ctx, which, which+" "+what, time.Now())
}

// goesOn waits until DFS applies something that it has not yet received, and notes
// how long that took since the moment given.
func (s *soak) goesOn(ctx context.Context, which, what string, since time.Time) error {
	at, err := s.received(ctx, which)
	if err != nil {
		return err
	}
	if _, err := s.applies(ctx, s.dfs, at); err != nil {
		return err
	}
	took := time.Since(since)
	s.tally.recovered(what, took)
	s.say("%s: transaction %d; applying again %v after it", what, at, took.Round(time.Millisecond))
	return nil
}

// received returns the number of a transaction that DFS cannot have in hand: of one
// that the target has or, if the source is what was broken, more than it had. What
// was captured before may still be on its way.
func (s *soak) received(ctx context.Context, which string) (uint64, error) {
	at, err := s.seq(ctx)
	if err != nil || which != "source" {
		return at, err
	}
	source, err := readProgress(ctx, s.src, s.schema)
	if err != nil {
		return at, fmt.Errorf("read the progress of the source: %w", err)
	}
	// It is behind by no more than it says.
	target, err := readProgress(ctx, s.dst, s.schema)
	if err != nil {
		return at, fmt.Errorf("read the progress of the target: %w", err)
	}
	return at + uint64(max(0, source.transactions()-target.transactions())), nil
}

// blackhole makes connections silent. DFS has to notice by itself: on the side of the
// source by the heartbeats that do not come, on that of the target by asking.
func (s *soak) blackhole(ctx context.Context) error {
	p, which := s.side()
	if p.Blackhole() == 0 {
		return fmt.Errorf("DFS has no connection to the %s", which)
	}
	since := time.Now()
	if err := s.goesOn(ctx, which, which+" blackhole", since); err != nil {
		return err
	}
	if took := time.Since(since); took > s.patience/2 {
		s.found.add(byProcess, "a half-open connection to the %s was noticed only after %v", which, took.Round(time.Millisecond))
	}
	p.Heal()
	return nil
}

// flip turns over bits of the log. None may get through, nor stop DFS.
func (s *soak) flip(ctx context.Context) error {
	before := s.near.Counts().Flipped
	s.near.Flip(256 << 10)
	for end := time.Now().Add(s.patience); s.near.Counts().Flipped < before+3; {
		if time.Now().After(end) || s.dfs.ended() || !sleep(ctx, 5*time.Millisecond) {
			break
		}
	}
	s.near.Flip(0)
	return s.goesOn(ctx, "source", "flipped bits", time.Now())
}

// lostCommit loses a few COMMITs, one after the other, in one of three ways. DFS
// cannot know which of them the target has done.
func (s *soak) lostCommit(ctx context.Context) error {
	before := s.far.Counts().LostCommits
	n, how := 1+s.rnd.IntN(4), faults.ReplyLost
	switch s.rnd.IntN(12) {
	case 0:
		n, how = 1, faults.ReplyHeld // it takes DFS some time to notice
	case 1, 2, 3:
		how = faults.RequestLost
	}
	began := time.Now()
	s.far.LoseCommits(n, how)
	for s.far.Counts().LostCommits < before+int64(n) {
		if s.dfs.ended() || time.Since(began) > s.patience {
			s.found.add(byProcess, "DFS has sent %d COMMITs within %v, of %d to lose; it said last:\n%s",
				s.far.Counts().LostCommits-before, time.Since(began).Round(time.Millisecond), n, s.dfs.tail())
			return errStopped
		}
		if !sleep(ctx, 2*time.Millisecond) {
			return ctx.Err()
		}
	}
	lost := time.Now()
	s.tally.lostCommits += n
	what := map[faults.Loss]string{faults.ReplyLost: "COMMIT without its answer", faults.ReplyHeld: "COMMIT without its answer, held",
		faults.RequestLost: "COMMIT that did not arrive"}[how]
	if err := s.goesOn(ctx, "target", what, lost); err != nil {
		return err
	}
	if how == faults.ReplyHeld {
		s.far.Heal()
	}
	return nil
}
