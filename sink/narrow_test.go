package sink

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestChangesValues(t *testing.T) {
	for _, c := range [][3]string{
		{"datetime(6)", "datetime", "times are rounded to 0 digits after the second"},
		{"time(3)", "time(2)", "times are rounded to 2 digits after the second"},
		{"datetime(2)", "datetime(6)", ""},
		{"timestamp", "datetime", "moments arrive as UTC"},
		{"datetime", "timestamp", "times without a zone are taken as UTC"},
		{"decimal(10,4)", "decimal(10,2)", "numbers are rounded to 2 digits after the point"},
		{"decimal(10,2) unsigned", "decimal(20,2)", ""},
		{"decimal(10,2)", "double", "numbers lose digits in a double"},
		{"double", "float", "numbers lose digits in a float"},
		{"double", "decimal(10,2)", "numbers are rounded to 2 digits after the point"},
		{"decimal(10,2)", "bigint", "numbers are rounded to whole ones"},
		{"decimal(10,0)", "bigint", ""},
		{"int", "bigint unsigned", ""}, {"varchar(10)", "varchar(5)", ""}, {"enum('time','a')", "enum('a')", ""},
	} {
		require.Equal(t, c[2], changesValues(c[0], c[1]), "%s to %s", c[0], c[1])
	}
}

func TestNotesTellWhatATargetRounds(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".n (id int PRIMARY KEY, at datetime, g int GENERATED ALWAYS AS (id) STORED)",
		"CREATE TRIGGER "+s+".n1 BEFORE INSERT ON "+s+".n FOR EACH ROW SET NEW.at=NULL")
	n := &dfs.Table{Schema: s, Name: "n", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "at", Type: "datetime(6)"}, {Name: "g", Type: "int"}}}
	var log strings.Builder
	m := openSink(t, srv, &MySQLOptions{Name: s, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	notes, err := m.Notes(t.Context(), n)
	require.NoError(t, err)
	require.Len(t, notes, 3)
	require.Contains(t, fmt.Sprint(notes), "column at is datetime(6) on the source and datetime on the target: times are rounded to 0 digits")
	require.Contains(t, fmt.Sprint(notes), "column g is generated on the target")
	require.Contains(t, fmt.Sprint(notes), "has triggers")
	require.Equal(t, 1, strings.Count(log.String(), "values may change on the target"))
}
