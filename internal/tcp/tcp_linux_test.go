package tcp

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestConnectionsNoticeADeadHost(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	conn, err := Dial(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	require.NoError(t, tcp.SetKeepAlive(true), "the driver does so, which must not undo it")
	raw, err := tcp.SyscallConn()
	require.NoError(t, err)
	option := func(name int) (n int) {
		require.NoError(t, raw.Control(func(fd uintptr) { n, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }))
		require.NoError(t, err)
		return n
	}
	idle := option(unix.TCP_KEEPIDLE) + option(unix.TCP_KEEPINTVL)*option(unix.TCP_KEEPCNT)
	require.Equal(t, 30, idle, "seconds until an idle connection is lost")
	require.Equal(t, 30_000, option(unix.TCP_USER_TIMEOUT), "milliseconds until a busy one is")
}
