//go:build linux

package main

import (
	"os"
	"path/filepath"
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

// A small run of all contenders, with each outcome compared.
func TestAllContendersReplayTheSame(t *testing.T) {
	dir := t.TempDir()
	o := &options{scale: 0.0005, rounds: 1, only: []string{"mix", latencyPart},
		latency: time.Second, dir: dir}
	r := newReport(o)
	require.NoError(t, runInto(t.Context(), o, r))
	require.Len(t, r.Backlogs, 1)
	for _, res := range r.Backlogs {
		require.Len(t, res.Lines, len(contenders()), res.Name)
		for _, l := range res.Lines {
			require.Positive(t, l.Samples[0].Wall, "%s %s", res.Name, l.Name)
		}
		require.Positive(t, res.line("dfs").Samples[0].RSS)
	}
	require.Len(t, r.Latencies, len(latencyContenders))
	for _, l := range r.Latencies {
		require.Equal(t, pace, l.Transactions)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// A target whose rows are not the source's fails the run.
func TestWrongRowsAreFound(t *testing.T) {
	o := &options{scale: 0.0001, rounds: 1, only: []string{"single", "native"}}
	l, err := openLab(t.Context(), t.TempDir(), o)
	require.NoError(t, err)
	defer l.close()
	b, err := l.generate(t.Context(), workloads()[0])
	require.NoError(t, err)
	require.NoError(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums))

	require.NoError(t, l.source.exec(t.Context(), "UPDATE single.orders SET amount = amount + 1 LIMIT 1"))
	require.ErrorContains(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums), "table single.orders of the target has")
	require.NoError(t, l.source.exec(t.Context(), "DELETE FROM single.end_of_log"))
	require.ErrorContains(t, l.source.compare(t.Context(), b.schema, b.tables, b.sums), "single.end_of_log of the target has 0 rows")
}

// A small copy by all contenders, with rows and definitions compared, and one while
// the source is written to.
func TestAllCopiesAreTheSame(t *testing.T) {
	o := &options{scale: 0.0005, rounds: 1, only: []string{snapshotPart}, dir: t.TempDir()}
	r := newReport(o)
	require.NoError(t, runInto(t.Context(), o, r))
	require.Len(t, r.Backlogs, 1)
	res := r.Backlogs[0]
	require.Len(t, res.Lines, len(copiers()))
	for _, l := range res.Lines {
		require.Positive(t, l.Samples[0].Wall, l.Name)
		require.Positive(t, l.Samples[0].RSS, l.Name)
	}
	require.NotNil(t, r.Copy)
	require.NotEmpty(t, r.Copy.Lag)
	require.Contains(t, string(r.text()), "copy against mydumper and myloader")
}

// Equal tables are equal, and each planted fault is found.
func TestVerificationIsMeasured(t *testing.T) {
	o := &options{scale: 0.0005, rounds: 1, only: []string{verifyPart, archivePart}, dir: t.TempDir()}
	r := newReport(o)
	require.NoError(t, runInto(t.Context(), o, r))
	require.NotNil(t, r.Verify)
	require.Equal(t, 5000, r.Verify.Rows)
	require.Equal(t, len(verifyFaults), r.Verify.Found)
	require.Len(t, r.Archive, len(archived))
	for _, a := range r.Archive {
		require.Positive(t, a.Rate.median())
		require.Less(t, a.Bytes, a.Log)
	}
	require.Positive(t, r.Verify.Ratio.median())
	require.Contains(t, string(r.text()), "x CHECKSUM TABLE")
}

// Chains are carried with new ids and without, and their shapes compared; keys are
// looked up in maps of two sizes.
func TestNewIDsAreMeasured(t *testing.T) {
	o := &options{scale: 0.0005, rounds: 1, only: []string{relmgrPart}, dir: t.TempDir(), maps: 0.001, step: 1}
	r := newReport(o)
	require.NoError(t, runInto(t.Context(), o, r))
	require.Len(t, r.Backlogs, 2)
	for _, res := range r.Backlogs {
		require.Positive(t, res.line("dfs").Samples[0].Wall)
		require.Positive(t, res.line(relmgrPart).Samples[0].RSS)
	}
	require.Positive(t, r.Maps.ratios().median())
	require.Contains(t, string(r.text()), "lookups against a map of 1,024 keys")
}
