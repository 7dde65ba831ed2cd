package match

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAListFollowsWhatOnePatternMatchesAndNoneLeavesOut(t *testing.T) {
	l, err := ParseList([]string{"!shop._*", "shop.*", "mail.users"})
	require.NoError(t, err)
	for table, want := range map[[2]string]bool{
		{"shop", "users"}: true, {"SHOP", "Users"}: true, {"shop", "_users_gho"}: false,
		{"mail", "users"}: true, {"mail", "boxes"}: false, {"mysql", "user"}: false,
	} {
		require.Equal(t, want, l.Follows(table[0], table[1]), "%v", table)
	}
	require.False(t, l.FollowsAll("shop"), "some of its tables are left out")
	require.False(t, l.FollowsAll("mail"))

	var all List
	require.True(t, all.Follows("a", "b"))
	require.True(t, all.FollowsAll("a"))
	require.False(t, all.Follows("mysql", "user"))
	require.False(t, all.FollowsAll("sys"))

	wide, err := ParseList([]string{"s*.*", "mysql.*"})
	require.NoError(t, err)
	require.True(t, wide.FollowsAll("shop"))
	require.False(t, wide.Follows("sys", "x"), "a wildcard does not take a schema of the server's own")
	require.True(t, wide.Follows("mysql", "user"), "a name does")

	_, err = ParseList([]string{"shop", "!x"})
	require.ErrorContains(t, err, `"shop" names no table`)
	require.ErrorContains(t, err, `"x" names no table`)
}
