//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// TestMain becomes a child when a trial starts the test binary as one.
func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		exit(runChild(job))
	}
	os.Exit(m.Run())
}

// A small run of all parts and contenders, on one source of each kind, with each
// outcome compared.
func TestEachPartIsMeasured(t *testing.T) {
	dir := t.TempDir()
	o := &options{scale: 0.0005, rounds: 1, workers: []int{2, nativeWorkers}, latency: time.Second, dir: dir, maps: 0.001, step: 1,
		only: []string{"single", "sinks", "long", "mariadb", latencyPart, verifyPart, archivePart, relmgrPart, snapshotPart}}
	o.save = filepath.Join(t.TempDir(), "bench.json")
	r := newReport(o)
	require.NoError(t, runInto(t.Context(), o, r))
	text := string(r.text())
	backlogs := make(map[string]*result)
	for _, res := range r.Backlogs {
		backlogs[res.Name] = res
		for _, l := range res.Lines {
			require.Positive(t, l.Samples[0].Wall, "%s %s", res.Name, l.Name)
		}
	}
	require.Len(t, r.Backlogs, 7)
	saved, err := readReport(&options{from: []string{o.save}})
	require.NoError(t, err)
	require.Equal(t, text, string(saved.text()))
	require.ElementsMatch(t, o.parts(), saved.Runs[0].Parts)

	t.Run("contenders replay the same", func(t *testing.T) {
		for _, w := range workloads() {
			if res := backlogs[w.name]; res != nil {
				for _, name := range w.contenders {
					require.NotNil(t, res.line(name), "%s of %s", name, w.name)
				}
			}
		}
		dfs := backlogs["single"].line("dfs").Samples[0]
		require.Positive(t, dfs.RSS)
		require.Positive(t, dfs.Queue)
		require.Greater(t, dfs.Net, backlogs["single"].Bytes) // it came from the source over the loopback device
		require.Positive(t, backlogs["single"].line("canal").Samples[0].RSS)
	})
	// The count by default is that of the contender "native", and needs no second run.
	t.Run("the replica's best count of workers", func(t *testing.T) {
		for _, name := range []string{"single", "mariadb"} {
			best := backlogs[name].line("best")
			require.Equal(t, []int{nativeWorkers, 2}, []int{best.Tried[0].Workers, best.Tried[1].Workers})
			require.Equal(t, best.Tried[0].Rate, backlogs[name].line("native").rates(backlogs[name].Rows)[0])
			if best.Workers == 2 {
				require.Greater(t, best.Tried[1].Rate, best.Tried[0].Rate)
			} else {
				require.Equal(t, backlogs[name].line("native").Samples, best.Samples)
			}
		}
		require.Contains(t, backlogs["mariadb"].Server, "MariaDB")
	})
	t.Run("latency", func(t *testing.T) {
		require.Len(t, r.Latencies, len(latencyContenders))
		for _, l := range r.Latencies {
			require.Equal(t, pace, l.Transactions)
		}
	})
	// Rows and definitions are compared, and DFS copies once more while the source is
	// written to.
	t.Run("copies are the same", func(t *testing.T) {
		res := backlogs[snapshotPart]
		require.Len(t, res.Lines, len(copiers()))
		for _, l := range res.Lines {
			require.Positive(t, l.Samples[0].RSS, l.Name)
		}
		require.NotNil(t, r.Copy)
		require.Positive(t, r.Copy.Beats)
		require.Contains(t, text, "copy against mydumper and myloader")
	})
	// Equal tables are equal, and each planted fault is found.
	t.Run("verification", func(t *testing.T) {
		require.NotNil(t, r.Verify)
		require.Equal(t, 5000, r.Verify.Rows)
		require.Equal(t, len(verifyFaults), r.Verify.Found)
		require.Positive(t, r.Verify.Ratio.median())
		require.Contains(t, text, "x CHECKSUM TABLE")
	})
	t.Run("archives", func(t *testing.T) {
		require.Len(t, r.Archive, len(archived))
		for _, a := range r.Archive {
			require.Positive(t, a.Rate.median())
			require.Less(t, a.Bytes, a.Log)
		}
	})
	t.Run("new ids", func(t *testing.T) {
		n := 0
		for _, res := range r.Backlogs {
			if slices.ContainsFunc(res.Lines, func(l *line) bool { return l.Name == relmgrPart }) {
				require.Positive(t, res.line("dfs").Samples[0].Wall)
				require.Positive(t, res.line(relmgrPart).Samples[0].RSS)
				n++
			}
		}
		require.Equal(t, 2, n)
		require.Positive(t, r.Maps.ratios().median())
		require.Contains(t, text, "lookups against a map of 1,024 keys")
	})
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// Each workload can be written, and a target whose rows are not the source's fails
// the run. That needs no target.
func TestWrongRowsAreFound(t *testing.T) {
	o := &options{scale: 0.0001, rounds: 1}
	for _, w := range workloads() {
		if w.kind == testenv.MySQL97 && w.name != "drain" && w.name != "large" { // these are large at any scale
			o.only = append(o.only, w.name)
		}
	}
	l := &lab{opts: o, dir: t.TempDir()}
	source, err := launch(t.Context(), testenv.MySQL97, filepath.Join(l.dir, "source"), o.sourceArgs(testenv.MySQL97))
	require.NoError(t, err)
	l.sites = map[testenv.Kind]*site{testenv.MySQL97: {opts: o, kind: testenv.MySQL97, source: source}}
	defer l.close()
	require.NoError(t, l.prepare(t.Context(), source))
	for _, w := range workloads() {
		if !slices.Contains(o.only, w.name) {
			continue
		}
		b, err := l.generate(t.Context(), w)
		require.NoError(t, err)
		require.NoError(t, source.compare(t.Context(), b.schema, b.tables, b.sums))
		table := b.schema + "." + b.tables[0]
		if w.name == "single" {
			require.NoError(t, source.exec(t.Context(), "UPDATE "+table+" SET amount = amount + 1 LIMIT 1"))
			require.ErrorContains(t, source.compare(t.Context(), b.schema, b.tables, b.sums), "table "+table+" of the target has")
		}
		require.NoError(t, source.exec(t.Context(), "DELETE FROM "+b.schema+".end_of_log"))
		require.ErrorContains(t, source.compare(t.Context(), b.schema, b.tables, b.sums), b.schema+".end_of_log of the target has 0 rows")
	}
}
