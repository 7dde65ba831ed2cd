package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	sqlite3 "modernc.org/sqlite/lib"
)

// A RowMender is a RowReader that may also change rows, beside the pipeline that writes
// the target: it is what package verify repairs with, as its TargetMender. What it does
// is done as the sink does it, so that a row is mended by the bytes that the pipeline
// would have written. Foreign keys are left to the source, as verify makes the target
// what that is: they are off where the target lets them be.
type RowMender struct{ *RowReader }

// MendPostgres is ReadPostgres of a target that is to be mended. The account needs
// SELECT, INSERT, UPDATE and DELETE on the tables, and SELECT and UPDATE on the table of
// checkpoints, in which it locks the pipeline's row and changes nothing. Foreign keys
// are off for a superuser, and by GRANT SET ON PARAMETER session_replication_role (since
// PostgreSQL 15), but for tables with a trigger; else the server checks them.
func MendPostgres(ctx context.Context, dsn string, opts *PostgresOptions) (*RowMender, error) {
	r, err := ReadPostgres(ctx, dsn, opts)
	if err != nil {
		return nil, err
	}
	return &RowMender{r}, nil
}

// MendSQLite is ReadSQLite of a file that is to be mended, which must be writable.
func MendSQLite(ctx context.Context, path string, opts *SQLiteOptions) (*RowMender, error) {
	r, err := readSQLite(ctx, path, opts, true)
	if err != nil {
		return nil, err
	}
	return &RowMender{r}, nil
}

var errMendLost = dfs.Transient(errors.New("the connection to the target was lost within a transaction, which is undone"))

// mendWait is how long a transaction waits for the pipeline's, and for rows that others
// have locked: rows of the source stay locked meanwhile.
const mendWait = time.Second

// Mend calls do within a transaction of the target, which is committed if do returns
// nil, and else undone. The pipeline's checkpoint is locked before, so that none of its
// transactions is open and none commits until Mend returns: at is where it stands,
// without State. All other methods see what the transaction sees, and Find locks the
// rows that it finds. An error that is dfs.ErrTransient may pass, or leaves open what
// became of the commit; rows tell. do must not keep the pipeline waiting for long.
func (r *RowMender) Mend(ctx context.Context, do func(at dfs.Checkpoint) error) error {
	if r.mending {
		return errors.New("a transaction of this RowMender is open")
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	r.mending = true
	defer func() { r.mending = false }()
	at, err := r.open(ctx)
	if err == nil {
		err = do(at)
	}
	if err == nil {
		if _, err = r.c.db.exec(ctx, stmt{sql: "COMMIT", want: uncounted}); err == nil {
			r.plain()
			return nil
		}
		err = dfs.Transient(fmt.Errorf("commit: %w", err))
	}
	if r.c.db.connected() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if _, e := r.c.db.exec(undo, stmt{sql: "ROLLBACK", want: uncounted}); e != nil {
			r.c.db.drop()
		}
	}
	r.plain()
	return err
}

// plain forgets what held within the transaction that has ended.
func (r *RowMender) plain() {
	if r.pg != nil {
		r.pg.replica = false
	}
}

// open begins a transaction and locks the checkpoint, in the order of the pipeline's
// own, so that the two cannot wait for each other.
func (r *RowMender) open(ctx context.Context) (at dfs.Checkpoint, err error) {
	table := r.c.db.checkpointTable()
	text := "SELECT seq,pos FROM " + table + " WHERE name=" + r.c.db.place(1)
	if r.pg != nil {
		// A host that dies in between must not keep the pipeline waiting for ever.
		_, err = r.pg.simple(ctx, fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout=%d; "+
			"SET LOCAL idle_in_transaction_session_timeout='1min'; SET CONSTRAINTS ALL IMMEDIATE", mendWait.Milliseconds()))
		text += " FOR UPDATE"
	} else {
		err = r.beginLite(ctx)
	}
	if err != nil {
		return at, fmt.Errorf("begin a transaction of the target: %w", err)
	}
	rows, err := r.c.db.query(ctx, text, r.c.name)
	switch {
	case pgCode(err) == "42501":
		return at, fmt.Errorf("lock the checkpoint: %w: GRANT SELECT, UPDATE ON %s TO the account of the DSN, and USAGE on its schema", err, table)
	case err != nil:
		return at, fmt.Errorf("lock the checkpoint: %w", err)
	case len(rows) == 0:
		return at, fmt.Errorf("the row of %q in %s is gone", r.c.name, table)
	}
	return dfs.Checkpoint{Seq: rows[0][0].uint(), Pos: dfs.Position(rows[0][1].text)}, nil
}

// beginLite takes the right to write, for which it waits no longer than mendWait.
// Foreign keys can be turned off before that only.
func (r *RowMender) beginLite(ctx context.Context) error {
	run := func(sql string) error {
		_, err := r.lite.conn.ExecContext(context.WithoutCancel(ctx), sql)
		return liteClassify(err)
	}
	err := run("PRAGMA foreign_keys=OFF")
	if err == nil {
		err = run(fmt.Sprintf("PRAGMA busy_timeout=%d", mendWait.Milliseconds()))
	}
	if err == nil {
		err = errors.Join(run("BEGIN IMMEDIATE"), run("PRAGMA busy_timeout=10000"))
	}
	if liteCode(err)&0xff == sqlite3.SQLITE_READONLY {
		return fmt.Errorf("%w: run it as an account that may write %s, and in its folder", err, r.lite.path)
	}
	return err
}

// Write makes the row of a key what made says, by one statement, and returns how many
// rows that has changed. The key has the forms of to's Key, and is nil if there is no
// such row: then it is inserted. Without made the row is deleted. Of each of made, a
// Change as stages make it, Table and After count; where two have a column of the
// target, it is that of the first. A column that none has, or has as Absent, is left as
// it is. It may be called within Mend only.
func (r *RowMender) Write(ctx context.Context, to *dfs.Table, key dfs.Row, made []dfs.Change) (int64, error) {
	h := r.held[to]
	switch {
	case !r.mending:
		return 0, errors.New("a row is to be written outside of Mend")
	case h == nil || key != nil && len(to.Key) == 0 || key == nil && made == nil:
		return 0, fmt.Errorf("%s.%s: it was not described by this mender, or has no key", to.Schema, to.Name)
	}
	b := &builder{c: &r.c}
	var columns, values []string
	var written []int
	for _, c := range made {
		f, err := r.fit(ctx, c.Table, to)
		if err != nil {
			return 0, err
		}
		forms, err := r.Stored(ctx, c.Table, to, c.After)
		if err != nil {
			return 0, err
		}
		for i, v := range c.After {
			j := f.m.columns[i].to
			if j < 0 || v.Kind() == dfs.Absent || slices.Contains(written, j) {
				continue
			}
			if k := slices.Index(to.Key, j); k >= 0 && key != nil && forms[j] == key[k] {
				continue // an identity column takes no update, be it to what it is
			}
			written = append(written, j)
			columns, values = append(columns, quoteName(h.t.columns[j].name)), append(values, b.place(f.m, i, v))
		}
	}
	table := r.c.db.ident(h.t)
	switch {
	case made == nil:
		b.write("DELETE FROM ", table)
	case key == nil && columns == nil:
		b.write("INSERT INTO ", table, " DEFAULT VALUES")
	case key == nil:
		b.write("INSERT INTO ", table, " (", strings.Join(columns, ","), ")", h.t.overriding, " VALUES (", strings.Join(values, ","), ")")
	case columns == nil:
		return 0, fmt.Errorf("%s.%s: nothing of the row is to be written", to.Schema, to.Name)
	default:
		for i := range columns {
			columns[i] += "=" + values[i]
		}
		b.write("UPDATE ", table, " SET ", strings.Join(columns, ","))
	}
	for k := range key {
		j := to.Key[k]
		b.args = append(b.args, r.arg(key[k]))
		b.write([]string{" WHERE ", " AND "}[min(k, 1)], quoteName(h.t.columns[j].name), "=", r.place(len(b.args), h.t.columns[j].typ))
	}
	s, err := b.done(uncounted)
	if err == nil {
		if key == nil {
			written = nil // nothing refers to a row that was not there
		}
		err = r.unbind(ctx, h.t, made == nil, written)
	}
	if err != nil {
		return 0, err
	}
	n, err := r.c.db.exec(ctx, s)
	return n, r.refused(err, h.t)
}

// Remove deletes rows of a table, with a key or without: which is given all of them, in
// any order, and tells which ones. It returns how many it has deleted, which is fewer
// than were chosen if somebody else has changed one meanwhile. It may be called within
// Mend only.
func (r *RowMender) Remove(ctx context.Context, to *dfs.Table, which func(dfs.Row) bool) (n int64, err error) {
	h := r.held[to]
	switch {
	case !r.mending:
		return 0, errors.New("rows are to be deleted outside of Mend")
	case h == nil:
		return 0, fmt.Errorf("%s.%s: it was not described by this mender", to.Schema, to.Name)
	}
	id := []string{"t.ctid::text", "t.tableoid::text"}
	found := "ctid=$1::tid AND tableoid=$2::oid"
	if r.lite != nil {
		if h.t.rowid == "" {
			return r.removeByKey(ctx, to, which)
		}
		id, found = []string{"t." + h.t.rowid}, h.t.rowid+"=?1"
	}
	var chosen [][]any
	row := make(dfs.Row, len(h.forms))
	take := func(at func(j int) any) error {
		h.row(to, false, at, row)
		if which(row) {
			var own []any
			for k := range id {
				own = append(own, at(len(h.forms)+k))
			}
			chosen = append(chosen, own)
		}
		return nil
	}
	text := "SELECT " + h.columns + "," + strings.Join(id, ",") + " FROM " + r.c.db.ident(h.t) + " t"
	if r.lite != nil {
		err = r.rowsLite(ctx, len(h.forms)+len(id), text, nil, take)
	} else {
		err = r.rowsPostgres(ctx, h, text, nil, take)
	}
	if err != nil || chosen == nil {
		return 0, err
	}
	if err := r.unbind(ctx, h.t, true, nil); err != nil {
		return 0, err
	}
	for _, own := range chosen {
		one, err := r.c.db.exec(ctx, stmt{"DELETE FROM " + r.c.db.ident(h.t) + " WHERE " + found, own, uncounted})
		if err != nil {
			return n, r.refused(err, h.t)
		}
		n += one
	}
	return n, nil
}

// removeByKey is Remove of a table of SQLite whose rows have no number, and so a key.
func (r *RowMender) removeByKey(ctx context.Context, to *dfs.Table, which func(dfs.Row) bool) (n int64, err error) {
	if len(to.Key) == 0 {
		return 0, fmt.Errorf("nothing tells equal rows of %s apart: it has columns named rowid, oid and _rowid_, of which one must have another name", to.Name)
	}
	var chosen []dfs.Row
	err = r.Range(ctx, to, false, nil, nil, 0, func(row dfs.Row) error {
		if which(row) {
			var key dfs.Row
			for _, j := range to.Key {
				key = append(key, row[j])
			}
			chosen = append(chosen, key)
		}
		return nil
	})
	for _, key := range chosen {
		var one int64
		if one, err = r.Write(ctx, to, key, nil); err != nil {
			return n, err
		}
		n += one
	}
	return n, err
}

// unbind turns foreign keys off for rows of a table. Where PostgreSQL does not let the
// account do that, they stay on, and nothing is done by which one of them would change
// rows of other tables.
func (r *RowMender) unbind(ctx context.Context, t *table, deletes bool, written []int) error {
	if r.pg == nil || r.pg.replica {
		return nil // beginLite has turned them off
	}
	s, cannot := r.pg.role(t, true)
	if cannot == nil {
		if s == "" {
			return nil // there are none
		}
		_, err := r.pg.exec(ctx, stmt{sql: s, want: uncounted})
		return err
	}
	for _, k := range t.children {
		if k.acts && (deletes || slices.ContainsFunc(written, func(j int) bool { return slices.Contains(k.columns, j) })) {
			return fmt.Errorf("a foreign key of %s would change rows there, and foreign keys cannot be turned off here: %s, or mend the row by hand", k.other, r.offCure(t))
		}
	}
	return nil
}

// offCure says how foreign keys of a table can be turned off.
func (r *RowMender) offCure(t *table) string {
	if r.pg.mayOff && t.userTrigger != "" {
		return fmt.Sprintf("the trigger %s is in the way: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", t.userTrigger, r.pg.ident(t), quoteName(t.userTrigger))
	}
	return "GRANT SET ON PARAMETER session_replication_role TO the account (PostgreSQL 15 and later), or use a superuser"
}

// refused adds to the target's error what cures it.
func (r *RowMender) refused(err error, t *table) error {
	broken, duplicate := r.c.db.constraint(err)
	switch {
	case err == nil || errors.Is(err, dfs.ErrTransient):
		return err
	case duplicate:
		return fmt.Errorf("%w: another row of the target has a value that must be unique; repair again when that is mended", err)
	case broken && r.pg != nil:
		return fmt.Errorf("%w: repair again when the row that it refers to is there, or the one that refers to it is gone; or %s", err, r.offCure(t))
	}
	return r.c.db.explain(err, t)
}
