package dfs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoChange says that what was asked for is so already.
var ErrNoChange = errors.New("dfs: nothing to change")

// A Follower is a Source that can change which tables it follows while it is read.
// Both methods return once the reader of a Stream has been given what makes the
// change durable, or with an error that says that nothing has changed.
type Follower interface {
	// Follow adds tables, "schema.table" each, from one place of the log on. If rows
	// is set, those that they have are copied. If all are followed already, the
	// error is ErrNoChange.
	Follow(ctx context.Context, tables []string, rows bool) error

	// Unfollow takes tables out, from one place of the log on. If none is followed,
	// the error is ErrNoChange.
	Unfollow(ctx context.Context, tables []string) error
}

// A Recopier is a Source that can copy the rows of a table once more while it is
// read, to a target that has the table already: see Change.Overwrite. where is a
// condition in the source's own language; empty means all rows. It returns as the
// methods of a Follower do, and not when the rows have come: see Progresser.
type Recopier interface {
	Resnapshot(ctx context.Context, table, where string) error
}

// Follow makes the running pipeline carry tables that its source does not follow
// yet, "schema.table" each, and the rows that they have if rows is set. The target
// must have the tables. Follow returns when that is stored, in the queue or else by
// the sink: from then on it outlasts the end of the process, whatever ends it. If
// ctx ends before, it may have happened or not, and the error says which if that is
// known. The error is about a Source that is no Follower, or the source's own.
func (p *Pipeline) Follow(ctx context.Context, tables []string, rows bool) error {
	f, ok := p.Source.(Follower)
	if !ok {
		return errors.New("follow: this kind of source cannot change its tables while it runs; name them in its options, and start anew")
	}
	return p.durably(ctx, "follow", func(ctx context.Context, _ bool) error { return f.Follow(ctx, tables, rows) })
}

// Unfollow makes the running pipeline leave out tables from now on. What the target
// has of them stays. It returns as Follow does.
func (p *Pipeline) Unfollow(ctx context.Context, tables []string) error {
	f, ok := p.Source.(Follower)
	if !ok {
		return errors.New("unfollow: this kind of source cannot change its tables while it runs; name them in its options, and start anew")
	}
	return p.durably(ctx, "unfollow", func(ctx context.Context, _ bool) error { return f.Unfollow(ctx, tables) })
}

// Resnapshot makes the running pipeline copy the rows of a table once more, those
// that meet the condition where, or all if it is empty. It returns as Follow does;
// Stats().Copies then tells how far the copy is.
func (p *Pipeline) Resnapshot(ctx context.Context, table, where string) error {
	r, ok := p.Source.(Recopier)
	if !ok {
		return errors.New("copy: this kind of source cannot copy rows while it runs")
	}
	return p.durably(ctx, "copy", func(ctx context.Context, stored bool) error {
		if stored {
			return ErrNoChange // once more would be one more copy
		}
		return r.Resnapshot(ctx, table, where)
	})
}

// durably asks the source for something, and waits until what it has handed on for
// that is stored. A session may end before: so a question that can be repeated is
// asked until the source, in a session that has stored what it has read, says that
// nothing is left to change.
func (p *Pipeline) durably(ctx context.Context, what string, ask func(ctx context.Context, stored bool) error) error {
	st := &p.apply
	if p.Queue != nil {
		st = &p.capture
	}
	if _, _, _, state := st.stands(); state == Stopped {
		return fmt.Errorf("%s: %w", what, errNotRunning)
	}
	look := time.NewTicker(storedEvery)
	defer look.Stop()
	handed, kept := false, false
	for {
		err := askRunning(ctx, look.C, st, func(ctx context.Context) error { return ask(ctx, kept) })
		switch {
		case handed && errors.Is(err, ErrNoChange):
			return nil
		case err != nil:
			return err
		}
		handed = true
		session, read, _, _ := st.stands()
		for {
			now, _, stored, state := st.stands()
			if kept = now == session && stored >= read; kept || now != session {
				break
			}
			if state == Stopped {
				return fmt.Errorf("%s: %w any more, and the next start may know of it or not: look then", what, errNotRunning)
			}
			select {
			case <-look.C:
			case <-ctx.Done():
				return fmt.Errorf("%s: %w before it was stored; it is on its way", what, ctx.Err())
			}
		}
	}
}

// askRunning asks, for as long as the leg is not stopped.
func askRunning(ctx context.Context, look <-chan time.Time, st *legStats, ask func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- ask(ctx) }()
	for stopped := false; ; {
		select {
		case err := <-done:
			if err != nil && stopped {
				return fmt.Errorf("%w any more: %w", errNotRunning, err)
			}
			return err
		case <-look:
			if _, _, _, state := st.stands(); state == Stopped && !stopped {
				stopped = true
				cancel()
			}
		}
	}
}

// storedEvery is how often it is looked whether something is stored.
const storedEvery = 5 * time.Millisecond

var errNotRunning = errors.New("the pipeline is not running")

// stands returns which session of the leg runs, the last transaction that it has
// read and the last that is stored, and what it is doing.
func (st *legStats) stands() (session, read, stored uint64, s State) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sessions, st.leg.Read, st.leg.At.Seq, st.leg.State
}

// began notes that a session of the leg begins at a checkpoint.
func (st *legStats) began(at uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sessions++
	st.leg.State, st.leg.Err, st.leg.Read = Running, nil, at
}
