package sink

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// How PostgreSQL and SQLite take part in what alters tables of the source. A statement
// is taken apart (package ddl), and each of its parts is done to the target's table: to
// columns, keys and indexes, and names. What is not understood exactly stops the
// pipeline, and so does what would give rows that are there other values than the source
// has given to its own, as no log shows these.

// An alterer changes tables of a target, within the open transaction.
type alterer interface {
	// altered is told that tables may not be what they were.
	altered()

	takesName(t *table) error // why the target cannot have a table of that name

	createSchema(ctx context.Context, schema string) error
	dropSchema(ctx context.Context, schema string) error
	createLike(ctx context.Context, t, like *table) error
	renameTable(ctx context.Context, t, to *table) error
	truncate(ctx context.Context, t *table) error

	// indexes returns all of a table but its primary key, as they are.
	indexes(ctx context.Context, t *table) ([]targetIndex, error)
	indexName(t *table, name string) string // of the source's index
	dropIndex(ctx context.Context, t *table, ix *targetIndex) error
	renameIndex(ctx context.Context, t *table, ix *targetIndex, name string) error

	addColumn(ctx context.Context, t *table, n *newColumn, keepDefault bool) error
	dropColumn(ctx context.Context, t *table, column string) error
	renameColumn(ctx context.Context, t *table, column, name string) error
	changeColumn(ctx context.Context, t *table, n *newColumn) error // by its name
	setDefault(ctx context.Context, t *table, column, literal string) error
	setPrimary(ctx context.Context, t *table, columns []string) error

	// converts returns why values of a column may not be those that the source's have
	// become. It is asked before the change, and after it again with done.
	converts(ctx context.Context, t *table, def *ddl.ColumnDef, n *newColumn, utc, done bool) error
}

// A targetIndex is an index of a target's table.
type targetIndex struct {
	name       string
	unique     bool
	plain      bool // of whole columns and all rows
	constraint bool // made by a constraint of its name
	columns    []string
}

func (x *targetIndex) has(column string) bool {
	return slices.ContainsFunc(x.columns, func(s string) bool { return strings.EqualFold(s, column) })
}

// indexName is the name of a source's index on the target, where indexes of all tables
// have one space of names. A source's names have a meaning only so.
func indexName(t *table, name string) string { return t.name + "." + name }

// mariaID is how MariaDB names transactions.
var mariaID = regexp.MustCompile(`^\d+-\d+-\d+$`)

// alter does to the target what a statement does.
func (c *core) alter(ctx context.Context, tx *dfs.Transaction, ch *dfs.Change, s *ddl.Statement) error {
	s, err := c.cut(ch, s)
	if err != nil {
		return err
	}
	switch s.Kind {
	case ddl.CreateSchema, ddl.DropSchema:
		return c.alterSchema(ctx, s)
	}
	var list []*table
	for _, n := range s.Tables {
		t, err := c.routed(n)
		if err != nil {
			return err
		}
		list = append(list, t)
	}
	if len(list) == 0 {
		return errUnsettled
	}
	switch s.Kind {
	case ddl.CreateTable:
		return c.createTable(ctx, tx, ch, s, list[0])
	case ddl.DropTable:
		for _, t := range list {
			if err := c.dropTable(ctx, t, s.IfExists); err != nil {
				return err
			}
		}
		return nil
	case ddl.RenameTable:
		for i := 0; i+1 < len(list); i += 2 {
			if err := c.moveTable(ctx, list[i], list[i+1], s.IfExists); err != nil {
				return err
			}
		}
		return nil
	case ddl.TruncateTable:
		return c.db.truncate(ctx, list[0])
	case ddl.AlterTable, ddl.CreateIndex, ddl.DropIndex:
		a := &alteration{core: c, ctx: ctx, s: s, ch: ch, t: list[0]}
		return a.run(mariaID.MatchString(tx.ID))
	}
	return errUnsettled
}

// routed returns the target's table for one of a statement's.
func (c *core) routed(n ddl.Table) (*table, error) {
	t := &table{}
	t.schema, t.name = match.Target(c.routes, n.Schema, n.Name)
	t.key = c.db.tableKey(t.schema, t.name)
	switch {
	case n.Name == "":
		return nil, errUnsettled
	case match.Merges(c.routes, n.Schema, n.Name):
		return nil, fmt.Errorf("the routes may send other tables than %s to %s", n, c.db.ident(t))
	case t.key == c.db.tableKey(c.schema, checkpointTable):
		return nil, fmt.Errorf("%s is the pipeline's own", c.db.ident(t))
	}
	return t, nil
}

func (c *core) alterSchema(ctx context.Context, s *ddl.Statement) error {
	from := s.Tables[0].Schema
	to, ok := match.TargetSchema(c.routes, from)
	switch {
	case !ok:
		return fmt.Errorf("the routes send no other schema, and nothing but the whole of %s, to one place, so there is no schema of the target that stands for it", from)
	case s.Kind == ddl.CreateSchema:
		return c.db.createSchema(ctx, to)
	case !c.followed.FollowsAll(from):
		return fmt.Errorf("not all tables of the schema %s are followed", from)
	case strings.EqualFold(to, c.schema):
		return fmt.Errorf("the target's schema %s has the checkpoint", to)
	}
	return c.db.dropSchema(ctx, to)
}

func (c *core) dropTable(ctx context.Context, t *table, lenient bool) error {
	there, err := c.db.there(ctx, t.schema, t.name)
	if err != nil || !there && lenient {
		return err
	}
	return c.run(ctx, "DROP TABLE "+c.db.ident(t))
}

// moveTable gives a table another name, and its indexes theirs.
func (c *core) moveTable(ctx context.Context, t, to *table, lenient bool) error {
	there, err := c.db.there(ctx, t.schema, t.name)
	if err != nil || !there && lenient {
		return err
	}
	list, err := c.db.indexes(ctx, t)
	if err == nil {
		err = c.db.renameTable(ctx, t, to)
	}
	for i := range list {
		if name, ours := strings.CutPrefix(list[i].name, t.name+"."); err == nil && ours {
			err = c.db.renameIndex(ctx, to, &list[i], c.db.indexName(to, name))
		}
	}
	return err
}

// createTable creates a table as a statement does.
func (c *core) createTable(ctx context.Context, tx *dfs.Transaction, ch *dfs.Change, s *ddl.Statement, t *table) error {
	there, err := c.db.there(ctx, t.schema, t.name)
	switch {
	case err != nil:
		return err
	case there && s.OrReplace:
		if err := c.dropTable(ctx, t, false); err != nil {
			return err
		}
	case there && s.IfNotExists:
		return nil
	case there:
		return fmt.Errorf("the target has a table %s already", c.db.ident(t))
	}
	if err := c.db.takesName(t); err != nil {
		return err
	}
	list, err := s.Actions(ch.Session, mariaID.MatchString(tx.ID))
	if err != nil {
		return err
	}
	if err := c.db.createSchema(ctx, t.schema); err != nil {
		return err
	}
	if len(list) > 0 && list[0].Do == ddl.LikeTable {
		like, err := c.routed(list[0].Table)
		if err != nil {
			return err
		}
		return c.db.createLike(ctx, t, like)
	}
	var items, primary []string
	var keys []plainKey
	var errs []error
	names := &keyNames{}
	for i := range list {
		if list[i].Do == ddl.AddKey && list[i].Key.Kind == ddl.PrimaryKey {
			primary = list[i].Key.Columns
		}
	}
	for i := range list {
		a := &list[i]
		switch {
		case a.Do == ddl.AddColumn:
			n, err := c.column(&a.Def)
			errs = append(errs, err)
			n.notNull = n.notNull || slices.ContainsFunc(primary, func(s string) bool { return strings.EqualFold(s, n.name) })
			items = append(items, n.item())
		case a.Key.Kind == ddl.PrimaryKey:
		default:
			k, ok, err := c.key(&a.Key, t, names)
			if errs = append(errs, err); ok {
				keys = append(keys, k)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if primary != nil {
		items = append(items, "PRIMARY KEY ("+quoteNames(primary)+")")
	}
	statements := []string{"CREATE TABLE " + c.db.ident(t) + " (\n  " + strings.Join(items, ",\n  ") + "\n)"}
	for _, k := range keys {
		statements = append(statements, c.db.index(t, k))
	}
	for _, sql := range statements {
		if err := c.run(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// column returns a column of the target for a definition of the source's. A default that
// is no literal is left out: rows come with their values.
func (c *core) column(def *ddl.ColumnDef) (n newColumn, err error) {
	n = newColumn{name: def.Name, notNull: !def.Nullable}
	if n.typ, err = c.columnType(&def.Column); err != nil {
		return n, err
	}
	if def.Literal && !(def.Numbers || def.Generated) {
		text, ok := stored(def)
		if !ok {
			err = fmt.Errorf("%q has more than one meaning", def.Default)
		} else {
			n.literal, err = c.plainLiteral(&def.Column, text)
		}
	} else if bitsForm.MatchString(def.Computed) {
		err = fmt.Errorf("%s is read by what type the column has", def.Computed)
	}
	switch {
	case err != nil && def.Nullable:
		// A row image may leave the column out, and the target would make that NULL in silence.
		return n, fmt.Errorf("the default of the column %s cannot be that of the target's: %w: let the source give it as a plain number or text, "+
			"or make the column on the target by hand and name this statement as done", def.Name, err)
	case err != nil:
		c.log.Warn("a column has no default on the target", "column", def.Name, "why", err)
	}
	return n, nil
}

// stored returns the text of a default as a column of its type holds it: without the spaces
// at the end of a CHAR, and with the zeros at that of a BINARY.
func stored(def *ddl.ColumnDef) (text string, ok bool) {
	text = def.Default
	switch word, _, _ := strings.Cut(def.Type, "("); word {
	case "char":
		return strings.TrimRight(text, " "), true
	case "binary":
		return text + strings.Repeat("\x00", max(pgArg(def.Type)-len(text), 0)), true
	case "year":
		return text, len(text) == 4
	}
	return text, true
}

// keyNames gives names to keys that a statement leaves to the server, as it does: that
// of their first column, and a number from 2 on if another has that.
type keyNames struct{ taken []string }

func (k *keyNames) name(def *ddl.KeyDef) string {
	name := def.Name
	for n := 1; name == ""; n++ {
		try := def.Columns[0]
		if n > 1 || strings.EqualFold(try, "PRIMARY") {
			try = fmt.Sprintf("%s_%d", try, max(n, 2))
		}
		if !slices.ContainsFunc(k.taken, func(s string) bool { return strings.EqualFold(s, try) }) {
			name = try
		}
	}
	k.taken = append(k.taken, name)
	return name
}

// key returns the index that the target gets for a key of the source's; ok is false if
// it gets none.
func (c *core) key(def *ddl.KeyDef, t *table, names *keyNames) (k plainKey, ok bool, err error) {
	lacks := func() {
		c.log.Warn("the target's table lacks a key or constraint", "table", c.db.ident(t), "key", def.Text)
	}
	switch {
	case def.Kind == ddl.ReferKey && def.Acts != "":
		return k, false, fmt.Errorf("a foreign key of it acts on rows (%s), which not every source's log tells: make it on the target too if this one's does not", def.Acts)
	case def.Kind == ddl.ReferKey, def.Kind == ddl.CheckKey:
		lacks()
		return k, false, nil
	}
	if len(def.Columns) == 0 {
		lacks()
		return k, false, nil
	}
	k = plainKey{names.name(def), def.Kind == ddl.UniqueKey, def.Columns}
	if def.Partial || def.Kind == ddl.SearchKey {
		lacks()
		return k, false, nil
	}
	return k, true, nil
}
