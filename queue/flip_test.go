package queue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testseed"
)

// A bit of the file of dead letters is changed, wherever: what is read is as it was
// written, or there is an error.
func TestAChangedBitOfLetters(t *testing.T) {
	dir := memory(t)
	path := filepath.Join(dir, "letters")
	k := &letterKeeper{t: t, path: path}
	for n := uint64(1); n <= 12; n++ {
		k.put(n)
	}
	k.try(func(l *Letters) error {
		return l.Write(background, &dfs.LetterWrite{Skip: []string{"a:1", "a:2"}, Keys: []byte(`[{"table":"shop.people"}]`)})
	})
	all := func() (string, error) {
		l, err := OpenLetters(path, nil)
		if err != nil {
			return "", err
		}
		defer l.Close()
		b, err := l.Book(background)
		if err != nil {
			return "", err
		}
		for i, letter := range b.Letters {
			if b.Letters[i], err = l.Letter(background, letter.Number, 0); err != nil {
				return "", err
			}
		}
		text, err := json.Marshal(b)
		for _, letter := range b.Letters {
			text = fmt.Append(text, letter.Changes)
		}
		return string(text), err
	}
	k.close()
	want, err := all()
	require.NoError(t, err)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	told, runs := 0, 0
	change := func(at, bit int) {
		runs++
		for _, name := range []string{"-wal", "-shm", ".lock"} {
			os.Remove(path + name)
		}
		file[at] ^= 1 << bit
		require.NoError(t, os.WriteFile(path, file, 0o600))
		file[at] ^= 1 << bit
		got, err := all()
		if err != nil {
			told++
			return
		}
		if got != want {
			t.Fatalf("bit %d of byte %d: something else is read, and no error", bit, at)
		}
	}
	for range lessUnderRace(150) {
		change(rng.IntN(len(file)), rng.IntN(8))
	}
	// Where a name is damaged, what is noted under it is not what was never noted.
	for _, name := range []string{"keys[", "next13", "reached12"} {
		at := bytes.Index(file, []byte(name))
		require.Positive(t, at, name)
		for i := range 8 {
			change(at+i%4, i)
		}
	}
	t.Logf("of %d changed bits %d were told, the others harmless", runs, told)
}
