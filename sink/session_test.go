package sink

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// A server that releases a connection at each COMMIT, or cuts results short,
// for all who do not say otherwise.
func TestSessionDoesNotTakeOverWhatTheServerSetsForAll(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97, "--completion-type=RELEASE")
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	m := openSink(t, srv, &MySQLOptions{Name: s})
	u := users(s)
	for seq := range uint64(3) {
		require.NoError(t, m.Apply(t.Context(), []*dfs.Transaction{txn(seq+1, ins(u, user(int(seq), "", 1)))}))
	}
	srv.Exec(t, "SET GLOBAL sql_select_limit=1")
	m = openSink(t, srv, &MySQLOptions{Name: s})
	require.NoError(t, m.CheckTables(t.Context(), []*dfs.Table{u}), "only the first column was seen")
}

// mute accepts connections and never says a word.
func mute(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestLoginHasADeadline(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	m, err := OpenMySQL(t.Context(), srv.DSN("")+"?timeout=77s", nil)
	require.NoError(t, err)
	defer m.Close()
	m.drop()
	require.Equal(t, 77*time.Second, m.connector.login)
	busy, err := OpenMySQL(t.Context(), srv.DSN("")+"?readTimeout=3s", &MySQLOptions{Name: "busy"})
	require.NoError(t, err)
	defer busy.Close()
	_, err = busy.Checkpoint(t.Context())
	require.NoError(t, err)
	require.NoError(t, srv.Pause())
	defer srv.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m.connector.login = 300 * time.Millisecond
	_, err = m.Checkpoint(ctx)
	require.NoError(t, ctx.Err(), "the login went on until its caller gave up")
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "no answer within 300ms")

	// Statements have the deadline that the DSN gives them.
	require.ErrorIs(t, busy.Apply(ctx, []*dfs.Transaction{txn(1)}), dfs.ErrTransient)
	require.NoError(t, ctx.Err())

	// If the caller gives up first, that is no fault of the target.
	m.connector.login = time.Minute
	ended, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = m.Checkpoint(ended)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, dfs.ErrTransient)

	require.NoError(t, srv.Resume())
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)

	_, err = OpenMySQL(t.Context(), "root@tcp("+mute(t)+")/?timeout=50ms", nil)
	require.ErrorIs(t, err, dfs.ErrTransient)
}

// A host that drops packets answers neither yes nor no.
func TestConnectThatTimesOutMayPass(t *testing.T) {
	mysql.RegisterDialContext("dropped", func(ctx context.Context, addr string) (net.Conn, error) {
		// A deadline that is over gives the very error of one that passes.
		d := net.Dialer{Deadline: time.Now().Add(-time.Second)}
		return d.DialContext(ctx, "tcp", addr)
	})
	_, err := OpenMySQL(t.Context(), "root@dropped(192.0.2.1:3306)/", nil)
	var op *net.OpError
	require.ErrorAs(t, err, &op)
	require.True(t, op.Timeout())
	require.ErrorIs(t, err, dfs.ErrTransient)

	mysql.RegisterDialContext("silent", func(ctx context.Context, addr string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	_, err = OpenMySQL(t.Context(), "root@silent(192.0.2.1:3306)/?timeout=20ms", nil)
	require.ErrorIs(t, err, dfs.ErrTransient)
}

func TestErrorsOfAnUnusableConnectionMayPass(t *testing.T) {
	for _, err := range []error{
		mysql.ErrMalformPkt, mysql.ErrPktSync, mysql.ErrPktSyncMul,
		&mysql.MySQLError{Number: 1129, Message: "Host 'h' is blocked"},
		&mysql.MySQLError{Number: 1412, Message: "Table definition has changed, please retry transaction"},
	} {
		require.ErrorIs(t, classify(err), dfs.ErrTransient, "%v", err)
	}
	require.NotErrorIs(t, classify(context.DeadlineExceeded), dfs.ErrTransient)
	require.NotErrorIs(t, classify(mysql.ErrPktTooLarge), dfs.ErrTransient)
}

func TestCureOfTheCheckpointTableIsOnlyForWhatItMends(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	m, err := OpenMySQL(t.Context(), srv.DSN(""), &MySQLOptions{Name: srv.Schema(t)})
	require.NoError(t, err)
	defer m.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err = m.setUp(ended, m.sess)
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "GRANT")
	m.sess.close()
	err = m.setUp(t.Context(), m.sess)
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.NotContains(t, err.Error(), "GRANT")
}

// A connection that lives on after an error takes the checkpoint anew.
func TestCheckpointKeepsOneLock(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			m := openSink(t, srv, &MySQLOptions{Name: srv.Schema(t)})
			var owners []string
			for range 3 {
				_, err := m.Checkpoint(t.Context())
				require.NoError(t, err)
				owners = append(owners, m.owner)
			}
			for i, owner := range owners {
				held := rows(t, srv, "SELECT IS_USED_LOCK('dfs."+owner+"')")
				if i < len(owners)-1 {
					require.Equal(t, []string{"NULL"}, held)
				} else {
					require.Equal(t, []string{fmt.Sprint(m.sess.id)}, held)
				}
			}
		})
	}
}
