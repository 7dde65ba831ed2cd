package sink

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

func TestTablesThatHaveRowsAreNamedBeforeACopy(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "CREATE TABLE "+s+".full (id int)", "INSERT INTO "+s+".full VALUES (1)", "INSERT INTO "+s+".users VALUES (1, 'a', 1)",
		"CREATE TABLE "+s+".empty (id int)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Routes: []Route{{"shop.*", s + ".*"}}})
	fresh, err := m.Fresh(t.Context())
	require.NoError(t, err)
	require.True(t, fresh)
	tab := func(name string) *dfs.Table { return &dfs.Table{Schema: "shop", Name: name} }
	err = m.CheckEmpty(t.Context(), []*dfs.Table{tab("full"), tab("empty"), tab("gone"), tab("users")})
	require.ErrorContains(t, err, "table "+s+".full has rows, and those of shop.full are to be copied into it: TRUNCATE TABLE `"+s+"`.`full`")
	require.ErrorContains(t, err, s+".users has rows")
	require.ErrorContains(t, err, "set existing to append")
	require.NotContains(t, err.Error(), "empty has")
	require.NoError(t, m.CheckEmpty(t.Context(), []*dfs.Table{tab("empty"), tab("gone")}))
	missing, err := m.Missing(t.Context(), []*dfs.Table{tab("full"), tab("gone")})
	require.NoError(t, err)
	require.Equal(t, []*dfs.Table{tab("gone")}, missing)

	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1)}))
	fresh, err = m.Fresh(t.Context())
	require.NoError(t, err)
	require.False(t, fresh)
}

func TestRowsOfACopyReplaceThoseThatAreThere(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (7, 'old', 1), (5000, 'own', 2), (8, 'user 9', 3), (9, 'user 8', 3)")
	m := openSink(t, srv, &MySQLOptions{Name: s, Replace: true})
	require.NoError(t, m.Apply(t.Context(), copied(1, users(s), 0, 3000, 1000)))
	require.Equal(t, []string{"7|user 7|7", "8|user 8|8", "9|user 9|9", "5000|own|2"}, rows(t, srv, "SELECT * FROM "+s+".users WHERE id IN (7, 8, 9, 5000) ORDER BY id"))
	require.Equal(t, fmt.Sprintf("3001|%d", 3000*2999/2+5000), held(t, srv, s))

	// What is no row of the copy is a conflict as ever.
	var conflict *ConflictError
	require.ErrorAs(t, m.Apply(t.Context(), []*dfs.Transaction{txn(4, ins(users(s), user(7, "x", 1)))}), &conflict)
}
