package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/monitor"
	"github.com/dataflowsync/dfs/sink"
)

// A journal is the file's journal, with what tells statements. A nil *journal is
// none.
type journal struct {
	*monitor.Journal
	explainer explainer
}

// openJournal opens the journal that the file asks for, or none.
func openJournal(c *config.Config, readOnly bool, log *slog.Logger) (*journal, error) {
	if !c.Journal.On() {
		return nil, nil
	}
	j := &journal{explainer: explainer{c: c, log: log}}
	o := &monitor.JournalOptions{
		Level: monitor.JournalLevel(c.Journal.Level), Sample: c.Journal.Sample, Keep: int64(c.Journal.Keep), KeepFor: c.Journal.KeepFor,
		Mask: c.Journal.Mask, Secrets: c.Secrets(), Explain: j.explainer.explain, ReadOnly: readOnly, Logger: log,
	}
	if o.Level != monitor.JournalSampled {
		o.Sample = 0
	}
	var err error
	if j.Journal, err = monitor.OpenJournal(c.Journal.Path, o); err != nil {
		return nil, fmt.Errorf("%w (journal.path is set at %s)", err, c.Where("journal.path"))
	}
	return j, nil
}

// watch puts the journal beside a pipeline.
func (j *journal) watch(name string, p *dfs.Pipeline) error {
	if j == nil {
		return nil
	}
	return j.Watch(name, p)
}

// shown returns the journal for the monitor.
func (j *journal) shown() *monitor.Journal {
	if j == nil {
		return nil
	}
	return j.Journal
}

func (j *journal) close() error {
	if j == nil {
		return nil
	}
	return errors.Join(j.Close(), j.explainer.close())
}

// An explainer tells the statements for a transaction by a connection of its own to
// the target, which is made when somebody asks.
type explainer struct {
	c     *config.Config
	log   *slog.Logger
	plans map[string]planner // by the name of the pipeline
}

// A planner tells by which statements a target's sink writes a transaction.
type planner interface {
	Plan(ctx context.Context, tx *dfs.Transaction) (sink.Planned, error)
	Close() error
}

// explain implements monitor.JournalOptions.Explain.
func (e *explainer) explain(ctx context.Context, name string, tx *dfs.Transaction) ([]string, error) {
	d := e.plans[name]
	if d == nil {
		var err error
		for _, l := range e.c.Lines() {
			if l.Name == name {
				d, err = openPlanner(ctx, l, e.log)
			}
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("the statement cannot be told, as the target cannot be asked: %w", err)
		case d == nil:
			return nil, fmt.Errorf("the statement cannot be told: no target of the file is called %q", name)
		}
		if e.plans == nil {
			e.plans = make(map[string]planner)
		}
		e.plans[name] = d
	}
	p, err := d.Plan(ctx, tx)
	list := p.Statements
	for _, s := range append(p.Notes, p.Stops...) {
		list = append(list, "-- "+strings.ReplaceAll(s, "\n", "\n-- "))
	}
	return list, err
}

// openPlanner connects to a pipeline's target, without the right to write to it.
func openPlanner(ctx context.Context, c *config.Config, log *slog.Logger) (planner, error) {
	o := targetOptions(c, log)
	// A nil pointer of a type is no nil planner.
	switch kind := c.Target.Kind(); kind {
	case config.MySQLTarget:
		d, err := sink.OpenDryRun(ctx, c.TargetDSN(), o, func(sink.Planned) error { return nil })
		if err != nil {
			return nil, err
		}
		return d, nil
	case config.PostgresTarget:
		t, err := sink.TellPostgres(ctx, c.TargetDSN(), postgresOptions(c, o))
		if err != nil {
			return nil, err
		}
		return t, nil
	case config.SQLiteTarget:
		t, err := sink.TellSQLite(ctx, c.Target.File, sqliteOptions(c, o))
		if err != nil {
			return nil, err
		}
		return t, nil
	default:
		return nil, fmt.Errorf("it is %s, which knows no statements", kind)
	}
}

func (e *explainer) close() error {
	var errs []error
	for _, d := range e.plans {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// traceRow prints what became of a row or a transaction, by the journal's file. It
// may be used while run is at work, and while it is not.
func traceRow(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	if !c.Journal.On() {
		report(stderr, "trace", fmt.Errorf("%s has no section journal, in which run notes what becomes of rows; add it, and start run again", f.file))
		return exitUsage
	}
	q := monitor.TraceQuery{Seq: f.seq, ID: f.id, Failed: f.failed, Limit: f.count}
	if len(f.tables) > 0 {
		q.Table, q.Key = f.tables[0], f.tables[1:]
	}
	if f.target != "" {
		l, err := c.Named(f.target)
		if err != nil {
			report(stderr, "trace", err)
			return exitUsage
		}
		q.Pipeline = l.Name
	}
	j, err := openJournal(c, true, slog.New(slog.DiscardHandler))
	if err != nil {
		report(stderr, "trace", err)
		return exitRun
	}
	t, err := j.Trace(ctx, q)
	if closing := j.close(); err == nil {
		err = closing
	}
	if err == nil && f.json {
		out := json.NewEncoder(stdout)
		out.SetEscapeHTML(false)
		out.SetIndent("", "  ")
		err = out.Encode(t)
	} else if err == nil {
		printTrace(stdout, t)
	}
	if err != nil {
		report(stderr, "trace", err)
		return exitRun
	}
	return exitOK
}

// printTrace writes a trace for people, the oldest first, as a log is read.
func printTrace(w io.Writer, t *monitor.Trace) {
	line := func(label, format string, args ...any) {
		text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 13))
		fmt.Fprintf(w, "  %-10s %s\n", label, text)
	}
	for i := len(t.Transactions) - 1; i >= 0; i-- {
		tx := &t.Transactions[i]
		outcome := "applied"
		switch {
		case tx.Skipped:
			outcome = "SKIPPED"
		case tx.Parked:
			outcome = "PARKED"
		case tx.Error != "":
			outcome = "REFUSED"
		}
		fmt.Fprintf(w, "%s: transaction %s %s, %s\n", tx.Pipeline, count(tx.Seq), tx.ID, outcome)
		if tx.Committed != nil {
			line("committed", "%s", tx.Committed.Format(time.RFC3339Nano))
		}
		line("position", "%s", tx.Position)
		line("read", "%s", tx.Read.Format(time.RFC3339Nano))
		if tx.Skipped {
			line("skipped", "%s: as somebody asked", tx.At.Format(time.RFC3339Nano))
		} else if tx.Parked {
			line("parked", "%s: %s", tx.At.Format(time.RFC3339Nano), tx.Error)
		} else if tx.Error != "" {
			line("refused", "%s: %s", tx.At.Format(time.RFC3339Nano), tx.Error)
		} else {
			line("applied", "%s", tx.At.Format(time.RFC3339Nano))
		}
		for _, s := range tx.Steps {
			label := s.Name
			if s.Same {
				line(label, "as before")
			}
			for _, ch := range s.Changes {
				line(label, "%s", changeText(&ch))
				label = ""
			}
			if s.Others > 0 {
				line(label, "and %s of the transaction", plural(uint64(s.Others), "other change"))
			}
			if !s.Same && len(s.Changes) == 0 && s.Others == 0 {
				line(label, "nothing is left of it")
			}
		}
		label := "statement"
		for _, s := range tx.Statements {
			line(label, "%s", s)
			label = ""
		}
		fmt.Fprintln(w)
	}
	if len(t.Transactions) == 0 {
		fmt.Fprintln(w, "The journal has nothing of it.")
	}
	if t.More {
		fmt.Fprintln(w, "There are older ones; -count shows more.")
	}
	if t.Since != nil {
		fmt.Fprintf(w, "The journal goes back to %s.\n", t.Since.Format(time.RFC3339))
	}
	for _, g := range t.Gaps {
		fmt.Fprintf(w, "It lacks transactions %s to %s of %s.\n", count(g.First), count(g.Last), g.Pipeline)
	}
}

// changeText writes a change in a line: its key, and what was set or has changed.
func changeText(c *monitor.TracedChange) string {
	if c.Query != "" {
		return c.Query
	}
	value := func(v *monitor.TracedValue) string {
		switch {
		case v == nil:
			return "-"
		case v.Kind == "null":
			return "NULL"
		case v.Kind == "bytes":
			return "0x" + v.Text
		case v.Kind == "masked":
			return v.Text
		}
		return fmt.Sprintf("%q", v.Text)
	}
	var parts []string
	for _, col := range c.Columns {
		switch {
		case col.Before == nil && col.After == nil:
		case col.Before == nil:
			parts = append(parts, col.Name+"="+value(col.After))
		case col.After == nil || *col.Before == *col.After:
			if col.Key || c.Op == "delete" {
				parts = append(parts, col.Name+"="+value(col.Before))
			}
		default:
			parts = append(parts, col.Name+"="+value(col.Before)+" -> "+value(col.After))
		}
	}
	return c.Op + " " + c.Table + " " + strings.Join(parts, ", ")
}
