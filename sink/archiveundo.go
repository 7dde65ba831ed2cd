package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/dataflowsync/dfs/internal/match"
)

// UndoOptions say what to take back.
type UndoOptions struct {
	// From and To are the first and the last transaction that are taken back, by
	// number or by the source's name, or the times after and up to which they were
	// committed. A zero To stands for the transaction that From names.
	From, To dfs.StopPoint

	// Tables are those whose rows are taken back, as in cdc.Options. Default: all.
	Tables []string

	// Key is the primary key of the one row to take back, as text. If it has several columns
	// they are separated by commas, and a comma or a backslash in one stands behind a backslash. It needs a pattern in Tables that names one table. Default: all rows.
	Key string

	// Decode is that of RestoreOptions.
	Decode func(ctx context.Context, batch []*dfs.Transaction) error
}

// undoMost bounds what is taken back at once, as it is held in memory and is one
// transaction of the target.
const (
	undoRows  = 1_000_000
	undoBytes = 512 << 20
)

// An Undo is what takes transactions back: their changes, the last first, each made
// into its opposite. SQL writes them, and MySQL.Undo applies them.
//
// The opposite of a change finds a row by all that the change has left in it. So where
// the target has moved on, it finds none.
type Undo struct {
	Transactions int // that have something to take back
	Rows         int

	// Notes say what is not taken back, as the log does not tell it.
	Notes []string

	steps []undoStep
	made  []Definition
}

// An undoStep is the opposite of a change of a transaction.
type undoStep struct {
	dfs.Change
	of string
}

// Undo reads what is to be taken back. The error is about a statement that altered one
// of the tables on the way, about rows that were not logged whole, and about more than
// fits into one transaction; from an archive with a copy of the rows, a restore to the
// place before does all that.
func (a *Archive) Undo(ctx context.Context, opts *UndoOptions) (*Undo, error) {
	u, err := a.undoOf(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("undo from archive %s: %w", a.dir, err)
	}
	return u, nil
}

func (a *Archive) undoOf(ctx context.Context, opts *UndoOptions) (*Undo, error) {
	if opts == nil || opts.From.IsZero() {
		return nil, errors.New("option From names no transaction and no time: say what to take back")
	}
	tables, err := match.ParseList(opts.Tables)
	if err != nil {
		return nil, err
	}
	if opts.Key != "" && (len(opts.Tables) != 1 || strings.ContainsAny(opts.Tables[0], "*?!")) {
		return nil, errors.New("option Key is about a row of one table: name the table in Tables, without a wildcard")
	}
	to := opts.To
	if to.IsZero() {
		if to = opts.From; !to.Time.IsZero() {
			to = dfs.StopPoint{}
		}
	}
	a.mu.Lock()
	u := &Undo{made: a.chain.Defined}
	a.mu.Unlock()
	size, last := 0, ""
	err = a.Each(ctx, opts.From, to, opts.Decode, func(tx *dfs.Transaction) error {
		name := txName(tx.Seq, tx.ID)
		if tx.Snapshot {
			return nil // rows that were there, which no transaction has made
		}
		for _, c := range tx.Changes {
			if c.Op == dfs.DDL {
				s := parse(&c, c.Query)
				if !s.Settled || s.Kind == ddl.Unknown || s.Kind == ddl.DropSchema && tables.FollowsSome(s.Tables[0].Schema) {
					// Of a schema's tables nothing is known but that they are gone.
					return fmt.Errorf("transaction %s has a statement that may alter or drop the tables: %.200q; begin after it, or restore to the place before", name, c.Query)
				}
				for _, t := range altered(s) {
					if tables.Follows(t.Schema, t.Name) && t.Name != "" {
						return fmt.Errorf("transaction %s alters the table %s.%s: %.200q; begin after it, or restore to the place before", name, t.Schema, t.Name, c.Query)
					}
				}
				continue
			}
			if opts.Key != "" && c.Table.Key == nil && tables.Follows(c.Table.Schema, c.Table.Name) {
				return fmt.Errorf("option Key: %s has no primary key: leave it out, to take back all of its rows", c.Table)
			}
			if !tables.Follows(c.Table.Schema, c.Table.Name) || opts.Key != "" && !hasKey(&c, opts.Key) {
				continue
			}
			if slices.ContainsFunc(c.Before, isAbsent) || slices.ContainsFunc(c.After, isAbsent) {
				return fmt.Errorf("transaction %s changes a row of %s, and its log has not all columns of the row (binlog_row_image): restore to the place before", name, c.Table)
			}
			size += 200
			for _, r := range [2]dfs.Row{c.Before, c.After} {
				for _, v := range r {
					size += 32 + len(v.Text())
				}
			}
			if len(u.steps) >= undoRows || size > undoBytes {
				return fmt.Errorf("it is more than %d rows or %d MiB: take fewer transactions back at once, or restore to the place before", undoRows, undoBytes>>20)
			}
			op := c.Op
			switch op {
			case dfs.Insert:
				op = dfs.Delete
			case dfs.Delete:
				op = dfs.Insert
			}
			u.steps = append(u.steps, undoStep{dfs.Change{Op: op, Table: c.Table, Before: c.After, After: c.Before, NoForeignKeys: c.NoForeignKeys}, name})
			if id := cmp.Or(tx.ID, strconv.FormatUint(tx.Seq, 10)); id != last {
				u.Transactions++
				last = id
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(u.steps)
	u.Rows = len(u.steps)
	u.note()
	return u, nil
}

// hasKey reports whether one of the images of a change has a primary key.
func hasKey(c *dfs.Change, key string) bool {
	return slices.ContainsFunc([]dfs.Row{c.Before, c.After}, func(r dfs.Row) bool { return r != nil && undoKey(c.Table, r) == key })
}

// undoKey returns the primary key of a row as text.
func undoKey(t *dfs.Table, r dfs.Row) string {
	var parts []string
	for _, i := range t.Key {
		part := r[i].String()
		if len(t.Key) > 1 {
			part = strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(part)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// rowText names a row for people, by its key, or by all of it.
func rowText(t *dfs.Table, r dfs.Row) string {
	cols := t.Key
	if cols == nil {
		for i := range r {
			cols = append(cols, i)
		}
	}
	var parts []string
	for _, i := range cols {
		parts = append(parts, t.Columns[i].Name+"="+show(r[i]))
	}
	return strings.Join(parts, ", ")
}

// note tells of tables without a key, and of foreign keys by which rows of other tables were changed without a trace
// in the log, as far as the archive knows how the tables are made.
func (u *Undo) note() {
	gone, keyless := make(map[string]bool), make(map[string]bool)
	for i := range u.steps {
		t := u.steps[i].Table
		if u.steps[i].Op != dfs.Delete {
			gone[t.String()] = true
		}
		if t.Key == nil && !keyless[t.String()] {
			keyless[t.String()] = true
			u.Notes = append(u.Notes, fmt.Sprintf("%s has no primary key, so it cannot be seen whether its rows were taken back before: do it once only", t))
		}
	}
	for _, d := range u.made {
		def, err := readDefinition(d.SQL)
		if err != nil {
			continue
		}
		for _, item := range def.items {
			f, _, ok := readForeign(item, d.Table.Schema)
			if !ok || !gone[f.schema+"."+f.table] {
				continue
			}
			for _, what := range []string{"ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE", "ON UPDATE SET NULL"} {
				if strings.Contains(strings.ToUpper(item), what) {
					u.Notes = append(u.Notes, fmt.Sprintf("a foreign key of %s refers to %s.%s with %s: what it did to rows of %s is taken back only if the source's log has it",
						d.Table, f.schema, f.table, what, d.Table))
				}
			}
		}
	}
}

// byWhole returns a mapping by which a row is found by all of its columns.
func (m *mapping) byWhole() *mapping {
	o := *m
	o.key, o.keyName, o.keyOrd, o.others, o.events = nil, "", "", nil, nil
	return &o
}

// SQL writes statements that take the transactions back, to be run by hand: each must
// match one row, and one that does not tells that the row has moved on. They are one
// transaction, whose COMMIT is left to who has looked. How tables are made is known as
// of the last copy of rows.
func (u *Undo) SQL(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "-- takes back %d rows of %d transactions; each statement must match exactly 1 row, or the row has changed since\n", u.Rows, u.Transactions)
	for _, n := range u.Notes {
		fmt.Fprintf(&b, "-- note: %s\n", strings.ReplaceAll(n, "\n", " "))
	}
	fmt.Fprintf(&b, "SET NAMES utf8mb4, time_zone='+00:00', sql_mode='%s';\nSTART TRANSACTION;\n", sqlMode)
	maps := make(map[*dfs.Table]*mapping)
	of := ""
	for i := range u.steps {
		s := &u.steps[i]
		m := maps[s.Table]
		if m == nil {
			t := tableLike(s.Table, s.Table.Schema, s.Table.Name)
			u.generated(t)
			made, err := newMapping(s.Table, t)
			if err != nil {
				return err
			}
			m = made.byWhole()
			maps[s.Table] = m
		}
		if s.of != of {
			of = s.of
			fmt.Fprintf(&b, "-- transaction %s\n", strings.ReplaceAll(of, "\n", " "))
		}
		for _, text := range statementsOf(m.appendSingle(nil, &group{m: m, op: s.Op, serial: true}, &rowOp{s.Before, s.After})) {
			b.WriteString(text + ";\n")
		}
		if b.Len() > 1<<20 {
			if _, err := io.WriteString(out, b.String()); err != nil {
				return err
			}
			b.Reset()
		}
	}
	b.WriteString("-- COMMIT; or ROLLBACK; if one has matched no row\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// generated marks the columns of a table that a server computes, as far as the archive
// knows how it is made.
func (u *Undo) generated(t *table) {
	for _, d := range u.made {
		if d.Table.Schema != t.schema || d.Table.Name != t.name {
			continue
		}
		def, err := readDefinition(d.SQL)
		if err != nil {
			return
		}
		for _, item := range def.items {
			for i := range t.columns {
				head := string(appendIdent(nil, t.columns[i].name)) + " "
				if strings.HasPrefix(strings.TrimSpace(item), head) && strings.Contains(strings.ToUpper(unquoted(item)), " GENERATED ALWAYS AS ") {
					t.columns[i].generated = true
				}
			}
		}
	}
}

// unquoted returns a definition without what is in quotes, such as a comment's text.
func unquoted(item string) string {
	var b strings.Builder
	outsideQuotes(item, func(code string) string {
		b.WriteString(code)
		return ""
	})
	return b.String()
}

// An UndoError says which rows of the target are not as the transactions to be taken
// back have left them. Nothing was taken back.
type UndoError struct {
	Rows []string // at most some of them
	More bool     // there may be more
}

func (e *UndoError) Error() string {
	more := ""
	if e.More {
		more = "\nand there may be more"
	}
	return fmt.Sprintf("nothing was taken back, as the target has moved on:\n%s%s\ntake back first what came later, or leave these rows out", strings.Join(e.Rows, "\n"), more)
}

// undoShown is how many rows an UndoError names.
const undoShown = 10

// Undo takes transactions back, through the sink's Routes, in one transaction of the
// target: all of it or, if a row is not as the transaction has left it, nothing, and an
// *UndoError. The checkpoint stays, so a pipeline that feeds the target goes on; but what
// the source does to these rows later meets them as they were. If the connection is lost
// at the COMMIT, the error does not tell the outcome: to call it again does no harm, but for
// rows of tables without a key, which can be there twice: see Notes.
func (m *MySQL) Undo(ctx context.Context, u *Undo) error {
	if err := m.connected(ctx); err != nil {
		return err
	}
	if _, err := m.exec(ctx, []byte("ROLLBACK; "+restoreSQL+"; START TRANSACTION")); err != nil {
		return err
	}
	err := m.undo(ctx, u)
	if err == nil {
		_, err = m.exec(ctx, []byte("COMMIT"))
		if err != nil {
			err = fmt.Errorf("undo: COMMIT: %w", err)
		}
	}
	if err != nil {
		m.drop()
	} else if _, e := m.exec(ctx, []byte(restoreSQL)); e != nil {
		m.drop()
	}
	return err
}

func (m *MySQL) undo(ctx context.Context, u *Undo) error {
	moved := &UndoError{}
	maps := make(map[*dfs.Table]*mapping)
	w := &m.writer
	w.reset()
	for i := range u.steps {
		s := &u.steps[i]
		mp := maps[s.Table]
		if mp == nil {
			known, err := m.mapping(ctx, s.Table)
			if err != nil {
				return fmt.Errorf("undo transaction %s: %w", s.of, err)
			}
			mp = known.byWhole()
			maps[s.Table] = mp
		}
		w.send = (&pipe{m: m, ctx: ctx}).do
		err := w.sqlGroup(&group{m: mp, op: s.Op, noFK: s.NoForeignKeys, serial: true, rows: []rowOp{{s.Before, s.After}}})
		if err == nil {
			err = w.flush()
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, errCount), isDuplicate(err):
			row, is := s.Before, "is not there any more, or has other values"
			if s.Op == dfs.Insert {
				row, is = s.After, "is there again, or its key is"
			}
			moved.Rows = append(moved.Rows, fmt.Sprintf("transaction %s: the row %s of %s.%s %s", s.of, rowText(s.Table, row), mp.to.schema, mp.to.name, is))
		default:
			return fmt.Errorf("undo transaction %s, the row %s of %s: %w", s.of, rowText(s.Table, cmpRow(s.After, s.Before)), s.Table, err)
		}
		if len(moved.Rows) == undoShown {
			moved.More = i+1 < len(u.steps)
			break
		}
	}
	if len(moved.Rows) > 0 {
		return moved
	}
	return nil
}

// cmpRow returns the first of the rows that is there.
func cmpRow(a, b dfs.Row) dfs.Row {
	if a != nil {
		return a
	}
	return b
}
