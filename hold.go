package dfs

import (
	"sync"
	"time"
)

// newHoldback returns the holdback of a run of the pipeline.
func (p *Pipeline) newHoldback() *holdback {
	h := &holdback{}
	if h.src, _ = p.Source.(Holder); h.src != nil {
		h.src.Hold(false) // as another run may have left it
	}
	return h
}

// A holdback keeps rows of a copy from piling up before the sink, in memory or in the
// queue: a commit of the source would wait behind all of them. It counts the bytes of
// rows that were there already between the source and the sink, and asks the source to
// wait with more of them where the sink needs longer than holdTime for these. What the
// source's log has goes on meanwhile.
type holdback struct {
	src Holder // nil if the source cannot wait

	mu    sync.Mutex
	held  bool
	began uint64 // what was stored before is not counted, and comes first
	at    uint64 // of the last transaction applied
	out   []held
	bytes int
	rate  float64 // bytes a second that the sink takes; 0 if not known
}

// A held is one transaction that was read and is not applied.
type held struct {
	seq  uint64
	size int
}

const (
	holdTime  = 300 * time.Millisecond
	leastHeld = 2 << 20
	mostHeld  = 64 << 20
)

// begin notes that the source goes on after seq. What was read behind that comes again.
func (h *holdback) begin(seq uint64) {
	h.change(func() {
		for len(h.out) > 0 && h.out[len(h.out)-1].seq > seq {
			h.bytes -= h.out[len(h.out)-1].size
			h.out = h.out[:len(h.out)-1]
		}
		if len(h.out) == 0 {
			h.began = seq
		}
	})
}

// read notes that the source has given transactions.
func (h *holdback) read(txs []*Transaction) {
	if h == nil || h.src == nil {
		return
	}
	for _, tx := range txs {
		if tx.Snapshot && !tx.Copied {
			h.change(func() {
				n := tx.Size()
				h.out = append(h.out, held{tx.Seq, n})
				h.bytes += n
			})
		}
	}
}

// applied notes that the sink stands at seq, and how long it took for the last bytes of
// rows of a copy; 0 if there were none.
func (h *holdback) applied(seq uint64, bytes int, took time.Duration) {
	h.change(func() {
		h.at = seq
		if bytes >= leastHeld/8 && took > 0 {
			rate := float64(bytes) / took.Seconds()
			if h.rate == 0 {
				h.rate = rate
			}
			h.rate += (rate - h.rate) / 4
		}
		n := 0
		for n < len(h.out) && h.out[n].seq <= seq {
			h.bytes -= h.out[n].size
			n++
		}
		h.out = h.out[n:]
	})
}

// change changes what is known, and asks the source for what follows.
func (h *holdback) change(f func()) {
	if h == nil || h.src == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	limit := min(max(int(h.rate*holdTime.Seconds()), leastHeld), mostHeld)
	if hold := h.at < h.began || h.bytes > limit; hold != h.held {
		h.held = hold
		h.src.Hold(hold)
	}
}
