package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// restore restores from the archive that is the source of a file into its target.
func restore(ctx context.Context, c *config.Config, f archiveFlags, stderr io.Writer) int {
	log := newLogger(stderr, cmp.Or(f.format, c.Log.Format), c.Log.Level).With("pipeline", c.Name)
	if len(f.tables) > 0 {
		c.Source.Tables = f.tables
	}
	p, line, err := openRestore(ctx, c, f, log)
	if ctx.Err() != nil {
		p.close()
		return exitOK
	}
	if err != nil {
		p.close()
		reportParts(stderr, err)
		return exitSetup
	}
	log.Info("restoring", "archive", c.Source.Archive.Address(), "to", f.to.String(), "before", f.before, "target", c.Target.Address())
	began := p.look(line)
	watch, stopWatching := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	if every := cmp.Or(c.Log.Every, 10*time.Second); every > 0 {
		watching.Go(func() { summarize(watch, log, every, func() view { return p.look(line) }) })
	}
	err = line.Run(ctx)
	stopWatching()
	watching.Wait()
	cut := ctx.Err() != nil
	if err == nil && !cut {
		err = p.target.AddIndexes(ctx)
	}
	log.Info("stopped", summary(began, p.look(line))...)
	if closing := p.close(); err == nil {
		err = closing
	}
	switch {
	case err != nil:
		report(stderr, "stopped", err)
		return exitRun
	case cut:
		log.Warn("told to stop before the end; run it again, and it goes on")
	case line.Stats().Apply.Transactions == 0:
		log.Warn("nothing was restored: the target stands there already, by an earlier restore of the same name")
	default:
		log.Info("restored")
	}
	return exitOK
}

// openRestore puts together what restores. The parts are to be closed also after an
// error.
func openRestore(ctx context.Context, c *config.Config, f archiveFlags, log *slog.Logger) (*parts, *dfs.Pipeline, error) {
	p := &parts{}
	p.finds.c = c
	o, err := c.Source.Archive.Options()
	if err != nil {
		return p, nil, &partError{sourceName(c), err}
	}
	if err := openStore(ctx, &c.Source.Archive, o, true); err != nil {
		return p, nil, &partError{sourceName(c), err}
	}
	o.ReadOnly, o.Logger = true, log
	if p.archive, err = sink.OpenArchive(c.Source.Archive.Dir, o); err != nil {
		return p, nil, &partError{sourceName(c), err}
	}
	r, err := p.archive.Restore(ctx, &sink.RestoreOptions{To: f.to, Before: f.before, LogOnly: f.logOnly, Incomplete: f.incomplete, Tables: c.Source.Tables, Decode: new(cdc.Source).Decode})
	if err != nil {
		return p, nil, &partError{sourceName(c), err}
	}
	to := targetOptions(c, log)
	if c.Target.Kind() != config.StreamTarget {
		to.DDL = sink.PolicyApply // unless a rule says otherwise; the target is to be what the source was
	}
	to.Followed = nil // State says what the archive was given, and not what of that is restored
	if p.target, err = openSinkWith(ctx, c, to); err != nil {
		return p, nil, &partError{targetName(c), err}
	}
	var tables []*dfs.Table
	defined := r.Definitions()
	for _, d := range defined {
		tables = append(tables, d.Table)
	}
	if p.units, err = openUnits(ctx, c, &p.finds, tables, log); err != nil {
		return p, nil, &partError{"the units", err}
	}
	made, err := p.targets(tables)
	if err != nil {
		return p, nil, &partError{"the units", err}
	}
	fresh, err := p.target.Fresh(ctx)
	if err == nil && !fresh {
		err = p.stillThere(ctx, c, made, log)
	}
	if err == nil && fresh && !f.logOnly {
		if c.Target.Existing == "" || c.Target.Existing == "error" {
			err = p.target.CheckEmpty(ctx, made)
		}
		var list []sink.Definition
		if err == nil {
			list, err = p.wanted(made, defined)
		}
		if err == nil {
			_, _, err = p.target.CreateTables(ctx, list, true)
		}
	}
	if err == nil {
		err = p.target.CheckTables(ctx, made)
	}
	if err != nil {
		return p, nil, &partError{targetName(c), err}
	}
	line := p.pipeline(c, log)
	line.Source = r
	return p, line, nil
}

// stillThere reports that none of the tables that a restore began with is on the target any
// more, though its checkpoint says that rows of them came: the restore would go on behind these.
// Of some, statements on the way may have made others, so that is no more than a warning.
func (p *parts) stillThere(ctx context.Context, c *config.Config, tables []*dfs.Table, log *slog.Logger) error {
	missing, err := p.target.Missing(ctx, tables)
	if err != nil || len(missing) == 0 {
		return err
	}
	at, err := p.target.Stored(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range missing {
		if names = append(names, t.String()); len(names) == 10 && len(missing) > 10 {
			names = append(names, "and others")
			break
		}
	}
	if len(missing) == len(tables) {
		return fmt.Errorf("its checkpoint %q says that a restore has come to transaction %d, and yet it has none of the tables (%s): "+
			"to restore all anew, set another name in the file (%s)", c.Name, at.Seq, strings.Join(names, ", "), c.Where("name"))
	}
	log.Warn("the restore goes on behind what was restored before, and the target lacks tables: if no statement has dropped or renamed them on the way, "+
		"drop the others too, and set another name in the file to restore all anew", "tables", names, "at", at.Seq)
	return nil
}

// runArchive carries changes into an archive until ctx ends.
func runArchive(ctx context.Context, c *config.Config, f flags, stderr io.Writer) int {
	log := newLogger(stderr, cmp.Or(f.format, c.Log.Format), c.Log.Level).With("pipeline", c.Name)
	p := &parts{}
	err := p.openArchive(ctx, c, log)
	if err != nil || ctx.Err() != nil {
		err = errors.Join(err, p.close())
		if ctx.Err() != nil {
			return exitOK
		}
		reportParts(stderr, err)
		return exitSetup
	}
	line := p.pipeline(c, log)
	line.Sink = p.archive
	log.Info("running", "source", c.Source.Address(), "queue", c.Queue.Path, "archive", c.Target.Archive.Address())
	began := p.look(line)
	watch, stopWatching := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	if every := cmp.Or(c.Log.Every, 10*time.Second); every > 0 {
		watching.Go(func() { summarize(watch, log, every, func() view { return p.look(line) }) })
	}
	watching.Go(func() { p.baselines(watch, c.Target.Archive.Baseline, line, log) })
	err = line.Run(ctx)
	stopWatching()
	watching.Wait()
	log.Info("stopped", summary(began, p.look(line))...)
	if closing := p.close(); err == nil {
		err = closing
	}
	if err != nil {
		report(stderr, "stopped", explain(c, err))
		return exitRun
	}
	return exitOK
}

// openArchive opens the source, the queue if there is one, and the archive.
func (p *parts) openArchive(ctx context.Context, c *config.Config, log *slog.Logger) error {
	var errs []error
	fault := func(part string, err error) {
		if err != nil {
			errs = append(errs, &partError{part, err})
		}
	}
	var err error
	p.source, err = openSource(ctx, c, sourceOptions(c, log))
	fault(sourceName(c), err)
	if c.Queue.Path != "" {
		p.queue, err = queue.Open(c.Queue.Path, queueOptions(c, log))
		fault(queueName(c), err)
	}
	p.archive, err = openToWrite(ctx, &c.Target.Archive, log)
	fault(targetName(c), err)
	if len(errs) == 0 && p.archive.End().Seq == 0 && c.Source.Snapshot.On() {
		_, err := p.baseline(ctx)
		fault(targetName(c), err)
	}
	return errors.Join(errs...)
}

// baseline notes in the archive how the tables are made whose rows are to be copied,
// and returns that.
func (p *parts) baseline(ctx context.Context) ([]sink.Definition, error) {
	list, err := p.source.Definitions(ctx)
	if err == nil {
		err = p.archive.Baseline(ctx, list)
	}
	return list, err
}

// copyAgain has all rows copied again. A table that is altered just then would be
// defined as it was before or after, so it begins anew.
func (p *parts) copyAgain(ctx context.Context, log *slog.Logger) error {
	for range 5 {
		before, err := p.baseline(ctx)
		if err != nil {
			return err
		}
		var tables []string
		for _, d := range before {
			tables = append(tables, d.Table.String())
		}
		log.Info("copying all rows again, for restores to begin with", "tables", len(tables))
		if err := p.source.ResnapshotAll(ctx, tables); err != nil {
			return err
		}
		after, err := p.source.Definitions(ctx)
		if err != nil || slices.EqualFunc(before, after, func(a, b sink.Definition) bool {
			return a.Table.String() == b.Table.String() && withoutCounter(a.SQL) == withoutCounter(b.SQL)
		}) {
			return err
		}
	}
	return errors.New("tables are altered all the time")
}

var counter = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

// withoutCounter returns how a table is made without where its numbers go on.
func withoutCounter(text string) string { return counter.ReplaceAllString(text, "") }

// baselines has all rows copied again, once the last copy is so old, while the archive's
// pipeline runs, until ctx ends.
func (p *parts) baselines(ctx context.Context, every time.Duration, line *dfs.Pipeline, log *slog.Logger) {
	if every <= 0 {
		return
	}
	tick := time.NewTicker(min(every, time.Minute))
	defer tick.Stop()
	var asked time.Time // for the copy that the last baseline waits for
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if line.Stats().State != dfs.Running {
			continue
		}
		_, bases := p.archive.List()
		n := len(bases)
		switch {
		case n == 0:
			continue
		case bases[n-1].Failed:
		case bases[n-1].Done == 0:
			// A process may have ended before it was asked for, or a table of it been dropped.
			if time.Since(asked) < every || bases[n-1].After == 0 || strings.Contains(string(p.archive.End().Pos), " copy:") {
				continue // it is under way
			}
		case time.Since(bases[n-1].At) < every:
			continue // it is not due
		}
		asked = time.Now()
		if err := p.copyAgain(ctx, log); err != nil && ctx.Err() == nil {
			asked = time.Time{}
			log.Error("the rows could not be copied again; restores begin with the copy before", "err", err)
		}
	}
}
