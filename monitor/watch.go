package monitor

import (
	"encoding/json"
	"math"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
)

// A watched is a pipeline and what was seen of it.
type watched struct {
	name string
	p    *dfs.Pipeline
	h    *Handler
	told Health // when it was last looked at; guarded by Handler.sampling

	mu     sync.Mutex // guards what follows
	last   look
	recent []look // the last minute, for rates and the time to catch up
	heard  time.Time
	moved  time.Time // when the sink last came further, or had nothing to do
	state  State
	fine   series // a point a second, for a quarter of an hour
	coarse series // a point each half minute, for a day
	runner runner
	probed probed
}

// A look is what the monitor takes from Stats each time.
type look struct {
	at                  time.Time
	seq, captured       uint64
	rows, txs           uint64
	bytes               uint64
	captureBytes, waits uint64
}

// recentLooks is how many looks rates are taken over.
const (
	recentLooks = 60
	rateLooks   = 5
)

func watch(name string, p *dfs.Pipeline, h *Handler) *watched {
	now := time.Now()
	return &watched{name: name, p: p, h: h, heard: now, moved: now,
		fine: series{every: h.opts.every, keep: 900}, coarse: series{every: 30 * h.opts.every, keep: 2880}}
}

// watch looks at the pipelines until the Handler is closed, and tells the open
// WebSockets.
func (h *Handler) watch() {
	states := time.NewTicker(h.opts.every)
	defer states.Stop()
	lines := time.NewTicker(h.opts.every / 4)
	defer lines.Stop()
	for n, looks := uint64(0), uint64(0); ; {
		select {
		case <-h.stop:
			return
		case <-lines.C:
			if n++; n%h.hub.turns() == 0 {
				h.publishLog()
			}
		case <-states.C:
			looks++
			h.sample(looks%h.hub.turns() == 0)
		}
	}
}

// look looks at all pipelines, and publishes what it sees.
func (h *Handler) look() { h.sample(true) }

// sample looks at all pipelines, and publishes what it sees if that is due, or the health
// of one is another than before.
func (h *Handler) sample(due bool) {
	h.sampling.Lock()
	defer h.sampling.Unlock()
	now := time.Now()
	var frame liveState
	frame.Type, frame.At = "state", now
	for _, name := range h.names {
		l := h.lines[name]
		s := l.look(now)
		due = due || s.Health != l.told
		l.told = s.Health
		frame.Pipelines = append(frame.Pipelines, s)
	}
	b, err := json.Marshal(frame)
	if err != nil { // numbers of parts that are none; the last frame stays
		h.opts.Logger.Error("the monitor cannot show a state", "err", err)
		return
	}
	if due {
		h.hub.publish(b, true)
	} else {
		h.hub.keep(b)
	}
}

// look takes a look, and returns the state that follows from it and those before.
func (w *watched) look(now time.Time) State {
	s := w.p.Stats()
	parts := w.parts()
	w.mu.Lock()
	defer w.mu.Unlock()
	l := look{at: now, seq: s.Apply.At.Seq, captured: s.Capture.At.Seq, rows: s.Apply.Applied, txs: s.Apply.Transactions,
		bytes: s.Apply.Bytes, captureBytes: s.Capture.Bytes, waits: waiting(s)}
	if l.rows < w.last.rows || l.txs < w.last.txs {
		w.recent = w.recent[:0] // Run has begun anew, and counts from zero
	}
	if l.seq != w.last.seq || l.waits == 0 || s.State == dfs.Paused {
		w.moved = now
	}
	w.last = l
	w.recent = append(w.recent, l)
	if n := len(w.recent) - recentLooks; n > 0 {
		w.recent = append(w.recent[:0], w.recent[n:]...)
	}
	from := s.Apply
	if w.p.Queue != nil {
		from = s.Capture
	}
	if from.State == dfs.Running {
		w.heard = now.Add(-silence(parts[0]))
	}
	w.state = w.stateOf(now, s, from, parts)
	p := point{now, w.state.RowsPerSecond, w.state.TransactionsPerSecond, w.state.BytesPerSecond, w.state.LagSeconds, float64(l.waits)}
	w.fine.add(p)
	w.coarse.add(p)
	return w.state
}

// silence is how long a source that runs says to have heard nothing: see dfs.Measurer.
func silence(source Part) time.Duration {
	return time.Duration(source.measure("unheard_seconds") * float64(time.Second))
}

// measure returns a measure of the part, or zero if it has none of that name.
func (p *Part) measure(name string) float64 {
	for _, m := range p.Measures {
		if m.Name == name {
			return m.Value
		}
	}
	return 0
}

// waiting is how many transactions have been read and not yet applied.
func waiting(s dfs.Stats) uint64 {
	return max(s.Capture.At.Seq, s.Apply.Read, s.Apply.At.Seq) - s.Apply.At.Seq
}

// rate returns how much of something was done per second of late.
func (w *watched) rate(n int, of func(look) uint64) float64 {
	recent := w.recent[max(0, len(w.recent)-n-1):]
	from, to := recent[0], recent[len(recent)-1]
	d := to.at.Sub(from.at).Seconds()
	if d <= 0 || of(to) < of(from) {
		return 0
	}
	return float64(of(to)-of(from)) / d
}

// catchUp returns how many seconds the sink needs for what waits, at the pace of
// the last minute, or nil if it does not come nearer.
func (w *watched) catchUp() *float64 {
	zero := 0.0
	if w.last.waits == 0 {
		return &zero
	}
	applied := w.rate(recentLooks, func(l look) uint64 { return l.seq })
	arrived := w.rate(recentLooks, func(l look) uint64 { return max(l.captured, l.seq+l.waits) })
	if nearer := applied - arrived; nearer > 0 {
		seconds := math.Round(float64(w.last.waits)/nearer*10) / 10
		return &seconds
	}
	return nil
}

// A point is a moment of a chart.
type point struct {
	at                              time.Time
	rows, txs, bytes, lag, waitings float64
}

// MarshalJSON writes [seconds since 1970, rows/s, transactions/s, bytes/s, lag in
// seconds, transactions that wait].
func (p point) MarshalJSON() ([]byte, error) {
	r := func(v float64) float64 { return math.Round(v*1000) / 1000 }
	return json.Marshal([6]float64{r(float64(p.at.UnixMilli()) / 1000), r(p.rows), r(p.txs), r(p.bytes), r(p.lag), r(p.waitings)})
}

// A series keeps the last points of a chart, one for each stretch of time: the
// means of rates, and the worst of lag and waiting.
type series struct {
	every  time.Duration
	keep   int
	points []point
	n      int // looks that the last point is of
}

func (s *series) add(p point) {
	if n := len(s.points); n > 0 && p.at.Sub(s.points[n-1].at) < s.every*9/10 {
		last := &s.points[n-1]
		s.n++
		for _, v := range [...]struct{ to, v *float64 }{{&last.rows, &p.rows}, {&last.txs, &p.txs}, {&last.bytes, &p.bytes}} {
			*v.to += (*v.v - *v.to) / float64(s.n)
		}
		last.lag, last.waitings = max(last.lag, p.lag), max(last.waitings, p.waitings)
		return
	}
	s.points, s.n = append(s.points, p), 1
	if n := len(s.points) - s.keep; n > s.keep/10 { // not with each point
		s.points = append(s.points[:0], s.points[n:]...)
	}
}

// since returns the points after t.
func (s *series) since(t time.Time) []point {
	i := 0
	for i < len(s.points) && !s.points[i].at.After(t) {
		i++
	}
	return append([]point{}, s.points[i:]...)
}
