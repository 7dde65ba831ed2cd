package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/match"
)

// A Definition is a table that the target is to have, as Definitions of package cdc
// returns them. Without its SQL the table gets its columns and its primary key.
type Definition = dfs.Definition

// deferFrom is how large the rows of a table must be for its indexes to be added
// after the copy. Each index costs a row that is inserted about 3 µs of the server's
// time (docs/DESIGN.md), and its pages are written over and over once they do not fit
// into memory; a small table is done sooner than the ALTER.
const deferFrom = 32 << 20

// CreateTables creates those tables that the target lacks, and their schemas, and
// returns their names. What there is already it leaves alone. Foreign keys refer to
// where routes lead, whatever the order of the tables; those whose parent is neither
// in the list nor on the target are left out. AUTO_INCREMENT counters go on.
//
// Where the target's server refuses the definition of the source's, as between
// MySQL and MariaDB, the table is made with its columns and primary key only, and
// notes tell what it lacks.
//
// Plain indexes of large tables wait until their rows have come (see
// dfs.Transaction.Copied): they are then added in the background, while the sink
// goes on, and also after a restart, for what is still to be added is kept in the
// table dfs_index beside the checkpoint. If later is false, they are added at once.
//
// Ask Fresh before: a pipeline that has begun does not bring again the rows of a table
// that is gone, so it would be made empty. All faults are returned at once, and the
// tables without a fault are created.
func (m *MySQL) CreateTables(ctx context.Context, tables []Definition, later bool) (made, notes []string, err error) {
	if err := m.connected(ctx); err != nil {
		return nil, nil, err
	}
	c := creation{m: m, there: make(map[string]bool), wanted: make(map[string]bool), needed: make(map[string][][]string)}
	if err := c.plan(ctx, tables); err != nil {
		return nil, nil, err
	}
	if _, err := m.exec(ctx, []byte("SET foreign_key_checks=0")); err != nil {
		return nil, nil, err
	}
	var errs []error
	for i := range tables {
		err := c.create(ctx, &tables[i], later)
		if errors.Is(err, dfs.ErrTransient) || ctx.Err() != nil {
			m.drop()
			return c.made, c.notes, err
		}
		errs = append(errs, err)
	}
	if _, err := m.exec(ctx, []byte(restoreSQL)); err != nil {
		errs = append(errs, err)
	}
	m.forget()
	return c.made, c.notes, errors.Join(errs...)
}

// creation is one call of CreateTables.
type creation struct {
	m      *MySQL
	there  map[string]bool       // tables of the target, by key
	wanted map[string]bool       // those that are to be
	needed map[string][][]string // columns that foreign keys refer to, by key of the parent
	made   []string
	notes  []string
}

// plan finds out what there is, and what foreign keys need.
func (c *creation) plan(ctx context.Context, tables []Definition) error {
	schemas := make(map[string]bool)
	for _, d := range tables {
		schema, name := match.Target(c.m.routes, d.Table.Schema, d.Table.Name)
		c.wanted[c.m.sess.tableKey(schema, name)] = true
		look := []string{schema}
		if def, err := readDefinition(d.SQL); err == nil {
			for _, item := range def.items {
				if f, _, ok := readForeign(item, d.Table.Schema); ok {
					schema, name := match.Target(c.m.routes, f.schema, f.table)
					key := c.m.sess.tableKey(schema, name)
					c.needed[key] = append(c.needed[key], f.parentColumns)
					look = append(look, schema)
				}
			}
		}
		for _, schema := range look {
			if schemas[schema] {
				continue
			}
			schemas[schema] = true
			rows, err := c.m.sess.query(ctx, string(appendQuoted([]byte("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA="), schema)))
			if err != nil {
				return fmt.Errorf("reading the tables of the target's schema %s: %w", schema, classify(err))
			}
			for _, r := range rows {
				c.there[c.m.sess.tableKey(schema, r[0].text)] = true
			}
		}
	}
	return nil
}

// create creates one table, if it is not there.
func (c *creation) create(ctx context.Context, d *Definition, later bool) error {
	m := c.m
	schema, name := match.Target(m.routes, d.Table.Schema, d.Table.Name)
	key := m.sess.tableKey(schema, name)
	if c.there[key] {
		return nil
	}
	maria := m.sess.srv.mariadb
	full := string(appendIdent(append(appendIdent(nil, schema), '.'), name))
	fail := func(err error) error {
		switch serverError(err) {
		case erDBAccess, erTableAccess, erSpecificAccess:
			err = fmt.Errorf("%w: GRANT CREATE, ALTER, INDEX, REFERENCES ON `%s`.* TO the account of the DSN, or create the table by hand", err, schema)
		}
		return fmt.Errorf("creating the target's table %s.%s: %w", schema, name, err)
	}
	var def definition
	var wait []laterIndex
	var refused error
	if d.SQL != "" {
		if def, refused = readDefinition(d.SQL); refused == nil {
			var notes []string
			def, notes = c.adapt(def, d, schema)
			if later && d.Bytes >= deferFrom {
				def, wait = c.split(def, key)
			}
			if len(wait) > 0 {
				if err := m.addLater(ctx, schema, name, wait); err != nil {
					return err
				}
			}
			refused = c.run(ctx, schema, full, def)
			if nameTaken(refused) {
				// Routes bring tables of several schemas together.
				notes = append(notes, "the server gives its constraints other names, as another table has one of that name")
				refused = c.run(ctx, schema, full, def.unnamed())
			}
			if serverError(refused) == erTableExists {
				// It was not there a moment ago: the session of a process that was killed
				// was still making it.
				c.there[key] = true
				return nil
			}
			if refused == nil {
				for _, n := range notes {
					c.notes = append(c.notes, fmt.Sprintf("%s.%s: %s", schema, name, n))
				}
			}
		}
		if errors.Is(refused, dfs.ErrTransient) || ctx.Err() != nil {
			return fail(refused)
		}
	}
	if d.SQL == "" || refused != nil {
		if len(wait) > 0 {
			if err := m.dropLater(ctx, schema, name); err != nil {
				return err
			}
		}
		def = plainTable(d.Table, maria)
		for i := range def.items {
			def.items[i], _ = translate(def.items[i], d.MariaDB, maria)
		}
		if err := c.run(ctx, schema, full, def); err != nil {
			if refused != nil {
				err = fmt.Errorf("%w; and with its columns and key only: %w", refused, err)
			}
			return fail(err)
		}
		if refused != nil {
			c.notes = append(c.notes, fmt.Sprintf("%s.%s has the columns and the primary key of the source's table and nothing else, since the target refuses its definition (%v): "+
				"add the indexes, defaults and foreign keys that are needed", schema, name, refused))
		}
	}
	c.there[key] = true
	c.made = append(c.made, schema+"."+name)
	return nil
}

// nameTaken reports whether a constraint cannot be created because the schema has
// one of its name.
func nameTaken(err error) bool {
	switch serverError(err) {
	case erDupForeignKey, erDupCheck, erDupKey: // the last is of MySQL 5.6
		return true
	case erCantCreateTable: // of MariaDB
		return strings.Contains(err.Error(), "errno: 121 ")
	}
	return false
}

// run executes a CREATE TABLE, and creates the schema if it is missing.
func (c *creation) run(ctx context.Context, schema, full string, d definition) error {
	sql := "CREATE TABLE " + full + " (\n  " + strings.Join(d.items, ",\n  ") + "\n) " + d.rest
	_, err := c.m.exec(ctx, []byte(sql))
	if serverError(err) == erBadDB {
		if _, err = c.m.exec(ctx, append(appendIdent([]byte("CREATE DATABASE IF NOT EXISTS "), schema), ';')); err == nil {
			_, err = c.m.exec(ctx, []byte(sql))
		}
	}
	return err
}

// adapt makes a definition of the source one for the target, and says what is not
// the same.
func (c *creation) adapt(def definition, d *Definition, schema string) (definition, []string) {
	var notes []string
	out := definition{rest: def.rest}
	for _, item := range def.items {
		if isForeign(item) {
			f, at, ok := readForeign(item, d.Table.Schema)
			s, n := match.Target(c.m.routes, f.schema, f.table)
			if key := c.m.sess.tableKey(s, n); !ok || !c.there[key] && !c.wanted[key] {
				notes = append(notes, "it lacks the foreign key "+item+", as the target has no such parent")
				continue
			}
			item = f.routed(item, at, c.m.routes)
		}
		out.items = append(out.items, item)
	}
	if oldEngine.MatchString(out.rest) {
		engine := oldEngine.FindString(out.rest)
		out.rest = "ENGINE=InnoDB" + out.rest[len(engine):]
		notes = append(notes, "it is of InnoDB and not of "+engine[len("ENGINE="):]+", which has no transactions")
	}
	translated := func(s string) string {
		s, more := translate(s, d.MariaDB, c.m.sess.srv.mariadb)
		for _, n := range more {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
		return s
	}
	for i := range out.items {
		out.items[i] = translated(out.items[i])
	}
	out.rest = translated(out.rest)
	return out, notes
}

// split takes plain indexes out of a definition: those that neither a foreign key
// nor an AUTO_INCREMENT column needs.
func (c *creation) split(def definition, key string) (now definition, later []laterIndex) {
	now.rest = def.rest
	need := slices.Clone(c.needed[key])
	for _, item := range def.items {
		if f, _, ok := readForeign(item, ""); ok {
			need = append(need, f.columns)
		}
		if item[0] == '`' && strings.Contains(outsideQuotes(item, strings.ToUpper), " AUTO_INCREMENT") {
			need = append(need, []string{unquote(item[:skipQuoted(item, 0)])})
		}
	}
	begins := func(columns, with []string) bool {
		return len(columns) >= len(with) && slices.EqualFunc(columns[:len(with)], with, strings.EqualFold)
	}
	for _, item := range def.items {
		name, columns, ok := plainIndex(item)
		if ok && !slices.ContainsFunc(need, func(with []string) bool { return begins(columns, with) }) {
			later = append(later, laterIndex{name: name, text: item})
			continue
		}
		now.items = append(now.items, item)
	}
	return now, later
}
