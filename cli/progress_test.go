package cli

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

func testView() view {
	return view{stored: 3 << 20, stats: dfs.Stats{
		State:   dfs.Running,
		Lag:     1234 * time.Millisecond,
		Capture: dfs.Leg{At: dfs.Checkpoint{Seq: 12345}},
		Apply:   dfs.Leg{At: dfs.Checkpoint{Seq: 12000}},
	}}
}

func TestLiveLineLeavesOutTheLeastNeeded(t *testing.T) {
	v := testView()
	for width, want := range map[int]string{
		100: "shop · running · 12,000 tx · 8,412 rows/s · lag 1.2s · queue 345 tx, 3 MiB",
		60:  "shop · running · 12,000 tx · 8,412 rows/s · lag 1.2s",
		50:  "running · 12,000 tx · 8,412 rows/s · lag 1.2s",
		40:  "running · 8,412 rows/s · lag 1.2s",
		20:  "running",
		4:   "runn",
		0:   "",
	} {
		require.Equal(t, want, v.line("shop", 8412.7, width))
	}
}

func TestLiveLineNeverPassesItsWidth(t *testing.T) {
	v := testView()
	v.stats.State = dfs.Retrying
	v.stats.Apply.State, v.stats.Apply.Err = dfs.Retrying, errors.New("sink: dial tcp 127.0.0.1:3307: connection refused\nmore")
	for width := range 200 {
		line := v.line("shop", 1e9, width)
		require.LessOrEqual(t, utf8.RuneCountInString(line), width)
		require.NotContains(t, line, "\n")
	}
	require.Contains(t, v.line("shop", 0, 199), "connection refused")
}

func TestLogLinesScrollAboveTheLiveLine(t *testing.T) {
	var out strings.Builder
	l := &liveLine{out: &out}
	l.set("first")
	l.set("first")
	_, err := l.Write([]byte("log\n"))
	require.NoError(t, err)
	l.set("")
	require.Equal(t, eraseLine+"first"+eraseLine+"log\nfirst"+eraseLine, out.String())
}

func TestRateIsOfAppliedRows(t *testing.T) {
	from, to := testView(), testView()
	from.at, to.at = time.Unix(10, 0), time.Unix(12, 0)
	to.stats.Apply.Applied = 500
	require.InDelta(t, 250, rate(from, to), 0.001)
	require.Zero(t, rate(to, to))
	require.Zero(t, rate(view{at: from.at, stats: to.stats}, view{at: to.at}), "counters start anew with each run")
}

func TestCountAndAgo(t *testing.T) {
	require.Equal(t, []string{"0", "999", "1,000", "1,234,567"}, []string{count(0), count(999), count(1000), count(1234567)})
	require.Equal(t, []string{"0", "12ms", "59.9s", "1m30s"}, []string{ago(0), ago(12345 * time.Microsecond), ago(59900 * time.Millisecond), ago(90 * time.Second)})
}
