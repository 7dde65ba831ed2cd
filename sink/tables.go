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

// mapping returns how rows of a source's table are written, and reads on first
// use what the target says of its table.
func (m *MySQL) mapping(ctx context.Context, src *dfs.Table) (*mapping, error) {
	if mp := m.maps[src]; mp != nil {
		return mp, nil
	}
	mp, err := m.newMap(ctx, src)
	return mp, dfs.Standing(err) // it is the same for each row of the table
}

func (m *MySQL) newMap(ctx context.Context, src *dfs.Table) (*mapping, error) {
	if src == nil {
		return nil, errors.New("a change names no table")
	}
	if m.sess == nil {
		return nil, dfs.Transient(errors.New("the connection to the target is lost"))
	}
	if schema, name := match.Target(m.routes, src.Schema, src.Name); m.owns(schema, name) {
		return nil, fmt.Errorf("%s would be written to %s.%s, which is the pipeline's own: leave it out, or route it elsewhere; "+
			"where the source is itself such a target, it need not be followed", src, schema, name)
	}
	t, err := m.targetTable(ctx, src)
	if err != nil {
		return nil, err
	}
	mp, err := newMapping(src, t)
	if err != nil {
		t.stale = true
		return nil, err
	}
	fresh := true
	for _, old := range m.maps {
		if old.to == t && sameTable(old.src, src) {
			mp, fresh = old, false // so that their rows share statements
			break
		}
	}
	if fresh && len(mp.notes) > 0 {
		m.log.Warn("values may change on the target", "table", t.key, "how", mp.notes)
	}
	if m.sess.srv.sqlOnly == "" {
		m.stats.lanes(t.key, mp.bySQL)
	}
	if len(m.maps) >= maxMaps {
		clear(m.maps)
	}
	m.maps[src] = mp
	return mp, nil
}

// targetTable returns what the target says of the table that rows of src go into.
func (m *MySQL) targetTable(ctx context.Context, src *dfs.Table) (*table, error) {
	schema, name := match.Target(m.routes, src.Schema, src.Name)
	key := m.sess.tableKey(schema, name)
	t := m.tables[key]
	if t == nil || t.stale {
		var err error
		if t, err = m.sess.loadTable(ctx, schema, name); err != nil {
			return nil, fmt.Errorf("reading the target's table %s.%s: %w", schema, name, classify(err))
		}
		t.run = m.tableRun(key)
		for _, keys := range [2][]foreignKey{t.parents, t.children} {
			for i := range keys {
				keys[i].run = m.tableRun(keys[i].other)
			}
		}
		m.tables[key] = t
	}
	return t, nil
}

// owns reports whether a table of the target is one of those that the sink keeps
// beside the checkpoint.
func (m *MySQL) owns(schema, name string) bool {
	return strings.EqualFold(schema, m.schema) && slices.ContainsFunc([]string{checkpointTable, ddlTable, indexTable, loadTable, idsTable},
		func(own string) bool { return strings.EqualFold(name, own) })
}

// maxMaps bounds what is kept of a source that makes ever new Tables.
const maxMaps = 10000

func (m *MySQL) tableRun(key string) *tableRun {
	r := m.runs[key]
	if r == nil {
		r = new(tableRun)
		m.runs[key] = r
	}
	return r
}

// Notes tells how values of a table of the source may change in silence as the
// target takes them: times and numbers that its columns round, and columns that
// it generates itself, which is also logged when the table is first written. And it
// tells what makes the table slower than others.
func (m *MySQL) Notes(ctx context.Context, t *dfs.Table) ([]string, error) {
	if m.sess == nil {
		s, err := openSession(ctx, m.connector, m.sqlOnly)
		if err != nil {
			return nil, err
		}
		m.use(s)
	}
	mp, err := m.mapping(ctx, t)
	if err != nil {
		if m.mayAppear(t, err) {
			return []string{err.Error() + "; unless a statement of the source does so first"}, nil
		}
		return nil, err
	}
	notes := slices.Clone(mp.notes)
	switch {
	case mp.to.inPlace:
		notes = append(notes, "the target's table has triggers, which run for each row; its rows are applied one by one")
	case mp.bySQL != "" && m.sess.srv.sqlOnly == "":
		notes = append(notes, "its rows go by SQL, not as row events, which are faster: "+mp.bySQL)
	}
	return notes, nil
}

// CheckTables reports all that keeps rows of the tables from being applied, as
// one error: tables and columns that the target lacks, engines without
// transactions, rights that the account lacks. It reads the target anew, and
// changes nothing there. Where the policy is to apply statements, one that is on
// its way may yet make the table what the source has: then Notes tells what is
// missing.
func (m *MySQL) CheckTables(ctx context.Context, tables []*dfs.Table) error {
	if m.sess == nil {
		s, err := openSession(ctx, m.connector, m.sqlOnly)
		if err != nil {
			return err
		}
		m.use(s)
	}
	m.forget()
	var errs []error
	spelled := make(map[string]string) // the targets' names as the source writes them, by what the server makes of them
	for _, t := range tables {
		schema, name := match.Target(m.routes, t.Schema, t.Name)
		key, full := m.sess.tableKey(schema, name), schema+"."+name
		if other, ok := spelled[key]; ok && other != full {
			errs = append(errs, fmt.Errorf("the names %s and %s are one to the target, whose lower_case_table_names is not 0: "+
				"route %s to a table of another name, or leave one out", other, full, t))
			continue
		}
		spelled[key] = full
		mp, err := m.mapping(ctx, t)
		if err == nil {
			err = m.tryRights(ctx, mp)
		} else if m.mayAppear(t, err) {
			continue
		}
		if errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// MissingColumns returns the columns of a table, as rows of it reach the sink, that the
// target's table lacks; none where there is no such table. It tells what CheckTables or
// Notes saw.
func (m *MySQL) MissingColumns(t *dfs.Table) (names []string) {
	if m.sess == nil {
		return nil
	}
	to := m.tables[m.sess.tableKey(match.Target(m.routes, t.Schema, t.Name))]
	if to == nil {
		return nil
	}
	for i := range t.Columns {
		if to.column(t.Columns[i].Name) < 0 {
			names = append(names, t.Columns[i].Name)
		}
	}
	return names
}

// mayAppear reports whether a statement of the source may mend err, which says
// that a table of the target is not there, or not as the source's.
func (m *MySQL) mayAppear(t *dfs.Table, err error) bool {
	if serverError(err) != 0 || errors.Is(err, dfs.ErrTransient) || m.owns(match.Target(m.routes, t.Schema, t.Name)) {
		return false
	}
	for _, kind := range []ddl.Kind{ddl.CreateTable, ddl.AlterTable} {
		if p := m.ddlPolicy(kind, t.Schema, t.Name); p == PolicyApply || p == PolicyTry {
			return true
		}
	}
	return false
}

// tryRights finds out whether the account may write the table, by statements
// that match no row.
func (m *MySQL) tryRights(ctx context.Context, mp *mapping) error {
	one := slices.IndexFunc(mp.columns, func(c column) bool { return c.to >= 0 })
	if one < 0 {
		return nil // there is nothing to write
	}
	_, err := m.exec(ctx, fmt.Appendf(nil, "INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM %[1]s WHERE FALSE; "+
		"UPDATE %[1]s SET %[3]s=%[3]s WHERE FALSE; DELETE FROM %[1]s WHERE FALSE",
		mp.to.ident(), mp.appendColumns(nil, nil), appendIdent(nil, mp.columns[one].name)))
	return withGrant(err, mp.to)
}

// withGrant adds the cure to an error about the account's rights on a table, or about a
// server that takes no writes.
func withGrant(err error, t *table) error {
	switch serverError(err) {
	case erReadOnlyOption, erReadOnlyMode:
		return fmt.Errorf("%w: writing to the target's table %s: SET GLOBAL read_only = OFF there (on MySQL super_read_only too), or name the server that takes writes", err, t.key)
	case erTableAccess, erColumnAccess, erDBAccess:
		return fmt.Errorf("%w: GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO the account of the DSN", err, t.ident())
	}
	return err
}
