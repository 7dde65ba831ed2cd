package cdc_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A statement comes with the session that ran it: set on another connection, its
// variables are there what they were in the first.
func TestStatementsComeWithTheirSession(t *testing.T) {
	common := []string{
		"SET foreign_key_checks=0", "SET unique_checks=0", "SET sql_auto_is_null=1",
		"SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE,STRICT_ALL_TABLES,PAD_CHAR_TO_FULL_LENGTH'",
		"SET NAMES latin1 COLLATE latin1_german2_ci", "SET collation_server=utf8_bin",
		"SET time_zone='+05:30'", "SET lc_time_names='de_DE'",
		"SET auto_increment_increment=7, auto_increment_offset=3", "SET timestamp=1700000000.25",
	}
	own := map[testenv.Kind][]string{
		testenv.MySQL97: {"SET explicit_defaults_for_timestamp=0", "SET default_collation_for_utf8mb4=utf8mb4_general_ci",
			"SET sql_require_primary_key=1"},
		testenv.MySQL56: {},
		testenv.MariaDB: {"SET explicit_defaults_for_timestamp=0", "SET sql_mode=CONCAT(@@sql_mode, ',EMPTY_STRING_IS_NULL,TIME_ROUND_FRACTIONAL,IGNORE_BAD_TABLE_OPTIONS')"},
	}
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
			st, _ := begin(t, src)
			session := func(sets ...string) *sql.Conn {
				conn, err := srv.DB(t).Conn(t.Context())
				require.NoError(t, err)
				t.Cleanup(func() { conn.Close() })
				for _, s := range append([]string{"USE " + schema}, sets...) {
					_, err := conn.ExecContext(t.Context(), s)
					require.NoError(t, err, s)
				}
				return conn
			}
			value := func(c *sql.Conn, name string) (v string) {
				require.NoError(t, c.QueryRowContext(context.Background(), "SELECT @@SESSION."+name).Scan(&v), name)
				return v
			}
			for i, sets := range [][]string{nil, append(common, own[kind]...)} {
				from := session(sets...)
				// Zone and fractions are logged only where a value depends on them.
				var c dfs.Change
				name := "t" + string(rune('0'+i))
				for _, s := range []string{
					"CREATE TABLE " + name + " (id int PRIMARY KEY)", "INSERT INTO " + name + " VALUES (1)",
					"ALTER TABLE " + name + " ADD c timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), " +
						"ADD d timestamp NOT NULL DEFAULT '2020-01-02 03:04:05'",
				} {
					_, err := from.ExecContext(t.Context(), s)
					require.NoError(t, err)
					c = readN(t, src, st, 1)[0].Changes[0]
				}
				require.Equal(t, dfs.DDL, c.Op)
				require.NotNil(t, c.Session)
				require.Equal(t, schema, c.Session.Schema)
				to := session()
				seen := make(map[string]bool)
				for _, v := range c.Session.Vars {
					seen[v.Name] = true
					_, err := to.ExecContext(t.Context(), "SET SESSION "+v.Name+"="+v.Value)
					require.NoError(t, err, "%v", v)
				}
				for _, s := range sets {
					name, _, _ := strings.Cut(strings.TrimPrefix(s, "SET "), "=")
					if strings.HasPrefix(name, "NAMES") {
						name = "collation_connection"
					}
					require.True(t, seen[name], "%s is not in %v", name, c.Session.Vars)
				}
				for name := range seen {
					if name == "timestamp" && i == 0 {
						continue
					}
					require.Equal(t, value(from, name), value(to, name), name)
				}
				t.Log(c.Session.Vars)
			}
		})
	}
}

// MariaDB logs an ALTER twice if it is told to, and also if it comes to nothing.
func TestAlterInTwoPhases(t *testing.T) {
	srv := testenv.Shared(t, testenv.MariaDB)
	schema := srv.Schema(t)
	src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
	st, _ := begin(t, src)
	conn, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	for _, s := range []string{"USE " + schema, "CREATE TABLE a (id int PRIMARY KEY, b int)", "INSERT INTO a VALUES (1, 1), (2, 1)",
		"SET binlog_alter_two_phase=1", "ALTER TABLE a ADD c int", "ALTER TABLE a ADD d int, ALGORITHM=COPY"} {
		_, err := conn.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
	for _, s := range []string{"ALTER TABLE a DROP c, ADD UNIQUE (b)", "ALTER TABLE a DROP d, ADD UNIQUE (b), ALGORITHM=COPY"} {
		_, err = conn.ExecContext(t.Context(), s)
		require.ErrorContains(t, err, "Duplicate")
	}
	_, err = conn.ExecContext(t.Context(), "INSERT INTO a VALUES (3, 4, 5, 6)")
	require.NoError(t, err)
	require.Equal(t, []string{"CREATE TABLE a (id int PRIMARY KEY, b int)", "insert a 1 1; insert a 2 1",
		"ALTER TABLE a ADD c int", "ALTER TABLE a ADD d int, ALGORITHM=COPY", "insert a 3 4 5 6"}, says(readN(t, src, st, 5)))
}
