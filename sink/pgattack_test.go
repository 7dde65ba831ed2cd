package sink_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
	"github.com/stretchr/testify/require"
)

// oneColumn is a table with a key and a column of a type.
func oneColumn(name, typ string) *dfs.Table {
	c := dfs.Column{Name: "c", Type: typ, Nullable: true}
	if strings.Contains(typ, "char") || strings.Contains(typ, "text") {
		c.Charset, c.Collation = "utf8mb4", "utf8mb4_bin"
	}
	return &dfs.Table{Schema: "source", Name: name, Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, c}}
}

func put(seq uint64, t *dfs.Table, values ...dfs.Value) *dfs.Transaction {
	tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "x"}, ID: fmt.Sprint("id ", seq)}
	for i, v := range values {
		tx.Changes = append(tx.Changes, dfs.Change{Op: dfs.Insert, Table: t, After: dfs.Row{dfs.IntValue(int64(seq*100) + int64(i)), v}})
	}
	return tx
}

// What PostgreSQL cannot hold stops at its row, behind all that came before, or
// becomes what the policy says.
func TestPostgresHoldsWhatItCanAndSaysWhatItCannot(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	for _, c := range []struct {
		typ, to string
		value   dfs.Value
		want    string // of the error
		unfit   sink.Unfit
		held    string // under that policy
	}{
		{"date", "date", dfs.DateValue(0, 0, 0), "PostgreSQL has no such date: choose the policy null or infinity", sink.Unfit{ZeroDates: sink.UnfitNull}, "NULL"},
		{"datetime(3)", "timestamp(3)", dfs.DateTimeValue(2026, 2, 31, 1, 2, 3, 0, 3), "no such date", sink.Unfit{ZeroDates: sink.UnfitInfinity}, "-infinity"},
		{"varchar(20)", "varchar(20)", dfs.StringValue("a\x00b"), "U+0000", sink.Unfit{NULs: sink.UnfitRemove}, "ab"},
		{"varchar(20)", "text", dfs.StringValue("a\xffb"), "no text in the character set utf8mb4", sink.Unfit{InvalidText: sink.UnfitReplace}, "a\uFFFDb"},
		{"time", "time", dfs.TimeValue(-1e9, 0), "no time of day", sink.Unfit{Times: sink.UnfitNull}, "NULL"},
		{"json", "jsonb", dfs.JSONValue(`{"a": "x\u0000\\u0000"}`), "U+0000", sink.Unfit{NULs: sink.UnfitReplace}, `{"a": "x` + "\uFFFD" + `\\u0000"}`},
		{"bigint unsigned", "bigint", dfs.UintValue(1 << 63), "narrower", sink.Unfit{}, ""},
		{"varchar(20)", "varchar(3)", dfs.StringValue("four"), "narrower", sink.Unfit{}, ""},
		{"int", "boolean", dfs.IntValue(2), "it is no boolean", sink.Unfit{}, ""},
	} {
		t.Run(c.typ+" as "+c.to, func(t *testing.T) {
			schema := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY, c "+c.to+")")
			table := oneColumn("t", c.typ)
			k := openPostgres(t, srv, schema, nil)
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			err = k.Apply(t.Context(), []*dfs.Transaction{put(1, table, dfs.NullValue()), put(2, table, dfs.NullValue(), dfs.NullValue(), dfs.NullValue(), c.value), put(3, table, dfs.NullValue())})
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "(id=203) in transaction 2 (id 2)")
			at, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, uint64(1), at.Seq)
			require.Equal(t, [][]string{{"100", "NULL"}}, srv.Query(t, "SELECT * FROM "+schema+".t"))
			require.NoError(t, k.Close())
			if c.held == "" {
				return
			}
			k = openPostgres(t, srv, schema, &sink.PostgresOptions{Unfit: c.unfit})
			defer k.Close()
			_, err = k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{put(2, table, c.value)}))                            // by itself
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{put(3, table, c.value, c.value, c.value, c.value)})) // by COPY
			up := put(4, table)
			for i := range 4 {
				id := dfs.IntValue(300 + int64(i))
				up.Changes = append(up.Changes, dfs.Change{Op: dfs.Update, Table: table, Before: dfs.Row{id, dfs.NullValue()}, After: dfs.Row{id, c.value}})
			}
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{up})) // by arrays
			require.Equal(t, [][]string{{c.held, "5"}}, srv.Query(t, "SELECT c, COUNT(*) FROM "+schema+".t WHERE id>=200 GROUP BY 1"))
		})
	}
}

// Targets that would lose something in silence are refused before the first row.
func TestPostgresRefusesTables(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	long := strings.Repeat("n", 64)
	for name, c := range map[string]struct {
		sql, typ, table string
		want            string
	}{
		"unlogged":        {"CREATE UNLOGGED TABLE t (id int PRIMARY KEY, c int)", "int", "t", "UNLOGGED"},
		"view":            {"CREATE VIEW t AS SELECT 1 AS id, 2 AS c", "int", "t", "is no table"},
		"missing":         {"SELECT 1", "int", "t", "has no table"},
		"lacks a column":  {"CREATE TABLE t (id int PRIMARY KEY)", "int", "t", "has no column c"},
		"required column": {"CREATE TABLE t (id int PRIMARY KEY, c int, d int NOT NULL)", "int", "t", "NOT NULL without a default"},
		"bytes as text":   {"CREATE TABLE t (id int PRIMARY KEY, c text)", "varbinary(9)", "t", "ALTER the target's column to bytea"},
		"text as number":  {"CREATE TABLE t (id int PRIMARY KEY, c int)", "varchar(9)", "t", "no value of the one is a value of the other"},
		"bit of another":  {"CREATE TABLE t (id int PRIMARY KEY, c bit(3))", "bit(4)", "t", "bit(4)"},
		"long name":       {"SELECT 1", "int", long, "PostgreSQL cuts names after 63"},
		"its own":         {"SELECT 1", "int", "dfs_checkpoint", "the pipeline's own"},
	} {
		t.Run(name, func(t *testing.T) {
			schema := srv.Schema(t)
			srv.Exec(t, "SET search_path="+schema+"; "+c.sql)
			k := openPostgres(t, srv, schema, nil)
			defer k.Close()
			table := oneColumn(c.table, c.typ)
			require.ErrorContains(t, k.CheckTables(t.Context(), []*dfs.Table{table}), c.want)
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.ErrorContains(t, k.Apply(t.Context(), []*dfs.Transaction{put(1, table, dfs.NullValue())}), c.want)
			at, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Zero(t, at.Seq)
		})
	}
}

// Rows whose foreign keys the source has not checked are not checked by the target
// either, and act on nothing there; without the right to that, the sink says so.
func TestPostgresLeavesForeignKeysAlone(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	parent, child := oneColumn("p", "int"), oneColumn("k", "int")
	const tables = "CREATE TABLE p (id int PRIMARY KEY, c int); CREATE TABLE k (id int PRIMARY KEY, c int REFERENCES p (id) ON DELETE CASCADE); " +
		"INSERT INTO p VALUES (1,0),(2,0); INSERT INTO k VALUES (1,1),(2,2)"
	gone := func(t *dfs.Table, id, c int64, off bool) dfs.Change {
		return dfs.Change{Op: dfs.Delete, Table: t, Before: dfs.Row{dfs.IntValue(id), dfs.IntValue(c)}, NoForeignKeys: off}
	}
	// The source logs the cascade of the first, and lets the target do that of the second.
	tx := &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: 1, Pos: "x"}, Changes: []dfs.Change{
		gone(parent, 1, 0, true), gone(child, 1, 1, true), gone(parent, 2, 0, false),
		{Op: dfs.Insert, Table: child, After: dfs.Row{dfs.IntValue(9), dfs.IntValue(77)}, NoForeignKeys: true}}}
	schema := srv.Schema(t)
	srv.Exec(t, "SET search_path="+schema+"; "+tables)
	k := openPostgres(t, srv, schema, nil)
	defer k.Close()
	require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{tx}))
	require.Equal(t, [][]string{{"9", "77"}}, srv.Query(t, "SELECT * FROM "+schema+".k"))
	require.Empty(t, srv.Query(t, "SELECT * FROM "+schema+".p"))

	schema = srv.Schema(t)
	role := "r_" + schema[:4]
	srv.Exec(t, "CREATE ROLE "+role+" LOGIN", "SET search_path="+schema+"; "+tables+"; GRANT ALL ON SCHEMA "+schema+" TO "+role+"; GRANT ALL ON ALL TABLES IN SCHEMA "+schema+" TO "+role)
	t.Cleanup(func() { srv.Exec(t, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	limited, err := sink.OpenPostgres(t.Context(), strings.Replace(srv.DSN(), "postgres@", role+"@", 1),
		&sink.PostgresOptions{Name: schema, Schema: schema, Routes: []sink.Route{{From: "source.*", To: schema + ".*"}}})
	require.NoError(t, err)
	defer limited.Close()
	require.ErrorContains(t, limited.Apply(t.Context(), []*dfs.Transaction{tx}), "GRANT SET ON PARAMETER session_replication_role")
	srv.Exec(t, "GRANT SET ON PARAMETER session_replication_role TO "+role)
	require.NoError(t, limited.Close())
	again, err := sink.OpenPostgres(t.Context(), strings.Replace(srv.DSN(), "postgres@", role+"@", 1),
		&sink.PostgresOptions{Name: schema, Schema: schema, Routes: []sink.Route{{From: "source.*", To: schema + ".*"}}})
	require.NoError(t, err)
	defer again.Close()
	require.NoError(t, again.Apply(t.Context(), []*dfs.Transaction{tx}))
	require.Equal(t, [][]string{{"9", "77"}}, srv.Query(t, "SELECT * FROM "+schema+".k"))
}

// A table that people alter while the sink runs, partitions, constraints that wait for
// the end, and documents without a key.
func TestPostgresBearsWhatPeopleDoToTables(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	srv.Exec(t, "SET search_path="+schema+`; CREATE TABLE t (id int PRIMARY KEY, c int, old int); ALTER TABLE t DROP COLUMN old;
		CREATE TABLE d (id int, c json); CREATE TABLE u (id int PRIMARY KEY, c int UNIQUE DEFERRABLE INITIALLY DEFERRED);
		CREATE TABLE r (id int, c int) PARTITION BY LIST (id); CREATE TABLE r1 PARTITION OF r FOR VALUES IN (1,2); CREATE TABLE r2 PARTITION OF r DEFAULT`)
	k := openPostgres(t, srv, schema, nil)
	defer k.Close()
	seq := uint64(0)
	apply := func(changes ...dfs.Change) error {
		seq++
		err := k.Apply(t.Context(), []*dfs.Transaction{{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "x"}, Changes: changes}})
		if err != nil {
			seq--
			_, e := k.Checkpoint(t.Context())
			require.NoError(t, e)
		}
		return err
	}
	row := func(id, c int64) dfs.Row { return dfs.Row{dfs.IntValue(id), dfs.IntValue(c)} }
	table := oneColumn("t", "int")
	require.NoError(t, apply(dfs.Change{Op: dfs.Insert, Table: table, After: row(1, 1)}))
	srv.Exec(t, "ALTER TABLE "+schema+".t ALTER c TYPE bigint, ADD more text DEFAULT 'x'")
	require.NoError(t, apply(dfs.Change{Op: dfs.Update, Table: table, Before: row(1, 1), After: row(1, 2)}))
	srv.Exec(t, "ALTER TABLE "+schema+".t RENAME c TO e")
	require.ErrorContains(t, apply(dfs.Change{Op: dfs.Update, Table: table, Before: row(1, 2), After: row(1, 3)}), "has no column c")
	srv.Exec(t, "ALTER TABLE "+schema+".t RENAME e TO c")
	require.NoError(t, apply(dfs.Change{Op: dfs.Update, Table: table, Before: row(1, 2), After: row(1, 3)}))
	require.Equal(t, [][]string{{"1", "3", "x"}}, srv.Query(t, "SELECT id, c, more FROM "+schema+".t"))

	// Rows that are equal in all, of which one goes.
	docs, parts := oneColumn("d", "json"), oneColumn("r", "int")
	docs.Key, parts.Key = nil, nil
	doc := func(s string) dfs.Row { return dfs.Row{dfs.IntValue(1), dfs.JSONValue(s)} }
	require.NoError(t, apply(dfs.Change{Op: dfs.Insert, Table: docs, After: doc(`{"a": 1}`)}, dfs.Change{Op: dfs.Insert, Table: docs, After: doc(`{"a": 1}`)},
		dfs.Change{Op: dfs.Insert, Table: docs, After: doc(`{"a": 1.0}`)}, dfs.Change{Op: dfs.Delete, Table: docs, Before: doc(`{"a": 1}`)}))
	require.Equal(t, [][]string{{`{"a": 1.0}`}, {`{"a": 1}`}}, srv.Query(t, "SELECT c FROM "+schema+".d ORDER BY c::text"))
	for i := range int64(6) {
		require.NoError(t, apply(dfs.Change{Op: dfs.Insert, Table: parts, After: row(1+i/2, 7)}))
	}
	require.NoError(t, apply(dfs.Change{Op: dfs.Delete, Table: parts, Before: row(1, 7)}, dfs.Change{Op: dfs.Update, Table: parts, Before: row(3, 7), After: row(2, 8)}))
	require.Equal(t, [][]string{{"1", "7"}, {"2", "7"}, {"2", "7"}, {"2", "8"}, {"3", "7"}}, srv.Query(t, "SELECT * FROM "+schema+".r ORDER BY 1, 2"))

	// It fails at its row, and not at the end of the transaction.
	unique := oneColumn("u", "int")
	require.NoError(t, apply(dfs.Change{Op: dfs.Insert, Table: unique, After: row(1, 1)}))
	var conflict *sink.ConflictError
	require.ErrorAs(t, apply(dfs.Change{Op: dfs.Insert, Table: unique, After: row(2, 1)}), &conflict)
	require.Equal(t, "id=2", conflict.Key)
}

// Statements that alter tables stop, or pass where that was said.
func TestOtherTargetsStopAtStatements(t *testing.T) {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+schema+".t (id int PRIMARY KEY, c int)")
	table := oneColumn("t", "int")
	alter := func(seq uint64) *dfs.Transaction {
		return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: "x"}, ID: fmt.Sprint("gtid ", seq), Changes: []dfs.Change{
			{Op: dfs.DDL, Table: &dfs.Table{Schema: "source"}, Query: "ALTER TABLE t ADD x int", Session: &dfs.Session{Schema: "source"}}}}
	}
	k := openPostgres(t, srv, schema, nil)
	err := k.Apply(t.Context(), []*dfs.Transaction{put(1, table, dfs.IntValue(1)), alter(2), put(3, table, dfs.IntValue(3))})
	var stopped *sink.DDLError
	require.ErrorAs(t, err, &stopped)
	require.ErrorContains(t, err, `"ALTER TABLE t ADD x int"`)
	require.ErrorContains(t, err, `name it as done, "gtid 2" in DDLDone`)
	at, err := k.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), at.Seq)
	require.NoError(t, k.Close())
	k = openPostgres(t, srv, schema, &sink.PostgresOptions{DDLDone: []string{"gtid 2"}})
	defer k.Close()
	require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{alter(2), put(3, table, dfs.IntValue(3))}))
	require.Equal(t, [][]string{{"100"}, {"300"}}, srv.Query(t, "SELECT id FROM "+schema+".t ORDER BY 1"))
}
