package config

import (
	"context"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

type noRows struct{ dpu.Lookup }

func ownFuncs() *Funcs {
	type row struct {
		ID int64 `db:"id"`
	}
	return &Funcs{
		Units:   map[string]dpu.Func{"split": func(context.Context, dpu.Change, func(dpu.Change)) error { return nil }},
		Emits:   map[string][]*dfs.Table{"split": {{Schema: "crm", Name: "orders"}}},
		Rows:    map[string]*dpu.RowFunc{"made": dpu.MapRows(func(context.Context, *row, func(row)) error { return nil })},
		Where:   map[string]func(context.Context, []dfs.Value) (bool, error){"big": func(context.Context, []dfs.Value) (bool, error) { return true, nil }},
		Columns: map[string]func(context.Context, []dfs.Value) (dfs.Value, error){"worth": func(context.Context, []dfs.Value) (dfs.Value, error) { return dfs.NullValue(), nil }},
		Lookups: map[string]dpu.Lookup{"geo": noRows{}},
		IDs:     map[string]func(context.Context, relmgr.Key) (dfs.Value, error){"hash": func(_ context.Context, k relmgr.Key) (dfs.Value, error) { return k.Values[0], nil }},
	}
}

func TestFunctionsOfTheProgramAreNamed(t *testing.T) {
	text := minimal + `relmgr:
  path: ids
  policies: [{table: shop.users, ids: function, func: hash}, {table: shop.shops, func: hash}]
units:
  - from: shop.users
    where: {func: big, from: total}
    columns: [{name: class, type: varchar(10), func: worth, from: [orders, total]}]
    lookups: [{func: geo, on: city, required: true}]
    func: split
  - {from: shop.orders, rows: made}
  - {from: shop.rest, where: id > 1}
`
	c, err := ParseWith("/etc/dfs/dfs.yaml", []byte(text), func(string) (string, bool) { return "", false }, ownFuncs())
	require.NoError(t, err)
	list := c.DPU()
	require.NotNil(t, list[0].Func)
	require.Len(t, list[0].Emits, 1)
	require.NotNil(t, list[0].Where.Func)
	require.Equal(t, []string{"total"}, list[0].Where.From)
	require.NotNil(t, list[0].Columns[0].Func)
	require.Equal(t, []string{"orders", "total"}, list[0].Columns[0].From)
	require.NotNil(t, c.Lookup(&c.Units[0].Lookups[0]))
	require.NotNil(t, list[1].Rows)
	require.Equal(t, "id > 1", list[2].Where.Expr)
	require.NotNil(t, c.IDs().Policies[0].Func)
	require.NotNil(t, c.IDs().Policies[1].Func)
}

func TestFunctionsThatTheProgramHasNotAreFaults(t *testing.T) {
	text := minimal + `relmgr:
  path: ids
  policies: [{table: shop.users, func: hsah}]
units:
  - from: shop.users
    where: {func: worth, from: total}
    func: splits
  - from: shop.orders
    where: {from: [a]}
    columns:
      - {name: x, from: [a], expr: a}
      - {name: y, type: int, func: worht}
    lookups:
      - {func: geo, in: source, on: a}
      - {func: city, on: a}
      - {func: geo}
    rows: no
`
	_, err := ParseWith("/etc/dfs/dfs.yaml", []byte(text), func(string) (string, bool) { return "", false }, ownFuncs())
	require.EqualError(t, err, `/etc/dfs/dfs.yaml:7: relmgr.policies[0].func names "hsah", which is none of the program's: hash
/etc/dfs/dfs.yaml:10: units[0].where.func names "worth", which is none of the program's: big
/etc/dfs/dfs.yaml:11: units[0].func names "splits", which is none of the program's: split; did you mean split?
/etc/dfs/dfs.yaml:13: units[1].where.from lists what a function is given, and func, which names one of the program's, is missing
/etc/dfs/dfs.yaml:15: units[1].columns[0].from lists what a function is given, and func, which names one of the program's, is missing
/etc/dfs/dfs.yaml:16: units[1].columns[1].func names "worht", which is none of the program's: worth
/etc/dfs/dfs.yaml:18: units[1].lookups[0].func finds rows by itself; leave out in, table, file, key, find and types
/etc/dfs/dfs.yaml:19: units[1].lookups[1].func names "city", which is none of the program's: geo
/etc/dfs/dfs.yaml:20: units[1].lookups[2].on is missing; list the columns of the unit's rows that make up the key
/etc/dfs/dfs.yaml:21: units[1].rows names "no", which is none of the program's: made`)

	_, err = parse(minimal + "units:\n  - {from: a.b, func: split}\nrelmgr: {path: x, policies: [{table: a.b, ids: function}]}\n")
	require.EqualError(t, err, `/etc/dfs/dfs.yaml:6: units[0].func names "split", and this program has no functions to be named there: one that has them calls cli.Main with them in its Options
/etc/dfs/dfs.yaml:7: relmgr.policies[0].ids is function, and func, which names one of the program's, is missing; or want allocate, keep or uuid`)
}
