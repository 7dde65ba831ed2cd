package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// A target is a sink that the program can look at before it runs.
type target interface {
	dfs.Sink
	io.Closer
	Stats() sink.Stats
	Fresh(ctx context.Context) (bool, error)
	Stored(ctx context.Context) (dfs.Checkpoint, error)
	Missing(ctx context.Context, tables []*dfs.Table) ([]*dfs.Table, error)
	MissingColumns(t *dfs.Table) []string
	Notes(ctx context.Context, t *dfs.Table) ([]string, error)
	CheckTables(ctx context.Context, tables []*dfs.Table) error
	CheckEmpty(ctx context.Context, tables []*dfs.Table) error
	CheckForeignKeys(ctx context.Context, keys []sink.ForeignKey) (notes []string, err error)
	CreateTables(ctx context.Context, tables []sink.Definition, later bool) (made, notes []string, err error)
	AddIndexes(ctx context.Context) error
	DDLPolicies(schema, name string) map[string]sink.Policy
}

// openSink opens the target that the file names.
func openSink(ctx context.Context, c *config.Config, log *slog.Logger) (target, error) {
	return openSinkWith(ctx, c, targetOptions(c, log))
}

// openSinkWith is openSink with what MySQLOptions says, whatever the target.
func openSinkWith(ctx context.Context, c *config.Config, o *sink.MySQLOptions) (target, error) {
	// A nil pointer of a type is no nil target.
	switch c.Target.Kind() {
	case config.ArchiveTarget:
		a, err := openToWrite(ctx, &c.Target.Archive, o.Logger)
		if err != nil {
			return nil, err
		}
		return &archived{a}, nil
	case config.StreamTarget:
		m, err := openMessages(ctx, c)
		if err != nil {
			return nil, err
		}
		return m, nil
	case config.PostgresTarget:
		p, err := sink.OpenPostgres(ctx, c.TargetDSN(), postgresOptions(c, o))
		if err != nil {
			return nil, err
		}
		return p, nil
	case config.SQLiteTarget:
		s, err := sink.OpenSQLite(ctx, c.Target.File, sqliteOptions(c, o))
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	m, err := sink.OpenMySQL(ctx, c.TargetDSN(), o)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func unfitOf(c *config.Config) sink.Unfit {
	u := &c.Target.Unfit
	return sink.Unfit{ZeroDates: sink.UnfitPolicy(u.ZeroDates), NULs: sink.UnfitPolicy(u.NULs),
		InvalidText: sink.UnfitPolicy(u.InvalidText), Times: sink.UnfitPolicy(u.Times)}
}

// openRows opens a target that is PostgreSQL or SQLite to read its rows.
func openRows(ctx context.Context, c *config.Config) (*sink.RowReader, error) {
	if c.Target.Kind() == config.SQLiteTarget {
		return sink.ReadSQLite(ctx, c.Target.File, &sink.SQLiteOptions{Name: c.Name, Unfit: unfitOf(c)})
	}
	return sink.ReadPostgres(ctx, c.TargetDSN(), &sink.PostgresOptions{Name: c.Name, Schema: c.Target.Schema, Unfit: unfitOf(c)})
}

// openMender is openRows for rows that are to be mended.
func openMender(ctx context.Context, c *config.Config) (*sink.RowMender, error) {
	if c.Target.Kind() == config.SQLiteTarget {
		return sink.MendSQLite(ctx, c.Target.File, &sink.SQLiteOptions{Name: c.Name, Unfit: unfitOf(c)})
	}
	return sink.MendPostgres(ctx, c.TargetDSN(), &sink.PostgresOptions{Name: c.Name, Schema: c.Target.Schema, Unfit: unfitOf(c)})
}

// postgresOptions and sqliteOptions are what MySQLOptions says, for another target.
func postgresOptions(c *config.Config, o *sink.MySQLOptions) *sink.PostgresOptions {
	return &sink.PostgresOptions{
		Name: o.Name, Schema: o.Schema, Routes: o.Routes, Conflicts: o.Conflicts, DDL: o.DDL, DDLRules: o.DDLRules, DDLDone: o.DDLDone,
		Tables: o.Tables, Followed: o.Followed, Unfit: unfitOf(c), MaxRows: o.MaxRows, MaxBytes: o.MaxBytes, Replace: o.Replace, Append: o.Append, Logger: o.Logger,
	}
}

func sqliteOptions(c *config.Config, o *sink.MySQLOptions) *sink.SQLiteOptions {
	return &sink.SQLiteOptions{
		Name: o.Name, Routes: o.Routes, Conflicts: o.Conflicts, DDL: o.DDL, DDLRules: o.DDLRules, DDLDone: o.DDLDone,
		Tables: o.Tables, Followed: o.Followed, Unfit: unfitOf(c), Replace: o.Replace, Append: o.Append, Logger: o.Logger,
	}
}

// needForeignKeys tells a target which foreign keys the tables that it creates are to
// have: those whose work the source's log does not tell.
func (p *parts) needForeignKeys(ctx context.Context) error {
	t, ok := p.target.(interface{ NeedForeignKeys(keys []sink.ForeignKey) })
	if !ok || p.units != nil {
		return nil
	}
	keys, err := p.source.SilentForeignKeys(ctx)
	t.NeedForeignKeys(keys)
	return err
}

// readOther reads where a target stands that is not MySQL.
func readOther(ctx context.Context, c *config.Config, t *targetState) {
	switch c.Target.Kind() {
	case config.StreamTarget:
		readMessages(ctx, c, t)
		return
	case config.ArchiveTarget:
		readArchived(ctx, c, t)
		return
	}
	var s sink.Status
	var err error
	if c.Target.Kind() == config.SQLiteTarget {
		if _, e := os.Stat(c.Target.File); errors.Is(e, fs.ErrNotExist) {
			t.Product = "SQLite"
			return // not started yet
		}
		s, err = sink.SQLiteStatus(ctx, c.Target.File, c.Name)
	} else {
		s, err = sink.PostgresStatus(ctx, c.TargetDSN(), c.Target.Schema, c.Name)
	}
	t.Product = s.Product
	if err != nil {
		t.Error = err.Error()
		return
	}
	t.Seq, t.Position, t.ID = s.Seq, string(s.Pos), s.ID
	if !s.Committed.IsZero() {
		t.Committed = &s.Committed
	}
	if !s.Updated.IsZero() {
		t.Updated = &s.Updated
	}
	if t.Seq > 0 {
		t.Age = ago(max(time.Since(s.Updated), 0))
	}
}
