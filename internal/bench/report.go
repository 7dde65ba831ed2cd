//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A report holds all that was measured.
type report struct {
	Machine   string           `json:"machine"`
	Cores     int              `json:"cores"`
	Kernel    string           `json:"kernel"`
	Go        string           `json:"go"`
	Server    string           `json:"server"` // of MySQL
	MariaDB   string           `json:"mariadb,omitempty"`
	Runs      []*runInfo       `json:"runs"`
	Backlogs  []*result        `json:"backlogs"`
	Latencies []*latencyResult `json:"latencies"`
	Copy      *copyResult      `json:"copy,omitempty"` // under load
	Verify    *verifyResult    `json:"verify,omitempty"`
	Archive   []*archiveResult `json:"archive,omitempty"`
	Maps      *mapsResult      `json:"maps,omitempty"` // of relmgr

	opts *options
	lab  *lab // where it is measured
}

// A result is what the contenders did with one backlog.
type result struct {
	Name       string     `json:"name"`
	Title      string     `json:"title"`
	Server     string     `json:"server"`
	Durability durability `json:"durability"` // of the targets
	Txs        int        `json:"transactions"`
	Rows       int        `json:"rows"`
	Bytes      int64      `json:"bytes"` // of the log
	Lines      []*line    `json:"contenders"`
}

// A line is what one contender did in all rounds.
type line struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Samples []sample `json:"samples"`
	Workers int      `json:"workers,omitempty"` // of the replica, if it is with its best count
	Tried   []tried  `json:"tried,omitempty"`   // on the way to that
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

// A runInfo says how and under which conditions the command was run.
type runInfo struct {
	Date    time.Time `json:"date"`
	Version string    `json:"version"` // of DFS; empty if git does not tell
	Command string    `json:"command"`
	Scale   float64   `json:"scale"`
	Rounds  int       `json:"rounds"`
	Load    string    `json:"load"`  // of the machine at the start, over 1, 5 and 15 minutes
	Parts   []string  `json:"parts"` // that are complete
}

func (i *runInfo) String() string {
	s := fmt.Sprintf("%s: %s, SCALE=%g, %d rounds, in turn, load before it %s", i.Date.UTC().Format("2006-01-02 15:04"), i.Command, i.Scale, i.Rounds, i.Load)
	if i.Version != "" {
		s += ", DFS at " + i.Version
	}
	return s
}

func newReport(o *options) *report {
	run := &runInfo{Date: time.Now(), Command: o.command, Scale: o.scale, Rounds: o.rounds}
	r := &report{Cores: runtime.NumCPU(), Go: runtime.Version(), Runs: []*runInfo{run}, opts: o, Machine: "unknown processor"}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name\t: "); ok {
			r.Machine, _, _ = strings.Cut(rest, "\n")
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		r.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		f := strings.Fields(string(b))
		run.Load = strings.Join(f[:min(3, len(f))], " ")
	}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		run.Version = strings.TrimSpace(string(out))
	}
	return r
}

// done notes that a part is complete, and saves what there is, if it is to be saved.
func (r *report) done(part string) error {
	run := r.Runs[0]
	if !slices.Contains(run.Parts, part) {
		run.Parts = append(run.Parts, part)
	}
	for _, s := range r.lab.sites {
		if s.kind == testenv.MariaDB {
			r.MariaDB = s.version
		} else {
			r.Server = s.version
		}
	}
	return r.saveTo(r.opts.save)
}

// newResult begins the result of a backlog; r.add puts it into the report once it is
// complete, so that what -save writes meanwhile has no halves.
func newResult(b *backlog, d durability) *result {
	return &result{Name: partName(b.workload, d), Title: b.title, Server: b.site.version, Durability: d, Txs: b.txs, Rows: b.rows, Bytes: b.bytes}
}

func (r *report) add(res *result) { r.Backlogs = append(r.Backlogs, res) }

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
func (s spread) text(format func(float64) string) string { return s.with("", format) }

// with is text with a unit behind the median.
func (s spread) with(unit string, format func(float64) string) string {
	t := format(s.median()) + unit
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
// alternate, so what disturbs one of them disturbs both. Of one that has fewer rounds
// the last counts for those that it does not have.
func (l *line) ratios(other *line) spread {
	var s spread
	for i := range l.Samples {
		s = append(s, other.Samples[min(i, len(other.Samples)-1)].Wall.Seconds()/l.Samples[i].Wall.Seconds())
	}
	return s
}

// lasts reports whether the first round took longer than d.
func (l *line) lasts(d time.Duration) bool {
	return l != nil && len(l.Samples) > 0 && l.Samples[0].Wall > d
}

// base returns the line that the others of a result are compared with, and what to
// call that; nil if there is none.
func (res *result) base() (l *line, head string) {
	switch {
	case res.Name == snapshotPart:
		return res.line("mydumper"), "x mydumper"
	case res.line(relmgrPart) != nil:
		return res.line("dfs"), "x without"
	case res.line("postgres") != nil || res.line("sqlite") != nil || res.line("transformed") != nil:
		return res.line("dfs"), "x plain"
	case res.line("gomysql") != nil:
		return res.line("gomysql"), "x go-mysql"
	}
	return res.line("native"), fmt.Sprintf("x %d workers", nativeWorkers)
}

// applied reports whether a contender brought the rows to a server or a file.
func (l *line) applied() bool { return l.Name != "capture" && l.Name != "gomysql" }

// what says what the result is of.
func (res *result) what() string {
	if res.Name == snapshotPart {
		return fmt.Sprintf("%s rows, %s MB; durability %s", count(float64(res.Rows)), count(float64(res.Bytes>>20)), res.Durability)
	}
	return fmt.Sprintf("%s transactions, %s rows, %s MB of log; durability %s; %s", count(float64(res.Txs)),
		count(float64(res.Rows)), count(float64(res.Bytes>>20)), res.Durability, res.Server)
}

// table returns the result as a table, without columns that nobody has a figure for.
func (res *result) table() table {
	base, head := res.base()
	t := table{title: fmt.Sprintf("%s: %s", res.Name, res.Title), note: res.what(),
		head: []string{"", "rows/s", head, "x its best", "CPU s", "µs/row", "CPU s target", "CPU s source", "µs/row, all", "idle %", "peak MiB", "queue MB", "net MB"}}
	best := res.line("best")
	for _, l := range res.Lines {
		ratio := func(to *line) string {
			switch {
			case to == nil || to.applied() != l.applied():
				return ""
			case to == l:
				return "1"
			}
			return l.ratios(to).text(figure)
		}
		// positive formats the median of a figure, unless it is 0.
		positive := func(format func(float64) string, f func(sample) float64) string {
			if v := l.of(f).median(); v > 0 {
				return format(v)
			}
			return ""
		}
		two := func(v float64) string { return fmt.Sprintf("%.2f", v) }
		mb := func(of func(sample) int64) func(sample) float64 {
			return func(s sample) float64 { return float64(of(s)) / 1e6 }
		}
		row := []string{l.Title, l.rates(res.Rows).text(count), ratio(base), ratio(best),
			positive(two, func(s sample) float64 { return s.Self.Seconds() }),
			positive(figure, func(s sample) float64 { return s.Self.Seconds() * 1e6 / float64(res.Rows) }),
			positive(two, func(s sample) float64 { return s.Target.Seconds() }),
			positive(two, func(s sample) float64 { return s.Source.Seconds() }),
			positive(figure, func(s sample) float64 { return (s.Self + s.Target + s.Source).Seconds() * 1e6 / float64(res.Rows) }),
			"", "",
			positive(figure, mb(func(s sample) int64 { return s.Queue })),
			positive(figure, mb(func(s sample) int64 { return s.Net })),
		}
		if l.Samples[0].Machine > 0 {
			row[9] = count(l.of(func(s sample) float64 { return 100 * s.Idle.Seconds() / s.Machine.Seconds() }).median())
		}
		if l.Samples[0].RSS > 0 {
			row[10] = figure(slices.Max(l.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })))
		}
		t.rows = append(t.rows, row)
		if len(l.Tried) > 0 {
			t.after = append(t.after, "counts of workers tried, rows/s: "+l.tried())
		}
	}
	return t.prune()
}

// tried says what the search for the best count of workers found.
func (l *line) tried() string {
	var parts []string
	for _, t := range slices.SortedFunc(slices.Values(l.Tried), func(a, b tried) int { return a.Workers - b.Workers }) {
		rate := "less" // than the best so far, when it was given up
		if t.Rate > 0 {
			rate = count(t.Rate)
		}
		parts = append(parts, fmt.Sprintf("%d: %s", t.Workers, rate))
	}
	return strings.Join(parts, "; ")
}

// tables returns the report as tables, each with a heading.
func (r *report) tables() []table {
	var tables []table
	for _, res := range r.Backlogs {
		tables = append(tables, res.table())
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
	return tables
}

// about says under which conditions the figures came about.
func (r *report) about() []string {
	servers := "MySQL " + r.Server
	if r.MariaDB != "" {
		servers += ", MariaDB " + r.MariaDB
	}
	lines := []string{fmt.Sprintf("%d cores (%s), Linux %s, %s, %s; all processes on these cores", r.Cores, r.Machine, r.Kernel, r.Go, servers)}
	for _, run := range r.Runs {
		lines = append(lines, run.String())
	}
	return append(lines,
		"figures are the median, with the least and the greatest round; the targets have a binary log and 512 MB of buffer pool; durability is the target's "+
			"sync_binlog/innodb_flush_log_at_trx_commit; after each replay its rows equal the source's")
}

// print writes the report to w, and the files that were asked for.
func (r *report) print(w io.Writer) error {
	if err := r.writeFiles(); err != nil {
		return err
	}
	if r.opts.json {
		return r.encode(w)
	}
	_, err := w.Write(r.text())
	return err
}

// encode writes the report as JSON, which decodeReport reads.
func (r *report) encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		*report
		Goals []goal `json:"goals"`
	}{r, r.goals()})
}

func (r *report) text() []byte {
	var b bytes.Buffer
	for _, t := range append(r.tables(), r.goalTables()...) {
		t.text(&b)
		b.WriteByte('\n')
	}
	for _, s := range r.about() {
		fmt.Fprintln(&b, s)
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
