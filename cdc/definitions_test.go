package cdc_test

import (
	"testing"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestDefinitionsAreThoseOfFollowedTables(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".`a.b` (id int NOT NULL PRIMARY KEY AUTO_INCREMENT, name varchar(9) DEFAULT 'ü', KEY (name)) AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4",
				"CREATE TABLE "+s+".other (id int)", "CREATE VIEW "+s+".v AS SELECT 1 AS x")
			src, err := cdc.Open(t.Context(), srv.DSN(""), &cdc.Options{Tables: []string{s + ".*", "!" + s + ".other"}})
			require.NoError(t, err)
			defer src.Close()
			for range 2 {
				defs, err := src.Definitions(t.Context())
				require.NoError(t, err)
				require.Len(t, defs, 1)
				d := defs[0]
				require.Equal(t, s+".a.b", d.Table.String())
				require.Equal(t, []int{0}, d.Table.Key)
				require.Equal(t, kind == testenv.MariaDB, d.MariaDB)
				require.NotZero(t, d.Bytes)
				require.Contains(t, d.SQL, "CREATE TABLE `a.b` (\n  `id` int")
				require.Contains(t, d.SQL, "DEFAULT 'ü',")
				require.Contains(t, d.SQL, "AUTO_INCREMENT=7")
				require.Contains(t, d.SQL, "KEY `name` (`name`)")
			}
		})
	}
}

func TestFilesHaveNoDefinitions(t *testing.T) {
	var src cdc.Source
	_, err := src.Definitions(t.Context())
	require.ErrorContains(t, err, "create the target's tables by hand")
}
