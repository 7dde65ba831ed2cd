//go:build unix

package sink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/fixture"
	"github.com/dataflowsync/dfs/internal/fsize"
)

// Whichever write of an archive fails, and at whichever byte: it is told, and then
// all goes on, with each transaction there once.
func TestEachWriteOfAnArchiveFails(t *testing.T) {
	if !fsize.Alone(t) {
		return
	}
	failed, opened := 0, 0
	for limit := int64(0); limit < 9000; limit += 631 {
		dir := t.TempDir()
		const last = 60
		var a *Archive
		try := func(do func() error) (err error) {
			if a == nil {
				if a, err = OpenArchive(dir, &ArchiveOptions{SegmentBytes: 4 << 10, Logger: quiet}); err != nil {
					a = nil
					opened++
					return err
				}
			}
			if err = do(); err != nil {
				failed++
				if !errors.Is(err, dfs.ErrTransient) {
					a.Close()
					a = nil
				}
			}
			return err
		}
		acked := uint64(0)
		step := func() error {
			at, err := a.Checkpoint(context.Background())
			if err != nil {
				return err
			}
			require.GreaterOrEqual(t, at.Seq, acked, "what was confirmed is lost")
			batch := loggedRun(at.Seq+1, int(min(5, last-at.Seq)), 700)
			if batch[0].Seq == 21 {
				batch[0].More, batch[1].More = true, true
			}
			if err = a.Apply(context.Background(), batch); err == nil {
				acked = batch[len(batch)-1].Seq
			}
			return err
		}
		for acked < last {
			var err error
			fsize.Limit(t, limit, func() { err = try(step) })
			for n := 0; err != nil; n++ {
				require.Less(t, n, 3, "it does not go on: %v", err)
				err = try(step)
			}
		}
		require.NoError(t, a.Close())
		all := archived(t, dir, nil)
		require.Len(t, all, last)
		for i, tx := range all {
			require.EqualValues(t, i+1, tx.Seq)
			require.Equal(t, logged(tx.Seq, 700).Encoded, tx.Encoded)
		}
	}
	require.Greater(t, failed, 20)
	t.Logf("%d times it was told that a write had failed, %d times when it was opened", failed, opened)
}

// What earlier releases have written is read, restored and written on.
func TestStoredArchives(t *testing.T) {
	key := make([]byte, 32)
	copy(key, "not a secret")
	for name, k := range map[string][]byte{"plain": nil, "encrypted": key} {
		t.Run(name, func(t *testing.T) {
			dir := fixture.Unpack(t, filepath.Join("testdata", "formats", "archive-1-"+name+".tgz"), func(dir string) {
				a := openArchive(t, filepath.Join(dir, "archive"), ArchiveOptions{SegmentBytes: 3 << 10, Key: k})
				for seq := uint64(1); seq <= 40; seq += 5 {
					_, err := a.Checkpoint(t.Context())
					require.NoError(t, err)
					batch := loggedRun(seq, 5, 900)
					batch[1].More = true
					batch[3].State = fmt.Sprint("state ", seq)
					require.NoError(t, a.Apply(t.Context(), batch))
				}
				require.NoError(t, a.Close())
			})
			dir = filepath.Join(dir, "archive")
			sealed, err := filepath.Glob(filepath.Join(dir, "segment-*"))
			require.NoError(t, err)
			require.Greater(t, len(sealed), 1)
			check := func(last int) {
				all := archived(t, dir, k)
				require.Len(t, all, last)
				for i, tx := range all {
					want := logged(uint64(i+1), 900)
					require.Equal(t, []any{want.Seq, want.Pos, want.ID, want.Committed, want.Encoded}, []any{tx.Seq, tx.Pos, tx.ID, tx.Committed, tx.Encoded})
				}
			}
			check(40)
			a := openArchive(t, dir, ArchiveOptions{SegmentBytes: 3 << 10, Key: k})
			at, err := a.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, []any{uint64(40), "state 36"}, []any{at.Seq, at.State})
			require.NoError(t, a.Apply(t.Context(), loggedRun(41, 10, 900)))
			require.NoError(t, a.Close())
			check(50)
			_, err = os.Stat(dir)
			require.NoError(t, err)
		})
	}
}
