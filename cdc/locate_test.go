package cdc

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

func TestLocate(t *testing.T) {
	const u, v = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, c := range []struct {
		place, at string
		want      bool
	}{
		{"gtid:" + u + ":5", "gtid " + u + " " + u + ":1-4 binlog.000002:1507", false},
		{"gtid:" + u + ":5", "gtid " + u + " " + u + ":1-5 binlog.000002:1507", true},
		{"gtid:" + u + ":1-9", "gtid " + u + " " + u + ":1-5:7-9 binlog.000002:1507", false},
		{"gtid:" + u + ":7", "gtid " + u + " " + u + ":1-5:7-9 binlog.000002:1507", true},
		{"gtid:" + u + ":1-3," + v + ":1", "gtid " + u + " " + u + ":1-9 binlog.000002:1507", false},
		{"gtid:" + u + ":1-3," + v + ":1", "gtid " + u + " " + v + ":1," + u + ":1-9 binlog.000002:1507", true},
		{"gtid:" + u + ":tag:1", "gtid " + u + " " + u + ":1-9 binlog.000002:1507", false},
		{"gtid:0-1-9", "mariadb 1 0-2-8 binlog.000002:1507", false},
		{"gtid:0-1-9", "mariadb 1 1-1-99,0-2-10 binlog.000002:1507", true},
		{"gtid:0-1-9,1-1-1", "mariadb 1 0-2-10 binlog.000002:1507", false},
		{"file:binlog.000002:1507", "file " + u + " - binlog.000002:1506", false},
		{"file:binlog.000002:1507", "file " + u + " - binlog.000002:1507", true},
		{"file:binlog.000002:1507", "gtid " + u + " " + u + ":1 binlog.000003:4", true},
		{"file:binlog.999999:1507", "file " + u + " - binlog.1000000:4", true},
		{"file:binlog.1000000:4", "file " + u + " - binlog.999999:1507", false},
		{"file:binlog.000002:1507", "gtid " + u + " " + u + ":1 :0", false},
	} {
		reached, err := new(Source).Locate(c.place)
		require.NoError(t, err)
		got, err := reached(dfs.Position(c.at))
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%s at %s", c.place, c.at)
	}
	for place, at := range map[string]string{
		"gtid:" + u + ":5":        "file " + u + " - binlog.000002:1506",
		"gtid:0-1-9":              "gtid " + u + " " + u + ":1 binlog.000002:1506",
		"file:binlog.000002:1507": "file " + u + " - mysql-bin.000009:4",
	} {
		reached, err := new(Source).Locate(place)
		require.NoError(t, err)
		_, err = reached(dfs.Position(at))
		require.Error(t, err, place)
	}
	for _, place := range []string{"", "now", "earliest", "gtid:", "gtid:x", "file:a", "file:binlog:100", "binlog.000002:4"} {
		_, err := new(Source).Locate(place)
		require.Error(t, err, place)
	}
}
