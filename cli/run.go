package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/monitor"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// run carries changes until ctx ends, and returns the exit code.
func run(ctx context.Context, c *config.Config, f flags, stderr io.Writer) int {
	defer holdMemory()()
	var live *liveLine
	if !f.plain {
		live = terminal(stderr)
	}
	out := stderr
	if live != nil {
		out = live
	}
	plain := newLogger(out, cmp.Or(f.format, c.Log.Format), c.Log.Level)
	shown := monitor.NewLog(plain.Handler(), nil)
	if c.Monitor.On() {
		plain = slog.New(shown)
	}
	log := plain.With("pipeline", c.Name)

	p, err := open(ctx, c, log)
	if ctx.Err() != nil {
		if p != nil {
			p.close()
		}
		return exitOK // told to stop before anything had begun
	}
	if err != nil {
		reportParts(stderr, err)
		return exitSetup
	}
	if p.journal, err = openJournal(c, false, plain); err != nil {
		report(stderr, "the journal cannot be used", errors.Join(err, p.close()))
		return exitSetup
	}
	if c.Several() {
		return runFan(ctx, c, p, shown, plain, stderr)
	}
	line := p.pipeline(c, log)
	if err := p.journal.watch(c.Name, line); err != nil {
		report(stderr, "the journal cannot be used", errors.Join(err, p.close()))
		return exitSetup
	}
	carry := line.Run
	if c.Monitor.On() {
		page, err := p.monitor(c, map[string]*dfs.Pipeline{c.Name: line}, shown, plain, stderr)
		if err != nil {
			report(stderr, "the monitor cannot be used", errors.Join(err, p.close()))
			return exitSetup
		}
		defer page.stop()
		log.Info("the monitor shows this pipeline", "at", page.url)
		carry = func(ctx context.Context) error { return page.run(ctx, c.Name) }
	}
	look := func() view { return p.look(line) }
	log.Info("running", "source", c.Source.Address(), "queue", c.Queue.Path, "target", c.Target.Address())

	began := look()
	watch, stopWatching := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	every := cmp.Or(c.Log.Every, 10*time.Second)
	switch {
	case live != nil:
		watching.Go(func() { live.draw(watch, c.Name, look) })
	case every > 0:
		watching.Go(func() { summarize(watch, log, every, look) })
	}
	quiet := context.AfterFunc(ctx, func() { log.Info("stopping; a second signal ends at once") })
	err = carry(ctx)
	if err == nil && ctx.Err() == nil {
		// The source has ended, so indexes that wait for the end of a copy need not.
		if err = p.target.AddIndexes(ctx); ctx.Err() != nil {
			err = nil // told to stop; they are added by the next start
		}
	}
	quiet()
	stopWatching()
	watching.Wait()
	end := look()
	log.Info("stopped", summary(began, end)...)
	p.counted(log)

	if closing := p.close(); err == nil {
		err = closing
	}
	if err != nil {
		report(stderr, "stopped", explain(c, err))
		return exitRun
	}
	return exitOK
}

// counted logs what the parts have counted.
func (p *parts) counted(log *slog.Logger) {
	if p.units != nil {
		for _, u := range p.units.Stats() {
			log.Info("rows of a unit", "unit", u.Name, "in", u.In, "out", u.Out)
		}
	}
	if p.target == nil {
		return // it never was there
	}
	counted := p.target.Stats()
	for _, c := range counted.Conflicts {
		log.Warn("conflicts", "table", c.Table, "policy", c.Policy, "rows", c.Count)
	}
	for _, c := range counted.DDL {
		level := slog.LevelInfo
		if c.Outcome != sink.Applied {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "statements that alter tables", "kind", c.Kind, "outcome", c.Outcome, "count", c.Count)
	}
}

// look takes a view of the running pipeline.
func (p *parts) look(line *dfs.Pipeline) view {
	v := view{at: time.Now(), stats: line.Stats()}
	if p.queue != nil {
		s := p.queue.Stats()
		v.stored, v.waiting = s.Bytes, s.Waiting
	}
	return v
}

// explain adds what the binary knows about an error and the library cannot: how
// its own file is mended.
func explain(c *config.Config, err error) error {
	var mismatch *queue.MismatchError
	switch {
	case errors.As(err, &mismatch):
		return fmt.Errorf("%w (queue.path is set at %s, and name is %q)", err, c.Where("queue.path"), c.Name)
	case errors.Is(err, dfs.ErrConflict):
		return fmt.Errorf("%w; is another process running with the name %q (%s)?", err, c.Name, c.Where("name"))
	}
	return err
}

// newLogger returns the logger that the file and the command line ask for.
func newLogger(w io.Writer, format, level string) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}
	o := &slog.HandlerOptions{Level: levels[level]} // zero is info
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
