package match_test

import (
	"testing"

	"github.com/dataflowsync/dfs/internal/match"
	"github.com/stretchr/testify/require"
)

func TestCapture(t *testing.T) {
	for _, c := range []struct {
		pattern, schema, table string
		want                   []string
		ok                     bool
	}{
		{"shop_*.orders", "shop_eu", "orders", []string{"eu"}, true},
		{"Shop_*.Orders", "shop_EU", "orders", []string{"EU"}, true},
		{"*.*", "a", "b", []string{"a", "b"}, true},
		{"*_*.t?", "a_b_c", "tö", []string{"a", "b_c", "ö"}, true},
		{"a*b.t", "ab", "t", []string{""}, true},
		{"a.b", "a", "b", nil, true},
		{"a?.b", "a", "b", nil, false},
		{"a.b", "abc", "b", nil, false},
		{"shop_*.orders", "shop", "orders", nil, false},
	} {
		p, err := match.Parse(c.pattern)
		require.NoError(t, err)
		got, ok := p.Capture(c.schema, c.table)
		require.Equal(t, c.ok, ok, c)
		require.Equal(t, c.want, got, c)
		require.Equal(t, c.ok, p.Match(c.schema, c.table), c)
		if ok {
			require.Len(t, got, p.Wildcards(), c)
		}
	}
}
