//go:build unix

package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/files"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A trial writes messages to files, opens them anew after each error that stays, and sees
// to it that nothing is lost that was promised.
type trial struct {
	t       testing.TB
	path    string
	disk    files.FS
	promise func(seq uint64) // is called for each promise
	f       *File
	told    uint64
	errs    int
}

const trialLast = 30 // transactions

func (k *trial) options() *FileOptions {
	return &FileOptions{MaxBytes: 1500, Checkpoint: filepath.Join(filepath.Dir(k.path), "elsewhere", "mark")}
}

func (k *trial) close() {
	if k.f != nil {
		k.f.Close()
		k.f = nil
	}
}

func (k *trial) promised(seq uint64) {
	k.told = seq
	if k.promise != nil {
		k.promise(seq)
	}
}

func (k *trial) step() (err error) {
	defer func() {
		if err != nil {
			if k.errs++; !errors.Is(err, dfs.ErrTransient) {
				k.close()
			}
		}
	}()
	if k.f == nil {
		if k.f, err = openFile(k.disk, k.path, k.options()); err != nil {
			k.f = nil
			return err
		}
	}
	at, err := k.f.Checkpoint(k.t.Context())
	if err != nil {
		return err
	}
	require.GreaterOrEqual(k.t, at.Seq, k.told, "what was promised is lost")
	k.promised(at.Seq)
	var batch []*dfs.Transaction
	for seq := at.Seq + 1; seq <= min(at.Seq+4, trialLast); seq++ {
		tx := insert(seq)
		if seq%9 == 0 {
			tx.State = fmt.Sprint("state ", seq)
		}
		tx.More = seq == 13 || seq == 14
		batch = append(batch, tx)
	}
	if len(batch) == 0 {
		return nil
	}
	if err = k.f.Apply(k.t.Context(), batch); err == nil {
		last := batch[len(batch)-1]
		for last.More {
			last = insert(last.Seq + 1)
			last.More = last.Seq == 14
			if err = k.f.Apply(k.t.Context(), []*dfs.Transaction{last}); err != nil {
				return err
			}
		}
		k.promised(last.Seq)
	}
	return err
}

// finish goes on until all is written, and looks at all of it.
func (k *trial) finish() {
	for n, looked := 0, false; !looked || k.told < trialLast; {
		err := k.step()
		if looked = err == nil; !looked {
			n++
			require.Less(k.t, n, 4, "it does not go on: %v", err)
		}
	}
	k.close()
	rec, state, err := checkfile.Read(k.options().Checkpoint)
	require.NoError(k.t, err)
	require.Equal(k.t, []any{uint64(trialLast), "state 27"}, []any{rec.Seq, state})
	f := &File{path: k.path, opts: *k.options()}
	var list []string
	for n := 1; n <= rec.File; n++ {
		b, err := os.ReadFile(f.name(n))
		require.NoError(k.t, err)
		if n == rec.File {
			require.Len(k.t, b, int(rec.Offset))
		}
		for len(b) > 0 {
			i := bytes.IndexByte(b, '\n')
			require.GreaterOrEqual(k.t, i, 0)
			list, b = append(list, string(b[:i])), b[i+1:]
		}
	}
	require.Len(k.t, rows(k.t, list), trialLast)
}

func newTrial(t testing.TB, root string, disk files.FS) *trial {
	require.NoError(t, os.MkdirAll(filepath.Join(root, "elsewhere"), 0o700))
	return &trial{t: t, path: filepath.Join(root, "out.ndjson"), disk: disk}
}

// Whichever operation on a file fails, once or until the files are opened anew as after
// kill -9: all goes on, with each message there once.
func TestEveryAccessOfAFileFails(t *testing.T) {
	for _, m := range []faultvfs.Mode{{Runs: 20}, {Times: 3, Code: faultvfs.Full, Runs: 10}, {Times: 1 << 30, Runs: 20}} {
		root := t.TempDir()
		fs := faultvfs.New(t, root)
		errs := 0
		fs.Sweep(t, m, func() {
			dir, err := os.MkdirTemp(root, "f")
			require.NoError(t, err)
			k := newTrial(t, dir, fs.Files())
			defer k.close()
			for k.told < trialLast {
				if err := k.step(); err != nil && m.Times > 3 {
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
func TestPowerLossOfAFile(t *testing.T) {
	rng := rand.New(rand.NewPCG(testseed.New(t), 0))
	runs := 0
	once := func(n int) (operations int) {
		root := t.TempDir()
		fs := faultvfs.New(t, root)
		rec := fs.Record()
		k := newTrial(t, root, fs.Files())
		k.promise = func(seq uint64) { rec.Mark(int(seq)) }
		defer k.close()
		fs.FailAt(n, 1<<30, faultvfs.Failed)
		for k.told < trialLast && k.errs == 0 {
			if err := k.step(); err != nil {
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
				again := newTrial(t, after, files.System{})
				again.told = uint64(max(rec.Crash(t, at, loss, rng, after), 0))
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
