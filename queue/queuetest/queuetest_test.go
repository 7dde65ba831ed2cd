package queuetest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/queue/queuetest"
)

// memory is a queue in memory that keeps the contract, unless it has a bug.
type memory struct {
	bug string

	mu      sync.Mutex
	changed chan struct{}
	base    dfs.Checkpoint
	txs     []dfs.Transaction
	whole   int // of txs
}

func (m *memory) has(bug string) bool { return m.bug == bug }

func (m *memory) end() dfs.Checkpoint {
	return m.at(m.whole)
}

// at is where the queue stood after the first n of txs.
func (m *memory) at(n int) dfs.Checkpoint {
	c := m.base
	for i := range m.txs[:n] {
		latest := c.State
		if c = m.txs[i].Checkpoint; c.State == "" && !m.has("State of the last transaction only") {
			c.State = latest
		}
	}
	return c
}

func (m *memory) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.has("Checkpoint keeps parts") {
		m.txs = m.txs[:m.whole]
	}
	c := m.end()
	if m.has("Checkpoint without position") {
		c.Pos = ""
	}
	return c, ctx.Err()
}

func (m *memory) Apply(ctx context.Context, batch []*dfs.Transaction) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil && !m.has("Apply ignores its context") {
		return err
	}
	if len(batch) == 0 {
		return nil
	}
	if want := m.base.Seq + uint64(len(m.txs)) + 1; batch[0].Seq != want && !m.has("no compare-and-set") {
		return dfs.ErrConflict
	}
	for _, tx := range batch {
		c := *tx
		switch {
		case m.has("Committed to the second"):
			c.Committed = c.Committed.Truncate(time.Second)
		case m.has("State lost"):
			c.State = ""
		case m.has("ID lost"):
			c.ID = ""
		case m.has("Snapshot lost"):
			c.Snapshot = false
		case m.has("empty Encoded becomes nil") && len(c.Encoded) == 0:
			c.Encoded = nil
		case m.has("changes lost"):
			c.Changes = nil
		case m.has("changes through the codec") && c.Changes != nil:
			c.Changes, _ = dfs.ParseChanges(dfs.AppendChanges(nil, c.Changes))
		}
		m.txs = append(m.txs, c)
		if !tx.More || m.has("parts are seen") {
			m.whole = len(m.txs)
		}
	}
	close(m.changed)
	m.changed = make(chan struct{})
	return nil
}

func (m *memory) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (from.Seq < m.base.Seq && !m.has("reader before the start")) || (from.Seq > m.end().Seq && !m.has("reader beyond the end")) {
		return nil, dfs.ErrGap
	}
	if m.has("Open from the start") {
		from.Seq = m.base.Seq
	}
	return &memoryStream{m: m, seq: from.Seq}, ctx.Err()
}

func (m *memory) Reset(ctx context.Context, at dfs.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if m.has("Reset never goes back") && at.Seq < m.base.Seq {
		return errors.New("backwards")
	}
	if m.has("Reset keeps the State") {
		at.State = m.end().State
	}
	m.base, m.txs, m.whole = at, nil, 0
	return nil
}

func (m *memory) Trim(ctx context.Context, upTo dfs.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := int(upTo.Seq - m.base.Seq)
	if m.has("Trim takes one too many") {
		n = min(n+1, len(m.txs))
	}
	if n <= 0 {
		return nil
	}
	m.base = m.at(n)
	m.txs, m.whole = append([]dfs.Transaction(nil), m.txs[n:]...), m.whole-n
	return nil
}

type memoryStream struct {
	m   *memory
	seq uint64
}

func (s *memoryStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	m := s.m
	for {
		m.mu.Lock()
		n := 0
		for i := int(s.seq - m.base.Seq); i < m.whole && i >= 0 && n < len(batch); i++ {
			tx := m.txs[i]
			tx.Encoded = tx.Encoded[:len(tx.Encoded):len(tx.Encoded)]
			tx.Changes = append([]dfs.Change(nil), tx.Changes...)
			for j := range tx.Changes {
				tx.Changes[j].Before = append(dfs.Row(nil), tx.Changes[j].Before...)
			}
			if m.has("returns its own memory") {
				tx.Encoded = tx.Encoded[:len(tx.Encoded):cap(m.txs[i].Encoded)]
				tx.Changes = m.txs[i].Changes
			}
			if m.has("one too long a batch") && i > 0 && len(tx.Encoded) > 100_000 {
				n--
			}
			batch[n] = &tx
			n++
			s.seq++
			if len(tx.Encoded) > 300_000 && !m.has("endless batch") {
				break
			}
			if m.has("skips") && s.seq%97 == 0 {
				s.seq++
			}
		}
		changed := m.changed
		m.mu.Unlock()
		if n > 0 && (ctx.Err() == nil || m.has("Next ignores its context")) {
			return n, nil
		}
		s.seq -= uint64(n)
		if m.has("Next does not wait") {
			return 0, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func (s *memoryStream) Close() error { return nil }

// A disk of queues in memory, by folder.
func openMemory(bug string) func(*testing.T, string) dfs.Queue {
	disk := make(map[string]*memory)
	return func(t *testing.T, dir string) dfs.Queue {
		m := disk[dir]
		if m == nil || bug == "forgets on restart" {
			m = &memory{bug: bug, changed: make(chan struct{})}
			disk[dir] = m
		}
		m.txs = m.txs[:m.whole]
		return m
	}
}

func TestSuitePassesWhatKeepsTheContract(t *testing.T) {
	queuetest.Run(t, openMemory(os.Getenv("QUEUETEST_BUG")))
}

// Each bug must fail the suite. A test cannot fail on purpose, so this runs the
// one above in a process of its own.
func TestSuiteFindsEveryBug(t *testing.T) {
	if os.Getenv("QUEUETEST_BUG") != "" {
		return // this is that process
	}
	bugs := []string{
		"Checkpoint keeps parts", "Checkpoint without position", "no compare-and-set", "Apply ignores its context",
		"Committed to the second", "State lost", "State of the last transaction only", "Reset keeps the State", "ID lost", "Snapshot lost", "empty Encoded becomes nil", "changes lost",
		"parts are seen", "reader before the start", "reader beyond the end", "Open from the start",
		"Reset never goes back", "Trim takes one too many", "returns its own memory", "one too long a batch",
		"endless batch", "skips", "Next ignores its context", "Next does not wait", "forgets on restart",
	}
	// Most of the time they wait for a transaction that never comes.
	outputs, errs := make([]string, len(bugs)), make([]error, len(bugs))
	var wg sync.WaitGroup
	for i, bug := range bugs {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuitePassesWhatKeepsTheContract$", "-test.failfast")
			cmd.Env = append(os.Environ(), "QUEUETEST_BUG="+bug)
			out, err := cmd.CombinedOutput()
			outputs[i], errs[i] = string(out), err
		})
	}
	wg.Wait()
	for i, bug := range bugs {
		var exit *exec.ExitError
		require.ErrorAs(t, errs[i], &exit, "the suite passes a queue with the bug %q", bug)
		require.Contains(t, outputs[i], "--- FAIL", bug)
	}
}
