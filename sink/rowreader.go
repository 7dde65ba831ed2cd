package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/convert"
	"github.com/dataflowsync/dfs/internal/tcp"
	"github.com/jackc/pgx/v5/pgconn"
)

// A RowReader reads the rows that a target has which is no MySQL server, and tells what
// the sink would have stored of rows of the source: it is what package verify compares,
// as its TargetRows. It writes nothing and disturbs no pipeline. Its methods must be
// called by one goroutine at a time. A connection that is lost is made anew by the next
// call.
//
// Values have one form each, so that those are equal which mean the same: an integer, a
// number or a time as a string with no more digits than it needs, text as it is, bytes
// as bytes, and a document with its members in order. So what the sink binds, and what
// the target prints of it, can be compared, and a form of a key finds its rows.
type RowReader struct {
	c    core
	pg   *pgBackend
	lite *liteBackend
	held map[*dfs.Table]*heldTable
	fits map[fitOf]*fitted

	mending bool // within RowMender.Mend
}

// heldTable is a table of the target.
type heldTable struct {
	t       *table
	columns string // all that are read, in order
	keys    string // as columns, with NULL for all that are not of the key
	forms   []func(v any) dfs.Value
	marks   []formMark
}

// A formMark says what is known of the values in a column from where they come.
type formMark uint8

const (
	markJSON    formMark = 1 << iota // they are documents, in a column of text
	markDecimal                      // they were decimals, and SQLite has made REALs of them
)

type fitOf struct{ from, to *dfs.Table }

// fitted is how rows of a table of the source are stored.
type fitted struct {
	m *mapping
	h *heldTable
}

// ReadPostgres connects to a PostgreSQL server to read rows. Of the options Name, Schema
// and Unfit count, and mean what they do for OpenPostgres.
func ReadPostgres(ctx context.Context, dsn string, opts *PostgresOptions) (*RowReader, error) {
	if opts == nil {
		opts = &PostgresOptions{}
	}
	r := &RowReader{}
	r.c.rules = rules{name: opts.Name, schema: opts.Schema, log: slog.New(slog.DiscardHandler)}
	errs := r.c.set(nil, nil, nil, nil)
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		// Invariant I9: the driver's own words may quote a part of the password.
		errs = append(errs, errors.New("the target's DSN cannot be read: write postgres://user:password@host:5432/database"))
	}
	r.pg = &pgBackend{core: &r.c, cfg: cfg, unfit: opts.Unfit}
	errs = append(errs, r.pg.unfit.check()...)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("reading rows of PostgreSQL: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	cfg.DialFunc = tcp.Dial
	r.c.init(r.pg)
	return r.begin(ctx)
}

// ReadSQLite opens a file of SQLite to read rows, which must be there. Of the options
// Name and Unfit count, and mean what they do for OpenSQLite.
func ReadSQLite(ctx context.Context, path string, opts *SQLiteOptions) (*RowReader, error) {
	return readSQLite(ctx, path, opts, false)
}

func readSQLite(ctx context.Context, path string, opts *SQLiteOptions, mends bool) (*RowReader, error) {
	if opts == nil {
		opts = &SQLiteOptions{}
	}
	r := &RowReader{}
	r.c.rules = rules{name: opts.Name, log: slog.New(slog.DiscardHandler)}
	errs := r.c.set(nil, nil, nil, nil)
	r.lite = &liteBackend{core: &r.c, path: path, unfit: opts.Unfit, reads: true, mends: mends}
	errs = append(errs, r.lite.unfit.check()...)
	if _, err := os.Stat(path); err != nil {
		errs = append(errs, fmt.Errorf("%w: the pipeline makes the file when it first starts", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("reading rows of SQLite: %w", err)
	}
	if abs, err := filepath.Abs(path); err == nil {
		r.lite.path = abs
	}
	r.c.init(r.lite)
	return r.begin(ctx)
}

func (r *RowReader) begin(ctx context.Context) (*RowReader, error) {
	r.held, r.fits = make(map[*dfs.Table]*heldTable), make(map[fitOf]*fitted)
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// connect makes sure of the connection, which cannot write but within Mend.
func (r *RowReader) connect(ctx context.Context) error {
	if r.c.db.connected() {
		return nil
	}
	if r.mending {
		return errMendLost // what comes next would not be in the transaction
	}
	if err := r.c.db.connect(ctx); err != nil || r.pg == nil {
		return err
	}
	// All digits of floating point, also before PostgreSQL 12.
	if _, err := r.pg.simple(ctx, "SET default_transaction_read_only=on; SET extra_float_digits=3"); err != nil {
		r.pg.drop()
		return fmt.Errorf("preparing the session on the target: %w", err)
	}
	return nil
}

// Close ends the connection.
func (r *RowReader) Close() error {
	r.c.db.drop()
	return nil
}

// Checkpoint returns the pipeline's checkpoint, without State. It is zero if the pipeline
// has none.
func (r *RowReader) Checkpoint(ctx context.Context) (dfs.Checkpoint, error) {
	return r.stored(ctx, func(ctx context.Context) (dfs.Checkpoint, error) {
		s, err := r.c.status(ctx)
		return s.Checkpoint, err
	})
}

// State is Checkpoint with State, which may be large.
func (r *RowReader) State(ctx context.Context) (dfs.Checkpoint, error) {
	return r.stored(ctx, r.c.Stored)
}

// stored reads the checkpoint, if the target has a table of them.
func (r *RowReader) stored(ctx context.Context, read func(context.Context) (dfs.Checkpoint, error)) (at dfs.Checkpoint, err error) {
	if err := r.connect(ctx); err != nil {
		return at, err
	}
	there, err := r.begun(ctx)
	if err == nil && there {
		at, err = read(ctx)
	}
	if err != nil && r.pg != nil {
		err = pgGranted(err, r.c.schema, r.c.db.checkpointTable())
	}
	return at, err
}

// begun reports whether the target has a table of checkpoints.
func (r *RowReader) begun(ctx context.Context) (there bool, err error) {
	if r.lite != nil {
		return r.lite.there(ctx, "", checkpointTable)
	}
	rows, err := r.pg.query(ctx, "SELECT to_regclass($1) IS NOT NULL", r.pg.checkpointTable())
	return err == nil && rows[0][0].text == "t", err
}

// Table describes a table of the target, as it is now. What it returns stands for it in
// the other methods, until the next call for the same table. Columns have their types as
// the target has them; Key finds a row, and is nil if nothing does.
func (r *RowReader) Table(ctx context.Context, schema, name string) (*dfs.Table, error) {
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	t, err := r.c.db.loadTable(ctx, schema, name)
	if err != nil {
		return nil, err
	}
	t.key = r.c.db.tableKey(schema, name)
	for old := range r.held {
		if old.Schema == schema && old.Name == name {
			delete(r.held, old)
		}
	}
	for f := range r.fits {
		if r.held[f.to] == nil {
			delete(r.fits, f)
		}
	}
	to := &dfs.Table{Schema: schema, Name: name, Key: t.primary}
	for i := range t.uniques {
		if ix := &t.uniques[i]; to.Key == nil && !ix.opaque && !ix.nullable && !ix.prefixes {
			to.Key = ix.columns
		}
	}
	h := &heldTable{t: t, marks: make([]formMark, len(t.columns)), forms: make([]func(any) dfs.Value, len(t.columns))}
	var all, keys []string
	for j := range t.columns {
		tc := &t.columns[j]
		to.Columns = append(to.Columns, dfs.Column{Name: tc.name, Type: tc.typ, Nullable: tc.nullable})
		expr := quoteName(tc.name)
		if r.lite != nil {
			expr = "+" + expr // of an expression the driver makes no time
			h.forms[j] = liteStored(tc, &h.marks[j])
		} else {
			h.forms[j] = pgStored(tc, &h.marks[j])
			expr = "t." + expr
		}
		if tc.generated {
			expr, h.forms[j] = "NULL", nil
		}
		all = append(all, expr)
		if !slices.Contains(to.Key, j) {
			expr = "NULL"
		}
		keys = append(keys, expr)
	}
	h.columns, h.keys = strings.Join(all, ","), strings.Join(keys, ",")
	r.held[to] = h
	return to, nil
}

// Fit finds out how rows of a table of the source, or as stages make them, are stored in
// one of the target. It returns for each of from's columns whether different values stay
// different on the target, and whether the target puts them into the source's order, and
// notes on what is left out or changed. Its error says why the sink would not write such
// rows.
func (r *RowReader) Fit(ctx context.Context, from, to *dfs.Table) (exact, ordered []bool, notes []string, err error) {
	f, err := r.fit(ctx, from, to)
	if err != nil {
		return nil, nil, nil, err
	}
	ordered = make([]bool, len(from.Columns))
	for i := range from.Columns {
		if at := f.m.columns[i].to; at >= 0 && f.m.exact[i] {
			t, err := convert.Parse(convert.TypeText(&from.Columns[i]))
			ordered[i] = err == nil && len(from.Columns[i].Members) == 0 && r.ordered(t, &f.h.t.columns[at])
		}
	}
	return f.m.exact, ordered, f.m.notes, nil
}

func (r *RowReader) fit(ctx context.Context, from, to *dfs.Table) (*fitted, error) {
	if f := r.fits[fitOf{from, to}]; f != nil {
		return f, nil
	}
	h := r.held[to]
	if h == nil {
		return nil, fmt.Errorf("%s.%s: it was not described by this reader", to.Schema, to.Name)
	}
	if err := r.connect(ctx); err != nil {
		return nil, err
	}
	m, err := r.c.newMapping(from, h.t)
	if err != nil {
		return nil, err
	}
	for i := range from.Columns {
		j := m.columns[i].to
		if j < 0 {
			continue
		}
		switch kind := convert.KindOf(&from.Columns[i]); {
		case kind == dfs.JSON:
			h.marks[j] |= markJSON
		case kind == dfs.Decimal:
			h.marks[j] |= markDecimal
		}
	}
	if len(r.fits) >= maxMaps {
		clear(r.fits)
	}
	f := &fitted{m, h}
	r.fits[fitOf{from, to}] = f
	return f, nil
}

// ordered reports whether the target has values of a type in the order of the source's
// indexes, given that different ones stay different.
func (r *RowReader) ordered(t convert.Type, tc *targetColumn) bool {
	kind := t.Kind()
	if r.pg != nil {
		switch tc.base {
		case "int2", "int4", "int8", "numeric":
			return kind == dfs.Int64 || kind == dfs.Uint64 || kind == dfs.Decimal
		case "date", "timestamp", "timestamptz":
			return kind == dfs.Date || kind == dfs.DateTime || kind == dfs.Timestamp
		case "bytea", "uuid":
			return t.Name == "binary" || t.Name == "varbinary"
		case "bit":
			return t.Name == "bit"
		}
		return false
	}
	switch kind {
	case dfs.Int64, dfs.Uint64:
		return tc.base != "TEXT" && !(t.Name == "bigint" && t.Unsigned) && !(t.Name == "bit" && bits(t) > 63)
	case dfs.Date, dfs.DateTime, dfs.Timestamp:
		return true // as text, from the year on
	case dfs.Bytes:
		return t.Name == "binary" || t.Name == "varbinary"
	}
	return false
}

// Stored returns what the target has of a row of from once the sink has written it: for
// each of to's columns the form of its value, and Absent for those that are not written.
// The error is an *UnfitError if the sink would refuse a value.
func (r *RowReader) Stored(ctx context.Context, from, to *dfs.Table, row dfs.Row) (dfs.Row, error) {
	f, err := r.fit(ctx, from, to)
	if err != nil {
		return nil, err
	}
	out := make(dfs.Row, len(to.Columns))
	for j := range out {
		out[j] = dfs.AbsentValue()
	}
	for i, v := range row {
		j := f.m.columns[i].to
		switch {
		case j < 0 || v.Kind() == dfs.Absent:
		case v.IsNull():
			out[j] = dfs.NullValue()
		case r.lite != nil:
			a, err := f.m.bind[i](v)
			if err != nil {
				return nil, err
			}
			out[j] = f.h.forms[j](a)
		default:
			text, err := f.m.text[i](make([]byte, 0, 24), v)
			if err != nil {
				return nil, err
			}
			if text == nil {
				out[j] = dfs.NullValue()
				continue
			}
			out[j] = f.h.forms[j](string(text))
		}
	}
	return out, nil
}

// Find calls each with the rows that have one of the keys, in any order. A key has the
// forms of the values of to's Key.
func (r *RowReader) Find(ctx context.Context, to *dfs.Table, keys []dfs.Row, each func(dfs.Row) error) error {
	h := r.held[to]
	if h == nil || len(to.Key) == 0 {
		return fmt.Errorf("%s.%s: it was not described by this reader, or has no key", to.Schema, to.Name)
	}
	if len(keys) == 0 {
		return nil
	}
	if r.lite != nil {
		return r.findLite(ctx, to, h, keys, each)
	}
	return r.findPostgres(ctx, to, h, keys, each)
}

// Range calls each with the rows whose keys are greater than lo and not greater than hi,
// in the order of the keys as the target compares them, but with no more than limit. A
// nil is no bound, and a limit of 0 none. With keysOnly all columns but those of the key
// are Absent. A table without a key has no order, and is read as a whole.
func (r *RowReader) Range(ctx context.Context, to *dfs.Table, keysOnly bool, lo, hi dfs.Row, limit int, each func(dfs.Row) error) error {
	h := r.held[to]
	if h == nil {
		return fmt.Errorf("%s.%s: it was not described by this reader", to.Schema, to.Name)
	}
	columns := h.columns
	if keysOnly {
		columns = h.keys
	}
	var args []any
	var conds, names []string
	for _, j := range to.Key {
		names = append(names, "t."+quoteName(to.Columns[j].Name))
	}
	list := strings.Join(names, ",")
	bound := func(op string, key dfs.Row) {
		var places []string
		for k, j := range to.Key {
			args = append(args, r.arg(key[k]))
			places = append(places, r.place(len(args), h.t.columns[j].typ))
		}
		conds = append(conds, "("+list+")"+op+"("+strings.Join(places, ",")+")")
	}
	if lo != nil {
		bound(">", lo)
	}
	if hi != nil {
		bound("<=", hi)
	}
	text := "SELECT " + columns + " FROM " + r.c.db.ident(h.t) + " t"
	if conds != nil {
		text += " WHERE " + strings.Join(conds, " AND ")
	}
	if len(to.Key) > 0 {
		text += " ORDER BY " + list
	}
	if limit > 0 {
		text += fmt.Sprintf(" LIMIT %d", limit)
	}
	return r.rows(ctx, to, h, keysOnly, text, args, each)
}

// Last returns the greatest key, as the target compares keys, or nil if there is no row.
func (r *RowReader) Last(ctx context.Context, to *dfs.Table) (key dfs.Row, err error) {
	h := r.held[to]
	if h == nil || len(to.Key) == 0 {
		return nil, fmt.Errorf("%s.%s: it was not described by this reader, or has no key", to.Schema, to.Name)
	}
	var names []string
	for _, j := range to.Key {
		names = append(names, "t."+quoteName(to.Columns[j].Name)+" DESC")
	}
	err = r.rows(ctx, to, h, true, "SELECT "+h.keys+" FROM "+r.c.db.ident(h.t)+" t ORDER BY "+strings.Join(names, ",")+" LIMIT 1", nil, func(row dfs.Row) error {
		for _, j := range to.Key {
			key = append(key, row[j])
		}
		return nil
	})
	return key, err
}

// arg returns a form as an argument of a statement.
func (r *RowReader) arg(v dfs.Value) any {
	switch v.Kind() {
	case dfs.Null:
		return nil
	case dfs.Bytes:
		if r.lite != nil {
			return append([]byte{}, v.Text()...)
		}
		return binaryArg(v.Text())
	case dfs.Int64:
		return v.Int()
	case dfs.Float64:
		return v.Float()
	}
	return v.Text()
}

// place stands for argument n, as a value of a type.
func (r *RowReader) place(n int, typ string) string {
	if r.lite != nil {
		return r.lite.place(n)
	}
	return r.pg.place(n) + "::" + typ
}

// rows runs a query of the columns of a table.
func (r *RowReader) rows(ctx context.Context, to *dfs.Table, h *heldTable, keysOnly bool, text string, args []any, each func(dfs.Row) error) error {
	if err := r.connect(ctx); err != nil {
		return err
	}
	row := make(dfs.Row, len(h.forms))
	take := func(at func(j int) any) error {
		h.row(to, keysOnly, at, row)
		return each(row)
	}
	if r.lite != nil {
		return r.rowsLite(ctx, len(h.forms), text, args, take)
	}
	return r.rowsPostgres(ctx, h, text, args, take)
}

// row makes forms of the values that a query of the table's columns has.
func (h *heldTable) row(to *dfs.Table, keysOnly bool, at func(j int) any, row dfs.Row) {
	for j, form := range h.forms {
		if form == nil || keysOnly && !slices.Contains(to.Key, j) {
			row[j] = dfs.AbsentValue()
			continue
		}
		if v := at(j); v != nil {
			row[j] = form(v)
		} else {
			row[j] = dfs.NullValue()
		}
	}
}
