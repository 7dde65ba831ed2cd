package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

// sourceOptions says in Go what the file says of the source.
func sourceOptions(c *config.Config, log *slog.Logger) *cdc.Options {
	return &cdc.Options{
		Snapshot:         snapshotOptions(&c.Source.Snapshot),
		Tables:           c.Source.Tables,
		Start:            c.Source.Start,
		ServerID:         c.Source.ServerID,
		Heartbeat:        c.Source.Heartbeat,
		ReadTimeout:      c.Source.ReadTimeout,
		MaxPart:          int(c.Source.MaxPart),
		Buffer:           int(c.Source.Buffer),
		Compress:         c.Source.Compress,
		SemiSync:         c.Source.SemiSync,
		TrustColumnNames: c.Source.TrustColumnNames,
		AcceptErrant:     c.Source.AcceptErrant,
		Follow:           c.Source.Follow,
		Logger:           log,
	}
}

// snapshotOptions says in Go what the file says of the rows to copy.
func snapshotOptions(s *config.Snapshot) *cdc.Snapshot {
	if !s.On() {
		return nil
	}
	o := &cdc.Snapshot{
		Tables:            s.Tables,
		Readers:           s.Readers,
		ChunkTime:         s.ChunkTime,
		ChunkRows:         s.ChunkRows,
		MaxRows:           s.MaxRows,
		MaxBytes:          int(s.MaxBytes),
		MaxThreadsRunning: s.MaxThreadsRunning,
		MaxReplicaLag:     s.MaxReplicaLag,
		Only:              s.Only || s.Mode == "only",
	}
	for _, dsn := range s.Replicas {
		o.Replicas = append(o.Replicas, string(dsn))
	}
	for _, c := range s.Where {
		if o.Where == nil {
			o.Where = make(map[string]string)
		}
		o.Where[c.Table] = c.Where
	}
	return o
}

// openSource opens the server or the files that changes come from.
func openSource(ctx context.Context, c *config.Config, o *cdc.Options) (*cdc.Source, error) {
	if c.Source.SchemaFile != "" {
		b, err := os.ReadFile(c.Source.SchemaFile)
		if err != nil {
			return nil, fmt.Errorf("%s: source.schema_file: %w; write one by mysqldump --no-data --databases, or leave the key out",
				c.Where("source.schema_file"), err)
		}
		o.Schema = string(b)
	}
	if len(c.Source.Files) > 0 {
		return cdc.OpenFiles(ctx, c.Source.Files, o)
	}
	return cdc.Open(ctx, c.SourceDSN(), o)
}

func queueOptions(c *config.Config, log *slog.Logger) *queue.Options {
	return &queue.Options{
		MaxBytes:       int64(c.Queue.MaxBytes),
		Keep:           int64(c.Queue.Keep),
		KeepFor:        c.Queue.KeepFor,
		Readers:        c.Readers(),
		WarnBytes:      int64(c.Queue.Warn),
		MaxReaderBytes: int64(c.Queue.MaxTarget),
		Logger:         log,
	}
}

func targetOptions(c *config.Config, log *slog.Logger) *sink.MySQLOptions {
	o := &sink.MySQLOptions{
		Name:     c.Name,
		Schema:   c.Target.Schema,
		DDLDone:  c.Target.DDLDone,
		Tables:   followed(c, c.Source.Tables),
		MaxRows:  c.Target.MaxRows,
		MaxBytes: int(c.Target.MaxBytes),
		SQLOnly:  c.Target.SQLOnly,
		Append:   c.Target.Existing == "append",
		Replace:  c.Target.Existing == "replace",
		Loaders:  c.Target.Loaders,
		Writers:  c.Target.Writers,
		Logger:   log,
	}
	if c.Reader == "" { // else the file says what is for this target
		o.Followed = func(state string) ([]string, error) {
			tables, err := cdc.Followed(state, c.Source.Tables)
			return followed(c, tables), err
		}
	}
	for _, r := range c.Target.Routes {
		o.Routes = append(o.Routes, sink.Route(r))
	}
	for _, p := range c.Target.Conflicts {
		o.Conflicts = append(o.Conflicts, sink.ConflictRule{Tables: p.Tables, Policy: sink.Policy(p.Policy)})
	}
	for _, r := range c.Target.DDL {
		o.DDLRules = append(o.DDLRules, sink.DDLRule{Tables: r.Tables, Kinds: r.Kinds, Policy: sink.Policy(r.Policy)})
	}
	return o
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// followed returns the tables of the source that are followed, as statements
// name them when they reach the target: units may have given them other names.
func followed(c *config.Config, tables []string) (list []string) {
	var made []string
	for _, u := range c.Units {
		if u.Into != "" {
			made = append(made, placeholder.ReplaceAllString(u.Into, "*"))
		}
	}
	some := false
	for _, text := range tables {
		p, out, err := match.ParseFollowed(text)
		if err == nil && out && slices.ContainsFunc(made, func(into string) bool {
			to, err := match.Parse(into)
			return err == nil && p.Match(to.Schema, to.Table)
		}) {
			continue // what it leaves out on the source does not come from there
		}
		some = some || !out
		list = append(list, text)
	}
	if some { // else all are followed
		list = append(list, made...)
	}
	return list
}

// parts are what a pipeline is made of.
type parts struct {
	source *cdc.Source
	ids    *ids         // nil if the file has none
	units  *dpu.Units   // nil if the file has none
	finds  databases    // what units look up in
	queue  *queue.Queue // nil if the file has none
	target target

	journal *journal // nil if the file has none
	only    *only    // nil unless it is one of several targets
	late    *late    // what stands for it if it was not there at the start; else nil

	letters *queue.Letters // nil if the file has none

	// lines are the parts of each of several targets, which share source and queue
	// with these; else these themselves.
	lines []*parts

	archive *sink.Archive // the source or the target, if that is one; else nil
}

// A partError says which part of the set-up err is about.
type partError struct {
	part string // such as "the source (db1:3306 as user dfs)"
	err  error
}

func (e *partError) Error() string { return e.part + ": " + e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

func sourceName(c *config.Config) string { return "the source (" + c.Source.String() + ")" }
func targetName(c *config.Config) string { return "the target (" + c.Target.String() + ")" }
func queueName(c *config.Config) string  { return "the queue" }

// open opens all parts and looks at the tables. It returns the faults of all of
// them, each a *partError.
func open(ctx context.Context, c *config.Config, log *slog.Logger) (*parts, error) {
	var p parts
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
	for _, l := range c.Lines() {
		t, log := &p, log
		if c.Several() {
			t, log = &parts{source: p.source, queue: p.queue}, log.With("target", l.Reader)
		}
		p.lines = append(p.lines, t)
		t.openTarget(ctx, l, log, fault)
	}
	// Once all can be used, as a later start might find tables that are altered.
	for i, l := range c.Lines() {
		if t := p.lines[i]; len(errs) == 0 && t.archive != nil {
			fault(targetName(l), t.firstBaseline(ctx, c))
		}
	}
	if len(errs) > 0 {
		p.close()
		return nil, errors.Join(errs...)
	}
	return &p, nil
}

// openTarget opens the target and what rows pass on the way to it.
func (p *parts) openTarget(ctx context.Context, c *config.Config, log *slog.Logger, fault func(part string, err error)) {
	var err error
	if p.target, err = openSink(ctx, c, log); err != nil {
		p.target, err = nil, p.wait(ctx, c, log, err)
	}
	fault(targetName(c), err)
	if a, ok := p.target.(*archived); ok {
		p.archive = a.Archive
	}
	if c.Letters.Path != "" {
		p.letters, err = openLetters(c, false)
		fault("the dead letters", err)
	}
	if p.source != nil && p.target != nil {
		change, err := p.resume(ctx)
		fault(sourceName(c), err)
		p.openTables(ctx, c, log, change, fault)
	}
}

// openTables looks at the tables, and opens what their rows pass. Change says which are
// new in the file.
func (p *parts) openTables(ctx context.Context, c *config.Config, log *slog.Logger, change *cdc.FollowChange, fault func(part string, err error)) {
	tables, err := p.source.Tables(ctx)
	fault(sourceName(c), err)
	p.only, tables, err = onlyTables(c, tables)
	fault(targetName(c), err)
	if p.ids, err = openIDs(ctx, c, p.source, tables, giveIDs, log); err == nil {
		tables, err = p.ids.retyped(tables)
	}
	fault("the map of ids", err)
	p.finds.c = c
	if p.units, err = openUnits(ctx, c, &p.finds, tables, log); err != nil {
		fault("the units", err)
	} else {
		made, err := p.targets(tables)
		fault("the units", err)
		added, err2 := p.targets(tablesNamed(tables, change.New))
		fault("the units", err2)
		if err == nil && err2 == nil {
			fault(targetName(c), p.createTables(ctx, c, made, added, log))
		}
		fault(targetName(c), p.target.CheckTables(ctx, made))
		fault(targetName(c), p.existing(ctx, c, made, added))
		captured := false
		if p.queue != nil {
			at, err := p.queue.Checkpoint(ctx)
			fault(queueName(c), err)
			captured = at.Pos != ""
		}
		fault(targetName(c), p.begins(ctx, c, captured, tables, log))
		notes, err := p.foreignKeys(ctx)
		fault("the foreign keys", err)
		for _, n := range notes {
			log.Warn("rows may stay on the target that the source deletes", "why", n)
		}
	}
}

// openUnits makes the units of the file, for the tables of the source; nil if it
// has none. Its faults name their lines. The caller closes what lookups need.
func openUnits(ctx context.Context, c *config.Config, finds *databases, tables []*dfs.Table, log *slog.Logger) (*dpu.Units, error) {
	if len(c.Units) == 0 {
		return nil, nil
	}
	list := c.DPU()
	var errs []error
	for i := range list {
		var err error
		list[i].Lookups, err = finds.lookups(ctx, i)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	units, err := dpu.New(list, &dpu.Options{
		Tables: tables, OnlyUnits: c.OnlyUnits, HashKey: []byte(c.HashKey), DDL: dpu.PolicyError, DDLDone: c.Target.DDLDone, Logger: log,
	})
	faults := config.UnitFaults(err)
	if err == nil || len(faults) == 0 {
		return units, err
	}
	for _, f := range faults {
		path := config.UnitPath(f)
		if f.Table != "" {
			errs = append(errs, fmt.Errorf("%s: %s, of %s: %s", c.Where(path), path, f.Table, f.Text))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s: %s", c.Where(path), path, f.Text))
		}
	}
	return nil, errors.Join(errs...)
}

// targets returns the tables that rows of the source's arrive as.
func (p *parts) targets(tables []*dfs.Table) ([]*dfs.Table, error) {
	if p.units == nil {
		return tables, nil
	}
	var list []*dfs.Table
	for _, t := range tables {
		made, err := p.units.Targets(t)
		if err != nil {
			return nil, err
		}
		for _, m := range made {
			list = append(list, m.Tables()...)
		}
	}
	return list, nil
}

// existing reports the tables of the target that have rows already, where that
// keeps those of the source from being copied: of all tables at the first start, and
// later of those that are new in the file.
func (p *parts) existing(ctx context.Context, c *config.Config, arrive, added []*dfs.Table) error {
	if !c.Source.Snapshot.On() || c.Target.Existing == "append" || c.Target.Existing == "replace" {
		return nil
	}
	fresh, err := p.target.Fresh(ctx)
	if err != nil {
		return err
	}
	if !fresh {
		arrive = added
	}
	return p.target.CheckEmpty(ctx, arrive)
}

// createTables creates what the target lacks of the tables that rows arrive as, if
// the file asks for it and the pipeline is new. A later start does so with those that
// are new in the file, and leaves the others to the statements of the source's log.
func (p *parts) createTables(ctx context.Context, c *config.Config, tables, added []*dfs.Table, log *slog.Logger) error {
	if !c.Target.CreateTables {
		return nil
	}
	fresh, err := p.target.Fresh(ctx)
	if err != nil {
		return err
	}
	if !fresh {
		tables = added
	}
	if len(tables) == 0 {
		return nil
	}
	defined, err := p.source.Definitions(ctx)
	if err != nil {
		return err
	}
	return p.create(ctx, tables, defined, c.Source.Snapshot.On(), log)
}

// create creates those of the tables that the target lacks. If later is set, indexes of
// large ones wait until their rows have come.
func (p *parts) create(ctx context.Context, tables []*dfs.Table, defined []cdc.Definition, later bool, log *slog.Logger) error {
	list, err := p.wanted(tables, defined)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(d sink.Definition) bool {
		return !slices.ContainsFunc(tables, func(t *dfs.Table) bool { return t.String() == d.Table.String() })
	})
	if err := p.needForeignKeys(ctx); err != nil {
		return err
	}
	made, notes, err := p.target.CreateTables(ctx, list, later)
	if len(made) > 0 {
		log.Info("created tables on the target", "tables", made)
	}
	for _, n := range notes {
		log.Warn("a table was not created as on the source", "how", n)
	}
	return err
}

// wanted returns the tables that are to be on the target, each once: parts of rows
// come together in one. What has the columns and the key of one table of the source
// is defined as that is, also under another name; what a unit makes otherwise is known
// by its columns and its key.
func (p *parts) wanted(arrive []*dfs.Table, defined []cdc.Definition) (list []sink.Definition, err error) {
	alike := func(d cdc.Definition, t *dfs.Table) bool {
		return slices.Equal(d.Table.Key, t.Key) && slices.EqualFunc(d.Table.Columns, t.Columns, sameColumn)
	}
	if p.units == nil {
		for _, t := range arrive {
			d := sink.Definition{Table: t}
			if i := slices.IndexFunc(defined, func(d cdc.Definition) bool {
				return d.Table.Schema == t.Schema && d.Table.Name == t.Name && alike(d, t)
			}); i >= 0 {
				d = defined[i]
			}
			list = append(list, d)
		}
		return list, nil
	}
	at := make(map[string]int)
	for _, d := range defined {
		made, err := p.units.Targets(d.Table)
		if err != nil {
			return nil, err
		}
		for _, m := range made {
			for _, t := range m.Tables() {
				name := t.String()
				i, again := at[name]
				if !again {
					at[name] = len(list)
					w := sink.Definition{Table: t}
					if !m.Part && alike(d, t) {
						w.SQL, w.MariaDB, w.Bytes = d.SQL, d.MariaDB, d.Bytes
					}
					list = append(list, w)
					continue
				}
				whole := *list[i].Table
				whole.Columns = slices.Clone(whole.Columns)
				for _, c := range t.Columns {
					if whole.Column(c.Name) < 0 {
						whole.Columns = append(whole.Columns, c)
					}
				}
				list[i] = sink.Definition{Table: &whole} // a unique key of one source need not be one of several
			}
		}
	}
	return list, nil
}

func sameColumn(a, b dfs.Column) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Collation == b.Collation && a.Nullable == b.Nullable
}

// foreignKeys finds the foreign keys of the source whose work its log does not
// tell, and which the target has not. Where units make other tables of the
// source's, there can be none that does the same, and all are noted.
func (p *parts) foreignKeys(ctx context.Context) (notes []string, err error) {
	keys, err := p.source.SilentForeignKeys(ctx)
	if err != nil {
		return nil, err
	}
	if p.units == nil {
		return p.target.CheckForeignKeys(ctx, keys)
	}
	for _, k := range keys {
		notes = append(notes, fmt.Sprintf("foreign key %s of the source changes rows of %s.%s (ON DELETE %s ON UPDATE %s), "+
			"which its log does not tell, so what units make of them stays as it is", k.Name, k.Schema, k.Table, k.OnDelete, k.OnUpdate))
	}
	return notes, nil
}

// close frees what is open, target first.
func (p *parts) close() error {
	errs := []error{p.journal.close()}
	for _, l := range p.lines {
		if l != p {
			l.source, l.queue = nil, nil // they are closed once
			errs = append(errs, l.close())
		}
	}
	if p.target != nil {
		errs = append(errs, p.target.Close())
	}
	if p.letters != nil {
		errs = append(errs, p.letters.Close())
	}
	errs = append(errs, p.ids.close())
	if p.archive != nil {
		errs = append(errs, p.archive.Close())
	}
	if p.queue != nil {
		errs = append(errs, p.queue.Close())
	}
	if p.source != nil {
		errs = append(errs, p.source.Close())
	}
	errs = append(errs, p.finds.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// pipeline puts the parts together.
func (p *parts) pipeline(c *config.Config, log *slog.Logger) *dfs.Pipeline {
	if c.Reader != "" {
		line := limits(c, log)
		line.Source, line.Decoder, line.Sink = p.queue.Reader(c.Reader), p.source, p.target
		if p.letters != nil {
			line.Letters = p.letters
		}
		if p.archive != nil { // which keeps what the source has encoded, as it is
			line.Sink = p.archive
			return line
		}
		if p.late != nil {
			line.Sink, line.Stages = p.late, []dfs.Stage{p.late}
			return line
		}
		line.Stages = append([]dfs.Stage{p.only}, p.stages()...)
		return line
	}
	line := limits(c, log)
	line.Source, line.Stages, line.Sink = &source{p.source, c, log}, p.stages(), p.target
	if p.letters != nil {
		line.Letters = p.letters
	}
	if p.queue != nil { // a nil *queue.Queue is not a nil dfs.Queue
		line.Queue = p.queue
	}
	return line
}

// stages returns what rows pass on their way to the target.
func (p *parts) stages() []dfs.Stage {
	list := p.ids.stages()
	if p.units != nil {
		list = append(list, p.units)
	}
	return list
}

// limits returns a pipeline without parts.
func limits(c *config.Config, log *slog.Logger) *dfs.Pipeline {
	return &dfs.Pipeline{
		MaxBatch:    c.Pipeline.MaxBatch,
		ReadAhead:   int(c.Pipeline.ReadAhead),
		StopTimeout: c.Pipeline.StopTimeout,
		RetryWait:   c.Pipeline.RetryWait,
		Logger:      log,
	}
}
