package relmgr_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/internal/testseed"
	"github.com/dataflowsync/dfs/relmgr"
)

var mapFlips = flag.Int("mapflips", 60, "how many bits of a map are changed")

// A bit of a map is changed, wherever: rows get the ids that they had, or there is an
// error. Never does a row get another one, or a reference lead elsewhere.
func TestAChangedBitOfAMap(t *testing.T) {
	var text strings.Builder
	text.WriteString(storedTables)
	for n := range 400 {
		fmt.Fprintf(&text, "insert s.users %d, \"a\", %d\ninsert s.codes \"c%d\"\n", n*37, (n+1)*37, n)
	}
	s, err := dfstest.Parse(text.String() + "commit\n")
	require.NoError(t, err)
	dir := t.TempDir()
	o := storedOptions
	o.Tables = s.Tables
	send := func(path string) (string, error) {
		m, err := relmgr.Open(path, &o)
		if err != nil {
			return "", err
		}
		s.Transactions[0].Seq = 1
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
		if err != nil {
			m.Close()
			return "", err
		}
		return dfstest.Format(out...), m.Close()
	}
	path := filepath.Join(dir, "map")
	want, err := send(path)
	require.NoError(t, err)
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Greater(t, len(file), 80_000, "the log is moved into the file")
	rng := rand.New(rand.NewPCG(testseed.New(t), 1))
	told := 0
	for range *mapFlips {
		at, bit := rng.IntN(len(file)), rng.IntN(8)
		for _, name := range []string{"-wal", "-shm", ".lock"} {
			os.Remove(path + name)
		}
		file[at] ^= 1 << bit
		require.NoError(t, os.WriteFile(path, file, 0o600))
		file[at] ^= 1 << bit
		got, err := send(path)
		if err != nil {
			told++
			continue
		}
		if got != want {
			t.Fatalf("bit %d of byte %d: rows have got other ids, and no error", bit, at)
		}
	}
	require.Positive(t, told)
	t.Logf("of %d changed bits %d were told, the others harmless", *mapFlips, told)
}
