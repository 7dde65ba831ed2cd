package dpu

import (
	"context"
	"log/slog"
	"time"

	"github.com/dataflowsync/dfs"
)

// A Unit says what becomes of the rows of some tables. The zero value of each
// field does nothing, so a Unit with From alone keeps rows as they are.
//
// Rows are looked at as the source has them: the columns that Where, Columns,
// Mask and Cast name are the source's. Rename comes last. Where a row is
// updated, both of its images go through the unit; a row that enters or leaves
// what Where selects is inserted or deleted.
type Unit struct {
	// Name is what errors call the unit. Default: From, or "unit 3".
	Name string

	// From names the unit's tables as "schema.table". On each side of the dot *
	// stands for any text, also none, and ? for one character, and letter case
	// does not matter, as everywhere in DFS.
	From string

	// Match chooses the tables by a function instead. It must always give the
	// same answer for the same table, also where that has no columns yet, as for
	// statements that alter it.
	Match func(t *dfs.Table) bool

	// Also lets the units after this one have the rows too: so one table becomes
	// several. By default the first unit that matches a table is its only one.
	// Deletes go through the units in the opposite order, children first.
	Also bool

	// Where selects rows. Default: all.
	Where Where

	// Lookups add columns that are found elsewhere. What comes after can use
	// them like columns of the source. They are not known of a row as it was
	// before an update, so Where does not see them, and Key cannot have them.
	Lookups []Join

	// Select lists the columns to keep, also of those that are looked up. Default:
	// all.
	Select []string

	// Drop lists columns to leave out.
	Drop []string

	// Columns are added after the source's, or take the place of one that has
	// their name.
	Columns []Column

	// Mask hides values of columns, by their name.
	Mask map[string]Mask

	// Cast gives columns another type, by their name: "bigint", "varchar(40)".
	// A value that the type cannot hold is an error, and what it may lose in
	// silence, such as digits, is marked in the notes of a Target.
	Cast map[string]string

	// Rename gives columns that are kept other names: from old to new.
	Rename map[string]string

	// Into is the table to write, as "schema.table". In it {schema} and {table}
	// stand for the source's, {1}, {2} and so on for what the wildcards of From
	// match, and a * alone on one side of the dot for the source's name there.
	// Default: the source's table.
	Into string

	// Key lists the primary key's columns on the target, by their new names.
	// Default: the source's key, if all its columns are kept.
	Key []string

	// SoftDelete names a column, added by the unit, that says when the row was
	// deleted: as a TIMESTAMP(6), the commit's time, or NULL. A deleted row then
	// stays, and one that is inserted again takes its place.
	SoftDelete string

	// Part says that other units write other columns of the same rows, which the
	// key finds, so that the target is an outer join of their tables; rows may
	// come in any order. On the target all columns but the key's must allow NULL.
	// A row goes when nothing but its key is left, so each unit needs a column
	// that is never NULL: a constant, if there is no other. See dfs.Change.
	Part bool

	// Rows makes the unit's rows by a function over Go structs: see MapRows. Then
	// only Where, Also, Into, SoftDelete, Part and Func may be set besides.
	Rows *RowFunc

	// Func, if set, is given each change that the rest of the unit has made, and
	// emits what is to take its place.
	Func Func

	// Emits describes the tables that Func emits changes of. If it is set,
	// changes of other tables and columns are an error; else nothing is known
	// of them before they come, and statements about other tables are handed on
	// as if Func emitted rows of the unit's own target alone.
	Emits []*dfs.Table
}

// Where selects rows, by an expression or by a function.
type Where struct {
	// Expr is an expression over the columns: `status != "draft" and total > 10`.
	Expr string

	// Func is given the values of the columns From, in memory that is used again.
	From []string
	Func func(ctx context.Context, v []dfs.Value) (bool, error)
}

// A Column is a column that a unit makes. Exactly one of Value, Text, Expr and
// Func says what it holds.
type Column struct {
	Name string

	// Type is the column's type, such as "decimal(12,2)". Values are converted to
	// it, and one that it cannot hold is an error. Default: what the value or the
	// expression suggests; a Func needs it.
	Type string

	// Value is a constant: a string, bool, integer, float, []byte, time.Time or
	// dfs.Value.
	Value any

	// Text is a constant made of the table's name, as Into is: "{schema}".
	Text string

	// Expr is an expression over the columns: `price * quantity`.
	Expr string

	// Func is given the values of the columns From, in memory that is used
	// again. It must give the same for the same values.
	From []string
	Func func(ctx context.Context, v []dfs.Value) (dfs.Value, error)
}

// A Mask hides values. NULL stays NULL.
//
//	hash        32 digits of an HMAC-SHA256 under Options.HashKey. Equal
//	            values have equal hashes, in all tables, so joins still work.
//	truncate 4  the first 4 characters, or bytes of binary columns
//	redact      *** for text, 0 for numbers, 1970-01-01 for times
//	redact xyz  the text xyz
//	null        NULL
type Mask string

// A Policy says what to do with statements that alter the tables of units.
type Policy string

const (
	// PolicyError stops, and names the statement. It is the default.
	PolicyError Policy = "error"

	// PolicyIgnore drops and logs it.
	PolicyIgnore Policy = "ignore"
)

// Options refine Units. The zero value of each field is the default.
type Options struct {
	// Tables are those of the source, if they are known. Then New also finds the
	// faults that need them: columns that do not exist, units without a table,
	// two units that write one column.
	Tables []*dfs.Table

	// OnlyUnits drops the changes of tables that no unit matches, which by
	// default pass as they are.
	OnlyUnits bool

	// HashKey is the secret of the mask "hash". It must have 16 bytes or more, and
	// must stay the same for hashes to stay so.
	HashKey []byte

	// DDL says what to do with a statement that alters a table of a unit, and
	// cannot be handed on by other names: see the package comment. One that alters
	// other tables passes, unless units send rows to such a table of the target.
	// Default: PolicyError.
	DDL Policy

	// DDLDone names transactions, by their ID, whose statements PolicyError drops,
	// because what the target needs of them has been run there by hand.
	DDLDone []string

	// CallTimeout is how long one call of a function or Lookup may take. Then its
	// context ends; and if it does not return for another quarter of that time,
	// Process returns an error without it. Default: one minute; negative: calls
	// are not watched.
	CallTimeout time.Duration

	// MaxRows is how many rows a function may make of one. It may never make more
	// than 64 MiB. Default: 10000.
	MaxRows int

	// Logger gets what people should know. Default: slog.Default().
	Logger *slog.Logger
}
