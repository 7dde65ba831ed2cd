package cdc

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/dataflowsync/dfs"
)

// tablesInFiles is Tables for files: the followed tables of Options.Schema, and
// those of which the last two files have rows, as the latest of these describe
// them. Where the log does not name columns its rows tell nothing.
func (s *Source) tablesInFiles(ctx context.Context) ([]*dfs.Table, error) {
	list, err := listLogs(s.paths)
	if err != nil {
		return nil, fmt.Errorf("cdc: %w", err)
	}
	found := make(map[tableName]*dfs.Table)
	c, err := s.openCatalog("")
	if err != nil {
		return nil, err
	}
	for _, t := range c.tables.Tables() {
		if s.followed().follows(t.Schema, t.Name) {
			found[tableName{t.Schema, t.Name}] = t
		}
	}
	for _, p := range list[max(0, len(list)-2):] {
		if p.packed {
			continue
		}
		if err := s.tablesInFile(ctx, p, found); err != nil {
			return nil, err
		}
	}
	tables := slices.Collect(maps.Values(found))
	slices.SortFunc(tables, func(a, b *dfs.Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return tables, nil
}

// tablesInFile adds the tables of one file to found. What cannot be read is for
// the stream to find fault with.
func (s *Source) tablesInFile(ctx context.Context, p logPath, found map[tableName]*dfs.Table) error {
	l, err := openLog(p.path, p.name, s.opts.Buffer)
	if err != nil {
		return fileError(p, err)
	}
	defer l.Close()
	seen := make(map[string]bool) // bodies of table maps without their ids
	look := func(e event) {
		if e.kind() != evTableMap || len(e.body()) < 8 || seen[string(e.body()[6:])] {
			return
		}
		if len(seen) >= maxPlans {
			clear(seen)
		}
		seen[string(e.body()[6:])] = true
		m, err := parseTableMap(e, s.maria)
		if err == nil && m.named && s.followed().follows(m.schema, m.table) {
			t := m.dfsTable()
			found[tableName{t.Schema, t.Name}] = t
		}
	}
	var pack payload
	for {
		e, err := l.next()
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.kind() != evPayload {
			look(e)
			continue
		}
		for err = pack.open(e); err == nil && pack.left; {
			if e, err = pack.next(); e != nil {
				look(e)
			}
		}
	}
}
