package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"golang.org/x/term"
)

// A view is what the live line and the summaries show of a moment.
type view struct {
	at      time.Time
	stats   dfs.Stats
	stored  int64 // bytes in the queue
	waiting bool  // the queue is full, and capture waits
}

// waitingTransactions is how many have been read and not yet applied.
func (v view) waitingTransactions() uint64 {
	return max(v.stats.Capture.At.Seq, v.stats.Apply.Read, v.stats.Apply.At.Seq) - v.stats.Apply.At.Seq
}

// rate returns the rows applied per second between two views.
func rate(from, to view) float64 {
	d := to.at.Sub(from.at).Seconds()
	if d <= 0 || to.stats.Apply.Applied < from.stats.Apply.Applied {
		return 0
	}
	return float64(to.stats.Apply.Applied-from.stats.Apply.Applied) / d
}

// line writes the view in at most width columns. What is least needed is left
// out first.
func (v view) line(name string, rate float64, width int) string {
	s := v.stats
	state := s.State.String()
	if v.waiting {
		state = "queue full"
	}
	parts := []struct {
		text string
		keep int // parts with a higher number go first
	}{
		{name, 3},
		{state, 0},
		{count(s.Apply.At.Seq) + " tx", 2},
		{count(uint64(rate)) + " rows/s", 1},
		{"lag " + ago(s.Lag), 1},
		{copying(s.Copies), 2},
		{fmt.Sprintf("queue %s tx, %s", count(v.waitingTransactions()), config.Size(v.stored)), 4},
		{reason(s), 5},
	}
	for limit := 5; ; limit-- {
		var kept []string
		for _, p := range parts {
			if p.keep <= limit && p.text != "" {
				kept = append(kept, p.text)
			}
		}
		text := strings.Join(kept, " · ")
		if n := utf8.RuneCountInString(text); n <= width || limit == 0 {
			return string([]rune(text)[:min(n, max(width, 0))])
		}
	}
}

// copying says how far the copies of tables are, while some are not over.
func copying(list []dfs.TableProgress) string {
	var over, failed int
	var rows, total uint64
	var rate float64
	for _, t := range list {
		switch t.State {
		case dfs.CopyFailed:
			failed++
			over++
		case dfs.Copied:
			over++
		case dfs.Copying:
			rate += t.Rate
		}
		rows += t.Rows
		total += max(t.Total, t.Rows)
	}
	text := ""
	if over < len(list) {
		text = fmt.Sprintf("copied %d of %d tables, %s rows", over, len(list), count(rows))
		if rate > 0 && total > rows {
			text += fmt.Sprintf(", %s left", ago((time.Duration(float64(total-rows)/rate) * time.Second).Round(time.Second)))
		}
	}
	if failed > 0 {
		text = strings.TrimPrefix(fmt.Sprintf("%s, %d tables failed", text, failed), ", ")
	}
	return text
}

// reason says why a leg is retrying, or has stopped before the other.
func reason(s dfs.Stats) string {
	for _, leg := range []dfs.Leg{s.Apply, s.Capture} {
		if (leg.State == dfs.Retrying || leg.State == dfs.Stopped) && leg.Err != nil {
			text, _, _ := strings.Cut(leg.Err.Error(), "\n")
			return text
		}
	}
	return ""
}

// count writes n with commas: 1,234,567.
func count(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ago writes a duration as briefly as it is still of use.
func ago(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// A liveLine keeps one line at the bottom of a terminal. What is written to it
// scrolls by above.
type liveLine struct {
	out  io.Writer
	fd   int
	mu   sync.Mutex
	text string
}

const eraseLine = "\r\x1b[K"

// Write puts p above the live line. It serves a log's handler.
func (l *liveLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.out, "%s%s%s", eraseLine, p, l.text)
	return len(p), err
}

// set replaces the line; an empty text removes it.
func (l *liveLine) set(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if text != l.text {
		l.text = text
		fmt.Fprint(l.out, eraseLine+text)
	}
}

// width is how many columns a line may take without wrapping.
func (l *liveLine) width() int {
	if w, _, err := term.GetSize(l.fd); err == nil && w > 0 {
		return w - 1
	}
	return 79
}

// terminal returns a liveLine if w is a terminal that can erase a line.
func terminal(w io.Writer) *liveLine {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &liveLine{out: f, fd: int(f.Fd())}
}

// draw redraws the line until ctx ends. The rate is that of the last seconds.
func (l *liveLine) draw(ctx context.Context, name string, look func() view) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	defer l.set("")
	past := []view{look()}
	for {
		now := look()
		past = append(past, now)
		past = past[max(0, len(past)-15):]
		l.set(now.line(name, rate(past[0], now), l.width()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// summarize logs a summary each time something has moved, until ctx ends.
func summarize(ctx context.Context, log *slog.Logger, every time.Duration, look func() view) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := look()
		if now.stats.Apply.At.Seq == last.stats.Apply.At.Seq && now.waitingTransactions() == 0 {
			continue
		}
		log.Info("progress", summary(last, now)...)
		last = now
	}
}

// summary returns what happened from one view to another as attributes of a log.
func summary(from, to view) []any {
	s := to.stats
	list := []any{
		"state", s.State.String(),
		"transactions", s.Apply.Transactions - from.stats.Apply.Transactions,
		"rows", s.Apply.Applied - from.stats.Apply.Applied,
		"rows_per_second", uint64(rate(from, to)),
		"lag", s.Lag.Round(time.Millisecond),
		"waiting", to.waitingTransactions(),
		"queue_bytes", to.stored,
		"at", s.Apply.At.Seq,
		"id", s.Apply.ID,
	}
	if text := copying(s.Copies); text != "" {
		list = append(list, "copy", text)
	}
	return list
}
