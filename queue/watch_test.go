package queue

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

// A said is a log that may be read while it is written.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

func (s *said) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func TestAReaderThatIsExpectedHoldsBackAllBeforeItsFirstOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	q := opened(t, path, &Options{Readers: []string{"quick", "late"}})
	apply(t, q, txs(1, 2000, 1000)...)
	s, err := q.Reader("quick").Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, q.Reader("quick").Trim(t.Context(), at(2000)))
	apply(t, q, txs(2001, 10, 1000)...)
	require.EqualValues(t, 1, q.Stats().First)

	// It is known to the file, so that a program which does not name it keeps it.
	require.NoError(t, q.Close())
	q = opened(t, path, nil)
	apply(t, q, txs(2011, 10, 1000)...)
	s, err = q.Reader("late").Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	require.NoError(t, s.Close())

	// What is gone cannot be expected.
	for _, name := range []string{"quick", "late"} {
		require.NoError(t, q.Reader(name).Trim(t.Context(), at(2015)))
	}
	eventually(t, q, "blocks are deleted", func(s Stats) bool { return s.First > 1 })
	require.NoError(t, q.Close())
	q = opened(t, path, &Options{Readers: []string{"quick", "late", "new"}})
	require.Len(t, q.Stats().Readers, 2)
	_, err = q.Reader("new").Open(t.Context(), dfs.Checkpoint{})
	require.ErrorIs(t, err, dfs.ErrGap)
	require.ErrorContains(t, err, "make it a pipeline of its own")
}

func TestTheLogIsWarnedOfAReaderThatIsFarBehind(t *testing.T) {
	var log said
	q := newQueue(t, &Options{Readers: []string{"dead", "quick"}, WarnBytes: 100_000, Logger: log.logger()})
	seq := uint64(1)
	more := func(n int) {
		apply(t, q, txs(seq, n, 1000)...)
		seq += uint64(n)
		require.NoError(t, q.Reader("quick").Trim(t.Context(), at(seq-1)))
	}
	for range 4 {
		more(20)
	}
	require.Empty(t, log.String())
	for q.Stats().Readers[0].Bytes < 120_000 {
		more(20)
	}
	require.Equal(t, 1, strings.Count(log.String(), "is far behind"), log.String())
	require.Contains(t, log.String(), "reader=dead")
	for q.Stats().Readers[0].Bytes < 220_000 {
		more(20)
	}
	require.Equal(t, 2, strings.Count(log.String(), "is far behind"), log.String())
	require.NotContains(t, log.String(), "reader=quick")
	require.NoError(t, q.Reader("dead").Trim(t.Context(), at(seq-1)))
	more(1)
	require.Contains(t, log.String(), "has caught up")
}

func TestAReaderForWhichTooMuchWaitsIsForgotten(t *testing.T) {
	var log said
	path := filepath.Join(t.TempDir(), "queue")
	opts := &Options{Readers: []string{"dead", "quick"}, MaxReaderBytes: 300_000, MaxBytes: 2_000_000, Logger: log.logger()}
	q := opened(t, path, opts)
	open, err := q.Reader("dead").Open(t.Context(), dfs.Checkpoint{})
	require.NoError(t, err)
	defer open.Close()
	seq := uint64(1)
	for range 100 { // five times what MaxBytes allows
		apply(t, q, txs(seq, 100, 1000)...)
		seq += 100
		require.NoError(t, q.Reader("quick").Trim(t.Context(), at(seq-1)))
	}
	require.Contains(t, log.String(), "reader=dead")
	require.Equal(t, 1, strings.Count(log.String(), "is forgotten"), log.String())
	require.NotContains(t, log.String(), "reader=quick")
	lost := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, dfs.ErrGap)
		require.ErrorContains(t, err, `reader "dead" was forgotten after transaction 0`)
		require.ErrorContains(t, err, "as a pipeline of its own")
	}
	eventually(t, q, "blocks are deleted", func(s Stats) bool { return s.First > 1 })
	_, err = q.Reader("dead").Open(t.Context(), dfs.Checkpoint{})
	lost(err)
	require.True(t, q.Stats().Readers[0].Lost)

	// Its stream finds out too, and what it says that it has passed moves nothing.
	_, err = open.Next(t.Context(), make([]*dfs.Transaction, 10))
	lost(err)
	require.NoError(t, q.Reader("dead").Trim(t.Context(), at(5)))
	require.True(t, q.Stats().Readers[0].Lost)

	require.NoError(t, q.Close())
	q = opened(t, path, opts)
	_, err = q.Reader("dead").Open(t.Context(), dfs.Checkpoint{})
	lost(err)

	// A target that is put where the queue still has all is read again.
	end, err := q.Checkpoint(t.Context())
	require.NoError(t, err)
	s, err := q.Reader("dead").Open(t.Context(), end)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.False(t, q.Stats().Readers[0].Lost)
	require.NoError(t, q.Close())
	q = opened(t, path, opts)
	require.False(t, q.Stats().Readers[0].Lost)
}

func TestAForgottenReaderThatComesBackInTimeLosesNothing(t *testing.T) {
	q := newQueue(t, &Options{Readers: []string{"slow"}, MaxReaderBytes: 300_000, Keep: 10_000_000, Logger: new(said).logger()})
	apply(t, q, txs(1, 1000, 1000)...)
	require.True(t, q.Stats().Readers[0].Lost)
	require.NoError(t, q.Reader("slow").Trim(t.Context(), at(900)))
	require.False(t, q.Stats().Readers[0].Lost)
	s, err := q.Reader("slow").Open(t.Context(), dfs.Checkpoint{Seq: 900})
	require.NoError(t, err)
	defer s.Close()
	batch := make([]*dfs.Transaction, 1)
	_, err = s.Next(t.Context(), batch)
	require.NoError(t, err)
	require.EqualValues(t, 901, batch[0].Seq)
}

func TestForgetNamesTheReaders(t *testing.T) {
	q := newQueue(t, &Options{Readers: []string{"a", "b"}})
	require.ErrorContains(t, q.Forget(t.Context(), "c"), `there is none; the readers are "a", "b"`)
	require.NoError(t, q.Forget(t.Context(), "a"))
	require.Len(t, q.Stats().Readers, 1)
}

func TestOptionsOfReadersAreChecked(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "queue"), &Options{Readers: []string{"a", "", "a"}, MaxReaderBytes: 10, MaxBytes: 10})
	for _, want := range []string{`Readers[1] has no name`, `the name "a" twice`, "MaxReaderBytes must be less"} {
		require.ErrorContains(t, err, want)
	}
}
