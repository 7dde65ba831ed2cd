package cli

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is in use may be more than the bound, which then follows it; and a bound of the
// user's stays.
func TestMemoryIsHeldToWhatIsInUse(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(math.MaxInt64)

	stop := holdMemory()
	require.EqualValues(t, softMemory, debug.SetMemoryLimit(-1))
	much := make([]byte, 300<<20)
	runtime.GC()
	require.Eventually(t, func() bool { return debug.SetMemoryLimit(-1) >= 450<<20 }, time.Minute, memoryEvery)
	runtime.KeepAlive(much)
	runtime.GC()
	require.Eventually(t, func() bool { return debug.SetMemoryLimit(-1) == softMemory }, time.Minute, memoryEvery)
	stop()
	require.EqualValues(t, math.MaxInt64, debug.SetMemoryLimit(-1))

	debug.SetMemoryLimit(1 << 30)
	holdMemory()()
	require.EqualValues(t, 1<<30, debug.SetMemoryLimit(-1))
}
