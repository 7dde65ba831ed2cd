package dfs_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/dataflowsync/dfs"
)

var people = &dfs.Table{Schema: "shop", Name: "people", Key: []int{0}, Columns: []dfs.Column{
	{Name: "id", Type: "bigint"},
	{Name: "name", Type: "varchar(40)", Charset: "utf8mb4"},
}}

// A list is a Source of transactions held in memory. A real one reads a log.
type list []dfs.Transaction

func (l list) Open(_ context.Context, from dfs.Checkpoint) (dfs.Stream, error) {
	return &listStream{l[from.Seq:]}, nil
}

type listStream struct{ rest list }

func (s *listStream) Next(_ context.Context, batch []*dfs.Transaction) (int, error) {
	n := 0
	for ; n < len(batch) && n < len(s.rest); n++ {
		batch[n] = &s.rest[n]
	}
	s.rest = s.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (s *listStream) Close() error { return nil }

// A printer is a Sink that remembers where it stands for as long as it lives. A
// real one stores the checkpoint in the same atomic write as the rows.
type printer struct{ at dfs.Checkpoint }

func (p *printer) Checkpoint(context.Context) (dfs.Checkpoint, error) { return p.at, nil }

func (p *printer) Apply(_ context.Context, batch []*dfs.Transaction) error {
	for _, tx := range batch {
		for _, c := range tx.Changes {
			fmt.Printf("%d: %s %s %v\n", tx.Seq, c.Op, c.Table, c.After)
		}
		p.at = tx.Checkpoint
	}
	return nil
}

func ExamplePipeline() {
	insert := func(id int64, name string) []dfs.Change {
		return []dfs.Change{{Op: dfs.Insert, Table: people, After: dfs.Row{dfs.IntValue(id), dfs.StringValue(name)}}}
	}
	source := list{{Changes: insert(1, "Ada")}, {Changes: insert(2, "Grace")}}

	shout := dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
		for _, tx := range batch {
			for _, c := range tx.Changes {
				c.After[1] = dfs.StringValue(c.After[1].Text() + "!")
			}
		}
		return nil
	})

	p := &dfs.Pipeline{Source: source, Stages: []dfs.Stage{shout}, Sink: &printer{}}
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1: insert shop.people [1 Ada!]
	// 2: insert shop.people [2 Grace!]
}
