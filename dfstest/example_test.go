package dfstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
)

func Example() {
	shout := dfs.StageFunc(func(_ context.Context, batch []*dfs.Transaction) error {
		for _, tx := range batch {
			for _, c := range tx.Changes {
				if i := c.Table.Column("name"); i >= 0 && c.After != nil {
					c.After[i] = dfs.StringValue(strings.ToUpper(c.After[i].Text()))
				}
			}
		}
		return nil
	})
	s, err := dfstest.Parse(`
		table shop.users (id bigint, name varchar(40), key id)
		insert shop.users 1, "Ann"
		insert shop.users 2, "Bob"
		commit
		delete shop.users 1, "ANN"
		commit`)
	if err != nil {
		fmt.Println(err)
		return
	}

	// What comes out of the stage.
	out, _ := dfstest.Run(context.Background(), []dfs.Stage{shout}, s.Transactions...)
	fmt.Print(dfstest.Format(out...))

	// What a pipeline makes of it, although the answer to its first write is lost.
	lost := dfs.Transient(errors.New("connection lost"))
	target := &dfstest.Target{Fault: dfstest.Once("sink reply", 1, lost)}
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: s.Transactions}, Stages: []dfs.Stage{shout}, Sink: target.Open(), RetryWait: 1}
	fmt.Println(p.Run(context.Background()), target.Rows("shop.users", "id", "name"))
	// Output:
	// insert shop.users id=1, name="ANN"
	// insert shop.users id=2, name="BOB"
	// commit
	// delete shop.users id=1, name="ANN"
	// commit
	// <nil> [2|BOB]
}
