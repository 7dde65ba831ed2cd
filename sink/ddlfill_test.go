package sink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Rows that came in another order on the target get the same numbers, or the
// statement is refused.
func TestRowsGetTheNumbersOfTheSource(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			from, s := srv.Schema(t), srv.Schema(t)
			m := openSink(t, srv, &MySQLOptions{Name: s, DDL: PolicyApply, Routes: shop(s)})
			_, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			seq, mode := uint64(0), dfs.Var{Name: "sql_mode", Value: "'" + rows(t, srv, "SELECT @@sql_mode")[0] + "'"}
			for _, c := range []struct {
				table, alter string
				refused      string
			}{
				{"(v int, k int PRIMARY KEY)", "ADD id SERIAL", ""},
				{"(v int, k int PRIMARY KEY)", "ADD id int\n AUTO_INCREMENT UNIQUE FIRST", ""},
				{"(v int, k varchar(9) COLLATE utf8mb4_general_ci PRIMARY KEY)", "DROP PRIMARY KEY, ADD id bigint AUTO_INCREMENT PRIMARY KEY", ""},
				{"(v int, k int, l int DEFAULT 0, PRIMARY KEY (l, k))", "MODIFY l int AUTO_INCREMENT, ADD KEY (l)", ""},
				{"(v int, k int PRIMARY KEY, n int NOT NULL DEFAULT 0)", "MODIFY n int AUTO_INCREMENT UNIQUE", ""},
				{"(v int, k int PRIMARY KEY, n int NOT NULL DEFAULT 0)", "CHANGE n `n m` SERIAL", ""},
				{"(v int, k int, n int AUTO_INCREMENT UNIQUE)", "MODIFY n bigint AUTO_INCREMENT", ""},
				{"(v int, k int, n int AUTO_INCREMENT UNIQUE)", "CHANGE `N` n2 bigint AUTO_INCREMENT", ""},
				{"(v int, k int)", "AUTO_INCREMENT = 7", ""},
				{"(v int, k int)", "ADD id SERIAL", "without a primary key"},
				{"(v int, k int)", "ADD id BIGINT NOT NULL\n AUTO_INCREMENT UNIQUE", "without a primary key"},
				{"(v int, k int)", "ADD PRIMARY KEY (k), ADD id int AUTO_INCREMENT UNIQUE", "without a primary key"},
				{"(v int, k int, n int NOT NULL DEFAULT 0)", "MODIFY n int NOT NULL AUTO_INCREMENT UNIQUE", "without a primary key"},
				{"(v int, k int, n int NOT NULL DEFAULT 0)", "CHANGE n n2 SERIAL", "without a primary key"},
				{"(v int, k int, n int AUTO_INCREMENT UNIQUE)", "DROP n, ADD n2 SERIAL", "without a primary key"},
				{"(v int, k int PRIMARY KEY) ENGINE=MyISAM", "ADD id SERIAL", "in the order of its primary key"},
				{"(v int, k int PRIMARY KEY) PARTITION BY HASH(k)", "ADD id int AUTO_INCREMENT, ADD KEY (id)", "in the order of its primary key"},
			} {
				for i, schema := range []string{from, s} {
					srv.Exec(t, "DROP TABLE IF EXISTS "+schema+".t", "CREATE TABLE "+schema+".t "+c.table)
					for n := range 50 {
						k := n * 37 % 50
						if i == 1 {
							k = n * 11 % 50
						}
						set := fmt.Sprintf("v=%d, k=%[1]d", k+1)
						if strings.Contains(c.table, "AUTO") {
							set += fmt.Sprintf(", n=%d", 100-k)
						}
						srv.Exec(t, "INSERT INTO "+schema+".t SET "+set)
					}
				}
				seq++
				err := m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(seq, "ALTER TABLE t "+c.alter, mode)})
				if c.refused != "" {
					var stop *DDLError
					require.ErrorAs(t, err, &stop, "%s: %s", c.table, c.alter)
					require.ErrorContains(t, err, c.refused, "%s: %s", c.table, c.alter)
					seq--
					_, err = m.Checkpoint(t.Context())
					require.NoError(t, err)
					continue
				}
				require.NoError(t, err, "%s: %s", c.table, c.alter)
				srv.Exec(t, "ALTER TABLE "+from+".t "+c.alter)
				require.Equal(t, rows(t, srv, "SELECT * FROM "+from+".t ORDER BY v"), rows(t, srv, "SELECT * FROM "+s+".t ORDER BY v"), "%s: %s", c.table, c.alter)
			}

			// Of rows with the same key the same one stays.
			if kind != testenv.MySQL97 {
				for i, schema := range []string{from, s} {
					srv.Exec(t, "DROP TABLE IF EXISTS "+schema+".t", "CREATE TABLE "+schema+".t (v int, k int PRIMARY KEY)")
					for n := range 50 {
						k := n * (37 - 26*i) % 50
						srv.Exec(t, fmt.Sprintf("INSERT INTO %s.t VALUES (%d, %d)", schema, k%5, k))
					}
				}
				seq++
				const alter = "ALTER IGNORE TABLE %st ADD UNIQUE (v), ALGORITHM=COPY"
				require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(seq, fmt.Sprintf(alter, ""), mode)}))
				srv.Exec(t, fmt.Sprintf(alter, from+"."))
				left := rows(t, srv, "SELECT * FROM "+s+".t ORDER BY k")
				require.Len(t, left, 5)
				require.Equal(t, rows(t, srv, "SELECT * FROM "+from+".t ORDER BY k"), left)
			}

			// A row alone has no order, and no rows have no values.
			for i, n := range []int{0, 1} {
				srv.Exec(t, "DROP TABLE IF EXISTS "+s+".t", "CREATE TABLE "+s+".t (v int)")
				for range n {
					srv.Exec(t, "INSERT INTO "+s+".t VALUES (1)")
				}
				seq++
				require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(seq, "ALTER TABLE t ADD id SERIAL")}), i)
			}
		})
	}
}

// What rows are filled with is the same on both sides, or the statement is
// refused. The other server is one with other settings of what the log does not
// have.
func TestRowsAreFilledAsOnTheSource(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".t (id int PRIMARY KEY, d date)", "INSERT INTO "+s+".t VALUES (1, '2008-02-20')", "CREATE TABLE "+s+".none (d date)")
			m := openSink(t, srv, &MySQLOptions{Name: s, DDL: PolicyApply, Routes: shop(s)})
			_, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			apply := func(seq uint64, query string) error {
				return m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(seq, query, dfs.Var{Name: "timestamp", Value: "1700000000.25"}, dfs.Var{Name: "time_zone", Value: "'+05:00'"})})
			}
			for _, expr := range []string{"(connection_id())", "(1/3)", "(week('2008-02-20'))", "(@@server_id)", "(@@pseudo_thread_id)", "(@uv)",
				"(`uuid`())", "(uuid/**/())", "(rand/* x */())", "uuid()", "CURRENT_USER", "(sysdate())", "(version())"} {
				err := apply(1, "ALTER TABLE t ADD v varchar(99) DEFAULT "+expr)
				var stop *DDLError
				require.ErrorAs(t, err, &stop, expr)
				require.ErrorContains(t, err, "it fills rows with values made of", expr)
				_, err = m.Checkpoint(t.Context())
				require.NoError(t, err)
			}
			require.ErrorContains(t, apply(1, "ALTER TABLE t ADD v int AS (week(d)) STORED"), "made of WEEK")
			_, err = m.Checkpoint(t.Context())
			require.NoError(t, err)

			seq := uint64(0)
			for expr, want := range map[string]string{
				"DEFAULT 'uuid()' COMMENT 'rand()'": "uuid()",
				"DEFAULT x'41'":                     "A",
				"DEFAULT (concat('a', 1 + 2 * 3, CASE WHEN 'b' LIKE '%' THEN 'c' END))": "a7c",
				"DEFAULT (now(6))":               "2023-11-15 03:13:20.250000",
				"DEFAULT (json_array(1, 'a'))":   `[1, "a"]`,
				"DEFAULT (hex(upper('a')))":      "41",
				"DEFAULT (date_format(d, '%d'))": "20",
			} {
				if kind == testenv.MySQL56 && strings.Contains(expr, "(") && !strings.Contains(expr, "'uuid") {
					continue // it has no such defaults
				}
				seq++
				require.NoError(t, apply(seq, "ALTER TABLE t ADD v varchar(99) "+expr), expr)
				require.Equal(t, []string{want}, rows(t, srv, "SELECT v FROM "+s+".t"), expr)
				seq++
				require.NoError(t, apply(seq, "ALTER TABLE t DROP v"), expr)
			}
			if kind != testenv.MySQL56 {
				require.NoError(t, apply(seq+1, "ALTER TABLE none ADD v int DEFAULT (week(d))"), "a table without rows")
				require.NoError(t, apply(seq+2, "ALTER TABLE t ADD v varchar(99)"))
				require.NoError(t, apply(seq+3, "ALTER TABLE t ALTER v SET DEFAULT (week('2008-02-20'))"), "rows that are there stay")
				seq += 3
			}
			if kind != testenv.MySQL97 {
				srv.Exec(t, "INSERT INTO "+s+".none (d) VALUES (NULL), (NULL)")
				require.ErrorContains(t, apply(seq+1, "ALTER IGNORE TABLE none ADD UNIQUE (d)"), "without a primary key")
			}
		})
	}
}
