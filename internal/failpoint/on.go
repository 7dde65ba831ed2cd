//go:build failpoint

package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// On says whether the program has failpoints.
const On = true

// The point that DFS_FAILPOINT names, and how often it is still to be passed.
var (
	armed, nth = parse(os.Getenv("DFS_FAILPOINT"))
	hits       atomic.Int64
)

func parse(text string) (name string, n int64) {
	name, count, many := strings.Cut(text, ":")
	if n = 1; many {
		var err error
		if n, err = strconv.ParseInt(count, 10, 64); err != nil || n < 1 {
			panic(fmt.Sprintf("DFS_FAILPOINT=%q: write name or name:count", text))
		}
	}
	return name, n
}

// Hit ends the process by SIGKILL, if this is the point and the time at which it is
// to die.
func Hit(name string) {
	if name != armed || hits.Add(1) != nth {
		return
	}
	fmt.Fprintln(os.Stderr, "failpoint: dying at", name)
	p, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // nothing more is done
}
