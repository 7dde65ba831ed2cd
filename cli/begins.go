package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/sink"
)

// Without a checkpoint a pipeline begins at source.start, which is now unless the file says
// otherwise. At its first start that is right. Where the checkpoint was lost, because
// somebody has dropped its table, has put the target back without it, or has given the
// pipeline another name, it would leave out all that was written since, and nothing would
// ever tell. What tells one from the other is that the target has rows.

// mostNamed is how many tables a fault names.
const mostNamed = 3

// begins refuses to begin at now, unless the file says so, where the target has no
// checkpoint and rows in tables that are not copied. Captured says that a queue has what
// the target lacks.
func (p *parts) begins(ctx context.Context, c *config.Config, captured bool, tables []*dfs.Table, log *slog.Logger) error {
	if captured || len(c.Source.Files) > 0 || c.Source.Start != "" && c.Source.Start != "now" {
		return nil
	}
	fresh, err := p.target.Fresh(ctx)
	if err != nil || !fresh {
		return err
	}
	copied, err := p.source.Copies(ctx)
	if err != nil {
		return err
	}
	tables = slices.DeleteFunc(slices.Clone(tables), func(t *dfs.Table) bool {
		return slices.ContainsFunc(copied, func(o *dfs.Table) bool { return o.Schema == t.Schema && o.Name == t.Name })
	})
	arrive, err := p.targets(tables)
	if err != nil {
		return err
	}
	var filled []string
	for _, t := range arrive {
		err := p.target.CheckEmpty(ctx, []*dfs.Table{t})
		var rows *sink.RowsError
		switch {
		case err == nil:
		case !errors.As(err, &rows):
			return err
		case !slices.Contains(filled, rows.Table):
			filled = append(filled, rows.Table)
		}
		if len(filled) > mostNamed {
			break
		}
	}
	if len(filled) == 0 {
		return nil
	}
	if len(filled) > mostNamed {
		filled = append(filled[:mostNamed], "others")
	}
	has := fmt.Sprintf("the target has no checkpoint of the pipeline %q, and rows in %s", c.Name, strings.Join(filled, ", "))
	if c.Source.Start == "now" {
		log.Warn(has+": it begins now, as source.start says; take that out of the file once it has begun, "+
			"or a checkpoint that is lost later would be passed over like this", "line", c.Where("source.start"))
		return nil
	}
	return fmt.Errorf("%s. To begin now would leave out what the source has written since these came, and nothing would tell. "+
		"If the pipeline has run before, its checkpoint was lost, or the file leads elsewhere than before (name at %s, the target, its checkpoint_schema): "+
		"set that right, or put the row back, with what the log of DFS said when it was lost, or from a backup that is as new as the rows. "+
		"If the place in the source's log is known that the rows are of, set source.start to it (gtid:SET or file:NAME:POSITION). "+
		"To copy all anew, set source.snapshot to true and empty the tables. "+
		"If the rows are what the source has at this moment, or need not be, set source.start to now for one start",
		has, cmp.Or(c.Where("name"), "the head of the file"))
}
