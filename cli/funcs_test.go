//go:build unix

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dpu"
	"github.com/stretchr/testify/require"
)

// testFuncs runs a program that has functions which its file names.
func (e *env) testFuncs(t *testing.T) {
	e.source.Exec(t, "CREATE DATABASE shop_funcs", "USE shop_funcs",
		"CREATE TABLE users (id int PRIMARY KEY, name varchar(20) NOT NULL, orders int NOT NULL)", "CREATE TABLE orders (id int PRIMARY KEY, city varchar(20))")
	e.target.Exec(t, "CREATE DATABASE shop_funcs", "USE shop_funcs",
		"CREATE TABLE users (id int PRIMARY KEY, name varchar(20) NOT NULL, class varchar(10))", "CREATE TABLE orders (id int PRIMARY KEY)",
		"CREATE TABLE cities (name varchar(20) PRIMARY KEY)")
	t.Setenv("SOURCE_PASSWORD", sourcePassword)
	t.Setenv("TARGET_PASSWORD", targetPassword)
	cities := &dfs.Table{Schema: "shop_funcs", Name: "cities", Columns: []dfs.Column{{Name: "name", Type: "varchar(20)"}}, Key: []int{0}}
	o := &Options{
		Units: map[string]dpu.Func{"split": func(_ context.Context, c dpu.Change, emit func(dpu.Change)) error {
			if city := c.Get("city"); c.Op == dfs.Insert && !city.IsNull() {
				into := dfs.Change{Op: dfs.Insert, Table: cities, After: dfs.Row{city}}
				emit(dpu.Change{Change: into})
			}
			emit(c.To("shop_funcs.orders", "id"))
			return nil
		}},
		Where: map[string]WhereFunc{"some": func(_ context.Context, v []dfs.Value) (bool, error) { return v[0].Int() > 0, nil }},
		Columns: map[string]ColumnFunc{"worth": func(_ context.Context, v []dfs.Value) (dfs.Value, error) {
			if v[0].Int() > 10 {
				return dfs.StringValue("gold"), nil
			}
			return dfs.StringValue("new"), nil
		}},
	}
	text := `units:
  - from: shop_funcs.users
    where: {func: some, from: orders}
    drop: orders
    columns: [{name: class, type: varchar(10), func: worth, from: orders}]
  - {from: shop_funcs.orders, func: split}`
	check := func(file string) (int, string) {
		var out bytes.Buffer
		code := command([]string{"check", "-c", file}, o.funcs(), &out, &out)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.said.Write(out.Bytes())
		return code, out.String()
	}
	code, out := check(e.config(t, "shop_funcs", [2]string{"", text + "\n  - {from: shop_funcs.orders, func: spilt}"}))
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, `units[2].func names "spilt", which is none of the program's: split`)

	file := e.config(t, "shop_funcs", [2]string{"", text})
	code, out = check(file)
	require.Zero(t, code, out)
	require.Contains(t, out, "<- a function of orders")
	require.Contains(t, out, "a function makes of these what only the rows will tell")

	here := t.TempDir()
	t.Chdir(here)
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(here, "own.yaml"), b, 0o600))
	p, err := Open(t.Context(), "own.yaml", o)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	ended := make(chan error, 1)
	go func() { ended <- p.Pipeline.Run(ctx) }()
	e.source.Exec(t, "USE shop_funcs", "INSERT INTO users VALUES (1, 'Ann', 12), (2, 'Bob', 1), (3, 'Cid', 0)", "INSERT INTO orders VALUES (1, 'Bath'), (2, NULL)")
	db := e.target.DB(t)
	waitFor(t, func() bool {
		var got string
		_ = db.QueryRow("SELECT CONCAT((SELECT GROUP_CONCAT(CONCAT(name, ' ', class) ORDER BY id) FROM shop_funcs.users), '; ', " +
			"(SELECT GROUP_CONCAT(id ORDER BY id) FROM shop_funcs.orders), '; ', (SELECT GROUP_CONCAT(name) FROM shop_funcs.cities))").Scan(&got)
		return got == "Ann gold,Bob new; 1,2; Bath"
	})
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, p.Close())
}

func TestFunctionsWithoutOneAreRefused(t *testing.T) {
	_, err := Open(t.Context(), "none.yaml", &Options{Units: map[string]dpu.Func{"a": nil}, Emits: map[string][]*dfs.Table{"b": nil}})
	require.EqualError(t, err, "cli: Options.Units[\"a\"] is nil, or has no name; leave it out\ncli: Options.Emits[\"b\"] is of no function in Units")
	require.Equal(t, exitUsage, Main([]string{"version"}, &Options{IDs: map[string]IDFunc{"": nil}}))
}
