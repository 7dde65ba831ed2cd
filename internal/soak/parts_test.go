//go:build unix

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func Example() {
	r := &report{Pair: "9.7-9.7", Seed: 7, Took: time.Minute,
		Transactions: 24000, Rows: 300000, RolledBack: 960, Snapshots: 2000, Settled: 2, Compared: 46000, Ledgers: 1,
		Faults:     map[string]int{"kill": 40, "target-kill": 1},
		Again:      map[string]spread{"kill": {N: 40, P50: 130 * time.Millisecond, P99: 280 * time.Millisecond, Max: 280 * time.Millisecond}},
		Violations: []violation{{byReader, "the accounts add up to 19999900 hundredths, not to 20000000"}},
		Violated:   1, Replay: "go run ./internal/soak -pair 9.7-9.7 -seed 7 -duration 1m0s -rate 5000"}
	r.writeText(os.Stdout)
	// Output:
	// soak 9.7-9.7, seed 7, 1m0s
	//   transactions           24000 (400/s), and 960 rolled back
	//   rows changed           300000 (5000/s)
	//   snapshots judged       2000
	//   rows compared          46000, in 2 comparisons of all tables
	//   ledgers checked        1
	//   kill                   40 times: kill -9 of DFS, and a new start
	//   target-kill            1 times: kill -9 of the target
	//   faults                 41
	//   applying again         p50 130ms, p99 280ms, max 280ms (40 times, after: kill)
	//   violations             1
	//     reader: the accounts add up to 19999900 hundredths, not to 20000000
	//   again: go run ./internal/soak -pair 9.7-9.7 -seed 7 -duration 1m0s -rate 5000
}

func TestReportIsAlsoJSON(t *testing.T) {
	want := report{Pair: "5.6-9.7", Seed: 1 << 60, Faults: map[string]int{"stop": 3},
		Again: map[string]spread{"stop": spreadOf([]time.Duration{time.Second})}, Violations: []violation{{byLedger, "x"}}, Violated: 1}
	var text strings.Builder
	require.NoError(t, want.writeJSON(&text))
	var have report
	require.NoError(t, json.Unmarshal([]byte(text.String()), &have))
	require.Equal(t, want, have)
}

func TestSpread(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(200-i)*time.Millisecond)
	}
	require.Equal(t, spread{N: 200, P50: 100 * time.Millisecond, P99: 198 * time.Millisecond, Max: 200 * time.Millisecond}, spreadOf(d))
	require.Equal(t, spread{N: 1, P50: time.Second, P99: time.Second, Max: time.Second}, spreadOf([]time.Duration{time.Second}))
	require.Zero(t, spreadOf(nil))
}

// A sound state is one that the workload can leave. Each way to spoil it must be
// seen.
func TestFaultsOfAState(t *testing.T) {
	sound := func() *state {
		return &state{
			progress: map[int]progress{0: {n: 3}, 1: {n: 9, audits: 12, tokens: 4, orders: 2, items: 5, gen: 7}, 2: {n: 4, audits: 4, tokens: 1}},
			money:    accounts * 1000 * 100, audits: 16,
			tokens: map[int]int64{1: 4, 2: 1}, orders: map[int]int64{1: 2}, items: map[int]int64{1: 5},
			seats: [2]int64{seats, seats}, bulk: &bulk{bulkRows, 7, 7},
		}
	}
	require.Empty(t, sound().faults())
	require.Empty(t, sound().backward(sound()))
	require.Empty(t, sound().ahead(sound()))
	for name, spoil := range map[string]func(*state){
		"money":             func(st *state) { st.money++ },
		"a count too few":   func(st *state) { st.audits-- },
		"a token too many":  func(st *state) { st.tokens[2]++ },
		"an order too few":  func(st *state) { st.orders[1]-- },
		"an item too few":   func(st *state) { st.items[1]-- },
		"an orphan":         func(st *state) { st.orphans++ },
		"a seat too few":    func(st *state) { st.seats[0]-- },
		"a seat unnamed":    func(st *state) { st.seats[1]-- },
		"a token of nobody": func(st *state) { st.surplus = []string{"token"} },
		"half of bulk":      func(st *state) { st.bulk.first-- },
		"all of bulk":       func(st *state) { *st.bulk = bulk{bulkRows, 6, 6} },
		"less of bulk":      func(st *state) { st.bulk.rows-- },
		"progress alone":    func(st *state) { st.progress[2] = progress{n: 5, audits: 5, tokens: 1} },
	} {
		st := sound()
		spoil(st)
		require.Len(t, st.faults(), 1, name)
	}
	older := sound()
	older.progress[2] = progress{n: 3}
	require.Len(t, older.backward(sound()), 1)
	require.Len(t, sound().ahead(older), 1)
}

func TestPositions(t *testing.T) {
	const set = "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5,\n0a11fa47-71ca-11e1-9e33-c80aa9429562:1-3:7"
	require.Equal(t, canonical(set), covered("gtid 0a11fa47 0a11fa47-71ca-11e1-9e33-c80aa9429562:1-3:7,3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5 binlog.000002:4"))
	require.Equal(t, "0-1-5", covered("mariadb 1 0-1-5 binlog.000001:1507"))
	require.Empty(t, covered("gtid x - binlog.000001:4"))
	require.Empty(t, covered(""))
}

func TestChosenFaults(t *testing.T) {
	all, err := chosen("")
	require.NoError(t, err)
	require.Len(t, all, len(faults))
	two, err := chosen("zombie,kill")
	require.NoError(t, err)
	require.Equal(t, []string{"zombie", "kill"}, []string{two[0].name, two[1].name})
	_, err = chosen("kill,flood")
	require.ErrorContains(t, err, `"flood"`)
}

func TestFindingsKeepTheFirstAndCountAll(t *testing.T) {
	var f findings
	for i := range 100 {
		f.add(byReader, "reading %d", i)
	}
	f.add(byLedger, "a step")
	kept, n := f.all()
	require.Equal(t, 101, n)
	require.Len(t, kept, mostFindings+1)
	require.Equal(t, violation{byReader, "reading 0"}, kept[0])
	require.Equal(t, 100, f.of(byReader))
}
