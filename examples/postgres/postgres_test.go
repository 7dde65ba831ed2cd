//go:build unix

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAShopArrivesOnPostgreSQLAsItWas(t *testing.T) {
	var out strings.Builder
	require.NoError(t, try(t.Context(), &out), out.String())
	require.Contains(t, out.String(), "shop.users: 3 rows on MySQL, 3 on PostgreSQL: equal")
	require.Regexp(t, `shop.orders: (\d+) rows on MySQL, \d+ on PostgreSQL: equal`, out.String())
}
