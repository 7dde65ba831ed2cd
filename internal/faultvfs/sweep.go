package faultvfs

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/dataflowsync/dfs/internal/testseed"
)

var every = flag.Bool("everyio", false, "let each single access to a file fail, and cut the power after each (make iosweep); else a sample")

// A Mode is how accesses fail in a Sweep.
type Mode struct {
	Times int  // this many in a row. Default: 1
	Code  Code // Default: Failed
	Ops   []Op // of these. Default: all
	Runs  int  // about how many accesses are tried, unless all are. Default: 50
}

// Sweep calls run again and again, and lets another access fail each time: each, if
// the flag -everyio is set, and else a sample, which the seed of the test decides. Run begins
// with the same files each time and needs to do about the same. Sweep returns how many
// accesses have failed.
func (f *FS) Sweep(t *testing.T, m Mode, run func()) (failed int) {
	t.Helper()
	if m.Times == 0 {
		m.Times = 1
	}
	if m.Code == OK {
		m.Code = Failed
	}
	if m.Runs == 0 {
		m.Runs = 50
	}
	f.FailAt(1<<62, 1, m.Code, m.Ops...)
	run()
	of := f.Count()
	if of == 0 {
		t.Fatal("nothing accesses the disk")
	}
	first, step := Sample(rand.New(rand.NewPCG(testseed.New(t), 0)), of, m.Runs)
	for n := first; ; {
		f.FailAt(n, m.Times, m.Code, m.Ops...)
		run()
		if len(f.Stop()) > 0 {
			failed++
			n += step
			continue
		}
		if failed > 0 || n == 1 {
			break
		}
		n = (n + 1) / 2 // no two runs have as many accesses, and this one ended before
		first = n
	}
	t.Logf("%d of about %d accesses (%v) failed, %d in a row; from %d on each %dth", failed, of, m.Ops, m.Times, first, step)
	return failed
}

// Sample returns with which of so many things to begin, and how far it is to the next,
// so that about runs of them are tried.
func Sample(rng *rand.Rand, of, runs int) (first, step int) {
	if *every {
		return 1, 1
	}
	step = max(of/max(runs/slower, 1), 1)
	return 1 + rng.IntN(step), step
}
