package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
)

// An alteration does to one table of the target what an ALTER TABLE, CREATE INDEX or DROP
// INDEX does to the source's.
type alteration struct {
	*core
	ctx context.Context
	s   *ddl.Statement
	ch  *dfs.Change
	t   *table // as it is at the moment

	rows  bool // it has some
	keys  []targetIndex
	names *keyNames
}

// errFills says why a statement may not be applied where the table has rows.
var errFills = errors.New("the table has rows, and what the statement makes of them cannot be told")

func (a *alteration) run(maria bool) error {
	list, err := a.s.Actions(a.ch.Session, maria)
	if err != nil {
		return err
	}
	there, err := a.db.there(a.ctx, a.t.schema, a.t.name)
	if err != nil || !there && a.s.IfExists && a.s.Kind == ddl.AlterTable {
		return err
	}
	if err := a.load(); err != nil {
		return err
	}
	found, err := a.db.query(a.ctx, "SELECT 1 FROM "+a.db.ident(a.t)+" LIMIT 1")
	if err != nil {
		return err
	}
	a.rows = len(found) > 0
	if err := a.fills(); a.rows && err != nil {
		return err
	}
	for i := range list {
		if err := a.do(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// fills refuses what gives rows that are there values by more than what is in them.
func (a *alteration) fills() error {
	f := a.s.Fill()
	switch {
	case f.Ignores:
		return fmt.Errorf("%w: IGNORE drops some", errFills)
	case f.Unproven != "":
		return fmt.Errorf("%w: it fills them with %s", errFills, f.Unproven)
	case f.Numbers && (f.Column == "" || a.t.column(f.Column) < 0):
		return fmt.Errorf("%w: it numbers them", errFills)
	case f.Numbers:
		name := quoteName(a.t.columns[a.t.column(f.Column)].name)
		some, err := a.anyRow(a.ctx, a.t, name+" IS NULL OR "+name+"=0")
		if err == nil && some {
			err = fmt.Errorf("%w: it numbers some of them", errFills)
		}
		return err
	}
	return nil
}

// load reads the target's table anew.
func (a *alteration) load() error {
	t, err := a.db.loadTable(a.ctx, a.t.schema, a.t.name)
	if err != nil {
		return err
	}
	t.key = a.db.tableKey(t.schema, t.name)
	a.t = t
	if a.keys, err = a.db.indexes(a.ctx, t); err != nil {
		return err
	}
	a.names = &keyNames{}
	for _, k := range a.keys {
		if name, ours := strings.CutPrefix(k.name, t.name+"."); ours {
			a.names.taken = append(a.names.taken, name)
		}
	}
	return nil
}

func (a *alteration) do(x *ddl.Action) error {
	err := a.step(x)
	if err == nil && x.Do != ddl.MoveTable {
		err = a.load()
	}
	return err
}

func (a *alteration) step(x *ddl.Action) error {
	has := func(name string) bool { return a.t.column(name) >= 0 }
	switch x.Do {
	case ddl.AddColumn:
		if x.Lenient && has(x.Def.Name) {
			return nil
		}
		return a.add(&x.Def)
	case ddl.DropColumn:
		if x.Lenient && !has(x.Name) {
			return nil
		}
		return a.drop(x.Name)
	case ddl.RenameColumn:
		if x.Lenient && !has(x.Name) {
			return nil
		}
		return a.db.renameColumn(a.ctx, a.t, x.Name, x.To)
	case ddl.ChangeColumn:
		return a.change(&x.Def)
	case ddl.SetDefault:
		return a.setDefault(x)
	case ddl.ConvertText:
		if a.rows && !a.strict() {
			return fmt.Errorf("%w: the sql_mode is not strict, so texts that the character set lacks are changed", errFills)
		}
		return nil
	case ddl.AddKey:
		if x.Key.Kind == ddl.PrimaryKey {
			return a.db.setPrimary(a.ctx, a.t, x.Key.Columns)
		}
		for _, name := range x.Key.Columns {
			if !has(name) { // SQLite would take it for a text
				return fmt.Errorf("the target's table %s has no column %s", a.db.ident(a.t), name)
			}
		}
		k, ok, err := a.key(&x.Key, a.t, a.names)
		if err != nil || !ok || x.Lenient && a.index(k.name) != nil {
			return err
		}
		return a.core.run(a.ctx, a.db.index(a.t, k))
	case ddl.DropKey:
		if x.Key.Kind == ddl.PrimaryKey {
			return a.db.setPrimary(a.ctx, a.t, nil)
		}
		k := a.index(x.Name)
		if k == nil {
			return a.unknown(x)
		}
		return a.db.dropIndex(a.ctx, a.t, k)
	case ddl.RenameKey:
		k := a.index(x.Name)
		if k == nil {
			return a.unknown(x)
		}
		return a.db.renameIndex(a.ctx, a.t, k, a.db.indexName(a.t, x.To))
	case ddl.MoveTable:
		to, err := a.routed(x.Table)
		if err != nil {
			return err
		}
		return a.moveTable(a.ctx, a.t, to, false)
	}
	return errUnsettled
}

// index returns the target's index for one of the source's, or nil.
func (a *alteration) index(name string) *targetIndex {
	for i := range a.keys {
		if strings.EqualFold(a.keys[i].name, a.db.indexName(a.t, name)) {
			return &a.keys[i]
		}
	}
	return nil
}

// unknown says what to do about an index that the target has under no name that is
// known. A unique one that stays behind would refuse rows.
func (a *alteration) unknown(x *ddl.Action) error {
	for i := range a.keys {
		// What a name was that had to be cut is not known after the table was renamed.
		if k := &a.keys[i]; k.unique && (!strings.HasPrefix(k.name, a.t.name+".") || pgCut.MatchString(k.name)) && !x.Lenient {
			return fmt.Errorf("the target has no index %s, which would stand for %s of the source, and %s, which may do so", quoteName(a.db.indexName(a.t, x.Name)), x.Name, quoteName(k.name))
		}
	}
	a.log.Warn("the target's table has no such index or constraint", "table", a.db.ident(a.t), "name", x.Name)
	return nil
}

// strict reports whether the source's session refused what it could not store.
func (a *alteration) strict() bool {
	modes := sqlModes(a.ch.Session)
	return slices.Contains(modes, "STRICT_TRANS_TABLES") || slices.Contains(modes, "STRICT_ALL_TABLES")
}

// utc reports whether times of the source's session are those of UTC, or the statement
// has had nothing to do with times: servers log the zone of those only that asked for it
// (THD::time_zone_used of MySQL, THD::TIME_ZONE_USED of MariaDB).
func (a *alteration) utc() bool {
	if a.ch.Session == nil {
		return false
	}
	for _, v := range a.ch.Session.Vars {
		if strings.EqualFold(v.Name, "time_zone") {
			return slices.Contains([]string{"+00:00", "UTC"}, strings.ToUpper(strings.Trim(v.Value, "'")))
		}
	}
	return len(a.ch.Session.Vars) > 0
}

// add adds a column. Rows that are there get the default, or what stands for it where
// there is none.
func (a *alteration) add(def *ddl.ColumnDef) error {
	n, err := a.column(def)
	if err != nil {
		return err
	}
	keep := true
	if a.rows {
		stamp := strings.HasPrefix(def.Type, "timestamp")
		switch {
		case def.Generated:
			return fmt.Errorf("%w: its column %s is generated", errFills, def.Name)
		case def.Numbers:
			return fmt.Errorf("%w: its column %s is numbered", errFills, def.Name)
		case def.Computed != "":
			return fmt.Errorf("%w: its column %s gets %s", errFills, def.Name, def.Computed)
		case def.Literal && n.literal == "":
			return fmt.Errorf("%w: the default of its column %s cannot be one of the target", errFills, def.Name)
		case stamp && def.Literal && !a.utc():
			return fmt.Errorf("%w: the default of its column %s is a time of the session's zone, which is not UTC", errFills, def.Name)
		case n.notNull && n.literal == "":
			keep = false
			text, ok := implicit(def)
			if !ok {
				return fmt.Errorf("%w: its column %s has no default", errFills, def.Name)
			}
			if n.literal, err = a.plainLiteral(&def.Column, text); err != nil {
				return err
			}
		}
	}
	return a.db.addColumn(a.ctx, a.t, &n, keep)
}

// implicit returns what a server gives to rows in a column that has no default and takes
// no NULL (MySQL's manual, 13.6), where that is a value of every target.
func implicit(def *ddl.ColumnDef) (text string, ok bool) {
	typ, _, _ := strings.Cut(def.Type, "(")
	typ, _, _ = strings.Cut(typ, " ")
	switch typ {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "float", "double":
		return "0", true
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "set":
		return "", true
	case "enum":
		return def.Members[0], true
	}
	return "", false
}

// drop drops a column, which leaves the others of its indexes.
func (a *alteration) drop(column string) error {
	j := a.t.column(column)
	if j < 0 {
		return fmt.Errorf("the target's table %s has no column %s", a.db.ident(a.t), column)
	}
	column = a.t.columns[j].name
	if slices.Contains(a.t.primary, j) {
		var rest []string
		for _, i := range a.t.primary {
			if i != j {
				rest = append(rest, a.t.columns[i].name)
			}
		}
		if err := a.db.setPrimary(a.ctx, a.t, rest); err != nil {
			return err
		}
	}
	var again []plainKey
	for i := range a.keys {
		k := &a.keys[i]
		if !k.has(column) {
			continue
		}
		if name, ours := strings.CutPrefix(k.name, a.t.name+"."); ours && k.plain && len(k.columns) > 1 {
			rest := slices.DeleteFunc(slices.Clone(k.columns), func(s string) bool { return strings.EqualFold(s, column) })
			again = append(again, plainKey{name, k.unique, rest})
		}
		if err := a.db.dropIndex(a.ctx, a.t, k); err != nil {
			return err
		}
	}
	if err := a.db.dropColumn(a.ctx, a.t, column); err != nil {
		return err
	}
	for _, k := range again {
		if err := a.core.run(a.ctx, a.db.index(a.t, k)); err != nil {
			return err
		}
	}
	return nil
}

// change gives a column another definition.
func (a *alteration) change(def *ddl.ColumnDef) error {
	j := a.t.column(def.Name)
	if j < 0 {
		return fmt.Errorf("the target's table %s has no column %s", a.db.ident(a.t), def.Name)
	}
	n, err := a.column(def)
	if err != nil {
		return err
	}
	n.name, n.empty = a.t.columns[j].name, !a.rows
	if slices.Contains(a.t.primary, j) {
		n.notNull = true
	}
	if a.rows {
		switch {
		case !a.strict():
			return fmt.Errorf("%w: the sql_mode is not strict, so values that the column %s cannot hold are changed", errFills, def.Name)
		case def.Generated:
			return fmt.Errorf("%w: its column %s is generated", errFills, def.Name)
		}
		if err := a.db.converts(a.ctx, a.t, def, &n, a.utc(), false); err != nil {
			return fmt.Errorf("%w: column %s: %w", errFills, def.Name, err)
		}
	}
	if err := a.db.changeColumn(a.ctx, a.t, &n); err != nil || !a.rows {
		return err
	}
	if err := a.db.converts(a.ctx, a.t, def, &n, a.utc(), true); err != nil {
		return fmt.Errorf("%w: column %s: %w", errFills, def.Name, err)
	}
	return nil
}

// anyRow reports whether the table has a row for which a condition holds.
func (c *core) anyRow(ctx context.Context, t *table, where string) (bool, error) {
	rows, err := c.db.query(ctx, "SELECT 1 FROM "+c.db.ident(t)+" WHERE "+where+" LIMIT 1")
	return len(rows) > 0, err
}
