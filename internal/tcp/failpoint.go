//go:build failpoint

package tcp

import (
	"bytes"
	"net"

	"github.com/dataflowsync/dfs/internal/failpoint"
)

// watched returns conn, and dies after a COMMIT was written to it, while the answer
// is still on its way.
func watched(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return conn, err
	}
	return &watchedConn{conn}, nil
}

type watchedConn struct{ net.Conn }

// commit is COM_QUERY with COMMIT, behind the four bytes of a packet's head.
var commit = []byte("\x07\x00\x00\x00\x03COMMIT")

func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if bytes.HasPrefix(b, commit) {
		failpoint.Hit("sink.commit.sent")
	}
	return n, err
}
