//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// A table is part of a report. Its first column is words, the others are
// figures.
type table struct {
	title string
	note  string
	head  []string
	rows  [][]string
	after []string // remarks below
}

// text writes the table for a terminal.
func (t *table) text(w io.Writer) {
	fmt.Fprintf(w, "%s\n", t.title)
	if t.note != "" {
		fmt.Fprintf(w, "(%s)\n", t.note)
	}
	width := make([]int, len(t.head))
	all := append([][]string{t.head}, t.rows...)
	for _, row := range all {
		for i, s := range row {
			width[i] = max(width[i], utf8.RuneCountInString(s))
		}
	}
	for _, row := range all {
		var b strings.Builder
		b.WriteString("  ")
		for i, s := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(s))
			if i == 0 {
				b.WriteString(s + pad)
			} else {
				b.WriteString("   " + pad + s)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	for _, s := range t.after {
		fmt.Fprintln(w, " ", s)
	}
}

// prune leaves out the columns that have nothing but their heading.
func (t table) prune() table {
	keep := make([]bool, len(t.head))
	for i := range keep {
		keep[i] = i == 0 || slices.ContainsFunc(t.rows, func(row []string) bool { return row[i] != "" })
	}
	kept := func(row []string) []string {
		var out []string
		for i, s := range row {
			if keep[i] {
				out = append(out, s)
			}
		}
		return out
	}
	t.head = kept(t.head)
	rows := t.rows
	t.rows = nil
	for _, row := range rows {
		t.rows = append(t.rows, kept(row))
	}
	return t
}

// markdown writes the table as Markdown.
func (t *table) markdown(w io.Writer) {
	if t.title != "" {
		fmt.Fprintf(w, "### %s\n\n", t.title)
	}
	if t.note != "" {
		fmt.Fprintf(w, "%s%s.\n\n", strings.ToUpper(t.note[:1]), t.note[1:])
	}
	rule := "|---|" + strings.Repeat("---:|", len(t.head)-1)
	for i, row := range append([][]string{t.head}, t.rows...) {
		cells := make([]string, len(row))
		for j, s := range row {
			cells[j] = strings.ReplaceAll(s, "|", `\|`)
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			fmt.Fprintln(w, rule)
		}
	}
	fmt.Fprintln(w)
	for _, s := range t.after {
		fmt.Fprintf(w, "- %s\n", s)
	}
	if len(t.after) > 0 {
		fmt.Fprintln(w)
	}
}
