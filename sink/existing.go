package sink

import (
	"context"
	"errors"
	"fmt"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// Fresh reports whether nothing of the pipeline has been applied yet. It takes
// nothing over, and does not disturb a pipeline that runs.
func (m *MySQL) Fresh(ctx context.Context) (bool, error) {
	if err := m.connected(ctx); err != nil {
		return false, err
	}
	rows, err := m.sess.query(ctx, string(appendQuoted([]byte("SELECT seq, owner LIKE '%"+loadsMark+"' FROM "+m.cpTable+" WHERE name="), m.name)))
	if err != nil {
		return false, fmt.Errorf("reading the checkpoint %q: %w", m.name, classify(err))
	}
	if len(rows) > 0 && rows[0][0].uint() > 0 {
		return false, nil
	}
	loads := len(rows) > 0 && rows[0][1].text == "1"
	// A start that was cut off in its first run has left pieces of it.
	rows, err = m.sess.query(ctx, "SELECT 1 FROM "+m.loader.table+m.mine()+" LIMIT 1")
	switch serverError(err) {
	case erNoSuchTable, erBadDB, erDBAccess, erTableAccess, erColumnAccess:
		return !loads, nil // else Checkpoint tells what is wrong
	}
	if err != nil {
		return false, fmt.Errorf("reading the markers of rows that were being loaded: %w", classify(err))
	}
	return len(rows) == 0, nil
}

// CheckCopy implements dfs.CopyChecker: it is CheckEmpty, unless the options say
// that rows may be copied into tables that have some. A pipeline without stages calls
// it before anything is applied.
func (m *MySQL) CheckCopy(ctx context.Context, tables []*dfs.Table) error {
	if m.mixes {
		return nil
	}
	return m.CheckEmpty(ctx, tables)
}

// CheckEmpty reports, as one error that joins a *RowsError for each, the tables of the
// target that have rows, given those of the source that are to be copied: their rows may
// be in the way. Where the pipeline has stages, ask it before a copy begins (see Fresh),
// with the tables that they make; else the pipeline does. A table that the target lacks
// is empty.
func (m *MySQL) CheckEmpty(ctx context.Context, tables []*dfs.Table) error {
	if err := m.connected(ctx); err != nil {
		return err
	}
	var errs []error
	for _, t := range tables {
		schema, name := match.Target(m.routes, t.Schema, t.Name)
		if m.owns(schema, name) {
			continue // no row is ever written there, and to empty it would lose the checkpoint
		}
		full := string(appendIdent(append(appendIdent(nil, schema), '.'), name))
		rows, err := m.sess.query(ctx, "SELECT 1 FROM "+full+" LIMIT 1")
		switch n := serverError(err); {
		case n == erNoSuchTable || n == erBadDB:
		case errors.Is(classify(err), dfs.ErrTransient) || ctx.Err() != nil:
			return classify(err)
		case err != nil:
			errs = append(errs, fmt.Errorf("looking for rows in the target's table %s.%s: %w", schema, name, err))
		case len(rows) > 0:
			errs = append(errs, &RowsError{Table: schema + "." + name, Source: t.String(), empty: "TRUNCATE TABLE " + full})
		}
	}
	return errors.Join(errs...)
}

// A RowsError says that a table of the target has rows already.
type RowsError struct {
	Table  string // the target's, as that writes it
	Source string // whose rows are to go there
	empty  string
}

func (e *RowsError) Error() string {
	return fmt.Sprintf("the target's table %s has rows, and those of %s are to be copied into it: %s, "+
		"or leave the table out of the copy, or set existing to append (the option Append), where a row with the same key is a conflict, "+
		"or to replace (Replace), where the source's takes its place", e.Table, e.Source, e.empty)
}

// Missing returns those of the source's tables for which the target has none.
func (m *MySQL) Missing(ctx context.Context, tables []*dfs.Table) (list []*dfs.Table, err error) {
	if err := m.connected(ctx); err != nil {
		return nil, err
	}
	for _, t := range tables {
		schema, name := match.Target(m.routes, t.Schema, t.Name)
		b := appendQuoted([]byte("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA="), schema)
		rows, err := m.sess.query(ctx, string(appendQuoted(append(b, " AND TABLE_NAME="...), name)))
		if err != nil {
			return nil, fmt.Errorf("looking for the target's table %s.%s: %w", schema, name, classify(err))
		}
		if len(rows) == 0 {
			list = append(list, t)
		}
	}
	return list, nil
}

// connected makes sure of the connection.
func (m *MySQL) connected(ctx context.Context) error {
	if m.sess != nil {
		return nil
	}
	s, err := openSession(ctx, m.connector, m.sqlOnly)
	if err == nil {
		m.use(s)
	}
	return err
}

// replace makes inserts of rows that were there already take the place of those
// with the same key.
func replace(batch []*dfs.Transaction) {
	for _, tx := range batch {
		for i := range tx.Changes {
			if c := &tx.Changes[i]; tx.Snapshot && c.Op == dfs.Insert {
				c.Overwrite = true
			}
		}
	}
}
