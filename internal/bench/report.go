//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A report holds all that was measured.
type report struct {
	Date      time.Time        `json:"date"`
	Machine   string           `json:"machine"`
	Cores     int              `json:"cores"`
	Kernel    string           `json:"kernel"`
	Go        string           `json:"go"`
	Server    string           `json:"server"`
	Scale     float64          `json:"scale"`
	Rounds    int              `json:"rounds"`
	Backlogs  []*result        `json:"backlogs"`
	Latencies []*latencyResult `json:"latencies"`
	Copy      *copyResult      `json:"copy,omitempty"` // under load
	Verify    *verifyResult    `json:"verify,omitempty"`
	Archive   []*archiveResult `json:"archive,omitempty"`
	Maps      *mapsResult      `json:"maps,omitempty"` // of relmgr

	opts *options
}

// A result is what the contenders did with one backlog.
type result struct {
	Name  string  `json:"name"`
	Title string  `json:"title"`
	Txs   int     `json:"transactions"`
	Rows  int     `json:"rows"`
	Bytes int64   `json:"bytes"`
	Lines []*line `json:"contenders"`
}

// A line is what one contender did in all rounds.
type line struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Samples []sample `json:"samples"`
}

// A latencyResult is what one contender's transactions took, in all rounds.
type latencyResult struct {
	Name         string  `json:"name"`
	Rate         float64 `json:"rate"`         // transactions a second, the least of all rounds
	Transactions int     `json:"transactions"` // of all rounds
	P50          spread  `json:"p50_ms"`       // of each round, in milliseconds
	P95          spread  `json:"p95_ms"`
	P99          spread  `json:"p99_ms"`
	Max          spread  `json:"max_ms"`
	Last         sample  `json:"last"` // where processor time went in the last round
}

func newReport(o *options) *report {
	r := &report{Date: time.Now(), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Scale: o.scale, Rounds: o.rounds, opts: o, Machine: "unknown processor"}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			r.Machine, _, _ = strings.Cut(rest, "\n")
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = strings.TrimSpace(string(b))
	}
	return r
}

func (r *report) backlog(b *backlog) *result {
	res := &result{Name: b.name, Title: b.title, Txs: b.txs, Rows: b.rows, Bytes: b.bytes}
	r.Backlogs = append(r.Backlogs, res)
	return res
}

// line returns what the named contender did, or nil.
func (res *result) line(name string) *line {
	for _, l := range res.Lines {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (res *result) add(c *contender, s sample) {
	l := res.line(c.name)
	if l == nil {
		l = &line{Name: c.name, Title: c.title}
		res.Lines = append(res.Lines, l)
	}
	l.Samples = append(l.Samples, s)
}

func (r *report) addLatency(name string, t *latencyRun) {
	i := slices.IndexFunc(r.Latencies, func(l *latencyResult) bool { return l.Name == name })
	if i < 0 {
		i = len(r.Latencies)
		r.Latencies = append(r.Latencies, &latencyResult{Name: name, Rate: t.rate})
	}
	l := r.Latencies[i]
	l.Rate = min(l.Rate, t.rate)
	l.Last = t.sample
	l.add(slices.Sorted(slices.Values(t.took)))
}

// add adds a round by what each of its transactions took, sorted.
func (l *latencyResult) add(took []time.Duration) {
	l.Transactions += len(took)
	for share, to := range map[float64]*spread{0.5: &l.P50, 0.95: &l.P95, 0.99: &l.P99, 1: &l.Max} {
		*to = append(*to, float64(quantile(took, share))/float64(time.Millisecond))
	}
}

// A spread is what several rounds gave.
type spread []float64

func (s spread) median() float64 {
	v := slices.Sorted(slices.Values(s))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// text returns the median, with the least and the greatest if there are more.
func (s spread) text(format func(float64) string) string {
	t := format(s.median())
	if len(s) > 1 {
		t += " (" + format(slices.Min(s)) + "–" + format(slices.Max(s)) + ")"
	}
	return t
}

// of returns one figure of each sample.
func (l *line) of(f func(sample) float64) spread {
	var s spread
	for _, v := range l.Samples {
		s = append(s, f(v))
	}
	return s
}

func (l *line) rates(rows int) spread {
	return l.of(func(s sample) float64 { return s.rate(rows) })
}

// ratios returns how many times as fast as other l was in each round. Rounds
// alternate, so what disturbs one of them disturbs both.
func (l *line) ratios(other *line) spread {
	var s spread
	for i := range min(len(l.Samples), len(other.Samples)) {
		s = append(s, other.Samples[i].Wall.Seconds()/l.Samples[i].Wall.Seconds())
	}
	return s
}

// A goal is a figure that is to be reached.
type goal struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // where the time went, if it was not reached
}

// goals compares what was measured with what is to be reached.
func (r *report) goals() []goal {
	var goals []goal
	// last is where the time went in the last round; nil if that explains nothing
	add := func(what, want, got string, ok bool, last *sample) {
		g := goal{What: what, Want: want, Got: got, OK: ok}
		if !ok && last != nil {
			g.Why = last.shares()
		}
		goals = append(goals, g)
	}
	atLeast := func(what string, want float64, got spread, unit string, l *line) {
		format := func(v float64) string { return figure(v) + unit }
		add(what, "≥ "+format(want), got.text(figure)+unit, got.median() >= want, &l.Samples[len(l.Samples)-1])
	}
	for _, res := range r.Backlogs {
		dfs, native := res.line("dfs"), res.line("native")
		dumper, dump := res.line("mydumper"), res.line("mysqldump")
		capture, peer := res.line("capture"), res.line("gomysql")
		switch res.Name {
		case "single":
			if capture != nil {
				atLeast("capture to durable queue, single-row transactions", 300_000, capture.rates(res.Rows), " rows/s", capture)
			}
			if capture != nil && peer != nil {
				atLeast("capture to durable queue against go-mysql's decode", 2, capture.ratios(peer), "x", capture)
			}
			if dfs != nil && native != nil {
				atLeast("end to end against the native replica, single-row transactions", 8, dfs.ratios(native), "x", dfs)
			}
		case "batch":
			if dfs != nil && native != nil {
				atLeast("end to end against the native replica, transactions of 100 rows", 1, dfs.ratios(native), "x", dfs)
			}
		case snapshotPart:
			if dfs == nil {
				break
			}
			if dumper != nil {
				atLeast("copy against mydumper and myloader", 1, dfs.ratios(dumper), "x", dfs)
			}
			if dump != nil {
				atLeast("copy against mysqldump | mysql", 3, dfs.ratios(dump), "x", dfs)
			}
			rss := dfs.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })
			add("memory of the copy", "≤ 200 MiB", rss.text(figure)+" MiB", slices.Max(rss) <= 200, nil)
		case "chain", "chain-100":
			ids := res.line(relmgrPart)
			if dfs == nil || ids == nil {
				break
			}
			atLeast(res.Name+", with relmgr against without", 0.6, ids.ratios(dfs), "x", ids)
			rss := ids.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })
			add("memory with relmgr, "+res.Name, "≤ 200 MiB", rss.text(figure)+" MiB", slices.Max(rss) <= 200, nil)
		case "drain", "large":
			if dfs == nil {
				break
			}
			limit, what := 150.0, fmt.Sprintf("memory while draining %s MB of log", count(float64(res.Bytes>>20)))
			if res.Name == "large" {
				limit, what = 256, fmt.Sprintf("memory for a transaction of %s rows", count(float64(res.Rows-1)))
			}
			rss := dfs.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })
			add(what, "≤ "+figure(limit)+" MiB", rss.text(figure)+" MiB", slices.Max(rss) <= limit, nil)
		}
	}
	for _, l := range r.Latencies {
		if l.Name != "dfs" {
			continue
		}
		for _, q := range []struct {
			name  string
			took  spread
			limit float64 // ms
		}{{"p50", l.P50, 10}, {"p99", l.P99, 50}} {
			add(fmt.Sprintf("commit to visible at %d transactions/s, %s", pace, q.name),
				"≤ "+figure(q.limit)+" ms", q.took.text(figure)+" ms", q.took.median() <= q.limit, &l.Last)
		}
		add("pace of the source while latency was measured", fmt.Sprintf("≥ %.0f/s", 0.95*pace),
			fmt.Sprintf("%.0f/s", l.Rate), l.Rate >= 0.95*pace, &l.Last)
	}
	for _, a := range r.Archive {
		add("archive of "+a.Name, "≥ 200,000 rows/s", count(a.Rate.median())+" rows/s", a.Rate.median() >= 200_000, nil)
		add("archive of "+a.Name+", of the log's bytes", "< 25 %", fmt.Sprintf("%.1f %%", a.share()), a.share() < 25, nil)
	}
	if v := r.Verify; v != nil {
		add("verification of one table", "≤ 4 x CHECKSUM TABLE", fmt.Sprintf("%.2f x", v.Ratio.median()), v.Ratio.median() <= 4, nil)
	}
	if m := r.Maps; m != nil {
		open := m.Many.Open
		add("opening a map of "+count(float64(m.Many.Keys))+" keys", "≤ 1,000 ms", open.text(figure)+" ms", slices.Max(open) <= 1000, nil)
		add("lookups against a map of "+count(float64(m.Few.Keys))+" keys", "≥ 0.8x", m.ratios().text(figure)+"x", m.ratios().median() >= 0.8, nil)
	}
	if c := r.Copy; c != nil {
		p99 := quantile(c.Lag, 0.99).Seconds()
		add("lag of the stream while rows are copied, p99", "≤ 2 s", figure(p99)+" s", p99 <= 2, nil)
		add("pace of the source meanwhile", fmt.Sprintf("≥ %.0f/s", 0.95*pace), fmt.Sprintf("%.0f/s", c.Writes), c.Writes >= 0.95*pace, nil)
	}
	return goals
}

// tables returns the report as tables, each with a heading.
func (r *report) tables() []table {
	var tables []table
	for _, res := range r.Backlogs {
		t := table{
			title: fmt.Sprintf("%s: %s", res.Name, res.Title),
			note: fmt.Sprintf("%s transactions, %s rows, %s MB of log", count(float64(res.Txs)),
				count(float64(res.Rows)), count(float64(res.Bytes>>20))),
			head: []string{"", "rows/s", "x native", "CPU s", "CPU s target", "idle %", "peak MiB"},
		}
		base := res.line("native")
		if res.Name == snapshotPart {
			base = res.line("mydumper")
			t.note = fmt.Sprintf("%s rows, %s MB", count(float64(res.Rows)), count(float64(res.Bytes>>20)))
			t.head[2] = "x mydumper"
		} else if res.line(relmgrPart) != nil {
			base = res.line("dfs")
			t.head[2] = "x without"
		}
		for _, l := range res.Lines {
			row := []string{l.Title, l.rates(res.Rows).text(count), "", "", "", "", ""}
			if base != nil && l.Samples[0].Target > 0 {
				if row[2] = "1"; l != base {
					row[2] = l.ratios(base).text(figure)
				}
			}
			if own := l.of(func(s sample) float64 { return s.Self.Seconds() }); own.median() > 0 {
				row[3] = fmt.Sprintf("%.2f", own.median())
			}
			if l.Samples[0].Target > 0 {
				row[4] = fmt.Sprintf("%.2f", l.of(func(s sample) float64 { return s.Target.Seconds() }).median())
			}
			if l.Samples[0].Machine > 0 {
				row[5] = count(l.of(func(s sample) float64 { return 100 * s.Idle.Seconds() / s.Machine.Seconds() }).median())
			}
			if l.Samples[0].RSS > 0 {
				row[6] = figure(slices.Max(l.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })))
			}
			t.rows = append(t.rows, row)
		}
		tables = append(tables, t)
	}
	if len(r.Latencies) > 0 {
		t := table{
			title: fmt.Sprintf("latency: from commit to visible, single-row transactions, %d a second", pace),
			note:  "ms",
			head:  []string{"", "p50", "p95", "p99", "max", "transactions"},
		}
		for _, l := range r.Latencies {
			i := slices.IndexFunc(contenders(), func(c *contender) bool { return c.name == l.Name })
			t.rows = append(t.rows, []string{contenders()[i].title, l.P50.text(figure), l.P95.text(figure),
				l.P99.text(figure), figure(slices.Max(l.Max)), count(float64(l.Transactions))})
		}
		tables = append(tables, t)
	}
	if r.Verify != nil {
		tables = append(tables, r.Verify.table())
	}
	if len(r.Archive) > 0 {
		tables = append(tables, archiveTable(r.Archive))
	}
	if r.Maps != nil {
		tables = append(tables, r.Maps.table())
	}
	if goals := r.goals(); len(goals) > 0 {
		t := table{title: "goals", note: "median of the rounds", head: []string{"", "wanted", "reached", ""}}
		if r.Scale < 1 {
			t.note += "; they are meant for SCALE=1"
		}
		for _, g := range goals {
			verdict := "ok"
			if !g.OK {
				verdict = "short"
			}
			t.rows = append(t.rows, []string{g.What, g.Want, g.Got, verdict})
			if g.Why != "" {
				t.after = append(t.after, g.What+": "+g.Why)
			}
		}
		tables = append(tables, t)
	}
	return tables
}

// about says under which conditions the figures came about.
func (r *report) about() []string {
	return []string{
		fmt.Sprintf("%s: %d cores (%s), Linux %s, %s, MySQL %s; SCALE=%g, %d rounds, in turn; all processes on these cores",
			r.Date.Format("2006-01-02"), r.Cores, r.Machine, r.Kernel, r.Go, r.Server, r.Scale, r.Rounds),
		"figures are the median, with the least and the greatest round; the target has sync_binlog=1, innodb_flush_log_at_trx_commit=1, " +
			"a binary log, and 512 MB of buffer pool; after each replay its rows equal the source's",
	}
}

// print writes the report to w, and as Markdown to the file that was asked for.
func (r *report) print(w io.Writer) error {
	if r.opts.md != "" {
		if err := os.WriteFile(r.opts.md, r.markdown(), 0o644); err != nil {
			return err
		}
	}
	if r.opts.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(struct {
			*report
			Goals []goal `json:"goals"`
		}{r, r.goals()})
	}
	_, err := w.Write(r.text())
	return err
}

func (r *report) text() []byte {
	var b bytes.Buffer
	for _, t := range r.tables() {
		t.text(&b)
		b.WriteByte('\n')
	}
	for _, s := range r.about() {
		fmt.Fprintln(&b, s)
	}
	return b.Bytes()
}

func (r *report) markdown() []byte {
	var b bytes.Buffer
	for _, t := range r.tables() {
		t.markdown(&b)
	}
	for _, s := range r.about() {
		fmt.Fprintf(&b, "%s.\n", s)
	}
	return b.Bytes()
}

// count formats a number of things: 1,234,567.
func count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// figure formats a number with as many digits as mean something.
func figure(v float64) string {
	switch {
	case v >= 100:
		return count(v)
	case v >= 10:
		return trimZeros(fmt.Sprintf("%.1f", v))
	}
	return trimZeros(fmt.Sprintf("%.2f", v))
}

func trimZeros(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }
