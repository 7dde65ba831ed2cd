package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
	"github.com/dataflowsync/dfs/monitor"
	"github.com/dataflowsync/dfs/queue"
)

// only is a stage that drops the rows of tables which are not for a target. What
// alters tables passes: a target knows by itself which tables it follows.
type only struct{ list match.List }

// Process implements dfs.Stage.
func (o *only) Process(_ context.Context, batch []*dfs.Transaction) error {
	var last *dfs.Table
	drop := false
	for _, tx := range batch {
		tx.Changes = slices.DeleteFunc(tx.Changes, func(c dfs.Change) bool {
			if c.Op == dfs.DDL || c.Table == nil {
				return false
			}
			if c.Table != last {
				last, drop = c.Table, !o.list.Follows(c.Table.Schema, c.Table.Name)
			}
			return drop
		})
	}
	return nil
}

// onlyTables returns those of the tables that are for the target, and a stage for
// their rows. A table that is named and is not there is a fault.
func onlyTables(c *config.Config, tables []*dfs.Table) (*only, []*dfs.Table, error) {
	if c.Reader == "" {
		return nil, tables, nil
	}
	list, err := match.ParseList(c.Source.Tables)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, text := range c.Source.Tables {
		p, out, err := match.ParseFollowed(text)
		if err == nil && !out && !slices.ContainsFunc(tables, func(t *dfs.Table) bool { return p.Match(t.Schema, t.Name) }) {
			errs = append(errs, fmt.Errorf("%s: none of the tables that the source follows is %q; look at source.tables, or leave it out",
				c.Where("source.tables"), text))
		}
	}
	tables = slices.DeleteFunc(slices.Clone(tables), func(t *dfs.Table) bool { return !list.Follows(t.Schema, t.Name) })
	return &only{list}, tables, errors.Join(errs...)
}

// captureName is what the pipeline into the queue is called.
func captureName(c *config.Config) string { return c.Name + ".capture" }

// runFan carries changes to several targets until ctx ends, and returns the exit
// code.
func runFan(ctx context.Context, c *config.Config, p *parts, shown *monitor.Log, plain *slog.Logger, stderr io.Writer) int {
	log := plain.With("pipeline", captureName(c))
	capture := limits(c, log)
	capture.Source, capture.Sink = &source{p.source, c, log}, p.queue
	fan := &dfs.Fanout{Capture: capture, Pipelines: make(map[string]*dfs.Pipeline)}
	names := map[string]string{"": captureName(c)}
	all := map[string]*dfs.Pipeline{captureName(c): capture}
	for i, l := range c.Lines() {
		line := p.lines[i].pipeline(l, plain.With("pipeline", l.Name))
		if p.lines[i].archive != nil {
			// Its rows are not decoded on their way, so the journal has nothing of it.
		} else if err := p.journal.watch(l.Name, line); err != nil {
			report(stderr, "the journal cannot be used", errors.Join(err, p.close()))
			return exitSetup
		}
		fan.Pipelines[l.Reader], names[l.Reader], all[l.Name] = line, l.Name, line
		log.Info("running", "source", c.Source.Address(), "queue", c.Queue.Path, "target", l.Target.Address(), "reader", l.Reader)
	}
	warnStrangers(log, c, p.queue)
	if c.Monitor.On() {
		page, err := p.monitor(c, all, shown, plain, stderr)
		if err != nil {
			report(stderr, "the monitor cannot be used", errors.Join(err, p.close()))
			return exitSetup
		}
		defer page.stop()
		log.Info("the monitor shows these pipelines", "at", page.url)
		fan.Each = func(ctx context.Context, name string, _ *dfs.Pipeline) error { return page.run(ctx, names[name]) }
	}

	watch, stopWatching := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	began := make([]view, len(p.lines))
	look := func(i int) view { return p.look(fan.Pipelines[c.Lines()[i].Reader]) }
	for i, l := range c.Lines() {
		began[i] = look(i)
		if every := cmp.Or(c.Log.Every, 10*time.Second); every > 0 {
			watching.Go(func() { summarize(watch, plain.With("pipeline", l.Name), every, func() view { return look(i) }) })
		}
	}
	for i, l := range c.Lines() {
		if t := p.lines[i]; t.archive != nil {
			watching.Go(func() {
				t.baselines(watch, l.Target.Archive.Baseline, fan.Pipelines[l.Reader], plain.With("pipeline", l.Name))
			})
		}
	}
	quiet := context.AfterFunc(ctx, func() { log.Info("stopping; a second signal ends at once") })
	err := fan.Run(ctx)
	if err == nil && ctx.Err() == nil {
		// The source has ended, so indexes that wait for the end of a copy need not.
		for _, l := range p.lines {
			if l.target == nil {
				continue // it never was there
			}
			if more := l.target.AddIndexes(ctx); ctx.Err() == nil {
				err = errors.Join(err, more)
			}
		}
	}
	quiet()
	stopWatching()
	watching.Wait()
	for i, l := range c.Lines() {
		log := plain.With("pipeline", l.Name)
		log.Info("stopped", summary(began[i], look(i))...)
		p.lines[i].counted(log)
	}
	if closing := p.close(); err == nil {
		err = closing
	}
	if err != nil {
		report(stderr, "stopped", explain(c, err))
		return exitRun
	}
	return exitOK
}

// strangers returns the readers of the queue that no target of the file has. They
// hold back what nobody will read.
func strangers(c *config.Config, list []queue.ReaderInfo) (more []queue.ReaderInfo) {
	for _, r := range list {
		own := c.Readers()
		if !c.Several() {
			own = []string{"default"}
		}
		if !slices.Contains(own, r.Name) {
			more = append(more, r)
		}
	}
	return more
}

func warnStrangers(log *slog.Logger, c *config.Config, q *queue.Queue) {
	for _, r := range strangers(c, q.Stats().Readers) {
		log.Warn("the queue has a reader that is none of the targets, and holds back what it has not read; if it is not to come back, "+
			"stop, and forget it by: basic forget "+r.Name, "reader", r.Name, "waits", config.Size(r.Bytes).String(), "transactions", r.Lag)
	}
}

// forget ends the registration of a reader of the queue, which must not be in use.
func forget(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	err := func() error {
		if c.Queue.Path == "" {
			return errors.New("the file has no queue, so there is no reader to forget")
		}
		if own := c.Readers(); slices.Contains(own, f.arg) {
			return fmt.Errorf("%s: %q is still one of the targets; take it out of the file first, or it is registered again", c.Where("targets"), f.arg)
		}
		o := queueOptions(c, slog.New(slog.DiscardHandler))
		o.Readers = nil
		q, err := queue.Open(c.Queue.Path, o)
		if err != nil {
			return err
		}
		var was queue.ReaderInfo
		for _, r := range q.Stats().Readers {
			if r.Name == f.arg {
				was = r
			}
		}
		if err := errors.Join(q.Forget(ctx, f.arg), q.Close()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "forgotten: %s, which had passed transaction %s and lacked %s\n", f.arg, count(was.Seq), count(was.Lag))
		return err
	}()
	if err != nil {
		report(stderr, "forget", err)
		return exitRun
	}
	return exitOK
}

// chosen returns the line that -target names, or the only one.
func chosen(c *config.Config, f flags) (*config.Config, error) {
	switch {
	case f.target != "":
		return c.Named(f.target)
	case c.Several():
		return nil, fmt.Errorf("the file has several targets; choose one by -target: %s", strings.Join(c.Readers(), ", "))
	}
	return c, nil
}
