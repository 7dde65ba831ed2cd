package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
)

// asItIs is the target of a table that no unit changes.
func asItIs(t *dfs.Table) dpu.Target {
	m := dpu.Target{Source: t, Table: t}
	for i := range t.Columns {
		m.Origins = append(m.Origins, t.Columns[i].Name)
	}
	return m
}

// targets gives a verdict on each table that rows arrive as, and returns them.
func (s *section) targets(ctx context.Context, c *config.Config, p *parts, made []dpu.Target, added []string) (arrive []*dfs.Table) {
	for _, m := range made {
		arrive = append(arrive, m.Tables()...)
	}
	created := make(map[*dfs.Table]bool)
	if c.Target.CreateTables {
		fresh, err := p.target.Fresh(ctx)
		s.faults(err)
		missing, err := p.target.Missing(ctx, arrive)
		s.faults(err)
		for _, t := range missing {
			created[t] = fresh
		}
		for _, m := range made {
			for _, t := range m.Tables() {
				created[t] = created[t] || slices.Contains(missing, t) && slices.Contains(added, m.Source.String())
			}
		}
	}
	for _, m := range made {
		switch {
		case m.Table == nil:
			s.add("note", m.Source.String(), "", "goes nowhere, since no unit takes it")
		case m.Unknown:
			s.add("note", m.Source.String(), "", fmt.Sprintf("goes where the function of unit %q says:\n%s", m.Unit, columnsOf(m)))
		case m.Emits != nil:
			s.add("ok", m.Source.String(), "", fmt.Sprintf("goes where the function of unit %q says:\n%s", m.Unit, columnsOf(m)))
			for _, t := range m.Emits {
				s.target(ctx, c, p, m.Source, asItIs(t), created[t], slices.Contains(added, m.Source.String()))
			}
		default:
			s.target(ctx, c, p, m.Source, m, created[m.Table], slices.Contains(added, m.Source.String()))
		}
	}
	return arrive
}

// columnsOf tells what the columns of a target are made of, a line each.
func columnsOf(m dpu.Target) string {
	_, lines, _ := strings.Cut(strings.TrimRight(m.String(), "\n"), "\n")
	return lines
}

// target gives a verdict on one table. Column by column it tells what a unit makes,
// and what the target's table lacks.
func (s *section) target(ctx context.Context, c *config.Config, p *parts, from *dfs.Table, m dpu.Target, created, added bool) {
	t := m.Table
	f := finding{Verdict: "ok", Name: from.String() + " → " + c.Routed(t.Schema, t.Name), Text: fmt.Sprintf("%d columns, %s", len(t.Columns), keyOf(t))}
	if len(m.Notes) > 0 || t.Key == nil {
		f.Verdict = "note"
	}
	var bad []fault
	var notes []string
	if created {
		f.Text += ", is created at the first start"
	} else {
		one := []*dfs.Table{t}
		var new []*dfs.Table
		if added {
			new = one
		}
		bad = faultsOf(errors.Join(p.target.CheckTables(ctx, one), p.existing(ctx, c, one, new)))
		if len(bad) == 0 {
			var err error
			notes, err = p.target.Notes(ctx, t)
			s.faults(err)
		}
		m.Missing = p.target.MissingColumns(t)
	}
	if m.Unit != "" {
		f.Text += fmt.Sprintf(", by unit %q", m.Unit)
	}
	if m.Unit != "" || len(m.Missing) > 0 {
		f.Text += ":\n" + columnsOf(m)
	}
	if len(bad) > 0 {
		made := f.Text
		f.Verdict, f.Text, f.Cure = "fault", bad[0].What, bad[0].Cure
		for _, b := range bad[1:] {
			f.Text += "\n" + b.What
		}
		if m.Unit != "" || len(m.Missing) > 0 {
			f.Text += "\n" + made
		}
	}
	for _, n := range notes {
		f.Verdict = "note"
		f.Text += "\n" + n
	}
	s.Findings = append(s.Findings, f)
}
