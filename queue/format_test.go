package queue

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/fixture"
)

// What earlier releases have written is read, and written on.
func TestStoredQueues(t *testing.T) {
	for _, version := range []int{fileVersion, stateVersion} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			name := filepath.Join("testdata", "formats", fmt.Sprint("queue-", version, ".tgz"))
			dir := fixture.Unpack(t, name, func(dir string) {
				q, err := Open(filepath.Join(dir, "queue"), nil)
				require.NoError(t, err)
				_, err = q.Reader("other").Open(t.Context(), dfs.Checkpoint{})
				require.NoError(t, err)
				batch := txs(1, 12, 200)
				batch[5].More = true
				if version == stateVersion {
					batch[7].State = stateAt(8)
				}
				apply(t, q, batch...)
				apply(t, q, txs(13, 2, 400)...)
				require.NoError(t, q.Close())
			})
			q := opened(t, filepath.Join(dir, "queue"), nil)
			require.EqualValues(t, 14, q.Stats().Last)
			at, err := q.Checkpoint(t.Context())
			require.NoError(t, err)
			if version == stateVersion {
				require.Equal(t, stateAt(8), at.State)
			}
			require.Len(t, q.Stats().Readers, 1)
			read(t, q, 1, 14)
			batch := txs(15, 3, 500)
			batch[1].State = stateAt(16)
			apply(t, q, batch...)
			read(t, q, 1, 17)
		})
	}
}

func TestStoredLetters(t *testing.T) {
	for version := 1; version <= lettersVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) { storedLetters(t, version) })
	}
}

func storedLetters(t *testing.T, version int) {
	dir := fixture.Unpack(t, filepath.Join("testdata", "formats", fmt.Sprint("letters-", version, ".tgz")), func(dir string) {
		require.Equal(t, lettersVersion, version, "this program writes the last version only")
		l, err := OpenLetters(filepath.Join(dir, "letters"), &LettersOptions{Pipeline: "shop"})
		require.NoError(t, err)
		one := &dfs.Letter{Number: 1, State: dfs.LetterParked, Seq: 7, Pos: "p", ID: "a:7", Parts: 1, Whole: true, Rows: 2, Part: "sink", Err: "bad row", Changes: letterRows(0, 2)}
		require.NoError(t, l.Write(t.Context(), &dfs.LetterWrite{Put: []*dfs.Letter{one}, Skip: []string{"a:9"}, Keys: []byte("[]"), Reached: 6}))
		one.Changes, one.Edited, one.Edits = nil, letterRows(9, 10), 1
		require.NoError(t, l.Write(t.Context(), &dfs.LetterWrite{Put: []*dfs.Letter{one}}))
		require.NoError(t, l.Close())
	})
	look, err := OpenLetters(filepath.Join(dir, "letters"), &LettersOptions{ReadOnly: true}) // which changes nothing
	require.NoError(t, err)
	b, err := look.Book(t.Context())
	require.NoError(t, err)
	require.Len(t, b.Letters, 1)
	require.NoError(t, look.Close())
	l := openLetters(t, filepath.Join(dir, "letters"), &LettersOptions{Pipeline: "shop"})
	b, err = l.Book(t.Context())
	require.NoError(t, err)
	require.Len(t, b.Letters, 1)
	require.Equal(t, []any{[]string{"a:9"}, "[]", uint64(6), uint64(2)}, []any{b.Skip, string(b.Keys), b.Reached, b.Next})
	got, err := l.Letter(t.Context(), 1, 0)
	require.NoError(t, err)
	require.Equal(t, letterRows(0, 2), got.Changes)
	require.Equal(t, letterRows(9, 10), got.Edited)
	require.Equal(t, []any{dfs.LetterParked, "a:7", "bad row"}, []any{got.State, got.ID, got.Err})
	require.NoError(t, l.Write(t.Context(), &dfs.LetterWrite{Put: []*dfs.Letter{{Number: 2, State: dfs.LetterSkipped, Parts: 1, Whole: true, Changes: []dfs.Change{}}}}))
}
