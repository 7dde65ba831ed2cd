package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// resume tells the source which tables are followed where it goes on, and how the
// file differs from that.
func (p *parts) resume(ctx context.Context) (*cdc.FollowChange, error) {
	var at dfs.Checkpoint
	var err error
	if p.target != nil { // else it cannot be reached
		at, err = p.target.Stored(ctx)
	}
	if err == nil && p.queue != nil {
		var q dfs.Checkpoint
		if q, err = p.queue.Checkpoint(ctx); q.Seq >= at.Seq {
			at = q
		}
	}
	if err != nil {
		return new(cdc.FollowChange), err
	}
	change, err := p.source.Resume(ctx, at)
	if err != nil {
		return new(cdc.FollowChange), err
	}
	return change, nil
}

// tablesNamed returns those of the tables that have one of the names.
func tablesNamed(tables []*dfs.Table, names []string) (list []*dfs.Table) {
	for _, t := range tables {
		if slices.Contains(names, t.String()) {
			list = append(list, t)
		}
	}
	return list
}

// A source is the source of the pipeline that runs. Before its tables change, the
// target is looked at as at a start.
type source struct {
	*cdc.Source
	c   *config.Config
	log *slog.Logger
}

// Follow implements dfs.Follower: see cdc.Source.Follow. It creates what the target
// lacks, if the file asks for that.
func (s *source) Follow(ctx context.Context, tables []string, rows bool) error {
	c := s.c
	if !slices.ContainsFunc(tables, func(name string) bool { return !s.Follows(name) }) {
		return s.Source.Follow(ctx, tables, rows) // which says so
	}
	if c.Several() {
		return fmt.Errorf("follow: %s: which tables go to each of several targets is read at a start: name the table under source.tables, and start anew", c.Where("targets"))
	}
	if c.RelMgr.Path != "" {
		return fmt.Errorf("follow: %s: foreign keys, by which rows get their ids, are read at a start: name the table under source.tables, and start anew", c.Where("relmgr"))
	}
	if len(c.Source.Files) > 0 || c.Target.Archive.On() { // there is no table of a target to look at
		return s.Source.Follow(ctx, tables, rows)
	}
	was, err := s.Describe(ctx, tables)
	if err != nil {
		return err
	}
	// The pipeline's own target and units are at work.
	p := &parts{source: s.Source, finds: databases{c: c}}
	defer p.finds.Close()
	if p.target, err = openSink(ctx, c, s.log); err != nil {
		return err
	}
	defer p.target.Close()
	all, err := s.Tables(ctx)
	if err != nil {
		return err
	}
	var list []*dfs.Table
	for _, d := range was {
		list = append(list, d.Table)
	}
	all = append(slices.DeleteFunc(all, func(t *dfs.Table) bool { return slices.Contains(tables, t.String()) }), list...)
	if p.units, err = openUnits(ctx, c, &p.finds, all, s.log); err != nil {
		return err
	}
	arrive, err := p.targets(list)
	if err != nil {
		return err
	}
	if c.Target.CreateTables {
		if err := p.create(ctx, arrive, was, false, s.log); err != nil {
			return err
		}
	}
	err = p.target.CheckTables(ctx, arrive)
	if rows && c.Target.Existing != "append" && c.Target.Existing != "replace" {
		err = errors.Join(err, p.target.CheckEmpty(ctx, arrive))
	}
	if err != nil {
		return err
	}
	if err := s.Source.Follow(ctx, tables, rows); err != nil {
		return err
	}
	now, err := s.Describe(ctx, tables)
	if err != nil || !reflect.DeepEqual(tablesOf(was), tablesOf(now)) {
		s.log.Warn("a table was altered while it was about to be followed: see that the target's has the same columns", "tables", tables, "err", err)
	}
	return nil
}

func tablesOf(list []cdc.Definition) (tables []dfs.Table) {
	for _, d := range list {
		tables = append(tables, *d.Table)
	}
	return tables
}

// resumeAt tells a source which tables are followed at the target's checkpoint.
func resumeAt(ctx context.Context, src *cdc.Source, target dfs.Sink) error {
	at, err := target.Checkpoint(ctx)
	if err != nil {
		return err
	}
	_, err = src.Resume(ctx, at)
	return err
}

// resumeStored is resumeAt beside a pipeline that runs, which it does not disturb.
func resumeStored(ctx context.Context, c *config.Config, src *cdc.Source, log *slog.Logger) error {
	if kind := c.Target.Kind(); kind == config.PostgresTarget || kind == config.SQLiteTarget {
		rows, err := openRows(ctx, c)
		if err != nil {
			return &partError{targetName(c), err}
		}
		defer rows.Close()
		at, err := rows.State(ctx)
		if err == nil {
			_, err = src.Resume(ctx, at)
		}
		if err != nil {
			return &partError{targetName(c), err}
		}
		return nil
	}
	target, err := sink.OpenDryRun(ctx, c.TargetDSN(), targetOptions(c, log), func(sink.Planned) error { return nil })
	if err != nil {
		return &partError{targetName(c), err}
	}
	defer target.Close()
	if err := resumeAt(ctx, src, target); err != nil {
		return &partError{targetName(c), err}
	}
	return nil
}
