package queue

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// watchEvery is how often the place of a reader that moves is looked up, so that
// Stats can tell how much waits for it.
const watchEvery = 100 * time.Millisecond

// A watched is what was found of a reader in a group.
type watched struct {
	name string
	seq  uint64
	was  int64 // how much waited for it when the log was last warned
	end  int64 // bytes stored up to it
	lost bool  // it is forgotten
	warn int64 // how much waits for it, if the log is to be told; negative if that is little again
}

// watch looks up where readers stand, and forgets those for which too much waits.
// It asks the file only if a reader may have come to a limit, and now and then: an
// end that is too low only makes it look.
func (g *group) watch() error {
	q, o := g.q, &g.q.opts
	now := time.Now()
	often := now.Sub(g.watchedAt) > watchEvery
	if often {
		g.watchedAt = now
	}
	var list []watched
	q.mu.Lock()
	for name, r := range q.readers {
		n, moved := r.waits(&g.st), r.seq != r.seen
		if !r.lost && (moved && (often || r.warned > 0) || o.over(n) || o.warns(n, r.warned)) {
			list = append(list, watched{name: name, seq: r.seq, was: r.warned})
		}
	}
	q.mu.Unlock()
	for i := range list {
		w := &list[i]
		var err error
		if w.end, err = endOf(context.Background(), q.path, g.conn, &g.st, w.seq); err != nil {
			return err
		}
		n := g.st.last.end - w.end
		if w.seq >= g.st.whole.seq {
			n = 0
		}
		switch {
		case o.over(n):
			w.lost, w.warn = true, n
			const query = `INSERT INTO mark (name, seq, part) VALUES (?, ?, 1)
				ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, part = 1`
			if _, err := g.conn.ExecContext(context.Background(), query, w.name, int64(w.seq)); err != nil {
				return wrap(q.path, "forget a reader", err)
			}
			g.more = now // what it held is deleted by the next group
		case o.warns(n, w.was):
			w.warn = n
		case o.calms(n, w.was):
			w.warn = -1
		}
	}
	g.seen = list
	return nil
}

// over reports whether a reader for which n bytes wait is to be forgotten.
func (o *Options) over(n int64) bool { return o.MaxReaderBytes > 0 && n > o.MaxReaderBytes }

// warns reports whether the log is to be warned of n bytes, having been warned of
// some before.
func (o *Options) warns(n, before int64) bool {
	return o.WarnBytes > 0 && n > max(2*before, o.WarnBytes)
}

// calms reports whether a warning is over.
func (o *Options) calms(n, before int64) bool { return before > 0 && n < o.WarnBytes/2 }

// endOf finds out how many bytes were stored up to the block that holds seq.
func endOf(ctx context.Context, path string, c querier, st *state, seq uint64) (end int64, err error) {
	end = st.base.end
	id, err := findLast(ctx, path, c, st.base.block, st.last.block, seq)
	if err == nil && id > st.base.block {
		err = wrap(path, "look where a reader is", c.QueryRowContext(ctx, `SELECT "end" FROM block WHERE id = ?`, id).Scan(&end))
	}
	return end, err
}

// publish makes known what was found. A reader that has moved since has moved on,
// so end is no more than it was. q.mu is held.
func (w *watched) publish(o *offset) {
	if o == nil {
		return
	}
	o.end, o.seen = w.end, w.seq
	switch {
	case w.lost:
		o.lost, o.stored, o.warned = true, o.seq, 0
	case w.warn < 0:
		o.warned = 0
	case w.warn > 0:
		o.warned = w.warn
	}
}

// tell tells the log of readers that are far behind.
func (g *group) tell() {
	log := g.q.opts.logger()
	for _, w := range g.seen {
		switch {
		case w.lost:
			log.Error("a reader of the queue is forgotten, since too much waits for it; its target will miss what follows",
				"queue", g.q.path, "reader", w.name, "waits", w.warn, "limit", g.q.opts.MaxReaderBytes, "after", w.seq)
		case w.warn > 0:
			log.Warn("a reader of the queue is far behind, and what waits for it fills the disk",
				"queue", g.q.path, "reader", w.name, "waits", w.warn, "after", w.seq)
		case w.warn < 0:
			log.Info("a reader of the queue has caught up", "queue", g.q.path, "reader", w.name)
		}
	}
}

// fullEvery is how often the log is told that the queue is full, while it is.
const fullEvery = time.Minute

// slowest names the readers that hold the oldest block. q.mu is held.
func (q *Queue) slowest() string {
	var names []string
	low := ^uint64(0)
	for _, r := range q.readerInfos() {
		if r.Lost || r.Seq > low {
			continue
		}
		if r.Seq < low {
			low, names = r.Seq, nil
		}
		names = append(names, strconv.Quote(r.Name))
	}
	return strings.Join(names, ", ")
}
