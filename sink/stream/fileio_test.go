//go:build unix

package stream

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/checkfile"
	"github.com/dataflowsync/dfs/internal/fixture"
	"github.com/dataflowsync/dfs/internal/fsize"
)

// Whichever write fails, of messages, of the checkpoint or of the source's state, and
// at whichever byte: it is told, and then all goes on, with each message there once.
func TestEachWriteOfAFileFails(t *testing.T) {
	if !fsize.Alone(t) {
		return
	}
	failed := 0
	for limit := int64(0); limit < 5000; limit += 211 {
		path := filepath.Join(t.TempDir(), "out.ndjson")
		o := &FileOptions{MaxBytes: 3000}
		const last = 30
		var f *File
		acked := uint64(0)
		step := func() (err error) {
			if f == nil {
				if f, err = OpenFile(path, o); err != nil {
					f = nil
					return err
				}
			}
			at, err := f.Checkpoint(t.Context())
			if err == nil {
				require.GreaterOrEqual(t, at.Seq, acked, "what was confirmed is lost")
				var batch []*dfs.Transaction
				for seq := at.Seq + 1; seq <= min(at.Seq+4, last); seq++ {
					batch = append(batch, insert(seq))
					if seq%9 == 0 {
						batch[len(batch)-1].State = strings.Repeat(fmt.Sprint("state ", seq), 90)
					}
				}
				if err = f.Apply(t.Context(), batch); err == nil {
					acked = batch[len(batch)-1].Seq
				}
			}
			if err != nil && !errors.Is(err, dfs.ErrTransient) {
				f.Close()
				f = nil
			}
			return err
		}
		for acked < last {
			var err error
			fsize.Limit(t, limit, func() { err = step() })
			for n := 0; err != nil; n++ {
				failed++
				require.Less(t, n, 3, "it does not go on: %v", err)
				err = step()
			}
		}
		require.NoError(t, f.Close())
		list := rows(t, lines(t, path, o))
		require.Len(t, list, last)
		_, state, err := checkfile.Read(path + ".checkpoint")
		require.NoError(t, err)
		require.Equal(t, strings.Repeat("state 27", 90), state)
	}
	require.Greater(t, failed, 20)
	t.Logf("%d times it was told that a write had failed", failed)
}

// A byte of the checkpoint or of the state beside it is changed: it is seen.
func TestAChangedByteOfACheckpointIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.ndjson")
	f, err := OpenFile(path, nil)
	require.NoError(t, err)
	_, err = f.Checkpoint(t.Context())
	require.NoError(t, err)
	tx := insert(1)
	tx.State = "what the source must know"
	require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{tx}))
	require.NoError(t, f.Close())
	for _, name := range []string{path + ".checkpoint", path + ".checkpoint.state-1"} {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				require.NoError(t, os.WriteFile(name, b, 0o600))
				b[i] ^= 1 << bit
				_, _, err := checkfile.Read(path + ".checkpoint")
				require.ErrorContains(t, err, "damaged", "bit %d of byte %d of %s", bit, i, filepath.Base(name))
			}
			require.NoError(t, os.WriteFile(name, b[:i], 0o600))
			_, _, err := checkfile.Read(path + ".checkpoint")
			require.Error(t, err, "%s, cut at %d", filepath.Base(name), i)
		}
		require.NoError(t, os.WriteFile(name, b, 0o600))
	}
	_, _, err = checkfile.Read(path + ".checkpoint")
	require.NoError(t, err)
}

// What earlier releases have written is read, and written on.
func TestStoredFiles(t *testing.T) {
	dir := fixture.Unpack(t, filepath.Join("testdata", "formats", "file-1.tgz"), func(dir string) {
		f, err := OpenFile(filepath.Join(dir, "out.ndjson"), &FileOptions{MaxBytes: 1000})
		require.NoError(t, err)
		_, err = f.Checkpoint(t.Context())
		require.NoError(t, err)
		for seq := uint64(1); seq <= 9; seq++ {
			tx := insert(seq)
			if seq == 4 {
				tx.State = "state 4"
			}
			require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{tx}))
		}
		require.NoError(t, f.Close())
	})
	path, o := filepath.Join(dir, "out.ndjson"), &FileOptions{MaxBytes: 1000}
	f, err := OpenFile(path, o)
	require.NoError(t, err)
	at, err := f.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{Seq: 9, Pos: "at 9", State: "state 4"}, at)
	require.NoError(t, f.Apply(t.Context(), []*dfs.Transaction{insert(10), insert(11)}))
	require.NoError(t, f.Close())
	require.Len(t, rows(t, lines(t, path, o)), 11)
}
