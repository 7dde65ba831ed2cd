package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// TestRandomUse does at random all that can be done with a queue, and compares
// it with a model that is a few numbers: tx makes each transaction from its Seq.
func TestRandomUse(t *testing.T) {
	seed := testseed.New(t)
	for round := range uint64(lessUnderRace(6)) {
		t.Logf("seed %d", seed+round)
		m := &model{T: t, rng: rand.New(rand.NewPCG(seed+round, 1)), readers: map[string]uint64{}}
		m.path = filepath.Join(memory(t), "queue")
		m.reopen()
		for range 400 {
			m.step()
		}
		m.reopen()
		require.NoError(t, m.q.Close())
		verify(t, m.path)
	}
}

type model struct {
	*testing.T
	rng         *rand.Rand
	path        string
	q           *Queue
	base        uint64 // the highest that may have been trimmed
	whole, last uint64
	state       string // the latest
	readers     map[string]uint64
}

func (m *model) reopen() {
	if m.q != nil {
		require.NoError(m, m.q.Close())
	}
	opts := &Options{walBytes: int64(m.rng.IntN(1 << 20)), freePages: int64(m.rng.IntN(100)) + 1}
	if m.rng.IntN(2) == 0 {
		opts.Keep = int64(m.rng.IntN(100_000))
	}
	if m.rng.IntN(3) == 0 {
		opts.KeepFor = time.Duration(m.rng.IntN(20)) * time.Millisecond
	}
	var err error
	m.q, err = Open(m.path, opts)
	require.NoError(m, err)
	m.last = m.whole
	m.checkpoint()
}

func (m *model) checkpoint() {
	at, err := m.q.Checkpoint(m.Context())
	require.NoError(m, err)
	require.Equal(m, m.whole, at.Seq)
	if m.whole > 0 {
		require.Equal(m, tx(m.whole, 0).Pos, at.Pos)
	}
	require.Equal(m, m.state, at.State)
	m.last = m.whole
}

func (m *model) step() {
	switch m.rng.IntN(12) {
	case 0, 1, 2, 3:
		m.apply()
	case 4:
		m.checkpoint()
	case 5, 6, 7:
		m.read()
	case 8, 9:
		m.trim()
	case 10:
		if m.rng.IntN(4) == 0 {
			m.reopen()
		}
	case 11:
		m.rare()
	}
}

// apply applies a batch, which may hold and end with parts, in one of ten cases
// under a context that ends at any time.
func (m *model) apply() {
	batch := txs(m.last+1, m.rng.IntN(300)+1, m.rng.IntN(3000))
	for _, tx := range batch {
		tx.More = m.rng.IntN(4) == 0
		if !tx.More && m.rng.IntN(100) == 0 {
			tx.State = stateAt(tx.Seq)
		}
	}
	ctx, cancel := context.WithCancel(m.Context())
	defer cancel()
	if m.rng.IntN(10) == 0 {
		time.AfterFunc(time.Duration(m.rng.IntN(2000))*time.Microsecond, cancel)
	}
	err := m.q.Apply(ctx, batch)
	whole, state := m.whole, m.state
	for _, tx := range batch {
		if !tx.More {
			whole, state = tx.Seq, cmp.Or(tx.State, state)
		}
	}
	if err != nil {
		require.ErrorIs(m, err, context.Canceled)
		at, err := m.q.Checkpoint(m.Context())
		require.NoError(m, err)
		require.Contains(m, []uint64{m.whole, whole}, at.Seq, "all or nothing")
		if at.Seq != m.whole {
			m.state = state
		}
		require.Equal(m, m.state, at.State)
		m.whole, m.last = at.Seq, at.Seq
		return
	}
	m.whole, m.last, m.state = whole, batch[len(batch)-1].Seq, state
	if m.rng.IntN(5) == 0 {
		require.ErrorIs(m, m.q.Apply(m.Context(), txs(m.last+2, 1, 1)), dfs.ErrConflict)
	}
}

func (m *model) name() string { return []string{"a", "b", "default"}[m.rng.IntN(3)] }

// boundary finds a transaction from from on that is no part, or the last.
func (m *model) boundary(from uint64) uint64 {
	s, err := m.q.find(m.Context(), "", dfs.Checkpoint{Seq: from})
	if err != nil {
		require.ErrorIs(m, err, dfs.ErrGap)
		return m.whole
	}
	require.NoError(m, s.Close())
	return from
}

func (m *model) read() {
	from := m.base
	if m.whole > m.base {
		from += m.rng.Uint64N(m.whole - m.base + 1)
	}
	from = m.boundary(from)
	name := m.name()
	s, err := m.q.Reader(name).Open(m.Context(), dfs.Checkpoint{Seq: from})
	require.NoError(m, err)
	if at, known := m.readers[name]; !known || from < at {
		m.readers[name] = from
	}
	// Where it is the first since all were forgotten, what it has passed may go.
	low := m.whole
	for _, seq := range m.readers {
		low = min(low, seq)
	}
	m.base = max(m.base, low)
	follow(m, s, from+1, min(m.whole, from+uint64(m.rng.IntN(500))))
	require.NoError(m, s.Close())
}

func (m *model) trim() {
	name := m.name()
	at, known := m.readers[name]
	if !known {
		return
	}
	if at < m.whole {
		at = m.boundary(at + m.rng.Uint64N(m.whole-at))
	}
	require.NoError(m, m.q.Reader(name).Trim(m.Context(), dfs.Checkpoint{Seq: at}))
	m.readers[name] = max(m.readers[name], at)
	low := m.whole
	for _, seq := range m.readers {
		low = min(low, seq)
	}
	m.base = max(m.base, low)
}

// rare resets the queue, or forgets a reader.
func (m *model) rare() {
	ctx := m.Context()
	if m.rng.IntN(4) == 0 {
		seq := m.rng.Uint64N(m.whole + 100)
		at := tx(seq, 0).Checkpoint
		if m.state = ""; m.rng.IntN(2) == 0 {
			m.state = fmt.Sprint("state of a reset to ", seq)
		}
		at.State = m.state
		require.NoError(m, m.q.Reset(ctx, at))
		m.base, m.whole, m.last = seq, seq, seq
		for name := range m.readers {
			m.readers[name] = seq
		}
		return
	}
	name := m.name()
	_, known := m.readers[name]
	if err := m.q.Forget(ctx, name); known {
		require.NoError(m, err)
	} else {
		require.Error(m, err)
		require.False(m, errors.Is(err, dfs.ErrTransient))
	}
	delete(m.readers, name)
	low := m.whole
	for _, seq := range m.readers {
		low = min(low, seq)
	}
	if len(m.readers) > 0 {
		m.base = max(m.base, low)
	}
}
