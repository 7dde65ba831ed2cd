package sink

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestConnectionsNoticeADeadHost(t *testing.T) {
	conn, err := dialTCP(t.Context(), "tcp", mute(t))
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
