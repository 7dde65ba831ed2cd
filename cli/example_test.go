package cli_test

import (
	"context"
	"os"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cli"
)

// A program like basic, whose file may say in a unit
//
//	columns: [{name: class, type: varchar(10), func: worth, from: [orders]}]
func ExampleMain() {
	worth := func(_ context.Context, v []dfs.Value) (dfs.Value, error) {
		if v[0].Int() > 10 {
			return dfs.StringValue("gold"), nil
		}
		return dfs.StringValue("new"), nil
	}
	cli.Main(os.Args[1:], &cli.Options{Columns: map[string]cli.ColumnFunc{"worth": worth}})
}
