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
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
	"github.com/dataflowsync/dfs/verify"
)

// verifyEach verifies the target that is asked for, or one after the other.
func verifyEach(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	if !c.Several() || f.target != "" || f.continuous {
		l, err := chosen(c, f)
		if err != nil {
			report(stderr, "not verified", err)
			return exitUsage
		}
		return verifyTables(ctx, l, f, stdout, stderr)
	}
	worst := exitOK
	for _, l := range c.Lines() {
		if !f.json {
			fmt.Fprintf(stdout, "target %s\n", l.Reader)
		}
		// Different outweighs what is not known, and that what is equal.
		switch code := verifyTables(ctx, l, f, stdout, stderr); {
		case worst == exitOK, code == exitSetup, code == exitDifferent && worst != exitSetup:
			worst = code
		}
	}
	return worst
}

// verifyTables compares source and target, as the file says which tables go
// where and how. The pipeline may run meanwhile, in another process.
func verifyTables(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	switch kind := c.Target.Kind(); kind {
	case config.MySQLTarget, config.PostgresTarget, config.SQLiteTarget:
	default:
		report(stderr, "not verified", fmt.Errorf("verify compares databases, and the target (%s) is %s", c.Target.String(), kind))
		return exitSetup
	}
	finds := databases{c: c}
	defer finds.Close()
	v, err := verifier(ctx, c, &finds, f.tables)
	if err != nil {
		report(stderr, "not verified", err)
		return exitSetup
	}
	if c.Target.Kind() != config.MySQLTarget {
		var rows interface {
			verify.TargetRows
			io.Closer
		}
		var err error
		if f.repair && !f.dry {
			rows, err = openMender(ctx, c)
		} else {
			rows, err = openRows(ctx, c)
		}
		if err != nil {
			report(stderr, "not verified", &partError{targetName(c), err})
			return exitSetup
		}
		defer rows.Close()
		v.Target, v.TargetRows = "", rows
	}
	v.Repair, v.DryRun, v.MaxRows, v.LockTime = f.repair, f.dry, f.rows, f.lockTime
	v.Logger = slog.New(slog.DiscardHandler) // the report tells it all
	if f.continuous {
		return watch(ctx, v, f, stdout, stderr)
	}
	r, err := v.Run(ctx)
	if r == nil {
		report(stderr, "not verified", err)
		return exitSetup
	}
	if f.json {
		if err := r.WriteJSON(stdout); err != nil {
			report(stderr, "verify", err)
			return exitRun
		}
	} else {
		fmt.Fprint(stdout, r)
	}
	return verdictCode(r.Verdict())
}

// watch verifies again and again. It prints what differs, and each table when it
// is verified for the first time or again after it was not.
func watch(ctx context.Context, v *verify.Verifier, f flags, stdout, stderr io.Writer) int {
	worst := verify.Equal
	was := make(map[string]verify.Verdict)
	err := v.Watch(ctx, func(t verify.TableReport) {
		if t.Verdict == verify.Different || t.Verdict == verify.Unknown && worst == verify.Equal {
			worst = t.Verdict
		}
		switch {
		case f.json:
			line, err := json.Marshal(t)
			if err == nil {
				fmt.Fprintf(stdout, "%s\n", line)
			}
		case t.Verdict != verify.Equal || was[t.Source] != t.Verdict:
			fmt.Fprintf(stdout, "%s %s", t.Began.UTC().Format(time.RFC3339), &t)
		}
		was[t.Source] = t.Verdict
	})
	if err != nil {
		report(stderr, "not verified", err)
		return exitSetup
	}
	for _, s := range v.Stats() {
		last := "never"
		if !s.Verified.IsZero() {
			last = s.Verified.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(stderr, "%-14s %s: last verified at %s, %s rows compared, %s\n", s.Verdict, s.Source, last, count(s.Rows), plural(uint64(s.Findings), "finding"))
	}
	return verdictCode(worst)
}

func verdictCode(v verify.Verdict) int {
	switch v {
	case verify.Different:
		return exitDifferent
	case verify.Unknown:
		return exitUnknown
	}
	return exitOK
}

// verifier makes a Verifier of the file, for those of the followed tables that
// one of the patterns names, or for all if there are none. What its units look up in
// is in finds, and is the caller's to close.
func verifier(ctx context.Context, c *config.Config, finds *databases, patterns []string) (*verify.Verifier, error) {
	if len(c.Source.Files) > 0 {
		return nil, errors.New("the source is files, and their rows cannot be read again: name a server under source")
	}
	only, err := match.ParseList(patterns)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	o := sourceOptions(c, quiet)
	o.SemiSync = false // what it reads is stored by who carries it
	src, err := openSource(ctx, c, o)
	if err != nil {
		return nil, &partError{sourceName(c), err}
	}
	defer src.Close()
	if err := resumeStored(ctx, c, src, quiet); err != nil {
		return nil, err
	}
	tables, err := src.Tables(ctx)
	if err != nil {
		return nil, &partError{sourceName(c), err}
	}
	v := &verify.Verifier{Source: c.SourceDSN(), Target: c.TargetDSN(), Name: c.Name, Schema: c.Target.Schema}
	var chosen []*dfs.Table
	for _, t := range tables {
		if only.Follows(t.Schema, t.Name) {
			chosen = append(chosen, t)
			v.Tables = append(v.Tables, t.String())
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("none of the %d followed tables is to be verified: look at source.tables, and at the names on the command line", len(tables))
	}
	for _, r := range c.Target.Routes {
		v.Routes = append(v.Routes, verify.Route(r))
	}
	if finds.ids, err = openIDs(ctx, c, src, tables, readIDs, quiet); err != nil {
		return nil, err
	}
	retyped, err := finds.ids.retyped(tables)
	if err != nil {
		return nil, err
	}
	units, err := openUnits(ctx, c, finds, retyped, quiet)
	if err != nil || units == nil && finds.ids == nil {
		return v, err
	}
	v.Stages = finds.ids.stages()
	if units != nil {
		v.Stages = append(v.Stages, units)
	}
	v.Shapes = func(t *dfs.Table) ([]verify.Shape, error) { return finds.ids.shapes(t, units) }
	if units == nil {
		return v, nil
	}
	for _, t := range chosen {
		if t, err = finds.ids.table(t); err != nil {
			return nil, err
		}
		made, err := units.Targets(t)
		if err != nil {
			return nil, err
		}
		for _, m := range made {
			if m.Table == nil {
				continue
			}
			to := c.Routed(m.Table.Schema, m.Table.Name)
			for _, u := range c.Units {
				if u.SoftDelete != "" && m.Table.Column(u.SoftDelete) >= 0 {
					v.Keeps = append(v.Keeps, to) // what was deleted stays
				}
			}
			for i, from := range m.Origins {
				if strings.Contains(from, ", looked up") {
					v.Ignore = append(v.Ignore, to+"."+m.Table.Columns[i].Name) // it may be something else by now
				}
			}
		}
	}
	return v, nil
}

// shapes returns what units make of a table, and which columns they leave as they
// were.
func shapes(units *dpu.Units, t *dfs.Table) (list []verify.Shape, err error) {
	if units == nil {
		s := verify.Shape{Table: t}
		for i := range t.Columns {
			s.From = append(s.From, t.Columns[i].Name)
		}
		return []verify.Shape{s}, nil
	}
	made, err := units.Targets(t)
	for _, m := range made {
		if m.Unknown || m.Emits != nil {
			return nil, err // what comes out tells
		}
		if m.Table == nil {
			continue
		}
		s := verify.Shape{Table: m.Table, From: make([]string, len(m.Table.Columns))}
		for i, from := range m.Origins {
			if t.Column(from) >= 0 {
				s.From[i] = from
			}
		}
		list = append(list, s)
	}
	return list, err
}
