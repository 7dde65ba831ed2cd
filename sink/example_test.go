package sink_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// exampleServer starts a server with the table crm.users.
func exampleServer() (dsn string, done func()) {
	dir, err := os.MkdirTemp("", "sink")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := testenv.Launch(context.Background(), testenv.MySQL97, filepath.Join(dir, "data"))
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("mysql", srv.DSN(""))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	for _, q := range []string{"CREATE DATABASE crm", "CREATE TABLE crm.users (id int PRIMARY KEY, name varchar(40))"} {
		if _, err := db.Exec(q); err != nil {
			log.Fatal(err)
		}
	}
	return srv.DSN(""), func() {
		if err := srv.Stop(); err != nil {
			log.Fatal(err)
		}
		os.RemoveAll(dir)
	}
}

// A pipeline calls Checkpoint and Apply by itself. This is what it does.
func Example() {
	ctx := context.Background()
	dsn, done := exampleServer()
	defer done()

	dst, err := sink.OpenMySQL(ctx, dsn, &sink.MySQLOptions{
		Routes:    []sink.Route{{From: "shop.*", To: "crm.*"}},
		Conflicts: []sink.ConflictRule{{Tables: "crm.log", Policy: sink.PolicyIgnore}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dst.Close()

	at, err := dst.Checkpoint(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stands at", at.Seq)

	users := &dfs.Table{Schema: "shop", Name: "users", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"}, {Name: "name", Type: "varchar(40)", Charset: "utf8mb4"},
	}}
	ann := dfs.Row{dfs.IntValue(1), dfs.StringValue("Ann")}
	anna := dfs.Row{dfs.IntValue(1), dfs.StringValue("Anna")}
	err = dst.Apply(ctx, []*dfs.Transaction{
		{Checkpoint: dfs.Checkpoint{Seq: 1}, Changes: []dfs.Change{{Op: dfs.Insert, Table: users, After: ann}}},
		{Checkpoint: dfs.Checkpoint{Seq: 2}, Changes: []dfs.Change{{Op: dfs.Update, Table: users, Before: ann, After: anna}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	at, err = dst.Checkpoint(ctx)
	if err != nil {
		log.Fatal(err)
	}
	s := dst.Stats()
	fmt.Printf("stands at %d after %d commit of %d transactions\n", at.Seq, s.Commits, s.Transactions)
	// Output:
	// stands at 0
	// stands at 2 after 1 commit of 2 transactions
}
