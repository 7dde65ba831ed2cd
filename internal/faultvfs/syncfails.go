package faultvfs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs/internal/testseed"
)

// An End is what becomes of a process after a sync that failed.
type End uint8

const (
	Killed End = iota // kill -9: nothing more is done
	Closed            // it closes its files, whose disk is sound again
	Alive             // it goes on with what it has open
)

// String names the end.
func (e End) String() string { return [...]string{"killed", "closed", "alive"}[e] }

// A Trial is something with files that keeps what it has promised.
type Trial struct {
	Syncs int    // about how many Use does, so that a sample can be taken
	Of    string // name of the file whose syncs count. Default: "", all
	Runs  int    // about how many of them fail. Default: 8
	Ends  []End  // what is tried after each. Default: Killed

	// Use opens files in dir, unless they are open, and does about the same each time. It
	// calls promise whenever more has been promised. When sick reports that a sync has
	// failed it comes back, and only then may it have met an error.
	Use func(t *testing.T, dir string, promise func(n int), sick func() bool)

	// Close closes what Use has opened.
	Close func(t *testing.T)

	// Check opens what a loss of power has left in dir, looks whether what was promised
	// is there, goes on with it, and closes it.
	Check func(t *testing.T, dir string, promised int)
}

// SyncFails lets a sync below dir fail once, another one each time, as on Linux: the pages
// are taken for clean, reads give what was written, and later syncs succeed without it.
// The process ends or not, what comes next goes on, and then the power goes.
func SyncFails(t *testing.T, dir string, of Trial) {
	t.Helper()
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	if of.Runs == 0 {
		of.Runs = 8
	}
	if of.Ends == nil {
		of.Ends = []End{Killed}
	}
	failures, cuts := 0, 0
	n, step := Sample(rng, of.Syncs, of.Runs)
	for some := true; some && !t.Failed(); n += step {
		some = false
		for _, end := range of.Ends {
			t.Run(fmt.Sprint(n, end), func(t *testing.T) {
				if made := of.fails(t, filepath.Join(dir, fmt.Sprint(n, end)), rng, n, end); made > 0 {
					some, failures, cuts = true, failures+1, cuts+made
				}
			})
		}
	}
	if failures == 0 && !t.Failed() {
		t.Fatalf("there are less than %d syncs", n-step)
	}
	t.Logf("%d syncs failed, and the power was cut %d times", failures, cuts)
}

// fails lets the n-th sync fail and the power go after that, and returns how often it did,
// which is never if there are less syncs.
func (of *Trial) fails(t *testing.T, root string, rng *rand.Rand, n int, end End) (cuts int) {
	t.Helper()
	live := filepath.Join(root, "live")
	if err := os.MkdirAll(live, 0o700); err != nil {
		t.Fatal(err)
	}
	disk := Install(t, root)
	rec := disk.Record()
	count := 0
	disk.Fail(func(_ int, a Access) Code {
		if of.Of == "" || filepath.Base(a.Path) == of.Of {
			if count++; count == n {
				return Failed
			}
		}
		return OK
	}, Sync)
	of.Use(t, live, rec.Mark, func() bool { return disk.Failures() > 0 })
	if len(disk.Stop()) == 0 {
		of.Close(t)
		return 0
	}
	died := rec.Len()
	switch end {
	case Killed:
		disk.FailAt(1, 1<<30, Full)
		of.Close(t)
		disk.Stop()
	case Closed:
		of.Close(t)
	}
	of.Use(t, live, rec.Mark, func() bool { return false })
	disk.StopRecording()
	of.Close(t)
	total := rec.Len()
	first, step := Sample(rng, total-died, 5)
	for at := died + first; at <= total && !t.Failed(); at += step {
		for _, loss := range []Loss{All, Some} {
			after := filepath.Join(root, fmt.Sprint("after", at, loss))
			if err := os.MkdirAll(filepath.Join(after, "live"), 0o700); err != nil {
				t.Fatal(err)
			}
			promised := rec.Crash(t, at, loss, rng, after)
			func() {
				defer func() {
					if t.Failed() {
						t.Logf("sync %d had failed, after event %d of %d, and the process was %v; the power went after event %d, lost: %v",
							n, died, total, end, at, loss)
					}
				}()
				of.Check(t, filepath.Join(after, "live"), promised)
			}()
			if err := os.RemoveAll(after); err != nil {
				t.Fatal(err)
			}
			cuts++
		}
	}
	return cuts
}
