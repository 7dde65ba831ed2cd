package sink

import (
	"strings"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// Statements are judged by what is followed where they stand, also within one batch
// and after a restart.
func TestStatementsAreJudgedByWhatIsFollowedThere(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	for _, name := range []string{"a", "b", "c"} {
		srv.Exec(t, "CREATE TABLE "+s+"."+name+" (id int PRIMARY KEY)", "INSERT INTO "+s+"."+name+" VALUES (1)")
	}
	o := &MySQLOptions{Name: s, DDL: PolicyApply, Routes: shop(s), Tables: []string{"shop.a", "shop.c"},
		Followed: func(state string) ([]string, error) {
			if state == "" {
				return []string{"shop.a", "shop.c"}, nil
			}
			return strings.Fields(state), nil
		}}
	state := func(seq uint64, state string) *dfs.Transaction {
		tx := txn(seq)
		tx.State = state
		return tx
	}
	left := func() string {
		return strings.Join(rows(t, srv, "SELECT CONCAT((SELECT COUNT(*) FROM "+s+".a), (SELECT COUNT(*) FROM "+s+".b), (SELECT COUNT(*) FROM "+s+".c))"), "")
	}
	m := openSink(t, srv, o)
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{
		ddlTxn(1, "TRUNCATE TABLE shop.b"), state(2, "shop.a shop.b"), ddlTxn(3, "TRUNCATE TABLE shop.c"), ddlTxn(4, "TRUNCATE TABLE shop.a")}))
	require.Equal(t, "011", left(), "b was not followed yet, and c is no more")
	require.NoError(t, m.Close())

	m = openSink(t, srv, o)
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(4), at.Seq)
	stored, err := m.Stored(t.Context())
	require.NoError(t, err)
	require.Equal(t, at, stored)
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{ddlTxn(5, "TRUNCATE TABLE shop.c"), ddlTxn(6, "TRUNCATE TABLE shop.b")}))
	require.Equal(t, "001", left())
}
