package tcp

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSocketsOfThisMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	conn, err := Dial(t.Context(), "unix", path)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}
