//go:build linux

package main

import (
	"fmt"
	"slices"
)

// A goal is a figure that is to be reached.
type goal struct {
	What string `json:"what"`
	Want string `json:"want"`
	Got  string `json:"got"`
	OK   bool   `json:"met"`
	Why  string `json:"why,omitempty"` // where the time went, if it was not met
}

// goals compares what was measured with what is to be reached.
func (r *report) goals() []goal {
	g := &goalList{}
	for _, res := range r.Backlogs {
		g.backlog(res)
	}
	for _, l := range r.Latencies {
		if l.Name != "dfs" {
			continue
		}
		for _, q := range []struct {
			name  string
			took  spread
			limit float64 // ms
		}{{"p50", l.P50, 2}, {"p99", l.P99, 10}} {
			g.add(fmt.Sprintf("commit to visible at %d transactions/s, %s", pace, q.name),
				"≤ "+figure(q.limit)+" ms", q.took.with(" ms", figure), q.took.median() <= q.limit, &l.Last)
		}
		g.add("pace of the source while latency was measured", fmt.Sprintf("≥ %.0f/s", 0.95*pace),
			fmt.Sprintf("%.0f/s", l.Rate), l.Rate >= 0.95*pace, &l.Last)
	}
	for _, a := range r.Archive {
		g.add("archive of "+a.Name, "≥ 200,000 rows/s", a.Rate.with(" rows/s", count), a.Rate.median() >= 200_000, nil)
		g.add("archive of "+a.Name+", of the log's bytes", "< 25 %", fmt.Sprintf("%.1f %%", a.share()), a.share() < 25, nil)
	}
	if v := r.Verify; v != nil {
		g.add("verification of one table", "≤ 4 x CHECKSUM TABLE", fmt.Sprintf("%.2f x", v.Ratio.median()), v.Ratio.median() <= 4, nil)
	}
	if m := r.Maps; m != nil {
		open := m.Many.Open
		g.add("opening a map of "+count(float64(m.Many.Keys))+" keys", "≤ 1,000 ms", open.with(" ms", figure), slices.Max(open) <= 1000, nil)
		g.add("lookups against a map of "+count(float64(m.Few.Keys))+" keys", "≥ 0.8x", m.ratios().with("x", figure), m.ratios().median() >= 0.8, nil)
	}
	if c := r.Copy; c != nil {
		g.add("lag of the stream while rows are copied, p99", "≤ 2 s", figure(c.P99/1000)+" s", c.P99 <= 2000, nil)
		g.add("pace of the source meanwhile", fmt.Sprintf("≥ %.0f/s", 0.95*pace), fmt.Sprintf("%.0f/s", c.Writes), c.Writes >= 0.95*pace, nil)
	}
	return g.goals
}

type goalList struct{ goals []goal }

// add adds a goal; last is where the time went in the last round, nil if that
// explains nothing.
func (g *goalList) add(what, want, got string, ok bool, last *sample) {
	n := goal{What: what, Want: want, Got: got, OK: ok}
	if !ok && last != nil && last.Machine > 0 {
		n.Why = last.shares()
	}
	g.goals = append(g.goals, n)
}

func (g *goalList) atLeast(what string, want float64, got spread, unit string, l *line) {
	format := func(v float64) string { return figure(v) + unit }
	g.add(what, "≥ "+format(want), got.with(unit, figure), got.median() >= want, &l.Samples[len(l.Samples)-1])
}

// ratio wants a line to be so many times as fast as another; either may be missing.
func (g *goalList) ratio(what string, want float64, l, other *line) {
	if l != nil && other != nil {
		g.atLeast(what, want, l.ratios(other), "x", l)
	}
}

// memory wants the most that a line had resident in any round to be within limit MiB.
func (g *goalList) memory(what string, limit float64, l *line) {
	if l != nil {
		rss := l.of(func(s sample) float64 { return float64(s.RSS) / (1 << 20) })
		g.add(what, "≤ "+figure(limit)+" MiB", rss.with(" MiB", figure), slices.Max(rss) <= limit, nil)
	}
}

// overNative is how many times as fast as the replica with its default of workers DFS
// is to be.
var overNative = map[string]float64{"single": 20, "single-relaxed": 8, "fifty": 1.5, "fifty-relaxed": 1.5, "thousand": 1.5, "hot": 20}

func (g *goalList) backlog(res *result) {
	dfs, native := res.line("dfs"), res.line("native")
	if want := overNative[res.Name]; want > 0 {
		g.ratio(fmt.Sprintf("%s, end to end against the native replica with %d workers", res.Name, nativeWorkers), want, dfs, native)
	}
	switch res.Name {
	case "long":
		if capture := res.line("capture"); capture != nil {
			g.atLeast("capture to durable queue, single-row transactions", 600_000, capture.rates(res.Rows), " rows/s", capture)
			g.ratio("capture to durable queue against go-mysql's decode", 5, capture, res.line("gomysql"))
		}
		if dfs != nil {
			us := dfs.of(func(s sample) float64 { return s.Self.Seconds() * 1e6 / float64(res.Rows) })
			g.add("DFS's own processor time, end to end", "≤ 3 µs/row", us.with(" µs/row", figure), us.median() <= 3, nil)
			g.memory("memory while a long backlog is carried", 128, dfs)
		}
	case "sinks":
		g.ratio("transformed against plain", 0.8, res.line("transformed"), dfs)
		for _, name := range []string{"postgres", "sqlite"} {
			if l := res.line(name); l != nil {
				g.atLeast(l.Title+", single-row transactions", 30_000, l.rates(res.Rows), " rows/s", l)
			}
		}
	case snapshotPart:
		g.ratio("copy against mydumper and myloader", 1, dfs, res.line("mydumper"))
		g.ratio("copy against mysqldump | mysql", 3, dfs, res.line("mysqldump"))
		g.memory("memory of the copy", 200, dfs)
	case "chain", "chain-100":
		g.ratio(res.Name+", with relmgr against without", 0.6, res.line(relmgrPart), dfs)
		g.memory("memory with relmgr, "+res.Name, 200, res.line(relmgrPart))
	case "drain":
		g.memory(fmt.Sprintf("memory while draining %s MB of log", count(float64(res.Bytes>>20))), 128, dfs)
	case "large":
		g.memory(fmt.Sprintf("memory for a transaction of %s rows", count(float64(res.Rows-1))), 256, dfs)
	}
}

// goalTables returns the goals as a table, and below it where DFS is slower than a
// peer, whether that was a goal or not.
func (r *report) goalTables() []table {
	goals := r.goals()
	if len(goals) == 0 {
		return nil
	}
	t := table{title: "goals", note: "median of the rounds; memory is that of the worst round", head: []string{"", "wanted", "reached", ""}}
	for _, run := range r.Runs {
		if run.Scale < 1 {
			t.note += fmt.Sprintf("; measured at SCALE=%g", run.Scale)
			break
		}
	}
	for _, g := range goals {
		verdict := "met"
		if !g.OK {
			verdict = "not met"
		}
		t.rows = append(t.rows, []string{g.What, g.Want, g.Got, verdict})
		if g.Why != "" {
			t.after = append(t.after, g.What+": "+g.Why)
		}
	}
	tables := []table{t}
	if b := r.behind(); len(b.rows) > 0 {
		tables = append(tables, b)
	}
	return tables
}

// behind returns where DFS is slower than the replica.
func (r *report) behind() table {
	t := table{title: "where DFS is slower than the replica", head: []string{"", "DFS, rows/s", "replica, rows/s", "x"}}
	for _, res := range r.Backlogs {
		dfs := res.line("dfs")
		for _, name := range []string{"native", "best"} {
			peer := res.line(name)
			if dfs == nil || peer == nil || name == "best" && peer.Workers == nativeWorkers && res.line("native") != nil {
				continue
			}
			if ratio := dfs.ratios(peer); ratio.median() < 1 {
				t.rows = append(t.rows, []string{res.Name + ", " + peer.Title, dfs.rates(res.Rows).text(count), peer.rates(res.Rows).text(count), ratio.text(figure)})
				t.after = append(t.after, res.Name+", DFS: "+dfs.Samples[len(dfs.Samples)-1].shares())
			}
		}
	}
	for _, q := range []string{"p50", "p99"} {
		var took [2]spread // of DFS, of the replica
		for _, l := range r.Latencies {
			of := map[string]spread{"p50": l.P50, "p99": l.P99}[q]
			switch l.Name {
			case "dfs":
				took[0] = of
			case "native":
				took[1] = of
			}
		}
		if took[0] != nil && took[1] != nil && took[0].median() > took[1].median() {
			t.rows = append(t.rows, []string{"commit to visible, " + q, took[0].with(" ms", figure), took[1].with(" ms", figure), figure(took[1].median() / took[0].median())})
		}
	}
	t.after = slices.Compact(t.after)
	return t
}
