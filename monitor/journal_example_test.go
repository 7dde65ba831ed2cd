package monitor_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/monitor"
)

func ExampleOpenJournal() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	j, err := monitor.OpenJournal(filepath.Join(dir, "shop.journal"), &monitor.JournalOptions{
		Level: monitor.JournalAll,
		Mask:  []string{"shop.users.phone"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer j.Close()

	script, err := dfstest.Parse(`
		table shop.users (id bigint, name varchar(40), phone varchar(40), key id)
		insert shop.users 42, "Ann", "555-1234"
		commit
		update shop.users 42, "Ann", "555-1234" -> 42, "Anna", "555-1234"
		commit
	`)
	if err != nil {
		log.Fatal(err)
	}
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: script.Transactions}, Sink: new(dfstest.Target).Open()}
	if err := j.Watch("shop", p); err != nil {
		log.Fatal(err)
	}
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}

	t, err := j.Trace(context.Background(), monitor.TraceQuery{Table: "shop.users", Key: []string{"42"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, tx := range t.Transactions { // newest first
		for _, c := range tx.Steps[0].Changes {
			fmt.Print(tx.Seq, " ", c.Op)
			for _, col := range c.Columns {
				fmt.Print(" ", col.Name, "=", col.After.Text)
			}
			fmt.Println()
		}
	}
	// Output:
	// 2 update id=42 name=Anna phone=•••
	// 1 insert id=42 name=Ann phone=•••
}
