package monitor

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// What a WebSocket is sent. Each frame is JSON with a type.
type (
	liveState struct {
		Type      string    `json:"type"` // "state"
		At        time.Time `json:"at"`
		Pipelines []State   `json:"pipelines"`
	}
	liveLog struct {
		Type   string `json:"type"`   // "log"
		Lines  []Line `json:"lines"`  // oldest first
		Missed uint64 `json:"missed"` // lines that came too fast to be sent
	}
)

const (
	frameLines = 200 // in one frame of the log, of which there are four a second
	firstLines = 500 // when a WebSocket is opened
	writeTime  = 10 * time.Second
	mostOpen   = 2000 // WebSockets at a time
	easy       = 200  // so many are told everything at once; more are told less often, up to mostTurns
	mostTurns  = 4    // seconds between two states; the page takes 10 without one for a lost connection
)

// A hub holds the last frames. Each is written once, however many read it; who
// is too slow for them misses some and is told the latest state.
type hub struct {
	mu      sync.Mutex
	frames  [64]frame
	next    uint64        // number of the next frame
	state   []byte        // the latest state, as JSON
	latest  frame         // of the latest state
	line    uint64        // N of the last line of the log that was published
	changed chan struct{} // closed and replaced with each frame
	closed  bool
	open    sync.WaitGroup  // WebSockets
	opened  int             // how many there are
	ending  context.Context // ends those that do not close when asked to
	end     context.CancelFunc
}

func (b *hub) init() {
	b.changed = make(chan struct{})
	b.ending, b.end = context.WithCancel(context.Background())
}

// turns is how many looks make one that is sent. What WebSockets cost is that each is
// written to, so a thousand of them are written to no more often than some hundreds.
func (b *hub) turns() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(min(1+b.opened/easy, mostTurns))
}

// keep keeps the latest state for those who come, without sending it.
func (b *hub) keep(state []byte) {
	f := newFrame(state)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.latest = state, f
}

func (b *hub) publish(text []byte, state bool) {
	f := newFrame(text)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frames[b.next%uint64(len(b.frames))] = f
	b.next++
	if state {
		b.state, b.latest = text, f
	}
	if !b.closed {
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// join returns why no other WebSocket may be opened, or "". Then the caller leaves.
func (b *hub) join() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return "The monitor is closing."
	case b.opened >= mostOpen:
		return "Too many browsers look at the monitor. Close some."
	}
	b.opened++
	b.open.Add(1)
	return ""
}

func (b *hub) leave() {
	b.mu.Lock()
	b.opened--
	b.mu.Unlock()
	b.open.Done()
}

// close ends all WebSockets and waits for them.
func (b *hub) close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.changed)
	}
	b.mu.Unlock()
	defer time.AfterFunc(time.Second, b.end).Stop()
	b.open.Wait()
	b.end()
}

// publishLog publishes the lines that have come since the last time.
func (h *Handler) publishLog() {
	if h.opts.Log == nil {
		return
	}
	h.hub.mu.Lock()
	from := h.hub.line
	h.hub.mu.Unlock()
	lines, missed, last := h.opts.Log.ring.after(from, frameLines)
	if last == from {
		return
	}
	frame := h.logFrame(lines, missed)
	h.hub.mu.Lock()
	h.hub.line = last
	h.hub.mu.Unlock()
	h.hub.publish(frame, false)
}

func (h *Handler) logFrame(lines []Line, missed uint64) []byte {
	b, err := json.Marshal(liveLog{"log", h.redactLines(lines), missed})
	if err != nil {
		panic("monitor: a line cannot be written as JSON: " + err.Error())
	}
	return b
}

func (h *Handler) redactLines(lines []Line) []Line {
	out := make([]Line, len(lines))
	for i, l := range lines {
		l.Text = h.redact(l.Text)
		attrs := make([][2]string, len(l.Attrs))
		for k, a := range l.Attrs {
			attrs[k] = [2]string{a[0], h.redact(a[1])}
		}
		l.Attrs = attrs
		out[i] = l
	}
	return out
}

// live serves a WebSocket. A browser of another origin is refused; so is one whose
// session ends, and comes back with a new one.
func (h *Handler) live(w http.ResponseWriter, r *http.Request, v visitor) {
	if no := h.hub.join(); no != "" {
		fail(w, http.StatusServiceUnavailable, no)
		return
	}
	defer h.hub.leave()
	c, err := accept(w, r) // it answers by itself
	if err != nil {
		return
	}
	defer c.CloseNow()
	defer c.closeAt(h.hub.ending)()
	ctx := c.CloseRead(context.WithoutCancel(r.Context())) // until the other side leaves, or sends anything
	if !v.until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, v.until)
		defer cancel()
	}
	defer c.closeAt(ctx)() // also while it is written to
	h.hub.mu.Lock()
	at, state, line := h.hub.next, h.hub.latest, h.hub.line
	h.hub.mu.Unlock()
	frames := []frame{state}
	if h.opts.Log != nil {
		frames = append(frames, newFrame(h.logFrame(h.firstLines(line))))
	}
	for {
		if c.write(frames) != nil {
			return
		}
		frames = frames[:0]
		h.hub.mu.Lock()
		changed, closed := h.hub.changed, h.hub.closed
		if n := uint64(len(h.hub.frames)); h.hub.next-at > n {
			at = h.hub.next
			frames = append(frames, h.hub.latest)
		}
		for ; at < h.hub.next; at++ {
			frames = append(frames, h.hub.frames[at%uint64(len(h.hub.frames))])
		}
		h.hub.mu.Unlock()
		switch {
		case len(frames) > 0:
			continue
		case closed:
			return // without a goodbye, for which Close would wait seconds; the page comes back by itself
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// firstLines returns the lines up to the given one, for who has just come.
func (h *Handler) firstLines(upTo uint64) ([]Line, uint64) {
	from := uint64(0)
	if upTo > firstLines {
		from = upTo - firstLines
	}
	lines, _, _ := h.opts.Log.ring.after(from, int(^uint(0)>>1))
	for i, l := range lines {
		if l.N > upTo {
			return lines[:i], 0 // the rest comes in the next frame
		}
	}
	return lines, 0
}
