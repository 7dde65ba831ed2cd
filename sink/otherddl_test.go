package sink_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/dataflowsync/dfs/sink"
)

// A altered is a target of the test, with a table a (id, v) of two rows.
type altered struct {
	name  string
	open  func(ddl sink.Policy, done ...string) dfs.Sink
	query func(q string) [][]string
	exec  func(q ...string)
}

func alteredTargets(t *testing.T) []altered {
	srv := testenv.SharedPostgres(t)
	schema := srv.Schema(t)
	path := filepath.Join(t.TempDir(), "target.db")
	db := openFile(t, path)
	return []altered{{
		name: "postgres",
		open: func(ddl sink.Policy, done ...string) dfs.Sink {
			return openPostgres(t, srv, schema, &sink.PostgresOptions{DDL: ddl, DDLDone: done})
		},
		query: func(q string) [][]string { return srv.Query(t, "SET search_path="+schema+"; "+q) },
		exec: func(list ...string) {
			for _, q := range list {
				srv.Exec(t, "SET search_path="+schema+"; "+q)
			}
		},
	}, {
		name: "sqlite",
		open: func(ddl sink.Policy, done ...string) dfs.Sink {
			return openSQLite(t, path, &sink.SQLiteOptions{DDL: ddl, DDLDone: done})
		},
		query: func(q string) [][]string { return fileRows(t, db, q) },
		exec: func(list ...string) {
			for _, q := range list {
				_, err := db.Exec(q)
				require.NoError(t, err, q)
			}
		},
	}}
}

func statementAt(seq uint64, query, mode string) *dfs.Transaction {
	return &dfs.Transaction{Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprint("at ", seq))}, ID: fmt.Sprint("id ", seq),
		Changes: []dfs.Change{{Op: dfs.DDL, Table: &dfs.Table{Schema: "source", Name: "a"}, Query: query,
			Session: &dfs.Session{Schema: "source", Vars: []dfs.Var{{Name: "sql_mode", Value: "'" + mode + "'"}}}}}}
}

// What is not understood, or would give rows that are there other values than the
// source's have got, stops the pipeline, changes nothing, and passes once it is named as
// done; what failed under the policy try is passed over.
func TestStatementsThatOtherDatabasesRefuse(t *testing.T) {
	for _, target := range alteredTargets(t) {
		t.Run(target.name, func(t *testing.T) {
			target.exec("CREATE TABLE a (id bigint PRIMARY KEY, v varchar(20), w text)", "INSERT INTO a VALUES (1,'a','x '),(2,'b','y')",
				"CREATE TABLE b (id bigint PRIMARY KEY, u bigint UNIQUE)")
			k := target.open(sink.PolicyApply)
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			state := func() [][]string { return target.query("SELECT * FROM a ORDER BY id") }
			before := state()
			const strict = "STRICT_TRANS_TABLES"
			for _, c := range [][3]string{
				{"ALTER TABLE a ADD n int AUTO_INCREMENT UNIQUE", strict, "numbers"},
				{"ALTER TABLE a ADD u varchar(40) DEFAULT (UUID())", strict, "UUID"},
				{"ALTER TABLE a ADD ts datetime DEFAULT CURRENT_TIMESTAMP", strict, "CURRENT_TIMESTAMP"},
				{"ALTER TABLE a ADD d date NOT NULL", strict, "no default"},
				{"ALTER TABLE a ADD g int AS (id+1)", strict, "generated"},
				{"ALTER TABLE a ADD y year NOT NULL DEFAULT '24'", strict, "default of its column y"},
				{"ALTER TABLE a ADD x int, MODIFY v varchar(10)", "", "not strict"},
				{"ALTER TABLE a CONVERT TO CHARACTER SET latin1", "", "not strict"},
				{"ALTER TABLE a MODIFY v int", strict, "column v"},
				{"ALTER TABLE a MODIFY w char(10)", strict, "column w"},
				{"ALTER TABLE a MODIFY w enum('y','z')", strict, "column w"},
				{"ALTER TABLE a MODIFY w set('x ','y')", strict, "column w"},
				{"ALTER TABLE a DROP PARTITION p0", strict, "partitions"},
				{"ALTER TABLE a TRUNCATE PARTITION p0", strict, "partitions"},
				{"ALTER TABLE a EXCHANGE PARTITION p0 WITH TABLE b", strict, "partitions"},
				{"ALTER IGNORE TABLE a ADD UNIQUE (v)", strict, "IGNORE"},
				{"ALTER TABLE a ADD FOREIGN KEY (id) REFERENCES b (id) ON DELETE CASCADE", strict, "ON DELETE CASCADE"},
				{"ALTER TABLE a RENAME COLUMN v TO w, RENAME COLUMN w TO v", strict, "gets the name of another"},
				{"ALTER TABLE a ADD SYSTEM VERSIONING", strict, "not understood"},
				{"ALTER TABLE a FROBNICATE v", strict, "not understood"},
				{"ALTER TABLE b DROP INDEX u", strict, "the target has no index"},
				{"ALTER TABLE a DROP COLUMN nothing", strict, "nothing"},
				{"ALTER TABLE a ADD v int", strict, "v"},
				{"CREATE TABLE a (id int)", strict, "already"},
				{"CREATE TABLE c SELECT * FROM a", strict, "query"},
				// Row images that leave such a column out would make it NULL.
				{"CREATE TABLE c (id bigint PRIMARY KEY, f bit(1) DEFAULT b'1')", strict, "default of the column f"},
				{"CREATE TABLE c (id bigint PRIMARY KEY, h int DEFAULT 0x10)", strict, "default of the column h"},
				{"CREATE TABLE c (id bigint PRIMARY KEY, y year DEFAULT '24')", strict, "default of the column y"},
				{"ALTER TABLE a ALTER v SET DEFAULT x'41'", strict, "default x'41'"},
				{"DROP TABLE nothing", strict, "nothing"},
				{"RENAME TABLE nothing TO something", strict, "nothing"},
				{"CREATE TABLE dfs_checkpoint (id int)", strict, "own"},
				{"TRUNCATE dfs_checkpoint", strict, "own"},
				{"ALTER TABLE a ADD UNIQUE (w), ADD UNIQUE (w, x)", strict, "x"},
			} {
				err := k.Apply(t.Context(), []*dfs.Transaction{statementAt(1, c[0], c[1])})
				var stop *sink.DDLError
				require.ErrorAs(t, err, &stop, c[0])
				require.ErrorContains(t, err, c[2], c[0])
				require.NotErrorIs(t, err, dfs.ErrTransient, c[0])
				require.ErrorContains(t, err, "id 1", c[0])
				require.Equal(t, before, state(), c[0])
				at, err := k.Checkpoint(t.Context())
				require.NoError(t, err)
				require.Zero(t, at.Seq, c[0])
			}
			require.NoError(t, k.(interface{ Close() error }).Close())

			// Without rows there is nothing that could become something else.
			k = target.open(sink.PolicyApply, "id 1")
			list := []*dfs.Transaction{statementAt(1, "ALTER TABLE a FROBNICATE v", strict), statementAt(2, "TRUNCATE TABLE a", ""),
				statementAt(3, "ALTER TABLE a ADD n int NOT NULL AUTO_INCREMENT UNIQUE, ADD ts datetime DEFAULT CURRENT_TIMESTAMP, MODIFY v int, ADD d date NOT NULL", ""),
				statementAt(4, "ALTER TABLE a DROP COLUMN IF EXISTS nothing, ADD COLUMN IF NOT EXISTS v int", ""),
				statementAt(5, "DROP TABLE IF EXISTS nothing", ""), statementAt(6, "CREATE TABLE IF NOT EXISTS a (id int)", ""),
				statementAt(7, "CREATE VIEW v AS SELECT 1", "")}
			require.NoError(t, k.Apply(t.Context(), list))
			require.Empty(t, state())
			target.exec("INSERT INTO a (id, n, v, d) VALUES (3, 1, 5, '2020-01-01')")
			require.NoError(t, k.(interface{ Close() error }).Close())

			// What is refused under the policy try is counted and passed over, whole.
			k = target.open(sink.PolicyTry)
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{statementAt(8, "ALTER TABLE a ADD y int, ADD z int AUTO_INCREMENT UNIQUE", strict),
				statementAt(9, "ALTER TABLE a ADD zz int DEFAULT 4", strict)}))
			at, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, 9, at.Seq)
			require.Equal(t, [][]string{{"4"}}, target.query("SELECT zz FROM a"))
			n := map[string]sink.Outcome{}
			for _, c := range k.(interface{ Stats() sink.Stats }).Stats().DDL {
				n[string(c.Outcome)] = c.Outcome
			}
			require.Contains(t, n, string(sink.Failed))
			require.Contains(t, n, string(sink.Applied))

			// Another owner: what the statement did is undone with the checkpoint's move.
			other := target.open(sink.PolicyApply)
			_, err = other.Checkpoint(t.Context())
			require.NoError(t, err)
			require.ErrorIs(t, k.Apply(t.Context(), []*dfs.Transaction{statementAt(10, "ALTER TABLE a ADD lost int", strict)}), dfs.ErrConflict)
			require.NoError(t, other.Apply(t.Context(), []*dfs.Transaction{statementAt(10, "ALTER TABLE a ADD lost int", strict)}))
			require.NoError(t, other.(interface{ Close() error }).Close())
			require.NoError(t, k.(interface{ Close() error }).Close())
		})
	}
}

// The unique index of a long name is dropped on the target too, or the drop stops: it is not
// left to refuse rows that the source has.
func TestIndexesOfLongNamesAreNotLeftBehind(t *testing.T) {
	const name = "an_index_whose_name_is_almost_as_long_as_names_may_be_there"
	for _, target := range alteredTargets(t) {
		t.Run(target.name, func(t *testing.T) {
			k := target.open(sink.PolicyApply)
			defer k.(interface{ Close() error }).Close()
			_, err := k.Checkpoint(t.Context())
			require.NoError(t, err)
			require.NoError(t, k.Apply(t.Context(), []*dfs.Transaction{
				statementAt(1, "CREATE TABLE a_table (id bigint PRIMARY KEY, v varchar(20), UNIQUE KEY "+name+" (v))", ""),
				statementAt(2, "ALTER TABLE a_table DROP INDEX "+name+", ADD UNIQUE KEY "+name+" (v)", ""),
				statementAt(3, "RENAME TABLE a_table TO another", "")}))
			err = k.Apply(t.Context(), []*dfs.Transaction{statementAt(4, "ALTER TABLE another DROP INDEX "+name, "")})
			if target.name == "postgres" {
				require.ErrorContains(t, err, "which may do so")
				return
			}
			require.NoError(t, err)
			target.exec("INSERT INTO another VALUES (1,'same'),(2,'same')")
		})
	}
}
