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
	Runs int   // about how many syncs fail, unless all do. Default: 8
	Ends []End // what is tried after each. Default: Killed

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
	syncs := 0
	t.Run("none", func(t *testing.T) {
		disk, live := of.install(t, filepath.Join(dir, "none"))
		disk.FailAt(1<<62, 1, Failed, Sync)
		of.Use(t, live, func(int) {}, func() bool { return false })
		syncs = disk.Count()
		of.Close(t)
	})
	failures, cuts := 0, 0
	first, step := Sample(rng, max(syncs, 1), of.Runs)
	for n := first; n <= syncs && !t.Failed(); n += step {
		for _, end := range of.Ends {
			// No two runs have as many syncs: then an earlier one fails.
			for n, made := n, 0; n > 0 && made == 0 && !t.Failed(); n /= 2 {
				t.Run(fmt.Sprint(n, end), func(t *testing.T) {
					made = of.fails(t, filepath.Join(dir, fmt.Sprint(failures, n, end)), rng, n, end)
				})
				if made > 0 {
					failures, cuts = failures+1, cuts+made
				}
			}
		}
	}
	if failures == 0 && !t.Failed() {
		t.Fatal("nothing is synced")
	}
	t.Logf("%d of about %d syncs failed, and the power was cut %d times", failures, syncs, cuts)
}

// install puts a disk before an empty folder.
func (of *Trial) install(t *testing.T, root string) (disk *FS, live string) {
	t.Helper()
	live = filepath.Join(root, "live")
	if err := os.MkdirAll(live, 0o700); err != nil {
		t.Fatal(err)
	}
	return Install(t, root), live
}

// fails lets the n-th sync fail and the power go after that, and returns how often it did,
// which is never if there are less syncs.
func (of *Trial) fails(t *testing.T, root string, rng *rand.Rand, n int, end End) (cuts int) {
	t.Helper()
	disk, live := of.install(t, root)
	rec := disk.Record()
	disk.FailAt(n, 1, Failed, Sync)
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
