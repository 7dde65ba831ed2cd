package verify

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs/internal/match"
)

// A Verdict says what was found out about a table, or about all.
type Verdict string

const (
	Equal     Verdict = "equal"
	Different Verdict = "different"      // there are findings, also if they were mended
	Unknown   Verdict = "could not tell" // there are none, but not all could be compared
)

// A Report is the result of a run.
type Report struct {
	Began  time.Time     `json:"began"`
	Ended  time.Time     `json:"ended"`
	Tables []TableReport `json:"tables"`
}

// A TableReport is what was found out about one table of the source.
type TableReport struct {
	Source  string  `json:"source"` // "schema.table"
	Target  string  `json:"target"` // where its rows are
	Verdict Verdict `json:"verdict"`

	Rows       uint64 `json:"rows"`        // of the source that were compared
	TargetRows uint64 `json:"target_rows"` // of the target

	// Looked counts the rows that were looked at again, because both sides were not
	// equal at the first look. Under load that is as it should be.
	Looked uint64 `json:"looked_again"`

	Missing   int `json:"missing"`   // rows that the target lacks
	Extra     int `json:"extra"`     // rows that only the target has
	Different int `json:"different"` // rows that differ
	Repaired  int `json:"repaired"`  // how many of these were mended

	Repairable int `json:"repairable,omitempty"` // how many would be, of a dry run

	Findings []Finding `json:"findings,omitempty"`
	More     bool      `json:"more,omitempty"` // there may be more: Verifier.Most was reached

	// Untold says what could not be told, and why.
	Untold []string `json:"untold,omitempty"`

	// Notes say what was left out of the comparison, such as a column that the
	// target generates.
	Notes []string `json:"notes,omitempty"`

	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took_ns"`
}

// The kinds of Finding.
const (
	MissingRow   = "missing"
	ExtraRow     = "extra"
	DifferentRow = "different"
)

// A Finding is one row that is not the same on both sides.
type Finding struct {
	Kind    string `json:"kind"`              // "missing", "extra" or "different"
	Table   string `json:"table"`             // of the target
	Key     []Cell `json:"key,omitempty"`     // what finds the row; empty for tables without a key
	Columns []Cell `json:"columns,omitempty"` // what differs; for a missing or extra row of a table without a key, all
	Count   int    `json:"count,omitempty"`   // how many equal rows, for tables without a key
	Mended  bool   `json:"mended,omitempty"`
	Why     string `json:"why,omitempty"`   // it was not mended although Repair is set, or why the stages make nothing of it
	Would   string `json:"would,omitempty"` // of a dry run: the statement that would mend it, with values as reports show them
	At      string `json:"at"`              // the checkpoint that the target had passed
}

// A Cell is a column's value on both sides, in a form that is the same for all
// servers and cut to a few dozen characters.
type Cell struct {
	Column string `json:"column"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// maxShown is how many bytes of a value are shown.
const maxShown = 80

// Verdict returns Different if one table is, else Unknown if there is one of
// which nothing could be told, else Equal.
func (r *Report) Verdict() Verdict {
	all := Equal
	for i := range r.Tables {
		switch r.Tables[i].Verdict {
		case Different:
			return Different
		case Unknown:
			all = Unknown
		}
	}
	return all
}

// WriteJSON writes the report as one indented JSON document.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Verdict Verdict `json:"verdict"`
		*Report
	}{r.Verdict(), r})
}

// String tells the report in lines: one for each table, and below it what was
// found.
func (r *Report) String() string {
	var b strings.Builder
	for i := range r.Tables {
		b.WriteString(r.Tables[i].String())
	}
	var rows uint64
	for i := range r.Tables {
		rows += r.Tables[i].Rows
	}
	fmt.Fprintf(&b, "%s: %d tables, %d rows, %s\n", r.Verdict(), len(r.Tables), rows, r.Ended.Sub(r.Began).Round(time.Millisecond))
	return b.String()
}

// String tells what was found in lines.
func (t *TableReport) String() string {
	var b strings.Builder
	name := t.Source
	switch {
	case name == "":
		name = t.Target + " (on the target)"
	case t.Target != "" && t.Target != t.Source:
		name += " -> " + t.Target
	}
	fmt.Fprintf(&b, "%-14s %s: %d rows", t.Verdict, name, t.Rows)
	if t.Verdict == Different {
		fmt.Fprintf(&b, "; %d missing, %d extra, %d different", t.Missing, t.Extra, t.Different)
		if t.Repaired > 0 {
			fmt.Fprintf(&b, ", %d of them mended", t.Repaired)
		}
		if t.Repairable > 0 {
			fmt.Fprintf(&b, ", %d of them would be mended", t.Repairable)
		}
	}
	if t.Looked > 0 {
		fmt.Fprintf(&b, "; %d looked at again", t.Looked)
	}
	b.WriteByte('\n')
	for i := range t.Findings {
		fmt.Fprintf(&b, "    %s\n", t.Findings[i])
	}
	if t.More {
		fmt.Fprintf(&b, "    there may be more: the table was left after %d findings\n", len(t.Findings))
	}
	for _, why := range t.Untold {
		fmt.Fprintf(&b, "    could not tell: %s\n", why)
	}
	for _, n := range t.Notes {
		fmt.Fprintf(&b, "    note: %s\n", n)
	}
	return b.String()
}

// String tells the finding in a line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s:", f.Kind, f.Table)
	for i, k := range f.Key {
		text := k.Source
		if f.Kind == ExtraRow {
			text = k.Target
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %s=%s", k.Column, text)
	}
	if f.Count > 1 {
		fmt.Fprintf(&b, " %d rows", f.Count)
	}
	for i, c := range f.Columns {
		switch {
		case i == 0:
			b.WriteString("; ")
		default:
			b.WriteString(", ")
		}
		switch f.Kind {
		case MissingRow:
			fmt.Fprintf(&b, "%s=%s", c.Column, c.Source)
		case ExtraRow:
			fmt.Fprintf(&b, "%s=%s", c.Column, c.Target)
		default:
			fmt.Fprintf(&b, "%s is %s on the source, %s on the target", c.Column, c.Source, c.Target)
		}
	}
	switch {
	case f.Mended:
		b.WriteString("; mended")
	case f.Would != "":
		b.WriteString("; would be mended by: " + f.Would)
	case f.Why != "":
		b.WriteString("; not mended: " + f.Why)
	}
	return b.String()
}

// verdict sets the verdict from what was found.
func (t *TableReport) verdict() {
	switch {
	case t.Missing+t.Extra+t.Different > 0:
		t.Verdict = Different
	case len(t.Untold) > 0:
		t.Verdict = Unknown
	default:
		t.Verdict = Equal
	}
}

func (t *TableReport) untold(format string, args ...any) {
	t.Untold = append(t.Untold, fmt.Sprintf(format, args...))
}

// columns is a parsed pattern of columns.
type columns struct {
	table  match.Pattern
	column string
}

func parseColumns(text string) (columns, error) {
	i := strings.LastIndexByte(text, '.')
	if i < 0 {
		return columns{}, fmt.Errorf(`%q names no column: write it as "schema.table.column", where each may hold * and ?`, text)
	}
	p, err := match.Parse(text[:i])
	if err != nil || text[i+1:] == "" {
		return columns{}, fmt.Errorf(`%q names no column: write it as "schema.table.column", where each may hold * and ?`, text)
	}
	return columns{p, text[i+1:]}, nil
}

// covers reports whether one of the patterns names the column.
func covers(list []columns, t *table, column string) bool {
	return slices.ContainsFunc(list, func(p columns) bool {
		return p.table.Match(t.schema, t.name) && match.Glob(p.column, column)
	})
}

// show returns a value for a report: text quoted, bytes that are no text in
// hexadecimal, and all of it cut short.
func show(v cell, plain bool) string {
	switch {
	case v.null:
		return "NULL"
	case plain && len(v.text) <= maxShown:
		return v.text
	}
	cut := ""
	text := v.text
	if len(text) > maxShown {
		cut = fmt.Sprintf("... (%d bytes)", len(text))
		text = strings.ToValidUTF8(text[:maxShown], "")
		if len(text) < maxShown-4 { // it was no text anyway
			text = v.text[:maxShown]
		}
	}
	for _, r := range text {
		if r == '\uFFFD' || r < ' ' && r != '\n' && r != '\t' && r != '\r' {
			return fmt.Sprintf("0x%X%s", text[:min(len(text), maxShown/2)], cut)
		}
	}
	return fmt.Sprintf("%q%s", text, cut)
}
