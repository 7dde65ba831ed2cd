package monitor

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// An odd stage tells what no program should.
type odd struct{ help string }

func (odd) Process(context.Context, []*dfs.Transaction) error { return nil }

func (o odd) Measures() []dfs.Measure {
	return []dfs.Measure{{Name: "no number", Help: "a", Value: 1}, {Name: "nan", Help: "b", Value: math.NaN()}, {Name: "inf", Help: "b", Value: math.Inf(-1)},
		{Name: "rows", Help: o.help, Value: 7, Counter: true}, {Name: "bad\xff", Help: "c", Value: 2}}
}

// What parts of others tell of themselves neither ends the process nor hides the rest.
func TestOddNumbersOfPartsHideNothing(t *testing.T) {
	lines := map[string]*dfs.Pipeline{
		"one": {Source: newFeed(), Stages: []dfs.Stage{odd{"rows that one has"}}, Sink: new(drain), Logger: discardLog},
		"two": {Source: newFeed(), Stages: []dfs.Stage{odd{"other words for it"}}, Sink: new(drain), Logger: discardLog},
	}
	h, err := Open(lines, &Options{Logger: discardLog})
	require.NoError(t, err)
	defer h.Close()
	l := &lab{h: h}
	status, body := l.call(t, "GET", "/metrics", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `dfs_stage_rows_total{number="",pipeline="one"} 7`)
	require.Contains(t, body, `dfs_stage_rows_total{number="",pipeline="two"} 7`)
	require.Contains(t, body, `dfs_ready{pipeline="two"} 0`)
	require.NotContains(t, body, "NaN")
	status, body = l.call(t, "GET", "/api/pipelines", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `"name":"no number"`)
	require.NotContains(t, body, `"nan"`)

	_, err = Open(map[string]*dfs.Pipeline{"\xff": lines["one"]}, nil)
	require.ErrorContains(t, err, "no text in UTF-8")
}

func TestNamesThatAreNoTextAreCountedTogether(t *testing.T) {
	l := newLab(t, nil)
	for i, name := range []string{"shop.a\xff", "shop.a\xfe"} {
		l.src.mu.Lock()
		l.src.name = name
		l.src.mu.Unlock()
		l.src.add(2)
		waitFor(t, func() bool { return l.dst.count() == 2*(i+1) && l.state().Rows == uint64(2*(i+1)) })
	}
	status, body := l.call(t, "GET", "/metrics", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `dfs_rows_total{pipeline="shop",table="shop.a�",what="applied"} 4`)
}

func TestWhatComesBehindARequestIsRefused(t *testing.T) {
	l := newLab(t, nil)
	for _, body := range []string{`{} {}`, `{"why":"x"}]`, `{}` + strings.Repeat(" ", maxBody)} {
		status, answer := l.call(t, "POST", "/api/pipelines/shop/pause", body)
		require.GreaterOrEqual(t, status, 400, answer)
		require.Less(t, status, 500, answer)
	}
	require.Equal(t, dfs.Running, l.p.Stats().State)
}

func TestTooManyWebSocketsAreRefused(t *testing.T) {
	l := newLab(t, nil)
	l.h.hub.mu.Lock()
	l.h.hub.opened += mostOpen
	l.h.hub.mu.Unlock()
	status, body := l.call(t, "GET", "/api/live", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, body, "Too many browsers")
	l.h.hub.mu.Lock()
	l.h.hub.opened -= mostOpen
	l.h.hub.mu.Unlock()
	dial(t, l, nil)
}

// Who guesses passwords from many addresses keeps out nobody who knows one.
func TestGuessesOfOthersKeepNobodyOut(t *testing.T) {
	g := newGuard(&Options{Users: users}, nil)
	from := func(address string) *http.Request {
		r, err := http.NewRequest("GET", "/", nil)
		require.NoError(t, err)
		r.RemoteAddr = address
		return r
	}
	_, no := g.login(from("10.0.0.1:5"), "ann", password, false)
	require.Nil(t, no)
	for i := range 250 {
		_, no := g.login(from("10.1."+string(rune('0'+i/25%10))+"."+string(rune('0'+i%10))+":5"), "ann", "guess", false)
		require.NotNil(t, no)
	}
	_, no = g.login(from("10.0.0.2:5"), "ann", password, false)
	require.Equal(t, http.StatusTooManyRequests, no.status, "a stranger waits")
	_, no = g.login(from("10.0.0.1:6"), "ann", password, false)
	require.Nil(t, no)
	// But its own guesses are bounded.
	for range 2 * wrongBurst {
		_, no = g.login(from("10.0.0.1:7"), "ann", "guess", false)
	}
	require.Equal(t, http.StatusTooManyRequests, no.status)
}

// The state that comes with the page is for who may see it, and is data only.
func TestTheFirstStateIsForThoseWhoMaySeeIt(t *testing.T) {
	l := newLab(t, nil)
	const evil = `</script><script>window.hit=1</script><!--`
	l.dst.set(func() { l.dst.err = errors.New(evil + secret) })
	l.src.add(1)
	waitFor(t, func() bool { return l.state().Health == Failed })
	r := l.request(t, "GET", "/", "")
	require.Contains(t, r.Header.Get("Content-Security-Policy"), "style-src 'self' 'sha256-")
	require.Equal(t, "no-store", r.Header.Get("Cache-Control"))
	_, body := l.call(t, "GET", "/", "")
	require.Contains(t, body, `id="first">{"session":{`)
	require.Contains(t, body, "window.hit=1")
	require.Equal(t, 2, strings.Count(body, "<script"), "the data and app.js")
	require.NotContains(t, body, secret)

	// What does not change is sent once.
	r = l.request(t, "GET", "/app.js", "")
	require.Equal(t, http.StatusOK, r.StatusCode)
	r = l.request(t, "GET", "/app.js", "", "If-None-Match", r.Header.Get("ETag"))
	require.Equal(t, http.StatusNotModified, r.StatusCode)

	guarded := newLab(t, &Options{Users: users})
	for _, head := range [][]string{nil, {"Host", "localhost", "Cookie", guarded.cookie() + "=a.b.c"}, {"Authorization", "Bearer guess"}, {"Authorization", "Bearer " + password}} {
		status, body := guarded.call(t, "GET", "/", "", head...)
		require.Equal(t, http.StatusOK, status)
		require.NotContains(t, body, `id="first"`, head)
	}
	v, no := guarded.h.guard.login(&http.Request{RemoteAddr: "127.0.0.1:1"}, "ann", password, false)
	require.Nil(t, no)
	_, body = guarded.call(t, "GET", "/", "", "Host", "localhost", "Cookie", guarded.h.guard.newSession(&http.Request{Host: "localhost"}, v).String())
	require.Contains(t, body, `"name":"ann"`)
}
