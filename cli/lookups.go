package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
)

// databases are the servers that units look something up in, opened at the first
// need.
type databases struct {
	c            *config.Config
	source, dest *sql.DB
	ids          *ids // of a verification
}

// server returns the server that the file calls source or target.
func (d *databases) server(ctx context.Context, name string) (*sql.DB, error) {
	db, dsn, title := &d.source, d.c.SourceDSN, sourceName(d.c)
	if name == "target" {
		if kind := d.c.Target.Kind(); kind != config.MySQLTarget {
			return nil, fmt.Errorf("lookups find columns in a MySQL or MariaDB server, and the target is %s", kind)
		}
		db, dsn, title = &d.dest, d.c.TargetDSN, targetName(d.c)
	}
	if *db == nil {
		s, err := askServer(ctx, dsn())
		if err != nil {
			return nil, fmt.Errorf("asking %s: %w", title, err)
		}
		*db = s.DB
	}
	return *db, nil
}

// Close ends the connections.
func (d *databases) Close() error {
	var errs []error
	for _, db := range []*sql.DB{d.source, d.dest} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	errs = append(errs, d.ids.close())
	d.source, d.dest, d.ids = nil, nil, nil
	return errors.Join(errs...)
}

// lookups opens the lookups of a unit of the file. Its faults name their lines.
func (d *databases) lookups(ctx context.Context, unit int) (joins []dpu.Join, err error) {
	var errs []error
	for i, l := range d.c.Units[unit].Lookups {
		j := dpu.Join{On: l.On, As: l.As, Required: l.Required, Cache: l.Cache, CacheFor: l.CacheFor}
		var err error
		switch {
		case l.Func != "":
			j.Lookup = d.c.Lookup(&l)
		case l.File != "":
			var find []dfs.Column
			for _, name := range l.Find {
				find = append(find, dfs.Column{Name: name, Type: l.Types[name]})
			}
			j.Lookup, err = dpu.OpenFileLookup(l.File, l.KeyColumns(), find)
		default:
			var db *sql.DB
			if db, err = d.server(ctx, l.In); err == nil {
				j.Lookup, err = dpu.OpenTableLookup(ctx, db, l.Table, l.KeyColumns(), l.Find)
			}
		}
		for _, f := range faultsOf(err) {
			path := fmt.Sprintf("units[%d].lookups[%d]", unit, i)
			errs = append(errs, fmt.Errorf("%s: %s: %s", d.c.Where(path), path, f.What))
		}
		joins = append(joins, j)
	}
	return joins, errors.Join(errs...)
}
