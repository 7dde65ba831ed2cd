//go:build unix

package cdc

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Opening a FIFO would wait for one who writes to it, for ever.
func TestPipesAndDevicesAreRefused(t *testing.T) {
	dir := folder(t, pair(true))
	fifo := filepath.Join(dir, "b.000003")
	require.NoError(t, syscall.Mkfifo(fifo, 0o644))
	link, index := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "b.index")
	require.NoError(t, os.Symlink(fifo, link))
	require.NoError(t, os.WriteFile(index, []byte(fifo+"\n"), 0o644))
	pipeIndex := filepath.Join(t.TempDir(), "c.index")
	require.NoError(t, syscall.Mkfifo(pipeIndex, 0o644))
	for _, path := range []string{fifo, link, index, pipeIndex, os.DevNull} {
		_, err := OpenFiles(t.Context(), []string{path}, nil)
		require.ErrorContains(t, err, "is no regular file", path)
	}
	said, _, err := readFiles(t, nil, "", dir)
	require.NoError(t, err, "in a folder they are passed over")
	require.Equal(t, all3, said)
}
