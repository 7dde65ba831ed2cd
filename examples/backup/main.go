// Command backup keeps a backup of a shop from which it can be restored to any
// transaction, such as the one before a DELETE without WHERE.
//
//	backup                                                   # in memory, on a few rows: see shop.txt
//	backup keep 'dfs:secret@tcp(db1:3306)/' 'shop.*' DIR     # until Ctrl-C, also again after a kill -9
//	backup restore DIR 'dfs:secret@tcp(db2:3306)/' GTID      # to the transaction before that one
//
// The first run of keep copies the rows that are there, beside the log and without
// locks. restore wants the tables of the target to be empty or not to be there. The
// same can be done by a file: see examples/basic, and "basic archive -h" for looking
// into a backup, verifying it, and taking back single transactions.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 0:
		err = try(ctx, os.Stdout)
	case len(args) == 4 && args[0] == "keep":
		err = keep(ctx, args[1], args[2], args[3])
	case len(args) == 4 && args[0] == "restore":
		err = restore(ctx, args[1], args[2], args[3], nil)
	default:
		err = fmt.Errorf("usage: backup [keep SOURCE TABLES DIR | restore DIR TARGET GTID]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// keep carries what the source commits into the archive, until ctx ends.
func keep(ctx context.Context, source, tables, dir string) error {
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{tables}, Snapshot: &cdc.Snapshot{}})
	if err != nil {
		return err
	}
	defer src.Close()
	a, err := sink.OpenArchive(dir, nil)
	if err != nil {
		return err
	}
	defer a.Close()
	if a.End().Seq == 0 {
		// What a restore makes the tables of.
		made, err := src.Definitions(ctx)
		if err != nil {
			return err
		}
		if err := a.Baseline(ctx, made); err != nil {
			return err
		}
	}
	p := &dfs.Pipeline{Source: src, Sink: a}
	return p.Run(ctx)
}

// restore makes of the target what the source was before a transaction. Routes say
// what its tables are to be called; nil keeps their names.
func restore(ctx context.Context, dir, target, id string, routes []sink.Route) error {
	a, err := sink.OpenArchive(dir, &sink.ArchiveOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer a.Close()
	r, err := a.Restore(ctx, &sink.RestoreOptions{To: dfs.StopPoint{ID: id}, Before: true, Decode: new(cdc.Source).Decode})
	if err != nil {
		return err
	}
	dst, err := sink.OpenMySQL(ctx, target, &sink.MySQLOptions{Name: "restore before " + id, DDL: sink.PolicyApply, Routes: routes})
	if err != nil {
		return err
	}
	defer dst.Close()
	fresh, err := dst.Fresh(ctx)
	if err != nil {
		return err
	}
	var tables []*dfs.Table
	for _, d := range r.Definitions() {
		tables = append(tables, d.Table)
	}
	if !fresh { // a restore that was killed goes on
		missing, err := dst.Missing(ctx, tables)
		if err == nil && len(tables) > 0 && len(missing) == len(tables) {
			err = errors.New("the tables of an earlier restore are gone from the target: give this one another Name, to restore all anew")
		}
		if err != nil {
			return err
		}
	} else {
		if err := dst.CheckEmpty(ctx, tables); err != nil {
			return err
		}
		if _, _, err := dst.CreateTables(ctx, r.Definitions(), true); err != nil {
			return err
		}
	}
	p := &dfs.Pipeline{Source: r, Sink: dst}
	if err := p.Run(ctx); err != nil {
		return err
	}
	return dst.AddIndexes(ctx) // those that were left until the rows had come
}

//go:embed shop.txt
var shop string

// try keeps a backup of a shop in memory, has the accident, and restores.
func try(ctx context.Context, out io.Writer) error {
	s, err := dfstest.Parse(shop)
	if err != nil {
		return err
	}
	s.Transactions[0].Snapshot, s.Transactions[0].Copied = true, true // the rows that were there already
	dir, err := os.MkdirTemp("", "backup-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := sink.OpenArchive(dir, nil)
	if err != nil {
		return err
	}
	defer a.Close()
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: s.Transactions}, Sink: a}
	if err := p.Run(ctx); err != nil {
		return err
	}
	for _, to := range []sink.RestoreOptions{{}, {To: dfs.StopPoint{ID: "gtid:9"}, Before: true}} {
		r, err := a.Restore(ctx, &to)
		if err != nil {
			return err
		}
		var target dfstest.Target
		p := &dfs.Pipeline{Source: r, Sink: target.Open()}
		if err := p.Run(ctx); err != nil {
			return err
		}
		if to.Before {
			fmt.Fprintln(out, "before", to.To)
		} else {
			fmt.Fprintln(out, "now")
		}
		for _, row := range target.Rows("shop.orders", "id", "who", "total") {
			fmt.Fprintln(out, "  "+row)
		}
	}
	return nil
}
