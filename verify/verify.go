package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A Verifier compares a source and a target. The zero value of each field but
// Source and Target is its default. Nothing may be changed while it runs, and it
// runs once at a time.
type Verifier struct {
	// Source and Target are data source names of github.com/go-sql-driver/mysql,
	// "user:password@tcp(host:3306)/". The source's account needs SELECT on the
	// tables, and REPLICATION CLIENT to tell where the log is; on MySQL before
	// 8.0.22 also LOCK TABLES, to lock rows. The target's needs SELECT on the
	// tables and on the checkpoint; for Repair also INSERT, UPDATE and DELETE on
	// the tables, and UPDATE on the checkpoint, which is locked and not changed.
	Source, Target string

	// TargetRows reads a target that is PostgreSQL, SQLite or another that is no MySQL
	// server, in place of Target, which is then empty: see sink.ReadPostgres and
	// sink.ReadSQLite. Its Name and Schema take the place of those below. Rows are then
	// read on both sides, and compared with what the sink would have stored of them, which
	// this package makes no opinion of its own about. It is the caller's to close. Default: nil.
	TargetRows TargetRows

	// Tables are those of the source to compare, as package cdc's Options have
	// them: "shop.*", "!shop.tmp_*". Default: all.
	Tables []string

	// Routes say which table of the target has the rows of which of the source, as
	// package sink's MySQLOptions have them.
	Routes []Route

	// Stages are what the pipeline does to rows on their way, such as units of
	// package dpu: not the same values, as a Stage is used by one goroutine, but
	// made alike. What they make of a row must depend on that row alone, or on what
	// the pipeline keeps for ever, such as its map of new ids. Of a row that the
	// pipeline has not carried yet, of which a stage then cannot tell, it returns an
	// error that has a method NotCarried() bool which reports true; the row is looked
	// at again once the pipeline has passed it. Default: none, and then the servers compute checksums instead of sending rows.
	Stages []dfs.Stage

	// Shapes returns what the stages make of a table of the source, which has
	// name, columns and key as package cdc shows them: for units of package dpu
	// what their method Targets says. By it tables are known that stages leave as
	// they are, which servers can compare, and rows that only the target has are
	// traced back to the source. Default: nil, and then all tables go through the
	// stages, and surplus rows are not looked for.
	Shapes func(*dfs.Table) ([]Shape, error)

	// Keeps names tables of the target, by pattern, whose surplus rows are none:
	// what soft deletes have left, or what the target has of its own.
	Keeps []string

	// Name and Schema are those of the pipeline's checkpoint, as in package sink's
	// MySQLOptions. Default: "dfs" and "dfs".
	Name, Schema string

	// Passed waits until the target has all that the source had committed when
	// Passed was called, and is called instead of looking at the checkpoint. It is
	// for pipelines whose checkpoint is not that of package sink. Repair refuses
	// it. Default: nil.
	Passed func(ctx context.Context) error

	// Settle is for a target without a checkpoint: how long it takes at most until
	// the target has what the source has committed. All findings rest on that
	// being true. Default: 0, which means that there is a checkpoint.
	Settle time.Duration

	// Patience is how long a suspect is looked at again, before it is said that
	// nothing could be told of it, as when the pipeline stands. Default: 1 minute.
	Patience time.Duration

	// LockTime is how long rows that go on to differ may stay locked on the source
	// while the pipeline passes, for which it needs a moment more than its lag;
	// writers of these rows wait as long. Negative: nothing is ever locked, and rows
	// are only settled while the whole source rests. Default: 1 second.
	LockTime time.Duration

	// ChunkTime is about how long one statement of either side may take.
	// Default: 300 milliseconds.
	ChunkTime time.Duration

	// MaxRows is how many rows of the source may be read in a second. Default: no
	// limit.
	MaxRows int

	// Most is how many findings of a table are reported, after which nothing more
	// of it is looked at. Default: 1000.
	Most int

	// Repair mends each finding in a transaction of the target: what is missing is
	// inserted, what is too much is deleted, what differs is updated. Of tables without
	// a key it inserts and deletes as many equal rows as are missing or too many, all in
	// one transaction and while the source's table is locked; so that is done only to
	// those of which a scan takes less than half of LockTime. TargetRows must be a
	// TargetMender for that: see sink.MendPostgres and sink.MendSQLite.
	Repair bool

	// DryRun finds out what Repair would do, which must be set too, and does nothing:
	// each finding says which statement would mend it. Default: false.
	DryRun bool

	// Ignore names columns of the target that are not compared, by patterns of
	// their tables and a column, such as "shop.orders.seen" or "*.*.updated": what
	// triggers set there, or what a stage looked up, which may be another value now.
	Ignore []string

	// Hide names columns of the target by patterns of their tables and a column,
	// "shop.users.password" or "*.*.password", whose values must be in no report.
	Hide []string

	// Pause is how long Watch waits between two rounds. Default: 1 minute.
	Pause time.Duration

	// Logger gets each finding and what has been mended. Default: slog.Default().
	Logger *slog.Logger

	mu    sync.Mutex
	stats map[string]*TableStats

	// For tests that must notice: broken names a rule to drop, and between is called
	// between a look at the source and the wait for the pipeline.
	broken  string
	between func(what string)
	few     uint64 // see inMemory
}

// A Route says that rows of the tables that From matches are in To on the
// target. A * that stands alone in To keeps the source's own name.
type Route struct{ From, To string }

// checked are the options of a run, once they were found to be right.
type checked struct {
	*Verifier
	tables match.List
	routes []match.Route
	keeps  []match.Pattern
	hide   []columns
	ignore []columns
	log    *slog.Logger
}

// check returns the options with their defaults, and all faults joined.
func (v *Verifier) check() (*checked, error) {
	c := &checked{Verifier: v, log: cmp.Or(v.Logger, slog.Default())}
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, side := range [2]struct{ name, dsn string }{{"Source", v.Source}, {"Target", v.Target}} {
		if side.dsn == "" && (side.name == "Source" || v.TargetRows == nil) {
			fault("%s is empty: write user:password@tcp(host:3306)/", side.name)
		}
	}
	var err error
	if c.tables, err = match.ParseList(v.Tables); err != nil {
		fault("Tables: %w", err)
	}
	for _, r := range v.Routes {
		parsed, err := match.ParseRoute(r.From, r.To)
		if err != nil {
			errs = append(errs, err)
		}
		c.routes = append(c.routes, parsed)
	}
	for _, text := range v.Keeps {
		p, err := match.Parse(text)
		if err != nil {
			fault("Keeps: %w", err)
		}
		c.keeps = append(c.keeps, p)
	}
	for _, list := range []struct {
		name  string
		texts []string
		to    *[]columns
	}{{"Hide", v.Hide, &c.hide}, {"Ignore", v.Ignore, &c.ignore}} {
		for _, text := range list.texts {
			p, err := parseColumns(text)
			if err != nil {
				fault("%s: %w", list.name, err)
			}
			*list.to = append(*list.to, p)
		}
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Settle", v.Settle}, {"Patience", v.Patience}, {"ChunkTime", v.ChunkTime}, {"Pause", v.Pause}} {
		if d.d < 0 {
			fault("%s is negative: leave it zero for its default", d.name)
		}
	}
	if v.Shapes != nil && len(v.Stages) == 0 {
		fault("Shapes is set without Stages: set both, or none")
	}
	if v.MaxRows < 0 || v.Most < 0 {
		fault("MaxRows and Most must not be negative: leave them zero for their defaults")
	}
	if v.TargetRows != nil && v.Target != "" {
		fault("Target and TargetRows are both set: leave Target empty")
	}
	if v.Passed != nil && v.Settle > 0 {
		fault("Passed and Settle are both set: use one of the two, or none to look at the checkpoint")
	}
	if _, mends := v.TargetRows.(TargetMender); v.Repair && !v.DryRun && v.TargetRows != nil && !mends {
		fault("Repair needs TargetRows that can be changed: open them by sink.MendPostgres or sink.MendSQLite, or set DryRun")
	}
	if v.DryRun && !v.Repair {
		fault("DryRun says what Repair would do: set Repair too")
	}
	if v.Repair && (v.Passed != nil || v.Settle > 0 || v.LockTime < 0) {
		fault("Repair needs the pipeline's checkpoint and locks on the source: leave out Passed and Settle, and LockTime unless it is positive")
	}
	return c, errors.Join(errs...)
}

func (c *checked) seam(what string) {
	if c.between != nil {
		c.between(what)
	}
}

func (c *checked) patience() time.Duration  { return cmp.Or(c.Patience, time.Minute) }
func (c *checked) lockTime() time.Duration  { return cmp.Or(c.LockTime, time.Second) }
func (c *checked) chunkTime() time.Duration { return cmp.Or(c.ChunkTime, 300*time.Millisecond) }
func (c *checked) most() int                { return cmp.Or(c.Most, 1000) }

// A run is one round over all tables.
type run struct {
	*checked
	source, target *side
	pace           pace
}

// open connects to both sides, and looks whether what settles suspects is there.
func (c *checked) open(ctx context.Context) (*run, error) {
	r := &run{checked: c, pace: pace{rows: c.MaxRows}}
	var errs []error
	var err error
	if r.source, err = openSide(ctx, "source", c.Source); err != nil {
		errs = append(errs, err)
	}
	if c.TargetRows == nil {
		if r.target, err = openSide(ctx, "target", c.Target); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 && c.Passed == nil && c.Settle == 0 {
		if _, err := r.checkpoint(ctx); err != nil {
			errs = append(errs, err)
		}
		if _, err := r.place(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		r.close()
		return nil, errors.Join(errs...)
	}
	return r, nil
}

func (r *run) close() {
	for _, s := range [2]*side{r.source, r.target} {
		if s != nil {
			s.db.Close()
		}
	}
}

// Run compares all tables once. The error tells of what keeps it from beginning,
// all faults at once, or is that of ctx. What keeps a single table from being
// compared is in the report, and so is what was found until ctx ended.
func (v *Verifier) Run(ctx context.Context) (*Report, error) {
	c, err := v.check()
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	r, err := c.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	defer r.close()
	report := &Report{Began: time.Now()}
	jobs, err := r.jobs(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	for _, j := range jobs {
		for _, t := range r.do(ctx, j) {
			report.Tables = append(report.Tables, *t)
		}
		if ctx.Err() != nil {
			break
		}
	}
	report.Ended = time.Now()
	return report, ctx.Err()
}

// Watch compares all tables again and again, with Pause between the rounds,
// until ctx ends. The result of each table goes to each, which may be nil, when
// it is known. A server that cannot be reached is tried again in the next round,
// and is logged. The error tells what is wrong with the options; for the end of
// ctx it is nil.
func (v *Verifier) Watch(ctx context.Context, each func(TableReport)) error {
	c, err := v.check()
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	for first := true; ; first = false {
		err := c.round(ctx, each)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return fmt.Errorf("verify: %w", err)
		case err != nil:
			c.log.Warn("a round of verification could not be done", "err", err)
		}
		if !wait(ctx, cmp.Or(c.Pause, time.Minute)) {
			return nil
		}
	}
}

func (c *checked) round(ctx context.Context, each func(TableReport)) error {
	r, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	jobs, err := r.jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		for _, t := range r.do(ctx, j) {
			if ctx.Err() == nil && each != nil {
				each(*t)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// wait returns false if ctx ends before d has passed.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
