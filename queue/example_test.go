package queue_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/queue"
)

// One source is read once into a queue, and carried to two sinks, each at its own
// pace. Here dfstest's source and targets stand for MySQL and others.
func ExampleReader() {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	q, err := queue.Open(filepath.Join(dir, "shop.queue"), &queue.Options{
		Readers:        []string{"copy", "archive"}, // so that neither misses anything
		MaxReaderBytes: 10 << 30,                    // one that is gone does not fill the disk
	})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()

	script, err := dfstest.Parse(`
		table shop.users (id bigint, name varchar(40), key id)
		insert shop.users 1, "Ada"
		commit
		insert shop.users 2, "Grace"
		commit`)
	if err != nil {
		log.Fatal(err)
	}
	var mirror, archive dfstest.Target
	f := &dfs.Fanout{
		Capture: &dfs.Pipeline{Source: &dfstest.Source{Transactions: script.Transactions}, Sink: q},
		Pipelines: map[string]*dfs.Pipeline{
			"copy":    {Source: q.Reader("copy"), Sink: mirror.Open()},
			"archive": {Source: q.Reader("archive"), Sink: archive.Open()},
		},
	}
	if err := f.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	fmt.Println(mirror.Rows("shop.users", "id", "name"))
	fmt.Println(archive.Rows("shop.users", "id", "name"))
	// Output:
	// [1|Ada 2|Grace]
	// [1|Ada 2|Grace]
}

// Mostly a queue is given to a dfs.Pipeline, which does all of this.
func Example() {
	dir, err := os.MkdirTemp("", "queue")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	q, err := queue.Open(filepath.Join(dir, "shop.queue"), &queue.Options{Keep: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	ctx := context.Background()

	// One side stores transactions. They are on the disk when Apply returns.
	at, err := q.Checkpoint(ctx)
	if err != nil {
		log.Fatal(err)
	}
	users := &dfs.Table{Schema: "shop", Name: "users", Columns: []dfs.Column{{Name: "id", Type: "bigint"}}}
	var batch []*dfs.Transaction
	for id := range int64(3) {
		at.Seq++
		at.Pos = dfs.Position(fmt.Sprint("binlog.000001:", 100+id))
		batch = append(batch, &dfs.Transaction{Checkpoint: at, Changes: []dfs.Change{
			{Op: dfs.Insert, Table: users, After: dfs.Row{dfs.IntValue(id)}},
		}})
	}
	if err := q.Apply(ctx, batch); err != nil {
		log.Fatal(err)
	}

	// The other reads them, at its own pace, and says what it no longer needs.
	r := q.Reader("audit")
	s, err := r.Open(ctx, dfs.Checkpoint{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	got := make([]*dfs.Transaction, 2)
	n, err := s.Next(ctx, got)
	if err != nil {
		log.Fatal(err)
	}
	for _, tx := range got[:n] {
		for _, c := range tx.Changes {
			fmt.Println(tx.Seq, tx.Pos, c.Op, c.Table, c.After)
		}
	}
	if err := r.Trim(ctx, got[n-1].Checkpoint); err != nil {
		log.Fatal(err)
	}
	for _, r := range q.Stats().Readers {
		fmt.Println(r.Name, "has passed", r.Seq, "and lags by", r.Lag)
	}
	// Output:
	// 1 binlog.000001:100 insert shop.users [0]
	// 2 binlog.000001:101 insert shop.users [1]
	// audit has passed 2 and lags by 1
}
