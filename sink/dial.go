package sink

import (
	"context"
	"net"
	"time"
)

// deadAfter is how long the host of the target may be silent before its
// connection counts as lost. A host that is up acknowledges what comes, however
// long the server takes for a statement, so no statement is too long.
const deadAfter = 30 * time.Second

// dialTCP connects so that the loss of the target's host is noticed. The
// driver's own connections would notice after minutes: the system's probes start
// late, and do not run while something sent awaits its acknowledgement.
func dialTCP(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: deadAfter / 2, Interval: deadAfter / 6, Count: 3},
		Control:         setUserTimeout,
	}
	return d.DialContext(ctx, network, addr)
}
