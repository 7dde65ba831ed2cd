// Command postgres keeps a PostgreSQL database, or a file of SQLite, in step with a
// MySQL or MariaDB server, and at the end shows whether both hold the same.
//
//	postgres                                                                  # a shop on servers of its own
//	postgres 'dfs:secret@tcp(db1:3306)/' 'shop.*' 'postgres://dfs:secret@db2/shop'
//	postgres 'dfs:secret@tcp(db1:3306)/' 'shop.*' shop.db
//
// The first run creates the tables and copies the rows that are there, beside the log
// and without locks. It goes on until Ctrl-C, also again after a kill -9. Without
// arguments it needs the servers of scripts/servers.sh.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch args := os.Args[1:]; len(args) {
	case 0:
		err = try(ctx, os.Stdout)
	case 3:
		err = keep(ctx, args[0], args[1], args[2])
	default:
		err = fmt.Errorf("usage: postgres [SOURCE TABLES TARGET]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// A target is what both kinds of sink can do.
type target interface {
	dfs.Sink
	io.Closer
	Fresh(ctx context.Context) (bool, error)
	CreateTables(ctx context.Context, tables []sink.Definition, later bool) (made, notes []string, err error)
	NeedForeignKeys(keys []sink.ForeignKey)
}

// open opens a database by its URL, or a file.
func open(ctx context.Context, name string) (target, error) {
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		return sink.OpenPostgres(ctx, name, &sink.PostgresOptions{Unfit: sink.Unfit{ZeroDates: sink.UnfitInfinity}})
	}
	return sink.OpenSQLite(ctx, name, nil)
}

// keep carries what the source commits into the target, until ctx ends.
func keep(ctx context.Context, source, tables, name string) error {
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{tables}, Snapshot: &cdc.Snapshot{}})
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := open(ctx, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	if fresh, err := dst.Fresh(ctx); err != nil {
		return err
	} else if fresh {
		made, err := src.Definitions(ctx)
		if err != nil {
			return err
		}
		// What the source's foreign keys do to other rows is not in every log.
		silent, err := src.SilentForeignKeys(ctx)
		if err != nil {
			return err
		}
		dst.NeedForeignKeys(silent)
		_, notes, err := dst.CreateTables(ctx, made, true)
		for _, n := range notes {
			log.Print(n)
		}
		if err != nil {
			return err
		}
	}
	p := &dfs.Pipeline{Source: src, Sink: dst}
	return p.Run(ctx)
}
