package cdc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestKeysOfTables(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".people (id int PRIMARY KEY, mail varchar(40), first varchar(40), last varchar(40), "+
				"UNIQUE KEY m (mail), UNIQUE KEY n (last, first(5)), KEY plain (first)) ENGINE=InnoDB",
				"CREATE TABLE "+schema+".orders (id int PRIMARY KEY, by_id int, FOREIGN KEY f (by_id) REFERENCES "+schema+".people (id)) ENGINE=InnoDB",
				"CREATE TABLE "+schema+".hidden (id int PRIMARY KEY, x int UNIQUE)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*", "!" + schema + ".hidden"}})
			got, err := src.Keys(t.Context())
			require.NoError(t, err)
			require.ElementsMatch(t, []dfs.TableKeys{
				{Schema: schema, Name: "people", Unique: []dfs.UniqueKey{{Columns: []string{"mail"}}, {Columns: []string{"last", "first"}, Vague: true}}},
				{Schema: schema, Name: "orders", References: []dfs.KeyReference{
					{Columns: []string{"by_id"}, ParentSchema: schema, Parent: "people", ParentColumns: []string{"id"}}}},
			}, got)
		})
	}
}
