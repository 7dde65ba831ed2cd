package cdc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func TestCompressedColumnsOfMariaDB(t *testing.T) {
	for _, metadata := range []string{"FULL", "MINIMAL"} {
		t.Run(metadata, func(t *testing.T) {
			srv := testenv.Start(t, testenv.MariaDB, "--binlog-row-metadata="+metadata, "--column-compression-threshold=20")
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, v varchar(50) COMPRESSED, w varchar(1000) COMPRESSED CHARACTER SET latin1, "+
				"t text COMPRESSED, b mediumblob COMPRESSED, vb varbinary(300) COMPRESSED, lt longtext COMPRESSED)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{"shop.*"}})
			st, _ := begin(t, src)
			session(t, srv, "USE shop", "SET NAMES utf8mb4", "INSERT INTO a VALUES (1, REPEAT('日', 50), REPEAT('é', 1000), REPEAT('x', 60000), REPEAT(x'00ff', 50000), REPEAT('b', 300), REPEAT('yz', 100000))",
				"INSERT INTO a VALUES (2, '', '', '', '', '', '')",
				"INSERT INTO a VALUES (3, 'short', 'short', 'short', 'short', 'short', NULL)",
				"SET column_compression_zlib_wrap=ON", "UPDATE a SET t = REPEAT('w', 1000), b = REPEAT('v', 1000) WHERE id = 3")
			txs := readN(t, src, st, 4)
			row := txs[0].Changes[0].After
			for i, want := range []string{"1", strings.Repeat("日", 50), strings.Repeat("\xe9", 1000), strings.Repeat("x", 60000),
				strings.Repeat("\x00\xff", 50000), strings.Repeat("b", 300), strings.Repeat("yz", 100000)} {
				require.Equal(t, want, row[i].String(), "column %d", i)
			}
			require.Equal(t, "insert a 2      ", said(txs[1]))
			require.Equal(t, "insert a 3 short short short short short NULL", said(txs[2]))
			require.Equal(t, "update a 3 short short "+strings.Repeat("w", 1000)+" "+strings.Repeat("v", 1000)+" short NULL", said(txs[3]))
			table := txs[0].Changes[0].Table
			var types []string
			for _, c := range table.Columns {
				types = append(types, c.Type+" "+c.Charset)
			}
			require.Equal(t, []string{"int ", "varchar(50) utf8mb4", "varchar(1000) latin1", "text utf8mb4", "mediumblob ", "varbinary(300) ", "longtext utf8mb4"}, types)
		})
	}
}
