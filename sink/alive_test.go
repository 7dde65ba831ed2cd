package sink

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/faults"
	"github.com/dataflowsync/dfs/internal/testenv"
)

// behind returns a sink behind a proxy.
func behind(t *testing.T, srv *testenv.Server, name string) (*MySQL, *faults.Proxy) {
	p, err := faults.Listen(srv.Addr(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	m, err := OpenMySQL(t.Context(), "root@tcp("+p.Addr()+")/", &MySQLOptions{Name: name})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m, p
}

// looks has the sink look after the statements of the session that it has now, after d.
// Others are given all the time that a busy machine may take.
func looks(t *testing.T, m *MySQL, d time.Duration) {
	t.Helper()
	require.NotNil(t, m.sess)
	m.sess.guard.after, m.sess.guard.login = d, 2*time.Second
}

func TestALostAnswerIsNoticed(t *testing.T) {
	for _, kind := range testenv.Kinds() {
		t.Run(string(kind), func(t *testing.T) {
			srv := testenv.Shared(t, kind)
			s := srv.Schema(t)
			srv.Exec(t, "CREATE TABLE "+s+".users (id INT PRIMARY KEY, name VARCHAR(40), n INT)")
			u := users(s)
			m, p := behind(t, srv, s)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			at, err := m.Checkpoint(ctx)
			require.NoError(t, err)
			apply := func() error {
				return m.Apply(ctx, []*dfs.Transaction{txn(at.Seq+1, ins(u, user(int(at.Seq+1), "", 1)))})
			}
			require.NoError(t, apply())

			// The answer to a COMMIT, which the server has done.
			at.Seq++
			p.LoseCommits(1, faults.ReplyHeld)
			looks(t, m, 500*time.Millisecond)
			err = apply()
			require.ErrorIs(t, err, dfs.ErrTransient)
			require.ErrorContains(t, err, "the session waits for a statement")
			require.NotErrorIs(t, err, context.Canceled)
			at, err = m.Checkpoint(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 2, at.Seq, "the COMMIT took effect")

			// A statement that does not arrive.
			p.Blackhole()
			looks(t, m, 100*time.Millisecond)
			require.ErrorIs(t, apply(), dfs.ErrTransient)
			at, err = m.Checkpoint(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 2, at.Seq)
			require.NoError(t, apply())
			require.Len(t, rows(t, srv, "SELECT * FROM "+s+".users"), 3)

			// A session that somebody has ended, without a word.
			at.Seq++
			p.Blackhole()
			srv.Exec(t, "KILL "+rows(t, srv, "SELECT IS_USED_LOCK('dfs."+m.owner+"')")[0])
			looks(t, m, 100*time.Millisecond)
			require.ErrorIs(t, apply(), dfs.ErrTransient)
			at, err = m.Checkpoint(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 3, at.Seq)
		})
	}
}

func TestAStatementThatTakesLongIsWaitedFor(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, "CREATE TABLE "+s+".users (id INT PRIMARY KEY, name VARCHAR(40), n INT)")
	u := users(s)
	m, _ := behind(t, srv, s)
	_, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	looks(t, m, 200*time.Millisecond)
	lock, err := srv.DB(t).Conn(t.Context())
	require.NoError(t, err)
	defer lock.Close()
	_, err = lock.ExecContext(t.Context(), "LOCK TABLES "+s+".users READ")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- m.Apply(t.Context(), []*dfs.Transaction{txn(1, ins(u, user(1, "", 1)))}) }()
	select {
	case err := <-done:
		t.Fatal(err)
	case <-time.After(time.Second):
	}
	_, err = lock.ExecContext(t.Context(), "UNLOCK TABLES")
	require.NoError(t, err)
	require.NoError(t, <-done)
}

func TestATargetThatIsHaltedIsGivenUp(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE DATABASE shop", "CREATE TABLE shop.users (id INT PRIMARY KEY, name VARCHAR(40), n INT)")
	m, _ := behind(t, srv, "halted")
	_, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	looks(t, m, 100*time.Millisecond)
	require.NoError(t, srv.Pause())
	defer srv.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	err = m.Apply(ctx, []*dfs.Transaction{txn(1, ins(users("shop"), user(1, "", 1)))})
	require.ErrorIs(t, err, dfs.ErrTransient)
	require.ErrorContains(t, err, "does not answer another connection either")
	require.NoError(t, srv.Resume())
	_, err = m.Checkpoint(t.Context())
	require.NoError(t, err)
}

// Once it has run, a sink waits for people who change its account.
func TestAnAccountThatIsChangedIsTriedAgain(t *testing.T) {
	srv := testenv.Start(t, testenv.MySQL97)
	srv.Exec(t, "CREATE USER writer IDENTIFIED BY 'one'", "GRANT ALL ON *.* TO writer")
	_, err := OpenMySQL(t.Context(), "writer:two@tcp("+srv.Addr()+")/", nil)
	require.ErrorContains(t, err, "Access denied")
	require.NotErrorIs(t, err, dfs.ErrTransient)
	m, err := OpenMySQL(t.Context(), "writer:one@tcp("+srv.Addr()+")/", nil)
	require.NoError(t, err)
	defer m.Close()
	m.drop()
	for _, stmts := range [][2]string{
		{"ALTER USER writer IDENTIFIED BY 'two'", "ALTER USER writer IDENTIFIED BY 'one'"},
		{"ALTER USER writer ACCOUNT LOCK", "ALTER USER writer ACCOUNT UNLOCK"},
	} {
		srv.Exec(t, stmts[0])
		_, err = m.Checkpoint(t.Context())
		require.ErrorIs(t, err, dfs.ErrTransient)
		srv.Exec(t, stmts[1])
		_, err = m.Checkpoint(t.Context())
		require.NoError(t, err)
		m.drop()
	}
}
