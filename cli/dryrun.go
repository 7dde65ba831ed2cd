package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// planned is a line of what "basic run -dry-run -json" prints.
type planned struct {
	Seq        uint64     `json:"seq"`
	ID         string     `json:"id,omitempty"`
	Committed  *time.Time `json:"committed,omitempty"`
	More       bool       `json:"more,omitempty"` // the transaction goes on in the next line
	Rows       int        `json:"rows"`
	Statements []string   `json:"statements"`
	Stops      []string   `json:"stops,omitempty"`
	Notes      []string   `json:"notes,omitempty"`
}

// dryRun prints what run would do from the target's checkpoint on, and does none
// of it: it writes neither to the target nor to the queue. It reads the source's
// log by itself, so it may be used while run is at work, and ends with ctx, or
// when f says.
func dryRun(ctx context.Context, c *config.Config, f flags, stdout, stderr io.Writer) int {
	c, err := chosen(c, f)
	if err != nil {
		report(stderr, "dry run", err)
		return exitUsage
	}
	if kind := c.Target.Kind(); kind != config.MySQLTarget {
		report(stderr, "dry run", fmt.Errorf("it shows statements for MySQL and MariaDB, and the target (%s) is %s", c.Target.String(), kind))
		return exitSetup
	}
	log := newLogger(stderr, cmp.Or(f.format, c.Log.Format), c.Log.Level).With("pipeline", c.Name)
	var source *cdc.Source
	var known *ids
	var units *dpu.Units
	var tables []*dfs.Table
	var errs []error
	finds := databases{c: c}
	fault := func(part string, err error) {
		if err != nil {
			errs = append(errs, &partError{part, err})
		}
	}
	var shown, rows, stops int
	show := func(p sink.Planned) error {
		if !p.More {
			shown++
		}
		rows, stops = rows+p.Rows, stops+len(p.Stops)
		if !f.json {
			_, err := fmt.Fprintln(stdout, p)
			return err
		}
		line := planned{Seq: p.Seq, ID: p.ID, More: p.More, Rows: p.Rows, Statements: p.Statements, Stops: p.Stops, Notes: p.Notes}
		if line.Statements == nil {
			line.Statements = []string{}
		}
		if !p.Committed.IsZero() {
			line.Committed = &p.Committed
		}
		return json.NewEncoder(stdout).Encode(line)
	}

	target, err := sink.OpenDryRun(ctx, c.TargetDSN(), targetOptions(c, log), show)
	fault(targetName(c), err)
	if target != nil {
		defer target.Close()
	}

	// Another connection with the number of the process that runs would end it.
	o := sourceOptions(c, log)
	o.ServerID = 0
	o.SemiSync = false // nothing is stored
	source, err = openSource(ctx, c, o)
	fault(sourceName(c), err)
	if source != nil {
		defer source.Close()
		if target != nil {
			fault(sourceName(c), resumeAt(ctx, source, target))
		}
		tables, err = source.Tables(ctx)
		fault(sourceName(c), err)
		if known, err = openIDs(ctx, c, source, tables, tryIDs, log); err == nil {
			tables, err = known.retyped(tables)
		}
		fault("the map of ids", err)
		defer known.close()
		defer finds.Close()
		units, err = openUnits(ctx, c, &finds, tables, log)
		fault("the units", err)
	}
	if ctx.Err() != nil {
		return exitOK
	}
	if len(errs) > 0 {
		reportParts(stderr, errors.Join(errs...))
		return exitSetup
	}

	line := &dfs.Pipeline{
		Source: &limited{Source: source, left: f.count}, Sink: target,
		MaxBatch: c.Pipeline.MaxBatch, ReadAhead: int(c.Pipeline.ReadAhead), StopTimeout: c.Pipeline.StopTimeout, RetryWait: c.Pipeline.RetryWait, Logger: log,
	}
	line.Stages = known.stages()
	if units != nil {
		line.Stages = append(line.Stages, units)
	}
	if f.period > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.period)
		defer cancel()
	}
	err = line.Run(ctx)
	if err != nil {
		report(stderr, "stopped", explain(c, err))
	}
	fmt.Fprintf(stderr, "basic: dry run: %s with %s shown, nothing written\n", plural(uint64(shown), "transaction"), plural(uint64(rows), "row"))
	if stops > 0 {
		fmt.Fprintf(stderr, "basic: dry run: a run would stop %s\n", plural(uint64(stops), "time"))
	}
	if err != nil || stops > 0 {
		return exitRun
	}
	return exitOK
}

// limited is a source that ends after so many transactions that hold anything; 0
// is no limit.
type limited struct {
	*cdc.Source
	left int
}

// Open opens the log: see dfs.Source.
func (l *limited) Open(ctx context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	s, err := l.Source.Open(ctx, from)
	if err != nil || l.left == 0 {
		return s, err
	}
	return &limitedStream{Stream: s, left: l.left}, nil
}

type limitedStream struct {
	dfs.Stream
	left int
	some bool // the transaction at hand has had a part that is not empty
}

// Next returns io.EOF behind the last transaction: see dfs.Stream.
func (s *limitedStream) Next(ctx context.Context, batch []*dfs.Transaction) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.Stream.Next(ctx, batch)
	for i, tx := range batch[:n] {
		s.some = s.some || len(tx.Encoded)+len(tx.Changes) > 0
		if tx.More || !s.some {
			continue
		}
		s.some = false
		if s.left--; s.left == 0 {
			return i + 1, nil
		}
	}
	return n, err
}
