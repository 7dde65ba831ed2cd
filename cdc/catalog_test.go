package cdc_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/cdc"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// A history runs statements on a server and notes what a reader must see of the
// rows: the names that the columns had when the row was written.
type history struct {
	*testing.T
	srv    *testenv.Server
	schema string
	rows   []string // table, and names with values
	n      int
}

// run runs statements in which S stands for the schema. "+a" writes a row to the
// table a.
func (h *history) run(stmts ...string) {
	h.Helper()
	for _, s := range stmts {
		table, insert := strings.CutPrefix(s, "+")
		if !insert {
			h.srv.Exec(h, strings.ReplaceAll(s, "S.", h.schema+"."))
			continue
		}
		rows, err := h.srv.DB(h).Query("SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
			h.schema, table)
		require.NoError(h, err)
		var values, row []string
		for rows.Next() {
			var name string
			require.NoError(h, rows.Scan(&name))
			h.n++
			values = append(values, fmt.Sprint(h.n))
			row = append(row, fmt.Sprint(name, "=", h.n))
		}
		require.NoError(h, rows.Err())
		h.srv.Exec(h, "INSERT INTO "+h.schema+"."+table+" VALUES ("+strings.Join(values, ",")+")")
		h.rows = append(h.rows, table+" "+strings.Join(row, " "))
	}
}

// A follower reads a source as a pipeline does, and can begin anew at any time
// with what a sink would have stored.
type follower struct {
	*testing.T
	dsn  string
	opts *cdc.Options
	src  *cdc.Source
	st   dfs.Stream
	at   dfs.Checkpoint
	rows []string
}

func (f *follower) start() {
	f.Helper()
	f.src = open(f, f.dsn, f.opts)
	st, err := f.src.Open(limit(f), f.at)
	require.NoError(f, err)
	f.st = st
}

// next reads at least one transaction.
func (f *follower) next() error {
	f.Helper()
	batch := make([]*dfs.Transaction, 3)
	n, err := f.st.Next(limit(f), batch)
	if err != nil {
		return err
	}
	require.NoError(f, f.src.Decode(f.Context(), batch[:n]))
	for _, tx := range batch[:n] {
		for _, c := range tx.Changes {
			if c.Op != dfs.Insert {
				continue
			}
			row := c.Table.Name
			for i, v := range c.After {
				row += fmt.Sprint(" ", c.Table.Columns[i].Name, "=", v)
			}
			f.rows = append(f.rows, row)
		}
		if !tx.More {
			f.at = dfs.Checkpoint{Pos: tx.Pos, State: cmp.Or(tx.State, f.at.State)}
		}
	}
	return nil
}

func (f *follower) stop() {
	require.NoError(f, f.st.Close())
	require.NoError(f, f.src.Close())
}

// The life of tables while nobody reads.
var altered = []string{
	"ALTER TABLE S.a CHANGE x y int, CHANGE y x int", "+a", // the names change places
	"ALTER TABLE S.a ADD m int AFTER id", "+a",
	"ALTER TABLE S.a MODIFY m int FIRST", "+a",
	"ALTER TABLE S.a DROP COLUMN m", "+a",
	"CREATE TABLE S.b (id int PRIMARY KEY, p int, q int)", "+b",
	"RENAME TABLE S.a TO S.tmp, S.b TO S.a, S.tmp TO S.b", "+a", "+b",
	"CREATE INDEX i ON S.b (x)", "DROP INDEX i ON S.b", "+b",
	"DROP TABLE S.a", "CREATE TABLE S.a (id int PRIMARY KEY, one varchar(10), two varchar(10))", "+a",
	// As gh-ost and pt-online-schema-change do it.
	"CREATE TABLE S._a_gho LIKE S.a", "ALTER TABLE S._a_gho CHANGE one two varchar(10), CHANGE two one varchar(10)",
	"INSERT INTO S._a_gho SELECT * FROM S.a WHERE id < 0", "RENAME TABLE S.a TO S._a_del, S._a_gho TO S.a", "+a",
	"TRUNCATE TABLE S.a", "+a",
	"ALTER TABLE S.b RENAME TO S.c", "ALTER TABLE S.c CHANGE x z int, ADD (k int, l int)", "+c",
	"ALTER TABLE S.c DROP PRIMARY KEY, ADD PRIMARY KEY (z)", "+c",
}

// Where the log does not name columns, those of the place are taken, whatever
// became of the table since, and wherever reading begins again.
func TestColumnsAreThoseOfThePlace(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		h := &history{T: t, srv: srv, schema: schema}
		f := &follower{T: t, dsn: srv.DSN(""), opts: &cdc.Options{Tables: []string{schema + ".*", "!" + schema + "._*"}}}
		f.start()
		require.NoError(t, f.next())
		require.NotEmpty(t, f.at.State, "what the tables are like when reading begins")
		h.run("+a")
		nextSecond(t, srv)
		h.run(altered...)
		nextSecond(t, srv)
		h.run("ALTER TABLE S.a CHANGE one gone varchar(10)", "DROP TABLE S.c")
		for len(f.rows) < len(h.rows) {
			f.stop()
			f.start() // after each few transactions
			require.NoError(t, f.next(), "after %d rows", len(f.rows))
		}
		require.Equal(t, h.rows, f.rows)
		f.stop()
	})
}

// What the server was asked for is kept too, and so are tables of a source that
// begins in the past as they were, if Options.Schema says so.
func TestSchemaSaysWhatTablesWereAtTheStart(t *testing.T) {
	eachNameless(t, func(t *testing.T, srv *testenv.Server, schema string) {
		h := &history{T: t, srv: srv, schema: schema}
		first := &follower{T: t, dsn: srv.DSN(""), opts: &cdc.Options{Tables: []string{schema + ".*"}}}
		first.start()
		require.NoError(t, first.next())
		first.stop()
		h.run("+a")
		nextSecond(t, srv)
		h.run(altered...)

		var collation string
		require.NoError(t, srv.DB(t).QueryRow("SELECT default_collation_name FROM information_schema.schemata WHERE schema_name = ?", schema).Scan(&collation))

		// Without it, the first row cannot be named.
		f := &follower{T: t, dsn: srv.DSN(""), opts: &cdc.Options{Tables: []string{schema + ".*"}}, at: dfs.Checkpoint{Pos: first.at.Pos}}
		f.start()
		err := f.next()
		var bad *cdc.EventError
		require.ErrorAs(t, err, &bad)
		require.Contains(t, bad.What, "rows of "+schema+".a were logged without column names before")
		require.Contains(t, bad.Cure, "Options.Schema")
		f.stop()

		f.opts.Schema = "-- a dump; with 'quotes\n/*!40101 SET NAMES utf8 */;\n" +
			"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `" + schema + "` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE " + collation + " */;\nUSE `" + schema + "`;\n" +
			"DROP TABLE IF EXISTS `a`;\nCREATE TABLE `a` (\n  `id` int(11) NOT NULL,\n  `x` int DEFAULT NULL COMMENT 'a;b',\n  `y` int DEFAULT NULL,\n  PRIMARY KEY (`id`)\n);\n"
		for f.start(); len(f.rows) < len(h.rows); {
			require.NoError(t, f.next())
		}
		require.Equal(t, h.rows, f.rows)

		// It counts once: after that, the statements of the log do.
		f.stop()
		f.start()
		h.run("+a")
		for len(f.rows) < len(h.rows) {
			require.NoError(t, f.next())
		}
		require.Equal(t, h.rows, f.rows)
		f.stop()
	})
}
