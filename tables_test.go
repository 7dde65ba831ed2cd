package dfs

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A changer is a source of nothing but changes of its tables. Each is taken over by a
// stream, and answered when the stream is asked for more.
type changer struct {
	mu       sync.Mutex
	wanted   string // the table that Follow is called with; empty: none
	answer   chan error
	followed string // as of the latest stream
	asked    int
}

func (c *changer) Follow(ctx context.Context, tables []string, _ bool) error {
	c.mu.Lock()
	c.asked++
	if c.followed == tables[0] {
		c.mu.Unlock()
		return ErrNoChange
	}
	answer := make(chan error, 1)
	c.wanted, c.answer = tables[0], answer
	c.mu.Unlock()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *changer) Unfollow(context.Context, []string) error { return errors.New("not today") }

func (c *changer) Open(_ context.Context, from Checkpoint) (Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.followed = from.State
	return &changerStream{c: c}, nil
}

type changerStream struct {
	c     *changer
	given bool
}

func (s *changerStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	c := s.c
	for {
		c.mu.Lock()
		if s.given {
			s.given = false
			c.answer <- nil
			c.wanted = ""
		}
		if c.wanted != "" {
			s.given, c.followed = true, c.wanted
			batch[0] = &Transaction{Checkpoint: Checkpoint{Pos: "here", State: c.wanted}}
			c.mu.Unlock()
			return 1, nil
		}
		c.mu.Unlock()
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *changerStream) Close() error { return nil }

// A cell is a sink that keeps its checkpoint, and fails when it is told to.
type cell struct {
	mu   sync.Mutex
	at   Checkpoint
	fail int           // so many times
	hold chan struct{} // Apply waits for it, if set
}

func (c *cell) Checkpoint(context.Context) (Checkpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at, nil
}

func (c *cell) Apply(ctx context.Context, batch []*Transaction) error {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail > 0 {
		c.fail--
		return Transient(errors.New("the target is away"))
	}
	for _, tx := range batch {
		state := c.at.State
		if c.at = tx.Checkpoint; tx.State == "" {
			c.at.State = state
		}
	}
	return nil
}

// What Follow has answered is stored, also if sessions end between, and nothing else is
// answered with nil.
func TestFollowReturnsWhenItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, dst := new(changer), &cell{fail: 3, hold: make(chan struct{})}
		p := &Pipeline{Source: src, Sink: dst, Logger: discard}
		require.ErrorContains(t, p.Follow(t.Context(), []string{"s.a"}, true), "the pipeline is not running")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		synctest.Wait()
		answered := make(chan error, 1)
		go func() { answered <- p.Follow(ctx, []string{"s.a"}, true) }()
		time.Sleep(time.Minute)
		select {
		case err := <-answered:
			t.Fatal("answered before it was stored: ", err)
		default:
		}
		close(dst.hold)
		require.NoError(t, <-answered)
		at, _ := dst.Checkpoint(ctx)
		require.Equal(t, "s.a", at.State)
		require.Greater(t, src.asked, 3, "each session that ended has lost it")

		require.ErrorIs(t, p.Follow(ctx, []string{"s.a"}, true), ErrNoChange)
		require.ErrorContains(t, p.Unfollow(ctx, []string{"s.a"}), "not today")
		require.ErrorContains(t, p.Resnapshot(ctx, "s.a", ""), "this kind of source cannot copy rows")

		// A pipeline that stops meanwhile says so.
		dst.mu.Lock()
		dst.hold = make(chan struct{})
		dst.mu.Unlock()
		go func() { answered <- p.Follow(t.Context(), []string{"s.b"}, true) }()
		time.Sleep(time.Second)
		stop()
		require.ErrorContains(t, <-answered, "the pipeline is not running any more")
		require.NoError(t, <-done)
		require.ErrorContains(t, (&Pipeline{Source: plainSource{}, Sink: dst}).Follow(t.Context(), nil, false), "cannot change its tables")
	})
}

// plainSource is a Source that can do nothing else.
type plainSource struct{}

func (plainSource) Open(context.Context, Checkpoint) (Stream, error) { return nil, errors.New("none") }
