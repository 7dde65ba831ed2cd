package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// What is asked of a sink before it runs. These are methods of Postgres and SQLite.

// Fresh reports whether nothing of the pipeline has been applied yet. It takes
// nothing over, and does not disturb a pipeline that runs.
func (c *core) Fresh(ctx context.Context) (bool, error) {
	if err := c.db.connect(ctx); err != nil {
		return false, err
	}
	rows, err := c.db.query(ctx, "SELECT seq FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	if err != nil {
		return false, fmt.Errorf("reading the checkpoint %q: %w", c.name, err)
	}
	return len(rows) == 0 || rows[0][0].uint() == 0, nil
}

// Notes tells how values of a table of the source may change in silence as the
// target takes them. The same is logged when the table is first written.
func (c *core) Notes(ctx context.Context, t *dfs.Table) ([]string, error) {
	if err := c.db.connect(ctx); err != nil {
		return nil, err
	}
	mp, err := c.mapping(ctx, t)
	if err != nil {
		return nil, err
	}
	notes := slices.Clone(mp.notes)
	if mp.to.inPlace {
		notes = append(notes, "the target's table has triggers or rules, which run for each row; its rows are applied one by one")
	}
	return notes, nil
}

// CheckTables reports all that keeps rows of the tables from being applied, as one
// error: tables and columns that the target lacks, types that cannot hold the
// source's, rights that the account lacks. It reads the target anew, and changes
// nothing there. What a statement of the source may yet make so, where the policy lets it
// run on the target, is no fault: it may have run on the source while the pipeline stood.
func (c *core) CheckTables(ctx context.Context, tables []*dfs.Table) error {
	if err := c.db.connect(ctx); err != nil {
		return err
	}
	c.forget()
	var errs []error
	for _, t := range tables {
		mp, err := c.mapping(ctx, t)
		if err == nil {
			err = c.db.tryRights(ctx, mp)
		} else if c.mayAppear(t, err) {
			continue
		}
		if errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mayAppear reports whether a statement of the source may mend err, which says that a
// table of the target is not there, or not as the source's.
func (c *core) mayAppear(t *dfs.Table, err error) bool {
	var name nameError
	if c.db.serverError(err) || errors.Is(err, dfs.ErrTransient) || errors.As(err, &name) {
		return false
	}
	return slices.ContainsFunc([]ddl.Kind{ddl.CreateTable, ddl.AlterTable}, func(kind ddl.Kind) bool {
		p := c.ddlPolicy(kind, t.Schema, t.Name)
		return p == PolicyApply || p == PolicyTry
	})
}

// MissingColumns returns those of t's columns that the target's table lacks, as far
// as the table has been read.
func (c *core) MissingColumns(t *dfs.Table) (names []string) {
	to := c.tables[c.db.tableKey(match.Target(c.routes, t.Schema, t.Name))]
	for i := range t.Columns {
		if to != nil && to.column(t.Columns[i].Name) < 0 {
			names = append(names, t.Columns[i].Name)
		}
	}
	return names
}

// DDLPolicies returns the policy for each of DDLKinds, as it is for a table of the
// source, or for a schema if name is empty.
func (c *core) DDLPolicies(schema, name string) map[string]Policy {
	return c.ddlPolicies(schema, name)
}

// AddIndexes does nothing: no index waits until rows have come.
func (c *core) AddIndexes(context.Context) error { return nil }

// Missing returns those of the source's tables for which the target has none.
func (c *core) Missing(ctx context.Context, tables []*dfs.Table) (list []*dfs.Table, err error) {
	if err := c.db.connect(ctx); err != nil {
		return nil, err
	}
	for _, t := range tables {
		schema, name := match.Target(c.routes, t.Schema, t.Name)
		there, err := c.db.there(ctx, schema, name)
		if err != nil {
			return nil, fmt.Errorf("looking for the target's table %s.%s: %w", schema, name, err)
		}
		if !there {
			list = append(list, t)
		}
	}
	return list, nil
}

// CheckEmpty reports, as one error that joins a *RowsError for each, the tables of the
// target that have rows, given those of the source that are to be copied: their rows may
// be in the way. A table that the target lacks is empty.
func (c *core) CheckEmpty(ctx context.Context, tables []*dfs.Table) error {
	missing, err := c.Missing(ctx, tables)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tables {
		if slices.Contains(missing, t) {
			continue
		}
		to := &table{}
		to.schema, to.name = match.Target(c.routes, t.Schema, t.Name)
		if c.owns(to.schema, to.name) {
			continue // no row is ever written there, and to empty it would lose the checkpoint
		}
		rows, err := c.db.query(ctx, "SELECT 1 FROM "+c.db.ident(to)+" LIMIT 1")
		switch {
		case errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil:
			return err
		case err != nil:
			errs = append(errs, fmt.Errorf("looking for rows in the target's table %s: %w", c.db.ident(to), c.db.explain(err, to)))
		case len(rows) > 0:
			errs = append(errs, &RowsError{Table: c.db.ident(to), Source: t.String(), empty: "empty it"})
		}
	}
	return errors.Join(errs...)
}

// CheckCopy is asked by a pipeline whose source copies rows: see dfs.CopyChecker.
func (c *core) CheckCopy(ctx context.Context, tables []*dfs.Table) error {
	if c.mixes {
		return nil
	}
	return c.CheckEmpty(ctx, tables)
}

// CheckForeignKeys reports, as one error, the foreign keys that the target must have
// because the source's log does not tell what they do, and has not: see
// MySQL.CheckForeignKeys.
func (c *core) CheckForeignKeys(ctx context.Context, keys []ForeignKey) (notes []string, err error) {
	if err := c.db.connect(ctx); err != nil {
		return nil, err
	}
	var errs []error
	for _, k := range keys {
		schema, name := match.Target(c.routes, k.Schema, k.Table)
		there, err := c.db.there(ctx, schema, name)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		what := fmt.Sprintf("foreign key %s of the source changes rows of %s.%s (ON DELETE %s ON UPDATE %s), which its log does not tell",
			k.Name, k.Schema, k.Table, k.OnDelete, k.OnUpdate)
		if !k.ParentFollowed {
			errs = append(errs, fmt.Errorf("%s, and %s.%s, whose rows it goes by, is not followed: follow that table too", what, k.ParentSchema, k.Parent))
			continue
		}
		parent := c.db.tableKey(match.Target(c.routes, k.ParentSchema, k.Parent))
		acts, err := c.db.acts(ctx, schema, name, parent, k)
		if err != nil {
			return nil, err
		}
		if !acts {
			errs = append(errs, fmt.Errorf("%s, and the target has no such foreign key: make its table %s.%s with %s", what, schema, name, c.references(k)))
		}
	}
	return nil, errors.Join(errs...)
}

// references returns a foreign key as CREATE TABLE has it.
func (c *core) references(k ForeignKey) string {
	to := &table{}
	to.schema, to.name = match.Target(c.routes, k.ParentSchema, k.Parent)
	return fmt.Sprintf("FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE %s ON UPDATE %s", quoteNames(k.Columns), c.db.ident(to), quoteNames(k.ParentColumns), k.OnDelete, k.OnUpdate)
}

func quoteNames(names []string) string {
	list := make([]string, len(names))
	for i, n := range names {
		list[i] = quoteName(n)
	}
	return strings.Join(list, ",")
}

// Stored returns the checkpoint as the target has it, which is zero before the first
// start. Unlike Checkpoint it takes nothing over, and does not disturb a pipeline
// that runs.
func (c *core) Stored(ctx context.Context) (at dfs.Checkpoint, err error) {
	if err := c.db.connect(ctx); err != nil {
		return at, err
	}
	rows, err := c.db.query(ctx, "SELECT seq,pos,state FROM "+c.db.checkpointTable()+" WHERE name="+c.db.place(1), c.name)
	if err != nil {
		return at, fmt.Errorf("reading the checkpoint %q: %w", c.name, err)
	}
	if len(rows) > 0 {
		at = dfs.Checkpoint{Seq: rows[0][0].uint(), Pos: dfs.Position(rows[0][1].text), State: rows[0][2].text}
	}
	return at, nil
}
