package monitor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

var users = []User{{Name: "ann", Password: password}, {Name: "eve", Password: "only looking around", ReadOnly: true}}

func basicAuth(name, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password))
}

func TestWithoutUsersOnlyThisHostIsLetIn(t *testing.T) {
	l := newLab(t, &Options{Hosts: []string{"monitor.internal"}})
	for host, want := range map[string]int{"localhost:8080": 200, "127.0.0.1": 200, "[::1]:8080": 200, "monitor.internal": 200,
		"evil.example": 403, "localhost.evil.example": 403} {
		for _, path := range []string{"/", "/app.js", "/api/pipelines", "/metrics"} {
			status, body := l.call(t, "GET", path, "", "Host", host)
			require.Equal(t, want, status, host+path+body)
		}
	}
	// Somebody from elsewhere, and a server that does not say where he came in.
	for _, local := range []net.Addr{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}, nil} {
		r := httptest.NewRequest("GET", "http://localhost/api/pipelines", nil)
		r.RemoteAddr = "127.0.0.1:999"
		if local != nil {
			r = r.WithContext(contextWith(r.Context(), http.LocalAddrContextKey, local))
		}
		w := httptest.NewRecorder()
		l.h.ServeHTTP(w, r)
		require.Equal(t, http.StatusForbidden, w.Code)
	}
	guarded := newLab(t, &Options{Guarded: true})
	status, _ := guarded.call(t, "GET", "/api/pipelines", "", "Host", "evil.example")
	require.Equal(t, http.StatusOK, status, "whoever mounts it guards it")
}

func TestWithUsersEverythingAsksForAPassword(t *testing.T) {
	l := newLab(t, &Options{Users: users})
	for _, path := range []string{"/api/session", "/api/pipelines", "/api/pipelines/shop", "/api/pipelines/shop/history", "/api/pipelines/shop/tables",
		"/api/pipelines/shop/settings", "/api/log", "/api/audit", "/api/live", "/metrics"} {
		status, body := l.call(t, "GET", path, "")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Contains(t, body, "Log in first.")
	}
	status, _ := l.call(t, "POST", "/api/pipelines/shop/pause", `{}`)
	require.Equal(t, http.StatusUnauthorized, status)
	for _, path := range []string{"/", "/app.js", "/openapi.json", "/healthz"} {
		status, _ := l.call(t, "GET", path, "")
		require.Equal(t, http.StatusOK, status, path)
	}
	for _, auth := range []string{basicAuth("ann", password), basicAuth("eve", users[1].Password), "Bearer " + password, "bearer " + password} {
		status, body := l.call(t, "GET", "/api/pipelines", "", "Authorization", auth)
		require.Equal(t, http.StatusOK, status, body)
		status, _ = l.call(t, "GET", "/metrics", "", "Authorization", auth)
		require.Equal(t, http.StatusOK, status)
	}
	// Each refusal counts as a wrong password, so these come from many addresses.
	for _, auth := range []string{basicAuth("ann", users[1].Password), basicAuth("bob", password), "Bearer x", "Bearer ", "Basic x", "Digest " + password} {
		status, body := l.call(t, "GET", "/api/pipelines", "", "Authorization", auth)
		require.Equal(t, http.StatusUnauthorized, status, auth+body)
	}
	status, body := l.call(t, "POST", "/api/pipelines/shop/pause", `{}`, "Authorization", basicAuth("eve", users[1].Password))
	require.Equal(t, http.StatusForbidden, status)
	require.Contains(t, body, "eve may look, but not act.")
	require.Equal(t, "running", l.state().State)
}

func TestASessionIsACookieThatItsPasswordSigns(t *testing.T) {
	l := newLab(t, &Options{Users: users})
	r := l.request(t, "POST", "/api/login", `{"name":"eve","password":"only looking around"}`)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Len(t, r.Cookies(), 1)
	c := r.Cookies()[0]
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	with := func(value string) int {
		status, _ := l.call(t, "GET", "/api/session", "", "Host", "localhost", "Cookie", l.cookie()+"="+value)
		return status
	}
	require.Equal(t, http.StatusOK, with(c.Value))
	status, _ := l.call(t, "POST", "/api/pipelines/shop/pause", `{}`, "Host", "localhost", "Cookie", l.cookie()+"="+c.Value)
	require.Equal(t, http.StatusForbidden, status)

	f := strings.Split(c.Value, ".")
	ann := base64.RawURLEncoding.EncodeToString([]byte("ann"))
	late := base64.RawURLEncoding.EncodeToString([]byte{0, 0, 0, 9, 0, 0, 0, 0})
	for _, forged := range []string{"", "x", f[0] + "." + f[1], ann + "." + f[1] + "." + f[2], f[0] + "." + late + "." + f[2], f[0] + "." + f[1] + ".", c.Value + ".x"} {
		require.Equal(t, http.StatusUnauthorized, with(forged), forged)
	}
	// It is not good for another password, nor when it is old.
	g := newGuard(&Options{Users: []User{{Name: "eve", Password: "another password"}}}, nil)
	_, ok := g.session(c.Value)
	require.False(t, ok)
	old := base64.RawURLEncoding.EncodeToString([]byte{0, 0, 0, 0, 0, 0, 0, 9})
	text := f[0] + "." + old
	_, ok = l.h.guard.session(text + "." + base64.RawURLEncoding.EncodeToString(sign(users[1], text)))
	require.False(t, ok)

	r = l.request(t, "POST", "/api/logout", `{}`, "Host", "localhost", "Cookie", l.cookie()+"="+c.Value)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Negative(t, r.Cookies()[0].MaxAge)
}

func TestWrongPasswordsAreLimited(t *testing.T) {
	l := newLab(t, &Options{Users: users})
	codes := map[int]int{}
	for range 15 {
		status, body := l.call(t, "POST", "/api/login", `{"name":"ann","password":"guess"}`)
		require.NotContains(t, body, password)
		codes[status]++
	}
	require.Equal(t, map[int]int{http.StatusUnauthorized: 10, http.StatusTooManyRequests: 5}, codes)
	r := l.request(t, "POST", "/api/login", `{"name":"ann","password":"`+password+`"}`)
	require.Equal(t, http.StatusTooManyRequests, r.StatusCode, "also the right one, or guessing would go on")
	require.Equal(t, "60", r.Header.Get("Retry-After"))
	lines, _, _ := l.log.ring.after(0, 100)
	require.Equal(t, "login refused", lines[len(lines)-1].Text)

	// Many addresses have a limit in common, and their memory is bounded.
	var lim limiter
	for i := range 3 * wrongClients {
		lim.failed(string(rune(i)))
	}
	require.LessOrEqual(t, len(lim.clients), wrongClients)
	require.False(t, lim.allow("somebody new"))
	lim.all.at = lim.all.at.Add(-time.Hour * 24)
	require.True(t, lim.allow("somebody new"), "it passes")
	require.Equal(t, "2001:db8:0:1::/64", client(&http.Request{RemoteAddr: "[2001:db8:0:1:2:3:4:5]:99"}))
}

func TestPagesOfOtherOriginsCannotAct(t *testing.T) {
	l := newLab(t, nil)
	for _, head := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		for _, path := range []string{"/api/pipelines/shop/pause", "/api/login", "/api/logout"} {
			status, body := l.call(t, "POST", path, `{}`, head...)
			require.Equal(t, http.StatusForbidden, status, body)
		}
	}
	status, _ := l.call(t, "POST", "/api/pipelines/shop/pause", `{}`, "Content-Type", "text/plain")
	require.Equal(t, http.StatusUnsupportedMediaType, status, "a form can send that without asking")
	status, _ = l.call(t, "GET", "/api/pipelines/shop/pause", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "running", l.state().State)
	s := l.server(t)
	_, r, err := websocket.Dial(t.Context(), s.URL+"/api/live", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"https://evil.example"}}})
	require.Error(t, err)
	require.Equal(t, http.StatusForbidden, r.StatusCode)
}

func TestRequestsAreBounded(t *testing.T) {
	l := newLab(t, nil)
	status, body := l.call(t, "POST", "/api/pipelines/shop/skip", `{"id":"`+strings.Repeat("x", 100_000)+`"}`)
	require.Equal(t, http.StatusRequestEntityTooLarge, status, body)
	for _, bad := range []string{`{"id":7}`, `{"idd":"x"}`, `[`, `"x"`} {
		status, body = l.call(t, "POST", "/api/pipelines/shop/skip", bad)
		require.Equal(t, http.StatusBadRequest, status, body)
		require.Less(t, len(body), 500)
	}
	require.Empty(t, l.state().Skip)
	status, _ = l.call(t, "DELETE", "/", "")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

func TestEachAnswerKeepsBrowsersFromMischief(t *testing.T) {
	l := newLab(t, nil)
	for _, path := range []string{"/", "/app.js", "/api/pipelines", "/metrics", "/healthz", "/nothing"} {
		h := l.request(t, "GET", path, "").Header
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
	}
}

func TestAListenerThatOthersReachGetsAPassword(t *testing.T) {
	var told bytes.Buffer
	p := &dfs.Pipeline{Source: newFeed(), Sink: new(drain), Logger: discardLog}
	h, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Listen: "0.0.0.0:0", Announce: &told, Logger: discardLog})
	require.NoError(t, err)
	defer h.Close()
	require.Len(t, h.guard.users, 1)
	require.Contains(t, told.String(), "password  "+h.guard.users[0].Password)
	require.Len(t, h.guard.users[0].Password, 24)
	l := &lab{h: h}
	status, _ := l.call(t, "GET", "/api/pipelines", "")
	require.Equal(t, http.StatusUnauthorized, status)

	told.Reset()
	h2, err := Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Listen: "127.0.0.1:0", Announce: &told, Logger: discardLog})
	require.NoError(t, err)
	require.Empty(t, told.String())
	require.NoError(t, h2.Close())
	_, err = Open(map[string]*dfs.Pipeline{"shop": p}, &Options{Listen: "0.0.0.0:0", Announce: shut{}, Logger: discardLog})
	require.ErrorContains(t, err, "tell the password")
}

type shut struct{}

func (shut) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// Invariant I9: passwords are in no answer, whatever is asked.
func TestNoAnswerHasASecret(t *testing.T) {
	l := newLab(t, &Options{Users: users, Settings: map[string][]Setting{"shop": {{"dsn", "dfs:" + secret + "@tcp(db1)/"}}}})
	l.dst.set(func() { l.dst.bad = "t2" })
	l.src.add(5)
	waitFor(t, func() bool { return l.state().Health == Failed })
	l.slog.Info("connecting to "+secret, "dsn", "x:"+secret, "url", "mysql://u:hunter2hunter2%2F%40@h", "mine", password)
	auth := "Bearer " + password
	var all strings.Builder
	for _, r := range l.h.api() {
		path := strings.NewReplacer("{name}", "shop", "{action}", "skip").Replace(r.path)
		_, body := l.call(t, r.method, path, `{"id":"t1","at":"`+secret+`","why":"`+password+`"}`, "Authorization", auth)
		all.WriteString(body)
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/", "/api/log", "/api/audit", "/api/pipelines"} {
		_, body := l.call(t, "GET", path, "", "Authorization", auth)
		all.WriteString(body)
	}
	c := dial(t, l, http.Header{"Authorization": {auth}})
	for range 3 {
		_, b, err := c.Read(t.Context())
		require.NoError(t, err)
		all.Write(b)
	}
	for _, s := range []string{secret, "hunter2", password, users[1].Password} {
		b, err := json.Marshal(s)
		require.NoError(t, err)
		for _, form := range []string{s, string(b[1 : len(b)-1])} {
			i := strings.Index(all.String(), form)
			require.Negative(t, i, "%q is in ...%s", form, all.String()[max(0, i-200):max(0, i)])
		}
	}
	require.True(t, strings.Contains(all.String(), "•••"))
}

// Browsers send the cookies of a host to all its ports.
func TestTwoMonitorsOfAHostHaveCookiesOfTheirOwn(t *testing.T) {
	names := make(map[string]bool)
	for _, pipelines := range [][]string{{"crm"}, {"shop"}, {"crm", "shop"}, {"crmshop"}} {
		g := newGuard(&Options{Users: users}, pipelines)
		for _, host := range []string{"localhost", "localhost:8080", "localhost:8081", "[::1]:8082"} {
			c := g.newSession(&http.Request{Host: host}, visitor{name: "ann"})
			require.NoError(t, c.Valid())
			names[c.Name] = true
		}
		require.Equal(t, g.cookie(&http.Request{Host: "localhost"}), g.cookie(&http.Request{Host: "localhost:evil;x"}), "only a number gets into the name")
	}
	require.Len(t, names, 16)
	// Both stay logged in.
	one, two := newLab(t, &Options{Users: users}), newLab(t, &Options{Users: users})
	jar := ""
	for i, l := range []*lab{one, two} {
		r := l.request(t, "POST", "/api/login", `{"name":"ann","password":"`+password+`"}`, "Host", []string{"localhost:1001", "localhost:1002"}[i])
		require.Equal(t, http.StatusOK, r.StatusCode)
		jar += r.Cookies()[0].Name + "=" + r.Cookies()[0].Value + "; "
	}
	for i, l := range []*lab{one, two} {
		status, _ := l.call(t, "GET", "/api/session", "", "Host", []string{"localhost:1001", "localhost:1002"}[i], "Cookie", jar)
		require.Equal(t, http.StatusOK, status)
	}
}
