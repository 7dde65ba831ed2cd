//go:build unix

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func Example() {
	r := &report{Pair: "9.7-9.7", Seed: 7, Took: time.Minute,
		Transactions: 24000, Rows: 300000, RolledBack: 960, Snapshots: 2000, Settled: 2, Compared: 46000, Ledgers: 1,
		Faults: map[string]int{"kill": 40, "target-kill": 1},
		Again:  map[string]spread{"kill": {N: 40, P50: 130 * time.Millisecond, P99: 280 * time.Millisecond, Max: 280 * time.Millisecond}},
		Peak:   sample{RSS: 90 << 20, Heap: 60 << 20, Files: 20, Goroutines: 40},
		Trend: trend{Judged: true, Flat: true, Lived: time.Hour, WarmUp: 20 * time.Minute, Samples: [2]int{600, 600},
			Before: sample{RSS: 80 << 20, Heap: 50 << 20, Files: 19, Goroutines: 38}, MostBefore: sample{RSS: 90 << 20, Heap: 60 << 20, Files: 20, Goroutines: 40},
			After: sample{RSS: 81 << 20, Heap: 50 << 20, Files: 19, Goroutines: 38}, MostAfter: sample{RSS: 88 << 20, Heap: 60 << 20, Files: 20, Goroutines: 40}},
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
	//   at most                90 MiB of memory, 60 MiB of heap, 20 open files, 40 goroutines
	//   over time              flat within 5 %: one process for 1h0m0s; after the first 20m0s, the earlier half against the later (600 and 600 samples):
	//     memory               median 80.0 MiB -> 81.0 MiB, most 90.0 MiB -> 88.0 MiB
	//     heap in use          median 50.0 MiB -> 50.0 MiB, most 60.0 MiB -> 60.0 MiB
	//     open files           median 19 -> 19, most 20 -> 20
	//     goroutines           median 38 -> 38, most 40 -> 40
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
	all, err := chosen("", false)
	require.NoError(t, err)
	require.Len(t, all, len(allFaults))
	two, err := chosen("zombie,kill", false)
	require.NoError(t, err)
	require.Equal(t, []string{"zombie", "kill"}, []string{two[0].name, two[1].name})
	alive, err := chosen("alive", false)
	require.NoError(t, err)
	require.Len(t, alive, len(allFaults)-len(endings))
	for _, f := range alive {
		require.NotContains(t, []string{"kill", "stop", "queue", "takeover", "zombie", "promote"}, f.name)
	}
	alive, err = chosen("alive", true)
	require.NoError(t, err)
	require.Equal(t, "promote", alive[len(alive)-1].name)
	_, err = chosen("kill,flood", false)
	require.ErrorContains(t, err, `"flood"`)
}

// of returns how many violations the instrument has found.
func (f *findings) of(instrument string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[instrument]
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

func TestWhatGrowsIsSeen(t *testing.T) {
	life := func(d time.Duration, grow func(part float64) sample) (all []sample) {
		for age := time.Duration(0); age <= d; age += 10 * time.Second {
			x := grow(float64(age) / float64(d))
			x.Age = age
			all = append(all, x)
		}
		return all
	}
	flat := trendOf(life(2*time.Hour, func(part float64) sample {
		// It settles within the first quarter.
		return sample{RSS: int64(100e6 * min(1, 4*part)), Heap: 50e6, Files: 20, Goroutines: 30 + int(part*100)%3}
	}))
	require.True(t, flat.Judged)
	require.True(t, flat.Flat)
	require.Empty(t, flat.Grown)
	require.Empty(t, flat.MostGrown)
	require.Equal(t, 30*time.Minute, flat.WarmUp)
	require.Equal(t, [2]int{270, 271}, flat.Samples)
	leak := trendOf(life(2*time.Hour, func(part float64) sample {
		return sample{RSS: int64(100e6 * (1 + part/4)), Heap: int64(50e6 * (1 + part/4)), Files: 20 + int(12*part), Goroutines: 30 + int(12*part)}
	}))
	require.True(t, leak.Judged)
	require.False(t, leak.Flat)
	require.Len(t, leak.Grown, 4)
	require.Len(t, leak.MostGrown, 4)
	require.Contains(t, leak.verdict(), "NOT flat")
	half := trendOf(life(40*time.Minute, func(part float64) sample { return sample{RSS: 100e6, Files: 20 + int(20*part), Goroutines: 30} }))
	require.True(t, half.Judged, "40 minutes are enough")
	require.Len(t, half.Grown, 1)
	// What grows by a little more than what is allowed is seen, a little less is not, nor
	// is what shrinks.
	for _, c := range []struct {
		from, to int64
		flat     bool
	}{{100e6, 105e6 - 1, true}, {100e6, 105e6 + 1, false}, {100e6, 60e6, true}} {
		step := trendOf(life(time.Hour, func(part float64) sample {
			if part < 2.0/3 {
				return sample{RSS: c.from}
			}
			return sample{RSS: c.to}
		}))
		require.Equal(t, 20*time.Minute, step.WarmUp)
		require.Equal(t, c.flat, step.Flat, "from %d to %d: %+v", c.from, c.to, step)
	}
	// One moment of much is told, and is no growth.
	peak := trendOf(life(time.Hour, func(part float64) sample {
		if part == 1 {
			return sample{RSS: 200e6}
		}
		return sample{RSS: 100e6}
	}))
	require.True(t, peak.Flat)
	require.Equal(t, []string{"memory grew from 95.4 MiB to 190.7 MiB"}, peak.MostGrown)
	require.Contains(t, peak.verdict(), "but for maxima")
	require.False(t, trendOf(life(time.Minute, func(part float64) sample { return sample{RSS: int64(1e6 * part)} })).Judged)
	require.Zero(t, trendOf(nil))
	require.False(t, trendOf([]sample{{Age: time.Hour}}).Judged)

	var b strings.Builder
	(&report{Trend: peak}).writeText(&b)
	for _, part := range []string{"flat within 5 %, but for maxima: one process for 1h0m0s; after the first 20m0s", "median 95.4 MiB -> 95.4 MiB, most 95.4 MiB -> 190.7 MiB"} {
		require.Contains(t, b.String(), part)
	}
}

func TestALifeIsAsLongAsItIsAskedFor(t *testing.T) {
	require.Equal(t, time.Minute, (&job{epoch: time.Minute, duration: 10 * time.Minute}).life())
	require.Equal(t, 20*time.Second, (&job{epoch: time.Minute, duration: 40 * time.Second}).life(), "two lives, one with a ledger")
	require.Equal(t, 45*time.Minute, (&job{epoch: 45 * time.Minute, duration: 45 * time.Minute}).life())
}

// A life of an hour sees many a second DFS come and be refused.
func TestTheLogOfALongLifeStays(t *testing.T) {
	s := &soak{dir: t.TempDir(), schema: "s", command: func(string) *exec.Cmd { return exec.Command("true") }}
	var err error
	s.dfs, err = s.launch("queue")
	require.NoError(t, err)
	for range 45 {
		other, err := s.launch("queue")
		require.NoError(t, err)
		<-other.done
	}
	_, err = s.said()
	require.NoError(t, err)
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	require.NoError(t, err)
	require.Len(t, logs, 21, "20 of the others, and that of the one at work")
}

func TestFiguresAreWrittenIntoADocument(t *testing.T) {
	dir := t.TempDir()
	document, one, two := filepath.Join(dir, "a.md"), filepath.Join(dir, "1.json"), filepath.Join(dir, "2.json")
	write := func(file string, r *report) {
		var b strings.Builder
		require.NoError(t, r.writeJSON(&b))
		require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o600))
	}
	write(one, &report{Pair: "9.7-9.7", Command: "go run one", Rows: 1234567, Faults: map[string]int{"kill": 3},
		Again: map[string]spread{"kill": {N: 3, P50: time.Second, P99: 2 * time.Second, Max: 4 * time.Second}},
		Trend: trend{Lived: 9 * time.Minute}})
	write(two, &report{Pair: "5.6-9.7", Standby: true, Command: "go run two", Violated: 2, Faults: map[string]int{"kill": 4},
		Again: map[string]spread{"kill": {N: 4, P50: time.Second / 2, P99: time.Second, Max: time.Second}},
		Trend: trend{Lived: 40 * time.Minute, Judged: true, Flat: true, MostAfter: sample{RSS: 1}}})
	require.ErrorContains(t, writeInto(document, []string{one}), "no such file")
	require.NoError(t, os.WriteFile(document, []byte("# a\n"+figuresBegin+"old\n"+figuresEnd+"tail\n"), 0o600))
	require.NoError(t, writeInto(document, []string{one, two}))
	text, err := os.ReadFile(document)
	require.NoError(t, err)
	for _, part := range []string{"# a\n" + figuresBegin, figuresEnd + "tail\n", "| 1: 9.7-9.7 |", "| 1,234,567 | 0 | 0 | 0 | 3 | **0** |", "| 2: 5.6-9.7, with a standby |",
		"| **2** | 0 MiB | flat within 5 % over 40m0s: memory 0.0 MiB -> 0.0 MiB |", "| not judged: the longest life was 9m0s |", "| kill -9 of DFS, and a new start | 7 | 1, 2 |",
		"| kill | 7 | 0.50 s to 1.00 s | 2.00 s | 4.00 s |", "2. `go run two`"} {
		require.Contains(t, string(text), part)
	}
	require.NotContains(t, string(text), "old")
	require.NoError(t, os.WriteFile(two, []byte("{}"), 0o600))
	require.ErrorContains(t, writeInto(document, []string{two}), "is no report")
	require.NoError(t, os.WriteFile(document, nil, 0o600))
	require.ErrorContains(t, writeInto(document, []string{one}), "figures between")
}
