package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/config"
	"github.com/dataflowsync/dfs/internal/match"
)

// Statements reach the target with the names that units give.
func TestTablesOfUnitsAreFollowed(t *testing.T) {
	for _, c := range []struct {
		tables []string
		others bool // whether tables without a unit are followed
	}{
		{nil, true},
		{[]string{"shop.users"}, false},
		{[]string{"shop.*", "!shop.tmp"}, false},
		{[]string{"!shop.tmp"}, true},
		{[]string{"!crm.*", "!shop.tmp"}, true},
		{[]string{"shop.users", "!*.people"}, false},
	} {
		var file config.Config
		file.Source.Tables = c.tables
		file.Units = []config.Unit{{From: "shop.users", Into: "crm.people"}, {From: "shop.*", Into: "all.{table}"}, {From: "a.b"}}
		list, err := match.ParseList(targetOptions(&file, nil).Tables)
		require.NoError(t, err)
		require.True(t, list.Follows("crm", "people"), c.tables)
		require.True(t, list.Follows("all", "orders"), c.tables)
		require.True(t, list.Follows("shop", "users"), c.tables)
		require.Equal(t, c.others, list.Follows("other", "t"), c.tables)
	}
}
