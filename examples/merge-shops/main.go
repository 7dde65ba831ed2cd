//go:build unix

// Command merge-shops makes one shop of two, whose customers and orders have the
// same ids: each gets new ids, and orders still belong to their customers, notes to
// what they are about, carts to the products that are in them.
//
//	merge-shops                          # two shops of its own, on servers that it starts
//	merge-shops FOLDER TARGET SOURCE...  # the schema shop of each source, until Ctrl-C
//
// TARGET and each SOURCE are like 'dfs:secret@tcp(db1:3306)/'. FOLDER keeps the maps
// of ids, which are as dear as the target: one file for each source.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/dataflowsync/dfs/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(os.Args) == 1:
		err = show(ctx, os.Stdout)
	case len(os.Args) > 3:
		err = merge(ctx, os.Args[1], os.Args[2], os.Args[3:], slog.Default())
	default:
		err = errors.New("usage: merge-shops [FOLDER TARGET SOURCE...]")
	}
	if err != nil {
		log.Fatal(err)
	}
}

// references are those that the shops do not declare as foreign keys.
var references = []relmgr.Reference{
	{Table: "shop.notes", Columns: []string{"about"}, TypeColumn: "kind",
		Parents: map[string]string{"customer": "shop.customers", "order": "shop.orders"}},
	{Table: "shop.carts", Columns: []string{"content"}, Path: "$.items[*].product", Parent: "shop.products"},
}

// merge carries all sources to the target until ctx ends, each by a pipeline and
// with a map of its own.
func merge(ctx context.Context, folder, target string, sources []string, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(sources))
	var wg sync.WaitGroup
	for i, source := range sources {
		wg.Go(func() {
			defer stop() // one that cannot go on ends them all
			name := "shop" + strconv.Itoa(i+1)
			if err := carry(ctx, name, source, target, filepath.Join(folder, name+".ids"), log); err != nil {
				errs[i] = fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// carry carries one source to the target.
func carry(ctx context.Context, name, source, target, file string, log *slog.Logger) error {
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{"shop.*"}, Logger: log})
	if err != nil {
		return err
	}
	defer src.Close()
	tables, err := src.Tables(ctx)
	if err != nil {
		return err
	}
	keys, err := src.ForeignKeys(ctx)
	if err != nil {
		return err
	}
	blocks, err := sink.OpenIDs(ctx, target, nil) // no two sources get the same ids
	if err != nil {
		return err
	}
	defer blocks.Close()
	ids, err := relmgr.Open(file, &relmgr.Options{Source: name, Tables: tables, ForeignKeys: keys,
		References: references, Allocator: blocks, Logger: log})
	if err != nil {
		return err
	}
	defer ids.Close()
	dst, err := sink.OpenMySQL(ctx, target, &sink.MySQLOptions{Name: name, Logger: log})
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := dst.CheckTables(ctx, tables); err != nil {
		return err
	}
	p := &dfs.Pipeline{Source: src, Stages: []dfs.Stage{ids}, Sink: dst, Logger: log}
	return p.Run(ctx)
}
