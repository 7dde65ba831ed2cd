// Package testseed gives tests that do random things their seeds.
package testseed

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// New returns the seed of a random test, and logs it. DFS_SEED in the environment
// repeats one. Where CI is "true" it is always the same for a test of that name, so
// that a change is judged by what it changes; a failure that another seed would have
// shown long before is for the runs on a developer's machine, and for the campaigns
// of the Makefile, which take another seed each time.
func New(tb testing.TB) uint64 {
	tb.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("DFS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			tb.Fatalf("DFS_SEED: %v", err)
		}
	} else if os.Getenv("CI") == "true" {
		h := fnv.New64a()
		h.Write([]byte(tb.Name()))
		seed = h.Sum64()
	}
	tb.Logf("DFS_SEED=%d", seed)
	return seed
}
