package relmgr

import (
	"context"
	"errors"
	"fmt"

	"github.com/dataflowsync/dfs"
)

// ErrNoID means that a map which is open with Options.ReadOnly has no new id for a key,
// so that the pipeline has not carried the row. Errors that wrap it have a method
// NotCarried, by which package verify knows them.
var ErrNoID error = noID{}

type noID struct{}

func (noID) Error() string    { return "relmgr: the map has no new id for it" }
func (noID) NotCarried() bool { return true }

// compare is Process of a map that is read only.
func (m *Manager) compare(ctx context.Context, batch []*dfs.Transaction) error {
	if err := m.refresh(ctx); err != nil {
		return err
	}
	defer m.turn()
	if err := m.prefetch(ctx, batch); err != nil {
		return err
	}
	for _, tx := range batch {
		for i := range tx.Changes {
			c := &tx.Changes[i]
			if c.Op == dfs.DDL {
				return errors.New("a statement cannot be compared")
			}
			if err := m.change(ctx, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// refresh forgets what is in memory if the pipeline has written to the file since. What
// it has is true for ever, but keys may have come that were not there.
func (m *Manager) refresh(ctx context.Context) error {
	if !m.opts.ReadOnly {
		return nil
	}
	version, err := m.store.dataVersion(ctx)
	if err != nil {
		return err
	}
	if version == m.store.version && !m.stale {
		return nil
	}
	m.stale = true
	if m.store.shape, err = m.store.shapeOf(ctx); err != nil {
		return err
	}
	if err := m.reset(ctx); err != nil {
		return err
	}
	m.store.version = version
	return nil
}

// refreshShape is refresh for who asks the file itself for keys: it looks whether the pipeline
// has met tables and foreign keys since, and not at each id that it has given.
func (m *Manager) refreshShape(ctx context.Context) error {
	if !m.opts.ReadOnly || m.stale {
		return m.refresh(ctx)
	}
	version, err := m.store.dataVersion(ctx)
	if err != nil || version == m.store.version {
		return err
	}
	shape, err := m.store.shapeOf(ctx)
	if err != nil || shape == m.store.shape {
		return err
	}
	return m.refresh(ctx)
}

// dataVersion returns a number that changes when another connection has written.
func (s *store) dataVersion(ctx context.Context) (n int64, err error) {
	err = s.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&n)
	return n, s.wrap("look up", err)
}

// shapeOf returns what changes when plans may.
func (s *store) shapeOf(ctx context.Context) (shape string, err error) {
	err = s.conn.QueryRowContext(ctx, "SELECT (SELECT count(*) FROM space) || ' ' || (SELECT count(*) || ' ' || total(length(how)) || ' ' || total(sum) FROM seen) || ' ' || "+
		"(SELECT count(*) FROM learned)").Scan(&shape)
	return shape, s.wrap("look up", err)
}

// unknown is the error for a key that is not in the map.
func (m *Manager) unknown() error {
	return fmt.Errorf("%w: the pipeline has not carried it, or leaves it out", ErrNoID)
}
