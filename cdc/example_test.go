package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func Example() {
	ctx := context.Background()
	server, done := exampleServer()
	defer done()

	src, err := cdc.Open(ctx, server, &cdc.Options{
		Tables: []string{"shop.*", "!shop.tmp_*"},
		Start:  "earliest",
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer src.Close()

	stream, err := src.Open(ctx, dfs.Checkpoint{})
	if err != nil {
		log.Print(err)
		return
	}
	defer stream.Close()

	batch := make([]*dfs.Transaction, 100)
	for seen := 0; seen < 2; {
		n, err := stream.Next(ctx, batch)
		if err != nil {
			log.Print(err)
			return
		}
		if err := src.Decode(ctx, batch[:n]); err != nil {
			log.Print(err)
			return
		}
		for _, tx := range batch[:n] {
			for _, c := range tx.Changes {
				if c.Op == dfs.DDL {
					continue
				}
				fmt.Println(c.Op, c.Table, c.After)
				seen++
			}
		}
	}
	// Output:
	// insert shop.orders [1 12.50 new]
	// update shop.orders [1 13.00 new]
}

func ExampleSetupError() {
	server, done := exampleServer()
	defer done()

	_, err := cdc.Open(context.Background(), server, &cdc.Options{Tables: []string{"shop.order"}})
	var setup *cdc.SetupError
	if errors.As(err, &setup) {
		for _, f := range setup.Faults {
			fmt.Println(f.What)
		}
	}
	// Output: the table pattern "shop.order" matches no table
}

// exampleServer starts a server that holds an order.
func exampleServer() (dsn string, done func()) {
	srv, err := testenv.Launch(context.Background(), testenv.MySQL97, exampleDir())
	if err != nil {
		log.Fatal(err)
	}
	db := exampleDB(srv.DSN(""))
	defer db.Close()
	for _, s := range []string{
		"CREATE DATABASE shop",
		"CREATE TABLE shop.orders (id int PRIMARY KEY, total decimal(8,2), note varchar(20))",
		"INSERT INTO shop.orders VALUES (1, 12.5, 'new')",
		"UPDATE shop.orders SET total = 13",
	} {
		if _, err := db.Exec(s); err != nil {
			log.Fatal(err)
		}
	}
	return srv.DSN(""), func() { discard(srv) }
}
