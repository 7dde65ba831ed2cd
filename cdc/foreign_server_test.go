package cdc_test

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// An account that may do no more than a replica and a reader sees all of them.
func TestForeignKeysAreSeenByAReader(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			user := "fk_" + schema[:3]
			srv.Exec(t, "USE "+schema, "CREATE TABLE `p q` (id int, `x y` int, PRIMARY KEY (id, `x y`))",
				"CREATE TABLE c (id int PRIMARY KEY, a int, b int, up int, CONSTRAINT one FOREIGN KEY (a, b) REFERENCES `p q` (id, `x y`) ON DELETE SET NULL ON UPDATE CASCADE, "+
					"CONSTRAINT two FOREIGN KEY (up) REFERENCES c (id))",
				"CREATE TABLE d (id int PRIMARY KEY) COMMENT 'CONSTRAINT three FOREIGN KEY (id) REFERENCES c (id)'",
				"CREATE USER "+user+"@'%' IDENTIFIED BY 'x'", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO "+user+"@'%'", "GRANT SELECT ON "+schema+".* TO "+user+"@'%'")
			t.Cleanup(func() { srv.Exec(t, "DROP USER "+user+"@'%'") })
			src, err := cdc.Open(t.Context(), fmt.Sprintf("%s:x@tcp(%s)/", user, srv.Addr()), &cdc.Options{Tables: []string{schema + ".c", schema + ".d"}})
			require.NoError(t, err)
			defer src.Close()
			keys, err := src.ForeignKeys(t.Context())
			require.NoError(t, err)
			require.Len(t, keys, 2)
			require.Equal(t, cdc.ForeignKey{Name: "one", Schema: schema, Table: "c", Columns: []string{"a", "b"},
				ParentSchema: schema, Parent: "p q", ParentColumns: []string{"id", "x y"}, OnDelete: "SET NULL", OnUpdate: "CASCADE"}, keys[0])
			require.Equal(t, []any{"two", "c", []string{"up"}, []string{"id"}, true}, []any{keys[1].Name, keys[1].Parent, keys[1].Columns, keys[1].ParentColumns, keys[1].ParentFollowed})
			reaches, err := cdc.Reaches(t.Context(), src, [2]string{schema, "c"}, [2]string{schema, "p q"})
			require.NoError(t, err)
			require.True(t, reaches, "a copy knows it too")
			silent, err := src.SilentForeignKeys(t.Context())
			require.NoError(t, err)
			if kind == testenv.MySQL97 {
				require.Empty(t, silent, "the log tells what they do")
			} else {
				require.Equal(t, keys[:1], silent)
			}
		})
	}
}

// MariaDB does not write a backtick twice that is part of a name in a foreign key.
func TestForeignKeysOfOddNamesAreRead(t *testing.T) {
	for _, kind := range []testenv.Kind{testenv.MariaDB, testenv.MySQL97} {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			srv.Exec(t, "USE "+schema, "CREATE TABLE `p``q` (`i``d` int, `x y` int, PRIMARY KEY (`i``d`, `x y`))",
				"CREATE TABLE c (id int PRIMARY KEY, `a``b` int, b int, CONSTRAINT `o``ne` FOREIGN KEY (`a``b`, b) REFERENCES `p``q` (`i``d`, `x y`) ON DELETE SET NULL ON UPDATE NO ACTION)")
			src, err := cdc.Open(t.Context(), srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
			require.NoError(t, err)
			defer src.Close()
			keys, err := src.ForeignKeys(t.Context())
			require.NoError(t, err)
			require.Equal(t, []cdc.ForeignKey{{Name: "o`ne", Schema: schema, Table: "c", Columns: []string{"a`b", "b"}, ParentSchema: schema, Parent: "p`q",
				ParentColumns: []string{"i`d", "x y"}, OnDelete: "SET NULL", OnUpdate: "NO ACTION", ParentFollowed: true}}, keys)
		})
	}
}
