package cdc_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/cdc/cdctest"
	"github.com/dataflowsync/dfs/internal/testenv"
)

var update = flag.Bool("update", false, "write what is expected of the logs in testdata anew; servers write those that are missing")

// A fixture is a log that a server once wrote. Fuzzing begins with them, too.
var fixtures = []struct {
	name string
	kind testenv.Kind
	args []string
	sql  []string
}{
	{"mysql-9.7-full", testenv.MySQL97, nil, append(fixtureTypes("json", "geometry", "vector(3)"),
		"INSERT INTO d.j VALUES (1, '{\"a\": [1, 2.5, -3e10, true, null, \"x\"], \"long\": 12345678901234567890}'), (2, NULL)",
		"UPDATE d.j SET j = JSON_SET(j, '$.a[0]', 18446744073709551615) WHERE id = 1",
		"SET SESSION binlog_row_value_options='PARTIAL_JSON'",
		"UPDATE d.j SET j = JSON_SET(j, '$.a[1]', 'y', '$.b', CAST('2026-01-02' AS DATE)) WHERE id = 1",
		"SET SESSION binlog_transaction_compression=ON",
		"INSERT INTO d.b VALUES (100, REPEAT('x', 3000)), (101, REPEAT('y', 3000))",
		"UPDATE d.b SET s = 'short'",
		"SET gtid_next='AUTOMATIC:mine'",
		"INSERT INTO d.b VALUES (200, 'tagged')")},
	{"mysql-9.7-minimal", testenv.MySQL97, []string{"--binlog-row-metadata=MINIMAL", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-checksum=NONE"},
		fixtureTypes("json", "geometry", "vector(3)")},
	{"mysql-5.6", testenv.MySQL56, nil, fixtureTypes("text", "geometry", "text")},
	{"mariadb-10.11", testenv.MariaDB, []string{"--log-bin-compress=ON", "--log-bin-compress-min-len=200"}, append(fixtureTypes("json", "geometry", "inet6"),
		"SET SESSION gtid_domain_id=7", "INSERT INTO d.b VALUES (300, REPEAT('z', 5000))",
		"CREATE OR REPLACE SEQUENCE d.q", "SELECT NEXT VALUE FOR d.q")},
}

// fixtureTypes returns statements that log rows of many types.
func fixtureTypes(json, geometry, last string) []string {
	value := map[string]string{"json": "'[1]'", "text": "'t'", "vector(3)": "STRING_TO_VECTOR('[1,2,3]')", "inet6": "'::1'"}
	geo := "ST_GeomFromText('POINT(1 2)')"
	return []string{
		"CREATE DATABASE d",
		"CREATE TABLE d.t (id int unsigned PRIMARY KEY, a tinyint, b smallint unsigned, c mediumint, d bigint unsigned, " +
			"e float, f double, g decimal(20,5), h bit(13), i year, j date, k time(3), l datetime(6), m timestamp(2) NULL, n char(5), " +
			"o varchar(300) CHARACTER SET latin1, p binary(4), q varbinary(9), r tinyblob, s text, u enum('x','y','z'), v set('a','b','c'), " +
			"w " + json + ", x " + geometry + ", y " + last + ", z varchar(10) CHARACTER SET utf16) CHARACTER SET utf8mb4",
		"INSERT INTO d.t VALUES (1, -5, 65535, -8388608, 18446744073709551615, 1.5, -2.25, '-12345.67890', b'1010101010101', 2026, '2026-11-22', " +
			"'-12:34:56.789', '9999-12-31 23:59:59.999999', '2026-01-02 03:04:05.67', 'ab', 'caf\xc3\xa9', 'a\\0', 'b\\0c', 'blob', 'text', 'y', 'a,c', " +
			value[json] + ", " + geo + ", " + value[last] + ", 'u16')",
		"INSERT INTO d.t (id) VALUES (2), (3), (4294967295)",
		"UPDATE d.t SET a = 1, n = 'zz', l = '2000-02-29 00:00:00' WHERE id < 3",
		"DELETE FROM d.t WHERE id = 3",
		"CREATE TABLE d.b (id int PRIMARY KEY, s text)",
		"CREATE TABLE d.j (id int PRIMARY KEY, j " + json + ")",
		"CREATE TABLE d.m (id int) ENGINE=MyISAM",
		"INSERT INTO d.m VALUES (1), (2)",
		"BEGIN", "INSERT INTO d.b VALUES (1, 'one')", "SAVEPOINT p", "INSERT INTO d.b VALUES (2, 'two')", "ROLLBACK TO p", "COMMIT",
		"XA START 'x'", "INSERT INTO d.b VALUES (3, 'xa')", "XA END 'x'", "XA COMMIT 'x' ONE PHASE",
		"ALTER TABLE d.b ADD COLUMN n int FIRST", "UPDATE d.b SET n = id", "ALTER TABLE d.b DROP COLUMN n",
		"TRUNCATE TABLE d.m", "DROP TABLE d.m",
	}
}

// TestFixtures reads logs that servers wrote when they were made, so that what a
// later server writes does not hide that older logs are read another way.
func TestFixtures(t *testing.T) {
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) {
			path := filepath.Join("testdata", f.name+".000001")
			if _, err := os.Stat(path); *update && err != nil {
				srv := testenv.Start(t, f.kind, f.args...)
				stop := "RESET MASTER"
				if f.kind == testenv.MySQL97 {
					stop = "RESET BINARY LOGS AND GTIDS"
				}
				session(t, srv, append([]string{stop}, append(f.sql, "FLUSH LOGS")...)...)
				b, err := os.ReadFile(filepath.Join(srv.Dir(), "binlog.000001"))
				require.NoError(t, err)
				require.Less(t, len(b), 40<<10)
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, b, 0o644))
			}
			got := transcript(t, path)
			want := strings.TrimSuffix(path, ".000001") + ".txt"
			if *update {
				require.NoError(t, os.WriteFile(want, []byte(got), 0o644))
			}
			b, err := os.ReadFile(want)
			require.NoError(t, err)
			require.True(t, string(b) == got, "run the test with -update, and look at the difference")
		})
	}
}

// TestOrdersLog looks at the log that benchmarks without a server read.
func TestOrdersLog(t *testing.T) {
	path := filepath.Join("testdata", "orders.000001")
	w := cdctest.Workload{Inserts: 20, Updates: 10, Deletes: 5, Batches: 2, BatchRows: 50}
	if _, err := os.Stat(path); *update && err != nil {
		srv := testenv.Start(t, testenv.MySQL97)
		srv.Exec(t, "RESET BINARY LOGS AND GTIDS")
		require.NoError(t, w.Run(t.Context(), srv.DB(t), "bench"))
		b, err := os.ReadFile(filepath.Join(srv.Dir(), "binlog.000001"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, b, 0o644))
	}
	src := openFiles(t, nil, path)
	st := stream(t, src, "")
	rows := 0
	for batch := make([]*dfs.Transaction, 100); ; {
		n, err := st.Next(t.Context(), batch)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.NoError(t, src.Decode(t.Context(), batch[:n]))
		for _, tx := range batch[:n] {
			for _, c := range tx.Changes {
				if c.Op != dfs.DDL {
					rows++
				}
			}
		}
	}
	require.Equal(t, w.Rows(), rows)
}

// transcript is what a log file says, and how it ends.
func transcript(t *testing.T, path string) string {
	src := openFiles(t, &cdc.Options{Tables: []string{"d.*"}}, path)
	st := stream(t, src, "")
	var b strings.Builder
	batch := make([]*dfs.Transaction, 100)
	for {
		n, err := st.Next(t.Context(), batch)
		if err == io.EOF {
			return b.String()
		}
		if err == nil {
			err = src.Decode(t.Context(), batch[:n])
		}
		if err != nil {
			fmt.Fprintln(&b, "error:", err)
			return b.String()
		}
		for _, tx := range batch[:n] {
			fmt.Fprintln(&b, tx.ID, tx.Pos)
			for _, c := range tx.Changes {
				fmt.Fprintln(&b, " ", c.Op, c.Table, c.Query)
				for _, row := range []dfs.Row{c.Before, c.After} {
					for i, v := range row {
						if len(v.String()) > 200 {
							fmt.Fprintf(&b, "    %s %s: %d bytes\n", c.Table.Columns[i].Name, c.Table.Columns[i].Type, len(v.String()))
							continue
						}
						fmt.Fprintf(&b, "    %s %s: %q\n", c.Table.Columns[i].Name, c.Table.Columns[i].Type, v.String())
					}
				}
			}
		}
	}
}
