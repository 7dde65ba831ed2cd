package cdc

import (
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/dataflowsync/dfs/internal/tcp"
)

// A server that looks for the place to send from is waited for; one that has sent
// something is not.
func TestWhatAServerSaysOfASilentSession(t *testing.T) {
	var r remote
	for _, c := range []struct {
		v     tcp.Verdict
		state string
		err   error
		doubt bool
	}{
		{tcp.Busy, "Binlog Dump for 12 s: starting", nil, false},
		{tcp.Busy, "Binlog Dump GTID for 12 s", nil, false},
		{tcp.Busy, "Binlog Dump GTID for 12 s: Source has sent all binlog to replica; waiting for more updates", nil, true},
		{tcp.Busy, "Binlog Dump for 12 s: Master has sent all binlog to slave; waiting for more updates", nil, true},
		{tcp.Busy, "Binlog Dump for 12 s: Sending binlog event to slave", nil, true},
		{tcp.Idle, "the session waits for a statement", nil, true},
		{tcp.Gone, "the server has ended the session", nil, true},
		{tcp.Unknown, "the address leads to another server now", nil, false},
		{tcp.Unknown, "", &mysql.MySQLError{Number: 1040, Message: "Too many connections"}, false},
		{tcp.Unknown, "", errors.New("i/o timeout"), true},
	} {
		require.Equal(t, c.doubt, r.doubt(c.v, c.state, c.err), "%v %s %v", c.v, c.state, c.err)
	}
}
