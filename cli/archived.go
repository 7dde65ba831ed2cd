package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// archived is an archive as one of several targets. It takes all tables as the source
// has them, so that there is nothing of them to look at before it runs.
type archived struct {
	*sink.Archive // nil where one that is not there yet is looked at
}

// openToWrite opens the archive of a target.
func openToWrite(ctx context.Context, part *config.Archive, log *slog.Logger) (*sink.Archive, error) {
	o, err := part.Options()
	if err != nil {
		return nil, err
	}
	if err := openStore(ctx, part, o, false); err != nil {
		return nil, err
	}
	o.Logger = log
	return sink.OpenArchive(part.Dir, o)
}

// storedArchive opens the archive of a target to read it, without disturbing who writes
// it. It is nil if there is none yet.
func storedArchive(ctx context.Context, part *config.Archive) (*sink.Archive, error) {
	o, err := part.Options()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(part.Dir); part.Store == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	a, err := openToRead(ctx, part, o)
	if err != nil && strings.Contains(err.Error(), "there is none") {
		return nil, nil
	}
	return a, err
}

// Close closes the archive. It may be called more than once.
func (a *archived) Close() error {
	if a.Archive == nil {
		return nil
	}
	return a.Archive.Close()
}

// Stored returns the checkpoint without taking anything over.
func (a *archived) Stored(context.Context) (dfs.Checkpoint, error) {
	if a.Archive == nil {
		return dfs.Checkpoint{}, nil
	}
	return a.End(), nil
}

// Stats implements target: an archive has no conflicts and runs no statements.
func (a *archived) Stats() sink.Stats { return sink.Stats{} }

// The rest is what a target with tables could tell.
func (a *archived) Fresh(context.Context) (bool, error)                         { return false, nil }
func (a *archived) Missing(context.Context, []*dfs.Table) ([]*dfs.Table, error) { return nil, nil }
func (a *archived) MissingColumns(*dfs.Table) []string                          { return nil }
func (a *archived) Notes(context.Context, *dfs.Table) ([]string, error)         { return nil, nil }
func (a *archived) CheckTables(context.Context, []*dfs.Table) error             { return nil }
func (a *archived) CheckEmpty(context.Context, []*dfs.Table) error              { return nil }
func (a *archived) AddIndexes(context.Context) error                            { return nil }
func (a *archived) DDLPolicies(string, string) map[string]sink.Policy           { return nil }
func (a *archived) CheckForeignKeys(context.Context, []sink.ForeignKey) ([]string, error) {
	return nil, nil
}
func (a *archived) CreateTables(context.Context, []sink.Definition, bool) (made, notes []string, err error) {
	return nil, nil, nil
}

// readArchived is readTarget for an archive.
func readArchived(ctx context.Context, c *config.Config, t *targetState) {
	t.Product = "archive"
	a, err := storedArchive(ctx, &c.Target.Archive)
	if err != nil {
		t.Error = err.Error()
		return
	}
	if a == nil {
		return // not started yet
	}
	defer a.Close()
	at := a.End()
	t.Seq, t.Position = at.Seq, string(at.Pos)
	segments, _ := a.List()
	for i := len(segments) - 1; i >= 0 && t.ID == ""; i-- {
		s := segments[i]
		if s.First > s.Last {
			continue
		}
		t.ID = s.LastID
		if t.Committed == nil && !s.To.IsZero() {
			t.Committed = &s.To
		}
		if t.Updated != nil {
			continue
		}
		// Those that only a bucket has do not say when they were written.
		if info, err := os.Stat(filepath.Join(c.Target.Archive.Dir, s.File)); err == nil {
			written := info.ModTime().UTC()
			t.Updated, t.Age = &written, ago(max(time.Since(written), 0))
		}
	}
}

// firstBaseline notes in an archive that is one of several targets how the tables are
// made, before anything is read.
func (p *parts) firstBaseline(ctx context.Context, c *config.Config) error {
	if !c.Source.Snapshot.On() || p.archive.End().Seq > 0 {
		return nil
	}
	at, err := p.queue.Checkpoint(ctx)
	if err != nil {
		return err
	}
	_, bases := p.archive.List()
	switch {
	case at.Seq == 0: // a copy that was noted before has not begun, and tables may have been altered since
		_, err = p.baseline(ctx)
		return err
	case len(bases) > 0:
		return nil
	}
	return fmt.Errorf("%s: the queue holds transactions already, and an archive must be there before the first, as it keeps how the tables are made with the copy of their rows; "+
		"write a file of its own for the archive, with the same source and without this queue", c.Where("queue.path"))
}

// archiveLine returns the part of a file that has an archive: of several targets the one
// that is named, or the only one that is an archive.
func archiveLine(c *config.Config, name string) (*config.Config, error) {
	if name != "" {
		return c.Named(name)
	}
	if !c.Several() {
		return c, nil
	}
	var list []*config.Config
	var names []string
	for _, l := range c.Lines() {
		if l.Target.Archive.On() {
			list, names = append(list, l), append(names, l.Reader)
		}
	}
	switch len(list) {
	case 0:
		return c.Lines()[0], nil // which has none, as will be told
	case 1:
		return list[0], nil
	}
	return nil, fmt.Errorf("several of the targets are archives; choose one by -target: %s", strings.Join(names, ", "))
}
