// Package cli is the program that examples/basic is: all of its commands, on a YAML
// file. A program with functions of its own, which the file then names, is one call
// of Main:
//
//	func main() {
//		os.Exit(cli.Main(os.Args[1:], &cli.Options{
//			Units:   map[string]dpu.Func{"split": split},
//			Columns: map[string]cli.ColumnFunc{"worth": worth},
//		}))
//	}
//
// and the file says
//
//	units:
//	  - {from: shop.orders, func: split}
//	  - from: shop.users
//	    columns: [{name: class, type: varchar(10), func: worth, from: [orders, created]}]
//
// A name that the program has not is a fault of the file, with its line, as is one
// whose function does not fit the tables. A program that has commands of its own
// uses Open.
package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/relmgr"
)

// Options are the functions that the file may name, each by the name that is its key.
// The zero Options have none, and so does nil.
type Options struct {
	// Units are for units[].func: each is given the changes that the rest of its unit
	// has made, and emits what is to take their place.
	Units map[string]dpu.Func

	// Emits describes, by the names in Units, the tables that a function emits changes
	// of. Without it nothing is known of them before they come: see dpu.Unit.
	Emits map[string][]*dfs.Table

	// Rows are for units[].rows: functions over structs, made by dpu.MapRows.
	Rows map[string]*dpu.RowFunc

	// Where are for units[].where: {func: NAME, from: [columns]}.
	Where map[string]WhereFunc

	// Columns are for units[].columns[].func, with from: [columns].
	Columns map[string]ColumnFunc

	// Lookups are for units[].lookups[].func. They stay open: who made them closes
	// them.
	Lookups map[string]dpu.Lookup

	// IDs are for relmgr.policies[].func.
	IDs map[string]IDFunc

	// Logger is for Open, and gets what people should know. Default: slog.Default().
	// Main logs to standard error, as the file and the command line say.
	Logger *slog.Logger
}

// A WhereFunc selects rows, by the values of the columns that the file lists under
// from, in memory that is used again: see dpu.Where.
type WhereFunc = func(ctx context.Context, v []dfs.Value) (bool, error)

// A ColumnFunc makes the value of a column out of those that the file lists under
// from, in memory that is used again: see dpu.Column.
type ColumnFunc = func(ctx context.Context, v []dfs.Value) (dfs.Value, error)

// An IDFunc makes the new id of a key: see relmgr.Policy.
type IDFunc = func(ctx context.Context, key relmgr.Key) (dfs.Value, error)

func (o *Options) funcs() *config.Funcs {
	if o == nil {
		return nil
	}
	return &config.Funcs{Units: o.Units, Emits: o.Emits, Rows: o.Rows, Where: o.Where, Columns: o.Columns, Lookups: o.Lookups, IDs: o.IDs}
}

// check finds what is wrong with the options by themselves.
func (o *Options) check() error {
	if o == nil {
		return nil
	}
	var errs []error
	errs = append(errs, noNil("Units", o.Units, func(f dpu.Func) bool { return f == nil })...)
	errs = append(errs, noNil("Rows", o.Rows, func(f *dpu.RowFunc) bool { return f == nil })...)
	errs = append(errs, noNil("Where", o.Where, func(f WhereFunc) bool { return f == nil })...)
	errs = append(errs, noNil("Columns", o.Columns, func(f ColumnFunc) bool { return f == nil })...)
	errs = append(errs, noNil("Lookups", o.Lookups, func(f dpu.Lookup) bool { return f == nil })...)
	errs = append(errs, noNil("IDs", o.IDs, func(f IDFunc) bool { return f == nil })...)
	for name := range o.Emits {
		if _, ok := o.Units[name]; !ok {
			errs = append(errs, fmt.Errorf("cli: Options.Emits[%q] is of no function in Units", name))
		}
	}
	return errors.Join(errs...)
}

func noNil[F any](field string, funcs map[string]F, none func(F) bool) (errs []error) {
	for name, f := range funcs {
		if none(f) || name == "" {
			errs = append(errs, fmt.Errorf("cli: Options.%s[%q] is nil, or has no name; leave it out", field, name))
		}
	}
	return errs
}

// Main runs the program on its command line, args without the program's name, and
// returns the exit code. It handles SIGINT and SIGTERM.
func Main(args []string, o *Options) int {
	if err := o.check(); err != nil {
		report(os.Stderr, "the program's functions cannot be used", err)
		return exitUsage
	}
	return command(args, o.funcs(), os.Stdout, os.Stderr)
}

// A Program is a pipeline that is open and has not begun.
type Program struct {
	// Pipeline is what the file describes; Run carries changes. What the file says of
	// log and monitor is not part of it.
	Pipeline *dfs.Pipeline

	parts *parts
}

// Open opens source, queue and target as the file says, with the program's functions
// in its units, and checks all tables, as the command run does. It returns all faults
// at once.
func Open(ctx context.Context, file string, o *Options) (*Program, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	c, err := config.LoadWith(file, o.funcs())
	if err != nil {
		return nil, err
	}
	log := slog.Default()
	if o != nil && o.Logger != nil {
		log = o.Logger
	}
	if c.Several() {
		return nil, fmt.Errorf("%s has several targets, and Open opens a pipeline with one: give each a file of its own, or use Main", file)
	}
	p, err := open(ctx, c, log)
	if err != nil {
		return nil, err
	}
	return &Program{Pipeline: p.pipeline(c, log), parts: p}, nil
}

// Close frees what Open opened. The pipeline must not run any more.
func (p *Program) Close() error { return p.parts.close() }
