package cdc

import (
	"testing"

	"github.com/dataflowsync/dfs/internal/ddl"
	"github.com/stretchr/testify/require"
)

// Log files tell of foreign keys only what a dump of the definitions does.
func TestForeignKeysOfFilesAreThoseOfTheDump(t *testing.T) {
	f, faults := newFilter([]string{"shop.*", "!shop.tmp_*"})
	require.Empty(t, faults)
	keys := f.writtenForeignKeys("-- a dump\nUSE `shop`;\nDROP TABLE IF EXISTS `orders`;\nCREATE TABLE `orders` (\n `id` int NOT NULL,\n `user` int,\n PRIMARY KEY (`id`),\n"+
		" CONSTRAINT `u` FOREIGN KEY (`user`) REFERENCES `users` (`id`) ON DELETE CASCADE\n) ENGINE=InnoDB;\n"+
		"CREATE TABLE other.t (id int, FOREIGN KEY (id) REFERENCES shop.users (id));CREATE TABLE tmp_x (id int, FOREIGN KEY (id) REFERENCES users (id));\n"+
		"ALTER TABLE shop.lines ADD CONSTRAINT l FOREIGN KEY (up) REFERENCES other.t (id);", ddl.Mode{})
	require.Equal(t, []ForeignKey{
		{Name: "u", Schema: "shop", Table: "orders", Columns: []string{"user"}, ParentSchema: "shop", Parent: "users", ParentColumns: []string{"id"},
			OnDelete: "CASCADE", OnUpdate: "RESTRICT", ParentFollowed: true},
		{Name: "l", Schema: "shop", Table: "lines", Columns: []string{"up"}, ParentSchema: "other", Parent: "t", ParentColumns: []string{"id"},
			OnDelete: "RESTRICT", OnUpdate: "RESTRICT"},
	}, keys)
	require.Empty(t, f.writtenForeignKeys("", ddl.Mode{}))
}
