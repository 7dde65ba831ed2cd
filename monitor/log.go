package monitor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// A Log is a slog.Handler that hands records on to another and keeps the last of
// them for the page. Its memory is bounded, and those who look at it never make
// those wait who write to it.
type Log struct {
	next   slog.Handler
	ring   *ring
	attrs  [][2]string // of WithAttrs, in their order
	groups string      // of WithGroup, each with a dot behind it
}

// LogOptions of a Log. The zero LogOptions are the defaults.
type LogOptions struct {
	Lines int        // kept; default: 2000
	Bytes int        // of text kept, and a fourth more for warnings and errors before them; default: 2 MiB
	Level slog.Level // records below it are not kept; default: info
}

// NewLog returns a Log that hands records on to next, such as the handler that
// writes to standard error. A nil opts stands for the zero LogOptions.
func NewLog(next slog.Handler, opts *LogOptions) *Log {
	if opts == nil {
		opts = &LogOptions{}
	}
	r := &ring{lines: opts.Lines, bytes: opts.Bytes, level: opts.Level, first: 1}
	if r.lines <= 0 {
		r.lines = 2000
	}
	if r.bytes <= 0 {
		r.bytes = 2 << 20
	}
	return &Log{next: next, ring: r}
}

// A Line is a record of a Log.
type Line struct {
	N     uint64      `json:"n"` // 1, 2, 3 ...
	Time  time.Time   `json:"time"`
	Level string      `json:"level"` // "debug", "info", "warn" or "error"
	Text  string      `json:"text"`
	Attrs [][2]string `json:"attrs"` // names and values
}

// maxText is how much of a text the page is given.
const maxText = 4096

// Enabled reports whether either the Log or the handler behind it wants records of
// the level.
func (l *Log) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= l.ring.level || l.next.Enabled(ctx, level)
}

// Handle keeps the record and hands it on.
func (l *Log) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= l.ring.level {
		line := Line{Time: r.Time, Level: levelName(r.Level), Text: clip(r.Message, maxText), Attrs: slices.Clip(l.attrs)}
		r.Attrs(func(a slog.Attr) bool {
			line.Attrs = appendAttr(line.Attrs, l.groups, a)
			return true
		})
		if line.Attrs == nil {
			line.Attrs = [][2]string{}
		}
		l.ring.add(line)
	}
	if !l.next.Enabled(ctx, r.Level) {
		return nil
	}
	return l.next.Handle(ctx, r)
}

// WithAttrs returns a Log that adds the attributes to each record.
func (l *Log) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *l
	c.next = l.next.WithAttrs(attrs)
	c.attrs = slices.Clip(l.attrs)
	for _, a := range attrs {
		c.attrs = appendAttr(c.attrs, l.groups, a)
	}
	return &c
}

// WithGroup returns a Log that puts the name before those of later attributes.
func (l *Log) WithGroup(name string) slog.Handler {
	if name == "" {
		return l
	}
	c := *l
	c.next = l.next.WithGroup(name)
	c.groups += name + "."
	return &c
}

func appendAttr(list [][2]string, groups string, a slog.Attr) [][2]string {
	v := a.Value.Resolve()
	switch {
	case a.Equal(slog.Attr{}):
		return list
	case v.Kind() != slog.KindGroup:
		text := v.String()
		if err, ok := v.Any().(error); ok {
			text = err.Error()
		}
		return append(list, [2]string{groups + a.Key, clip(text, maxText)})
	case a.Key != "":
		groups += a.Key + "."
	}
	for _, a := range v.Group() {
		list = appendAttr(list, groups, a)
	}
	return list
}

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return "warn"
	case l >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// A ring keeps the last lines.
type ring struct {
	lines, bytes int
	level        slog.Level

	mu    sync.Mutex
	first uint64 // N of kept[0]
	kept  []Line
	size  int

	bad     []Line // the last warnings and errors that are not in kept any more
	badSize int
}

// keptBad is how many warnings and errors outlive a flood of other lines.
const keptBad = 100

// plain reports whether a line is neither a warning nor an error.
func (l *Line) plain() bool { return l.Level == "info" || l.Level == "debug" }

func (l *Line) size() int {
	n := 96 + len(l.Text)
	for _, a := range l.Attrs {
		n += 32 + len(a[0]) + len(a[1])
	}
	return n
}

func (r *ring) add(l Line) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.N = r.first + uint64(len(r.kept))
	r.kept = append(r.kept, l)
	r.size += l.size()
	n := 0
	for len(r.kept)-n > 1 && (len(r.kept)-n > r.lines || r.size > r.bytes) {
		r.size -= r.kept[n].size()
		if !r.kept[n].plain() {
			r.bury(r.kept[n])
		}
		r.kept[n] = Line{} // append copies what is left once the array is full
		n++
	}
	r.kept, r.first = r.kept[n:], r.first+uint64(n)
}

// bury keeps a warning or an error that the last lines have no room for.
func (r *ring) bury(l Line) {
	r.bad = append(r.bad, l)
	r.badSize += l.size()
	for len(r.bad) > keptBad || r.badSize > r.bytes/4 && len(r.bad) > 0 {
		r.badSize -= r.bad[0].size()
		r.bad = slices.Delete(r.bad, 0, 1)
	}
}

// after returns at most limit lines that follow line n, and how many of those
// that follow it are not among them. If there are too many, warnings and errors
// come before others, and later before earlier ones.
func (r *ring) after(n uint64, limit int) (lines []Line, missed uint64, last uint64) {
	r.mu.Lock()
	end := r.first + uint64(len(r.kept)) // N of the next line
	if n+1 < end {
		for i := range r.bad {
			if r.bad[i].N > n {
				lines = append(lines, r.bad[i])
			}
		}
		lines = append(lines, r.kept[max(n+1, r.first)-r.first:]...)
		missed = end - n - 1 - uint64(len(lines))
	}
	r.mu.Unlock()
	if over := len(lines) - limit; over > 0 {
		missed += uint64(over)
		for _, only := range []bool{true, false} { // first leave out plain lines, then any
			lines = slices.DeleteFunc(lines, func(l Line) bool {
				if over > 0 && (!only || l.plain()) {
					over--
					return true
				}
				return false
			})
		}
	}
	return lines, missed, max(n, end-1)
}

// String says what the Log is, for those who print a logger.
func (l *Log) String() string { return fmt.Sprintf("monitor.Log of %d lines", l.ring.lines) }
