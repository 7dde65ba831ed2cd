package match_test

import (
	"testing"

	"github.com/dataflowsync/dfs/internal/match"
	"github.com/stretchr/testify/require"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "", 3}, {"orders", "order", 1}, {"tabels", "tables", 2}, {"ab", "xaby", 2}} {
		require.Equal(t, c.want, match.Distance(c.a, c.b), "%q %q", c.a, c.b)
		require.Equal(t, c.want, match.Distance(c.b, c.a), "%q %q", c.b, c.a)
	}
}
