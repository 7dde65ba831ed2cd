package cli

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// softMemory is what the program may take before the collector works harder than it
	// does by itself, which lets garbage become as much as what is in use.
	softMemory = 96 << 20

	// memoryEvery is how often it is looked whether more is in use.
	memoryEvery = 250 * time.Millisecond
)

// holdMemory bounds the garbage beside what is in use, until the function that it returns
// is called: to what makes softMemory of both, or where more is in use, as for a row of a
// hundred megabytes, to half of that. A fixed bound would have the collector run all the
// time there. Where GOMEMLIMIT is set, that alone counts.
func holdMemory() (stop func()) {
	if debug.SetMemoryLimit(-1) != math.MaxInt64 {
		return func() {}
	}
	debug.SetMemoryLimit(softMemory)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			metrics.Read(live)
			debug.SetMemoryLimit(memoryLimit(live[0].Value.Uint64()))
		}
	})
	return func() {
		close(done)
		wg.Wait()
		debug.SetMemoryLimit(math.MaxInt64)
	}
}

// memoryLimit is the limit while so many bytes are in use.
func memoryLimit(live uint64) int64 { return max(softMemory, int64(live/2*3)) }
