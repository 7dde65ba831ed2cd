//go:build unix

package sink

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// An archiveTrial writes transactions to an archive, opens it anew after each error that
// stays, and sees to it that nothing is lost that was promised.
type archiveTrial struct {
	t       testing.TB
	dir     string
	disk    files.FS
	promise func(seq uint64) // is called for each promise
	a       *Archive
	told    uint64 // what was promised last
	errs    int
}

const trialLast = 40 // transactions

func (k *archiveTrial) open() (err error) {
	if k.a, err = archiveIn(k.disk, k.dir, &ArchiveOptions{SegmentBytes: 4 << 10, Logger: quiet}); err != nil {
		k.a = nil
	}
	return err
}

func (k *archiveTrial) close() {
	if k.a != nil {
		k.a.Close()
		k.a = nil
	}
}

func (k *archiveTrial) promised(seq uint64) {
	k.told = seq
	if k.promise != nil {
		k.promise(seq)
	}
}

// step applies a few transactions more.
func (k *archiveTrial) step(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			if k.errs++; !errors.Is(err, dfs.ErrTransient) {
				k.close()
			}
		}
	}()
	if k.a == nil {
		if err := k.open(); err != nil {
			return err
		}
	}
	at, err := k.a.Checkpoint(ctx)
	if err != nil {
		return err
	}
	// What a checkpoint says is a promise too: a queue may let go of what it covers.
	require.GreaterOrEqual(k.t, at.Seq, k.told, "what was promised is lost")
	k.promised(at.Seq)
	if at.Seq == 15 {
		if err := k.a.Baseline(ctx, nil); err != nil {
			return err
		}
	}
	if at.Seq == trialLast {
		return nil
	}
	batch := loggedRun(at.Seq+1, int(min(5, trialLast-at.Seq)), 700)
	switch batch[0].Seq {
	case 11:
		batch[1].State = "state 12"
	case 21:
		batch[0].More, batch[1].More = true, true
	}
	if err = k.a.Apply(ctx, batch); err == nil {
		k.promised(batch[len(batch)-1].Seq)
	}
	return err
}

// finish goes on until all is written, and looks at all of it.
func (k *archiveTrial) finish() {
	for n, looked := 0, false; !looked || k.told < trialLast; {
		err := k.step(k.t.Context())
		if looked = err == nil; !looked {
			n++
			require.Less(k.t, n, 4, "it does not go on: %v", err)
		}
	}
	at, err := k.a.Checkpoint(k.t.Context())
	require.NoError(k.t, err)
	require.Equal(k.t, []any{uint64(trialLast), "state 12"}, []any{at.Seq, at.State})
	k.close()
	all := archived(k.t, k.dir, nil)
	require.Len(k.t, all, trialLast)
	for i, tx := range all {
		want := logged(uint64(i+1), 700)
		require.Equal(k.t, []any{want.Seq, want.Encoded}, []any{tx.Seq, tx.Encoded})
	}
}

// Whichever operation on a file fails, once or until the archive is opened anew as after
// kill -9: all goes on, with each transaction there once.
func TestEveryAccessOfAnArchiveFails(t *testing.T) {
	for _, m := range []faultvfs.Mode{{Runs: 20}, {Times: 3, Code: faultvfs.Full, Runs: 10}, {Times: 1 << 30, Runs: 20}} {
		root := t.TempDir()
		fs := faultvfs.New(t, root)
		errs := 0
		fs.Sweep(t, m, func() {
			dir, err := os.MkdirTemp(root, "a")
			require.NoError(t, err)
			k := &archiveTrial{t: t, dir: dir, disk: fs.Files()}
			defer k.close()
			for k.told < trialLast {
				if err := k.step(t.Context()); err != nil && m.Times > 3 {
					k.close()
					break // it is dead
				} else if err != nil && k.errs > 8 {
					require.NoError(t, err)
				}
			}
			errs += k.errs
			if m.Times > 3 {
				failed := len(fs.Stop()) > 0
				k.finish()
				if failed {
					fs.FailAt(1, 1, faultvfs.Failed)
					fs.Files().Remove(filepath.Join(root, "none")) // so that Sweep sees that one has failed
				}
				return
			}
			k.finish()
		})
		require.Positive(t, errs)
	}
}

// The power goes at any moment, also after an operation has failed, and after a process
// has been killed: what was promised is there, and all goes on.
func TestPowerLossOfAnArchive(t *testing.T) {
	rng := rand.New(rand.NewPCG(testseed.New(t), 0))
	runs := 0
	// once writes an archive, of which the n-th operation fails and those that follow until
	// the process, which that is the end of, has gone; and then lets the power go.
	once := func(n int) (operations int) {
		root := t.TempDir()
		fs := faultvfs.New(t, root)
		dir := filepath.Join(root, "archive")
		require.NoError(t, os.Mkdir(dir, 0o700))
		rec := fs.Record()
		k := &archiveTrial{t: t, dir: dir, disk: fs.Files(), promise: func(seq uint64) { rec.Mark(int(seq)) }}
		defer k.close()
		fs.FailAt(n, 1<<30, faultvfs.Full) // it is not done: the process is dead by then
		for k.told < trialLast && k.errs == 0 {
			if err := k.step(t.Context()); err != nil {
				break
			}
		}
		k.close()
		operations = fs.Count()
		fs.Stop()
		died := rec.Len()
		k.finish()
		fs.StopRecording()
		total := rec.Len()
		var cuts []int
		if n > operations { // nothing failed
			for at, step := faultvfs.Sample(rng, total, 12); at <= total; at += step {
				cuts = append(cuts, at)
			}
		} else {
			// The next process promises what it has found, before it writes.
			for at := died; at <= min(died+4, total); at++ {
				cuts = append(cuts, at)
			}
		}
		for _, at := range cuts {
			for _, loss := range faultvfs.Losses {
				after := t.TempDir()
				require.NoError(t, os.Mkdir(filepath.Join(after, "archive"), 0o700))
				mark := rec.Crash(t, at, loss, rng, after)
				again := &archiveTrial{t: t, dir: filepath.Join(after, "archive"), disk: files.System{}, told: uint64(max(mark, 0))}
				func() {
					defer func() {
						if t.Failed() {
							t.Logf("after %d of %d events, lost: %v; operation %d had failed", at, total, loss, n)
						}
					}()
					again.finish()
				}()
				runs++
			}
		}
		return operations
	}
	of := once(1 << 62)
	for n, step := faultvfs.Sample(rng, of, 8); n <= of; n += step {
		once(n)
	}
	t.Logf("the power was cut %d times", runs)
}
