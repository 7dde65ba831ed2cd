package sink

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// stated returns the statement that an error tells, as dead letters ask for it.
func stated(t *testing.T, err error) string {
	t.Helper()
	var s interface{ Statement() string }
	require.ErrorAs(t, err, &s)
	return s.Statement()
}

// The error says which statement was refused. What is wrong with a table as a whole
// is told from what is wrong with a row.
func TestARefusedStatementIsTold(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	u := users("x")
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (2,'bob',2)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"x.*", s + ".*"}}})
	refuse := func(c dfs.Change) error {
		_, err := m.Checkpoint(t.Context())
		require.NoError(t, err)
		err = m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(u, user(1, "ann", 1)), c)})
		require.Error(t, err)
		require.NotErrorIs(t, err, dfs.ErrTransient)
		return err
	}
	err := refuse(ins(u, user(2, "it's\\", 9)))
	require.NotErrorIs(t, err, dfs.ErrStanding)
	require.Regexp(t, "^INSERT INTO `"+s+"`.`users` \\(`id`,`name`,`n`\\) VALUES \\(2,.*'it\\\\'s\\\\\\\\',9\\)$", stated(t, err))
	require.Equal(t, "DELETE FROM `"+s+"`.`users` WHERE `id`=7", stated(t, refuse(del(u, user(7, "x", 1)))))
	require.Contains(t, stated(t, refuse(upd(u, user(7, "x", 1), user(7, "x", 2)))), "SET `n`=2 WHERE `id`=7")
	err = refuse(ins(u, user(3, strings.Repeat("ü", 5000), 9)))
	require.Contains(t, stated(t, err), strings.Repeat("ü", 100)+"...' /* 10000 bytes */,9)")
	part := ins(u, user(3, strings.Repeat("n", 500), 9))
	part.Part = true
	require.Contains(t, stated(t, refuse(part)), ";\nUPDATE ")

	// Faults of the table, at the first change and while it is in use.
	wide := *u
	wide.Columns = append(append([]dfs.Column{}, u.Columns...), dfs.Column{Name: "extra", Type: "int"})
	c := ins(&wide, append(user(5, "eve", 5), dfs.IntValue(1)))
	require.ErrorIs(t, refuse(c), dfs.ErrStanding)
	require.ErrorContains(t, refuse(c), "has no column extra")
	for _, alter := range []string{"ADD must int NOT NULL", "RENAME COLUMN name TO title"} {
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1)}))
		srv.Exec(t, "ALTER TABLE "+s+".users "+alter)
		err := m.Apply(t.Context(), []*dfs.Transaction{txn(2, ins(u, user(6, "f", 6)))})
		require.ErrorIs(t, err, dfs.ErrStanding, alter)
		srv.Exec(t, "DROP TABLE "+s+".users", fmt.Sprintf(usersSQL, s), "UPDATE dfs.dfs_checkpoint SET seq=0 WHERE name='"+s+"'")
		m = openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"x.*", s + ".*"}}})
		_, err = m.Checkpoint(t.Context())
		require.NoError(t, err)
	}
	srv.Exec(t, "DROP TABLE "+s+".users")
	err = m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(u, user(1, "ann", 1)))})
	require.ErrorIs(t, err, dfs.ErrStanding)
	require.ErrorContains(t, err, "the target has no table")
}

func TestASQLiteStatementThatIsRefusedIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "target.db")
	s, err := OpenSQLite(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	users := &dfs.Table{Schema: "x", Name: "users", Key: []int{0}, Columns: []dfs.Column{{Name: "id", Type: "int"}, {Name: "note", Type: "text", Charset: "utf8mb4"}}}
	apply := func(id int64, note string) error {
		_, err := s.Checkpoint(t.Context())
		require.NoError(t, err)
		return s.Apply(t.Context(), []*dfs.Transaction{txn(1, dfs.Change{Op: dfs.Insert, Table: users, After: dfs.Row{dfs.IntValue(id), dfs.StringValue(note)}})})
	}
	err = apply(1, "a")
	require.ErrorIs(t, err, dfs.ErrStanding, "the file has no such table")
	exec := func(sql string) {
		_, err := s.db.(*liteBackend).conn.ExecContext(t.Context(), sql)
		require.NoError(t, err)
	}
	exec("CREATE TABLE users (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO users VALUES (1, '')")
	err = apply(1, strings.Repeat("a\nb", 400))
	require.NotErrorIs(t, err, dfs.ErrStanding)
	require.Equal(t, `INSERT INTO "users" ("id","note") VALUES (?1,?2)`+"\n-- ?1 = 1\n-- ?2 = "+strings.Repeat(`a\nb`, 66)+`a\n... (1200 bytes)`, stated(t, err))
	exec("CREATE TRIGGER t BEFORE INSERT ON users BEGIN INSERT INTO gone VALUES (1); END")
	require.ErrorIs(t, apply(2, "x"), dfs.ErrStanding, "its trigger misses a table")
}
