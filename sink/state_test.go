package sink

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
)

func withState(tx *dfs.Transaction, state string) *dfs.Transaction {
	tx.State = state
	return tx
}

// Programs before the State made the table without its column.
func TestAnOldCheckpointTableGetsItsStateColumn(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			m := openSink(t, srv, &MySQLOptions{Schema: s})
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(1)}))
			srv.Exec(t, "ALTER TABLE "+s+".dfs_checkpoint DROP COLUMN state")

			m = openSink(t, srv, &MySQLOptions{Schema: s})
			at, err := m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, dfs.Checkpoint{Seq: 1, Pos: txn(1).Pos}, at)
			require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{withState(txn(2), "s"), txn(3)}))
			at, err = m.Checkpoint(t.Context())
			require.NoError(t, err)
			require.Equal(t, dfs.Checkpoint{Seq: 3, Pos: txn(3).Pos, State: "s"}, at)
		})
	}
}

func TestAnAccountThatMayNotAlterIsToldWhatToRun(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	openSink(t, srv, &MySQLOptions{Schema: s})
	srv.Exec(t, "ALTER TABLE "+s+".dfs_checkpoint DROP COLUMN state",
		"CREATE USER sink_old IDENTIFIED BY 's3cret'", "GRANT SELECT, INSERT, UPDATE ON "+s+".dfs_checkpoint TO sink_old")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_old") })
	dsn := "sink_old:s3cret@tcp(" + srv.Addr() + ")/"
	_, err := OpenMySQL(t.Context(), dsn, &MySQLOptions{Schema: s})
	require.NotErrorIs(t, err, dfs.ErrTransient)
	_, cure, found := strings.Cut(err.Error(), "as an administrator of the target run: ")
	require.True(t, found, err)
	srv.Exec(t, cure)
	m, err := OpenMySQL(t.Context(), dsn, &MySQLOptions{Schema: s})
	require.NoError(t, err)
	require.NoError(t, m.Close())
}

func TestStateIsHeldToTheServersPacket(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--max-allowed-packet=4M")
	m := openSink(t, srv, &MySQLOptions{})
	large := strings.Repeat("\xff", 4<<20-5000)
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{withState(txn(1), large)}))
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, large, at.State)

	quoted := strings.Repeat("'", 2<<20) // each needs two bytes
	err = m.Apply(t.Context(), []*dfs.Transaction{txn(2), withState(txn(3), quoted), txn(4)})
	require.ErrorContains(t, err, "the source's state needs a statement of")
	require.ErrorContains(t, err, "SET GLOBAL max_allowed_packet=8388608")
	at, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, dfs.Checkpoint{Seq: 2, Pos: txn(2).Pos, State: large}, at, "what came before is applied")
}
