//go:build linux

package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// Measures of the chart, in units of its view box.
const (
	chartWidth = 880
	chartLeft  = 260 // where bars begin
	chartBar   = 300 // length of the longest bar of a group; figures stand behind
	barHeight  = 15
	barStep    = 19
	groupGap   = 15
	chartTop   = 58
)

// A theme has the colours of a chart for a background.
type theme struct{ background, text, muted, own, peer string }

// The backgrounds are those of GitHub's pages; the chart draws none.
var (
	light = theme{"#ffffff", "#1f2328", "#59636e", "#0969da", "#818b98"}
	dark  = theme{"#0d1117", "#f0f6fc", "#9198a1", "#4493f8", "#737c88"}
)

func (t theme) css() string {
	return fmt.Sprintf(".t{fill:%s}.m{fill:%s}.own{fill:%s}.peer{fill:%s}", t.text, t.muted, t.own, t.peer)
}

// chartNames are the contenders that have a bar.
var chartNames = []string{"dfs", "best", "native", "mysqlbinlog", "canal"}

// chart returns rows per second of DFS and its peers as an SVG picture. Each workload
// has a scale of its own, as what they have in common is the ratio. Colours follow
// what the reader prefers, and each bar says in words what it is.
func (r *report) chart() []byte {
	var body bytes.Buffer
	text := func(class, anchor string, x, y int, s string) {
		fmt.Fprintf(&body, "<text class=%q text-anchor=%q x=\"%d\" y=\"%d\">", class, anchor, x, y)
		xml.EscapeText(&body, []byte(s))
		body.WriteString("</text>\n")
	}
	y := chartTop
	for _, name := range shortNames {
		i := slices.IndexFunc(r.Backlogs, func(res *result) bool { return res.Name == name[0] })
		if i < 0 || r.Backlogs[i].line("dfs") == nil {
			continue
		}
		res := r.Backlogs[i]
		var lines []*line
		most := 0.0
		for _, c := range chartNames {
			l := res.line(c)
			if l == nil || c == "native" && res.line("best") != nil && res.line("best").Workers == nativeWorkers {
				continue
			}
			lines = append(lines, l)
			most = max(most, l.rates(res.Rows).median())
		}
		if len(lines) < 2 {
			continue // nobody to compare with
		}
		text("t b", "end", chartLeft-12, y+12, name[1])
		text("m", "end", chartLeft-12, y+12+barStep, "durability "+string(res.Durability))
		for _, l := range lines {
			rate := l.rates(res.Rows).median()
			class, bold := "peer", "m"
			if l.Name == "dfs" {
				class, bold = "own", "t b"
			}
			length := max(1, rate/most*chartBar)
			fmt.Fprintf(&body, "<rect class=%q x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, chartLeft, y, length, barHeight)
			text(bold, "start", chartLeft+int(length)+7, y+12, count(rate)+" "+strings.TrimSuffix(l.Title, ", end to end"))
			y += barStep
		}
		y += max(0, 2-len(lines))*barStep + groupGap
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%[1]d\" height=\"%[2]d\" role=\"img\" aria-labelledby=\"title\">\n", chartWidth, y)
	fmt.Fprintf(&b, "<title id=\"title\">Rows per second of DFS and of what else applies the same log</title>\n")
	fmt.Fprintf(&b, "<style>text{font:12px system-ui,-apple-system,\"Segoe UI\",Helvetica,Arial,sans-serif}.b{font-weight:600}.h{font-size:16px}%s@media (prefers-color-scheme:dark){%s}</style>\n",
		light.css(), dark.css())
	b.WriteString("<text class=\"t b h\" x=\"12\" y=\"22\">Rows per second, end to end</text>\n")
	fmt.Fprintf(&b, "<text class=\"m\" x=\"12\" y=\"42\">the same log into an empty target; %d cores for all; durability: sync_binlog/innodb_flush_log_at_trx_commit</text>\n", r.Cores)
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}
