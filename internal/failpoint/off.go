//go:build !failpoint

package failpoint

// On says whether the program has failpoints.
const On = false

// Hit does nothing here.
func Hit(string) {}
