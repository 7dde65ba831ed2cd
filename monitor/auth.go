package monitor

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sessionTime is how long a login lasts. The page renews it while it is open.
const sessionTime = 12 * time.Hour

// sessionCookie begins the names of cookies: see guard.cookie.
const sessionCookie = "dfs_session"

// A visitor is who makes a request.
type visitor struct {
	name     string
	readOnly bool
	until    time.Time // end of the session; zero if there is none
}

// A guard decides who is let in.
type guard struct {
	users   []User
	guarded bool
	hosts   []string
	limit   limiter
	mark    string // of the pipelines, for cookie
	origin  *http.CrossOriginProtection
}

func newGuard(o *Options, pipelines []string) *guard {
	sum := fnv.New32a()
	for _, name := range pipelines {
		sum.Write([]byte(name + "\x00"))
	}
	g := &guard{users: o.Users, guarded: o.Guarded, mark: fmt.Sprintf("_%08x", sum.Sum32()), origin: http.NewCrossOriginProtection()}
	for _, h := range o.Hosts {
		g.hosts = append(g.hosts, strings.ToLower(h))
	}
	return g
}

// cookie returns what the cookie of a session is called. Browsers send a host's cookies
// to all its ports (RFC 6265, section 8.5), so each monitor has a name of its own: by
// its port, as the browser sees it, and by its pipelines.
func (g *guard) cookie(r *http.Request) string {
	name := sessionCookie + g.mark
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			name += fmt.Sprintf("_%d", n)
		}
	}
	return name
}

// A refusal is why somebody is not let in.
type refusal struct {
	status int
	text   string
}

// visitor says who makes the request. Passwords are compared in constant time,
// and not at all once too many were wrong.
func (g *guard) visitor(r *http.Request) (visitor, *refusal) {
	if len(g.users) == 0 {
		if g.guarded {
			return visitor{name: "guest"}, nil
		}
		if !fromLoopback(r) {
			return visitor{}, &refusal{http.StatusForbidden, "The monitor asks for no password, so it is open to this host only. Give it users to let others in."}
		}
		if !g.knownHost(r.Host) {
			return visitor{}, &refusal{http.StatusForbidden, "The monitor is not called " + clip(r.Host, 100) + ". Use localhost, or add the name to its hosts."}
		}
		return visitor{name: "local"}, nil
	}
	if c, err := r.Cookie(g.cookie(r)); err == nil {
		if v, ok := g.session(c.Value); ok {
			return v, nil
		}
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || token == "" {
			return visitor{}, &refusal{http.StatusUnauthorized, "Log in first."}
		}
		password = token
	}
	return g.login(r, name, password, !ok)
}

// login checks a password; for a token, that of any user will do.
func (g *guard) login(r *http.Request, name, password string, token bool) (visitor, *refusal) {
	from := client(r)
	if !g.limit.allow(from) {
		return visitor{}, &refusal{http.StatusTooManyRequests, "Too many wrong passwords. Try again in a minute."}
	}
	given := sha256.Sum256([]byte(password))
	found := -1
	defer func() {
		if found >= 0 {
			g.limit.succeeded(from)
		}
	}()
	for i, u := range g.users {
		want := sha256.Sum256([]byte(u.Password))
		same := subtle.ConstantTimeCompare(given[:], want[:]) == 1
		if same && (token || u.Name == name) {
			found = i
		}
	}
	if found < 0 {
		g.limit.failed(from)
		return visitor{}, &refusal{http.StatusUnauthorized, "Name or password is wrong."}
	}
	return visitor{name: g.users[found].Name, readOnly: g.users[found].ReadOnly}, nil
}

// A session is a cookie that its owner's password signs: it needs no memory, and
// ends when the password is changed.
//
//	name . end . mac
func (g *guard) newSession(r *http.Request, v visitor) *http.Cookie {
	i := slices.IndexFunc(g.users, func(u User) bool { return u.Name == v.name })
	if i < 0 {
		return nil
	}
	var end [8]byte
	until := time.Now().Add(sessionTime)
	binary.BigEndian.PutUint64(end[:], uint64(until.Unix()))
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(v.name)) + "." + enc.EncodeToString(end[:])
	return &http.Cookie{Name: g.cookie(r), Value: text + "." + enc.EncodeToString(sign(g.users[i], text)), Path: "/",
		Expires: until, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

func (g *guard) session(cookie string) (visitor, bool) {
	f := strings.Split(cookie, ".")
	if len(f) != 3 {
		return visitor{}, false
	}
	enc := base64.RawURLEncoding
	name, err1 := enc.DecodeString(f[0])
	end, err2 := enc.DecodeString(f[1])
	mac, err3 := enc.DecodeString(f[2])
	i := slices.IndexFunc(g.users, func(u User) bool { return u.Name == string(name) })
	if err1 != nil || err2 != nil || err3 != nil || i < 0 || len(end) != 8 ||
		!hmac.Equal(mac, sign(g.users[i], f[0]+"."+f[1])) {
		return visitor{}, false
	}
	until := time.Unix(int64(binary.BigEndian.Uint64(end)), 0)
	return visitor{g.users[i].Name, g.users[i].ReadOnly, until}, time.Now().Before(until)
}

func sign(u User, text string) []byte {
	key := sha256.Sum256([]byte("dfs monitor session\x00" + u.Name + "\x00" + u.Password))
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(text))
	return m.Sum(nil)
}

// fromLoopback reports whether the request came in and from over a loopback
// address. A proxy on this host makes all requests look so; then give users.
func fromLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && loopback(local.String()) && loopback(r.RemoteAddr)
}

func loopback(address string) bool {
	ap, err := netip.ParseAddrPort(address)
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// knownHost reports whether the Host header names this host in a way that no name
// of the DNS can be made to look like.
func (g *guard) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	return slices.Contains(g.hosts, host)
}

// client is the address that a limit of wrong passwords is kept for: of IPv6, the
// network that one customer has.
func client(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "unknown"
	}
	a := ap.Addr().Unmap()
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// A limiter bounds wrong passwords: ten at once and one each six seconds for each
// client, and ten times that for all of them. Who has had the right one lately is not
// kept out by what others do.
type limiter struct {
	mu      sync.Mutex
	clients map[string]*bucket
	known   map[string]time.Time // when clients last had the right password
	all     bucket
	swept   time.Time // when those that count no more were last forgotten
}

type bucket struct {
	wrong float64 // how many count still
	at    time.Time
}

const (
	wrongBurst   = 10
	wrongPeriod  = 6 * time.Second
	wrongClients = 10000 // beyond them, only the limit of all holds

	knownTime    = 24 * time.Hour
	knownClients = 1000
)

func (b *bucket) now(period time.Duration) float64 {
	now := time.Now()
	b.wrong = max(0, b.wrong-float64(now.Sub(b.at))/float64(period))
	b.at = now
	return b.wrong
}

func (l *limiter) allow(from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[from]
	known := time.Since(l.known[from]) < knownTime
	return (known || l.all.now(wrongPeriod/10) < 10*wrongBurst) && (b == nil || b.now(wrongPeriod) <= wrongBurst-1)
}

func (l *limiter) succeeded(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = make(map[string]time.Time)
	}
	if _, ok := l.known[from]; !ok && len(l.known) >= knownClients {
		for k, at := range l.known {
			if time.Since(at) > knownTime {
				delete(l.known, k)
			}
		}
		if len(l.known) >= knownClients {
			return
		}
	}
	l.known[from] = time.Now()
}

func (l *limiter) failed(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.clients) >= wrongClients && time.Since(l.swept) > wrongPeriod {
		l.swept = time.Now()
		for k, b := range l.clients {
			if b.now(wrongPeriod) == 0 {
				delete(l.clients, k)
			}
		}
	}
	b := l.clients[from]
	if b == nil && len(l.clients) < wrongClients {
		if l.clients == nil {
			l.clients = make(map[string]*bucket)
		}
		b = &bucket{at: time.Now()}
		l.clients[from] = b
	}
	l.all.now(wrongPeriod / 10)
	l.all.wrong++
	if b != nil {
		b.now(wrongPeriod)
		b.wrong++
	}
}

// protect sees to it that a listener which others can reach asks for a password:
// one is made if there is none.
func (h *Handler) protect(at net.Addr) error {
	o := &h.opts
	if loopback(at.String()) || len(o.Users) > 0 || o.Guarded {
		return nil
	}
	secret := make([]byte, 18)
	rand.Read(secret)
	password := base64.RawURLEncoding.EncodeToString(secret)
	o.Users = []User{{Name: "admin", Password: password}}
	_, err := fmt.Fprintf(o.Announce, "monitor: %s can be reached from other hosts, so it asks for a password. This once it is:\n\n"+
		"    name      admin\n    password  %s\n\nSet users to choose your own, which stays the same.\n", at, password)
	if err != nil {
		return fmt.Errorf("monitor: tell the password: %w", err)
	}
	return nil
}

// redactor returns a function that puts dots in the place of secrets, also as
// URLs have them.
func redactor(secrets []string, users []User) func(string) string {
	var pairs []string
	add := func(s string) {
		if len(s) < 4 {
			return
		}
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s)} {
			pairs = append(pairs, form, "•••")
		}
	}
	for _, s := range secrets {
		add(s)
	}
	for _, u := range users {
		add(u.Password)
	}
	return strings.NewReplacer(pairs...).Replace
}

// clip cuts a text that somebody else has chosen.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
