// Command basic keeps a MySQL or MariaDB database in step with another, as a
// YAML file says.
//
//	basic config > dfs.yaml   # then edit it
//	basic check
//	basic run
//
// "basic -h" lists its commands and exit codes. All that the file can say can be
// said in Go too: wire.go shows how, and examples/embed is the same in one page.
package main

import (
	"os"
)

func main() {
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr))
}
