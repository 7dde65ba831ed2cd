// Package dpu reshapes rows on their way: data processing units, which are data
// where data does, and Go where Go is needed.
//
// A [Unit] says what becomes of the rows of some tables: which are selected,
// which columns are kept, renamed, made, masked and cast, and which table they
// go to. [New] checks a list of units and makes [Units] of it, which is a stage
// of a [dfs.Pipeline]:
//
//	units, err := dpu.New([]dpu.Unit{
//		{From: "shop.users", Drop: []string{"password"}, Rename: map[string]string{"mail": "email"}, Into: "crm.people"},
//		{From: "shop.orders", Where: dpu.Where{Expr: `status != "draft"`},
//			Columns: []dpu.Column{{Name: "total", Type: "decimal(12,2)", Expr: "price * quantity"}}},
//	}, &dpu.Options{Tables: tables}) // of the source, so that every fault shows now
//
//	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{units}, Sink: dst}
//
// A unit is a function from a row to rows. The row before an update and the row
// after it both go through it, so a row that begins or ceases to be selected is
// inserted or deleted, and a changed key moves its row, without a word about it
// in the unit. From the simple to the mighty:
//
//   - Select, Drop, Rename, Cast, Mask, Into: data alone.
//   - Where and Columns hold expressions, or Go functions over the columns that
//     they name, so that what they need is known before the first row.
//   - [MapRows] makes a unit's rows by a function over Go structs with db tags,
//     which are checked against the table.
//   - Also lets several units make several tables of one; Part lets several make
//     one wide row; SoftDelete keeps what is deleted.
//   - [Join] adds columns of another table, asked once for a whole batch.
//   - [Func] is given each change and emits any.
//
// [Units.Targets] tells what becomes of a table, column by column and before the
// first row, and [CreateTables] makes the statements for a target that is empty.
// Package [github.com/dataflowsync/dfs/dfstest] tries units without a server.
//
// # Expressions
//
// Expressions are those of github.com/expr-lang/expr. A column goes by its name,
// or as $env["its name"] if that is no word. +, - and * of integers do not wrap: a
// result that no bigint holds is an error. DECIMAL columns are exact, also with
// whole numbers and with fractions like 1.2; a division gives four digits more, as
// in MySQL. Numbers in JSON documents are whole, or else floating.
// Integers divide to a float. To == and !=, NULL (nil) is a value like others.
// Everything else with a column that may be NULL is refused when the unit is
// made, unless a test stands before it: write (discount ?? 0) * 2, or
// discount != nil and discount > 3. There is no now(), since recovery may repeat
// a row and must make the same of it, and keys(), values() and toPairs() give what a
// document holds in the order of its keys.
//
// # Partial rows
//
// Where the source logs less than whole rows (binlog_row_image=MINIMAL), what was
// left out stays left out as long as that is right. Where a value would have to
// be guessed, the row is an error that names the column.
//
// # Statements
//
// A statement that alters a table of a unit is handed on with the names that
// units give, if they give its tables a name alone, and one that no other table
// has. Otherwise it stops the pipeline by default, since it does not say what is to
// become of what the unit makes, and must not act on rows of other tables: see
// Options.DDL.
//
// # Errors
//
// What New refuses are [Fault]s, all at once. A row that fails is an [Error] that
// names unit, table, key and column; so is a function that panics, does not return
// within Options.CallTimeout, or makes more than Options.MaxRows of one row.
package dpu
