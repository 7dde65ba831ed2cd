package sink

import (
	"fmt"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/stretchr/testify/require"
)

// cutOff leaves one piece of a run on the target, as a process that dies does.
func cutOff(t *testing.T, dsn, s, schema string) {
	m, err := OpenMySQL(t.Context(), dsn, &MySQLOptions{Name: s, Schema: schema})
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.Apply(t.Context(), copied(1, users(s), 0, 2000, 1000)))
	require.NoError(t, m.prepareLoad(t.Context()))
	pieces, err := m.share(t.Context(), copied(3, users(s), 2000, 4000, 1000))
	require.NoError(t, err)
	require.NoError(t, m.loader.helpers[0].piece(t.Context(), m, 0, pieces[0]))
}

func TestAStartThatMayNotReadMarkersDoesNotGoOn(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "CREATE USER sink_blind IDENTIFIED BY 's3cret'", "GRANT CREATE ON "+s+".* TO sink_blind",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON "+s+".users TO sink_blind")
	t.Cleanup(func() { srv.Exec(t, "DROP USER sink_blind") })
	cutOff(t, srv.DSN(""), s, s)
	srv.Exec(t, "GRANT SELECT, INSERT, UPDATE ON "+s+".dfs_checkpoint TO sink_blind")

	// Another account, or one that has lost a right, knows nothing of the rows that do
	// not count. That the start before it could not read them either changes nothing.
	for range 2 {
		m, err := OpenMySQL(t.Context(), "sink_blind:s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
		require.NoError(t, err)
		_, err = m.Checkpoint(t.Context())
		require.ErrorContains(t, err, "GRANT SELECT, INSERT, DELETE ON `"+s+"`.`dfs_load` TO the account")
		require.NotErrorIs(t, err, dfs.ErrTransient)
		require.NoError(t, m.Close())
	}
	srv.Exec(t, "GRANT SELECT, INSERT, DELETE ON "+s+".dfs_load TO sink_blind")
	m, err := OpenMySQL(t.Context(), "sink_blind:s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	defer m.Close()
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, at.Seq)
	require.Equal(t, fmt.Sprintf("2000|%d", 2000*1999/2), held(t, srv, s))
	require.EqualValues(t, 500, m.Stats().Unloaded)

	// From the end of the copy on nobody need read them.
	end := txn(3)
	end.Snapshot, end.Copied = true, true
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{end}))
	require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(4)}))
	srv.Exec(t, "REVOKE SELECT, INSERT, DELETE ON "+s+".dfs_load FROM sink_blind")
	require.NoError(t, m.Close())
	m, err = OpenMySQL(t.Context(), "sink_blind:s3cret@tcp("+srv.Addr()+")/", &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	defer m.Close()
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
}

func TestATableOfMarkersThatIsGone(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))

	// While none are needed it is made anew.
	m, err := OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	require.NoError(t, m.Apply(t.Context(), copied(1, users(s), 0, 2000, 1000)))
	srv.Exec(t, "DROP TABLE "+s+".dfs_load")
	require.NoError(t, m.Apply(t.Context(), copied(3, users(s), 2000, 4000, 1000)))
	require.NoError(t, m.Apply(t.Context(), copied(5, users(s), 4000, 6000, 1000)))
	require.EqualValues(t, 4000, m.Stats().Loaded)
	require.Equal(t, fmt.Sprintf("6000|%d", 6000*5999/2), held(t, srv, s))
	require.NoError(t, m.Close())

	// With it the names of rows that do not count are gone.
	srv.Exec(t, "DELETE FROM "+s+".dfs_checkpoint", "TRUNCATE TABLE "+s+".users")
	cutOff(t, srv.DSN(""), s, s)
	srv.Exec(t, "DROP TABLE "+s+".dfs_load")
	m, err = OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: s, Schema: s})
	require.NoError(t, err)
	defer m.Close()
	_, err = m.Checkpoint(t.Context())
	require.ErrorContains(t, err, "empty the tables that were being copied and begin the copy anew")
	require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS `"+s+"`.`dfs_load`")
	fresh, err := m.Fresh(t.Context())
	require.NoError(t, err)
	require.False(t, fresh)
	srv.Exec(t, m.createLoadSQL())
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
}

func TestACopyIntoTablesWithRowsIsAskedAbout(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s), "INSERT INTO "+s+".users VALUES (1, 'a', 1)")
	tables := []*dfs.Table{{Schema: s, Name: "users"}}
	require.ErrorContains(t, openSink(t, srv, &MySQLOptions{Name: s}).CheckCopy(t.Context(), tables), s+".users has rows")
	require.NoError(t, openSink(t, srv, &MySQLOptions{Name: s, Append: true}).CheckCopy(t.Context(), tables))
	require.NoError(t, openSink(t, srv, &MySQLOptions{Name: s, Replace: true}).CheckCopy(t.Context(), tables))
}
