package cdc_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A row takes no bytes for its NULLs, so that it can be shorter than its table
// is wide.
func TestWideRowsOfNulls(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			schema := srv.Schema(t)
			var columns []string
			for i := range 300 {
				columns = append(columns, fmt.Sprintf("c%d int", i))
			}
			srv.Exec(t, "CREATE TABLE "+schema+".wide (id int PRIMARY KEY, "+strings.Join(columns, ",")+")",
				"CREATE TABLE "+schema+".void (a int, b int, c int, d int, e int, f int, g int, h int, i int, j int)")
			src := open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}})
			st, _ := begin(t, src)
			srv.Exec(t, "INSERT INTO "+schema+".wide (id) VALUES (1)", "UPDATE "+schema+".wide SET c299 = 5",
				"INSERT INTO "+schema+".void VALUES ()", "DELETE FROM "+schema+".void")
			txs := readN(t, src, st, 4)
			row := make(dfs.Row, 301)
			row[0] = dfs.IntValue(1)
			require.Equal(t, row, txs[0].Changes[0].After)
			require.Equal(t, dfs.IntValue(5), txs[1].Changes[0].After[300])
			require.Equal(t, make(dfs.Row, 10), txs[2].Changes[0].After)
			require.Equal(t, make(dfs.Row, 10), txs[3].Changes[0].Before)
		})
	}
}
