package sink

import (
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/stretchr/testify/require"
)

// statement returns a change as cdc hands it on, run in the schema "shop".
func statement(query string, vars ...dfs.Var) dfs.Change {
	return dfs.Change{Op: dfs.DDL, Table: &dfs.Table{Schema: "shop"}, Query: query, Session: &dfs.Session{Schema: "shop", Vars: vars}}
}

// plain returns a sink with options but no server.
func plain(t *testing.T, opts *MySQLOptions) *MySQL {
	m := &MySQL{failed: make(map[*dfs.Change]bool), rules: rules{ddl: opts.DDL, ddlDone: opts.DDLDone}}
	require.Empty(t, m.options(opts))
	return m
}

func TestStatementsAreGivenTheNamesThatTheRoutesSay(t *testing.T) {
	users := []Route{{"shop.users", "crm.people"}}
	schema := []Route{{"shop.*", "copy.*"}}
	followed := []string{"shop.users", "shop.orders"}
	for _, c := range []struct {
		routes []Route
		tables []string
		query  string
		want   string
		err    string
	}{
		{nil, nil, "ALTER TABLE users ADD x int", "ALTER TABLE `shop`.`users` ADD x int", ""},
		{users, nil, "ALTER TABLE users ADD x int COMMENT 'users'", "ALTER TABLE `crm`.`people` ADD x int COMMENT 'users'", ""},
		{schema, nil, "CREATE TABLE shop . `users`(id int, FOREIGN KEY (id) REFERENCES orders (id))",
			"CREATE TABLE `copy`.`users`(id int, FOREIGN KEY (id) REFERENCES `copy`.`orders` (id))", ""},
		{users, nil, "CREATE TABLE orders LIKE users", "CREATE TABLE `shop`.`orders` LIKE `crm`.`people`", ""},
		{schema, nil, "CREATE DATABASE shop", "CREATE DATABASE `copy`", ""},
		{schema, nil, "TRUNCATE users", "TRUNCATE `copy`.`users`", ""},
		{schema, nil, "CREATE INDEX i ON users (id)", "CREATE INDEX i ON `copy`.`users` (id)", ""},
		{users, nil, "DROP DATABASE shop", "", "no schema of the target that stands for it"},
		{nil, followed, "DROP DATABASE shop", "", "not all tables of the schema shop are followed"},
		{[]Route{{"shop.*", "dfs.*"}}, nil, "DROP DATABASE shop", "", "has the checkpoint"},
		{[]Route{{"shop.users", "dfs.dfs_checkpoint"}}, nil, "TRUNCATE users", "", "the pipeline's own"},
		{[]Route{{"*.users", "all.users"}}, nil, "ALTER TABLE users ADD x int", "", "may send other tables than shop.users to all.users"},

		// Several tables, of which some are not followed.
		{users, followed, "DROP TABLE IF EXISTS secrets, users, `more`", "DROP TABLE IF EXISTS `crm`.`people`", ""},
		{users, followed, "DROP TABLE users, orders CASCADE", "DROP TABLE `crm`.`people`, `shop`.`orders` CASCADE", ""},
		{nil, followed, "RENAME TABLE a TO b, users TO old, c TO d", "RENAME TABLE `shop`.`users` TO `shop`.`old`", ""},
		{nil, followed, "RENAME TABLE users TO t, orders TO users, t TO orders",
			"RENAME TABLE `shop`.`users` TO `shop`.`t`, `shop`.`orders` TO `shop`.`users`, `shop`.`t` TO `shop`.`orders`", ""},
		{nil, followed, "RENAME TABLE users TO _users_del, _users_gho TO users", "", "_users_gho, which is not followed"},
		{nil, followed, "RENAME TABLE x TO y, y TO users", "", "shop.x, which is not followed"},
		{nil, followed, "ALTER TABLE users RENAME TO old", "ALTER TABLE `shop`.`users` RENAME TO `shop`.`old`", ""},
		{nil, followed, "ALTER TABLE x RENAME TO users", "", "shop.x, which is not followed"},
		{nil, followed, "ALTER TABLE users EXCHANGE PARTITION p WITH TABLE x", "", "shop.x, which is not followed"},
		{nil, followed, "CREATE TABLE users LIKE x", "", "shop.x, which is not followed"},
		{nil, nil, "RENAME TABLE users TO _users_del, _users_gho TO users",
			"RENAME TABLE `shop`.`users` TO `shop`.`_users_del`, `shop`.`_users_gho` TO `shop`.`users`", ""},
	} {
		m := plain(t, &MySQLOptions{DDL: PolicyApply, Routes: c.routes, Tables: c.tables})
		d := statement(c.query)
		v := m.judge(txn(1, d), &d)
		require.True(t, v.runs(), "%s: %s", c.query, v.policy)
		r, err := m.route(&d, v.stmt)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.query)
			continue
		}
		require.NoError(t, err, c.query)
		require.Equal(t, c.want, r.text)
	}
}

func TestEachKindOfStatementHasAPolicy(t *testing.T) {
	m := plain(t, &MySQLOptions{
		DDL: PolicyApply, DDLDone: []string{"gtid:9"}, Tables: []string{"*.*", "!shop.tmp*"},
		DDLRules: []DDLRule{
			{Kinds: []string{"create table"}, Tables: "shop.audit", Policy: PolicyIgnore},
			{Kinds: []string{"drop *"}, Tables: "shop.audit", Policy: PolicyError},
			{Kinds: []string{"* view", "create database"}, Policy: PolicyIgnore},
			{Kinds: []string{"create index"}, Policy: PolicyTry},
		},
	})
	for query, want := range map[string]Policy{
		"ALTER TABLE users ADD x int":          PolicyApply,
		"CREATE TABLE audit (id int)":          PolicyIgnore,
		"DROP TABLE users":                     PolicyApply,
		"DROP TABLE users, audit":              PolicyError,
		"DROP INDEX i ON audit":                PolicyError,
		"DROP DATABASE shop":                   PolicyError,
		"DROP DATABASE other":                  PolicyApply,
		"CREATE OR REPLACE VIEW v AS SELECT 1": PolicyIgnore,
		"CREATE DATABASE x":                    PolicyIgnore,
		"CREATE INDEX i ON users (id)":         PolicyTry,
		"CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW SET @a=1": PolicyIgnore,
		"GRANT SELECT ON shop.* TO x":                                   PolicyIgnore,
		"CREATE TEMPORARY TABLE users (id int)":                         PolicyIgnore,
		"DROP TABLE tmp1":                                               PolicyIgnore,
		"FROBNICATE users":                                              PolicyApply,
	} {
		d := statement(query)
		require.Equal(t, want, m.judge(txn(1, d), &d).policy, query)
		require.Equal(t, PolicyIgnore, m.judge(txn(9, d), &d).policy, query)
	}
}

func TestAStatementIsReadAsItsSessionDid(t *testing.T) {
	m := plain(t, &MySQLOptions{DDL: PolicyApply, Routes: []Route{{"shop.*", "copy.*"}}})
	d := statement(`ALTER TABLE "us""ers" COMMENT '\'`, dfs.Var{Name: "sql_mode", Value: "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'"})
	r, err := m.route(&d, m.judge(txn(1, d), &d).stmt)
	require.NoError(t, err)
	require.Equal(t, "ALTER TABLE `copy`.`us\"ers` COMMENT '\\'", r.text)
	require.Equal(t, "copy", r.schema)
}

func TestWhatBecameOfAStatementFollowsFromItsTables(t *testing.T) {
	fp := func(name, ids string) footprint {
		return footprint{Schema: "shop", Name: name, Exists: ids != "", IDs: ids, Sure: ids != "", SQL: ids}
	}
	unsure := func(name, ids string) footprint {
		f := fp(name, ids)
		f.Sure = false
		return f
	}
	list := func(f ...footprint) []footprint { return f }
	m := plain(t, &MySQLOptions{DDL: PolicyApply})
	for _, c := range []struct {
		query       string
		before, now []footprint
		want        progress
		undecided   bool
	}{
		{"ALTER TABLE a ADD x int", list(fp("a", "1")), list(fp("a", "2")), done, false},
		{"ALTER TABLE a ADD x int", list(fp("a", "1")), list(fp("a", "1")), notDone, false},
		{"CREATE TABLE a (id int)", list(fp("a", "")), list(fp("a", "1")), done, false},
		{"CREATE TABLE a (id int)", list(fp("a", "")), list(fp("a", "")), notDone, false},
		{"TRUNCATE a", list(fp("a", "1")), list(fp("a", "2")), notDone, false},
		{"DROP TABLE a, b", list(fp("a", "1"), fp("b", "2")), list(fp("a", "1"), fp("b", "2")), notDone, false},
		{"DROP TABLE a, b", list(fp("a", "1"), fp("b", "2")), list(fp("a", ""), fp("b", "2")), halfway, false},
		{"DROP TABLE a, b", list(fp("a", "1"), fp("b", "2")), list(fp("a", ""), fp("b", "")), done, false},
		{"DROP TABLE IF EXISTS a, b", list(fp("a", "1"), fp("b", "")), list(fp("a", ""), fp("b", "")), done, false},
		{"RENAME TABLE a TO b", list(fp("a", "1"), fp("b", "")), list(fp("a", ""), fp("b", "1")), done, false},
		{"RENAME TABLE a TO t, b TO a, t TO b", list(fp("a", "1"), fp("t", ""), fp("b", "2")), list(fp("a", "2"), fp("t", ""), fp("b", "1")), done, false},
		{"RENAME TABLE a TO t, b TO a, t TO b", list(fp("a", "1"), fp("t", ""), fp("b", "2")), list(fp("a", "1"), fp("t", ""), fp("b", "2")), notDone, false},
		{"RENAME TABLE a TO t, b TO a, t TO b", list(fp("a", "1"), fp("t", ""), fp("b", "2")), list(fp("a", ""), fp("t", "1"), fp("b", "2")), notDone, true},
		{"RENAME TABLE a TO t, b TO a, t TO b", list(unsure("a", "1"), fp("t", ""), unsure("b", "1")), list(unsure("a", "1"), fp("t", ""), unsure("b", "1")), notDone, true},
		{"ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", list(fp("a", "1"), fp("b", "2")), list(fp("a", "2"), fp("b", "1")), done, false},
		{"ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", list(fp("a", "1"), fp("b", "2")), list(fp("a", "1"), fp("b", "2")), notDone, false},
		{"ALTER TABLE a EXCHANGE PARTITION p WITH TABLE b", list(unsure("a", "1"), unsure("b", "2")), list(unsure("a", "1"), unsure("b", "2")), notDone, true},
	} {
		d := statement(c.query)
		r, err := m.route(&d, m.judge(txn(1, d), &d).stmt)
		require.NoError(t, err)
		got, err := r.settle(c.before, c.now)
		if c.undecided {
			require.ErrorIs(t, err, errUndecided, c.query)
			continue
		}
		require.NoError(t, err, c.query)
		require.Equal(t, c.want, got, "%s: %v -> %v", c.query, c.before, c.now)
	}
}

func TestColumnsThatSwapTheirNamesAreSeen(t *testing.T) {
	for text, want := range map[string]bool{
		"ALTER TABLE a CHANGE x y int, CHANGE y x int":                    true,
		"ALTER TABLE a CHANGE COLUMN `x y` `z` int,CHANGE `z`  `x y` int": true,
		"ALTER TABLE a RENAME COLUMN x TO y, RENAME COLUMN y TO x":        true,
		"ALTER TABLE a CHANGE x x bigint, CHANGE y y bigint":              false,
		"ALTER TABLE a CHANGE x z bigint, ADD y int":                      false,
		"ALTER TABLE a ADD exchange int, ADD INDEX change_x (x)":          false,
	} {
		require.Equal(t, want, swapsColumns(text), text)
	}
}
