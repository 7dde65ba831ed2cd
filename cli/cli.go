// Package cli is the program that examples/basic is: all of its commands, on a YAML
// file. A program with functions of its own, for the file to name, is one call of
// Main.
package cli

import (
	"os"
)

// Options refine the program. The zero value of each field is the default.
type Options struct{}

// Main runs the program on its command line, args without the program's name, and
// returns the exit code. It reacts to SIGINT and SIGTERM by itself.
func Main(args []string, o *Options) int {
	return command(args, os.Stdout, os.Stderr)
}
