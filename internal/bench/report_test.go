//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// runs returns samples that took the given milliseconds.
func runs(ms ...int) []sample {
	var s []sample
	for _, n := range ms {
		s = append(s, sample{Wall: time.Duration(n) * time.Millisecond, Self: 500 * time.Millisecond,
			Target: time.Second, Machine: 4 * time.Second, Idle: 2 * time.Second, RSS: 40 << 20})
	}
	return s
}

func sampleReport() *report {
	return &report{
		Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Machine: "some processor", Cores: 2,
		Kernel: "6.0", Go: "go1.26", Server: "9.7.4", Scale: 0.5, Rounds: 3, opts: &options{},
		Backlogs: []*result{{
			Name: "single", Title: "single-row transactions", Txs: 10_000, Rows: 10_000, Bytes: 5 << 20,
			Lines: []*line{
				{Name: "dfs", Title: "DFS", Samples: runs(500, 400, 1000)},
				{Name: "native", Title: "replica | other", Samples: runs(5000, 2000, 4000)},
				{Name: "capture", Title: "capture", Samples: []sample{{Wall: 20 * time.Millisecond}}},
				{Name: "gomysql", Title: "go-mysql", Samples: []sample{{Wall: 60 * time.Millisecond}}},
			},
		}},
		Latencies: []*latencyResult{{
			Name: "dfs", Rate: 499, Transactions: 3,
			P50: spread{2, 1, 3}, P95: spread{60, 60, 60}, P99: spread{60, 20, 70}, Max: spread{60, 60, 80}, Last: runs(1)[0],
		}},
	}
}

func TestReport(t *testing.T) {
	require.Equal(t, `single: single-row transactions
(10,000 transactions, 10,000 rows, 5 MB of log)
                                    rows/s   x native   CPU s   CPU s target   idle %   peak MiB
  DFS               20,000 (10,000–25,000)   5 (4–10)    0.50           1.00       50         40
  replica | other      2,500 (2,000–5,000)          1    0.50           1.00       50         40
  capture                          500,000
  go-mysql                         166,667

latency: from commit to visible, single-row transactions, 500 a second
(ms)
                        p50          p95          p99   max   transactions
  DFS, end to end   2 (1–3)   60 (60–60)   60 (20–70)    80              3

goals
(median of the rounds; they are meant for SCALE=1)
                                                                             wanted          reached
  capture to durable queue, single-row transactions                ≥ 300,000 rows/s   500,000 rows/s      ok
  capture to durable queue against go-mysql's decode                           ≥ 2x               3x      ok
  end to end against the native replica, single-row transactions               ≥ 8x        5 (4–10)x   short
  commit to visible at 500 transactions/s, p50                              ≤ 10 ms       2 (1–3) ms      ok
  commit to visible at 500 transactions/s, p99                              ≤ 50 ms    60 (20–70) ms   short
  pace of the source while latency was measured                             ≥ 475/s            499/s      ok
  end to end against the native replica, single-row transactions: contender 12 %, target 25 %, source 0 %, rest of the machine 12 %, idle 50 %
  commit to visible at 500 transactions/s, p99: contender 12 %, target 25 %, source 0 %, rest of the machine 12 %, idle 50 %

2026-01-02: 2 cores (some processor), Linux 6.0, go1.26, MySQL 9.7.4; SCALE=0.5, 3 rounds, in turn; all processes on these cores
figures are the median, with the least and the greatest round; the target has sync_binlog=1, innodb_flush_log_at_trx_commit=1, a binary log, and 512 MB of buffer pool; after each replay its rows equal the source's
`, string(sampleReport().text()))
}

func TestReportAsMarkdownAndJSON(t *testing.T) {
	r := sampleReport()
	r.opts = &options{json: true, md: filepath.Join(t.TempDir(), "report.md")}
	out, err := os.Create(filepath.Join(t.TempDir(), "report.json"))
	require.NoError(t, err)
	defer out.Close()
	require.NoError(t, r.print(out))

	md, err := os.ReadFile(r.opts.md)
	require.NoError(t, err)
	require.Contains(t, string(md), "|  | rows/s | x native | CPU s | CPU s target | idle % | peak MiB |\n|---|---:|---:|---:|---:|---:|---:|\n")
	require.Contains(t, string(md), `| replica \| other | 2,500 (2,000–5,000) |`)

	b, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	var got struct {
		Scale    float64
		Backlogs []result
		Goals    []goal
	}
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, 0.5, got.Scale)
	require.Equal(t, *r.Backlogs[0].Lines[0], *got.Backlogs[0].Lines[0])
	require.Equal(t, r.goals(), got.Goals)
}

func TestMemoryGoalsGoByTheWorstRound(t *testing.T) {
	s := runs(1, 1)
	s[0].RSS = 200 << 20
	r := &report{Backlogs: []*result{
		{Name: "drain", Bytes: 1 << 30, Lines: []*line{{Name: "dfs", Samples: s}}},
		{Name: "large", Rows: 1_000_001, Lines: []*line{{Name: "dfs", Samples: s}}},
	}}
	goals := r.goals()
	require.Len(t, goals, 2)
	require.Equal(t, "memory while draining 1,024 MB of log", goals[0].What)
	require.False(t, goals[0].OK)
	require.Equal(t, "memory for a transaction of 1,000,000 rows", goals[1].What)
	require.True(t, goals[1].OK)
}

func TestQuantile(t *testing.T) {
	var v []time.Duration
	for i := range 1000 {
		v = append(v, time.Duration(i+1))
	}
	require.Equal(t, time.Duration(500), quantile(v, 0.5))
	require.Equal(t, time.Duration(990), quantile(v, 0.99))
	require.Equal(t, time.Duration(1000), quantile(v, 1))
	require.Equal(t, time.Duration(1), quantile(v, 0))
	require.Zero(t, quantile(nil, 0.5))
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.5: "0.5", 9.999: "10", 12.34: "12.3", 100: "100", 1234567: "1,234,567"} {
		require.Equal(t, want, figure(v))
	}
	require.Equal(t, "999", count(999))
	require.Equal(t, "1,000", count(1000))
}

func TestLastGTID(t *testing.T) {
	require.Equal(t, "u:9", lastGTID("u:1-9"))
	require.Equal(t, "u:9", lastGTID("u:1-3:5-9"))
	require.Equal(t, "u:9", lastGTID("u:1-3:9"))
}

func TestFlags(t *testing.T) {
	t.Setenv("SCALE", "0.5")
	o, err := parseFlags([]string{"-only", "single,dfs"})
	require.NoError(t, err)
	require.Equal(t, 0.5, o.scale)
	require.True(t, o.wants("single", partNames()))
	require.False(t, o.wants("batch", partNames()))
	require.True(t, o.wants("dfs", contenderNames()))
	require.False(t, o.wants("native", contenderNames()))

	o, err = parseFlags([]string{"-scale", "1", "-only", "native"})
	require.NoError(t, err)
	require.Equal(t, 1.0, o.scale)
	require.True(t, o.wants("batch", partNames()))

	_, err = parseFlags([]string{"-scale", "0", "-rounds", "0", "-only", "singel", "more"})
	for _, fault := range []string{"scale is 0", "rounds is 0", `"singel"`, `"more"`} {
		require.ErrorContains(t, err, fault)
	}
	t.Setenv("SCALE", "half")
	_, err = parseFlags(nil)
	require.ErrorContains(t, err, `SCALE is "half"`)
}
