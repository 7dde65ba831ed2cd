//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dataflowsync/dfs/internal/testenv"
)

// A large is a case.
type large struct {
	name string
	what string

	kind   testenv.Kind // of source and target; default MySQL 9.7
	source []string     // options of the source's server
	whole  bool         // it has one size only
	over   int64        // bytes of memory beside limit that it may take, at full size

	// create returns the statements that make the tables, on both sides.
	create func(f *fill) []string

	// wide, if set, is the number of columns of a table that only the source has, and
	// that becomes several on the target, by units.
	wide int

	// prepare, if set, is done to the source before the place where reading begins.
	prepare func(ctx context.Context, f *fill) error

	// write writes to the source, and says how much that is, and how many changes of
	// rows the target gets.
	write func(ctx context.Context, f *fill) (size string, changes int, err error)

	// kills are moments at which to kill the program, one after the other.
	kills []moment

	// one says that all that is followed is one transaction, so that the target has
	// nothing of it after a kill.
	one bool
}

// A fill is a source to be written to.
type fill struct {
	*database
	scale float64
}

// exec executes statements over one connection, in the schema.
func (f *fill) exec(ctx context.Context, stmts ...string) error {
	return f.database.exec(ctx, append([]string{"USE " + schema}, stmts...)...)
}

// of returns n at the scale, but no less than least.
func (f *fill) of(n, least int) int { return max(int(float64(n)*f.scale), least) }

// numbers is a table to take whole numbers from.
const numbers = "CREATE TABLE ignored_n (i INT PRIMARY KEY)"

// fillNumbers fills it with 0 to 9999.
const fillNumbers = "INSERT INTO ignored_n WITH d AS (SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 " +
	"UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) " +
	"SELECT a.i*1000+b.i*100+c.i*10+d.i FROM d a, d b, d c, d"

// upTo selects from as many numbers, as i, in order.
func upTo(n int, columns string) string {
	return fmt.Sprintf("SELECT %s FROM (SELECT a.i*10000+b.i AS i FROM ignored_n a STRAIGHT_JOIN ignored_n b WHERE a.i<=%d) n WHERE i<%d",
		columns, (n-1)/10000, n)
}

var cases = []large{
	{
		name: "transaction", what: "one transaction of 1 GiB: inserts, updates and deletes, and tables that take turns", one: true,
		create: func(*fill) []string {
			return []string{"CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL, pad VARBINARY(2000) NOT NULL, KEY (n))",
				"CREATE TABLE t_left (id INT PRIMARY KEY AUTO_INCREMENT, n INT)", "CREATE TABLE t_right (id INT PRIMARY KEY AUTO_INCREMENT, n INT)"}
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			// All are logged once, a quarter twice more, and a tenth again.
			n := f.of(1<<30, 1<<20) * 10 / 16 / 2000
			turns := f.of(200_000, 1000)
			err := f.exec(ctx, "BEGIN", fmt.Sprintf("CALL ignored_turns(%d)", turns), "INSERT INTO t "+upTo(n, "i, i, CONCAT(RANDOM_BYTES(1000), RANDOM_BYTES(1000))"),
				"UPDATE t SET n=n+1 WHERE id%4=0", "DELETE FROM t WHERE id%10=0", "COMMIT")
			return fmt.Sprintf("%d rows inserted", n+2*turns), n + n/4 + n/10 + 2*turns, err
		},
		kills: []moment{stored(0.4), applying(0.3)},
	},
	{
		name: "rows", what: "one transaction of 10 million rows", one: true,
		create: func(*fill) []string {
			return []string{"CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL, s VARCHAR(20) NOT NULL)"}
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n := f.of(10_000_000, 10_000)
			return fmt.Sprintf("%d rows", n), n, f.exec(ctx, "INSERT INTO t "+upTo(n, "i, i*7, CONCAT('row ', i)"))
		},
		kills: []moment{applying(0.2)},
	},
	{
		name: "row", what: "one row of 200 MiB, inserted and deleted, and one of 100 MiB updated", over: 1344 << 20, // it is in memory as a whole, several times: see DESIGN
		create: func(*fill) []string {
			return []string{"CREATE TABLE t (id INT PRIMARY KEY, note VARCHAR(20) NOT NULL, doc LONGBLOB NOT NULL)"}
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n := f.of(200, 20)
			doc := func(mib int) string { return fmt.Sprintf("REPEAT(RANDOM_BYTES(1024), %d)", mib<<10) }
			return fmt.Sprintf("%d MiB", n), 5, f.exec(ctx,
				"INSERT INTO t VALUES (1, 'first', "+doc(n)+")",
				"INSERT INTO t VALUES (2, 'second', "+doc(n/2)+")",
				"UPDATE t SET note='changed' WHERE id=2",
				"DELETE FROM t WHERE id=1",
				"INSERT INTO t VALUES (3, 'third', "+doc(n)+")")
		},
		kills: []moment{moved(2)},
	},
	{
		name: "columns", what: "a table of 4,000 columns, which only MyISAM can have; it becomes four of InnoDB", wide: 4000,
		create: func(f *fill) (stmts []string) {
			for part, columns := range wideParts(f.of(4000, 1100)) {
				stmts = append(stmts, fmt.Sprintf("CREATE TABLE t_%d (id INT PRIMARY KEY, %s) CHARACTER SET latin1", part, strings.Join(wideDefinitions(columns), ", ")))
			}
			return stmts
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n, rows := f.of(4000, 1100), f.of(2000, 200)
			parts := wideParts(n)
			var names, values, unlogged []string
			for part, columns := range parts {
				for _, i := range columns {
					names = append(names, wideName(i))
					values = append(values, [...]string{"i%100", "CHAR(65+i%26)", "i", "NULL"}[i%4])
				}
				list := strings.Join(wideNames(columns), ", ")
				unlogged = append(unlogged, fmt.Sprintf("INSERT INTO t_%d (id, %s) SELECT id, %s FROM t", part, list, list))
			}
			err := f.exec(ctx, "INSERT INTO t (id, "+strings.Join(names, ", ")+") "+upTo(rows, "i, "+strings.Join(values, ", ")),
				fmt.Sprintf("UPDATE t SET %s=-1, %s=NULL, %s='xyz' WHERE id%%3=0", wideName(0), wideName(n/2), wideName((n-1)/4*4-1)),
				"DELETE FROM t WHERE id%5=0")
			if err == nil {
				// What the target is to have.
				err = f.exec(ctx, append([]string{"SET sql_log_bin=0"}, unlogged...)...)
			}
			return fmt.Sprintf("%d columns", n), rows, err
		},
		kills: []moment{moved(1)},
	},
	{
		name: "tables", what: "10,000 tables, where the log does not name their columns",
		prepare: func(ctx context.Context, f *fill) error { return f.exec(ctx, "SET GLOBAL binlog_row_metadata=MINIMAL") },
		create: func(f *fill) (stmts []string) {
			for i := range f.of(10_000, 100) {
				stmts = append(stmts, fmt.Sprintf("CREATE TABLE t%d (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL, amount DECIMAL(12,2), at DATETIME, "+
					"state ENUM('new','paid','sent') NOT NULL, flags INT UNSIGNED, a INT, b INT, c VARCHAR(100), d TEXT)", i))
			}
			return stmts
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n := f.of(10_000, 100)
			var stmts []string
			for round := range 3 {
				for i := range n {
					stmts = append(stmts, fmt.Sprintf("INSERT INTO t%d (id, name, amount, at, state) VALUES (%d, 'name', %d.5, '2026-01-01', 'paid')", i, round, i))
				}
			}
			return fmt.Sprintf("%d tables", n), 3 * n, f.exec(ctx, stmts...)
		},
		kills: []moment{moved(200)},
	},
	{
		name: "gtids", what: "a set of GTIDs of more than 64 KB", prepare: manyGTIDs,
		create: func(*fill) []string {
			return []string{"CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL)"}
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n := f.of(50_000, 2000)
			return fmt.Sprintf("%d transactions", n), n, f.transactions(ctx, n)
		},
		kills: []moment{moved(500), moved(1000)},
	},
	{
		name: "file", what: "a file of the log of more than 4 GiB, on MySQL without GTIDs", whole: true, source: []string{"--gtid-mode=OFF"},
		create: bigFile, write: writeBigFile,
		kills: []moment{moved(1)},
	},
	{
		name: "mariafile", what: "the same on MariaDB", kind: testenv.MariaDB, whole: true,
		create: bigFile, write: writeBigFile,
		kills: []moment{moved(1)},
	},
	{
		name: "backlog", what: "a backlog of 20 million transactions",
		create: func(*fill) []string {
			return []string{"CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL)"}
		},
		write: func(ctx context.Context, f *fill) (string, int, error) {
			n := f.of(20_000_000, 10_000)
			return fmt.Sprintf("%d transactions", n), n, f.transactions(ctx, n)
		},
		kills: []moment{moved(1000), moved(5000)},
	},
}

// The first commits as many transactions as it is told, outside of one.
const (
	procedure = "CREATE PROCEDURE ignored_p (n INT) BEGIN DECLARE i INT DEFAULT 0; " +
		"WHILE i<n DO INSERT INTO t (n) VALUES (i); SET i=i+1; END WHILE; END"
	turnsProcedure = "CREATE PROCEDURE ignored_turns (n INT) BEGIN DECLARE i INT DEFAULT 0; " +
		"WHILE i<n DO INSERT INTO t_left (n) VALUES (i); INSERT INTO t_right (n) VALUES (i); SET i=i+1; END WHILE; END"
)

// manyGTIDs makes the source one that has executed what 480 others have committed, with
// gaps, of which it has no log.
func manyGTIDs(ctx context.Context, f *fill) error {
	var set strings.Builder
	for i := range 480 {
		fmt.Fprintf(&set, ",%08x-71ca-11e1-9e33-c80aa9429562", i)
		for n := range 40 {
			fmt.Fprintf(&set, ":%d", 2*n+1)
		}
	}
	return f.exec(ctx, "SET GLOBAL gtid_purged='+"+set.String()[1:]+"'")
}

// transactions commits as many of one row, over some connections.
func (f *fill) transactions(ctx context.Context, n int) error {
	const conns = 4
	var err error
	done := make(chan error, conns)
	for i := range conns {
		go func() {
			done <- f.exec(ctx, fmt.Sprintf("CALL ignored_p(%d)", (n+i)/conns))
		}()
	}
	for range conns {
		if e := <-done; err == nil {
			err = e
		}
	}
	return err
}

func bigFile(*fill) []string {
	return []string{
		"CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL)",
		"CREATE TABLE ignored_b (id INT PRIMARY KEY, doc LONGBLOB NOT NULL)",
	}
}

// writeBigFile commits one transaction that begins in the first 4 GiB of its file and
// ends behind them. Most of it is of a table that is not followed, as the log is what
// this is about.
func writeBigFile(ctx context.Context, f *fill) (string, int, error) {
	const docs, mib = 72, 60
	stmts := []string{"BEGIN", "INSERT INTO t VALUES (1, 1)"}
	for i := range docs {
		stmts = append(stmts, fmt.Sprintf("INSERT INTO ignored_b VALUES (%d, REPEAT('0123456789abcdef', %d))", i, mib<<16))
	}
	stmts = append(stmts, "INSERT INTO t VALUES (2, 2)", "UPDATE t SET n=3 WHERE id=1", "COMMIT", "INSERT INTO t VALUES (3, 3)")
	return fmt.Sprintf("%d MiB of log", docs*mib), 4, f.exec(ctx, stmts...)
}

// wideParts cuts as many columns into the parts that they have on the target.
func wideParts(n int) (parts [][]int) {
	all := make([]int, n-1) // the key is one too
	for i := range all {
		all[i] = i
	}
	return slices.Collect(slices.Chunk(all, 1000))
}

func wideName(i int) string { return fmt.Sprintf("column_%d", i) }

func wideNames(columns []int) (list []string) {
	for _, i := range columns {
		list = append(list, wideName(i))
	}
	return list
}

func wideDefinitions(columns []int) (list []string) {
	for _, i := range columns {
		list = append(list, wideName(i)+" "+[...]string{"TINYINT", "CHAR(2)", "SMALLINT UNSIGNED", "VARBINARY(3)"}[i%4])
	}
	return list
}

// createWide returns the statement for the table that only the source has.
func createWide(n int) string {
	var all []string
	for _, columns := range wideParts(n) {
		all = append(all, wideDefinitions(columns)...)
	}
	return "CREATE TABLE t (id INT PRIMARY KEY, " + strings.Join(all, ", ") + ") ENGINE=MyISAM CHARACTER SET latin1"
}

// wideUnits returns the units of the configuration.
func wideUnits(n int) string {
	b := "units:\n"
	parts := wideParts(n)
	for i, columns := range parts {
		b += fmt.Sprintf("  - {from: %s.t, also: %v, select: [id, %s], into: %s.t_%d}\n", schema, i < len(parts)-1, strings.Join(wideNames(columns), ", "), schema, i)
	}
	return b
}
