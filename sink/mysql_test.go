package sink

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("DFS_ARCHIVE_CHILD"); dir != "" {
		fmt.Println(archiveChild(dir))
		return
	}
	if target := os.Getenv("DFS_OTHER_CHILD"); target != "" {
		fmt.Println(OtherChild(target))
		return
	}
	testenv.Main(m)
}

// OtherChild is set by the tests of package sink_test.
var OtherChild func(target string) error

// archiveKills is how often TestArchiveSurvivesKill kills a writer.
var archiveKills = flag.Int("archivekills", 8, "how often an archive's writer is killed")

// users is a table of the source that most tests write.
func users(schema string) *dfs.Table {
	return &dfs.Table{Schema: schema, Name: "users", Key: []int{0}, Columns: []dfs.Column{
		{Name: "id", Type: "int"},
		{Name: "name", Type: "varchar(40)", Charset: "utf8mb4", Collation: "utf8mb4_0900_ai_ci", Nullable: true},
		{Name: "n", Type: "int", Nullable: true},
	}}
}

const usersSQL = "CREATE TABLE %s.users (id int PRIMARY KEY, name varchar(40), n int, UNIQUE (name)) " +
	"CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci"

func user(id int, name string, n int) dfs.Row {
	v := dfs.StringValue(name)
	if name == "" {
		v = dfs.NullValue()
	}
	return dfs.Row{dfs.IntValue(int64(id)), v, dfs.IntValue(int64(n))}
}

func ins(t *dfs.Table, after dfs.Row) dfs.Change {
	return dfs.Change{Op: dfs.Insert, Table: t, After: after}
}
func del(t *dfs.Table, before dfs.Row) dfs.Change {
	return dfs.Change{Op: dfs.Delete, Table: t, Before: before}
}
func upd(t *dfs.Table, before, after dfs.Row) dfs.Change {
	return dfs.Change{Op: dfs.Update, Table: t, Before: before, After: after}
}

func txn(seq uint64, changes ...dfs.Change) *dfs.Transaction {
	return &dfs.Transaction{
		Checkpoint: dfs.Checkpoint{Seq: seq, Pos: dfs.Position(fmt.Sprintf("pos %d", seq))},
		ID:         fmt.Sprintf("gtid:%d", seq), Changes: changes,
	}
}

func openSink(t testing.TB, srv *testenv.Server, opts *MySQLOptions) *MySQL {
	t.Helper()
	m, err := OpenMySQL(t.Context(), srv.DSN(""), opts)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// rows returns the result of a query as text, a line each.
func rows(t testing.TB, srv *testenv.Server, query string) []string {
	t.Helper()
	db, err := sql.Open("mysql", srv.DSN(""))
	require.NoError(t, err)
	defer db.Close()
	rs, err := db.Query(query)
	require.NoError(t, err)
	defer rs.Close()
	cols, err := rs.Columns()
	require.NoError(t, err)
	var out []string
	for rs.Next() {
		vals := make([]*string, len(cols))
		dest := make([]any, len(cols))
		for i := range vals {
			dest[i] = &vals[i]
		}
		require.NoError(t, rs.Scan(dest...))
		line := ""
		for i, v := range vals {
			if i > 0 {
				line += "|"
			}
			if v == nil {
				line += "NULL"
			} else {
				line += *v
			}
		}
		out = append(out, line)
	}
	require.NoError(t, rs.Err())
	return out
}

func TestApplyWritesRowsAndCheckpointTogether(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	m := openSink(t, srv, &MySQLOptions{Name: s})
	u := users(s)
	ctx := context.Background()

	at, err := m.Checkpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{}, at)
	require.NoError(t, m.Apply(ctx, []*dfs.Transaction{
		txn(1, ins(u, user(1, "ann", 10)), ins(u, user(2, "bob", 20))),
		txn(2, upd(u, user(1, "ann", 10), user(1, "ann", 11))),
		txn(3),
		txn(4, ins(u, user(3, "cy", 30)), del(u, user(2, "bob", 20))),
	}))
	require.NoError(t, m.Apply(ctx, []*dfs.Transaction{
		txn(5, upd(u, user(1, "ann", 11), user(1, "anna", 12)), upd(u, user(3, "cy", 30), user(3, "cyd", 31))),
	}))
	require.Equal(t, []string{"1|anna|12", "3|cyd|31"}, rows(t, srv, "SELECT * FROM "+s+".users ORDER BY id"))
	at, err = m.Checkpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{Seq: 5, Pos: "pos 5"}, at)
	st := m.Stats()
	require.Zero(t, st.Fallbacks)
	require.EqualValues(t, 2, st.Commits)
	require.EqualValues(t, 5, st.Transactions)
	require.EqualValues(t, 3, st.Inserts)
}

// legacy replaces what only MySQL 8 and later know in a statement.
func legacy(kind testenv.Kind, sql string) string {
	if kind == testenv.MySQL97 {
		return sql
	}
	return strings.ReplaceAll(sql, "utf8mb4_0900_ai_ci", "utf8mb4_general_ci")
}
