//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dataflowsync/dfs/internal/faults"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if way, ok := isBroken(); ok {
		os.Exit(runBroken(way, os.Args[1]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "dfs-soak-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = sync.OnceValues(func() (string, error) { return build(context.Background(), dir) })
	return m.Run()
}

// program returns the path of examples/basic, built without the race detector.
var program func() (string, error)

func product(t *testing.T) func(config string) *exec.Cmd {
	binary, err := program()
	require.NoError(t, err)
	return basic(binary)
}

// servers starts the two servers of a pair.
func servers(t *testing.T, p pair) (source, target *testenv.Server) {
	return testenv.Start(t, p.source, serverArgs(p.source)...), testenv.Start(t, p.target, serverArgs(p.target)...)
}

// seed returns a new one, or that of the environment for a replay.
func seed(t *testing.T) uint64 {
	n := rand.Uint64N(1e9) + 1
	if s := os.Getenv("DFS_SOAK_SEED"); s != "" {
		_, err := fmt.Sscan(s, &n)
		require.NoError(t, err)
	}
	t.Logf("DFS_SOAK_SEED=%d", n)
	return n
}

// begin sets a soak up and begins to write.
func begin(t *testing.T, source, target *testenv.Server, command func(string) *exec.Cmd, o options) *soak {
	t.Helper()
	s, err := newSoak(t.Context(), source, target, t.TempDir(), command, t.Output(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close()) })
	s.load(t.Context())
	return s
}

// faultNamed returns the fault of that name.
func faultNamed(t *testing.T, name string) fault {
	all := everyFault()
	i := slices.IndexFunc(all, func(f fault) bool { return f.name == name })
	require.GreaterOrEqual(t, i, 0)
	return all[i]
}

// strike does the faults in turn.
func strike(t *testing.T, s *soak, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.strike(t.Context(), faultNamed(t, name)); err != nil {
			judge(t, s)
			require.NoError(t, err)
		}
	}
}

// end makes the checks at the end, none of which may find anything.
func end(t *testing.T, s *soak) {
	t.Helper()
	err := s.settle(t.Context())
	judge(t, s)
	require.NoError(t, err)
	require.Positive(t, s.reader.snapshots.Load())
	require.Positive(t, s.tally.compared)
	require.Positive(t, s.work.transactions.Load())
}

func judge(t *testing.T, s *soak) {
	t.Helper()
	var b bytes.Buffer
	r := s.report(t.Name())
	r.writeText(&b)
	t.Log(b.String())
	require.Zero(t, r.Violated)
}

// rounds is how often DFS is killed in a test.
const rounds = 30

func TestKill(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			source, target := servers(t, p)
			s := begin(t, source, target, product(t), options{seed: seed(t), rate: 4000})
			n := rounds
			if p != pairs[0] {
				n /= 2
			}
			for range n {
				strike(t, s, "kill")
			}
			end(t, s)
			require.Equal(t, n, s.tally.faults["kill"])
		})
	}
}

func TestServersRestart(t *testing.T) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			source, target := servers(t, p)
			s := begin(t, source, target, product(t), options{seed: seed(t)})
			// The target is of the same kind in the first two pairs.
			if p.source != testenv.MySQL56 {
				strike(t, s, "target-kill", "target-stop")
			}
			strike(t, s, "source-kill", "source-stop")
			end(t, s)
		})
	}
}

func TestQueueFileDeleted(t *testing.T) {
	source, target := servers(t, pairs[0])
	s := begin(t, source, target, product(t), options{seed: seed(t), ledger: true})
	strike(t, s, "queue", "queue", "kill", "queue", "stop", "queue", "queue")
	end(t, s)
}

func TestTwoInstances(t *testing.T) {
	source, target := servers(t, pairs[0])
	s := begin(t, source, target, product(t), options{seed: seed(t), ledger: true})
	strike(t, s, "second", "takeover", "zombie", "takeover", "second", "zombie", "freeze", "zombie")
	end(t, s)
}

// TestNetworkAndTroubles breaks the network, and lets a target be as bad as others and
// people can make it, as far as that does not take long to be noticed: what does is
// tested in the packages sink and cdc, with less patience.
func TestNetworkAndTroubles(t *testing.T) {
	source, target := servers(t, pairs[0])
	s := begin(t, source, target, product(t), options{seed: seed(t), brief: true})
	strike(t, s, "net-rst", "net-drip", "net-flip", "net-refuse", "net-delay", "deadlock", "read-only", "too-many", "password", "lock-tables")
	for i := range int64(10) {
		s.far.LoseCommits(1, faults.Loss(i%2*2)) // and not those that are held
		require.Eventually(t, func() bool { return s.far.Counts().LostCommits > i }, time.Minute, time.Millisecond)
	}
	end(t, s)
}

// TestPromotions lets a replica take the place of the source.
func TestPromotions(t *testing.T) {
	p := pairs[0]
	args := append(serverArgs(p.source), standbyArgs(p.source)...)
	source, standby := testenv.Start(t, p.source, args...), testenv.Start(t, p.source, args...)
	target := testenv.Start(t, p.target, serverArgs(p.target)...)
	s := begin(t, source, target, product(t), options{seed: seed(t), rate: 1000, pause: -1, standby: standby})
	strike(t, s, "promote", "kill", "promote")
	end(t, s)
}

// TestInstruments proves that each instrument finds what it is there for.
func TestInstruments(t *testing.T) {
	source, target := servers(t, pairs[0])
	n := seed(t)
	for _, c := range []struct {
		way    string
		ledger bool
		finds  []string // instruments that must find it
		faults []string
	}{
		{whole, true, nil, []string{"kill", "queue", "stop"}},
		{losing, false, []string{byReader}, nil},
		{doubling, true, []string{byReader, byLedger, byEquality}, nil},
		{tearing, false, []string{byReader}, nil},
		{garbling, false, []string{byEquality}, nil},
		{repeating, false, []string{byReader, byEquality}, nil},
		{repeating, true, []string{byLedger}, nil},
		{lagging, false, []string{byPosition}, nil},
		{ending, false, []string{byProcess}, nil},
		{stubborn, false, []string{byProcess}, []string{"takeover"}},
	} {
		name := c.way
		if c.ledger {
			name += "_noted"
		}
		t.Run(name, func(t *testing.T) {
			o := options{schema: name, seed: n, pause: -1, ledger: c.ledger}
			if c.way == lagging || c.way == stubborn {
				o.patience = 5 * time.Second // it will be needed in full
			}
			s := begin(t, source, target, broken(c.way), o)
			var err error
			for i := 0; i < len(c.faults) && err == nil; i++ {
				err = s.strike(t.Context(), faultNamed(t, c.faults[i]))
			}
			// What shows for a moment may be missed, and on a slow machine there are few
			// batches: then there is more to see.
			found := func() bool {
				return !slices.ContainsFunc(c.finds, func(by string) bool { return s.found.of(by) == 0 })
			}
			for n := int64(400); err == nil; n += 400 {
				if err = s.written(t.Context(), n); err == nil {
					err = s.settle(t.Context())
				}
				if err != nil || found() || n == 8000 {
					break
				}
				s.load(t.Context())
			}
			if err != nil {
				require.ErrorIs(t, err, errStopped)
			}
			kept, all := s.found.all()
			t.Logf("%d violations, the first of which are %q", all, kept)
			if c.finds == nil {
				require.Zero(t, all)
			}
			for _, instrument := range c.finds {
				require.Positive(t, s.found.of(instrument), "violations found by the instrument: %s", instrument)
			}
		})
	}
}

// written waits until the workload has committed n transactions, and DFS has
// applied some after that.
func (s *soak) written(ctx context.Context, n int64) error {
	for s.work.transactions.Load() < n {
		if s.dfs.ended() {
			return s.working(ctx)
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
	return s.working(ctx)
}
