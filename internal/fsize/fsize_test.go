//go:build unix

package fsize

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFilesGrowNoFurther(t *testing.T) {
	if !Alone(t) {
		return
	}
	path := filepath.Join(t.TempDir(), "file")
	write := func() error { return os.WriteFile(path, make([]byte, 100), 0o600) }
	Limit(t, 60, func() { require.Error(t, write()) })
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 60, info.Size())
	require.NoError(t, write())
}
