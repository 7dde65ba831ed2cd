package queue

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faultvfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A letterKeeper writes letters as the engine does.
type letterKeeper struct {
	t    *testing.T
	path string
	l    *Letters
	told int
}

func (k *letterKeeper) try(do func(l *Letters) error) {
	k.t.Helper()
	for try := 0; ; try++ {
		var err error
		if k.l == nil {
			k.l, err = OpenLetters(k.path, nil)
		}
		if err == nil {
			if err = do(k.l); err == nil {
				return
			}
		} else {
			k.l = nil
		}
		k.told++
		require.NotContains(k.t, err.Error(), "damaged", "a failed access is no damage")
		require.Less(k.t, try, 8, "it does not go on: %v", err)
		if !errors.Is(err, dfs.ErrTransient) {
			k.close()
		}
	}
}

func (k *letterKeeper) close() {
	if k.l != nil {
		_ = k.l.Close() // what counts is what is in the file
		k.l = nil
	}
}

// put stores a letter in two parts, as one that is there already may be, since an
// error does not say whether it was stored.
func (k *letterKeeper) put(n uint64) {
	for part := 1; part <= 2; part++ {
		k.try(func(l *Letters) error {
			b, err := l.Book(background)
			if err != nil {
				return err
			}
			letter := &dfs.Letter{Number: n, State: dfs.LetterParked, ID: fmt.Sprint("id", n)}
			for _, have := range b.Letters {
				if have.Number == n {
					letter = have
				}
			}
			if letter.Parts >= part {
				return nil
			}
			from := int(n)*1000 + part*400
			letter.Parts, letter.Whole, letter.Changes = part, part == 2, letterRows(from, from+400)
			return l.Write(background, &dfs.LetterWrite{Put: []*dfs.Letter{letter}, Reached: n})
		})
	}
}

// whole requires that the letters are there as they were written.
func (k *letterKeeper) whole(upTo uint64) {
	k.t.Helper()
	for n := uint64(1); n <= upTo; n++ {
		k.try(func(l *Letters) error {
			got, err := l.Letter(background, n, 0)
			if err == nil {
				from := int(n) * 1000
				require.Equal(k.t, append(letterRows(from+400, from+800), letterRows(from+800, from+1200)...), got.Changes)
			}
			return err
		})
	}
	k.try(func(l *Letters) error {
		b, err := l.Book(background)
		if err == nil {
			require.GreaterOrEqual(k.t, len(b.Letters), int(upTo))
			require.GreaterOrEqual(k.t, b.Next, upTo+1)
		}
		return err
	})
}

// Whichever access to the disk fails: letters that were stored stay, each is there
// once, and the store goes on, by itself or once it has been opened anew.
func TestEveryAccessOfLettersFails(t *testing.T) {
	dir := memory(t)
	disk := faultvfs.Install(t, dir)
	path := filepath.Join(dir, "letters")
	run := func() {
		for _, name := range []string{"", "-wal", "-shm", "-journal", ".lock"} {
			os.Remove(path + name)
		}
		k := &letterKeeper{t: t, path: path}
		for n := uint64(1); n <= 6; n++ {
			if k.put(n); n == 3 {
				k.close()
			}
		}
		k.whole(6)
		k.close()
		failed := disk.Stop()
		k.whole(6)
		k.close()
		require.LessOrEqual(t, k.told, len(failed)+4)
	}
	for _, m := range []faultvfs.Mode{
		{Runs: 12}, {Runs: 5, Times: 3},
		{Runs: 5, Ops: []faultvfs.Op{faultvfs.Sync}}, {Runs: 5, Ops: []faultvfs.Op{faultvfs.Write}, Code: faultvfs.Full},
	} {
		require.Positive(t, disk.Sweep(t, m, run))
	}
}

// Letters that Write has confirmed are there after a loss of power.
func TestPowerLossOfLetters(t *testing.T) {
	dir := memory(t)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "live"), 0o700))
	disk := faultvfs.Install(t, dir)
	rec := disk.Record()
	k := &letterKeeper{t: t, path: filepath.Join(dir, "live", "letters")}
	for n := uint64(1); n <= 8; n++ {
		k.put(n)
		rec.Mark(int(n))
	}
	k.close()
	disk.StopRecording()
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	total := rec.Len()
	first, step := faultvfs.Sample(rng, total, 12)
	for n := first; n <= total; n += step {
		for _, loss := range faultvfs.Losses {
			after := filepath.Join(dir, fmt.Sprint("after", n, loss))
			require.NoError(t, os.MkdirAll(filepath.Join(after, "live"), 0o700))
			mark := rec.Crash(t, n, loss, rng, after)
			k := &letterKeeper{t: t, path: filepath.Join(after, "live", "letters")}
			if mark > 0 {
				k.whole(uint64(mark))
			}
			k.put(20)
			k.close()
			require.Zero(t, k.told, "after %d of %d events, lost: %v", n, total, loss)
			require.NoError(t, os.RemoveAll(after))
		}
	}
}
