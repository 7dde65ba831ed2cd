package monitor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// A feed is a source that gives out what it is told to, numbered "t1", "t2" ...
type feed struct {
	mu   sync.Mutex
	cond *sync.Cond
	n    int // transactions so far
	away bool
	name string // of the table

	silent float64   // seconds for which it says to have heard nothing
	told   dfs.Probe // what Probe tells
	tells  error
	copies []dfs.TableProgress
	tables []string // what was asked about tables
}

// Probe tells what it is told to.
func (f *feed) Probe(context.Context, dfs.Position) (dfs.Probe, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.told
	p.At = time.Now()
	return p, f.tells
}

func (f *feed) Progress() []dfs.TableProgress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]dfs.TableProgress(nil), f.copies...)
}

// once notes what was asked, and says if it was before.
func (f *feed) once(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.Contains(what, "nowhere") {
		return errors.New("the source has no such table: its password is " + secret)
	}
	if slices.Contains(f.tables, what) {
		return fmt.Errorf("%s: %w", what, dfs.ErrNoChange)
	}
	f.tables = append(f.tables, what)
	return nil
}

func (f *feed) Follow(_ context.Context, tables []string, rows bool) error {
	return f.once(fmt.Sprint("follow ", tables, rows))
}

func (f *feed) Unfollow(_ context.Context, tables []string) error {
	return f.once(fmt.Sprint("unfollow ", tables))
}

func (f *feed) Resnapshot(_ context.Context, table, where string) error {
	return f.once("copy " + table + " " + where)
}

// asked returns what was asked about tables.
func (f *feed) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tables)
}

func newFeed() *feed {
	f := &feed{name: "shop.orders", told: dfs.Probe{Unread: -1, UnreadBytes: -1}}
	f.cond = sync.NewCond(&f.mu)
	return f
}

// add makes the source commit n more transactions.
func (f *feed) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += n
	f.cond.Broadcast()
}

// leave makes the source unreachable, or reachable again.
func (f *feed) leave(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	f.cond.Broadcast()
}

var errAway = dfs.Transient(errors.New("dial tcp 10.0.0.7:3306: connection refused"))

func (f *feed) Open(_ context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away {
		return nil, errAway
	}
	return &feedStream{f, int(from.Seq)}, nil
}

type feedStream struct {
	f  *feed
	at int
}

func (s *feedStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	f := s.f
	defer context.AfterFunc(ctx, func() { f.mu.Lock(); f.cond.Broadcast(); f.mu.Unlock() })()
	f.mu.Lock()
	defer f.mu.Unlock()
	for s.at == f.n && !f.away {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		f.cond.Wait()
	}
	if f.away {
		return 0, errAway
	}
	schema, name, _ := strings.Cut(f.name, ".")
	n := 0
	for ; n < len(batch) && s.at < f.n; n++ {
		s.at++
		id := fmt.Sprint("t", s.at)
		batch[n] = &dfs.Transaction{Checkpoint: dfs.Checkpoint{Pos: dfs.Position(id)}, ID: id, Committed: time.Now(),
			Changes: []dfs.Change{{Op: dfs.Insert, Table: &dfs.Table{Schema: schema, Name: name}, After: dfs.Row{dfs.IntValue(int64(s.at))}}}}
	}
	return n, nil
}

func (s *feedStream) Close() error { return nil }

func (f *feed) Measures() []dfs.Measure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []dfs.Measure{{Name: "received_bytes", Help: "bytes received", Value: float64(f.n) * 187, Counter: true},
		{Name: "transactions", Help: "transactions handed on", Value: float64(f.n), Counter: true},
		{Name: "connections", Help: "streams opened", Value: 1, Counter: true}, {Name: "unheard_seconds", Help: "silence", Value: f.silent}}
}

// A drain is a sink that counts. It refuses the transaction called bad.
type drain struct {
	mu  sync.Mutex
	at  dfs.Checkpoint
	ids []string
	bad string
	err error // what Apply returns, if set
}

func (d *drain) Checkpoint(context.Context) (dfs.Checkpoint, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, nil
}

func (d *drain) Apply(_ context.Context, batch []*dfs.Transaction) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	for _, tx := range batch {
		if tx.ID == d.bad && len(tx.Changes) > 0 {
			return fmt.Errorf("insert of shop.orders (id=7): duplicate entry '7' for key 'PRIMARY'; password is %s", secret)
		}
		d.at = tx.Checkpoint
		d.ids = append(d.ids, tx.ID)
	}
	return nil
}

func (d *drain) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *drain) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ids)
}

// A tank is a queue in memory.
type tank struct {
	feed
	txs  []*dfs.Transaction
	at   dfs.Checkpoint
	gone float64 // whether its file is gone
}

func newTank() *tank {
	t := new(tank)
	t.cond = sync.NewCond(&t.mu)
	return t
}

func (t *tank) Checkpoint(context.Context) (dfs.Checkpoint, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at, nil
}

func (t *tank) Apply(_ context.Context, batch []*dfs.Transaction) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tx := range batch {
		t.txs = append(t.txs, tx)
		t.at = tx.Checkpoint
	}
	t.cond.Broadcast()
	return nil
}

func (t *tank) Reset(_ context.Context, at dfs.Checkpoint) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at, t.txs = at, nil
	return nil
}

func (t *tank) Open(_ context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	return &tankStream{t, int(from.Seq)}, nil
}

type tankStream struct {
	t  *tank
	at int
}

func (s *tankStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	t := s.t
	defer context.AfterFunc(ctx, func() { t.mu.Lock(); t.cond.Broadcast(); t.mu.Unlock() })()
	t.mu.Lock()
	defer t.mu.Unlock()
	for s.at >= len(t.txs) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		t.cond.Wait()
	}
	n := 0
	for ; n < len(batch) && s.at < len(t.txs); n++ {
		tx := *t.txs[s.at]
		batch[n] = &tx
		s.at++
	}
	return n, nil
}

func (t *tank) Measures() []dfs.Measure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []dfs.Measure{{Name: "bytes", Help: "bytes held", Value: 4 << 20}, {Name: "full", Help: "1 while capture waits"}, {Name: "gone", Help: "1 while the file is gone", Value: t.gone},
		{Name: "transactions", Help: "transactions stored", Value: float64(len(t.txs)), Counter: true}}
}

func (s *tankStream) Close() error { return nil }

const (
	secret   = "hunter2hunter2/@"
	password = "correct horse battery"
)

// A lab is a pipeline under a monitor.
type lab struct {
	src  *feed
	dst  *drain
	p    *dfs.Pipeline
	log  *Log
	slog *slog.Logger
	h    *Handler
}

// newLab opens a monitor of the pipeline "shop", and runs it.
func newLab(t *testing.T, o *Options, set ...func(*dfs.Pipeline)) *lab {
	l := &lab{src: newFeed(), dst: new(drain)}
	l.log = NewLog(slog.DiscardHandler, nil)
	l.slog = slog.New(l.log)
	l.p = &dfs.Pipeline{Source: l.src, Queue: newTank(), Sink: l.dst, Logger: l.slog.With("pipeline", "shop"), RetryWait: time.Millisecond}
	for _, f := range set {
		f(l.p)
	}
	if o == nil {
		o = &Options{}
	}
	o.Log, o.Logger = l.log, l.slog
	o.Secrets = append(o.Secrets, secret)
	if o.every == 0 {
		o.every = 20 * time.Millisecond
	}
	o.probeEvery = o.every
	if o.Journal != nil {
		require.NoError(t, o.Journal.Watch("shop", l.p))
	}
	l.open(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.h.Run(ctx, "shop") }()
	t.Cleanup(func() {
		cancel()
		<-done
		require.NoError(t, l.h.Close())
	})
	waitFor(t, func() bool { return l.state().Health == Good || l.state().Health == Warned })
	return l
}

func (l *lab) open(t *testing.T, o *Options) {
	var err error
	l.h, err = Open(map[string]*dfs.Pipeline{"shop": l.p}, o)
	require.NoError(t, err)
}

// call makes a request as a browser on this host does.
func (l *lab) call(t *testing.T, method, path, body string, head ...string) (int, string) {
	r := l.request(t, method, path, body, head...)
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(b)
}

func (l *lab) request(t *testing.T, method, path, body string, head ...string) *http.Response {
	s := l.server(t)
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	if method == "POST" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(head); i += 2 {
		if r.Header.Set(head[i], head[i+1]); head[i] == "Host" {
			r.Host = head[i+1]
		}
	}
	res, err := s.Client().Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// cookie returns the name of a session's cookie for the host "localhost".
func (l *lab) cookie() string { return l.h.guard.cookie(&http.Request{Host: "localhost"}) }

func (l *lab) server(t *testing.T) *httptest.Server {
	s := httptest.NewServer(l.h)
	t.Cleanup(s.Close)
	return s
}

// state returns the pipeline's latest state.
func (l *lab) state() State { return l.h.lines["shop"].now() }

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, time.Millisecond)
}

var discardLog = slog.New(slog.DiscardHandler)

func newLogger(h slog.Handler) *slog.Logger { return slog.New(h) }
