package cdc

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
)

func TestHowLongAServerKeepsItsLog(t *testing.T) {
	for _, c := range []struct {
		vars  map[string]string
		want  time.Duration
		known bool
	}{
		{map[string]string{"binlog_expire_logs_seconds": "2592000", "expire_logs_days": "0", "binlog_expire_logs_auto_purge": "ON"}, 720 * time.Hour, true},
		{map[string]string{"binlog_expire_logs_seconds": "2592000", "binlog_expire_logs_auto_purge": "OFF"}, dfs.Never, true},
		{map[string]string{"binlog_expire_logs_seconds": "0", "expire_logs_days": "0"}, dfs.Never, true},
		{map[string]string{"binlog_expire_logs_seconds": "0", "expire_logs_days": "3"}, 72 * time.Hour, true},
		{map[string]string{"expire_logs_days": "10"}, 240 * time.Hour, true},                                             // 5.6
		{map[string]string{"expire_logs_days": "0.500000", "binlog_expire_logs_seconds": "43200"}, 12 * time.Hour, true}, // MariaDB 10.6
		{map[string]string{"expire_logs_days": "0.500000"}, 12 * time.Hour, true},
		{map[string]string{"binlog_expire_logs_seconds": "3600", "max_binlog_total_size": "1073741824"}, 0, false}, // MariaDB 11.4
		{map[string]string{}, 0, false},
	} {
		got, known := keeps(c.vars)
		require.Equal(t, c.known, known, "%v", c.vars)
		require.Equal(t, c.want, got, "%v", c.vars)
	}
}

func TestProbeOfFilesKnowsNothing(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "binlog.000001"), newLog("9.7.4", true).b, 0o600))
	src, err := OpenFiles(t.Context(), []string{dir}, nil)
	require.NoError(t, err)
	defer src.Close()
	p, err := src.Probe(t.Context(), "")
	require.NoError(t, err)
	require.False(t, p.PurgeKnown)
	require.EqualValues(t, -1, p.Unread)
	_, known := src.ClockOffset()
	require.False(t, known)
}
