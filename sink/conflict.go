package sink

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
)

// item is a change with the transaction that it is part of.
type item struct {
	c  *dfs.Change
	tx *dfs.Transaction
}

func items(run []*dfs.Transaction) []item {
	n := 0
	for _, tx := range run {
		n += len(tx.Changes)
	}
	out := make([]item, 0, n)
	for _, tx := range run {
		for i := range tx.Changes {
			if tx.Changes[i].Op != dfs.DDL {
				out = append(out, item{&tx.Changes[i], tx})
			}
		}
	}
	return out
}

// serialMost is the longest piece of a run that is applied one by one without
// trying to merge it.
const serialMost = 32

// pieces applies a run that could not be merged as a whole, in halves of
// halves. Only the pieces that cannot be merged are applied one by one, which
// is exact by definition. The open transaction already holds what came before.
// It takes at most a logarithm of the run's length as many statements more than
// the merge of it all would have.
func (m *MySQL) pieces(ctx context.Context, list []item) error {
	if len(list) <= serialMost {
		for _, it := range list {
			if err := m.one(ctx, it); err != nil {
				return &stopError{it.tx.Seq, err}
			}
		}
		return nil
	}
	half := len(list) / 2
	for _, part := range [2][]item{list[:half], list[half:]} {
		if _, err := m.exec(ctx, []byte("SAVEPOINT dfs_piece")); err != nil {
			return err
		}
		err := m.merged(ctx, part, nil)
		if err == nil {
			continue
		}
		if !mayRetry(err) {
			return err
		}
		m.stats.fallbacks.Add(1)
		if _, err := m.exec(ctx, []byte(restoreSQL+"; ROLLBACK TO SAVEPOINT dfs_piece")); err != nil {
			return err
		}
		if err := m.pieces(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// mayRetry reports whether applying the changes in pieces could help, or at
// least tell which of them is at fault.
func mayRetry(err error) bool {
	var large *tooLargeError
	return errors.Is(err, errCount) || errors.Is(err, errAltered) || errors.Is(err, errPassesOver) || errors.As(err, &large) || serverError(err) != 0 && !errors.Is(err, dfs.ErrTransient)
}

// errIgnored says that a change was passed over, as the table's policy says.
var errIgnored = errors.New("the change conflicts and is ignored")

// one applies a single change, and does what the table's policy says if it
// conflicts with what the target holds.
func (m *MySQL) one(ctx context.Context, it item) error {
	err := m.change(ctx, it)
	if errors.Is(err, errIgnored) {
		return nil
	}
	return err
}

// change is one, but for errIgnored.
func (m *MySQL) change(ctx context.Context, it item) error {
	mp, err := m.mapping(ctx, it.c.Table)
	if err != nil {
		return err
	}
	if mp, err = mp.locate(it.c); err != nil {
		return err
	}
	if it.c.Part && it.c.Op == dfs.Update {
		for _, c := range mp.splitPart(it.c) {
			if err := m.one(ctx, item{&c, it.tx}); err != nil {
				return err
			}
		}
		return nil
	}
	if it.c.Overwrite && it.c.Op == dfs.Insert {
		steps, err := mp.splitOver(it.c)
		if err != nil {
			return err
		}
		if _, err := m.exec(ctx, []byte("SAVEPOINT dfs_over")); err != nil {
			return err
		}
		for i := range steps {
			err := m.change(ctx, item{&steps[i], it.tx})
			if errors.Is(err, errIgnored) {
				// The row whose place it was to take stays.
				if _, e := m.exec(ctx, []byte("ROLLBACK TO SAVEPOINT dfs_over")); e != nil {
					return e
				}
			}
			if conflict := (*ConflictError)(nil); errors.As(err, &conflict) && isDuplicate(conflict.Err) {
				conflict.Err = fmt.Errorf("%w: another row has a value of it that is unique, maybe one of old that the copy has yet to come to; "+
					"the policy overwrite deletes that row, which comes again if it is to be copied", conflict.Err)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	g := &group{m: mp, op: it.c.Op, noFK: it.c.NoForeignKeys, part: it.c.Part, spare: it.c.Overwrite, serial: true}
	r := &rowOp{it.c.Before, it.c.After}
	if g.op == dfs.Update && mp.changed(nil, it.c).empty() {
		return nil
	}
	m.stats.serial.Add(1)
	if g.noFK {
		if _, err := m.exec(ctx, []byte("SET foreign_key_checks=0")); err != nil {
			return err
		}
	}
	err = m.oneRow(ctx, it, g, r)
	if err != nil && !errors.Is(err, errIgnored) {
		return refused(err, func() string { return m.statementsFor(g, r) })
	}
	if g.noFK {
		if _, err := m.exec(ctx, []byte("SET foreign_key_checks=1")); err != nil {
			return err
		}
	}
	return err
}

func (m *MySQL) oneRow(ctx context.Context, it item, g *group, r *rowOp) error {
	n, err := m.row(ctx, g, r)
	if err == nil && (n == 1 || g.spare) {
		return nil
	}
	if refusesText(err) {
		return &TextError{g.m.to.key, g.m.describe(r), g.op, it.tx.Seq, it.tx.ID, err}
	}
	if err != nil && !isConstraint(err) {
		return fmt.Errorf("applying the %s of %s (%s) in transaction %s: %w",
			g.op, g.m.to.key, g.m.describe(r), txName(it.tx.Seq, it.tx.ID), standing(withFit(withGrant(err, g.m.to))))
	}
	conflict := &ConflictError{Table: g.m.to.key, Key: g.m.describe(r), Op: g.op, Seq: it.tx.Seq, ID: it.tx.ID, Err: err}
	policy := m.policy(g.m.to)
	m.stats.conflict(g.m.to.key, policy)
	switch {
	case policy == PolicyIgnore:
		return errIgnored
	case policy == PolicyOverwrite && !g.part && (err == nil || isDuplicate(err)):
		return m.overwrite(ctx, g, r, conflict)
	}
	return conflict
}

// row executes the statement for a single row and returns how many rows it
// matched.
func (m *MySQL) row(ctx context.Context, g *group, r *rowOp) (int64, error) {
	if g.part {
		return m.partRow(ctx, g, r)
	}
	n, err := m.counted(ctx, g.m.appendSingle(nil, g, r), g.m.groupZeros(g.op, []rowOp{*r}, nil))
	if refusesText(err) || err == nil && n == 0 && g.op != dfs.Insert && g.m.findsNoText(r) {
		return m.rawRow(ctx, g, r, err)
	}
	return n, err
}

// counted executes a statement that writes so many ordinals 0, and returns how
// many rows it matched.
func (m *MySQL) counted(ctx context.Context, sql []byte, zeros int) (int64, error) {
	if len(sql) > m.sess.srv.maxPacket {
		return 0, &tooLargeError{"a row", len(sql), m.sess.srv.maxPacket}
	}
	if zeros > 0 {
		return m.loose(ctx, sql, zeros)
	}
	n, err := m.exec(ctx, sql)
	if err != nil {
		return 0, err
	}
	return n[0], nil
}

// overwrite makes the row what the source has.
func (m *MySQL) overwrite(ctx context.Context, g *group, r *rowOp, conflict *ConflictError) error {
	if g.op == dfs.Delete {
		return nil // it is gone already
	}
	mp := g.m
	image := r.after
	if g.op == dfs.Update {
		image = overlay(r.before, r.after)
	}
	if mp.present(image) != nil {
		conflict.Err = errors.Join(conflict.Err, errors.New("the row image leaves columns out, so that what the whole row is to be is not known: "+
			"set binlog_row_image=FULL on the source"))
		return conflict
	}
	if mp.key == nil {
		// No row is like the one before, so none can be in the way.
		_, err := m.row(ctx, &group{m: mp, op: dfs.Insert}, &rowOp{nil, image})
		if err != nil {
			conflict.Err = err
			return conflict
		}
		return nil
	}
	// Away with every other row that holds one of its unique values.
	for _, u := range mp.uniques {
		b := append([]byte("DELETE FROM "), mp.to.ident()...)
		b = append(b, " WHERE "...)
		for _, i := range u.cols {
			b = append(appendIdent(b, mp.columns[i].name), '=')
			b = append(mp.columns[i].appendKey(b, image[i]), " AND "...)
		}
		b = mp.appendWhere(append(b, "NOT ("...), image, false)
		b = append(b, ')')
		if g.op == dfs.Update {
			b = mp.appendWhere(append(b, " AND NOT ("...), r.before, false)
			b = append(b, ')')
		}
		if _, err := m.exec(ctx, b); err != nil {
			conflict.Err = err
			return conflict
		}
	}
	whole := newColset(len(image))
	for i := range mp.columns {
		if mp.columns[i].to >= 0 {
			whole.add(i)
		}
	}
	old := r.before
	if old == nil {
		old = image
	}
	if !mp.sameKey(old, mp, image) {
		// The row moves to a key at which there may be another.
		if _, err := m.row(ctx, &group{m: mp, op: dfs.Delete}, &rowOp{image, nil}); err != nil {
			conflict.Err = err
			return conflict
		}
	}
	n, err := m.row(ctx, &group{m: mp, op: dfs.Update, cols: whole}, &rowOp{old, image})
	if err == nil && n == 0 {
		_, err = m.row(ctx, &group{m: mp, op: dfs.Insert}, &rowOp{nil, image})
	}
	if err != nil {
		conflict.Err = err
		return conflict
	}
	return nil
}

// describe names a row by its key, or by its first columns.
func (m *mapping) describe(r *rowOp) string {
	row := r.before
	if row == nil {
		row = r.after
	}
	cols := m.key
	for i := 0; m.key == nil && i < len(row) && i < 4; i++ {
		cols = append(cols, i)
	}
	var parts []string
	for _, i := range cols {
		parts = append(parts, m.src.Columns[i].Name+"="+show(row[i]))
	}
	return strings.Join(parts, ", ")
}
