package cdc

import (
	"testing"

	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// MySQL 5.6 sends a row without its last column for a replica that gave no UUID.
func TestAReplicaWithoutUUIDIsNoHindrance(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL56)
	cfg, err := mysql.ParseDSN(srv.DSN(""))
	require.NoError(t, err)
	conn, err := connect(t.Context(), cfg, nil)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, command(conn, (&dump{serverID: 77}).register()))
	_, err = conn.ReadOKPacket()
	require.NoError(t, err)

	src, err := Open(t.Context(), srv.DSN(""), nil)
	require.NoError(t, err)
	require.NoError(t, src.Close())
}
