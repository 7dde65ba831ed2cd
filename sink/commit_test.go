package sink

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/dataflowsync/dfs"
	"github.com/dataflowsync/dfs/internal/testenv"
	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// cutConn ends when a COMMIT has passed: before the server gets it, or before
// the client gets the reply.
type cutConn struct {
	net.Conn
	before, after *atomic.Bool
	cut           bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "COMMIT") {
		if c.before.CompareAndSwap(true, false) {
			c.Close()
			return 0, io.ErrClosedPipe
		}
		c.cut = c.after.CompareAndSwap(true, false)
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.cut {
		for more := true; more; { // until the server has committed
			var err error
			if more, err = readOK(c.Conn); err != nil {
				return 0, err
			}
		}
		c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return c.Conn.Read(b)
}

// readOK reads an OK packet, and reports whether more results follow.
func readOK(r io.Reader) (more bool, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return false, err
	}
	b := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(r, b); err != nil {
		return false, err
	}
	if b[0] != 0 || b[1] > 250 || b[2] > 250 {
		return false, fmt.Errorf("%x is not OK, or of larger numbers", b)
	}
	return b[3]&8 != 0, nil // SERVER_MORE_RESULTS_EXISTS
}

func TestCommitWithoutAReplyIsSettledByTheCheckpoint(t *testing.T) {
	srv := testenv.Shared(t, testenv.MySQL97)
	s := srv.Schema(t)
	srv.Exec(t, fmt.Sprintf(usersSQL, s))
	var before, after atomic.Bool
	mysql.RegisterDialContext("cut", func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		return &cutConn{Conn: conn, before: &before, after: &after}, err
	})
	m, err := OpenMySQL(t.Context(), "root@cut("+srv.Addr()+")/", &MySQLOptions{Name: s})
	require.NoError(t, err)
	defer m.Close()
	u := users(s)
	at, err := m.Checkpoint(t.Context())
	require.NoError(t, err)
	for i := range 20 {
		lost := [2]*atomic.Bool{&before, &after}[i%2]
		lost.Store(true)
		seq := at.Seq + 1
		err := m.Apply(t.Context(), []*dfs.Transaction{txn(seq, ins(u, user(int(seq), "", 1)))})
		require.ErrorIs(t, err, dfs.ErrTransient)
		require.False(t, lost.Load(), "the connection was not cut")
		at, err = m.Checkpoint(t.Context())
		require.NoError(t, err)
		if i%2 == 0 {
			require.Equal(t, seq-1, at.Seq, "the COMMIT never arrived")
		} else {
			require.Equal(t, seq, at.Seq, "the COMMIT took effect")
		}
		require.Len(t, rows(t, srv, "SELECT * FROM "+s+".users"), int(at.Seq))
	}
	require.EqualValues(t, 10, at.Seq)
}
