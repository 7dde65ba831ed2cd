package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
)

// An againItem is a table that somebody wants to be copied again.
type againItem struct {
	copyItem
	taken chan error
}

// Resnapshot copies the rows of one table, "schema.table", or those of them that
// meet a condition in SQL, to a target that has the table already, while the
// Stream goes on: each row comes as an Insert with Overwrite, as it is at that
// place of the log. Rows that the target has and the source has not stay. It
// returns once a Stream has taken the table over; from the next position on the
// copy goes on after a restart, and Progress tells how far it is. A table whose
// copy has failed begins anew. The table needs a primary key.
func (s *Source) Resnapshot(ctx context.Context, table, where string) error {
	item, err := s.againItem(ctx, table, where)
	if err != nil {
		return err
	}
	return s.copyAll(ctx, item)
}

// ResnapshotAll is Resnapshot of all rows of several tables, as one copy: the
// transaction with Copied set comes when the rows of all of them have come. It is
// what a new baseline of an archive is made of.
func (s *Source) ResnapshotAll(ctx context.Context, tables []string) error {
	var items []*againItem
	var errs []error
	for _, t := range tables {
		item, err := s.againItem(ctx, t, "")
		items, errs = append(items, item), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil || len(items) == 0 {
		return err
	}
	return s.copyAll(ctx, items...)
}

// againItem checks that a table can be copied again.
func (s *Source) againItem(ctx context.Context, table, where string) (*againItem, error) {
	if s.db == nil {
		return nil, fmt.Errorf("cdc: copy %s again: log files have no rows but those that they log: read from the server", table)
	}
	schema, name, ok := strings.Cut(table, ".")
	if !ok || !s.filter.follows(schema, name) {
		return nil, fmt.Errorf("cdc: copy %s again: it is no table that is followed: write schema.table, and name it in Tables", table)
	}
	t, err := readTable(ctx, s.db, schema, name)
	switch {
	case err != nil:
		return nil, mark(err)
	case t == nil:
		return nil, fmt.Errorf("cdc: copy %s again: the source has no such table", table)
	case t.Key == nil:
		return nil, fmt.Errorf("cdc: copy %s again: it has no primary key, by which rows of the target are found: add one", table)
	}
	var image string
	if err := s.db.QueryRowContext(ctx, "SELECT @@global.binlog_row_image").Scan(&image); err != nil {
		return nil, mark(fmt.Errorf("cdc: ask for binlog_row_image: %w", err))
	}
	if image != "FULL" {
		return nil, fmt.Errorf("cdc: copy %s again: binlog_row_image is %s: SET GLOBAL binlog_row_image = FULL, and let applications connect anew", table, image)
	}
	return &againItem{copyItem{tableName{schema, name}, where, true}, make(chan error, 1)}, nil
}

// copyAll hands tables over to a Stream, which takes all of them or none, and waits
// until one has.
func (s *Source) copyAll(ctx context.Context, items ...*againItem) error {
	s.mu.Lock()
	s.again = append(s.again, items...)
	s.asked.Add(int32(len(items)))
	s.mu.Unlock()
	for _, item := range items {
		select {
		case err := <-item.taken:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			s.mu.Lock()
			defer s.mu.Unlock()
			if n := len(s.again); n > 0 {
				s.again = slices.DeleteFunc(s.again, func(i *againItem) bool { return slices.Contains(items, i) })
				s.asked.Add(int32(len(s.again) - n))
			}
			return ctx.Err()
		}
	}
	return nil
}

// copyAgain takes over the tables that are to be copied again, if there are any and
// no transaction is under way. Chunks that are read are read again.
func (s *Stream) copyAgain(ctx context.Context) error {
	if s.src.asked.Load() == 0 || s.src.db == nil || s.fix || s.inPart || s.copier != nil && !s.copier.between() && !s.copier.done {
		return nil
	}
	s.src.mu.Lock()
	asked := s.src.again
	s.src.again = nil
	s.src.asked.Add(-int32(len(asked)))
	s.src.mu.Unlock()
	if len(asked) == 0 {
		return nil
	}
	var items []copyItem
	word := "-"
	if c := s.copier; c != nil {
		c.close()
		if !c.done {
			items, word = c.items(), c.word()
		}
	}
	for _, a := range asked {
		items = append(items, a.copyItem)
	}
	c, err := s.src.newCopier(ctx, s, items, word)
	for _, a := range asked {
		a.taken <- err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copier = c
	if err != nil {
		s.err = dfs.Transient(err)
		return s.err
	}
	// A transaction without changes is to have the list of tables.
	c.stateDue, s.fix = true, true
	s.src.mu.Lock()
	s.src.copier = c
	s.src.mu.Unlock()
	if !s.ended {
		c.start()
	}
	return nil
}
