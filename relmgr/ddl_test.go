package relmgr_test

import (
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

// What comes later: tables, columns, and the foreign keys of statements, also after
// a restart.
func TestTheStreamTeachesTablesAndForeignKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	users := dfstest.Table(t, "s.users (id int, key id)")
	orders := dfstest.Table(t, "s.orders (id int, buyer int, key id)")
	wider := dfstest.Table(t, "s.orders (id int, buyer int, seller int null, key id)")
	ddl := func(table *dfs.Table, query string) dfs.Change {
		return dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: "s", Name: table.Name}, Query: query, Session: &dfs.Session{Schema: "s"}}
	}
	txs := []dfs.Transaction{
		{Changes: []dfs.Change{ddl(orders, "CREATE TABLE orders (id int primary key, buyer int, constraint x foreign key (buyer) references users (id))")}},
		{Changes: []dfs.Change{dfstest.Insert(t, orders, 7, 70)}},
		{Changes: []dfs.Change{ddl(orders, "ALTER TABLE orders ADD COLUMN seller int")}},
		{Changes: []dfs.Change{dfstest.Insert(t, wider, 8, 70, 71)}},
		{Changes: []dfs.Change{dfstest.Insert(t, users, 71), dfstest.Insert(t, users, 70)}},
	}
	want := `ddl s.orders CREATE TABLE orders (id int primary key, buyer int, constraint x foreign key (buyer) references users (id))
commit
insert s.orders id=1, buyer=1
commit
ddl s.orders ALTER TABLE orders ADD COLUMN seller int
commit
insert s.orders id=2, buyer=1, seller=71
commit
insert s.users id=2
insert s.users id=1
commit
`
	for range 2 {
		m, err := relmgr.Open(path, &relmgr.Options{Tables: []*dfs.Table{users}})
		require.NoError(t, err)
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, txs...)
		require.NoError(t, err)
		require.Equal(t, want, dfstest.Format(out...))
		// A foreign key over rows that went on with old ids comes too late.
		late := dfs.Transaction{ID: "u:9", Changes: []dfs.Change{ddl(orders, "ALTER TABLE orders ADD FOREIGN KEY (seller) REFERENCES users (id)")}}
		_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, late)
		require.ErrorContains(t, err, "it makes s.orders.seller refer to s.users, and rows of it have been handed on with the old ids there")
		require.ErrorContains(t, err, `"u:9", in DDLDone`)
		require.NoError(t, m.Close())
	}
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{users}, Unknown: relmgr.UnknownError})
	require.NoError(t, err)
	defer m.Close()
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, txs[1])
	require.ErrorContains(t, err, "the table is not one of Options.Tables")
}

func TestNamesThatChangeUnderIDsAreRefused(t *testing.T) {
	script := shop + "insert s.users 1, \"a\", NULL\ncommit\n"
	try := func(opts *relmgr.Options, query string) error {
		m, s := open(t, opts, script)
		ddl := dfs.Transaction{ID: "u:2", Changes: []dfs.Change{{Op: dfs.DDL, Query: query, Session: &dfs.Session{Schema: "s"}}}}
		_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, append(s.Transactions, ddl)...)
		return err
	}
	opts := &relmgr.Options{ForeignKeys: shopKeys}
	for _, c := range []struct{ query, want string }{
		{"RENAME TABLE users TO people", `s.users has ids, and as s.people its rows would get other ids: add Reference{Table: "s.people"`},
		{"ALTER TABLE s.users RENAME people", "as s.people its rows would get other ids"},
		{"ALTER TABLE orders CHANGE user_id uid bigint", "it may rename the column user_id of s.orders, which is part of foreign key"},
		{"ALTER TABLE users RENAME COLUMN id TO nr", "it may rename the column id of s.users, which is the column of its ids"},
		{"ALTER TABLE users CHANGE name name varchar(50)", ""},
		{"ALTER TABLE users ADD COLUMN x int, RENAME INDEX a TO b", ""},
		{"DROP TABLE lines", ""},
		{"RENAME TABLE s.users TO s._users_del, s._users_gho TO s.users", ""}, // as gh-ost does
	} {
		err := try(opts, c.query)
		if c.want == "" {
			require.NoError(t, err, c.query)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
	done := *opts
	done.DDLDone = []string{"u:2"}
	require.NoError(t, try(&done, "RENAME TABLE users TO people"))
}

// A copy that takes a table's place has its ids, if a reference says so.
func TestACopyThatTakesTheTablesPlaceHasItsIDs(t *testing.T) {
	opts := &relmgr.Options{References: []relmgr.Reference{{Table: "s._t_gho", Columns: []string{"id"}, Parent: "s.t"}}}
	require.Equal(t, `insert s.t id=1
insert s._t_gho id=1, x=0
commit
`, run(t, opts, "table s.t (id int, key id)\ntable s._t_gho (id int, x int, key id)\ninsert s.t 9\ninsert s._t_gho 9, 0\ncommit\n"))
}
