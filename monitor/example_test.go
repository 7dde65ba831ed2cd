package monitor_test

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/monitor"
)

func watch(ctx context.Context, p *dfs.Pipeline) error {
	logs := monitor.NewLog(slog.Default().Handler(), nil) // also shown on the page
	p.Logger = slog.New(logs)
	m, err := monitor.Open(map[string]*dfs.Pipeline{"shop": p}, &monitor.Options{Log: logs, Listen: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	defer m.Close()
	go m.Serve(ctx)           // or mount m, an http.Handler, in a server of your own
	return m.Run(ctx, "shop") // as p.Run, but an error waits for a person
}

func Example() {
	script, err := dfstest.Parse("table shop.users (id bigint, key id)\ninsert shop.users 1\ncommit")
	if err != nil {
		fmt.Println(err)
		return
	}
	target := new(dfstest.Target)
	p := &dfs.Pipeline{Source: &dfstest.Source{Transactions: script.Transactions}, Sink: target.Open()}
	fmt.Println(watch(context.Background(), p), p.Stats().Apply.Applied)
	// Output:
	// <nil> 1
}
