package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/dataflowsync/dfs/sink"
	"github.com/dataflowsync/dfs/verify"
)

// ids is what gives rows new ids. Its methods may be called on nil, if the file has
// no section relmgr: then tables and rows are as they were.
type ids struct {
	*relmgr.Manager
	blocks *sink.IDs // nil if none are reserved
}

// What a map of ids is opened for.
type idUse int

const (
	giveIDs idUse = iota
	tryIDs        // in a copy that reserves nothing
	readIDs       // beside a pipeline that may have it open
)

// openIDs opens the map of ids; nil if the file has none. Its faults name their lines.
func openIDs(ctx context.Context, c *config.Config, source *cdc.Source, tables []*dfs.Table, use idUse, log *slog.Logger) (*ids, error) {
	o := c.IDs()
	if o == nil {
		return nil, nil
	}
	keys, err := source.ForeignKeys(ctx)
	if err != nil {
		return nil, err
	}
	if why := noKeys(c); why != "" {
		log.Warn(why)
	}
	var d ids
	o.Tables, o.ForeignKeys, o.DryRun, o.ReadOnly, o.Logger = tables, keys, use == tryIDs, use == readIDs, log
	if use == giveIDs && !c.RelMgr.Alone {
		if d.blocks, err = sink.OpenIDs(ctx, c.TargetDSN(), targetOptions(c, log)); err != nil {
			return nil, err
		}
		o.Allocator = d.blocks
	}
	if d.Manager, err = relmgr.Open(c.RelMgr.Path, o); err == nil {
		return &d, nil
	}
	d.close()
	faults := config.IDFaults(err)
	if len(faults) == 0 {
		return nil, err
	}
	var errs []error
	for _, f := range faults {
		path := config.IDPath(f)
		text := f.Text
		if f.Table != "" {
			about := f.Table
			if f.Column != "" {
				about += "." + f.Column
			}
			text = about + ": " + text
		}
		errs = append(errs, fmt.Errorf("%s: %s: %s", c.Where(path), path, text))
	}
	return nil, errors.Join(errs...)
}

// noKeys says that nothing is known of foreign keys; empty if they are.
func noKeys(c *config.Config) string {
	if len(c.Source.Files) == 0 || c.Source.SchemaFile != "" {
		return ""
	}
	return "log files tell nothing of foreign keys, so what refers to what is known by relmgr.references alone: name a source.schema_file, which declares them, or list them there"
}

// retyped returns the tables as their rows leave the map of ids.
func (d *ids) retyped(tables []*dfs.Table) ([]*dfs.Table, error) {
	if d == nil {
		return tables, nil
	}
	var list []*dfs.Table
	for _, t := range tables {
		out, err := d.Table(t)
		if err != nil {
			return nil, err
		}
		list = append(list, out)
	}
	return list, nil
}

// table returns a table as its rows leave the map of ids.
func (d *ids) table(t *dfs.Table) (*dfs.Table, error) {
	if d == nil {
		return t, nil
	}
	return d.Table(t)
}

// shapes returns what new ids and then units, which may be nil, make of a table, and
// how its rows are found again by their new ids.
func (d *ids) shapes(t *dfs.Table, units *dpu.Units) ([]verify.Shape, error) {
	out, err := d.table(t)
	if err != nil {
		return nil, err
	}
	list, err := shapes(units, out)
	if err != nil || d == nil {
		return list, err
	}
	rewrites, err := d.Rewrites(t)
	if err != nil {
		return nil, err
	}
	isKey := func(column string) bool {
		return slices.ContainsFunc(t.Key, func(k int) bool { return strings.EqualFold(t.Columns[k].Name, column) })
	}
	var old func(ctx context.Context, key []dfs.Value) ([]string, bool, error)
	for _, w := range rewrites {
		switch {
		case w.How == "kept":
		case isKey(w.Column):
			old = func(ctx context.Context, key []dfs.Value) ([]string, bool, error) {
				values := make([]any, len(key))
				for i, v := range key {
					values[i] = v
				}
				return d.Old(ctx, t.String(), values...)
			}
		default:
			for _, s := range list {
				for i, from := range s.From {
					if strings.EqualFold(from, w.Column) {
						s.From[i] = ""
					}
				}
			}
		}
	}
	for i := range list {
		list[i].Old = old
	}
	return list, nil
}

// stages returns the stage, in a list for others to follow.
func (d *ids) stages() []dfs.Stage {
	if d == nil {
		return nil
	}
	return []dfs.Stage{d.Manager}
}

func (d *ids) close() error {
	if d == nil {
		return nil
	}
	var errs []error
	if d.Manager != nil {
		errs = append(errs, d.Manager.Close())
	}
	if d.blocks != nil {
		errs = append(errs, d.blocks.Close())
	}
	return errors.Join(errs...)
}

// checkIDs tells what becomes of the keys and references of each table.
func checkIDs(d *ids, c *config.Config, tables []*dfs.Table) section {
	s := section{Part: "relmgr", About: c.RelMgr.Path + ", which keys get new ids and what refers to them"}
	if why := noKeys(c); why != "" {
		s.add("note", "", "", why)
	}
	for _, t := range tables {
		list, err := d.Rewrites(t)
		if err != nil {
			s.faults(err)
			continue
		}
		f := finding{Verdict: "ok", Name: t.String()}
		for i, w := range list {
			if i > 0 {
				f.Text += "\n"
			}
			f.Text += w.Column + ": " + w.How
			if w.Type != "" {
				f.Text += ", as " + w.Type
			}
			if w.How == "kept" {
				f.Verdict = "note" // two sources may have the same
			}
		}
		if len(list) == 0 {
			f.Text = "has neither a key nor a reference"
		}
		s.Findings = append(s.Findings, f)
	}
	return s
}
