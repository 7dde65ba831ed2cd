package relmgr_test

import (
	"path/filepath"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/dfstest"
	"github.com/dataflowsync/dfs/relmgr"
	"github.com/stretchr/testify/require"
)

// Foreign keys are those of the time of the start, and options may be edited. What
// would give rows other ids than those have that the target holds is refused.
func TestColumnsGoOnAtTheNextStartAsTheyDid(t *testing.T) {
	users, lines := dfstest.Table(t, "s.users (id int, key id)"), dfstest.Table(t, "s.lines (user int, no int, kind varchar(9), doc json null, key (user, no))")
	user, no := key("s.lines.user s.users.id"), key("s.lines.no s.users.id")
	poly := func(kinds ...string) relmgr.Reference {
		r := relmgr.Reference{Table: "s.lines", Columns: []string{"no"}, TypeColumn: "kind", Parents: map[string]string{}}
		for _, k := range kinds {
			r.Parents[k] = map[string]string{"u": "s.users", "v": "s.users"}[k]
		}
		return r
	}
	doc := relmgr.Reference{Table: "s.lines", Columns: []string{"doc"}, Path: "$.u", Parent: "s.users"}
	keep := []relmgr.Policy{{Table: "s.users", IDs: relmgr.Keep}}
	for name, c := range map[string]struct {
		first, second relmgr.Options
		want          string
	}{
		"the same": {relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user}}, relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user}}, ""},
		"a key as a reference": {relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user}},
			relmgr.Options{References: []relmgr.Reference{{Table: "s.lines", Columns: []string{"user"}, Parent: "s.users"}}}, ""},
		"a new key": {relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user}}, relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user, no}},
			"table s.lines, column no: the target has rows with its old values, and now it would get new ids (s.users.id)"},
		"a key that is gone": {relmgr.Options{ForeignKeys: []relmgr.ForeignKey{user}}, relmgr.Options{},
			"table s.lines, column user: the target has rows with new ids (s.users.id), and now it would get its old values"},
		"another policy": {relmgr.Options{}, relmgr.Options{Policies: keep}, "table s.users, column id: the target has rows with new ids (s.users.id)"},
		"a path":         {relmgr.Options{}, relmgr.Options{References: []relmgr.Reference{doc}}, `it would get new ids ($."u" s.users.id)`},
		"one more type":  {relmgr.Options{References: []relmgr.Reference{poly("u")}}, relmgr.Options{References: []relmgr.Reference{poly("u", "v", "w")}}, ""},
		"a type":         {relmgr.Options{}, relmgr.Options{References: []relmgr.Reference{poly("u")}}, "it would get new ids (by kind)"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "map")
			row := dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, users, 1), dfstest.Insert(t, lines, 1, 1, "u", nil)}}
			start := func(o relmgr.Options, tables ...*dfs.Table) error {
				o.Tables = tables
				m, err := relmgr.Open(path, &o)
				if err != nil {
					return err
				}
				defer m.Close()
				_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, row)
				return err
			}
			require.NoError(t, start(c.first, users, lines))
			if c.want == "" {
				require.NoError(t, start(c.second, users, lines))
				return
			}
			require.ErrorContains(t, start(c.second, users, lines), c.want)
			if len(c.second.Policies)+len(c.second.References) == 0 {
				require.ErrorContains(t, start(c.second, users), c.want, "the table is learned from its rows")
			}
			c.second.Adopt = true
			require.NoError(t, start(c.second, users, lines))
			c.second.Adopt = false
			require.NoError(t, start(c.second, users, lines))
		})
	}
}

// A statement that was refused is not let through by the restart that follows.
func TestAForeignKeyThatWasRefusedIsRefusedAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	s, err := dfstest.Parse("table s.users (id int, key id)\ntable s.orders (id int, buyer int, key id)\ninsert s.orders 1, 7\ncommit\n")
	require.NoError(t, err)
	alter := dfs.Transaction{Changes: []dfs.Change{{Op: dfs.DDL, Query: "ALTER TABLE orders ADD FOREIGN KEY (buyer) REFERENCES users (id)", Session: &dfs.Session{Schema: "s"}}}}
	m, err := relmgr.Open(path, &relmgr.Options{Tables: s.Tables})
	require.NoError(t, err)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, append(s.Transactions, alter)...)
	require.ErrorContains(t, err, "rows of it have been handed on with the old ids")
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, s.Transactions...)
	require.NoError(t, err)
	require.NoError(t, m.Close())
	_, err = relmgr.Open(path, &relmgr.Options{Tables: s.Tables, ForeignKeys: []relmgr.ForeignKey{key("s.orders.buyer s.users.id")}})
	require.ErrorContains(t, err, "table s.orders, column buyer: the target has rows with its old values")
}

func TestATableThatIsDroppedMayComeBackInAnotherWay(t *testing.T) {
	m, s := open(t, nil, "table s.users (id int, key id)\ntable s.o (id int, buyer int, key id)\ninsert s.o 1, 7\ncommit\n")
	ddl := func(query string) dfs.Transaction {
		return dfs.Transaction{Changes: []dfs.Change{{Op: dfs.DDL, Query: query, Session: &dfs.Session{Schema: "s"}}}}
	}
	again := "CREATE TABLE o (id int PRIMARY KEY, buyer int, FOREIGN KEY (buyer) REFERENCES users (id))"
	first := s.Transactions[0]
	_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, first, ddl("DROP TABLE o"), ddl(again), first)
	require.NoError(t, err)
}

// A table without ids of its own has references, which go by its name.
func TestATableWithReferencesKeepsItsName(t *testing.T) {
	script := "table s.orders (id int, key id)\ntable s.lines (order_id int, no int, key (order_id, no))\ntable s._lines_gho (order_id int, no int, key (order_id, no))\n" +
		"insert s.lines 1, 1\ninsert s._lines_gho 1, 1\ncommit\n"
	lines := relmgr.Reference{Table: "s.lines", Columns: []string{"order_id"}, Parent: "s.orders"}
	ghost := lines
	ghost.Table = "s._lines_gho"
	for _, c := range []struct {
		query string
		refs  []relmgr.Reference
		want  string
	}{
		{"RENAME TABLE lines TO items", []relmgr.Reference{lines}, "the target has rows of s.lines with order_id as new ids (s.orders.id), and those of s.items would get its old values"},
		{"RENAME TABLE lines TO items", nil, ""},
		{"RENAME TABLE lines TO _lines_del, _lines_gho TO lines", []relmgr.Reference{lines}, "the target has rows of s._lines_gho with order_id as its old values"},
		{"RENAME TABLE lines TO _lines_del, _lines_gho TO lines", []relmgr.Reference{lines, ghost}, ""},
	} {
		m, s := open(t, &relmgr.Options{References: c.refs}, script)
		ddl := dfs.Transaction{ID: "u:2", Changes: []dfs.Change{{Op: dfs.DDL, Query: c.query, Session: &dfs.Session{Schema: "s"}}}}
		_, err := dfstest.Run(t.Context(), []dfs.Stage{m}, append(s.Transactions, ddl)...)
		if c.want == "" {
			require.NoError(t, err, c.query)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
}

// Names are compared without case, so two tables that differ by nothing else would
// have each other's references.
func TestTablesWhoseNamesDifferByCaseAreRefused(t *testing.T) {
	users, other := dfstest.Table(t, "s.users (id int, key id)"), dfstest.Table(t, "s.Users (id int, x int, key id)")
	_, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{users, other}})
	require.ErrorContains(t, err, "is that of s.Users but for the case of letters")
	m, err := relmgr.Open("", &relmgr.Options{Tables: []*dfs.Table{users}})
	require.NoError(t, err)
	defer m.Close()
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, other, 1, 2)}})
	require.ErrorContains(t, err, "table s.Users: its name is that of s.users but for the case of letters")
}

// The column of the ids may get another name: what the error of the statement asks
// for is enough to go on with the ids that were given.
func TestAKeyThatGetsAnotherNameKeepsItsIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	before, after := dfstest.Table(t, "s.users (id int, key id)"), dfstest.Table(t, "s.users (nr int, key nr)")
	orders := dfstest.Table(t, "s.orders (buyer int, no int, key (buyer, no))")
	alter := dfs.Transaction{ID: "u:2", Changes: []dfs.Change{{Op: dfs.DDL, Query: "ALTER TABLE users RENAME COLUMN id TO nr", Session: &dfs.Session{Schema: "s"}}}}
	m, err := relmgr.Open(path, &relmgr.Options{Tables: []*dfs.Table{before, orders}, ForeignKeys: []relmgr.ForeignKey{key("s.orders.buyer s.users.id")}})
	require.NoError(t, err)
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, before, 7), dfstest.Insert(t, before, 9)}}, alter)
	require.ErrorContains(t, err, "name the transaction in DDLDone")
	_, err = dfstest.Run(t.Context(), []dfs.Stage{m}, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, before, 7), dfstest.Insert(t, before, 9)}})
	require.NoError(t, err)
	require.NoError(t, m.Close())

	for range 2 {
		m, err = relmgr.Open(path, &relmgr.Options{Tables: []*dfs.Table{after, orders}, ForeignKeys: []relmgr.ForeignKey{key("s.orders.buyer s.users.nr")},
			DDLDone: []string{"u:2"}, Policies: []relmgr.Policy{{Table: "s.users", First: 100}}})
		require.NoError(t, err)
		out, err := dfstest.Run(t.Context(), []dfs.Stage{m}, alter, dfs.Transaction{Changes: []dfs.Change{dfstest.Insert(t, orders, 9, 1), dfstest.Insert(t, after, 9)}})
		require.NoError(t, err)
		require.Equal(t, "insert s.orders buyer=2, no=1\ninsert s.users nr=2\ncommit\n", dfstest.Format(out[1]))
		require.NoError(t, m.Close())
	}
}
