package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dataflowsync/dfs"
)

// Undo takes transactions back, as MySQL.Undo does: all of it or, if a row is not as the
// transaction has left it, nothing, and an *UndoError.
func (p *Postgres) Undo(ctx context.Context, u *Undo) error { return p.undo(ctx, u) }

// Undo takes transactions back, as MySQL.Undo does: all of it or, if a row is not as the
// transaction has left it, nothing, and an *UndoError.
func (s *SQLite) Undo(ctx context.Context, u *Undo) error {
	// Foreign keys are on or off for all of it.
	s.lite.fkOff = !slices.ContainsFunc(u.steps, func(x undoStep) bool { return !x.NoForeignKeys })
	return s.undo(ctx, u)
}

func (c *core) undo(ctx context.Context, u *Undo) error {
	if c.open || c.spool.holds() {
		return errors.New("undo: the sink holds parts of a transaction: use one that applies nothing else")
	}
	if err := c.db.connect(ctx); err != nil {
		return err
	}
	err := c.db.write(ctx, c.db.begin(), nil)
	if err == nil {
		err = c.takeBack(ctx, u)
	}
	if err == nil {
		if err = c.run(ctx, "COMMIT"); err != nil {
			err = fmt.Errorf("undo: COMMIT: %w", err)
		}
	}
	if err != nil {
		if e := c.run(context.WithoutCancel(ctx), "ROLLBACK"); e != nil {
			c.db.drop()
		}
		c.forget()
	}
	return err
}

func (c *core) takeBack(ctx context.Context, u *Undo) error {
	moved := &UndoError{}
	maps := make(map[*dfs.Table]*mapping)
	for i := range u.steps {
		s := &u.steps[i]
		row, is := s.Before, "is not there any more, or has other values"
		if s.Op == dfs.Insert {
			row, is = s.After, "is there again, or its key is"
		}
		mp := maps[s.Table]
		if mp == nil {
			known, err := c.mapping(ctx, s.Table)
			if err != nil {
				return fmt.Errorf("undo transaction %s: %w", s.of, err)
			}
			mp = known.byWhole()
			maps[s.Table] = mp
		}
		n, err := c.row(ctx, &group{m: mp, op: s.Op, noFK: s.NoForeignKeys, serial: true}, &rowOp{s.Before, s.After})
		_, duplicate := c.db.constraint(err)
		if err != nil && !duplicate {
			return fmt.Errorf("undo transaction %s, the row %s of %s: %w", s.of, rowText(s.Table, cmpRow(s.After, s.Before)), s.Table, c.db.explain(err, mp.to))
		}
		if err == nil && n == 1 {
			continue
		}
		moved.Rows = append(moved.Rows, fmt.Sprintf("transaction %s: the row %s of %s %s", s.of, rowText(s.Table, row), c.db.ident(mp.to), is))
		// PostgreSQL takes nothing more behind an error.
		if moved.More = i+1 < len(u.steps); err != nil || len(moved.Rows) == undoShown {
			break
		}
	}
	if len(moved.Rows) > 0 {
		return moved
	}
	return nil
}
