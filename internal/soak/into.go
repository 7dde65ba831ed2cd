//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Between these lines of a document stand the figures of soaks.
const (
	figuresBegin = "<!-- figures of make soak: begin -->\n"
	figuresEnd   = "<!-- figures of make soak: end -->\n"
)

// writeInto puts the figures of reports, files of -json, into a document in place of
// those that it has.
func writeInto(document string, files []string) error {
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(text), figuresBegin)
	_, tail, ended := strings.Cut(rest, figuresEnd)
	if !ok || !ended {
		return fmt.Errorf("%s has no lines %q and %q to put figures between", document, strings.TrimSpace(figuresBegin), strings.TrimSpace(figuresEnd))
	}
	var reports []*report
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		r := new(report)
		if err := json.Unmarshal(b, r); err != nil || r.Pair == "" {
			return fmt.Errorf("%s is no report of -json: %v", file, err)
		}
		reports = append(reports, r)
	}
	return os.WriteFile(document, []byte(head+figuresBegin+figures(reports)+figuresEnd+tail), 0o644)
}

// figures returns reports as tables, which stay readable whatever the number of reports
// is: one with a row for each, and two in which all of them are summed up, of the faults
// and of the times until the next apply.
func figures(reports []*report) string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	// head begins a table of a text and numbers.
	head := func(cells ...string) {
		b.WriteByte('\n')
		row(cells...)
		row(append([]string{"---"}, slices.Repeat([]string{"---:"}, len(cells)-1)...)...)
	}
	head("run", "began (UTC)", "took", "trans-<br>actions", "rows changed", "rows compared", "snapshots judged", "ledgers", "faults", "**viola-<br>tions**", "memory at most", "memory, files, goroutines")
	var sum report
	for i, r := range reports {
		row(fmt.Sprintf("%d: %s", i+1, r.name()), r.Began.UTC().Format("2006-01-02 15:04"), r.Took.Round(time.Second).String(), grouped(r.Transactions), grouped(r.Rows),
			grouped(int64(r.Compared)), grouped(r.Snapshots), grouped(int64(r.Ledgers)), grouped(int64(r.faults())), "**"+grouped(int64(r.Violated))+"**",
			fmt.Sprintf("%d MiB", r.Peak.RSS>>20), r.Trend.summary())
		sum.Took += r.Took
		sum.Transactions += r.Transactions
		sum.Rows += r.Rows
		sum.Compared += r.Compared
		sum.Snapshots += r.Snapshots
		sum.Ledgers += r.Ledgers
		sum.Violated += r.Violated
		sum.LostCommits += r.LostCommits
		sum.Deadlocks += r.Deadlocks
		sum.Peak.RSS = max(sum.Peak.RSS, r.Peak.RSS)
	}
	faults := 0
	for _, r := range reports {
		faults += r.faults()
	}
	if len(reports) > 1 {
		row("all", "", sum.Took.Round(time.Second).String(), grouped(sum.Transactions), grouped(sum.Rows), grouped(int64(sum.Compared)), grouped(sum.Snapshots),
			grouped(int64(sum.Ledgers)), grouped(int64(faults)), "**"+grouped(int64(sum.Violated))+"**", fmt.Sprintf("%d MiB", sum.Peak.RSS>>20), "")
	}
	fmt.Fprintf(&b, "\n%s COMMITs were lost, and the target gave up %s transactions of DFS for deadlocks.\n", grouped(int64(sum.LostCommits)), grouped(int64(sum.Deadlocks)))

	head("fault", "times", "runs")
	for _, f := range everyFault() {
		n := 0
		var in []string
		for i, r := range reports {
			if r.Faults[f.name] > 0 {
				n += r.Faults[f.name]
				in = append(in, fmt.Sprint(i+1))
			}
		}
		if n > 0 {
			row(f.what, grouped(int64(n)), strings.Join(in, ", "))
		}
	}

	// Of several runs there is no common median: their medians are from one to another.
	head("until the next apply, after", "times", "p50 of the runs", "p99, of the run that has most", "at most")
	for _, what := range sortedKeys(reports) {
		var all spread
		least, most := time.Duration(0), time.Duration(0)
		for _, r := range reports {
			a, ok := r.Again[what]
			if !ok {
				continue
			}
			if all.N == 0 {
				least = a.P50
			}
			least, most = min(least, a.P50), max(most, a.P50)
			all.N, all.P99, all.Max = all.N+a.N, max(all.P99, a.P99), max(all.Max, a.Max)
		}
		medians := seconds(least)
		if to := seconds(most); to != medians {
			medians += " to " + to
		}
		row(what, grouped(int64(all.N)), medians, seconds(all.P99), seconds(all.Max))
	}
	b.WriteString("\nCommands:\n\n")
	for i, r := range reports {
		fmt.Fprintf(&b, "%d. `%s`\n", i+1, r.Command)
	}
	b.WriteString("\n")
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// grouped writes a number with commas.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
