package dfs

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var megabyte = string(make([]byte, 1<<20))

// A copyStream has rows to copy without end, unless they are held, and a commit each
// five milliseconds.
type copyStream struct {
	*memLog
	on   bool
	held int
}

func (s *copyStream) Open(context.Context, Checkpoint) (Stream, error) { return s, nil }
func (s *copyStream) Close() error                                     { return nil }

func (s *copyStream) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
	if on {
		s.held++
	}
}

func (s *copyStream) Next(ctx context.Context, batch []*Transaction) (int, error) {
	time.Sleep(5 * time.Millisecond) // two hundred megabytes a second
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	batch[0] = &Transaction{Committed: time.Now()}
	if s.on {
		return 1, nil
	}
	rows := &Transaction{Snapshot: true, Changes: insert(1)}
	rows.Changes[0].After = Row{StringValue(megabyte)}
	batch[1] = rows
	return 2, nil
}

// A narrowSink takes ten megabytes a second.
type narrowSink struct {
	*memLog
	lag, most time.Duration
}

func (s *narrowSink) Apply(ctx context.Context, batch []*Transaction) error {
	n, oldest := 0, time.Time{}
	for _, tx := range batch {
		n += tx.Size()
		if oldest.IsZero() {
			oldest = tx.Committed
		}
		tx.Changes = nil
	}
	time.Sleep(time.Duration(n) * time.Second / 10e6)
	s.lag = time.Since(oldest)
	s.most = max(s.most, s.lag)
	return s.memLog.Apply(ctx, batch)
}

func TestRowsOfACopyDoNotKeepCommitsWaiting(t *testing.T) {
	for _, queue := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			src, dst := &copyStream{memLog: newLog(1, 0)}, &narrowSink{memLog: newLog(2, 0)}
			p := &Pipeline{Source: src, Sink: dst, Logger: discard}
			if queue {
				p.Queue = newLog(3, 0)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			require.NoError(t, p.Run(ctx))
			require.NotZero(t, src.held)
			require.Less(t, dst.most, 2*time.Second)
			require.Greater(t, float64(p.Stats().Apply.Bytes), 0.9*10e6*10, "and the sink has always something to do")
			require.False(t, newHeld(src))
		})
	}
}

// newHeld reports whether rows are held at the beginning of another run.
func newHeld(src *copyStream) bool {
	src.Hold(true)
	(&Pipeline{Source: src}).newHoldback()
	return src.on
}
