//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMain becomes a child when a trial starts the test binary as one.
func TestMain(m *testing.M) {
	if job := os.Getenv(childEnv); job != "" {
		exit(runChild(job))
	}
	os.Exit(m.Run())
}

// A small run of all parts and contenders, on one source, with each outcome compared.
func TestEachPartIsMeasured(t *testing.T) {
	dir := t.TempDir()
	o := &options{scale: 0.0005, rounds: 1, only: []string{"mix", latencyPart, verifyPart, archivePart, relmgrPart, snapshotPart},
		latency: time.Second, dir: dir, maps: 0.001, step: 1}
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
	require.Len(t, r.Backlogs, 4)

	t.Run("contenders replay the same", func(t *testing.T) {
		require.Len(t, backlogs["mix"].Lines, len(contenders()))
		require.Positive(t, backlogs["mix"].line("dfs").Samples[0].RSS)
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
		require.NotEmpty(t, r.Copy.Lag)
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

// A target whose rows are not the source's fails the run. That needs no target.
func TestWrongRowsAreFound(t *testing.T) {
	l := &lab{opts: &options{scale: 0.0001, rounds: 1, only: []string{"single"}}, dir: t.TempDir()}
	var err error
	l.source, err = launch(t.Context(), filepath.Join(l.dir, "source"), sourceArgs)
	require.NoError(t, err)
	defer l.close()
	require.NoError(t, l.prepare(t.Context(), l.source))
	b, err := l.generate(t.Context(), workloads()[0])
	require.NoError(t, err)
	require.NoError(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums))

	require.NoError(t, l.source.exec(t.Context(), "UPDATE single.orders SET amount = amount + 1 LIMIT 1"))
	require.ErrorContains(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums), "table single.orders of the target has")
	require.NoError(t, l.source.exec(t.Context(), "DELETE FROM single.end_of_log"))
	require.ErrorContains(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums), "single.end_of_log of the target has 0 rows")
}
