package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxBody is how large a request may be.
const maxBody = 64 << 10

// A route is one of the API's, as openapi.json describes it.
type route struct {
	method, path string
	act          bool // it changes something
	serve        func(w http.ResponseWriter, r *http.Request, v visitor)
}

func (h *Handler) api() []route {
	return []route{
		{"GET", "/api/session", false, h.getSession},
		{"GET", "/api/pipelines", false, h.getPipelines},
		{"GET", "/api/pipelines/{name}", false, h.getPipeline},
		{"GET", "/api/pipelines/{name}/history", false, h.getHistory},
		{"GET", "/api/pipelines/{name}/tables", false, h.getTables},
		{"GET", "/api/pipelines/{name}/copies", false, h.getCopies},
		{"GET", "/api/pipelines/{name}/settings", false, h.getSettings},
		{"GET", "/api/pipelines/{name}/trace", false, h.getTrace},
		{"GET", "/api/log", false, h.getLog},
		{"GET", "/api/audit", false, h.getAudit},
		{"GET", "/api/pipelines/{name}/letters", false, h.getLetters},
		{"GET", "/api/pipelines/{name}/letters/{number}", false, h.getLetter},
		{"POST", "/api/pipelines/{name}/letters", true, h.postLetters},
		{"POST", "/api/pipelines/{name}/{action}", true, h.postAction},
	}
}

func (h *Handler) routes(page http.Handler) {
	h.mux = http.NewServeMux()
	for _, r := range h.api() {
		h.mux.HandleFunc(r.method+" "+r.path, h.guarded(r.act, r.serve))
	}
	h.mux.HandleFunc("GET /api/live", h.guarded(false, h.live))
	h.mux.HandleFunc("POST /api/login", h.login)
	h.mux.HandleFunc("POST /api/logout", h.logout)
	h.mux.HandleFunc("/api/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "There is no such call; see openapi.json.")
	})
	metrics := promhttp.HandlerFor(h.opts.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}) // with what is right
	h.mux.HandleFunc("GET /metrics", h.guarded(false, func(w http.ResponseWriter, r *http.Request, _ visitor) { metrics.ServeHTTP(w, r) }))
	h.mux.HandleFunc("GET /healthz", h.probe(func(s *State) bool { return s.Health != Failed }))
	h.mux.HandleFunc("GET /readyz", h.probe((*State).ready))
	h.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "openapi.json") })
	h.mux.Handle("/", h.knownHost(page))
}

// guarded lets in who may come in, and for what acts only who may act, from this
// origin.
func (h *Handler) guarded(act bool, serve func(http.ResponseWriter, *http.Request, visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !h.sameOrigin(w, r, act) {
			return
		}
		v, no := h.guard.visitor(r)
		switch {
		case no != nil:
			refuse(w, no)
		case act && v.readOnly:
			fail(w, http.StatusForbidden, v.name+" may look, but not act.")
		default:
			serve(w, r, v)
		}
	}
}

// sameOrigin refuses what a page of another origin makes a browser send.
func (h *Handler) sameOrigin(w http.ResponseWriter, r *http.Request, act bool) bool {
	if err := h.guard.origin.Check(r); err != nil {
		fail(w, http.StatusForbidden, "The request comes from a page of another origin.")
		return false
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); act && kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "Send application/json.")
		return false
	}
	return true
}

// knownHost refuses the page to those who have been led here by another name. It
// holds nothing secret, so it needs no password.
func (h *Handler) knownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "The page can only be read.", http.StatusMethodNotAllowed)
			return
		}
		if len(h.guard.users) == 0 {
			if _, no := h.guard.visitor(r); no != nil {
				http.Error(w, no.text, no.status)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, no *refusal) {
	switch no.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer") // "Basic" would open a browser's own form
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	fail(w, no.status, no.text)
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	answerJSON(w, map[string]string{"error": text})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	answerJSON(w, v)
}

func answerJSON(w io.Writer, v any) {
	_ = json.NewEncoder(w).Encode(v) // who asked may have left
}

// body reads a request's JSON into v.
func body(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something comes behind it")
			if large := (*http.MaxBytesError)(nil); errors.As(more, &large) {
				err = more
			}
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("The request is larger than %d bytes.", maxBody))
	case err != nil && err != io.EOF:
		fail(w, http.StatusBadRequest, "The request is not what openapi.json asks for: "+clip(err.Error(), 200))
	default:
		return true
	}
	return false
}

// login is given name and password and sets the session's cookie.
func (h *Handler) login(w http.ResponseWriter, r *http.Request) {
	if !h.sameOrigin(w, r, true) {
		return
	}
	var in struct {
		Name     string `json:"name"`
		Password string `json:"password"`
	}
	if !body(w, r, &in) {
		return
	}
	if len(h.guard.users) == 0 {
		fail(w, http.StatusNotFound, "There is nothing to log in to: the monitor has no users.")
		return
	}
	v, no := h.guard.login(r, in.Name, in.Password, false)
	if no != nil {
		h.opts.Logger.Warn("login refused", "name", clip(in.Name, 100), "from", r.RemoteAddr)
		refuse(w, no)
		return
	}
	h.setSession(w, r, v)
	answer(w, h.sessionOf(v))
}

func (h *Handler) setSession(w http.ResponseWriter, r *http.Request, v visitor) {
	if c := h.guard.newSession(r, v); c != nil {
		c.Secure = r.TLS != nil
		http.SetCookie(w, c)
	}
}

func (h *Handler) logout(w http.ResponseWriter, r *http.Request) {
	if !h.sameOrigin(w, r, true) {
		return
	}
	http.SetCookie(w, &http.Cookie{Name: h.guard.cookie(r), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil})
	answer(w, map[string]string{"result": "logged out"})
}

// A Session says who is logged in.
type Session struct {
	Name     string `json:"name"`
	ReadOnly bool   `json:"read_only"`
	Login    bool   `json:"login"`   // there are users, so there is a way out
	Log      bool   `json:"log"`     // there is a log to show
	Journal  bool   `json:"journal"` // there is a journal to ask
}

func (h *Handler) sessionOf(v visitor) Session {
	return Session{v.name, v.readOnly, len(h.guard.users) > 0, h.opts.Log != nil, h.opts.Journal != nil}
}

// getSession also renews the session, once half of it is over.
func (h *Handler) getSession(w http.ResponseWriter, r *http.Request, v visitor) {
	if !v.until.IsZero() && time.Until(v.until) < sessionTime/2 {
		h.setSession(w, r, v)
	}
	answer(w, h.sessionOf(v))
}

func (h *Handler) getPipelines(w http.ResponseWriter, _ *http.Request, _ visitor) {
	list := []State{}
	for _, name := range h.names {
		list = append(list, h.lines[name].now())
	}
	answer(w, map[string]any{"pipelines": list})
}

// now returns the state of the last look.
func (w *watched) now() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// named returns the pipeline that the request is about, or answers that there is
// none.
func (h *Handler) named(w http.ResponseWriter, r *http.Request) *watched {
	l := h.lines[r.PathValue("name")]
	if l == nil {
		fail(w, http.StatusNotFound, fmt.Sprintf("There is no pipeline %q.", clip(r.PathValue("name"), 100)))
	}
	return l
}

func (h *Handler) getPipeline(w http.ResponseWriter, r *http.Request, _ visitor) {
	if l := h.named(w, r); l != nil {
		answer(w, l.now())
	}
}

// getHistory returns the points of a chart: those of the last minutes.
func (h *Handler) getHistory(w http.ResponseWriter, r *http.Request, _ visitor) {
	l := h.named(w, r)
	if l == nil {
		return
	}
	minutes := 15
	if text := r.FormValue("minutes"); text != "" {
		var err error
		if minutes, err = strconv.Atoi(text); err != nil || minutes < 1 || minutes > 24*60 {
			fail(w, http.StatusBadRequest, "minutes is a number from 1 to 1440.")
			return
		}
	}
	l.mu.Lock()
	s := &l.fine
	if minutes > 15 {
		s = &l.coarse
	}
	points := s.since(time.Now().Add(-time.Duration(minutes) * time.Minute))
	l.mu.Unlock()
	answer(w, map[string]any{"points": points})
}

// A Table is what was counted of one table.
type Table struct {
	Name     string `json:"name"`
	Received uint64 `json:"received"`
	Applied  uint64 `json:"applied"`
	Rejected uint64 `json:"rejected"`
}

func (h *Handler) getTables(w http.ResponseWriter, r *http.Request, _ visitor) {
	if l := h.named(w, r); l != nil {
		list := []Table{}
		for name, t := range l.p.Stats().Tables {
			list = append(list, Table{name, t.Received, t.Applied, t.Rejected})
		}
		slices.SortFunc(list, func(a, b Table) int { return strings.Compare(a.Name, b.Name) })
		answer(w, map[string]any{"tables": list})
	}
}

func (h *Handler) getSettings(w http.ResponseWriter, r *http.Request, _ visitor) {
	if l := h.named(w, r); l != nil {
		list := []Setting{}
		for _, s := range h.opts.Settings[l.name] {
			list = append(list, Setting{s.Name, h.redact(s.Value)})
		}
		answer(w, map[string]any{"settings": list})
	}
}

func (h *Handler) getLog(w http.ResponseWriter, r *http.Request, _ visitor) {
	var after uint64
	if text := r.FormValue("after"); text != "" {
		var err error
		if after, err = strconv.ParseUint(text, 10, 64); err != nil {
			fail(w, http.StatusBadRequest, "after is the number of a line.")
			return
		}
	}
	if h.opts.Log == nil {
		answer(w, map[string]any{"lines": []Line{}, "missed": 0})
		return
	}
	lines, missed, _ := h.opts.Log.ring.after(after, h.opts.Log.ring.lines)
	answer(w, map[string]any{"lines": h.redactLines(lines), "missed": missed})
}

// An Action is something that somebody has asked of a pipeline.
type Action struct {
	Time     time.Time `json:"time"`
	By       string    `json:"by"`
	From     string    `json:"from"` // address
	Pipeline string    `json:"pipeline"`
	Action   string    `json:"action"`
	Argument string    `json:"argument"` // place, transaction or table
	Why      string    `json:"why"`
	Error    string    `json:"error"` // empty if it was done
}

func (h *Handler) note(a Action) {
	level := slog.LevelInfo
	args := []any{"pipeline", a.Pipeline, "action", a.Action, "by", a.By, "from", a.From}
	for _, p := range [][2]string{{"argument", a.Argument}, {"why", a.Why}, {"err", a.Error}} {
		if p[1] != "" {
			args = append(args, p[0], p[1])
		}
	}
	if a.Error != "" {
		level = slog.LevelWarn
	}
	h.opts.Logger.Log(context.Background(), level, "asked of the pipeline", args...)
	if err := h.audit.add(a); err != nil {
		h.opts.Logger.Error("an action could not be written to the file of actions; the log has it", "err", err)
	}
}

func (h *Handler) getAudit(w http.ResponseWriter, _ *http.Request, _ visitor) {
	h.audit.mu.Lock()
	list := append([]Action{}, h.audit.list...)
	h.audit.mu.Unlock()
	answer(w, map[string]any{"actions": list})
}

// probe answers "ok", or 503 and which pipelines are amiss to those who may know.
func (h *Handler) probe(good func(*State) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		var bad []string
		for _, name := range h.names {
			if s := h.lines[name].now(); !good(&s) {
				bad = append(bad, fmt.Sprintf("%s: %s", name, s.Text))
			}
		}
		if len(bad) == 0 {
			fmt.Fprintln(w, "ok")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ok")
		if _, no := h.guard.visitor(r); no == nil {
			fmt.Fprintln(w, strings.Join(bad, "\n"))
		}
	}
}

// An order is what an action may need to know.
type order struct {
	At  string `json:"at"`  // stop-at: a place, such as gtid:SET, file:NAME:POSITION, seq:N, id:NAME or time:2006-01-02T15:04:05Z
	ID  string `json:"id"`  // skip, unskip: the source's name for a transaction
	Why string `json:"why"` // for the log

	// Anyway skips a transaction although that helps nothing: see Trouble.Skippable.
	Anyway bool `json:"anyway"`

	Table       string `json:"table"`        // follow, unfollow, copy: "schema.table", as the source calls it
	Where       string `json:"where"`        // copy: the rows, by a condition; empty: all
	WithoutRows bool   `json:"without_rows"` // follow: rows that it has already are not copied
}

// about says what an order is about, for the log.
func (o *order) about() string {
	text := o.At + o.ID + o.Table
	switch {
	case o.Where != "":
		text += " where " + o.Where
	case o.WithoutRows:
		text += " without rows"
	}
	return text
}

func (h *Handler) postAction(w http.ResponseWriter, r *http.Request, v visitor) {
	l := h.named(w, r)
	if l == nil {
		return
	}
	var in order
	if !body(w, r, &in) {
		return
	}
	action := r.PathValue("action")
	status, ok, err := l.actOnTables(r.Context(), action, in)
	if !ok {
		status, err = l.act(action, in)
	}
	if status == http.StatusNotFound {
		fail(w, status, h.redact(err.Error()))
		return
	}
	a := Action{Time: time.Now().UTC(), By: v.name, From: r.RemoteAddr, Pipeline: l.name, Action: action,
		Argument: h.redact(clip(in.about(), 1000)), Why: h.redact(clip(in.Why, 1000))}
	if err != nil {
		a.Error = h.redact(err.Error())
	}
	h.note(a)
	if err != nil {
		fail(w, status, h.redact(err.Error()))
		return
	}
	h.look()
	answer(w, l.now())
}

// act does what is asked of the pipeline.
func (w *watched) act(action string, in order) (status int, err error) {
	switch action {
	case "pause":
		w.p.Pause()
	case "resume":
		w.p.Resume()
	case "stop", "drain", "stop-at":
		if action != "stop-at" && w.p.Stats().State == dfs.Stopped {
			return http.StatusConflict, errors.New("the pipeline is not running")
		}
		var at dfs.StopPoint
		if action == "stop-at" {
			if at, err = place(in.At); err == nil {
				err = w.p.StopAt(at)
			}
			if err != nil {
				return http.StatusBadRequest, err
			}
		}
		w.set(func(r *runner) {
			if action == "stop-at" {
				r.place = !at.IsZero()
			} else {
				r.asked = true
			}
		})
		switch action {
		case "stop":
			w.p.Stop()
		case "drain":
			w.p.Drain()
		}
	case "skip":
		if t := w.now().Error; t != nil && t.Transaction == in.ID && in.ID != "" && !t.Skippable && !in.Anyway {
			return http.StatusConflict, fmt.Errorf("to skip %s would not help, since what is wrong is not that transaction's fault: the target would lack it for nothing. %s "+
				"(If it is to be skipped all the same, ask for that with \"anyway\".)", clip(in.ID, 200), t.Remedy)
		}
		if err := w.p.Skip(in.ID); err != nil {
			return http.StatusBadRequest, err
		}
	case "unskip":
		if err := w.p.Unskip(in.ID); err != nil {
			return http.StatusInternalServerError, err
		}
	case "start":
		started := false
		w.set(func(r *runner) {
			if r.waiting {
				close(r.start)
				r.waiting, r.err, started = false, nil, true
			}
		})
		if !started {
			return http.StatusConflict, errors.New("the pipeline does not wait to be started")
		}
	default:
		return http.StatusNotFound, fmt.Errorf("there is no action %q; see openapi.json", clip(action, 100))
	}
	return http.StatusOK, nil
}

// place reads where to stop.
func place(text string) (at dfs.StopPoint, err error) {
	kind, rest, _ := strings.Cut(text, ":")
	switch kind {
	case "":
		return at, nil // takes back what was said before
	case "seq":
		at.Seq, err = strconv.ParseUint(rest, 10, 64)
	case "id":
		at.ID = rest
	case "time":
		at.Time, err = time.Parse(time.RFC3339Nano, rest)
	default:
		at.Place = text
	}
	if err != nil || at.IsZero() {
		return at, fmt.Errorf("stop at %q: write gtid:SET, file:NAME:POSITION, seq:NUMBER, id:TRANSACTION or time:2006-01-02T15:04:05Z", clip(text, 200))
	}
	return at, nil
}
