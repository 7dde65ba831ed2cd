package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// A spec is openapi.json, by which answers are checked.
type spec struct {
	compiler *jsonschema.Compiler
	doc      map[string]any
}

func newSpec(t *testing.T) *spec {
	b, err := files.ReadFile("openapi.json")
	require.NoError(t, err)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	require.NoError(t, err)
	s := &spec{jsonschema.NewCompiler(), doc.(map[string]any)}
	s.compiler.AssertFormat()
	require.NoError(t, s.compiler.AddResource("openapi.json", doc))
	return s
}

// check checks an answer against what the document says of the path.
func (s *spec) check(t *testing.T, method, path string, status int, body string) {
	t.Helper()
	code := fmt.Sprint(status)
	if status >= 400 && status < 500 {
		code = "4XX"
	}
	at := fmt.Sprintf("openapi.json#/paths/%s/%s/responses/%s/content/application~1json/schema",
		strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path), strings.ToLower(method), code)
	schema, err := s.compiler.Compile(at)
	require.NoError(t, err, "the document does not describe it")
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	require.NoError(t, err, body)
	require.NoError(t, schema.Validate(v), body)
}

func TestEachCallIsAsTheDocumentSays(t *testing.T) {
	s := newSpec(t)
	l := newLab(t, &Options{Settings: map[string][]Setting{"shop": {{"source", "db1 with " + secret}}}, Journal: openJournal(t, "", &JournalOptions{Level: JournalAll})},
		func(p *dfs.Pipeline) { p.Letters = lettersOf(t) })
	l.src.add(10)
	waitFor(t, func() bool { return l.dst.count() == 10 && l.state().Legs[1].Committed != nil })
	l.slog.Warn("something", "a", 1)

	described := map[string]bool{}
	for path, item := range s.doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, r := range l.h.api() {
		require.True(t, described[r.method+" "+r.path], "%s is not described", r.path)
		delete(described, r.method+" "+r.path)
		path, in := strings.NewReplacer("{name}", "shop", "{action}", "pause", "{number}", "1").Replace(r.path), `{}`
		if r.method == "POST" && strings.HasSuffix(path, "/letters") {
			in = `{"action": "skip", "letters": [3], "why": "a test"}`
		}
		if strings.HasSuffix(path, "/trace") {
			path += "?table=shop.orders&limit=3"
		}
		status, body := l.call(t, r.method, path, in)
		require.Equal(t, http.StatusOK, status, body)
		s.check(t, r.method, r.path, status, body)
		require.NotContains(t, body, secret)
		if strings.Contains(r.path, "{name}") {
			status, body = l.call(t, r.method, strings.Replace(path, "shop", "%00%3Cb%3E", 1), `{}`)
			require.Equal(t, http.StatusNotFound, status)
			s.check(t, r.method, r.path, status, body)
		}
	}
	for _, path := range []string{"POST /api/login", "POST /api/logout", "GET /api/live", "GET /metrics", "GET /healthz", "GET /readyz"} {
		require.True(t, described[path], path)
		delete(described, path)
	}
	require.Empty(t, described, "described, but not there")

	// Each action that the document names is there, and no other.
	post := s.doc["paths"].(map[string]any)["/api/pipelines/{name}/{action}"].(map[string]any)["post"].(map[string]any)
	for _, action := range post["parameters"].([]any)[1].(map[string]any)["schema"].(map[string]any)["enum"].([]any) {
		status, body := l.call(t, "POST", "/api/pipelines/shop/"+action.(string), `{"id":"t99","at":"seq:1000"}`)
		require.NotEqual(t, http.StatusNotFound, status, body)
		s.check(t, "POST", "/api/pipelines/{name}/{action}", status, body)
	}
	status, body := l.call(t, "POST", "/api/pipelines/shop/explode", `{}`)
	require.Equal(t, http.StatusNotFound, status)
	s.check(t, "POST", "/api/pipelines/{name}/{action}", status, body)
	status, body = l.call(t, "GET", "/openapi.json", "")
	require.Equal(t, http.StatusOK, status)
	require.True(t, json.Valid([]byte(body)))
	status, body = l.call(t, "GET", "/api/nothing", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "There is no such call")
}

func TestStateTellsWhatIsAmissAndWhatToDo(t *testing.T) {
	l := newLab(t, nil)
	l.dst.set(func() { l.dst.bad = "t5" })
	probe := func(path string) int { status, _ := l.call(t, "GET", path, ""); return status }
	waitFor(t, func() bool { return l.state().Health == Good })
	require.Equal(t, http.StatusOK, probe("/readyz"))
	require.Equal(t, http.StatusOK, probe("/healthz"))
	require.Equal(t, "In step with the source.", l.state().Text)

	l.src.add(9)
	failed := func() bool { s := l.state(); return s.Health == Failed && slices.Contains(s.Can, "start") }
	waitFor(t, failed)
	s := l.state()
	require.Equal(t, "stopped", s.State)
	require.Equal(t, "t5", s.Error.Transaction)
	require.Equal(t, "sink", s.Error.Part)
	require.Contains(t, s.Error.Text, "duplicate entry '7'")
	require.Contains(t, s.Error.Text, "•••")
	require.Contains(t, s.Error.Remedy, "skip this one transaction")
	require.Contains(t, s.Can, "start")
	require.Equal(t, "failed", s.Parts[2].State)
	require.Equal(t, http.StatusServiceUnavailable, probe("/readyz"))
	require.Equal(t, http.StatusServiceUnavailable, probe("/healthz"))
	_, body := l.call(t, "GET", "/healthz", "")
	require.Equal(t, "not ok\nshop: Stopped by an error. It needs you.\n", body)

	// Started as it is, it stops again. With a skip it goes on.
	status, _ := l.call(t, "POST", "/api/pipelines/shop/start", `{"why":"perhaps it helps"}`)
	require.Equal(t, http.StatusOK, status)
	waitFor(t, failed)
	status, _ = l.call(t, "POST", "/api/pipelines/shop/skip", `{"id":"t5","why":"known to be a duplicate"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, []string{"t5"}, l.state().Skip)
	status, _ = l.call(t, "POST", "/api/pipelines/shop/start", `{}`)
	require.Equal(t, http.StatusOK, status)
	waitFor(t, func() bool {
		s := l.state()
		return l.dst.count() == 9 && s.Health == Good && s.RejectedTransactions == 1 && len(s.Skip) == 0
	})
	status, body = l.call(t, "POST", "/api/pipelines/shop/start", `{}`)
	require.Equal(t, http.StatusConflict, status, body)

	_, body = l.call(t, "GET", "/api/audit", "")
	var audit struct{ Actions []Action }
	require.NoError(t, json.Unmarshal([]byte(body), &audit))
	require.Len(t, audit.Actions, 4)
	require.Equal(t, "skip", audit.Actions[1].Action)
	require.Equal(t, "t5", audit.Actions[1].Argument)
	require.Equal(t, "known to be a duplicate", audit.Actions[1].Why)
	require.Equal(t, "local", audit.Actions[1].By)
	require.NotEmpty(t, audit.Actions[3].Error)
	_, body = l.call(t, "GET", "/api/log", "")
	require.Contains(t, body, "asked of the pipeline")
	require.NotContains(t, body, secret)
}

func TestLagNeitherSticksNorReadsZeroWhenTheSourceIsAway(t *testing.T) {
	l := newLab(t, &Options{MaxLag: 3 * time.Second})
	l.src.add(3)
	waitFor(t, func() bool { return l.dst.count() == 3 && l.state().LagSeconds == 0 && l.state().Health == Good })
	l.src.leave(true)
	waitFor(t, func() bool { return l.state().Health == Waiting && l.state().LagSeconds > 0.1 })
	require.True(t, l.state().Error.Passing)
	require.Contains(t, l.state().Error.Remedy, "tried again by itself")
	waitFor(t, func() bool { return l.state().Health == Behind })
	status, _ := l.call(t, "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, status)
	status, _ = l.call(t, "GET", "/healthz", "")
	require.Equal(t, http.StatusOK, status, "it is tried again by itself")
	l.src.leave(false)
	waitFor(t, func() bool { return l.state().LagSeconds == 0 && l.state().Health == Good })
	require.Nil(t, l.state().Error)

	// A target that hangs is behind too, though the source says nothing new.
	l.dst.set(func() { l.dst.err = dfs.Transient(errors.New("no answer")) })
	l.src.add(5)
	waitFor(t, func() bool {
		return l.state().Health == Behind && l.state().Waiting == 5 && l.state().CatchUpSeconds == nil
	})
}

func TestStopDrainAndStopAtWaitForAStart(t *testing.T) {
	l := newLab(t, nil)
	l.src.add(10)
	waitFor(t, func() bool { return l.dst.count() == 10 })
	act := func(action, body string) {
		t.Helper()
		status, answer := l.call(t, "POST", "/api/pipelines/shop/"+action, body)
		require.Equal(t, http.StatusOK, status, answer)
	}
	held := func() bool { s := l.state(); return s.Text == "Stopped, as asked. Start it to go on from here." }

	act("stop", `{}`)
	waitFor(t, held)
	l.src.add(10)
	act("start", `{}`)
	waitFor(t, func() bool { return l.dst.count() == 20 })

	act("pause", `{}`)
	l.src.add(5)
	waitFor(t, func() bool { return l.state().Waiting == 5 && l.state().Health == Held })
	act("drain", `{}`)
	act("resume", `{}`)
	waitFor(t, held)
	require.Equal(t, 25, l.dst.count())

	act("stop-at", `{"at":"id:t30"}`)
	require.Equal(t, "transaction t30", l.state().StopAt)
	l.src.add(20)
	act("start", `{}`)
	waitFor(t, held)
	require.Equal(t, 30, l.dst.count())
	act("stop-at", `{"at":"seq:40"}`)
	act("stop-at", `{}`)
	act("start", `{}`)
	waitFor(t, func() bool { return l.dst.count() == 45 })

	for _, at := range []string{"seq:x", "time:yesterday", "gtid:x", "id:", "seq:0"} {
		status, body := l.call(t, "POST", "/api/pipelines/shop/stop-at", fmt.Sprintf(`{"at":%q}`, at))
		require.Equal(t, http.StatusBadRequest, status, at)
		require.Contains(t, body, "stop at")
	}
	status, _ := l.call(t, "POST", "/api/pipelines/shop/skip", `{}`)
	require.Equal(t, http.StatusBadRequest, status)
}

// Run ends with the source, and with its context.
func TestRunEndsWithTheSource(t *testing.T) {
	p := &dfs.Pipeline{Source: ended{}, Sink: new(drain), Logger: discardLog}
	h, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Logger: discardLog})
	require.NoError(t, err)
	defer h.Close()
	require.NoError(t, h.Run(t.Context(), "shop"))
	require.ErrorContains(t, h.Run(t.Context(), "ship"), `no pipeline "ship"`)

	p = &dfs.Pipeline{Source: ended{errors.New("purged")}, Sink: new(drain), Logger: discardLog}
	h2, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Logger: discardLog})
	require.NoError(t, err)
	defer h2.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h2.Run(ctx, "shop") }()
	waitFor(t, func() bool { return h2.lines["shop"].now().Health == Failed })
	cancel()
	require.ErrorContains(t, <-done, "purged")
}

// ended is a source that holds nothing, or fails.
type ended struct{ err error }

func (e ended) Open(context.Context, dfs.Checkpoint) (dfs.Stream, error) { return e, nil }
func (e ended) Next(context.Context, []*dfs.Transaction) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}
func (e ended) Close() error { return nil }

func TestOpenTellsAllFaultsAtOnce(t *testing.T) {
	_, err := Open(map[string]*dfs.Pipeline{"": {}, "b": nil}, &Options{Users: []User{{"", "short", false}, {"a", "long enough", false}, {"a", "long enough", false}},
		Settings: map[string][]Setting{"c": nil}, MaxTables: -1})
	for _, want := range []string{"has no name", `"b" is nil`, "Users[0] has no name", `"a" twice`, "less than 8 bytes", `for "c"`, "MaxTables is -1"} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "short")
	_, err = Open(nil, nil)
	require.ErrorContains(t, err, "there are no pipelines")
	l := newLab(t, &Options{Listen: "127.0.0.1:0"})
	_, err = Open(map[string]*dfs.Pipeline{"shop": l.p}, &Options{Listen: l.h.Addr().String()})
	require.ErrorContains(t, err, "address already in use")
}

func TestHistoryIsBounded(t *testing.T) {
	s := series{every: time.Second, keep: 100}
	at := time.Now()
	for i := range 1000 {
		s.add(point{at: at.Add(time.Duration(i) * 500 * time.Millisecond), rows: float64(i % 2), lag: float64(i)})
	}
	require.LessOrEqual(t, len(s.points), 110)
	last := s.points[len(s.points)-1]
	require.Equal(t, 0.5, last.rows, "rates are means")
	require.Equal(t, 999.0, last.lag, "lag is the worst")
	require.Len(t, s.since(at.Add(490*time.Second)), 9)

	l := newLab(t, nil)
	for _, minutes := range []string{"0", "1441", "x"} {
		status, _ := l.call(t, "GET", "/api/pipelines/shop/history?minutes="+minutes, "")
		require.Equal(t, http.StatusBadRequest, status)
	}
}

func TestALogKeepsTheLastLinesWithinItsBounds(t *testing.T) {
	var out bytes.Buffer
	l := NewLog(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}), &LogOptions{Lines: 10, Bytes: 1 << 20})
	log := slog.New(l).With("pipeline", "shop").WithGroup("g").With("a", 1)
	for i := range 25 {
		log.Info("line", "i", i, slog.Group("h", "err", errors.New("bad")))
	}
	log.Debug("not kept")
	log.Warn("kept and written")
	require.Equal(t, 1, strings.Count(out.String(), "\n"))
	lines, missed, last := l.ring.after(0, 100)
	require.Len(t, lines, 10)
	require.EqualValues(t, 16, missed)
	require.EqualValues(t, 26, last)
	require.Equal(t, [][2]string{{"pipeline", "shop"}, {"g.a", "1"}, {"g.i", "16"}, {"g.h.err", "bad"}}, lines[0].Attrs)
	lines, missed, _ = l.ring.after(24, 100)
	require.Len(t, lines, 2)
	require.Zero(t, missed)

	// Where lines must be left out, errors stay.
	log.Error("an error")
	for range 8 {
		log.Info("noise")
	}
	lines, missed, _ = l.ring.after(26, 2)
	require.Equal(t, "an error", lines[0].Text)
	require.Equal(t, "noise", lines[1].Text)
	require.EqualValues(t, 7, missed)

	small := NewLog(slog.DiscardHandler, &LogOptions{Bytes: 10_000})
	for range 100 {
		slog.New(small).Info(strings.Repeat("x", 100_000))
	}
	require.LessOrEqual(t, small.ring.size, 10_000)
	lines, _, _ = small.ring.after(0, 100)
	require.LessOrEqual(t, len(lines[0].Text), maxText+3)
}
