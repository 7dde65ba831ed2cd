// Command basic keeps a MySQL or MariaDB database in step with another, as a
// YAML file says.
//
//	basic config > dfs.yaml   # then edit it
//	basic check
//	basic run
//
// "basic -h" lists its commands and exit codes. All of it is package cli, so a
// program with functions of its own is no longer than this one. All that the file
// can say can be said in Go too: cli/wire.go shows how, and examples/embed is the
// same in one page.
package main

import (
	"os"

	"github.com/dataflowsync/dfs/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], nil))
}
