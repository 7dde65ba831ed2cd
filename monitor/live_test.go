package monitor

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/dataflowsync/dfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func contextWith(ctx context.Context, key, value any) context.Context {
	return context.WithValue(ctx, key, value)
}

// dial opens a WebSocket.
func dial(t *testing.T, l *lab, head http.Header) *websocket.Conn {
	c, _, err := websocket.Dial(t.Context(), l.server(t).URL+"/api/live", &websocket.DialOptions{HTTPHeader: head})
	require.NoError(t, err)
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// frames reads frames until f is true of one.
func frames(t *testing.T, c *websocket.Conn, f func(kind string, raw []byte) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, b, err := c.Read(ctx)
		require.NoError(t, err)
		var head struct{ Type string }
		require.NoError(t, json.Unmarshal(b, &head))
		if f(head.Type, b) {
			return
		}
	}
}

func TestAWebSocketTellsStatesAndEachLineOnce(t *testing.T) {
	l := newLab(t, nil)
	l.slog.Info("before")
	waitFor(t, func() bool { l.h.hub.mu.Lock(); defer l.h.hub.mu.Unlock(); return l.h.hub.line >= 1 })
	c := dial(t, l, nil)
	go func() {
		for i := range 100 {
			l.slog.Info("line", "i", i)
		}
	}()
	l.src.add(7)
	var seen []string
	applied, last := uint64(0), uint64(0)
	frames(t, c, func(kind string, raw []byte) bool {
		switch kind {
		case "state":
			var f liveState
			require.NoError(t, json.Unmarshal(raw, &f))
			applied = f.Pipelines[0].Rows
		case "log":
			var f liveLog
			require.NoError(t, json.Unmarshal(raw, &f))
			require.Zero(t, f.Missed)
			for _, line := range f.Lines {
				require.Greater(t, line.N, last, "each once, in order")
				last = line.N
				seen = append(seen, line.Text)
			}
		}
		return applied == 7 && len(seen) >= 101
	})
	require.Contains(t, seen, "before")
}

func TestAFloodOfLinesIsThinnedAndErrorsStay(t *testing.T) {
	l := newLab(t, &Options{every: 200 * time.Millisecond})
	c := dial(t, l, nil)
	const n = 20_000
	for i := range n {
		l.slog.Info("noise", "i", i)
		if i == 100 { // the last 2000 lines are kept
			l.slog.Error("needle")
		}
	}
	missed, shown, needle, largest := uint64(0), uint64(0), false, 0
	frames(t, c, func(kind string, raw []byte) bool {
		if kind != "log" {
			return false
		}
		var f liveLog
		require.NoError(t, json.Unmarshal(raw, &f))
		missed += f.Missed
		shown += uint64(len(f.Lines))
		largest = max(largest, len(f.Lines))
		for _, line := range f.Lines {
			needle = needle || line.Text == "needle"
		}
		return missed+shown >= n+1
	})
	require.True(t, needle)
	require.LessOrEqual(t, largest, firstLines)
	require.Greater(t, missed, uint64(n/2))
}

// Who does not read is left behind, and neither slows the pipeline nor holds more
// than the last frames.
func TestASlowReaderSlowsNobody(t *testing.T) {
	l := newLab(t, &Options{every: 4 * time.Millisecond})
	slow := dial(t, l, nil)
	fast := dial(t, l, nil)
	long := strings.Repeat("x", 2000)
	for i := range 3000 {
		l.slog.Info(long, "i", i)
		l.src.add(1)
	}
	waitFor(t, func() bool { return l.dst.count() == 3000 })
	frames(t, fast, func(kind string, raw []byte) bool {
		return kind == "state" && strings.Contains(string(raw), `"rows":3000`)
	})
	// The slow one then sees the latest state soon.
	n := 0
	frames(t, slow, func(kind string, raw []byte) bool {
		n++
		return kind == "state" && strings.Contains(string(raw), `"rows":3000`)
	})
}

func TestCloseEndsWebSocketsAndLeavesNoGoroutine(t *testing.T) {
	l := &lab{src: newFeed(), dst: new(drain), log: NewLog(discardLog.Handler(), nil)}
	l.p = &dfs.Pipeline{Source: l.src, Sink: l.dst, Logger: discardLog}
	l.open(t, &Options{Log: l.log, Logger: discardLog, Listen: "127.0.0.1:0"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.h.Serve(ctx) }()
	c, _, err := websocket.Dial(t.Context(), "ws://"+l.h.Addr().String()+"/api/live", nil)
	require.NoError(t, err)
	_, _, err = c.Read(t.Context())
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-done)
	for err == nil {
		_, _, err = c.Read(t.Context())
	}
	c.CloseNow()
	require.NoError(t, l.h.Close())
	require.NoError(t, l.h.Close(), "again")
	http.DefaultClient.CloseIdleConnections()
	waitFor(t, func() bool {
		b := make([]byte, 1<<20)
		return !strings.Contains(string(b[:runtime.Stack(b, true)]), "monitor.(*Handler)")
	})
}

func TestMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	l := newLab(t, &Options{Registry: r, MaxTables: 1})
	l.dst.set(func() { l.dst.bad = "t2" })
	require.NoError(t, l.p.Skip("t2"))
	l.src.add(2)
	waitFor(t, func() bool { return l.dst.count() == 2 })
	l.src.mu.Lock()
	l.src.name = "shop.zebras\xff"
	l.src.mu.Unlock()
	l.src.add(3)
	waitFor(t, func() bool { return l.dst.count() == 5 && l.state().Rows == 4 })
	require.NoError(t, testutil.GatherAndCompare(r, strings.NewReader(`
# HELP dfs_rows_total Rows by table, since Run began; "(others)" are the tables beyond the limit.
# TYPE dfs_rows_total counter
dfs_rows_total{pipeline="shop",table="(others)",what="applied"} 3
dfs_rows_total{pipeline="shop",table="(others)",what="received"} 3
dfs_rows_total{pipeline="shop",table="(others)",what="rejected"} 0
dfs_rows_total{pipeline="shop",table="shop.orders",what="applied"} 1
dfs_rows_total{pipeline="shop",table="shop.orders",what="received"} 2
dfs_rows_total{pipeline="shop",table="shop.orders",what="rejected"} 1
# HELP dfs_rejected_transactions_total Transactions that were stepped over, since Run began.
# TYPE dfs_rejected_transactions_total counter
dfs_rejected_transactions_total{pipeline="shop"} 1
# HELP dfs_ready 1 while the pipeline runs and keeps up.
# TYPE dfs_ready gauge
dfs_ready{pipeline="shop"} 1
# HELP dfs_seq Number of the last transaction stored or applied.
# TYPE dfs_seq gauge
dfs_seq{leg="apply",pipeline="shop"} 5
dfs_seq{leg="capture",pipeline="shop"} 5
# HELP dfs_queue_bytes bytes held.
# TYPE dfs_queue_bytes gauge
dfs_queue_bytes{number="",pipeline="shop"} 4.194304e+06
`), "dfs_rows_total", "dfs_rejected_transactions_total", "dfs_ready", "dfs_seq", "dfs_queue_bytes"))
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	require.Empty(t, problems)
	status, body := l.call(t, "GET", "/metrics", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "dfs_lag_seconds{pipeline=\"shop\"} 0\n")

	// The registry is the user's own again after Close.
	other := &lab{p: &dfs.Pipeline{Source: newFeed(), Sink: new(drain), Logger: discardLog}}
	other.open(t, &Options{Logger: discardLog})
	status, body = other.call(t, "GET", "/metrics", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "go_goroutines")
	require.Contains(t, body, "dfs_health{health=\"held\",pipeline=\"shop\"} 1")
	require.NoError(t, other.h.Close())
	own := &lab{p: other.p}
	own.open(t, &Options{Logger: discardLog, Registry: other.h.opts.Registry})
	require.NoError(t, own.h.Close())
}

// Thousands of browsers are told less often, but at once of what matters.
func TestManyBrowsersAreToldLessOften(t *testing.T) {
	l := &lab{p: &dfs.Pipeline{Source: newFeed(), Sink: new(drain), Logger: discardLog}}
	l.open(t, &Options{Logger: discardLog, every: time.Hour})
	defer l.h.Close()
	b := &l.h.hub
	for opened, want := range map[int]uint64{0: 1, easy - 1: 1, easy: 2, 500: 3, mostOpen: mostTurns} {
		b.opened = opened
		require.Equal(t, want, b.turns(), "with %d", opened)
	}
	b.opened = 0
	before, state := b.next, string(b.state)
	l.h.sample(false)
	require.Equal(t, before, b.next, "nobody is told")
	require.NotEqual(t, state, string(b.state), "but who comes now")
	l.h.sample(true)
	require.Equal(t, before+1, b.next)
	l.h.lines["shop"].told = Good
	l.h.sample(false)
	require.Equal(t, before+2, b.next, "its health is another")
	l.h.look()
	require.Equal(t, before+3, b.next, "somebody has done something")
}
