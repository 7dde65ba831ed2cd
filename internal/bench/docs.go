//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeFiles writes the files that were asked for.
func (r *report) writeFiles() error {
	var errs []error
	write := func(file string, content []byte) {
		if file != "" {
			errs = append(errs, os.WriteFile(file, content, 0o644))
		}
	}
	errs = append(errs, r.saveTo(r.opts.save))
	write(r.opts.md, r.markdown())
	write(r.opts.svg, r.chart())
	if file := r.opts.readme; file != "" {
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		content, err := replaceBlock(old, r.short())
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		write(file, content)
	}
	return errors.Join(errs...)
}

// saveTo writes the report to a file, so that an interrupt leaves a whole one.
func (r *report) saveTo(file string) error {
	if file == "" {
		return nil
	}
	var b bytes.Buffer
	if err := r.encode(&b); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// readReport reads files that -save has written, and makes one report of them. A part
// that several of them have is taken from the last.
func readReport(o *options) (*report, error) {
	var all *report
	for _, file := range o.from {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		r := &report{}
		if err := json.Unmarshal(b, r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(r.Runs) == 0 {
			return nil, fmt.Errorf("%s: not written by -save: it tells of no run", file)
		}
		for _, res := range r.Backlogs {
			for _, l := range res.Lines {
				if len(l.Samples) == 0 {
					return nil, fmt.Errorf("%s: %s of %s has no samples", file, l.Name, res.Name)
				}
			}
		}
		if all == nil {
			all = r
		} else if err := all.merge(r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	all.opts = o
	return all, nil
}

// merge takes over what another run of the same machine has measured.
func (r *report) merge(o *report) error {
	if r.Machine != o.Machine || r.Cores != o.Cores || r.Kernel != o.Kernel || r.Go != o.Go ||
		r.Server != "" && o.Server != "" && r.Server != o.Server || r.MariaDB != "" && o.MariaDB != "" && r.MariaDB != o.MariaDB {
		return errors.New("it is of another machine, kernel, Go or server, so its figures do not belong into one report")
	}
	if o.Server != "" {
		r.Server = o.Server
	}
	if o.MariaDB != "" {
		r.MariaDB = o.MariaDB
	}
	r.Runs = append(r.Runs, o.Runs...)
	for _, res := range o.Backlogs {
		if i := slices.IndexFunc(r.Backlogs, func(old *result) bool { return old.Name == res.Name }); i >= 0 {
			r.Backlogs[i] = res
		} else {
			r.Backlogs = append(r.Backlogs, res)
		}
	}
	names := partNames()
	slices.SortStableFunc(r.Backlogs, func(a, b *result) int { return rank(names, a.Name) - rank(names, b.Name) })
	if o.Latencies != nil {
		r.Latencies = o.Latencies
	}
	if o.Copy != nil {
		r.Copy = o.Copy
	}
	if o.Verify != nil {
		r.Verify = o.Verify
	}
	if o.Archive != nil {
		r.Archive = o.Archive
	}
	if o.Maps != nil {
		r.Maps = o.Maps
	}
	return nil
}

// rank returns where a name stands in a list; those that are not there come last.
func rank(list []string, name string) int {
	if i := slices.Index(list, name); i >= 0 {
		return i
	}
	return len(list)
}

const (
	blockBegin = "<!-- make benchdocs writes from here -->"
	blockEnd   = "<!-- to here -->"
)

// replaceBlock puts new text between the two marks of a file.
func replaceBlock(file, text []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(file, []byte(blockBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(blockEnd))
	if !ok || !ok2 || bytes.Contains(after, []byte(blockBegin)) {
		return nil, fmt.Errorf("it has not one %q and one %q after it, between which the figures go", blockBegin, blockEnd)
	}
	return slices.Concat(before, []byte(blockBegin+"\n\n"), text, []byte("\n"+blockEnd), after), nil
}

// conditions says how all was measured, in sentences.
const conditions = `Each workload is written into the source's binary log while no one reads along. Then each contender in turn replays
that log into a fresh, empty target, as many rounds as there are, so that noise of the machine hits all alike. All
processes share the machine: the source, the target and the contender. A run ends when the last row can be seen on the
target; for DFS the start of its process counts. Afterwards every table of the target is compared with the source, and a
difference ends the command. Figures are the median of the rounds, with the least and the greatest.

- *DFS* is ` + "`examples/basic`" + ` with its defaults: a durable queue (an fsync before the source may forget) and one target.
- *native replica* is the server's own replication into the same target with its default settings (commits in the source's
  order) but for the count of workers, which is 4 by default on MySQL and none on MariaDB; "its best" is the count among
  1, 2, 4, 8 and 16 that was quickest in the first round, where one that fell much behind was given up.
- *mysqlbinlog | mysql* and *canal*, a small program on go-mysql's canal that applies row by row with prepared statements,
  have one round, as they are slow, and only at full durability.
- A peer whose first round takes more than 20 s has no second, and DFS's rounds are all compared with that one.
- *capture* ends when the queue's last commit is on the disk; *BinlogSyncer* decodes the same log and stores nothing.
- CPU is processor time of the contender (for the replica that is part of the target's), and µs/row is that of a row;
  "all" adds what both servers took, which on a busy machine says more than rows/s; net is what went over the
  loopback device, of all connections; peak is the most resident memory (VmHWM) of the contender's process.
`

// markdown returns the whole report as a page.
func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Benchmarks\n\n`make bench` measures, and `make benchdocs` writes this page, the chart and the figures in the README from\n"+
		"what it has saved, so no figure here was typed but those under \"limits\", which come of profiles. To repeat it:\n\n")
	for _, run := range r.Runs {
		fmt.Fprintf(&b, "    %s\n", run.Command)
	}
	b.WriteString("\n## Conditions\n\n")
	for _, s := range r.about() {
		fmt.Fprintf(&b, "- %s%s.\n", strings.ToUpper(s[:1]), s[1:])
	}
	fmt.Fprintf(&b, "\n%s\n", conditions)
	if r.opts.svg != "" {
		fmt.Fprintf(&b, "![rows per second of DFS and its peers](%s)\n\n", relative(r.opts.md, r.opts.svg))
	}
	b.WriteString("## Goals\n\n")
	goals := r.goalTables()
	for i := range goals {
		if i == 0 {
			goals[i].title = ""
		}
		goals[i].markdown(&b)
	}
	b.WriteString(r.limits())
	b.WriteString("## All figures\n\n")
	for _, t := range r.tables() {
		t.markdown(&b)
	}
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

// relative returns how one file is called from beside another.
func relative(from, to string) string {
	if rel, err := filepath.Rel(filepath.Dir(from), to); err == nil {
		return filepath.ToSlash(rel)
	}
	return to
}

// shortNames are the workloads of the short table, and what they are called there.
var shortNames = [][2]string{
	{"single", "single-row transactions"}, {"single-relaxed", "single-row transactions"}, {"fifty", "50 rows a transaction"},
	{"fifty-relaxed", "50 rows a transaction"}, {"thousand", "1,000 rows a transaction"}, {"hot", "updates of 100 hot rows"},
	{"mix", "sysbench-like mix"}, {"wide", "rows of 4 KB, JSON and blobs"}, {"drain", "100 rows of 1 KB a transaction"}, {"large", "one transaction of very many rows"},
	{"mariadb", "MariaDB, single-row"}, {"mariadb-fifty", "MariaDB, 50 rows"},
}

// short returns the figures for the README.
func (r *report) short() []byte {
	var b bytes.Buffer
	if r.opts.svg != "" {
		fmt.Fprintf(&b, "![rows per second of DFS and its peers](%s)\n\n", relative(r.opts.readme, r.opts.svg))
	}
	t := table{head: []string{"rows/s", "durability", "DFS", fmt.Sprintf("replica, %d workers", nativeWorkers), "", "replica, its best", ""}}
	for _, name := range shortNames {
		i := slices.IndexFunc(r.Backlogs, func(res *result) bool { return res.Name == name[0] })
		if i < 0 || r.Backlogs[i].line("dfs") == nil {
			continue
		}
		res := r.Backlogs[i]
		dfs := res.line("dfs")
		row := []string{name[1], string(res.Durability), dfs.rates(res.Rows).text(count), "", "", "", ""}
		for k, peer := range []*line{res.line("native"), res.line("best")} {
			if peer == nil {
				continue
			}
			row[3+2*k] = peer.rates(res.Rows).text(count)
			if peer.Workers > 0 {
				row[3+2*k] += fmt.Sprintf(" [%d]", peer.Workers)
			}
			ratio := dfs.ratios(peer)
			row[4+2*k] = "**" + ratio.with("x**", figure)
		}
		t.rows = append(t.rows, row)
	}
	if len(t.rows) > 0 {
		p := t.prune()
		p.markdown(&b)
	}
	for _, s := range r.alone() {
		fmt.Fprintf(&b, "- %s\n", s)
	}
	var met, all int
	for _, g := range r.goals() {
		if all++; g.OK {
			met++
		}
	}
	b.WriteByte('\n')
	for _, s := range r.about() {
		fmt.Fprintf(&b, "%s%s. ", strings.ToUpper(s[:1]), s[1:])
	}
	fmt.Fprintf(&b, "The number in brackets is that of workers. %d of %d goals are met: [docs/BENCHMARKS.md](docs/BENCHMARKS.md) has all figures, the goals, and where DFS is slower.\n", met, all)
	return b.Bytes()
}

// alone returns figures that stand in no table of workloads.
func (r *report) alone() []string {
	var list []string
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	find := func(name string) *result {
		if i := slices.IndexFunc(r.Backlogs, func(res *result) bool { return res.Name == name }); i >= 0 {
			return r.Backlogs[i]
		}
		return &result{}
	}
	for _, l := range r.Latencies {
		who := map[string]string{"dfs": "DFS", "native": "the replica"}[l.Name]
		say("commit to visible at %d transactions/s, %s: p50 %s, p99 %s", pace, who, l.P50.with(" ms", figure), l.P99.with(" ms", figure))
	}
	long := find("long")
	if l := long.line("capture"); l != nil {
		s := fmt.Sprintf("capture of single-row transactions into the durable queue: %s", l.rates(long.Rows).with(" rows/s", count))
		if peer := long.line("gomysql"); peer != nil {
			s += fmt.Sprintf(", %s what go-mysql's BinlogSyncer decodes", l.ratios(peer).with("x", figure))
		}
		say("%s", s)
	}
	if l := long.line("dfs"); l != nil {
		last := l.Samples[0]
		say("a backlog of %s single-row transactions, end to end: %s rows/s, %s µs of DFS's processor time a row, %s MiB at most",
			count(float64(long.Txs)), l.rates(long.Rows).text(count), figure(last.Self.Seconds()*1e6/float64(long.Rows)), figure(float64(last.RSS)/(1<<20)))
	}
	sinks := find("sinks")
	if l, plain := sinks.line("transformed"), sinks.line("dfs"); l != nil && plain != nil {
		say("with a column renamed, one dropped and one computed: %s of plain", l.ratios(plain).with("x", figure))
	}
	for _, name := range []string{"postgres", "sqlite"} {
		if l := sinks.line(name); l != nil {
			say("%s, single-row transactions: %s", strings.Replace(l.Title, "DFS into", "into", 1), l.rates(sinks.Rows).with(" rows/s", count))
		}
	}
	for _, a := range r.Archive {
		if a.Name == "long" {
			say("archive of single-row transactions: %s, %.1f %% of the log's bytes", a.Rate.with(" rows/s", count), a.share())
		}
	}
	for _, name := range []string{"drain", "large"} {
		if res := find(name); res.line("dfs") != nil {
			say("memory, %s: %s MiB", res.note(), figure(float64(res.line("dfs").Samples[0].RSS)/(1<<20)))
		}
	}
	return list
}

// note says in a few words what a workload of memory is.
func (res *result) note() string {
	if res.Name == "large" {
		return fmt.Sprintf("one transaction of %s rows", count(float64(res.Rows-1)))
	}
	return fmt.Sprintf("draining %s MB of log", count(float64(res.Bytes>>20)))
}
