// Command embed keeps a target in step with a source. It is examples/basic in
// one page: source, queue and sink, put together by hand.
//
//	embed 'dfs:secret@tcp(db1:3306)/' 'shop.*' shop.queue 'dfs:secret@tcp(db2:3306)/'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/queue"
	"github.com/dataflowsync/dfs/sink"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) != 5 {
		log.Fatal("usage: embed SOURCE TABLES FILE TARGET")
	}
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, source, tables, file, target string) error {
	src, err := cdc.Open(ctx, source, &cdc.Options{Tables: []string{tables}}) // checks the server's settings
	if err != nil {
		return err
	}
	defer src.Close()
	q, err := queue.Open(file, nil) // nil: all defaults
	if err != nil {
		return err
	}
	defer q.Close()
	dst, err := sink.OpenMySQL(ctx, target, nil)
	if err != nil {
		return err
	}
	defer dst.Close()

	p := &dfs.Pipeline{Source: src, Queue: q, Sink: dst}
	err = p.Run(ctx) // nil when ctx ends: a stop that was asked for is no error
	fmt.Printf("applied %d transactions, %d rows\n", p.Stats().Apply.Transactions, p.Stats().Apply.Applied)
	return err
}
