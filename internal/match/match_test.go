package match

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		glob, s string
		want    bool
	}{
		{"*", "", true}, {"a*c", "abbc", true}, {"a*c", "abbd", false}, {"a?c", "aéc", true}, {"a?c", "ac", false},
		{"Shop", "shop", true}, {"*_tmp*x", "a_tmp_b_x", true}, {"a_c", "abc", false}, {"", "a", false},
		{"a*b*c", "a-b-b-c", true}, {"a*bc*c", "abc", false}, {"x+y", "x+y", true}, {"x+y", "xxy", false},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 200), false},
	} {
		require.Equal(t, c.want, Glob(c.glob, c.s), "%s %s", c.glob, c.s)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Pattern{
		"shop.orders": {"shop", "orders"}, " shop?.* ": {"shop?", "*"}, "a.b.c": {"a", "b.c"},
	} {
		p, err := Parse(text)
		require.NoError(t, err)
		require.Equal(t, want, p)
	}
	for _, text := range []string{"", "shop", "shop.", ".orders", " . "} {
		_, err := Parse(text)
		require.ErrorContains(t, err, fmt.Sprintf("%q names no table", text))
	}
	_, err := Parse("!shop.*")
	require.ErrorContains(t, err, `"!shop.*" leaves tables out`)

	p, out, err := ParseFollowed(" !shop.tmp_*")
	require.NoError(t, err)
	require.True(t, out)
	require.Equal(t, Pattern{"shop", "tmp_*"}, p)
	_, _, err = ParseFollowed("!shop")
	require.ErrorContains(t, err, `"shop" names no table`)
	require.True(t, Wild("a?"))
	require.False(t, Wild("a_b"))
}

func TestFirstRouteThatMatchesCounts(t *testing.T) {
	var routes []Route
	for _, r := range [][2]string{{"shop.users", "crm.people"}, {"shop_?.ord*s", "all.*"}, {"shop.*", "crm.*"}, {"*.log", "*.journal"}} {
		parsed, err := ParseRoute(r[0], r[1])
		require.NoError(t, err)
		routes = append(routes, parsed)
	}
	for from, want := range map[string]string{
		"shop.users": "crm.people", "Shop.USERS": "crm.people", "shop.items": "crm.items", "shop.a.b": "crm.a.b",
		"shop_7.orders": "all.orders", "shop_77.orders": "shop_77.orders", "shop_7.order": "shop_7.order",
		"other.log": "other.journal", "shop.log": "crm.log", "a.b": "a.b",
	} {
		schema, table, _ := strings.Cut(from, ".")
		schema, table = Target(routes, schema, table)
		require.Equal(t, want, schema+"."+table, from)
	}
	_, err := ParseRoute("shop", "crm.a*")
	require.ErrorContains(t, err, `route from: "shop" names no table`)
	require.ErrorContains(t, err, `route to: "crm.a*": a * must stand alone`)
	_, err = ParseTo("crm.a?")
	require.ErrorContains(t, err, "stands for nothing")
}

func TestWhereAWholeSchemaGoes(t *testing.T) {
	routes := func(list ...string) (out []Route) {
		for i := 0; i < len(list); i += 2 {
			r, err := ParseRoute(list[i], list[i+1])
			require.NoError(t, err)
			out = append(out, r)
		}
		return out
	}
	for _, c := range []struct {
		routes []Route
		want   string
	}{
		{nil, "shop"},
		{routes("shop.*", "copy.*"), "copy"},
		{routes("other.*", "copy.*"), "shop"},
		{routes("shop.users", "crm.people", "shop.*", "copy.*"), ""}, // one of its tables goes elsewhere
		{routes("shop.*", "copy.*", "old.*", "copy.*"), ""},          // another schema goes there too
		{routes("old.*", "shop.*"), ""},
		{routes("s*.*", "copy.*"), ""}, // as others may
		{routes("shop.*", "copy.all"), ""},
		{routes("*.*", "*.*"), "shop"},
	} {
		got, ok := TargetSchema(c.routes, "shop")
		require.Equal(t, c.want, got, "%v", c.routes)
		require.Equal(t, c.want != "", ok)
	}

	for _, c := range []struct {
		routes []Route
		want   bool
	}{
		{nil, false},
		{routes("shop.*", "copy.*"), false},
		{routes("shop.users", "crm.people"), false},
		{routes("shop*.users", "all.users"), true},
		{routes("shop.users*", "shop.users"), true},
		{routes("shop.users", "crm.people", "old.users", "crm.people"), true},
		{routes("shop.users", "crm.people", "old.*", "crm.*"), true}, // of old.people
		{routes("shop.users", "crm.people", "old.*", "new.*"), false},
	} {
		require.Equal(t, c.want, Merges(c.routes, "shop", "users"), "%v", c.routes)
	}
}
