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

// What an image leaves out is Absent, and what a session sets for itself counts.
func TestSparseImages(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			var args []string
			if kind == testenv.MariaDB {
				args = append(args, "--binlog-row-image=MINIMAL")
			}
			srv := testenv.Start(t, kind, args...)
			srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, n int NOT NULL DEFAULT 7, s text, "+
				"ts timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)",
				"CREATE TABLE shop.k (x int NOT NULL, y int NOT NULL, z int, UNIQUE zz (x), UNIQUE aa (y))")
			src := open(t, srv.DSN(""), nil)
			st, _ := begin(t, src)
			session(t, srv, "USE shop", "SET SESSION binlog_row_image='MINIMAL', time_zone='+00:00', timestamp=946684800",
				"INSERT INTO a (id) VALUES (1)",
				"UPDATE a SET n = 3",
				"UPDATE a SET ts = ts, s = 'y'",
				"UPDATE a SET id = 2",
				"DELETE FROM a",
				"INSERT INTO k (x, y) VALUES (1, 2)",
				"UPDATE k SET z = 5",
				"DELETE FROM k",
				"SET SESSION binlog_row_image='NOBLOB'",
				"INSERT INTO a (id) VALUES (1)",
				"UPDATE a SET n = 3",
				"UPDATE a SET s = 'x'",
				"DELETE FROM a")
			const now = "2000-01-01 00:00:00"
			var got []string
			for _, tx := range readN(t, src, st, 12) {
				for _, c := range tx.Changes {
					got = append(got, fmt.Sprint(c.Op, c.Before, c.After))
				}
			}
			require.Equal(t, []string{
				"insert [] [1 ABSENT ABSENT " + now + "]",
				"update [1 ABSENT ABSENT ABSENT] [ABSENT 3 ABSENT " + now + "]",
				"update [1 ABSENT ABSENT ABSENT] [ABSENT ABSENT y " + now + "]",
				"update [1 ABSENT ABSENT ABSENT] [2 ABSENT ABSENT " + now + "]",
				"delete [2 ABSENT ABSENT ABSENT] []",
				"insert [] [1 2 ABSENT]",
				"update [1 ABSENT ABSENT] [ABSENT ABSENT 5]",
				"delete [1 ABSENT ABSENT] []",
				"insert [] [1 7 ABSENT " + now + "]",
				"update [1 7 ABSENT " + now + "] [1 3 ABSENT " + now + "]",
				"update [1 3 ABSENT " + now + "] [1 3 x " + now + "]",
				"delete [1 3 ABSENT " + now + "] []",
			}, got)
		})
	}
}

// MariaDB logs a REPLACE as an update that says nothing of the columns that it
// sets back.
func TestReplaceOfMariaDBWithSparseImages(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--binlog-row-image=MINIMAL")
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.a (id int PRIMARY KEY, n int, m int)",
		"INSERT INTO shop.a VALUES (1, 2, 3)", "CREATE PROCEDURE shop.p() REPLACE INTO shop.a (id, m) VALUES (1, 9)",
		"CREATE PROCEDURE shop.q() UPDATE shop.a SET m = 8")
	for _, sql := range []string{"REPLACE INTO shop.a (id, n) VALUES (1, 5)", "/* x */ replace shop.a SET id = 1", "CALL shop.p()"} {
		st, _ := begin(t, open(t, srv.DSN(""), nil))
		srv.Exec(t, sql)
		var bad *cdc.EventError
		require.ErrorAs(t, ended(t, st), &bad)
		require.Contains(t, bad.What, "an update of shop.a leaves columns out")
		require.Contains(t, bad.Cure, "binlog_row_image=FULL")
		require.NotEmpty(t, bad.After)
	}
	src := open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	srv.Exec(t, "INSERT INTO shop.a (id, n) VALUES (1, 5) ON DUPLICATE KEY UPDATE n = 6", "CALL shop.q()", "REPLACE INTO shop.a VALUES (1, 5, 6)",
		"REPLACE INTO shop.a (id) VALUES (2)")
	require.Equal(t, []string{"update a 1 6 ABSENT", "update a ABSENT ABSENT 8", "update a 1 5 6", "insert a 2 ABSENT ABSENT"}, says(readN(t, src, st, 4)))

	// Where the setting for all did not tell that texts are needed, there are none.
	srv = testenv.Shared(t, testenv.MariaDB)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".a (id int PRIMARY KEY, n int)", "INSERT INTO "+schema+".a VALUES (1, 2)")
	st, _ = begin(t, open(t, srv.DSN(""), &cdc.Options{Tables: []string{schema + ".*"}}))
	session(t, srv, "SET SESSION binlog_row_image='MINIMAL'", "UPDATE "+schema+".a SET n = 3")
	var bad *cdc.EventError
	require.ErrorAs(t, ended(t, st), &bad)
	require.Contains(t, bad.Cure, "set binlog_row_image for all")
}

// What a trigger or a function changes beside the statement may be changed by a
// REPLACE of its own, of which the text of the statement says nothing.
func TestReplaceInsideOfTriggersAndFunctionsOfMariaDB(t *testing.T) {
	srv := testenv.Start(t, testenv.MariaDB, "--binlog-row-image=MINIMAL", "--log-bin-trust-function-creators=1")
	const b = "(id int PRIMARY KEY, n int DEFAULT 7, m int)"
	srv.Exec(t, "CREATE DATABASE shop", "CREATE DATABASE other", "CREATE TABLE shop.a (id int PRIMARY KEY, b int)",
		"CREATE TABLE shop.b "+b, "CREATE TABLE other.b "+b, "CREATE TABLE shop.c (id int PRIMARY KEY, b int)",
		"INSERT INTO shop.b VALUES (1, 2, 3)", "INSERT INTO other.b VALUES (1, 2, 3)", "INSERT INTO shop.c VALUES (1, 2)",
		"CREATE TRIGGER shop.tr AFTER INSERT ON shop.a FOR EACH ROW REPLACE INTO shop.b (id, m) VALUES (1, NEW.id)",
		"CREATE TRIGGER shop.tb AFTER UPDATE ON shop.b FOR EACH ROW REPLACE INTO other.b (id, m) VALUES (1, NEW.m)",
		"CREATE FUNCTION shop.f() RETURNS int BEGIN REPLACE INTO shop.b (id, m) VALUES (1, 8); RETURN 1; END",
		"CREATE VIEW shop.v AS SELECT * FROM shop.c")
	var src *cdc.Source
	for _, statements := range [][]string{
		{"INSERT INTO shop.a (id, b) VALUES (1, 1)"},
		{"UPDATE shop.c b SET b.b = shop.f()"},
		{"INSERT INTO shop.c SELECT 2, shop.f()"},
		{"DO shop.f()"},
		{"USE shop", "UPDATE b SET m = 4"},
		{"UPDATE shop.b SET m = 5"},
		{"UPDATE shop.v SET b = 9"},
		{"BEGIN", "UPDATE shop.c SET b = 10", "SET binlog_annotate_row_events=OFF", "UPDATE shop.c SET b = 11", "COMMIT"},
	} {
		srv.Exec(t, "UPDATE shop.b SET n = 2, m = 3", "UPDATE other.b SET n = 2, m = 3") // a REPLACE that alters nothing logs nothing
		src = open(t, srv.DSN(""), nil)
		st, _ := begin(t, src)
		session(t, srv, statements...)
		var bad *cdc.EventError
		require.ErrorAs(t, ended(t, st), &bad, statements)
		require.Contains(t, bad.What, "leaves columns out")
	}
	// What a statement names, neither of them can change.
	for _, sql := range []string{"UPDATE shop.c JOIN shop.b ON b.id = c.id SET c.b = shop.f()", "INSERT INTO shop.a SELECT 9, m FROM shop.b"} {
		_, err := srv.DB(t).Exec(sql)
		require.ErrorContains(t, err, "1442")
	}
	srv.Exec(t, "DROP TRIGGER shop.tb")
	src = open(t, srv.DSN(""), nil)
	st, _ := begin(t, src)
	session(t, srv, "USE shop", "UPDATE b JOIN c ON c.id = b.id SET b.m = 6, c.b = 7", "UPDATE b x SET x.m = 7",
		"INSERT INTO other.b VALUES (1, 1, 1) ON DUPLICATE KEY UPDATE m = 9")
	require.Equal(t, []string{"update b ABSENT ABSENT 6; update c ABSENT 7", "update b ABSENT ABSENT 7", "update b 1 2 9"}, says(readN(t, src, st, 3)))
}
