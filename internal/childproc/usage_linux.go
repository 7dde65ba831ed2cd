package childproc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Tick is the unit of processor times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on.
const Tick = 10 * time.Millisecond

// CPUTime returns the processor time of a process, to the tick, or zero if
// there is no such process.
func CPUTime(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; utime and stime are the 14th and the 15th.
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * Tick
}

// PeakRSS returns the most memory that a process has had resident at once, in
// bytes, or zero if there is no such process. The kernel's ru_maxrss would count
// that of the parent, too.
func PeakRSS(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int64
	fmt.Sscan(rest, &kib)
	return kib << 10
}
