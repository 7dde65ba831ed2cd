package monitor

import (
	"cmp"
	"crypto/tls"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/prometheus/client_golang/prometheus"
)

// Options of a Handler. The zero Options show and steer the pipelines for those
// who come over a loopback address.
type Options struct {
	// Log, if set, is shown on the page. Give the same one, as a slog.Logger, to
	// the pipelines.
	Log *Log

	// Journal, if set, is asked by the page what became of a row. Its Watch puts it
	// beside the pipelines, before they run.
	Journal *Journal

	// Users who may come from anywhere, with their passwords. Default: nobody
	// needs a password on a loopback address, and elsewhere nobody is let in;
	// if Listen is another address, a user "admin" is made.
	Users []User

	// Guarded says that whoever mounts the Handler lets in only who may steer
	// the pipelines. It is then open to everybody who reaches it.
	Guarded bool

	// Hosts are the names by which browsers may call a Handler that asks for no
	// password, besides localhost and addresses. Others are refused, so that no
	// page of the web can reach it through a name of its own.
	Hosts []string

	// Listen is the address that Serve listens on, such as "127.0.0.1:8080".
	// Open takes it. Default: none; the Handler is mounted elsewhere.
	Listen string

	// TLS is how Serve encrypts. Default: not at all.
	TLS *tls.Config

	// Announce is told the password that was made for "admin", once.
	// Default: os.Stderr.
	Announce io.Writer

	// Settings are shown by pipeline, in their order. They must hold no secrets.
	Settings map[string][]Setting

	// Secrets are texts that must never be shown. Where an error or the log has
	// one, dots stand in its place. Those of less than 4 bytes are not looked for.
	Secrets []string

	// Remedy says in plain words what to do about an error of a pipeline, or "".
	// It is asked before the Handler's own rules. Default: only those.
	Remedy func(err error) string

	// MaxLag is how far a pipeline may be behind and still be called ready.
	// Default: 5 minutes. Negative: however far.
	MaxLag time.Duration

	// Registry is where the metrics go, and what /metrics serves. Default: one of
	// the Handler's own, with the metrics of the process.
	Registry *prometheus.Registry

	// MaxTables is how many tables of a pipeline have metrics of their own; those
	// beyond are counted together. Default: 500.
	MaxTables int

	// Audit, if set, is a file to which each action is added as a line of JSON, with
	// who has asked, when, what, why, and the result. It is written before the answer
	// is sent, and never cut. Default: the actions since the start are kept in memory.
	Audit string

	// Logger is told who asks what of the pipelines. Default: slog.Default().
	Logger *slog.Logger

	every      time.Duration // between two looks; a second but in tests
	probeEvery time.Duration // between two questions to a source; a minute but in tests
}

// A User may open the monitor by name and password: in the page's form, by HTTP's
// basic authentication, or with the password alone as a bearer token.
type User struct {
	Name, Password string
	ReadOnly       bool // may look, but not act
}

// A Setting is a line of a pipeline's configuration, as people should see it.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

//go:embed page openapi.json
var files embed.FS

// A Handler is the monitor of some pipelines. It is an http.Handler; if it is
// mounted below a path, use http.StripPrefix. Close it after the server that it
// is mounted in.
type Handler struct {
	opts      Options
	lines     map[string]*watched
	names     []string // of lines, sorted
	mux       *http.ServeMux
	guard     *guard
	hub       hub
	metrics   []prometheus.Collector
	listener  net.Listener // nil unless Options.Listen is set
	redact    func(string) string
	began     time.Time
	audit     audit
	sampling  sync.Mutex // held while looking at the pipelines
	tracing   chan struct{}
	stop      chan struct{}
	closeOnce sync.Once
	done      sync.WaitGroup
}

// Open makes a Handler for the pipelines, by the names that the page shows. They
// need not run yet. The error has all that is wrong with the options.
func Open(pipelines map[string]*dfs.Pipeline, opts *Options) (*Handler, error) {
	h := &Handler{lines: make(map[string]*watched), stop: make(chan struct{}), tracing: make(chan struct{}, 1), began: time.Now()}
	if opts != nil {
		h.opts = *opts
	}
	o := &h.opts
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.MaxLag = cmp.Or(o.MaxLag, 5*time.Minute)
	o.MaxTables = cmp.Or(o.MaxTables, 500)
	o.every = cmp.Or(o.every, time.Second)
	o.probeEvery = cmp.Or(o.probeEvery, time.Minute)
	if o.Announce == nil {
		o.Announce = os.Stderr
	}
	if err := h.check(pipelines); err != nil {
		return nil, err
	}
	if o.Listen != "" {
		l, err := net.Listen("tcp", o.Listen)
		if err != nil {
			return nil, fmt.Errorf("monitor: %w; choose another address, or stop what listens there", err)
		}
		h.listener = l
		if err := h.protect(l.Addr()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := h.openAudit(); err != nil {
		if h.listener != nil {
			err = errors.Join(err, h.listener.Close())
		}
		return nil, err
	}
	h.redact = redactor(o.Secrets, o.Users)
	h.names = slices.Sorted(maps.Keys(pipelines))
	h.guard = newGuard(o, h.names)
	h.hub.init()
	for name, p := range pipelines {
		h.lines[name] = watch(name, p, h)
	}
	page, err := h.page()
	if err == nil {
		err = h.register()
	}
	if err != nil {
		err = errors.Join(err, h.audit.close())
		if h.listener != nil {
			err = errors.Join(err, h.listener.Close())
		}
		return nil, err
	}
	h.routes(page)
	h.look()
	h.done.Go(h.watch)
	for _, l := range h.lines {
		if p, ok := l.p.Source.(dfs.Prober); ok {
			h.done.Go(func() { l.probe(p, h.stop) })
		}
	}
	return h, nil
}

func (h *Handler) check(pipelines map[string]*dfs.Pipeline) error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("monitor: "+format, args...))
		}
	}
	fault(len(pipelines) == 0, "there are no pipelines; give it at least one")
	for name, p := range pipelines {
		fault(name == "", "a pipeline has no name; give it one")
		fault(!utf8.ValidString(name), "the name %q of a pipeline is no text in UTF-8; give it another", name)
		fault(p == nil, "the pipeline %q is nil; leave it out", name)
	}
	seen := make(map[string]bool)
	for i, u := range h.opts.Users {
		fault(u.Name == "", "Users[%d] has no name; give it one", i)
		fault(seen[u.Name], "Users has %q twice; keep one", u.Name)
		fault(len(u.Password) < 8, "the password of user %q has less than 8 bytes; give it a longer one", u.Name)
		seen[u.Name] = true
	}
	for name := range h.opts.Settings {
		fault(pipelines[name] == nil, "Settings are for %q, which is none of the pipelines", name)
	}
	fault(h.opts.MaxTables < 0, "MaxTables is %d; use 0 for the default", h.opts.MaxTables)
	return errors.Join(errs...)
}

// Addr returns the address that Options.Listen has led to, or nil.
func (h *Handler) Addr() net.Addr {
	if h.listener == nil {
		return nil
	}
	return h.listener.Addr()
}

// ServeHTTP serves the page, the API and the metrics.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cache-Control", "no-store")
	h.mux.ServeHTTP(w, r)
}

// policy lets the page use what the Handler serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Close ends the WebSockets, and waits for all that the Handler has begun. The
// pipelines go on.
func (h *Handler) Close() error {
	var err error
	h.closeOnce.Do(func() {
		close(h.stop)
		h.hub.close()
		if h.listener != nil {
			if err = h.listener.Close(); errors.Is(err, net.ErrClosed) {
				err = nil // Serve has done so
			}
		}
		for _, c := range h.metrics {
			h.opts.Registry.Unregister(c)
		}
	})
	h.done.Wait()
	return errors.Join(err, h.audit.close())
}
